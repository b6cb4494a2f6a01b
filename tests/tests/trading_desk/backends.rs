//! One digest, wherever the desk keeps its state, and also when it is killed there.

use std::path::Path;
use std::time::Duration;

use infra_tests::desk::Desk;
use infra_tests::servers::{RedisConfig, RedisServer, valkey_program, version_at};

const DAYS: u32 = 120;

/// Which backend a run stands on, as the environment says it.
enum Backend<'a> {
    Memory,
    File(&'a Path),
    Redis(&'a str),
    Fred(&'a str),
}

impl Backend<'_> {
    fn desk(&self) -> Desk {
        let desk = Desk::new(DAYS);
        match self {
            Backend::Memory => desk,
            Backend::File(path) => desk.file_backend(path),
            Backend::Redis(url) => desk.redis(url),
            Backend::Fred(url) => desk.fred(url),
        }
    }
}

#[test]
fn one_digest_on_memory_file_redis_fred_and_valkey() {
    let expected = Backend::Memory.desk().run();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(RedisConfig::new());
    let valkey = RedisServer::start(RedisConfig::new().program(valkey_program()));
    let version = version_at(&valkey.url()).unwrap();
    assert!(version.starts_with("Valkey"), "{version}");
    let file = folder.path().join("desk.redb");
    for (name, backend) in [
        ("file", Backend::File(&file)),
        ("redis", Backend::Redis(&redis.url())),
        ("redis over fred", Backend::Fred(&redis.url())),
        ("valkey", Backend::Redis(&valkey.url())),
        ("valkey over fred", Backend::Fred(&valkey.url())),
    ] {
        let finished = backend.desk().run();
        assert_eq!(finished.digest(), expected.digest(), "on {name}");
        // The run is there, not only its result.
        let resumed = backend.desk().arg("--resume").run();
        assert_eq!(resumed.digest(), expected.digest(), "on {name}, resumed");
    }
    let stored = redis.client().text(&["GET", "desk/main:ledger"]);
    assert!(stored.contains("next_day"), "kept on the server: {stored}");
}

/// What one client library has written the other goes on with, and the server may die under it.
#[test]
fn a_killed_run_is_resumed_over_the_other_client_library() {
    let expected = Backend::Memory.desk().run();
    let mut redis = RedisServer::start(RedisConfig::new().append_only());
    let url = redis.url();
    for round in 0..4_u64 {
        let backend = match round % 2 {
            0 => Backend::Fred(&url),
            _ => Backend::Redis(&url),
        };
        let desk = backend.desk().arg("--resume").spawn();
        std::thread::sleep(Duration::from_millis(150 + 150 * round));
        if round == 2 {
            redis.restart();
            std::thread::sleep(Duration::from_millis(300));
        }
        desk.kill();
    }
    let finished = Backend::Fred(&url).desk().arg("--resume").run();
    assert_eq!(finished.digest(), expected.digest());
}
