//! From sources to settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::builtin::{BACKEND_FEATURES, INFRA_ENV, SETTINGS};
use crate::check;
use crate::config::InfraConfig;
use crate::dotenv::{Entry, Lookup};
use crate::files;
use crate::layer::{Layer, Raw, Stack};
use crate::loaded::{Loaded, Resolved, Values};
use crate::names::Names;
use crate::problem::{ConfigErrors, Place, Problem, ProblemKind};
use crate::setting::{Secrecy, Setting};
use crate::source::Source;
use crate::value::Value;

/// Gathers the sources, then loads.
///
/// Precedence: [`set`](Loader::set) over [`environment`](Loader::environment) over
/// `.env.<INFRA_ENV>` over `.env` over the settings' defaults. A value that is empty or blank
/// counts as not set, in every layer.
#[derive(Clone)]
#[must_use = "nothing is loaded until `load`"]
pub struct Loader {
    pub(crate) settings: Vec<Setting>,
    pub(crate) environment: BTreeMap<OsString, OsString>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) code: Vec<(String, String)>,
    pub(crate) defaults: Vec<(String, String)>,
    pub(crate) checks: Vec<(String, Check)>,
    pub(crate) foreign: Vec<String>,
    pub(crate) features: Vec<&'static str>,
    pub(crate) strict: bool,
}

/// A further check of a setting's text: see [`Loader::check`].
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// What loading has found so far.
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

impl Loader {
    /// A loader of the settings of `infra`, without any source.
    pub fn new() -> Self {
        Loader {
            settings: SETTINGS.to_vec(),
            environment: BTreeMap::new(),
            directory: None,
            code: Vec::new(),
            defaults: Vec::new(),
            checks: Vec::new(),
            foreign: Vec::new(),
            features: BACKEND_FEATURES.to_vec(),
            strict: false,
        }
    }

    /// Adds settings of the application. Their prefixes (up to the first underscore) count as
    /// owned: unknown names that start with them are reported.
    pub fn settings(mut self, settings: &[Setting]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    /// The process environment, or a map in its place. Replaces what was given before.
    ///
    /// Only binaries read the process environment: `loader.environment(std::env::vars_os())`.
    pub fn environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let owned = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.environment = owned.collect();
        self
    }

    /// Where `.env` and `.env.<INFRA_ENV>` are looked for: only there, not in its parents. Without
    /// this call no `.env` file is read.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets a value in code, over every other source.
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.code.push((name.into(), value.to_string()));
        self
    }

    /// Sets a default of the program's own in place of the declared one, under every source.
    pub fn default_value(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.defaults.push((name.into(), value.to_string()));
        self
    }

    /// Adds a check of a setting's text by whoever will use it, so that what they would refuse
    /// later is part of the one report. Runs on values that somebody set and that are valid for
    /// their kind.
    ///
    /// The error says what is wrong with the value and must not contain a secret; for settings
    /// declared secret it is not shown.
    ///
    /// ```
    /// use infra_config::Loader;
    ///
    /// let even = |text: &str| match text.ends_with(['0', '2', '4', '6', '8']) {
    ///     true => Ok(()),
    ///     false => Err("must be even".to_owned()),
    /// };
    /// let loader = Loader::new().check("RETRY_MAX_ATTEMPTS", even);
    /// assert!(loader.clone().set("RETRY_MAX_ATTEMPTS", 4).load().is_ok());
    /// assert!(loader.set("RETRY_MAX_ATTEMPTS", 5).load().is_err());
    /// ```
    pub fn check(mut self, name: impl Into<String>, check: fn(&str) -> Result<(), String>) -> Self {
        self.checks.push((name.into(), check));
        self
    }

    /// Names that start with `prefix` belong to somebody else although they look like ours: they
    /// lead to no warning, and may stand in `.env` files.
    pub fn ignore_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.foreign.push(prefix.into());
        self
    }

    /// The cargo features with a backend that the program was built with; all that exist unless
    /// this is called.
    pub fn features(mut self, features: impl IntoIterator<Item = &'static str>) -> Self {
        self.features = features.into_iter().collect();
        self
    }

    /// Turns unknown variables of the environment from warnings into errors.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Loads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, in one report. The exit code of a program that stops because of it is 2
    /// by convention.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let mut findings = Findings {
            problems: check::declarations(self),
            warnings: Vec::new(),
        };
        let names = Names::new(&self.settings, &self.foreign);
        let stack = self.layers(&names, &mut findings);
        let values = self.resolve(&stack, &mut findings);
        check::selections(&self.settings, &values, &mut findings);
        findings.warnings.sort();
        if !findings.problems.is_empty() {
            return Err(ConfigErrors::new(findings.problems, findings.warnings));
        }
        Ok(Loaded {
            config: InfraConfig::from_values(&values),
            warnings: findings.warnings,
            values,
        })
    }

    fn layers(&self, names: &Names<'_>, findings: &mut Findings) -> Stack {
        let defaults = self.default_layer(names, findings);
        let variables = self.variables(names, findings);
        let environment = self.environment_layer(names, &variables, findings);
        let code = self.code_layer(names, findings);
        let mut layers = vec![defaults];
        if let Some(directory) = &self.directory {
            let above = [&code, &environment];
            layers.extend(self.file_layers(directory, names, &variables, above, findings));
        }
        layers.extend([environment, code]);
        Stack::new(layers)
    }

    fn default_layer(&self, names: &Names<'_>, findings: &mut Findings) -> Layer {
        let mut defaults = Layer::new("defaults");
        for setting in &self.settings {
            if let Some(text) = setting.default {
                defaults.put(setting.name, text.to_owned(), Source::Default);
            }
        }
        for (name, text) in &self.defaults {
            match names.get(name) {
                Some(setting) => defaults.put(setting.name, text.clone(), Source::Default),
                None => findings.problems.push(unknown(name, Source::Code, names)),
            }
        }
        defaults
    }

    /// The variables of the environment that are UTF-8; others matter only if declared.
    fn variables(&self, names: &Names<'_>, findings: &mut Findings) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, value) in &self.environment {
            let Some(name) = name.to_str() else { continue };
            match value.to_str() {
                Some(value) => drop(variables.insert(name.to_owned(), value.to_owned())),
                None if names.is_known(name) => findings.problems.push(
                    Problem::new(
                        ProblemKind::NotUtf8,
                        Place::Source(Source::Environment),
                        "the value is not UTF-8",
                    )
                    .of(name),
                ),
                None => {}
            }
        }
        variables
    }

    fn environment_layer(
        &self,
        names: &Names<'_>,
        variables: &BTreeMap<String, String>,
        findings: &mut Findings,
    ) -> Layer {
        for (name, value) in variables {
            if names.is_suspicious(name, value) {
                let problem = unknown(name, Source::Environment, names);
                let list = if self.strict {
                    &mut findings.problems
                } else {
                    &mut findings.warnings
                };
                list.push(problem);
            }
        }
        let given = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str(), Source::Environment));
        fill("environment", names, given, Path::new(""), findings)
    }

    fn code_layer(&self, names: &Names<'_>, findings: &mut Findings) -> Layer {
        let unknown_names = self.code.iter().filter(|(name, _)| !names.is_known(name));
        let problems = unknown_names.map(|(name, _)| unknown(name, Source::Code, names));
        findings.problems.extend(problems);
        let given = self
            .code
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str(), Source::Code));
        fill("code", names, given, Path::new(""), findings)
    }

    /// The layers of `.env` and `.env.<INFRA_ENV>`, in this order.
    fn file_layers(
        &self,
        directory: &Path,
        names: &Names<'_>,
        variables: &BTreeMap<String, String>,
        above: [&Layer; 2],
        findings: &mut Findings,
    ) -> Vec<Layer> {
        let over = |name: &str| {
            variables
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let nothing = |_: &str| None;
        let lookup = Lookup {
            over: &over,
            under: &nothing,
        };
        let path = directory.join(".env");
        let common = files::read_dotenv(&path, lookup, &mut findings.problems).unwrap_or_default();
        let layer = file_layer("file", names, &path, &common, findings);
        let profile = above.iter().find_map(|layer| layer.get(INFRA_ENV));
        let Some(profile) = profile.or_else(|| layer.get(INFRA_ENV)) else {
            return vec![layer];
        };
        if !check::is_environment_name(&profile.text) {
            return vec![layer]; // reported with the value of INFRA_ENV itself
        }
        let name = profile.text.trim();
        let path = directory.join(format!(".env.{name}"));
        let under = |name: &str| {
            common
                .iter()
                .find(|e| e.key == name)
                .map(|e| e.value.clone())
        };
        let lookup = Lookup {
            over: &over,
            under: &under,
        };
        let Some(own) = files::read_dotenv(&path, lookup, &mut findings.problems) else {
            let message = format!(
                "the file {} that it asks for does not exist",
                path.display()
            );
            let place = Place::Source(profile.source.clone());
            findings
                .problems
                .push(Problem::new(ProblemKind::File, place, message).of(INFRA_ENV));
            return vec![layer];
        };
        check::no_other_environment(&path, &own, name, findings);
        let profile_layer = file_layer("profile file", names, &path, &own, findings);
        vec![layer, profile_layer]
    }

    /// Parses each setting's text by its declared kind.
    fn resolve(&self, stack: &Stack, findings: &mut Findings) -> Values {
        let mut values = Values::default();
        for setting in &self.settings {
            let raw = stack.get(setting.name);
            let source = raw.map_or(Source::Default, |raw| raw.source.clone());
            let value = raw.and_then(|raw| self.value_of(setting, raw, findings));
            let resolved = Resolved {
                setting: *setting,
                value,
                source,
            };
            values.entries.insert(setting.name, resolved);
        }
        values
    }
}

impl Loader {
    fn value_of(&self, setting: &Setting, raw: &Raw, findings: &mut Findings) -> Option<Value> {
        let invalid = |message| {
            let place = Place::Source(raw.source.clone());
            Problem::new(ProblemKind::Invalid, place, message).of(setting.name)
        };
        let value = match setting.parse(&raw.text, &self.features) {
            Ok(value) => value,
            Err(mismatch) => {
                let expected = setting.kind.expected_with(&self.features);
                let message = format!("expected {expected}, found {}", mismatch.found);
                findings.problems.push(invalid(message).hint(mismatch.hint));
                return None;
            }
        };
        if raw.source == Source::Default {
            return Some(value);
        }
        for (_, check) in self.checks.iter().filter(|(name, _)| name == setting.name) {
            if let Err(reason) = check(&raw.text) {
                let shown = match setting.secrecy {
                    Secrecy::Secret => "is not accepted".to_owned(),
                    Secrecy::Plain | Secrecy::MaskedUrl => format!("is not accepted: {reason}"),
                };
                findings.problems.push(invalid(shown));
                return None;
            }
        }
        Some(value)
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

/// Without the values, which may be secrets.
impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("settings", &self.settings.len())
            .field("environment", &self.environment.len())
            .field("directory", &self.directory)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

fn file_layer(
    layer: &str,
    names: &Names<'_>,
    path: &Path,
    entries: &[Entry],
    findings: &mut Findings,
) -> Layer {
    for entry in entries {
        if !names.is_known(&entry.key) && !names.is_foreign(&entry.key) {
            let source = Source::file(path, entry.line);
            findings.problems.push(unknown(&entry.key, source, names));
        }
    }
    let given = entries
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_str(), Source::file(path, e.line)));
    fill(
        layer,
        names,
        given,
        path.parent().unwrap_or(Path::new("")),
        findings,
    )
}

/// A layer of the declared settings among `given`, `NAME_FILE` replaced by the file's content.
fn fill<'a>(
    layer: &str,
    names: &Names<'_>,
    given: impl Iterator<Item = (&'a str, &'a str, Source)>,
    base: &Path,
    findings: &mut Findings,
) -> Layer {
    let mut filled = Layer::new(layer);
    let mut indirect = Vec::new();
    for (name, text, source) in given {
        if names.get(name).is_some() {
            filled.put(name, text.to_owned(), source);
        } else if let Some(setting) = names.indirect(name)
            && !text.trim().is_empty()
        {
            indirect.push((setting, name, base.join(text), source));
        }
    }
    for (setting, name, path, source) in indirect {
        if filled.get(setting.name).is_some() {
            let message = format!("both `{}` and `{name}` are set: remove one", setting.name);
            let problem = Problem::new(ProblemKind::BothForms, Place::Source(source), message);
            findings.problems.push(problem.of(setting.name));
            continue;
        }
        match files::read_value(&path) {
            Ok(text) => {
                let named_by = Box::new(source);
                filled.put(setting.name, text, Source::Indirect { path, named_by });
            }
            Err(message) => {
                let problem = Problem::new(ProblemKind::File, Place::Source(source), message);
                findings.problems.push(problem.of(name));
            }
        }
    }
    filled
}

/// The problem of a name that no setting has. A name in a file that does not look like a variable
/// is not printed: it may be a piece of a secret that lost its quotes.
fn unknown(name: &str, source: Source, names: &Names<'_>) -> Problem {
    let usual = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let printable = match source {
        Source::File { .. } => name.len() <= 64 && name.bytes().all(usual),
        _ => true,
    };
    let place = Place::Source(source);
    let problem = Problem::new(ProblemKind::UnknownName, place, "no setting has this name");
    let problem = problem.hint(names.suggestion(name));
    if printable { problem.of(name) } else { problem }
}
