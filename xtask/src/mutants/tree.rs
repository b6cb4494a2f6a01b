//! A copy of the workspace that holds no more than the resilience crate needs, in which test suites
//! are modules of the library: one run of the compiler makes everything that a mutant needs.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::PACKAGE;
use super::program::CHOSEN;
use super::weave::QUESTION;
use crate::shell;

const CRATES: [&str; 2] = ["infra-core", PACKAGE];

/// Brings the copy in `place` up to date and returns its folder. Files that are the same already
/// are left alone, so that cargo does not build them again.
pub(super) fn copy(place: &Path) -> Result<PathBuf, String> {
    let (from, to) = (shell::root(), place.join("tree"));
    for name in CRATES {
        let path = Path::new("crates").join(name);
        copy_folder(&from.join(&path), &to.join(&path))?;
    }
    copy_file(&from.join("Cargo.lock"), &to.join("Cargo.lock"))?;
    let manifest = read(&from.join("Cargo.toml"))?;
    write(&to.join("Cargo.toml"), &reduced(&manifest))?;
    Ok(to)
}

/// Makes these suites, and no others, modules of the library in the copy.
pub(super) fn take_in(tree: &Path, suites: &[&str]) -> Result<(), String> {
    let lib = Path::new("crates").join(PACKAGE).join("src/lib.rs");
    let mut text = read(&shell::root().join(&lib))?;
    let tests = tree.join("crates").join(PACKAGE).join("tests");
    text.push_str(&modules(suites, |suite| tests.join(suite).is_dir()));
    text.push_str(&question());
    write(&tree.join(lib), &text)
}

/// What the woven cores ask.
fn question() -> String {
    let name = QUESTION.trim_start_matches("crate::");
    format!(
        "\n/// Whether this run is of the mutant of this number.\n\
         pub(crate) fn {name}(number: usize) -> bool {{\n\
         static CHOSEN: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();\n\
         let read = || std::env::var(\"{CHOSEN}\").ok()?.parse().ok();\n\
         *CHOSEN.get_or_init(read) == Some(number)\n}}\n"
    )
}

fn modules(suites: &[&str], is_folder: impl Fn(&str) -> bool) -> String {
    let mut text = format!(
        "\n#[cfg(test)]\nextern crate self as {};\n",
        PACKAGE.replace('-', "_")
    );
    for suite in suites {
        let file = if is_folder(suite) { "/main" } else { "" };
        let module = format!("#[path = \"../tests/{suite}{file}.rs\"]\nmod suite_{suite};\n");
        text.push_str(&format!("#[cfg(test)]\n{module}"));
    }
    text
}

/// The manifest of the workspace, for these crates alone.
fn reduced(manifest: &str) -> String {
    let mut lines = Vec::new();
    for line in manifest.lines() {
        match line.split_once(" = ").map_or("", |(name, _)| name) {
            "members" => lines.push(r#"members = ["crates/*"]"#),
            "default-members" => {}
            _ => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir_all(to)
        .map_err(|error| format!("cannot make {}: {error}", to.display()))?;
    let mut names = BTreeSet::new();
    for (name, is_folder) in entries(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if is_folder {
            copy_folder(&from, &to)?;
        } else {
            copy_file(&from, &to)?;
        }
        names.insert(name);
    }
    // What is gone must not be built any more.
    for (name, is_folder) in entries(to)? {
        let path = to.join(&name);
        let removed = match (names.contains(&name), is_folder) {
            (true, _) => Ok(()),
            (false, true) => std::fs::remove_dir_all(&path),
            (false, false) => std::fs::remove_file(&path),
        };
        removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(OsString, bool)>, String> {
    let read = || {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            entries.push((entry.file_name(), entry.file_type()?.is_dir()));
        }
        Ok::<_, std::io::Error>(entries)
    };
    read().map_err(|error| format!("cannot list {}: {error}", folder.display()))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), String> {
    write(to, &read(from)?)
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_become_modules_that_find_the_crate_by_its_name() {
        let expected = "\n#[cfg(test)]\nextern crate self as infra_resilience;\n\
                        #[cfg(test)]\n#[path = \"../tests/retry.rs\"]\nmod suite_retry;\n\
                        #[cfg(test)]\n#[path = \"../tests/c04/main.rs\"]\nmod suite_c04;\n";
        assert_eq!(modules(&["retry", "c04"], |suite| suite == "c04"), expected);
    }

    #[test]
    fn the_manifest_of_the_copy_names_only_what_is_there() {
        let manifest = "[workspace]\nmembers = [\"crates/*\", \"xtask\"]\n\
                        default-members = [\"crates/infra\"]\n\n[profile.dev]\ndebug = 1\n";
        let expected = "[workspace]\nmembers = [\"crates/*\"]\n\n[profile.dev]\ndebug = 1\n";
        assert_eq!(reduced(manifest), expected);
    }
}
