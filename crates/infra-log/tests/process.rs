//! What only a process of its own can show: the global `init`, panics, closed pipes, full disks.
//!
//! For each test this program runs itself once more, as the child that logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use infra_core::context::{self, bind};
use infra_core::{Context, CorrelationId};
use infra_log::{ErrorKind, Format, LogHandle, LogSettings, init};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tracing::{error, info, warn};

/// A test, and what its child does.
type Case = (&'static str, fn(&'static str), fn());

const CASES: &[Case] = &[
    (
        "trap_02_the_context_crosses_spawns_in_a_real_process",
        check_spawns,
        spawns,
    ),
    (
        "trap_09_a_debug_that_logs_gives_two_whole_lines",
        check_reentrant,
        reentrant,
    ),
    (
        "trap_17_panics_are_logged_with_context_and_the_earlier_hook_runs",
        check_panics,
        panics,
    ),
    (
        "trap_17_the_panic_line_is_out_before_an_abort",
        check_abort,
        abort_in_hook,
    ),
    (
        "trap_18_a_second_init_is_an_error_and_changes_nothing",
        check_twice,
        twice,
    ),
    (
        "trap_21_a_closed_stdout_neither_panics_nor_spins",
        check_closed,
        flood,
    ),
    (
        "trap_21_a_full_disk_neither_panics_nor_spins",
        check_full,
        flood,
    ),
    (
        "trap_21_both_outputs_closed_neither_panics_nor_spins",
        check_both_closed,
        flood,
    ),
    (
        "trap_21_a_closed_stdout_behind_a_queue_neither_panics_nor_spins",
        check_closed,
        queued_flood,
    ),
    (
        "a_queue_is_empty_after_flush_at_the_end_of_main",
        check_flushed,
        flushed,
    ),
    (
        "records_of_the_log_crate_come_through_the_same_path",
        check_log_crate,
        log_crate,
    ),
    (
        "eight_threads_push_a_million_lines_through_the_bounded_queue_and_none_is_torn",
        check_million,
        million,
    ),
    (
        "the_level_of_a_global_log_changes_for_all_threads",
        check_level,
        level,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, name] = &arguments[..]
        && child == "--child"
    {
        let case = CASES.iter().find(|(n, ..)| n == name).unwrap();
        case.2();
        return ExitCode::SUCCESS;
    }
    let trial = |(name, check, _): &Case| {
        let (name, check) = (*name, *check);
        Trial::test(name, move || {
            check(name);
            Ok(())
        })
    };
    let trials = CASES.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A child that is killed when its test is over, whatever happened.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(name: &str, stdout: Stdio, stderr: Stdio) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--child", name]).stdin(Stdio::null());
    Running(command.stdout(stdout).stderr(stderr).spawn().unwrap())
}

impl Running {
    /// The exit code, `None` for a signal.
    fn exit(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the child hangs");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Finished {
    code: Option<i32>,
    lines: Vec<Value>,
    stderr: String,
}

fn run(name: &str) -> Finished {
    let mut child = start(name, Stdio::piped(), Stdio::piped());
    let mut stderr = child.0.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let mut text = String::new();
    child
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    Finished {
        code: child.exit(),
        lines: text.lines().map(parse).collect(),
        stderr: errors.join().unwrap(),
    }
}

fn json() -> LogSettings {
    LogSettings::new().format(Format::Json)
}

fn work(id: &str) -> Context {
    bind("bot", "a").with_correlation_id(CorrelationId::parse(id).unwrap())
}

fn spawns() {
    init(json()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(work("run-1").scope(async {
        context::spawn(async { info!("spawned") }).await.unwrap();
        context::spawn_blocking(|| info!("blocking")).await.unwrap();
        let thread = std::thread::spawn(context::carry(|| info!("thread")));
        thread.join().unwrap();
        context::spawn_detached(async { info!("detached") })
            .await
            .unwrap();
    }));
}

fn check_spawns(name: &'static str) {
    let lines = run(name).lines;
    let ids: Vec<_> = lines
        .iter()
        .map(|l| l.get("correlation_id").is_some())
        .collect();
    assert_eq!(ids, [true, true, true, false], "{lines:?}");
}

struct Logs;

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info!(n = 1, "from inside");
        f.write_str("logs")
    }
}

fn reentrant() {
    init(json()).unwrap();
    info!(before = 1, value = ?Logs, "outer");
    info!("next");
}

fn check_reentrant(name: &'static str) {
    let lines = run(name).lines;
    let messages: Vec<_> = lines
        .iter()
        .map(|l| l["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["from inside", "outer", "next"]);
    assert_eq!(
        (&lines[1]["before"], &lines[1]["value"]),
        (&1.into(), &"logs".into())
    );
}

struct Panics;

impl fmt::Debug for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("inside of a debug")
    }
}

fn panics() {
    std::panic::set_hook(Box::new(|_| eprintln!("earlier hook")));
    init(json().panic_hook(true).queue_bytes(1 << 16)).unwrap();
    let url = "redis://u:canary@h";
    let thread = std::thread::Builder::new().name("worker".into());
    let code = work("run-1");
    let thread = thread.spawn(move || code.sync_scope(|| panic!("lost {url}")));
    assert!(thread.unwrap().join().is_err());
    info!(value = ?Panics, "still alive");
    work("run-2").sync_scope(|| std::panic::panic_any(7));
}

fn check_panics(name: &'static str) {
    let finished = run(name);
    assert_eq!(finished.code, Some(101));
    assert_eq!(finished.stderr.matches("earlier hook").count(), 3);
    let lines = finished.lines;
    assert_eq!(lines.len(), 4, "{lines:?}");
    let first = &lines[0];
    assert_eq!(
        (&first["level"], &first["target"]),
        (&"ERROR".into(), &"panic".into())
    );
    assert_eq!(first["panic.message"], "lost redis://u:***@h");
    assert_eq!(
        (&first["thread"], &first["bot"]),
        (&"worker".into(), &"a".into())
    );
    assert_eq!(first["correlation_id"], "run-1");
    assert!(
        first["panic.location"]
            .as_str()
            .unwrap()
            .contains("process.rs:")
    );
    assert_eq!(lines[1]["panic.message"], "inside of a debug");
    assert_eq!(lines[2]["value"], "<panicked while being formatted>");
    assert_eq!(lines[3]["panic.message"], "a value that is no text");
    assert_eq!(lines[3]["correlation_id"], "run-2");
}

fn abort_in_hook() {
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    init(json().panic_hook(true).queue_bytes(1 << 16)).unwrap();
    panic!("the last line");
}

fn check_abort(name: &'static str) {
    let finished = run(name);
    assert_eq!(finished.code, None);
    assert_eq!(finished.lines[0]["panic.message"], "the last line");
}

fn twice() {
    let handle = init(json()).unwrap();
    let error = init(json().field("second", true).panic_hook(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyInitialized);
    info!(error = &error as &dyn std::error::Error, "still the first");
    handle.flush(Duration::from_secs(5)).unwrap();
}

fn check_twice(name: &'static str) {
    let finished = run(name);
    assert_eq!((finished.code, finished.lines.len()), (Some(0), 1));
    assert!(finished.lines[0].get("second").is_none());
}

const FLOOD: u64 = 20_000;

fn log_flood(handle: &LogHandle) {
    for n in 0..FLOOD {
        warn!(n, "flood");
    }
    handle.flush(Duration::from_secs(10)).unwrap();
    assert!(handle.stats().failed_writes > 0);
}

fn flood() {
    let handle = init(json().panic_hook(true)).unwrap();
    log_flood(&handle);
    assert_eq!(handle.stats().failed_writes, FLOOD);
}

fn queued_flood() {
    log_flood(&init(json().queue_bytes(1 << 16)).unwrap());
}

/// Closes the reading end of the child's output before it writes.
fn check_closed(name: &'static str) {
    let mut child = start(name, closed_pipe(), Stdio::piped());
    let mut stderr = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.exit(), Some(0), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("the log cannot be written"));
}

fn check_both_closed(name: &'static str) {
    assert_eq!(start(name, closed_pipe(), closed_pipe()).exit(), Some(0));
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn check_full(name: &'static str) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = start(name, full.into(), Stdio::piped());
    let mut stderr = String::new();
    child
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.exit(), Some(0), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

fn flushed() {
    let handle = init(json().queue_bytes(64 << 20)).unwrap();
    for n in 0..FLOOD {
        info!(n, "line");
    }
    handle.flush(Duration::from_secs(20)).unwrap();
}

fn check_flushed(name: &'static str) {
    let finished = run(name);
    assert_eq!(
        (finished.code, finished.lines.len() as u64),
        (Some(0), FLOOD)
    );
}

const THREADS: usize = 8;
const LINES: u64 = 125_000;

/// The queue has room for all of them, however slow the reader is: none may be missing.
fn million() {
    let handle = init(json().queue_bytes(1 << 28)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (0..LINES).for_each(|n| info!(thread, n, "line")));
        }
    });
    handle.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(handle.stats().dropped, 0);
}

fn check_million(name: &'static str) {
    let mut child = start(name, Stdio::piped(), Stdio::inherit());
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let mut next = [0; THREADS];
    for line in output.lines() {
        let line = line.unwrap();
        let (thread, n) = thread_and_number(&line).unwrap_or_else(|| panic!("torn: {line}"));
        assert_eq!(n, next[thread], "missing, twice or out of order: {line}");
        next[thread] += 1;
    }
    assert_eq!((child.exit(), next), (Some(0), [LINES; THREADS]));
}

/// Of a whole line of [`million`], byte by byte; a JSON parser would take most of the time.
fn thread_and_number(line: &str) -> Option<(usize, u64)> {
    let rest = line.strip_prefix("{\"timestamp\":\"2")?.get(25..)?;
    let fixed = "Z\",\"level\":\"INFO\",\"message\":\"line\",\"target\":\"process\",\"thread\":";
    let (thread, n) = rest.strip_prefix(fixed)?.split_once(",\"n\":")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let n = n.strip_suffix('}').filter(|n| digits(n))?;
    Some((thread.parse().ok()?, n.parse().ok()?))
}

fn log_crate() {
    let handle = init(json()).unwrap();
    work("run-1").sync_scope(|| log::warn!(target: "third::party", "from log {}", 1));
    log::debug!("hidden");
    handle.set_level("third=trace,off".parse().unwrap());
    log::trace!(target: "third::party", "traced");
    log::error!(target: "other", "hidden");
}

#[cfg(feature = "log")]
fn check_log_crate(name: &'static str) {
    let lines = run(name).lines;
    assert_eq!(lines.len(), 2, "{lines:?}");
    let first = &lines[0];
    assert_eq!(
        (&first["level"], &first["target"]),
        (&"WARN".into(), &"third::party".into())
    );
    assert_eq!(
        (&first["message"], &first["bot"]),
        (&"from log 1".into(), &"a".into())
    );
    assert!(first.get("log.target").is_none() && first.get("log.line").is_none());
    assert_eq!(lines[1]["message"], "traced");
}

#[cfg(not(feature = "log"))]
fn check_log_crate(name: &'static str) {
    assert!(run(name).lines.is_empty());
}

fn level() {
    let handle = init(json()).unwrap();
    let log = || tracing::debug!("debug");
    log();
    std::thread::spawn(log).join().unwrap();
    handle.set_level("DEBUG".parse().unwrap());
    log();
    std::thread::spawn(log).join().unwrap();
    handle.set_level("ERROR".parse().unwrap());
    log();
    error!("end");
}

fn check_level(name: &'static str) {
    assert_eq!(run(name).lines.len(), 3);
}
