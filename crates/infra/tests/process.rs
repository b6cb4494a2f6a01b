//! What only a process of its own can show: signals, exit codes, the last lines of the log.
//!
//! The process is this test binary itself, told by a variable to be the service.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use infra::config::Setting;
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

const RELOADED: &[Setting] = &[
    Setting::boolean("APP_DRY_RUN")
        .default("false")
        .reloadable()
        .doc("Send no orders."),
    Setting::integer("APP_BOTS", 1, 100)
        .default("1")
        .doc("How many bots there are."),
];

/// Logs from one call site, and shows the settings, for ever.
async fn beat(infra: Infrastructure) {
    loop {
        tracing::debug!("ticking");
        let settings = infra.settings();
        let values = &settings.values;
        let (dry, bots) = (values.boolean("APP_DRY_RUN"), values.integer("APP_BOTS"));
        println!("beat dry={} bots={}", dry.unwrap(), bots.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
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
            "reloads" => builder.reload_on_sighup(true).settings(RELOADED),
            _ => builder,
        };
        let infra = builder.start().await.unwrap();
        println!("ready");
        if role == "reloads" {
            infra::core::context::spawn_detached(beat(infra.clone()));
        }
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
    /// What was read while waiting for it to be ready.
    seen: String,
}

impl Service {
    fn start(role: &str) -> Self {
        Service::start_with(role, |command| command)
    }

    fn start_with(role: &str, change: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "service", "--nocapture"]);
        let mut child = change(command.env(ROLE, role))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut service = Service {
            child,
            output,
            seen: String::new(),
        };
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
            self.seen.push_str(&line);
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

#[test]
fn trap_36_sighup_reads_the_files_again_and_the_level_changes_at_existing_call_sites() {
    let directory = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(directory.path().join(".env"), text).unwrap();
    write("LOG_LEVEL=WARNING\nAPP_DRY_RUN=no\n");
    let mut service = Service::start_with("reloads", |c| {
        c.current_dir(&directory).env_remove("LOG_LEVEL")
    });
    assert_quiet(&mut service);

    write("LOG_LEVEL=DEBUG\nAPP_DRY_RUN=yes\nAPP_BOTS=7\n");
    service.signal("HUP");
    let told = service.read_until("settings_reloaded");
    assert!(told.contains("changed=APP_DRY_RUN,LOG_LEVEL"), "{told}");
    assert!(told.contains("needs_restart=APP_BOTS"), "{told}");
    service.read_until("ticking");
    service.read_until("beat dry=true bots=1");

    write("LOG_LEVEL=OFF\nAPP_DRY_RUN=perhaps\n");
    service.signal("HUP");
    let told = service.read_until("settings_not_reloaded");
    assert!(
        told.contains("APP_DRY_RUN") && told.contains(".env:2"),
        "{told}"
    );
    service.read_until("ticking");
    service.read_until("beat dry=true bots=1");

    write("LOG_LEVEL=ERROR\n");
    service.signal("HUP");
    service.read_until("beat dry=false bots=1");
    assert_quiet(&mut service);
    service.signal("TERM");
    service.read_until("clean true");
}

/// Several beats without a line of the log between them.
fn assert_quiet(service: &mut Service) {
    let (mut beats, mut noise) = (0, 0);
    while beats < 5 {
        let mut line = String::new();
        assert!(service.output.read_line(&mut line).unwrap() > 0);
        let quiet = line.starts_with("beat");
        beats = if quiet { beats + 1 } else { 0 };
        noise += usize::from(!quiet);
        assert!(noise < 1000, "the log does not become quiet: {line}");
    }
}

#[test]
fn trap_38_what_is_in_effect_and_why_is_logged_at_the_start_without_secrets() {
    let mut service = Service::start_with("plain", |c| {
        let url = "redis://u:canary@127.0.0.1:1";
        c.env("STATE_REDIS_URL", url)
            .env("LOG_FORMAT", "json")
            .env("LOG_LEVEL", "info")
    });
    service.signal("TERM");
    let mut rest = service.seen.clone();
    service.output.read_to_string(&mut rest).unwrap();
    let in_effect: Vec<&str> = rest
        .lines()
        .filter(|l| l.contains("setting_in_effect"))
        .collect();
    assert!(in_effect.len() >= 10, "{rest}");
    let line = |setting: &str| {
        let wanted = format!("\"setting\":\"{setting}\"");
        *in_effect
            .iter()
            .find(|line| line.contains(&wanted))
            .unwrap()
    };
    let url = line("STATE_REDIS_URL");
    assert!(
        url.contains("\"value\":\"redis://u:***@127.0.0.1:1\",\"source\":\"environment\""),
        "{url}"
    );
    let retries = line("RETRY_MAX_ATTEMPTS");
    assert!(
        retries.contains("\"source\":\"default\",\"reloadable\":false"),
        "{retries}"
    );
    assert!(!rest.contains("canary"), "{rest}");
}

#[cfg(feature = "otel")]
#[test]
fn a_collector_of_the_settings_gets_what_is_logged_until_the_end() {
    use std::io::Write;
    use std::net::TcpListener;

    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = collector.local_addr().unwrap();
    let requests = std::thread::spawn(move || {
        let mut all = String::new();
        // The last line says that everything has ended.
        while !all.contains("infrastructure_shutdown_complete") {
            let (stream, _) = collector.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                all.push_str(&line);
                if let Some(text) = line.strip_prefix("content-length: ") {
                    length = text.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            all.push_str(&String::from_utf8_lossy(&body));
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        all
    });
    let mut service = Service::start_with("plain", |c| {
        let headers = "x-tenant=desk, authorization=Bearer abc";
        c.env("LOG_OTEL_ENDPOINT", format!("http://{address}"))
            .env("LOG_OTEL_HEADERS", headers)
    });
    service.signal("TERM");
    service.read_until("clean true");
    let all = requests.join().unwrap();
    for part in [
        "POST /v1/logs",
        "x-tenant: desk",
        "authorization: Bearer abc",
        "infrastructure_initialized",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
}
