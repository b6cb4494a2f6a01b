//! The harness itself, on a real server.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs
)]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use infra_tests::raw::RawClient;
use infra_tests::servers::{
    RedisConfig, RedisServer, free_port, shared_redis_url, unique_name, version_at,
};

#[test]
fn server_answers_and_says_its_version() {
    let server = RedisServer::start(RedisConfig::new());
    assert_eq!(server.client().text(&["PING"]), "PONG");
    let version = version_at(&server.url()).unwrap();
    assert!(
        version.starts_with("Redis ") || version.starts_with("Valkey "),
        "{version}"
    );
}

#[test]
fn append_only_server_keeps_its_keys_over_a_kill() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let port = server.port();
    assert_eq!(server.client().text(&["SET", "kept", "yes"]), "OK");
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(server.client().text(&["GET", "kept"]), "yes");
}

#[test]
fn killed_server_refuses_and_starts_again() {
    let mut server = RedisServer::start(RedisConfig::new());
    server.kill();
    assert!(RawClient::from_url(&server.url()).is_err());
    server.restart();
    assert_eq!(server.client().text(&["PING"]), "PONG");
}

/// Also while the server is down, and none listens there.
#[test]
fn port_is_kept_from_other_processes() {
    let mut server = RedisServer::start(RedisConfig::new());
    server.kill();
    for port in [server.port(), free_port()] {
        // What another process tries first.
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_err(), "{port}");
    }
}

#[test]
fn unread_bytes_are_those_that_a_stopped_server_has_not_seen() {
    let server = RedisServer::start(RedisConfig::new());
    let mut client = server.client();
    assert_eq!(client.text(&["PING"]), "PONG");
    assert_eq!(server.unread(), 0);
    server.stop();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || client.text(&["PING"]));
        let end = Instant::now() + Duration::from_secs(10);
        while server.unread() == 0 {
            assert!(Instant::now() < end, "nothing is on its way");
        }
        assert_eq!(server.unread(), "*1\r\n$4\r\nPING\r\n".len() as u64);
        server.cont();
        assert_eq!(answer.join().unwrap(), "PONG");
    });
    assert_eq!(server.unread(), 0);
}

#[test]
fn stopped_server_answers_only_after_cont() {
    let server = RedisServer::start(RedisConfig::new());
    let mut client = server.client();
    server.stop();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let answer = scope.spawn(move || client.text(&["PING"]));
        std::thread::sleep(Duration::from_millis(150));
        assert!(!answer.is_finished(), "a stopped server answered");
        server.cont();
        assert_eq!(answer.join().unwrap(), "PONG");
    });
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[test]
fn password_and_acl_users_are_asked_for() {
    let server = RedisServer::start(
        RedisConfig::new()
            .password("s3cret")
            .acl_user("app on >word ~app:* &* +@all"),
    );
    assert_eq!(server.client().text(&["PING"]), "PONG");
    let mut app = RawClient::from_url(&server.url_for("app", "word")).unwrap();
    assert_eq!(app.text(&["SET", "app:1", "x"]), "OK");
    assert!(app.text(&["SET", "other", "x"]).starts_with("NOPERM"));
    assert!(RawClient::from_url(&server.url_for("app", "wrong")).is_err());
}

#[test]
fn memory_limit_refuses_writes() {
    let server = RedisServer::start(RedisConfig::new().max_memory(1));
    assert!(
        server
            .client()
            .text(&["SET", "key", "value"])
            .starts_with("OOM")
    );
}

#[test]
fn tls_port_presents_the_made_certificate() {
    let server = RedisServer::start(RedisConfig::new().tls());
    let place = server.tls_url().replace("rediss://", "");
    let output = Command::new("openssl")
        .args([
            "s_client",
            "-verify_return_error",
            "-connect",
            &place,
            "-CAfile",
        ])
        .arg(&server.certificates().ca)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
}

#[test]
fn dropped_server_is_gone_with_its_directory() {
    let server = RedisServer::start(RedisConfig::new());
    let (url, directory) = (server.url(), server.directory().to_owned());
    drop(server);
    assert!(RawClient::from_url(&url).is_err());
    assert!(!directory.exists());
}

#[test]
fn panic_in_a_test_takes_its_server_along() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let result = std::thread::spawn(move || {
        let server = RedisServer::start(RedisConfig::new());
        sender.send(server.url()).unwrap();
        panic!("the test fails");
    })
    .join();
    assert!(result.is_err());
    assert!(RawClient::from_url(&receiver.recv().unwrap()).is_err());
}

/// The other half of the test below; does nothing unless that one starts it.
#[test]
fn hold_a_server_when_told_to() {
    if std::env::var_os("INFRA_TEST_HOLD").is_some() {
        let server = RedisServer::start(RedisConfig::new());
        println!(
            "\nholding {} {}",
            server.url(),
            server.directory().display()
        );
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn killed_process_takes_its_server_along() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_server_when_told_to", "--nocapture"])
        .env("INFRA_TEST_HOLD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let line = lines
        .find_map(|line| line.strip_prefix("holding ").map(str::to_owned))
        .unwrap();
    let (url, directory) = line.split_once(' ').unwrap();
    assert!(RawClient::from_url(url).is_ok());
    process.kill().unwrap();
    process.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while RawClient::from_url(url).is_ok() || Path::new(directory).exists() {
        assert!(Instant::now() < end, "the server outlives its test process");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn shared_server_is_one_per_process() {
    let url = shared_redis_url();
    assert_eq!(url, shared_redis_url());
    let key = unique_name("shared");
    let mut client = RawClient::from_url(&url).unwrap();
    assert_eq!(client.text(&["SET", &key, "1", "EX", "60"]), "OK");
    assert_eq!(client.text(&["DEL", &key]), "1");
}
