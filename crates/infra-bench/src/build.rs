//! How long a clean build takes, and of how many crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::harness::{Goal, Row};

const AREA: &str = "build";

/// A package, its features, and the most crates it may consist of.
const BUILDS: [(&str, &[&str], Goal); 3] = [
    ("infra-resilience", &[], Goal::AtMost(24.0)),
    (
        "infra",
        &["--no-default-features", "--features", "state"],
        Goal::Report,
    ),
    (
        "infra",
        &["--no-default-features", "--features", "state,events,redis"],
        Goal::Report,
    ),
];

/// Builds each package once, in an empty target folder, with the dev profile.
pub(crate) fn run() -> Vec<Row> {
    BUILDS
        .iter()
        .flat_map(|(package, features, goal)| build(package, features, *goal))
        .collect()
}

fn build(package: &str, features: &[&str], goal: Goal) -> Vec<Row> {
    let target = Path::new("target/clean-build");
    let _ = fs::remove_dir_all(target);
    let start = Instant::now();
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--package", package, "--target-dir"])
        .arg(target)
        .args(features)
        .stderr(Stdio::null())
        .status();
    let seconds = start.elapsed().as_secs_f64();
    let _ = fs::remove_dir_all(target);
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("{AREA}: `cargo build --package {package}` failed; not measured");
        return Vec::new();
    }
    let name = match features {
        [] => package.to_owned(),
        _ => format!("{package} {}", features.last().copied().unwrap_or_default()),
    };
    vec![
        Row::own(
            AREA,
            format!("clean build of {name}"),
            "s",
            Goal::Report,
            &[seconds],
        )
        .note("once, sources already downloaded"),
        Row::own(
            AREA,
            format!("crates in {name}"),
            "crates",
            goal,
            &[crates(package, features)],
        ),
    ]
}

/// The number of crates that are linked or run at build time, the package itself included.
fn crates(package: &str, features: &[&str]) -> f64 {
    let output = Command::new("cargo")
        .args([
            "tree",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--package",
            package,
        ])
        .args(features)
        .output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let names: BTreeSet<String> = text
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    names.len() as f64
}
