//! Checks beyond a single value.

use std::cmp::Ordering;
use std::path::Path;

use crate::builtin::INFRA_ENV;
use crate::dotenv::Entry;
use crate::effective::shown;
use crate::loaded::{Resolved, Values};
use crate::loader::{Findings, Loader};
use crate::problem::{Place, Problem, ProblemKind};
use crate::setting::{Kind, Required, Secrecy, Selection, Setting};
use crate::source::Source;
use crate::value::Value;

/// What is wrong with the declarations themselves: names, duplicates, defaults.
pub(crate) fn declarations(loader: &Loader) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |name: &str, message: &str| {
        let problem = Problem::new(ProblemKind::Declaration, Place::Nowhere, message);
        problems.push(problem.of(name));
    };
    let all_features: Vec<&str> = loader.settings.iter().flat_map(features).collect();
    for (place, setting) in loader.settings.iter().enumerate() {
        let name = setting.name;
        if !is_variable_name(name) {
            wrong(
                name,
                "a setting's name has upper-case letters, digits and underscores only",
            );
        }
        if loader
            .settings
            .iter()
            .take(place)
            .any(|other| other.name == name)
        {
            wrong(name, "two settings have this name");
        }
        let invalid = |text| setting.parse(text, &all_features).is_err();
        if setting.default.is_some_and(invalid) {
            wrong(
                name,
                "the default of this setting is not valid for its kind",
            );
        }
        if let Some((least, most)) = setting.unless_set
            && (setting.default.is_some() || invalid(least) || invalid(most))
        {
            wrong(
                name,
                "what counts unless it is set must be valid for its kind, and it must not have a \
                 default",
            );
        }
        let other = |limit| loader.settings.iter().find(|other| other.name == limit);
        if let Some(limit) = setting.at_most
            && !other(limit).is_some_and(|other| may_limit(other, setting))
        {
            wrong(
                name,
                "the setting that it must not exceed has to be there, of the same kind, no secret, \
                 and as reloadable",
            );
        }
    }
    problems
}

fn may_limit(limit: &Setting, setting: &Setting) -> bool {
    limit.kind.is_ordered_with(&setting.kind)
        && limit.reloadable == setting.reloadable
        && [limit, setting].map(|s| s.secrecy) == [Secrecy::Plain; 2]
}

fn features(setting: &Setting) -> Vec<&'static str> {
    match setting.kind {
        Kind::Choice(choices) => choices.iter().filter_map(|choice| choice.feature).collect(),
        _ => Vec::new(),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Whether `INFRA_ENV` may have this value: it becomes part of a file name.
pub(crate) fn is_environment_name(text: &str) -> bool {
    let text = text.trim();
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// `.env.<name>` must not say that it belongs to another environment.
pub(crate) fn no_other_environment(
    path: &Path,
    entries: &[Entry],
    name: &str,
    findings: &mut Findings,
) {
    for entry in entries {
        if entry.key == INFRA_ENV && entry.value.trim() != name {
            let place = Place::Source(Source::file(path, entry.line));
            let message = "this file was picked by another value of the same variable";
            let problem = Problem::new(ProblemKind::Invalid, place, message);
            findings.problems.push(problem.of(INFRA_ENV));
        }
    }
}

/// Required values that are missing, and values without effect.
///
/// Nothing counts as missing, or as without effect, while a file could not be read: it may stand in
/// there.
pub(crate) fn selections(settings: &[Setting], values: &Values, findings: &mut Findings) {
    let all_read = findings.all_read();
    for setting in settings {
        let Some(resolved) = values.entries.get(setting.name) else {
            continue;
        };
        let explicit = resolved.source != Source::Default;
        let reported = resolved.value.is_none() && explicit;
        if all_read
            && !reported
            && let Some(problem) = missing(setting, values, explicit)
        {
            findings.problems.push(problem);
        }
        if explicit
            && all_read
            && let Some(selection) = setting.used_with
            && let Some(value) = values.text(selection.setting)
            && !selection.values.contains(&value)
        {
            let message = format!("has no effect: {} is `{value}`", selection.setting);
            let place = Place::Source(resolved.source.clone());
            let problem = Problem::new(ProblemKind::NotUsed, place, message);
            findings.warnings.push(problem.of(setting.name));
        }
    }
}

/// Values that exceed the one of another setting. Told at the value that somebody wrote.
pub(crate) fn orders(settings: &[Setting], values: &Values, findings: &mut Findings) {
    for setting in settings {
        let limit = setting
            .at_most
            .and_then(|limit| values.entries.get(limit))
            .zip(values.entries.get(setting.name));
        let Some((high, low)) = limit else {
            continue;
        };
        // What counts instead of a default may stand in a file that could not be read.
        let is_default = |resolved: &Resolved| resolved.source == Source::Default;
        if !findings.all_read() && (is_default(high) || is_default(low)) {
            continue;
        }
        let [Some(most), Some(least)] = [Bound::of(high, End::Least), Bound::of(low, End::Most)]
        else {
            continue;
        };
        if (high.value.is_some() || low.value.is_some())
            && least.value.compare(&most.value) == Some(Ordering::Greater)
        {
            findings.problems.push(misfit(&most, &least));
        }
    }
}

/// One of two values in an order: the setting's own, or what its users take where it has none.
struct Bound<'a> {
    resolved: &'a Resolved,
    value: Value,
    end: End,
}

/// Which of the values that users of a setting may take.
#[derive(Clone, Copy)]
enum End {
    Least,
    Most,
}

impl<'a> Bound<'a> {
    /// `None` for a setting that bounds nothing, or whose text was not understood.
    fn of(resolved: &'a Resolved, end: End) -> Option<Self> {
        let value = match (&resolved.value, &resolved.source) {
            (Some(value), _) => value.clone(),
            (None, Source::Default) => {
                let (least, most) = resolved.setting.unless_set?;
                let text = match end {
                    End::Least => least,
                    End::Most => most,
                };
                resolved.setting.parse(text, &[]).ok()?
            }
            (None, _) => return None,
        };
        Some(Bound {
            resolved,
            value,
            end,
        })
    }

    fn is_written(&self) -> bool {
        self.resolved.source != Source::Default
    }

    fn shown(&self) -> String {
        shown(&self.value, self.resolved.setting.secrecy)
    }

    /// The value and where it comes from.
    fn origin(&self) -> String {
        let value = self.shown();
        match (&self.resolved.value, self.end) {
            (Some(_), _) => format!("{value}, {}", self.resolved.source),
            (None, End::Least) => format!("down to {value} unless set"),
            (None, End::Most) => format!("up to {value} unless set"),
        }
    }
}

fn misfit(high: &Bound<'_>, low: &Bound<'_>) -> Problem {
    let (at, relation, other) = if high.is_written() && !low.is_written() {
        (high, "less", low)
    } else {
        (low, "more", high)
    };
    let (name, resolved) = (other.resolved.setting.name, at.resolved);
    let (value, origin) = (at.shown(), other.origin());
    let message = format!("is {value}, {relation} than {name} ({origin})");
    let place = Place::Source(resolved.source.clone());
    let problem = Problem::new(ProblemKind::Invalid, place, message);
    let unset = other.resolved.value.is_none();
    let hint = unset.then(|| "set both".to_owned());
    problem.of(resolved.setting.name).hint(hint)
}

fn missing(setting: &Setting, values: &Values, explicit: bool) -> Option<Problem> {
    let has_value = values.get(setting.name).is_some();
    let reason = match setting.required {
        Required::Always if !has_value => "is required".to_owned(),
        Required::InEnvironment(name) if !explicit && values.text(INFRA_ENV) == Some(name) => {
            format!("must be set when {INFRA_ENV} is `{name}`")
        }
        Required::With(selection) if !has_value && is_selected(selection, values) => {
            let value = values.text(selection.setting).unwrap_or_default();
            format!("must be set when {} is `{value}`", selection.setting)
        }
        _ => return None,
    };
    let message = format!("{reason}: expected {}", setting.kind.expected());
    let hint = setting
        .default
        .map(|default| format!("write `{}={default}` if that is meant", setting.name));
    let problem = Problem::new(ProblemKind::Missing, Place::Nowhere, message);
    Some(problem.of(setting.name).hint(hint))
}

fn is_selected(selection: Selection, values: &Values) -> bool {
    let value = values.text(selection.setting);
    value.is_some_and(|value| selection.values.contains(&value))
}
