//! Builds a core with all its mutants, and finds out which of them cannot be compiled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::weave::{Places, Woven};
use super::{FEATURES, PACKAGE, place, tree};
use crate::shell;

/// A test program, and the mutants that are in it.
pub(super) struct Built {
    pub(super) program: PathBuf,
    pub(super) viable: Vec<usize>,
}

/// Builds the tests with the core at `path`, and its mutants: again and again without those that
/// the compiler refused, until it refuses none.
pub(super) fn build(tree: &Path, path: &Path, places: &Places<'_>) -> Result<Built, String> {
    let mut left: BTreeSet<usize> = places.left().iter().copied().collect();
    loop {
        let woven = places.weave(|number| !left.contains(&number));
        tree::write(path, &woven.text)?;
        match compile(tree)? {
            Compiled::Program(program) => {
                let viable = woven.mutants.iter().map(|(number, _)| *number);
                let viable: BTreeSet<usize> = viable.collect();
                let viable = viable.into_iter().collect();
                return Ok(Built { program, viable });
            }
            Compiled::Refused(errors) => {
                let known = left.len();
                left.extend(errors.iter().filter_map(|error| error.mutant(path, &woven)));
                if left.len() == known {
                    let first = errors.first().map(|error| error.text.as_str());
                    return Err(format!("no mutant explains: {}", first.unwrap_or("?")));
                }
            }
        }
    }
}

/// Builds the tests with one mutant of the core at `path`; `None` where it cannot be compiled.
pub(super) fn build_alone(
    tree: &Path,
    path: &Path,
    places: &Places<'_>,
    number: usize,
) -> Result<Option<PathBuf>, String> {
    let text = places.alone(number).ok_or("no such mutant")?;
    tree::write(path, &text)?;
    Ok(match compile(tree)? {
        Compiled::Program(program) => Some(program),
        Compiled::Refused(_) => None,
    })
}

enum Compiled {
    Program(PathBuf),
    Refused(Vec<Refusal>),
}

/// An error of the compiler.
struct Refusal {
    text: String,
    /// File and place in bytes, the most telling first.
    spans: Vec<(String, usize)>,
}

impl Refusal {
    fn of(message: &Value) -> Option<Self> {
        if message.get("level")?.as_str()? != "error" {
            return None;
        }
        let mut spans: Vec<&Value> = message.get("spans")?.as_array()?.iter().collect();
        spans.sort_by_key(|span| span.get("is_primary").and_then(Value::as_bool) != Some(true));
        let place = |span: &Value| {
            let start = usize::try_from(span.get("byte_start")?.as_u64()?).ok()?;
            Some((span.get("file_name")?.as_str()?.to_owned(), start))
        };
        Some(Refusal {
            text: message.get("rendered")?.as_str()?.to_owned(),
            spans: spans.into_iter().filter_map(place).collect(),
        })
    }

    fn mutant(&self, path: &Path, woven: &Woven) -> Option<usize> {
        let here = self.spans.iter().filter(|(file, _)| path.ends_with(file));
        here.filter_map(|(_, start)| woven.mutant_at(*start)).next()
    }
}

/// One run of the compiler, with a build folder of its own, and without the names and lines that
/// are of no use here.
fn compile(tree: &Path) -> Result<Compiled, String> {
    let mut command = shell::cargo();
    command.args(["test", "--quiet", "--no-run", "--package", PACKAGE, "--lib"]);
    command.args(["--features", FEATURES, "--message-format", "json"]);
    command
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", place().join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("RUSTFLAGS", "--cap-lints=allow");
    read(&mut command)
}

fn read(command: &mut Command) -> Result<Compiled, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut program, mut refusals) = (None, Vec::new());
    for line in lines {
        let path = line.get("executable").and_then(Value::as_str);
        program = path.map(PathBuf::from).or(program);
        refusals.extend(line.get("message").and_then(Refusal::of));
    }
    match program {
        Some(program) if output.status.success() => Ok(Compiled::Program(program)),
        _ if !refusals.is_empty() => Ok(Compiled::Refused(refusals)),
        _ => Err(format!(
            "cargo: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
