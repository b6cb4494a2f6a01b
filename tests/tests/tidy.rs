//! What every file of the repository has to look like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file without its tests. Most stay far below; past this it holds two things.
const LONGEST_SOURCE: usize = 450;

/// Files that a program writes.
const GENERATED: [&str; 2] = ["Cargo.lock", "BENCHMARKS.md"];

struct Source {
    /// Relative to the workspace, with forward slashes.
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every text file that is not built or downloaded.
fn sources() -> Vec<Source> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            if path.is_dir() {
                let skipped = ["target", ".git", "docker/tls/certs"].contains(&name.as_str());
                if !skipped && !name.ends_with("__pycache__") {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                // A worktree's `.git` is a file.
                if name != ".git" {
                    found.push(Source { name, text });
                }
            }
        }
    }
    assert!(
        found.len() > 40,
        "the workspace has more files than {}",
        found.len()
    );
    found
}

fn check(what: &str, problems: impl Fn(&Source, &mut String)) {
    let mut all = String::new();
    for source in sources() {
        problems(&source, &mut all);
    }
    assert!(all.is_empty(), "{what}:\n{all}");
}

fn written_by_hand(source: &Source) -> bool {
    let generated = GENERATED.contains(&source.name.as_str());
    let texts = ["rs", "toml", "md", "sh", "py", "yaml", "yml", "conf", "acl"];
    !generated
        && (texts
            .iter()
            .any(|end| source.name.ends_with(&format!(".{end}"))))
}

#[test]
fn lines_end_without_spaces_and_files_with_a_line_break() {
    check(
        "trailing spaces, carriage returns, or no line break at the end",
        |source, out| {
            if !written_by_hand(source) {
                return;
            }
            for (number, line) in (1..).zip(source.text.split('\n')) {
                if line.ends_with([' ', '\t', '\r']) {
                    writeln!(out, "  {}:{number}", source.name).unwrap();
                }
            }
            if !source.text.is_empty() && !source.text.ends_with('\n') {
                writeln!(out, "  {}: no line break at the end", source.name).unwrap();
            }
        },
    );
}

#[test]
fn source_files_stay_short() {
    check("split these by responsibility", |source, out| {
        let part = source.name.contains("/src/") && source.name.ends_with(".rs");
        if !part || source.name.ends_with("tests.rs") || source.name.contains("/tests/") {
            return;
        }
        let lines = source
            .text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        if lines > LONGEST_SOURCE {
            writeln!(out, "  {}: {lines} lines without tests", source.name).unwrap();
        }
    });
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, so that this file does not contain them.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ign", "ore"),
    ];
    check("finish it, or describe it as it is", |source, out| {
        // The lint table names two of them.
        if !written_by_hand(source) || source.name == "Cargo.toml" {
            return;
        }
        for (number, line) in (1..).zip(source.text.lines()) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                writeln!(out, "  {}:{number}: {word}", source.name).unwrap();
            }
        }
    });
}

#[test]
fn no_path_of_somebody_s_machine() {
    let paths = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("C:", "\\Users"),
    ];
    check("paths of one machine", |source, out| {
        for (number, line) in (1..).zip(source.text.lines()) {
            if paths.iter().any(|path| line.contains(path)) {
                writeln!(out, "  {}:{number}", source.name).unwrap();
            }
        }
    });
}

#[test]
fn manifests_inherit_what_the_workspace_says() {
    let lines = [
        "version.workspace = true",
        "edition.workspace = true",
        "rust-version.workspace = true",
        "license.workspace = true",
    ];
    check("lines that every package has", |source, out| {
        // The fuzz targets are a workspace of their own.
        if !source.name.ends_with("/Cargo.toml") || source.text.contains("[workspace]") {
            return;
        }
        let missing = lines
            .iter()
            .filter(|line| !source.text.lines().any(|own| own == **line));
        missing.for_each(|line| writeln!(out, "  {}: {line}", source.name).unwrap());
        if !source.text.contains("[lints]\nworkspace = true") {
            writeln!(out, "  {}: [lints] workspace = true", source.name).unwrap();
        }
    });
}

/// The features that a manifest declares, each with its line.
fn features(manifest: &str) -> Vec<(&str, &str)> {
    let lines = manifest.lines().skip_while(|line| *line != "[features]");
    let section = lines.skip(1).take_while(|line| !line.starts_with('['));
    section
        .filter_map(|line| Some((line.split_once(" = ")?.0, line)))
        .collect()
}

#[test]
fn the_umbrella_forwards_every_feature() {
    // On by default, for tests of other crates, or switched on with the crate that it belongs to.
    const NOT_FORWARDED: [&str; 3] = ["default", "log", "conformance"];
    let manifest = |name: &str| {
        let path = root().join("crates").join(name).join("Cargo.toml");
        fs::read_to_string(path).unwrap()
    };
    let (umbrella, mut missing) = (manifest("infra"), String::new());
    let forwards = |name: &str, feature: &str| {
        let weak = format!("\"{name}?/{feature}\"");
        let strong = format!("\"{name}/{feature}\"");
        umbrella.contains(&weak) || umbrella.contains(&strong)
    };
    let members = umbrella.lines().filter_map(|line| line.split_once(" = {"));
    for (name, _) in
        members.filter(|(name, _)| name.starts_with("infra-") && *name != "infra-redis")
    {
        let manifest = manifest(name);
        for (feature, _) in features(&manifest) {
            if !NOT_FORWARDED.contains(&feature) && !forwards(name, feature) {
                writeln!(missing, "{name}/{feature}").unwrap();
            }
        }
    }
    assert_eq!(missing, "", "not forwarded by the crate `infra`");
    let documented = fs::read_to_string(root().join("crates/infra/src/lib.rs")).unwrap();
    for (feature, line) in features(&umbrella) {
        let told = documented.contains(&format!("`{feature}`"));
        assert!(told || feature == "default", "not in the table: {line}");
    }
}

#[test]
fn both_licences_are_here() {
    for (file, words) in [
        ("LICENSE-MIT", "MIT License"),
        ("LICENSE-APACHE", "Version 2.0, January 2004"),
    ] {
        assert!(
            fs::read_to_string(root().join(file))
                .unwrap()
                .contains(words),
            "{file}"
        );
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("license = \"MIT OR Apache-2.0\""));
}

#[test]
fn links_between_documents_lead_somewhere() {
    check("broken links", |source, out| {
        if !source.name.ends_with(".md") {
            return;
        }
        let folder = root().join(&source.name).parent().unwrap().to_owned();
        for rest in source.text.split("](").skip(1) {
            let Some(link) = rest.split(')').next() else {
                continue;
            };
            let file = link.split('#').next().unwrap();
            let outside = file.contains("://") || file.starts_with("mailto:") || file.is_empty();
            if !outside && !GENERATED.contains(&file) && !folder.join(file).exists() {
                writeln!(out, "  {}: {link}", source.name).unwrap();
            }
        }
    });
}

/// The sources of a test program, or of one of its modules (`program::module`).
fn test_sources(name: &str) -> Vec<Source> {
    let (program, module) = name.split_once("::").unwrap_or((name, ""));
    let all = sources();
    let roots = [
        format!("tests/tests/{program}.rs"),
        format!("tests/tests/{program}/main.rs"),
    ];
    let root = all.iter().find(|source| roots.contains(&source.name));
    let root = root.unwrap_or_else(|| panic!("there is no test program {program}"));
    let mut lines = root.text.lines().peekable();
    let mut wanted = Vec::new();
    while let Some(line) = lines.next() {
        let path = line.strip_prefix("#[path = \"");
        let path = path.and_then(|rest| rest.strip_suffix("\"]"));
        let declared = if path.is_some() {
            lines.peek()
        } else {
            Some(&line)
        };
        let declared = declared.and_then(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        let Some(declared) = declared else { continue };
        if module.is_empty() || module == declared {
            let path = path.map_or(format!("{program}/{declared}.rs"), str::to_owned);
            wanted.push(format!("tests/tests/{path}"));
        }
    }
    if module.is_empty() {
        wanted.push(root.name.clone());
    }
    let found: Vec<_> = all
        .into_iter()
        .filter(|source| wanted.contains(&source.name))
        .collect();
    assert!(!found.is_empty(), "{name} has no source");
    found
}

#[test]
fn tests_that_are_left_out_on_a_container_share_no_server() {
    let names = include_str!("../../xtask/src/own-servers.txt");
    for name in names.lines() {
        for source in test_sources(name) {
            let shares =
                source.name != "tests/tests/tidy.rs" && source.text.contains("shared_redis_url");
            assert!(!shares, "{name}: {} uses the shared server", source.name);
        }
    }
}
