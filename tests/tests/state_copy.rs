//! State moves between backends: memory, a file, Redis, Valkey, and back; killed on the way, and
//! with servers that go away.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::env;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use infra_state::copy::{Copy, Dual, DualOptions, OnConflict, Sample};
use infra_state::{StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::servers::{RedisConfig, RedisServer, valkey_program};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const CHILD: &str = "INFRA_TEST_COPY";

async fn connect(backend: &str, url: &str) -> StateStore {
    let store = StoreOptions::new()
        .read_timeout(Duration::from_secs(5))
        .write_timeout(Duration::from_secs(5))
        .bulk_timeout(Duration::from_secs(20));
    let options = StateOptions::new().url(url).store(store);
    create_state_store(backend, options).await.unwrap()
}

fn valkey(config: RedisConfig) -> RedisServer {
    RedisServer::start(config.program(valkey_program()))
}

/// Values of every kind: text, binary, empty, long, expiring, in namespaces.
async fn fill(store: &StateStore) {
    let entries: Vec<_> = (0..1500).map(|n| (format!("plain:{n}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    let binary: Vec<u8> = (0..=255).collect();
    store.set_bytes("binary", binary).await.unwrap();
    store
        .set_bytes("subscribe", &b"subscribe"[..])
        .await
        .unwrap();
    store.set_bytes("empty", Vec::new()).await.unwrap();
    store.set_bytes("long", vec![b'x'; 300_000]).await.unwrap();
    store.set("ключ*?[a]", &"значение").await.unwrap();
    for n in 1..=50 {
        let key = format!("expiring:{n}");
        store.set_with(&key, &n, MINUTE * 10 * n).await.unwrap();
    }
    let bot = store.namespaced("bots").namespaced("alpha");
    bot.set("position", &7).await.unwrap();
}

/// All there is, lives in steps of ten minutes.
async fn contents(store: &StateStore) -> Vec<(String, Vec<u8>, Option<u64>)> {
    let mut all = Vec::new();
    for key in store.scan("").collect().await.unwrap() {
        let entry = store.get_entry(&key).await.unwrap().unwrap();
        let steps = entry.ttl.map(|left| left.as_secs().div_ceil(600));
        all.push((key, entry.value.to_vec(), steps));
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m01_memory_to_file_to_redis_to_valkey_and_back_is_identical() {
    let folder = TempDir::new().unwrap();
    let redis = RedisServer::start(RedisConfig::new());
    let valkey = valkey(RedisConfig::new());
    let first = StateStore::memory();
    fill(&first).await;
    let expected = contents(&first).await;
    let file = StateOptions::new().path(folder.path().join("state.redb"));
    let mut from = first;
    for (name, to) in [
        ("file", create_state_store("file", file).await.unwrap()),
        ("redis", connect("redis", &redis.url()).await),
        ("valkey over fred", connect("fred", &valkey.url()).await),
        (
            "redis over fred",
            connect("fred", &format!("{}/1", redis.url())).await,
        ),
        (
            "valkey",
            connect("redis", &format!("{}/1", valkey.url())).await,
        ),
        ("memory", StateStore::memory()),
    ] {
        let copy = Copy::new(&from, &to);
        let report = copy.run().await.unwrap();
        assert_eq!(report.copied as usize, expected.len(), "{name}: {report}");
        assert_eq!(contents(&to).await, expected, "{name}");
        let verified = copy.verify(Sample::All).await.unwrap();
        assert!(verified.is_clean(), "{name}: {verified}");
        assert_eq!(copy.run().await.unwrap().copied, 0, "{name}, again");
        let mut lines = Vec::new();
        copy.export(&mut lines).await.unwrap();
        let imported = copy.import(&mut &lines[..]).await.unwrap();
        let unchanged = imported.unchanged as usize;
        assert_eq!(unchanged, expected.len(), "{name}: {imported}");
        from = to;
    }
}

/// Not a test of its own: what `m02` starts as a process and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_copies_until_it_is_killed() {
    let Ok(places) = env::var(CHILD) else {
        return;
    };
    let places: Vec<&str> = places.split(' ').collect();
    let from = connect("redis", places[0]).await;
    let to = connect("fred", places[1]).await;
    let copy = Copy::new(&from, &to).rate_limit(3_000);
    copy.checkpoint(places[2]).run().await.unwrap();
}

fn child(from: &RedisServer, to: &RedisServer, checkpoint: &Path) -> Child {
    let places = format!("{} {} {}", from.url(), to.url(), checkpoint.display());
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_copies_until_it_is_killed"])
        .env(CHILD, places)
        .spawn()
        .unwrap()
}

fn size(server: &RedisServer) -> i64 {
    server.client().text(&["DBSIZE"]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m02_a_copy_killed_three_times_goes_on_and_ends_identical() {
    let folder = TempDir::new().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let redis = RedisServer::start(RedisConfig::new());
    let valkey = valkey(RedisConfig::new());
    let from = connect("redis", &redis.url()).await;
    fill(&from).await;
    let entries: Vec<_> = (0..10_000).map(|n| (format!("more:{n}"), n)).collect();
    from.set_many(&entries).await.unwrap();
    for kill in 1..=3 {
        let mut copying = child(&redis, &valkey, &checkpoint);
        let started = Instant::now();
        while size(&valkey) < kill * 2_500 {
            let there = size(&valkey);
            assert!(started.elapsed() < MINUTE, "round {kill}: {there}");
            assert!(copying.try_wait().unwrap().is_none(), "ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        copying.kill().unwrap();
        copying.wait().unwrap();
    }
    // Changed after it was copied, before the copy goes on.
    from.set("more:1", &"newer").await.unwrap();
    let to = connect("redis", &valkey.url()).await;
    let copy = Copy::new(&from, &to).on_conflict(OnConflict::Overwrite);
    let report = copy.clone().checkpoint(&checkpoint).run().await.unwrap();
    assert!(report.resumed > 5_000, "{report}");
    assert!(report.copied > 0 && report.is_complete(), "{report}");
    let verified = copy.verify(Sample::All).await.unwrap();
    assert!(verified.is_clean(), "{verified}");
    assert_eq!(contents(&to).await, contents(&from).await);
    assert!(!checkpoint.exists());
}

/// The second server dies and comes back, and calls notice nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_a_switch_without_a_pause_although_the_second_server_dies() {
    let redis = RedisServer::start(RedisConfig::new());
    let mut valkey = valkey(RedisConfig::new().append_only());
    let old = connect("redis", &redis.url()).await;
    let new = connect("fred", &valkey.url()).await;
    fill(&old).await;
    let dual = Dual::start(&old, &new, DualOptions::new());
    let store = dual.store();
    for n in 0..100 {
        let key = format!("live:{}", n % 10);
        store.increment(&key, 1).await.unwrap();
    }
    valkey.kill();
    let started = Instant::now();
    let mut calls = 0;
    while dual.stats().errors == 0 {
        assert!(started.elapsed() < MINUTE);
        let asked = Instant::now();
        store.increment("live:0", 1).await.unwrap();
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(3), "it waits for the second");
        calls += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.delete("live:1").await.unwrap();
    let stats = dual.stats();
    assert!(stats.pending > 0 && stats.last_error.is_some(), "{stats:?}");
    valkey.restart();
    let copy = Copy::new(&old, &new).on_conflict(OnConflict::Overwrite);
    copy.run().await.unwrap();
    tokio::time::timeout(MINUTE, dual.drained()).await.unwrap();
    let verified = copy.verify(Sample::All).await.unwrap();
    assert!(verified.is_clean(), "{verified}");
    assert_eq!(new.get::<i64>("live:0").await.unwrap(), Some(10 + calls));
    assert!(!new.exists("live:1").await.unwrap());
    // The other way round, for as long as there may be a way back.
    dual.stop();
    let back = Dual::start(&new, &old, DualOptions::new());
    back.store().set("after", &1).await.unwrap();
    tokio::time::timeout(MINUTE, back.drained()).await.unwrap();
    assert_eq!(old.get::<i64>("after").await.unwrap(), Some(1));
}
