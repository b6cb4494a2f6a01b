//! What only a process of its own can show: signals, exit codes, the last lines of the log.
//!
//! The process is this test binary itself, told by a variable to be the service.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use infra::{BoxError, Component, Infrastructure, Signal};

const ROLE: &str = "DESK_PROCESS_TEST_ROLE";

struct Sluggish;

impl Component for Sluggish {
    fn name(&self) -> &str {
        "sluggish"
    }
    fn stop(&self) -> infra::core::BoxFuture<'_, Result<(), BoxError>> {
        println!("stopping");
        Box::pin(std::future::pending())
    }
}

/// The service: says `ready`, waits for a signal, shuts down.
#[test]
fn service() {
    let Ok(role) = std::env::var(ROLE) else {
        return; // only when started by another test
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let builder = Infrastructure::builder()
            .process_environment()
            .log(|log| log);
        let builder = match role.as_str() {
            "sluggish" => builder.component(Sluggish),
            _ => builder,
        };
        let infra = builder.start().await.unwrap();
        println!("ready");
        if role == "dropped" {
            return;
        }
        let signal = infra.until_signal().await;
        println!("asked by {}", signal.as_str());
        let report = infra.shutdown().await;
        println!("clean {}", report.is_clean());
    });
    std::process::exit(if role == "dropped" { 0 } else { 7 });
}

/// A service in a process of its own, killed when the test ends.
struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Service {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut service = Service { child, output };
        service.read_until("ready");
        service
    }

    fn read_until(&mut self, wanted: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.output.read_line(&mut line).unwrap() > 0,
                "ended before `{wanted}`"
            );
            if line.contains(wanted) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn trap_43_each_of_the_two_signals_asks_for_an_orderly_end() {
    for (name, shown) in [("INT", "SIGINT"), ("TERM", "SIGTERM")] {
        let mut service = Service::start("plain");
        service.signal(name);
        assert_eq!(
            service.read_until("asked by").trim(),
            format!("asked by {shown}")
        );
        service.read_until("clean true");
        assert_eq!(service.exit_code(), 7);
    }
}

#[test]
fn trap_43_the_second_signal_ends_the_process_at_once_with_its_own_code() {
    for (name, signal) in [("INT", Signal::Interrupt), ("TERM", Signal::Terminate)] {
        let mut service = Service::start("sluggish");
        service.signal("TERM");
        service.read_until("stopping");
        let began = std::time::Instant::now();
        service.signal(name);
        assert_eq!(service.exit_code(), signal.exit_code());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn trap_41_the_log_is_last_and_has_the_lines_of_the_shutdown() {
    let mut service = Service::start("plain");
    service.signal("TERM");
    let mut rest = String::new();
    service.output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("infrastructure_shutting_down"), "{rest}");
    assert!(rest.contains("infrastructure_shutdown_complete"), "{rest}");
}

#[test]
fn trap_45_dropped_without_shutdown_warns() {
    let mut service = Service::start("dropped");
    let mut rest = String::new();
    service.output.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("infrastructure_dropped_without_shutdown"),
        "{rest}"
    );
    assert_eq!(service.exit_code(), 0);
}
