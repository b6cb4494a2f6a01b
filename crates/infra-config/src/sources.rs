//! The layers of raw text: one for each source, unknown names found on the way.

use std::collections::BTreeMap;
use std::path::Path;

use crate::builtin::INFRA_ENV;
use crate::check;
use crate::dotenv::{Entry, Lookup};
use crate::files;
use crate::layer::{Layer, Stack};
use crate::loader::{Findings, Loader};
use crate::names::Names;
use crate::problem::{Place, Problem, ProblemKind};
use crate::source::Source;

impl Loader {
    /// All layers on top of each other.
    pub(crate) fn layers(&self, names: &Names<'_>, findings: &mut Findings) -> Stack {
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
