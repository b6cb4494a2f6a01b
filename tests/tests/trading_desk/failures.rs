//! Bad settings, servers that are not there, stored garbage: one message, an exit code, no panic.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use infra_tests::desk::{Desk, Finished};
use infra_tests::servers::{RedisConfig, RedisServer, free_port};

/// Twice the connect timeout: it does not wait twice.
const CONNECT: Duration = Duration::from_secs(2 * 5);

fn start_with(url: &str) -> Finished {
    Desk::new(5).redis(url).run()
}

/// One message within the connect timeout that names the place, the cause and no password.
fn assert_unreachable(finished: &Finished, place: &str, causes: &[&str]) {
    finished.assert_code(1);
    let text = &finished.stderr;
    assert!(finished.took < CONNECT, "{:?}: {text}", finished.took);
    assert!(text.contains(place), "{place} is not named: {text}");
    assert!(text.contains("***") && !text.contains("s3cret"), "{text}");
    assert!(
        causes.iter().any(|cause| text.contains(cause)),
        "none of {causes:?}: {text}"
    );
    assert!(finished.stdout.is_empty(), "{}", finished.stdout);
}

#[test]
fn refused_connection_is_named() {
    let port = free_port();
    let finished = start_with(&format!("redis://app:s3cret@127.0.0.1:{port}"));
    assert_unreachable(&finished, &format!("127.0.0.1:{port}"), &["refused"]);
}

#[test]
fn unknown_host_is_named() {
    // No name server is asked for a name with an empty part.
    let finished = start_with("redis://app:s3cret@no..such..host:6379");
    assert_unreachable(&finished, "no..such..host", &["look up"]);
}

#[test]
fn wrong_password_is_named() {
    let server = RedisServer::start(RedisConfig::new().password("right"));
    let finished = start_with(&server.url_for("default", "s3cret"));
    assert_unreachable(
        &finished,
        &server.port().to_string(),
        &["password", "WRONGPASS"],
    );
}

#[test]
fn silent_server_is_given_up_after_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let finished = start_with(&format!("redis://app:s3cret@127.0.0.1:{port}"));
    assert_unreachable(&finished, &port.to_string(), &["timed out", "within"]);
}

#[test]
fn stopped_server_is_given_up_after_the_connect_timeout() {
    let server = RedisServer::start(RedisConfig::new().password("s3cret"));
    server.stop();
    let finished = start_with(&server.url());
    server.cont();
    assert_unreachable(
        &finished,
        &server.port().to_string(),
        &["timed out", "within"],
    );
}

#[test]
fn server_of_another_protocol_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let finished = start_with(&format!("redis://app:s3cret@127.0.0.1:{port}"));
    assert_unreachable(&finished, &port.to_string(), &["cannot connect"]);
}

#[test]
fn tls_to_a_server_without_tls_is_named() {
    let server = RedisServer::start(RedisConfig::new().password("s3cret"));
    let url = server.url().replace("redis://", "rediss://");
    assert_unreachable(&start_with(&url), &server.port().to_string(), &["TLS"]);
}

#[test]
fn certificate_of_an_unknown_authority_is_named() {
    let server = RedisServer::start(RedisConfig::new().password("s3cret").tls());
    let finished = start_with(&server.tls_url());
    assert_unreachable(&finished, "localhost", &["TLS", "certificate"]);
}

#[test]
fn every_wrong_setting_is_in_one_report() {
    let finished = Desk::new(5)
        .env("STATE_BACKEND", "rdis")
        .env("LOG_LEVEL", "loud")
        .env("RETRY_MAX_ATTEMPTS", "many")
        .env("EVENT_REDIS_URL", "http://app:s3cret@127.0.0.1")
        .run();
    finished.assert_code(2);
    let text = &finished.stderr;
    for word in [
        "STATE_BACKEND",
        "`redis`",
        "LOG_LEVEL",
        "RETRY_MAX_ATTEMPTS",
        "EVENT_REDIS_URL",
    ] {
        assert!(text.contains(word), "no {word}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn authority_whose_file_is_not_there_is_a_wrong_setting() {
    let finished = start_with("rediss://app:s3cret@127.0.0.1:1?ca_file=/no/such/file.pem");
    finished.assert_code(2);
    let text = &finished.stderr;
    for word in ["problem", "STATE_REDIS_URL", "/no/such/file.pem"] {
        assert!(text.contains(word), "no {word}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn wrong_line_of_a_settings_file_is_named_with_its_number() {
    let file = "# settings\nLOG_LEVEL=INFO\nSTATE_BACKED=redis\nRETRY_MAX_ATTEMPTS=0\n";
    let finished = Desk::new(5).file(".env", file).run();
    finished.assert_code(2);
    let text = &finished.stderr;
    assert!(
        text.contains(".env:3") && text.contains("STATE_BACKED"),
        "{text}"
    );
    assert!(text.contains("STATE_BACKEND"), "no suggestion: {text}");
    assert!(
        text.contains(".env:4") && text.contains("RETRY_MAX_ATTEMPTS"),
        "{text}"
    );
}

#[test]
fn garbage_in_the_state_is_named_by_key_and_never_shown() {
    let server = RedisServer::start(RedisConfig::new());
    let desk = || Desk::new(5).redis(&server.url()).arg("--resume").run();
    desk().assert_code(0);
    assert_eq!(
        server
            .client()
            .text(&["SET", "desk/main:ledger", "{garbage s3cret"]),
        "OK"
    );
    let finished = desk();
    finished.assert_code(1);
    assert!(finished.stderr.contains("ledger"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("s3cret"), "{}", finished.stderr);
}

#[test]
fn key_of_another_type_is_named() {
    let server = RedisServer::start(RedisConfig::new());
    assert_eq!(
        server
            .client()
            .text(&["RPUSH", "desk/main:terms", "s3cret"]),
        "1"
    );
    let finished = Desk::new(5).redis(&server.url()).arg("--resume").run();
    finished.assert_code(1);
    assert!(finished.stderr.contains("terms"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("s3cret"), "{}", finished.stderr);
}

#[test]
fn resume_under_other_terms_is_refused() {
    let server = RedisServer::start(RedisConfig::new());
    Desk::new(5).redis(&server.url()).run().assert_code(0);
    let finished = Desk::new(6).redis(&server.url()).arg("--resume").run();
    finished.assert_code(2);
    assert!(finished.stderr.contains("--resume"), "{}", finished.stderr);
}
