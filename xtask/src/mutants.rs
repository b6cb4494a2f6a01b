//! `cargo xtask mutants`: small defects put into the cores of the resilience crate, one at a time,
//! to see whether its tests notice.

use std::process::Command;

use crate::report::Report;
use crate::{install, shell};

/// A core below `crates/infra-resilience/src`, and the suites that speak of it.
const CORES: [(&str, &[&str]); 11] = [
    ("breaker/machine.rs", &["breaker", "breaker_model"]),
    ("breaker/word.rs", &["breaker"]),
    ("breaker/window.rs", &["breaker", "breaker_model"]),
    ("breaker/probes.rs", &["breaker"]),
    ("budget.rs", &["retry"]),
    ("retry/schedule.rs", &["retry"]),
    ("retry/backoff.rs", &["retry"]),
    ("limit/gcra.rs", &["limiter"]),
    ("limit/strict.rs", &["limiter"]),
    ("limit/meters.rs", &["limiter"]),
    ("hedge.rs", &["timeout_hedge_fallback"]),
];

/// Runs the mutants of each core whose path contains `chosen`; of all cores for an empty text.
pub(crate) fn mutants(report: &mut Report, chosen: &str) {
    for (file, suites) in CORES.iter().filter(|(file, _)| file.contains(chosen)) {
        report.step(&format!("mutants of {file}"), |_| of_file(file, suites));
    }
    report.not_run("mutants of files that are no core: see xtask/src/mutants.rs");
}

/// Ends with an error where a mutant survives. What each did is below `target/mutants`.
fn of_file(file: &str, suites: &[&str]) -> Result<(), String> {
    let tool = install::cargo_tool("cargo-mutants")?;
    let source = format!("crates/infra-resilience/src/{file}");
    let folder = shell::target().join("mutants").join(file.replace('/', "-"));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let suites = suites.iter().flat_map(|suite| ["--test", suite]);
    shell::run(
        Command::new(tool)
            .args([
                "mutants",
                "--package",
                "infra-resilience",
                "--file",
                &source,
            ])
            .args(["--test-tool", "nextest", "--no-shuffle", "--timeout", "60"])
            .arg("--output")
            .arg(folder)
            .args(["--", "--lib"])
            .args(suites)
            // Names and lines are of no use in thousands of builds.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_TEST_DEBUG", "0"),
    )
}
