//! Outputs that are closed or full, signals, and what a pipe gets to see.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use infra_tests::desk::Desk;

/// A device that fails each write with "no space left".
fn full() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// The writing end of a pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    pipe.into()
}

#[test]
fn full_disk_on_standard_output_is_an_error_and_no_panic() {
    let finished = Desk::new(5).stdout(full()).run();
    finished.assert_code(1);
    assert!(
        finished.stderr.contains("No space left"),
        "{}",
        finished.stderr
    );
}

#[test]
fn closed_pipe_on_standard_output_ends_quietly() {
    let finished = Desk::new(5).stdout(closed_pipe()).run();
    finished.assert_code(0);
}

#[test]
fn logs_that_nobody_takes_neither_stop_nor_slow_the_run() {
    let expected = Desk::new(60).run();
    for output in [full(), closed_pipe()] {
        let finished = Desk::new(60).env("LOG_LEVEL", "DEBUG").stderr(output).run();
        assert_eq!(finished.digest(), expected.digest());
        assert!(
            finished.took < Duration::from_secs(60),
            "{:?}",
            finished.took
        );
    }
}

#[test]
fn both_outputs_full_end_with_an_error() {
    Desk::new(5)
        .stdout(full())
        .stderr(full())
        .run()
        .assert_code(1);
}

#[test]
fn pipe_gets_the_table_and_the_digest_and_no_progress_bar() {
    let finished = Desk::new(20).run();
    finished.assert_code(0);
    assert!(
        !finished.stdout.contains(['\r', '\u{1b}']),
        "{:?}",
        finished.stdout
    );
    assert!(
        !finished.stderr.contains(['\r', '\u{1b}']),
        "{:?}",
        finished.stderr
    );
    assert_eq!(finished.digest().len(), 64);
}

#[test]
fn unwritable_plot_is_an_error_after_the_results() {
    let finished = Desk::new(5).arg("--plot").arg("/dev/full").run();
    finished.assert_code(1);
    assert!(finished.stdout.contains("\ndigest "), "{}", finished.stdout);
    assert!(finished.stderr.contains("/dev/full"), "{}", finished.stderr);
}

#[test]
fn log_lines_are_json_with_the_execution_s_id() {
    let finished = Desk::new(5)
        .env("LOG_LEVEL", "INFO")
        .env("LOG_FORMAT", "json")
        .run();
    finished.assert_code(0);
    let mut with_id = 0;
    for line in finished.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        with_id += u32::from(
            line["correlation_id"]
                .as_str()
                .is_some_and(|id| id.contains('/')),
        );
    }
    assert!(with_id > 25, "{with_id} lines carry the id of an execution");
}

/// Whether the process has said what it does when it is asked to end; before, that kills it.
fn minds_termination(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught & (1 << (15 - 1)) != 0
}

#[test]
fn termination_ends_the_run_in_order() {
    // Long enough to be interrupted on any machine.
    let desk = Desk::new(3270)
        .arg("--fault-rate")
        .arg("0.9")
        .env("LOG_LEVEL", "INFO")
        .spawn();
    let end = Instant::now() + Duration::from_secs(60);
    while !minds_termination(desk.pid()) {
        assert!(Instant::now() < end, "it never minds the signal");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -TERM {}", desk.pid()))
        .status();
    assert!(kill.unwrap().success());
    let finished = desk.finish();
    finished.assert_code(1);
    assert!(finished.stderr.contains("SIGTERM"), "{}", finished.stderr);
    assert!(
        finished.took < Duration::from_secs(20),
        "{:?}",
        finished.took
    );
}

#[test]
fn trap_38_show_config_prints_what_is_in_effect_and_why_without_secrets_and_trades_nothing() {
    let finished = Desk::new(3270)
        .arg("--show-config")
        .file(".env", "# ours\nRETRY_MAX_ATTEMPTS=4\n")
        .env("STATE_BACKEND", "redis")
        .env("STATE_REDIS_URL", "redis://app:canary@127.0.0.1:1/0")
        .run();
    finished.assert_code(0);
    let row = |name: &str| {
        let mut lines = finished.stdout.lines();
        let line = lines.find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        row("STATE_BACKEND"),
        "STATE_BACKEND redis environment restart"
    );
    assert!(row("STATE_REDIS_URL").contains("redis://app:***@127.0.0.1:1/0 environment"));
    assert!(row("RETRY_MAX_ATTEMPTS").ends_with(".env:2 restart"));
    assert!(row("LOG_LEVEL").ends_with(" yes"));
    assert!(!finished.stdout.contains("canary") && !finished.stdout.contains("digest"));
    let wrong = Desk::new(5)
        .arg("--show-config")
        .env("LOG_LEVEL", "loud")
        .run();
    wrong.assert_code(2);
    assert!(wrong.stderr.contains("LOG_LEVEL"), "{}", wrong.stderr);
}
