//! `cargo xtask mutants`: small defects put into the cores of the resilience crate, one at a time,
//! to see whether its tests notice.
//!
//! `cargo mutants` lists them. They go into a copy of the two crates that matter, below
//! `target/mutants`, in which the suites that speak of a core are modules of the library, and all
//! at once: each place chooses at run time. So a core is compiled a few times, and a mutant costs
//! one run of the tests. A survivor is an error unless `crates/infra-resilience/MUTANTS.md` lists
//! it with a reason.

mod build;
mod list;
mod program;
mod survivors;
mod tree;
mod weave;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::report::Report;
use crate::{install, shell};
use list::Mutant;
use program::Program;
use survivors::{Listed, Results};
use weave::Places;

/// A core below `crates/infra-resilience/src`, and the suites that speak of it beside the crate's
/// own unit tests.
type Core = (&'static str, &'static [&'static str]);

const CORES: [Core; 24] = [
    ("breaker/machine.rs", &["breaker", "breaker_model", "c04"]),
    ("breaker/word.rs", &["breaker"]),
    ("breaker/window.rs", &["breaker", "breaker_model"]),
    ("breaker/probes.rs", &["breaker", "breaker_model"]),
    ("limit/gcra.rs", &["limiter", "models"]),
    ("limit/strict.rs", &["limiter", "models"]),
    ("limit/meters.rs", &["limiter", "models"]),
    ("retry/schedule.rs", &["retry", "c04", "models", "pipeline"]),
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
        &["breaker", "breaker_model", "c04", "pipeline", "tower"],
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
const SHORTEST_LIMIT: Duration = Duration::from_secs(10);
/// How much slower than the tests of the sound core those of a mutant may be.
const PATIENCE: u32 = 8;
/// How many mutants run at a time. Those that hang mostly wait.
const AT_A_TIME: usize = 3;
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
    println!("\n| core | mutants | caught | hang | unviable | survivors | noticed |");
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
        let path = self
            .tree
            .join("crates")
            .join(PACKAGE)
            .join("src")
            .join(file);
        let source = tree::read(&path)?;
        let results = self.judge(file, &path, &source);
        // Also where something went wrong: no later core is tested with mutants of this one.
        tree::write(&path, &source)?;
        let results = results?;
        let row = results.row(file);
        println!("{row}");
        self.listed.judge(file, &results).map(|()| row)
    }

    fn judge(&self, file: &str, path: &Path, source: &str) -> Result<Results, String> {
        let mutants = self.list(file, source)?;
        let places = Places::find(source, &mutants)?;
        let built = build::build(&self.tree, path, &places)?;
        let program = self.program(&built.program)?;
        let limit = limit(program.sound()?);
        let mut results = judge_each(&program, &mutants, &built.viable, limit)?;
        results.unviable = mutants.len() - built.viable.len() - places.left().len();
        let after = program.sound()?;
        if after > limit {
            let (after, limit) = (after.as_secs(), limit.as_secs());
            return Err(format!(
                "too busy a machine: sound tests took {after} s of the {limit} s of a mutant"
            ));
        }
        for number in places.left() {
            match (
                build::build_alone(&self.tree, path, &places, *number)?,
                mutants.get(*number),
            ) {
                (Some(program), Some(mutant)) => {
                    let fate = self.program(&program)?.fate(*number, limit)?;
                    results.enter(&mutant.name, fate);
                }
                _ => results.unviable += 1,
            }
        }
        Ok(results)
    }

    fn program(&self, path: &Path) -> Result<Program, String> {
        Program::new(path, &self.tree.join("crates").join(PACKAGE), &LONG)
    }

    fn list(&self, file: &str, source: &str) -> Result<Vec<Mutant>, String> {
        let mut command = Command::new(&self.tool);
        command.args([
            "mutants",
            "--list",
            "--json",
            "--package",
            PACKAGE,
            "--file",
        ]);
        command.arg(format!("crates/{PACKAGE}/src/{file}"));
        command
            .args(["--exclude-re", NO_PROMISE])
            .current_dir(&self.tree);
        list::parse(&shell::output(&mut command)?, source)
    }
}

/// Runs the tests with each of the mutants that can be compiled.
fn judge_each(
    program: &Program,
    mutants: &[Mutant],
    viable: &[usize],
    limit: Duration,
) -> Result<Results, String> {
    let results = Mutex::new(Results::default());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(number) = viable.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(mutant) = mutants.get(*number) else {
                continue;
            };
            let fate = program.fate(*number, limit)?;
            let mut results = results.lock().map_err(|error| error.to_string())?;
            results.enter(&mutant.name, fate);
        }
        Ok::<_, String>(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| match worker.join() {
            Ok(end) => end,
            Err(_) => Err("a worker panicked".to_owned()),
        });
        ends.collect::<Result<(), _>>()
    })?;
    results.into_inner().map_err(|error| error.to_string())
}

/// The time that the tests of a mutant get where those of the sound core take `sound`. It grows
/// with them, so that on a busy machine slow is not taken for noticed.
fn limit(sound: Duration) -> Duration {
    SHORTEST_LIMIT.max(sound * PATIENCE)
}

fn place() -> PathBuf {
    shell::target().join("mutants")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_get_more_time_where_the_sound_tests_are_slow() {
        assert_eq!(limit(Duration::from_millis(900)), Duration::from_secs(10));
        assert_eq!(limit(Duration::from_secs(4)), Duration::from_secs(32));
    }
}
