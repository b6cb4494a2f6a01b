//! `cargo xtask miri`: the tests of the atomics under Miri, which refuses data races and undefined
//! behaviour and lets loads see old values where weak memory would. Each suite runs once per seed,
//! and each seed is another order of the threads.
//!
//! Only what does no I/O can run here, and a thousand times slower: so the suites are few and small.

use std::process::Command;

use crate::report::Report;
use crate::shell;

/// A package, the seeds, and which of its tests.
struct Suite {
    package: &'static str,
    seeds: &'static str,
    tests: &'static [&'static str],
}

const SUITES: [Suite; 4] = [
    Suite {
        package: "infra-resilience",
        seeds: "0..8",
        tests: &["--test", "races"],
    },
    Suite {
        package: "infra-resilience",
        seeds: "0..1",
        tests: &[
            "--lib",
            "--",
            "every_combination",
            "keyed::",
            "places::tests::shares",
            // Thousands of keys.
            "--skip",
            "many_keys",
            "--skip",
            "idle_entries",
        ],
    },
    Suite {
        package: "infra-cache",
        seeds: "0..8",
        tests: &["--lib", "--", "stats::"],
    },
    Suite {
        package: "infra-emergency",
        seeds: "0..8",
        tests: &["--test", "gate_races"],
    },
];

const COMPONENTS: [&str; 2] = ["miri", "rust-src"];

/// `cargo xtask miri`.
pub(crate) fn miri(report: &mut Report) {
    if let Err(reason) = prepare() {
        return report.not_run(format!("Miri: {reason}"));
    }
    for suite in &SUITES {
        let name = format!("Miri: {} {}", suite.package, suite.tests.join(" "));
        report.step(&name, |_| suite.run());
    }
}

/// Makes sure that there is a nightly compiler with Miri; adds the component where it is missing.
fn prepare() -> Result<(), String> {
    let version = ["run", "nightly", "rustc", "--version"];
    let version = shell::output(Command::new("rustup").args(version))
        .map_err(|error| format!("it needs a nightly compiler by rustup: {error}"))?;
    println!("{version}");
    let list = ["component", "list", "--toolchain", "nightly", "--installed"];
    let installed = shell::output(Command::new("rustup").args(list))?;
    let has = |name: &&str| installed.lines().any(|line| line.starts_with(*name));
    if COMPONENTS.iter().all(has) {
        return Ok(());
    }
    println!("Miri is missing: adding it to the nightly toolchain");
    let add = ["component", "add", "--toolchain", "nightly"];
    shell::run(Command::new("rustup").args(add).args(COMPONENTS))
        .map_err(|error| format!("this nightly has no such component: {error}"))
}

impl Suite {
    fn run(&self) -> Result<(), String> {
        let flags = format!("-Zmiri-many-seeds={}", self.seeds);
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo", "miri", "test", "--quiet"]);
        command.args(["--locked", "--package", self.package]);
        command.args(self.tests).env("MIRIFLAGS", flags);
        // Not among the builds of the other compiler.
        shell::run(command.env("CARGO_TARGET_DIR", shell::target().join("miri")))
    }
}
