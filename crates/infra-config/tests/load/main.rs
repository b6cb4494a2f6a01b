//! Loading from outside: the traps of the field, each with its number.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod docker;
mod file_variables;
mod names;
mod report;
mod sources;
mod values;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infra_config::{
    Choice, ConfigErrors, Loaded, Loader, Place, ProblemKind, Reloadable, Setting, Source, Value,
};
use tempfile::TempDir;

const APP: &[Setting] = &[
    Setting::text("APP_CODE").default("0007"),
    Setting::text("APP_KEY").secret(),
    Setting::boolean("APP_DRY_RUN").default("false"),
    Setting::duration(
        "APP_WAIT",
        Duration::from_millis(1),
        Duration::from_secs(3600),
    ),
    Setting::size("APP_BUFFER", 1, 1 << 40),
    Setting::number("APP_RATE", 0.0, 1.0),
    Setting::new("APP_PIN", PIN).secret(),
    Setting::choice("APP_MODE", MODES).reloadable(),
];

const PIN: infra_config::Kind = infra_config::Kind::Integer {
    min: 1000,
    max: 9999,
};

const MODES: &[Choice] = &[Choice::always("paper"), Choice::always("live")];

fn app() -> Loader {
    Loader::new().settings(APP)
}

fn env(variables: &[(&str, &str)]) -> Loader {
    app().environment(variables.iter().copied())
}

/// A directory with files of these names and contents.
fn files(contents: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, content) in contents {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn kinds(errors: &ConfigErrors) -> Vec<(Option<&str>, ProblemKind)> {
    let problems = errors.problems().iter();
    problems.map(|p| (p.variable.as_deref(), p.kind)).collect()
}

fn warned(loaded: &Loaded) -> Vec<&str> {
    loaded
        .warnings
        .iter()
        .filter_map(|w| w.variable.as_deref())
        .collect()
}
