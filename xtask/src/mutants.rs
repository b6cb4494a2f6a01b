//! `cargo xtask mutants`: small defects put into the cores of the resilience crate, one at a time,
//! to see whether its tests notice.
//!
//! The defects go into a copy of the two crates that matter, below `target/mutants`, in which the
//! suites that speak of a core are modules of the library: so each mutant costs one run of the
//! compiler, a second or two. A survivor is an error unless `crates/infra-resilience/MUTANTS.md`
//! lists it with a reason.

mod survivors;
mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::Report;
use crate::{install, shell};
use survivors::Listed;

/// A core below `crates/infra-resilience/src`, and the suites that speak of it beside the crate's
/// own unit tests.
type Core = (&'static str, &'static [&'static str]);

const CORES: [Core; 24] = [
    (
        "breaker/machine.rs",
        &["breaker", "breaker_edges", "breaker_model", "c04"],
    ),
    ("breaker/word.rs", &["breaker"]),
    ("breaker/window.rs", &["breaker", "breaker_model"]),
    ("breaker/probes.rs", &["breaker", "breaker_model"]),
    ("limit/gcra.rs", &["limiter", "models"]),
    ("limit/strict.rs", &["limiter", "models"]),
    ("limit/meters.rs", &["limiter", "models"]),
    ("retry/schedule.rs", &["retry", "c04", "models"]),
    ("retry/backoff.rs", &["retry", "c04", "models"]),
    ("budget.rs", &["retry", "models", "tower"]),
    ("hedge.rs", &["timeout_hedge_fallback", "c04"]),
    ("turnstile/mod.rs", &["bulkhead", "limiter"]),
    (
        "turnstile/taking.rs",
        &["bulkhead", "dropped", "limiter", "waits"],
    ),
    ("bulkhead/places.rs", &["bulkhead"]),
    ("bulkhead/mod.rs", &["bulkhead", "c04"]),
    ("priority.rs", &["bulkhead"]),
    ("adaptive/limit.rs", &["c04"]),
    ("throttle.rs", &["c04"]),
    ("shared/cells.rs", &["shared"]),
    ("shared/ledger.rs", &["shared"]),
    (
        "breaker/core.rs",
        &[
            "breaker",
            "breaker_edges",
            "breaker_model",
            "c04",
            "pipeline",
            "tower",
        ],
    ),
    ("keyed.rs", &["breaker", "c04", "limiter"]),
    ("coalesce.rs", &["c04", "coalesce", "dropped"]),
    ("adaptive/mod.rs", &["c04", "dropped"]),
];

const PACKAGE: &str = "infra-resilience";
/// The same for all cores, so that they share one build.
const FEATURES: &str = "tower-retry,shared";
/// In which the tests of a mutant have to end, unless those of the sound core are slow: see
/// [`limit`].
const SHORTEST_LIMIT: Duration = Duration::from_secs(20);
/// How much slower than the tests of the sound core those of a mutant may be.
const PATIENCE: u32 = 8;
/// What a mutant may change without anybody being wronged: what `Debug` prints is no promise.
const NO_PROMISE: &str = "impl (fmt::)?Debug for";
/// These take seconds each, and what they find the short ones find.
const LONG: [&str; 2] = ["b22_registry_is_bounded", "l09_a_million_keys"];

/// Runs the mutants of each core whose path contains `chosen`; of all cores for an empty text.
pub(crate) fn mutants(report: &mut Report, chosen: &str) {
    let Some(bench) = report.step("copy and tool", |_| Bench::set_up()) else {
        return;
    };
    let cores: Vec<&Core> = CORES
        .iter()
        .filter(|(file, _)| file.contains(chosen))
        .collect();
    let mut rows = Vec::new();
    for core in cores {
        let row = report.step(&format!("mutants of {}", core.0), |_| bench.run(core));
        rows.extend(row);
    }
    println!("\n| core | mutants | caught | timeouts | unviable | survivors | noticed |");
    println!("|---|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    report.not_run("mutants of files that are no core: see xtask/src/mutants.rs");
}

/// Where mutants are made and judged.
struct Bench {
    tool: PathBuf,
    tree: PathBuf,
    listed: Listed,
}

impl Bench {
    fn set_up() -> Result<Self, String> {
        let folder = shell::root().join("crates").join(PACKAGE);
        Ok(Bench {
            tool: install::cargo_tool("cargo-mutants")?,
            tree: tree::copy(&place())?,
            listed: Listed::read(&folder.join("MUTANTS.md"))?,
        })
    }

    /// A row of the table for the core; an error where a mutant survives that is not listed, and
    /// where the tests fail without any mutant, with which all of them would count as noticed.
    fn run(&self, (file, suites): &Core) -> Result<String, String> {
        tree::take_in(&self.tree, suites)?;
        let limit = limit(self.test()?);
        let output = place().join("results").join(file.replace('/', "-"));
        std::fs::create_dir_all(&output).map_err(|error| error.to_string())?;
        // It ends with an error where a mutant survives or hangs; the results say which.
        let ended = shell::run(&mut self.tool(file, limit, &output));
        let results = survivors::Results::read(&output.join("mutants.out"))
            .map_err(|error| ended.err().unwrap_or(error))?;
        let row = results.row(file);
        println!("{row}");
        let after = self.test()?;
        if after > limit {
            let (after, limit) = (after.as_secs(), limit.as_secs());
            return Err(format!(
                "too busy a machine: sound tests took {after} s of the {limit} s of a mutant"
            ));
        }
        self.listed.judge(file, &results).map(|()| row)
    }

    /// Runs the tests of the core as it is; how long they took, without what the compiler did.
    fn test(&self) -> Result<Duration, String> {
        let tests = || {
            let mut command = shell::cargo();
            command.args(["test", "--quiet", "--package", PACKAGE, "--lib"]);
            command.args(["--features", FEATURES]);
            in_tree(command, &self.tree)
        };
        shell::run(tests().arg("--no-run"))?;
        let began = Instant::now();
        shell::run(tests().arg("--").args(skipped()))?;
        Ok(began.elapsed())
    }

    fn tool(&self, file: &str, limit: Duration, output: &Path) -> Command {
        let mut command = Command::new(&self.tool);
        command.args(["mutants", "--in-place", "--package", PACKAGE, "--file"]);
        command.arg(format!("crates/{PACKAGE}/src/{file}"));
        command.args(["--exclude-re", NO_PROMISE, "--features", FEATURES]);
        command.args(["--test-tool", "cargo", "--cap-lints", "true"]);
        command.args(["--baseline", "skip", "--timeout"]);
        command.arg(limit.as_secs().to_string());
        command.args(["--build-timeout", "600", "--output"]);
        command.arg(output).args(["--", "--lib", "--"]);
        command.args(skipped());
        in_tree(command, &self.tree)
    }
}

/// The time that the tests of a mutant get where those of the sound core take `sound`. It grows
/// with them, so that on a busy machine slow is not taken for noticed.
fn limit(sound: Duration) -> Duration {
    SHORTEST_LIMIT.max(sound * PATIENCE)
}

fn place() -> PathBuf {
    shell::target().join("mutants")
}

fn skipped() -> impl Iterator<Item = &'static str> {
    LONG.iter().flat_map(|name| ["--skip", name])
}

/// In the copy, with a build folder of its own, and without the names and lines that are of no use
/// in thousands of builds.
fn in_tree(mut command: Command, tree: &Path) -> Command {
    command
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", place().join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("RUST_BACKTRACE", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_get_more_time_where_the_sound_tests_are_slow() {
        assert_eq!(limit(Duration::from_millis(900)), Duration::from_secs(20));
        assert_eq!(limit(Duration::from_secs(4)), Duration::from_secs(32));
    }
}
