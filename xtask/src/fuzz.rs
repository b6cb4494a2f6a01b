//! Fuzzing: every target for a bounded time, from its committed corpus.
//!
//! What a run finds stays below `target/fuzz/corpus`, so that the next one goes on from there; inputs
//! that make a target fail are in `tests/fuzz/artifacts`.

use std::path::PathBuf;
use std::process::Command;

use crate::report::Report;
use crate::{install, shell};

/// Seconds for each target, unless told otherwise.
pub(crate) const SECONDS: u32 = 40;
/// Before a merge, from the committed corpus: long enough to see that a change broke a target.
pub(crate) const CI_SECONDS: u32 = 10;

const TARGETS: [&str; 5] = ["dotenv", "frames", "level", "reply", "traceparent"];

/// `cargo xtask fuzz`.
pub(crate) fn fuzz(report: &mut Report, seconds: u32) {
    let fuzzer = match Fuzzer::find() {
        Ok(fuzzer) => fuzzer,
        Err(reason) => return report.not_run(format!("fuzzing: {reason}")),
    };
    let built = report.step("fuzz targets", |_| fuzzer.build());
    if built.is_none() {
        return;
    }
    for target in TARGETS {
        report.step(&format!("fuzz {target} for {seconds} s"), |_| {
            fuzzer.run(target, seconds)
        });
    }
}

/// `cargo-fuzz` and a compiler that knows its flags.
struct Fuzzer {
    cargo_fuzz: PathBuf,
    /// Otherwise the usual compiler, told to accept what only a nightly one would.
    nightly: bool,
}

impl Fuzzer {
    fn find() -> Result<Self, String> {
        if !cfg!(any(target_os = "linux", target_os = "macos")) {
            return Err("libFuzzer needs Linux or macOS".to_owned());
        }
        let compilers = ["c++", "g++", "clang++"];
        if !compilers
            .iter()
            .any(|name| shell::find_program(name).is_some())
        {
            return Err("libFuzzer is built with a C++ compiler, and there is none".to_owned());
        }
        Ok(Fuzzer {
            cargo_fuzz: install::cargo_tool("cargo-fuzz")?,
            nightly: shell::succeeds(Command::new("rustup").args([
                "run",
                "nightly",
                "rustc",
                "--version",
            ])),
        })
    }

    fn build(&self) -> Result<(), String> {
        let mut command = self.command();
        command.args(["fuzz", "build", "--target-dir"]);
        shell::run(command.arg(target_folder()).current_dir(folder()))
    }

    fn run(&self, target: &str, seconds: u32) -> Result<(), String> {
        let build = target_folder();
        let found = build.join("corpus").join(target);
        std::fs::create_dir_all(&found)
            .map_err(|error| format!("cannot make {}: {error}", found.display()))?;
        let mut command = self.command();
        command.args(["fuzz", "run", "--target-dir"]).arg(&build);
        // New inputs go to the first folder; the second is only read.
        command.arg(target).arg(&found);
        command.arg(folder().join("fuzz/corpus").join(target));
        let limits = [
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-malloc_limit_mb=64",
            "-print_final_stats=1",
        ];
        command
            .args(["--", &format!("-max_total_time={seconds}")])
            .args(limits);
        shell::run(command.arg("-verbosity=0").current_dir(folder()))
    }

    fn command(&self) -> Command {
        if self.nightly {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly"]).arg(&self.cargo_fuzz);
            return command;
        }
        let mut command = Command::new(&self.cargo_fuzz);
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// The package's parent: `cargo fuzz` looks for `fuzz/` in it.
fn folder() -> PathBuf {
    shell::root().join("tests")
}

fn target_folder() -> PathBuf {
    shell::target().join("fuzz")
}
