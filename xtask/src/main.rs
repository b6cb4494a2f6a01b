//! Tasks of the workspace, run as `cargo xtask <task>`; see [`HELP`].
//!
//! # Layout
//! - [`report`]: steps with their durations, and the summary at the end;
//! - [`tasks`]: what each task consists of;
//! - [`redis`]: which Redis or Valkey server the tests run on, and how it was found;
//! - [`install`]: what a task may install when it is missing, and where;
//! - [`mutants`]: defects put into the cores on purpose;
//! - [`miri`]: the atomics under Miri;
//! - [`image`]: container images made of the installed server program;
//! - [`fuzz`]: fuzz targets, each for a bounded time;
//! - [`python`]: the virtual environment of the Python interoperability tests;
//! - [`shell`]: running commands.
#![allow(
    clippy::disallowed_methods,
    reason = "a program: it reads its own environment"
)]

mod fuzz;
mod image;
mod install;
mod miri;
mod mutants;
mod python;
mod redis;
mod report;
mod shell;
mod tasks;

use std::process::ExitCode;

use redis::Wanted;
use report::Report;

const HELP: &str = "\
Tasks of the workspace: cargo xtask <task>

  test                    every test: units, documentation, Redis, containers, Python; the containers'
                          part is left out, and named as not run, where there is no Docker
  test-redis [OPTIONS]    every test that talks to a Redis or Valkey server
      --server auto       INFRA_TEST_REDIS_URL, else a container, else a local server program,
                          else installs one (this is the default)
      --server url        the server at INFRA_TEST_REDIS_URL
      --server container  a container of a local or pulled image
      --server local      redis-server or valkey-server as a child process
      --server valkey     Valkey as a child process, installed under target/ when missing
      --bin PATH          this server program as a child process
  crash-file              kills writers of a state file 200 times, opens a million keys after a kill,
                          fills a disk, overwrites 10 million values; every test prints its figures;
                          takes minutes, and is no part of `ci`
  image redis|valkey      builds a container image of the installed server program
  bench                   runs the benchmarks and writes BENCHMARKS.md
  fuzz [SECONDS]          every fuzz target for so long (40 unless given), with a nightly
                          compiler where there is one; installs cargo-fuzz under target/
  mutants [FILE]          small defects in the cores of the resilience crate, one at a time: do its
                          tests notice? Takes a quarter of an hour; FILE is a part of a core's path
  miri                    the tests of the atomics under Miri, with a nightly compiler where there
                          is one; adds the component to it
  ci                      everything that has to hold before a change is merged
  help                    this text

A test that needs a server fails without one; it is never skipped. A test that fails is run once
more, and named in the summary when it passes then.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if asks_for_help(&words) {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let mut seconds = fuzz::SECONDS;
    let task: fn(&mut Report, &Wanted, u32) = match words.as_slice() {
        ["test"] => |report, _, _| tasks::test(report),
        ["test-redis", ..] => |report, wanted, _| tasks::test_redis(report, wanted),
        ["crash-file"] => |report, _, _| tasks::crash_file(report),
        ["image", "redis"] => |report, _, _| tasks::image(report, image::Server::Redis),
        ["image", "valkey"] => |report, _, _| tasks::image(report, image::Server::Valkey),
        ["bench"] => |report, _, _| tasks::bench(report),
        ["fuzz", given @ ..] if given.len() < 2 => {
            match given.first().map(|text| text.parse()) {
                None => {}
                Some(Ok(given)) => seconds = given,
                Some(Err(error)) => return misused(&format!("SECONDS: {error}")),
            }
            |report, _, seconds| fuzz::fuzz(report, seconds)
        }
        // The one task that takes a text of its own, and no server.
        ["mutants", ..] => |_, _, _| {},
        ["miri"] => |report, _, _| miri::miri(report),
        ["ci"] => |report, _, _| tasks::ci(report),
        _ => return misused(&format!("unknown task: {}", words.join(" "))),
    };
    let options = words
        .get(1..)
        .filter(|_| words.first() == Some(&"test-redis"));
    let wanted = match Wanted::parse(options.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(message) => return misused(&message),
    };
    if let Err(error) = std::env::set_current_dir(shell::root()) {
        return misused(&format!("the workspace is gone: {error}"));
    }
    let mut report = Report::new();
    if let ["mutants", chosen @ ..] = words.as_slice() {
        mutants::mutants(&mut report, chosen.first().unwrap_or(&""));
    }
    task(&mut report, &wanted, seconds);
    report.finish()
}

/// Nothing, `help`, or any task with `--help`: no task may start because of a question.
fn asks_for_help(words: &[&str]) -> bool {
    let wants = |word: &&str| matches!(*word, "-h" | "--help");
    words.first().is_none_or(|first| *first == "help") || words.iter().any(wants)
}

fn misused(message: &str) -> ExitCode {
    eprintln!("{message}\n\n{HELP}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::asks_for_help;

    #[test]
    fn a_question_starts_no_task() {
        for words in [
            &[][..],
            &["help"],
            &["--help"],
            &["-h", "test"],
            &["mutants", "--help"],
            &["test-redis", "--server", "valkey", "-h"],
        ] {
            assert!(asks_for_help(words), "{words:?}");
        }
        assert!(!asks_for_help(&["test"]));
        assert!(!asks_for_help(&["mutants", "breaker"]));
    }
}
