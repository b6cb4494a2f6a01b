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

const SUITES: [Suite; 5] = [
    Suite {
        package: "infra-core",
        seeds: "0..1",
        tests: &["--lib", "--", "the_clock_of_the_system"],
    },
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
    if let Err(reason) = prepare(&mut Installed) {
        return report.not_run(format!("Miri: {reason}"));
    }
    for suite in &SUITES {
        let name = format!("Miri: {} {}", suite.package, suite.tests.join(" "));
        report.step(&name, |_| suite.run());
    }
}

/// What answers for `rustup`.
trait Rustup {
    /// What it prints.
    fn ask(&mut self, arguments: &[&str]) -> Result<String, String>;
    /// Runs it where everybody sees it.
    fn run(&mut self, arguments: &[&str]) -> Result<(), String>;
}

/// The one on this machine.
struct Installed;

impl Rustup for Installed {
    fn ask(&mut self, arguments: &[&str]) -> Result<String, String> {
        shell::output(Command::new("rustup").args(arguments))
    }
    fn run(&mut self, arguments: &[&str]) -> Result<(), String> {
        shell::run(Command::new("rustup").args(arguments))
    }
}

/// Makes sure that there is a nightly compiler with Miri; adds the component where it is missing.
fn prepare(rustup: &mut impl Rustup) -> Result<(), String> {
    let version = rustup
        .ask(&["run", "nightly", "rustc", "--version"])
        .map_err(|error| format!("it needs a nightly compiler by rustup: {error}"))?;
    println!("{version}");
    let list = ["component", "list", "--toolchain", "nightly", "--installed"];
    let installed = rustup.ask(&list)?;
    // With the name of the platform behind it, or `preview`.
    let is_named = |line: &str, name: &str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ' ']))
    };
    let has = |name: &&str| installed.lines().any(|line| is_named(line, name));
    if COMPONENTS.iter().all(has) {
        return Ok(());
    }
    println!("Miri is missing: adding it to the nightly toolchain");
    let add = ["component", "add", "--toolchain", "nightly"];
    rustup
        .run(&[&add[..], &COMPONENTS].concat())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A `rustup` that has what it is told to have, and notes what it is told to add.
    struct Told {
        nightly: bool,
        components: &'static str,
        adds: bool,
        added: Vec<String>,
    }

    impl Rustup for Told {
        fn ask(&mut self, arguments: &[&str]) -> Result<String, String> {
            match arguments {
                ["run", ..] if self.nightly => Ok("rustc 1.0.0-nightly".to_owned()),
                ["component", "list", ..] => Ok(self.components.to_owned()),
                _ => Err("`rustup run` ended with exit status: 1".to_owned()),
            }
        }
        fn run(&mut self, arguments: &[&str]) -> Result<(), String> {
            self.added.push(arguments.join(" "));
            match self.adds {
                true => Ok(()),
                false => Err("`rustup component` ended with exit status: 1".to_owned()),
            }
        }
    }

    fn told(components: &'static str) -> Told {
        Told {
            nightly: true,
            components,
            adds: true,
            added: Vec::new(),
        }
    }

    const ADD: &str = "component add --toolchain nightly miri rust-src";

    #[test]
    fn nothing_is_added_where_all_is_there() {
        let names = "cargo-x86_64-unknown-linux-gnu\nmiri-x86_64-unknown-linux-gnu\nrust-src";
        let mut rustup = told(names);
        assert_eq!(prepare(&mut rustup), Ok(()));
        assert!(rustup.added.is_empty());
    }

    #[test]
    fn what_is_missing_is_added() {
        for components in [
            "rust-src",
            "miri-x86_64-unknown-linux-gnu",
            "",
            "mirite\nrust-src",
        ] {
            let mut rustup = told(components);
            assert_eq!(prepare(&mut rustup), Ok(()));
            assert_eq!(rustup.added, [ADD], "{components}");
        }
    }

    #[test]
    fn a_nightly_without_the_component_is_the_reason_not_to_run() {
        let mut rustup = told("rust-src");
        rustup.adds = false;
        let reason = prepare(&mut rustup).unwrap_err();
        assert!(reason.starts_with("this nightly has no such component: `rustup"));
    }

    #[test]
    fn without_a_nightly_compiler_nothing_is_added() {
        let mut rustup = told("");
        rustup.nightly = false;
        let reason = prepare(&mut rustup).unwrap_err();
        assert!(reason.starts_with("it needs a nightly compiler by rustup: "));
        assert!(rustup.added.is_empty());
    }
}
