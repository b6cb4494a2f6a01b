//! The trading desk as its users run it: a process of its own, killed and started again, on a
//! server that dies as well. Whatever happens, the digest is that of an undisturbed run on memory.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};

/// Short enough to be killed twenty times, with limits so tight that halts are raised and cleared.
const TERMS: [&str; 6] = ["--days", "90", "--halt-at", "2", "--clear-after", "4"];
/// A run that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The example, built once per test process with the features of the whole workspace, so that a
/// test run that has built it already builds nothing again.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args(["build", "--quiet", "--workspace", "--all-features"])
            .args(["--example", "trading_desk"])
            .status();
        assert!(built.unwrap().success(), "the example does not build");
        let tests = std::env::current_exe().unwrap();
        let profile = tests.ancestors().nth(2).unwrap();
        profile.join("examples/trading_desk")
    })
}

/// One way to run the desk.
struct Desk {
    directory: PathBuf,
    redis: Option<String>,
    arguments: Vec<String>,
}

impl Desk {
    fn memory() -> Self {
        let directory = std::env::temp_dir().join(unique_name("desk"));
        std::fs::create_dir_all(&directory).unwrap();
        Desk {
            directory,
            redis: None,
            arguments: TERMS.map(str::to_owned).to_vec(),
        }
    }

    /// A run of its own on the server at `url`.
    fn redis(url: &str) -> Self {
        let name = unique_name("d").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let start = name.len().saturating_sub(32);
        let mut desk = Desk::memory().with(&["--run-id", &name[start..]]);
        desk.redis = Some(url.to_owned());
        desk
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    fn run_id(&self) -> &str {
        let at = self.arguments.iter().position(|a| a == "--run-id").unwrap();
        &self.arguments[at + 1]
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        // A directory of its own: no `.env` file, and a place for the plot.
        command.current_dir(&self.directory).args(&self.arguments);
        for name in [
            "STATE_BACKEND",
            "EVENT_BACKEND",
            "LOG_LEVEL",
            "LOG_FORMAT",
            "INFRA_ENV",
        ] {
            command.env_remove(name);
        }
        if let Some(url) = &self.redis {
            command.envs([("STATE_BACKEND", "redis"), ("EVENT_BACKEND", "redis")]);
            command
                .env("STATE_REDIS_URL", url)
                .env("EVENT_REDIS_URL", url);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end and returns the digest.
    fn digest(&self, more: &[&str]) -> String {
        let output = self.finish(more);
        digest_of(&output)
    }

    fn finish(&self, more: &[&str]) -> Output {
        let output = self.command().args(more).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        output
    }

    /// Starts, and kills with SIGKILL after `delay`.
    fn kill_after(&self, delay: Duration) {
        let mut child = self
            .command()
            .arg("--resume")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn digest_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let digest = text
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("digest "));
    let digest = digest.unwrap_or_else(|| panic!("no digest in {text}"));
    assert_eq!(digest.len(), 64);
    digest.to_owned()
}

/// What every run under these terms must come to.
fn expected() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| Desk::memory().with(&["--fault-rate", "0"]).digest(&[]))
}

/// A number below `limit` that differs from run to run.
fn random(limit: u128) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    (u128::from(RandomState::new().hash_one(limit)) % limit) as u64
}

#[test]
fn digest_is_the_same_on_memory_and_redis_at_any_fault_rate() {
    assert_eq!(
        Desk::memory().with(&["--fault-rate", "0.2"]).digest(&[]),
        expected()
    );
    let redis = Desk::redis(&shared_redis_url());
    assert_eq!(redis.digest(&["--fault-rate", "0.2"]), expected());
    // A run that is done is done: resuming it does nothing but report it.
    assert_eq!(redis.digest(&["--resume"]), expected());
}

#[test]
fn a_new_run_of_the_same_name_meets_nothing_of_the_old_one() {
    let redis = Desk::redis(&shared_redis_url());
    assert_ne!(redis.digest(&["--seed", "7"]), expected());
    assert_eq!(redis.digest(&[]), expected());
}

#[test]
fn killed_at_ten_random_points_and_resumed_it_comes_to_the_same_digest() {
    let url = shared_redis_url();
    let began = Instant::now();
    // With nothing to resume it starts at the beginning.
    assert_eq!(Desk::redis(&url).digest(&["--resume"]), expected());
    let whole = began.elapsed();
    for _ in 0..10 {
        let desk = Desk::redis(&url).with(&["--fault-rate", "0.1"]);
        let points = [random(whole.as_millis()), random(whole.as_millis())];
        for point in points {
            desk.kill_after(Duration::from_millis(point));
        }
        assert_eq!(
            desk.digest(&["--resume"]),
            expected(),
            "killed after {points:?} ms"
        );
    }
}

#[test]
fn a_run_is_resumed_under_its_own_terms_only() {
    let redis = Desk::redis(&shared_redis_url());
    redis.finish(&[]);
    let output = redis
        .command()
        .args(["--resume", "--seed", "7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn server_killed_and_restarted_under_load_loses_nothing() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let desk = Desk::redis(&server.url());
    let mut child = desk.command().spawn().unwrap();
    let ledger = format!("desk/{}:ledger", desk.run_id());
    let mut lost = 0;
    for day in [15, 40, 65] {
        let mut client = server.client();
        let until = Instant::now() + PATIENCE;
        while next_day(&client.text(&["GET", &ledger])) < day {
            assert!(
                Instant::now() < until,
                "the desk stands still before day {day}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
        std::thread::sleep(Duration::from_millis(300));
        server.restart();
        lost += 1;
    }
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        stderr.read_to_string(&mut errors).unwrap();
        errors
    });
    let output = child.wait_with_output().unwrap();
    let errors = reader.join().unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(digest_of(&output), expected());
    // Three connections: state, publishing, subscriptions. Each says once that it is lost, and
    // once that it is back.
    let said = |word: &str| errors.lines().filter(|line| line.contains(word)).count();
    assert!(
        (lost..=3 * lost).contains(&said("lost, reconnecting")),
        "{errors}"
    );
    assert_eq!(said("lost, reconnecting"), said("restored"), "{errors}");
}

/// How far the stored ledger is; 0 without one.
fn next_day(stored: &str) -> u64 {
    let ledger: serde_json::Value = serde_json::from_str(stored).unwrap_or_default();
    ledger["next_day"].as_u64().unwrap_or(0)
}

#[test]
fn every_line_about_a_node_carries_the_id_of_its_execution() {
    let mut desk = Desk::memory();
    desk.arguments = ["--days", "3", "--run-id", "traced"]
        .map(str::to_owned)
        .to_vec();
    let mut command = desk.command();
    let command = command.envs([("LOG_FORMAT", "json"), ("LOG_LEVEL", "INFO")]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let nodes: Vec<_> = lines.filter(|line| line.get("node_id").is_some()).collect();
    // Three days, three tickers that trade, five nodes, started and completed.
    assert_eq!(nodes.len(), 3 * 3 * 5 * 2, "{text}");
    for line in nodes {
        let id = line["execution_id"].as_str().unwrap();
        assert!(id.starts_with("traced/"), "{line}");
        assert_eq!(line["correlation_id"], line["execution_id"]);
        assert!(id.contains(line["bot_id"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn wrong_settings_end_with_one_report_and_code_two() {
    let desk = Desk::memory();
    let output = desk
        .command()
        .envs([("STATE_BACKEND", "reddis"), ("LOG_LEVEL", "infoo")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("STATE_BACKEND") && errors.contains("LOG_LEVEL"),
        "{errors}"
    );
    assert!(errors.contains("did you mean `redis`?"), "{errors}");
}

#[test]
fn an_unreachable_server_ends_with_its_masked_url_and_code_one() {
    let output = Desk::redis("redis://app:canary@127.0.0.1:1")
        .command()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("redis://app:***@127.0.0.1:1"), "{errors}");
    assert!(
        errors.contains("refused") && !errors.contains("canary"),
        "{errors}"
    );
    assert!(!errors.contains("panicked"), "{errors}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_or_a_closed_pipe_ends_without_a_panic() {
    let desk = Desk::memory();
    let full = desk
        .command()
        .stdout(File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&full.stderr);
    assert!(
        errors.contains("cannot be written") && !errors.contains("panicked"),
        "{errors}"
    );

    let mut child = desk.command().spawn().unwrap();
    drop(child.stdout.take());
    let closed = child.wait_with_output().unwrap();
    assert!(closed.status.success());
    assert!(!String::from_utf8_lossy(&closed.stderr).contains("panicked"));
}
