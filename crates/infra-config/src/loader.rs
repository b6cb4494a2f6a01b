//! From sources to settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::builtin::{BACKEND_FEATURES, SETTINGS};
use crate::check;
use crate::config::InfraConfig;
use crate::layer::{Raw, Stack};
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

impl Findings {
    /// Whether all files could be read, and nothing is known to be missing from the values.
    pub(crate) fn all_read(&self) -> bool {
        let unread = |p: &Problem| matches!(p.kind, ProblemKind::Syntax | ProblemKind::File);
        !self.problems.iter().any(unread)
    }
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
        check::orders(&self.settings, &values, &mut findings);
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
