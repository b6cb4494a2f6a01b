//! The tests as one program, run once for each mutant.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The variable that says which mutant a run is of.
pub(super) const CHOSEN: &str = "MUTANT";
/// So much memory a mutant may ask for before its run ends, in KiB: some loop for ever and keep
/// what they make.
const MEMORY: &str = "4194304";

/// The test program of a core with all its mutants.
pub(super) struct Program {
    path: PathBuf,
    folder: PathBuf,
    skipped: Vec<String>,
    tests: Vec<String>,
}

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Survives,
    /// This test fails, each time.
    Caught(String),
    /// These tests do not end, also when they run alone.
    Hangs(Vec<String>),
}

/// How one run ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Passed,
    /// At this test, or without saying at which.
    Failed(Option<String>),
    /// With these tests still running.
    Late(Vec<String>),
}

impl Program {
    /// The program at `path`, which runs in `folder`.
    pub(super) fn new(path: &Path, folder: &Path, skipped: &[&str]) -> Result<Self, String> {
        let mut program = Program {
            path: path.to_owned(),
            folder: folder.to_owned(),
            skipped: skipped.iter().map(|name| (*name).to_owned()).collect(),
            tests: Vec::new(),
        };
        let list = crate::shell::output(program.command(None, &[]).arg("--list"))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        program.tests = tests.map(str::to_owned).collect();
        if program.tests.is_empty() {
            return Err("the program has no tests".to_owned());
        }
        Ok(program)
    }

    /// Runs the tests without any mutant; how long they took.
    pub(super) fn sound(&self) -> Result<Duration, String> {
        let began = Instant::now();
        match self.run(None, &[], Duration::from_secs(600))? {
            End::Passed => Ok(began.elapsed()),
            other => Err(format!("the tests fail without any mutant: {other:?}")),
        }
    }

    /// Runs the tests with a mutant.
    pub(super) fn fate(&self, mutant: usize, limit: Duration) -> Result<Fate, String> {
        fate(|only| self.run(Some(mutant), only, limit))
    }

    fn run(&self, mutant: Option<usize>, only: &[String], limit: Duration) -> Result<End, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let mut child = self
            .command(mutant, only)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let Some(output) = child.stdout.take() else {
            return Err("no output".to_owned());
        };
        let tests = if only.is_empty() { &self.tests } else { only };
        let end = watch(&mut child, output, tests, limit);
        // It has ended, or is of no use any more.
        let _ = child.kill();
        child.wait().map_err(failed)?;
        Ok(end)
    }

    fn command(&self, mutant: Option<usize>, only: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", MEMORY]);
        command.arg(&self.path).current_dir(&self.folder);
        command.args(self.skipped.iter().flat_map(|name| ["--skip", name]));
        if !only.is_empty() {
            // At the same time, so that one that hangs does not hold up the others.
            let threads = only.len().min(64).to_string();
            command
                .args(["--test-threads", &threads, "--exact"])
                .args(only);
        }
        command.env("RUST_BACKTRACE", "0").env_remove(CHOSEN);
        if let Some(number) = mutant {
            command.env(CHOSEN, number.to_string());
        }
        command
    }
}

/// What the tests say counts when the test that says it says it again, alone or the next time: so a
/// test that fails or is late for another reason does not count as having noticed. Tests of random
/// cases need not fail each time.
fn fate(mut run: impl FnMut(&[String]) -> Result<End, String>) -> Result<Fate, String> {
    let mut failed_before = Vec::new();
    for _ in 0..3 {
        let suspects = match run(&[])? {
            End::Passed => return Ok(Fate::Survives),
            End::Failed(Some(test)) if failed_before.contains(&test) => {
                return Ok(Fate::Caught(test));
            }
            End::Failed(Some(test)) => {
                failed_before.push(test.clone());
                vec![test]
            }
            // The whole program ended: all of it again.
            End::Failed(None) => Vec::new(),
            End::Late(tests) => tests,
        };
        match run(&suspects)? {
            End::Passed => println!("not said again by {}", suspects.join(", ")),
            End::Failed(test) => {
                return Ok(Fate::Caught(test.unwrap_or_else(|| "a crash".to_owned())));
            }
            End::Late(tests) => return Ok(Fate::Hangs(tests)),
        }
    }
    Ok(Fate::Survives)
}

/// Reads what the tests say until the first of them fails, all end, or the time is over.
fn watch(child: &mut Child, output: ChildStdout, tests: &[String], limit: Duration) -> End {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines
            .take_while(|line| sender.send(line.clone()).is_ok())
            .for_each(drop);
    });
    let (deadline, mut running) = (Instant::now() + limit, tests.to_vec());
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match test_of(&line) {
                Some((test, false)) => return End::Failed(Some(test.to_owned())),
                Some((test, true)) => running.retain(|other| other != test),
                None => {}
            },
            Err(mpsc::RecvTimeoutError::Timeout) => return End::Late(running),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    match child.wait() {
        Ok(status) if status.success() => End::Passed,
        _ => End::Failed(None),
    }
}

/// The test that a line tells the end of, and whether it passed.
fn test_of(line: &str) -> Option<(&str, bool)> {
    let (test, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let test = test.strip_suffix(" - should panic").unwrap_or(test);
    match end {
        "ok" => Some((test, true)),
        _ if end.starts_with("FAILED") => Some((test, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate_after(ends: Vec<End>) -> (Fate, Vec<Vec<String>>) {
        let (mut ends, mut asked) = (ends.into_iter(), Vec::new());
        let fate = fate(|only| {
            asked.push(only.to_vec());
            ends.next().ok_or_else(|| "asked once more".to_owned())
        });
        (fate.unwrap(), asked)
    }

    fn failed(test: &str) -> End {
        End::Failed(Some(test.to_owned()))
    }

    #[test]
    fn a_failure_counts_when_the_test_fails_alone_as_well() {
        let (fate, asked) = fate_after(vec![failed("a"), failed("a")]);
        assert_eq!(fate, Fate::Caught("a".to_owned()));
        assert_eq!(asked, [vec![], vec!["a".to_owned()]]);
    }

    #[test]
    fn what_is_not_said_again_does_not_count() {
        let late = || End::Late(vec!["a".to_owned()]);
        let once = vec![
            failed("a"),
            End::Passed,
            late(),
            End::Passed,
            failed("b"),
            End::Passed,
        ];
        let (fate, _) = fate_after(once);
        assert_eq!(fate, Fate::Survives);
        let (fate, _) = fate_after(vec![failed("a"), End::Passed, failed("a")]);
        assert_eq!(fate, Fate::Caught("a".to_owned()));
        let (fate, _) = fate_after(vec![failed("a"), End::Passed, End::Passed]);
        assert_eq!(fate, Fate::Survives);
        let (fate, _) = fate_after(vec![late(), failed("a")]);
        assert_eq!(fate, Fate::Caught("a".to_owned()));
        let (fate, _) = fate_after(vec![late(), late()]);
        assert_eq!(fate, Fate::Hangs(vec!["a".to_owned()]));
    }

    fn watched(script: &str, limit: Duration) -> End {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let tests = ["a", "b"].map(str::to_owned);
        let end = watch(&mut child, output, &tests, limit);
        let _ = child.kill();
        child.wait().unwrap();
        end
    }

    #[test]
    fn a_run_ends_at_the_first_failure() {
        const FAR: Duration = Duration::from_secs(60);
        let fails = "echo 'test b ... ok'; echo 'test a ... FAILED'; exec sleep 600";
        assert_eq!(watched(fails, FAR), failed("a"));
        assert_eq!(watched("echo 'test a ... ok'", FAR), End::Passed);
        assert_eq!(watched("kill -9 $$", FAR), End::Failed(None));
    }

    #[test]
    fn a_run_that_is_late_names_the_tests_that_still_run() {
        let hangs = "echo 'test a ... ok'; exec sleep 600";
        let late = watched(hangs, Duration::from_secs(2));
        assert_eq!(late, End::Late(vec!["b".to_owned()]));
    }

    #[test]
    fn the_end_of_a_test_is_read_from_its_line() {
        assert_eq!(test_of("test m::a ... ok"), Some(("m::a", true)));
        assert_eq!(
            test_of("test m::a - should panic ... ok"),
            Some(("m::a", true))
        );
        assert_eq!(test_of("test m::a ... FAILED"), Some(("m::a", false)));
        assert_eq!(test_of("running 2 tests"), None);
        assert_eq!(test_of("test result: ok. 2 passed"), None);
    }
}
