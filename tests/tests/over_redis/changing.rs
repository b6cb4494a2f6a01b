//! Compare-and-swap, transactions and watches on servers that forget, refuse, hang or die.

use std::time::{Duration, Instant};

use infra_core::{Classify, Outcome, context};
use infra_state::{
    Change, Error, ErrorKind, StateOptions, StateStore, StoreOptions, WatchEvent, WatchStream,
    create_state_store,
};
use infra_tests::LATE;
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::BACKEND;

const SECOND: Duration = Duration::from_secs(1);

async fn connect(url: String, limit: Duration) -> StateStore {
    let options = StateOptions::new().url(url).client_name("changing").store(
        StoreOptions::new()
            .read_timeout(limit)
            .write_timeout(limit)
            .bulk_timeout(limit),
    );
    create_state_store(BACKEND, options).await.unwrap()
}

async fn event(watch: &mut WatchStream) -> WatchEvent {
    let event = tokio::time::timeout(20 * SECOND, watch.next()).await;
    event.expect("in time").expect("the watch goes on")
}

/// How many connections of the server track keys.
fn tracking(server: &RedisServer) -> u64 {
    let info = server.client().text(&["INFO", "clients"]);
    let line = info.lines().find(|line| line.contains("tracking_clients"));
    line.unwrap().split(':').nth(1).unwrap().parse().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < 10 * SECOND, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_a_watch_survives_its_connection_and_reports_a_gap() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(server.url(), 10 * SECOND).await;
    store.set("p:a", &1).await.unwrap();
    let mut watch = store.watch("p:").await.unwrap();
    while event(&mut watch).await != WatchEvent::Ready {}
    server.kill();
    let gap = event(&mut watch).await;
    assert!(matches!(gap, WatchEvent::Gap { .. }), "{gap:?}");
    server.restart();
    // Missed by the watch, seen by the baseline that follows.
    server.client().text(&["SET", "p:b", "2"]);
    let mut seen = Vec::new();
    while tracking(&server) == 0 || seen.last() != Some(&WatchEvent::Ready) {
        seen.push(event(&mut watch).await);
    }
    let has = |key: &str| {
        let put = |event: &WatchEvent| matches!(event, WatchEvent::Put { key: k, .. } if k == key);
        seen.iter().any(put)
    };
    assert!(has("p:a") && has("p:b"), "{seen:?}");
    server.client().text(&["SET", "p:c", "3"]);
    loop {
        match event(&mut watch).await {
            WatchEvent::Put { key, .. } if key == "p:c" => break,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s47_dropping_a_watch_frees_the_servers_subscription() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url(), 10 * SECOND).await;
    let watches = [
        store.changes("a").await.unwrap(),
        store.changes("b").await.unwrap(),
    ];
    assert_eq!(tracking(&server), 2);
    drop(watches);
    until("the drop is seen", || tracking(&server) == 0).await;
    let kept = store.changes("").await.unwrap();
    assert_eq!(tracking(&server), 1);
    store.close().await;
    until("the close is seen", || tracking(&server) == 0).await;
    drop(kept);
}

#[tokio::test]
async fn s45_removing_all_keys_is_a_gap() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url(), 10 * SECOND).await;
    let mut changes = store.changes("k").await.unwrap();
    store.set("k1", &1).await.unwrap();
    assert_eq!(changes.next().await, Some(Change::Key("k1".into())));
    server.client().text(&["FLUSHALL"]);
    let change = changes.next().await;
    assert!(matches!(change, Some(Change::Gap(_))), "{change:?}");
}

#[tokio::test]
async fn s45_a_server_that_refuses_to_report_is_a_typed_error() {
    let rule = "bot on >secret ~* +@all -client|tracking";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let store = connect(server.url_for("bot", "secret"), 5 * SECOND).await;
    let error = store.changes("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    store.set("k", &1).await.unwrap();
}

#[tokio::test]
async fn s54_a_watch_of_a_stopped_server_fails_within_its_deadline() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url(), SECOND).await;
    server.stop();
    let asked = Instant::now();
    let error = store.changes("k").await.unwrap_err();
    server.cont();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(asked.elapsed() < SECOND + LATE, "{:?}", asked.elapsed());
}

/// Larger than what a server compares by itself.
fn large(n: usize) -> String {
    format!("{n}{}", "x".repeat(2000))
}

#[tokio::test]
async fn s60_forgotten_scripts_are_not_noticed() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url(), 5 * SECOND).await;
    let mut raw = server.client();
    store.set("k", &large(0)).await.unwrap();
    for n in 1..=20 {
        if n % 3 == 0 {
            raw.text(&["SCRIPT", "FLUSH"]);
        }
        let old = store.get_versioned::<String>("k").await.unwrap().version;
        store
            .compare_and_swap("k", &old, &large(n), None)
            .await
            .unwrap();
        let error = store.compare_and_swap("k", &old, &large(n), None).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
        let both = store.transaction().set("a", &n).set("b", &n).commit().await;
        both.unwrap();
    }
    assert_eq!(store.get::<String>("k").await.unwrap(), Some(large(20)));
    assert_eq!(store.get::<usize>("b").await.unwrap(), Some(20));
}

#[tokio::test]
async fn s58_a_swap_or_transaction_that_fails_changes_nothing() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(server.url(), 5 * SECOND).await;
    for size in [10, 2000] {
        let value = "v".repeat(size);
        store.set("k", &value).await.unwrap();
        store.set("other", &1).await.unwrap();
        let old = store.get_versioned::<String>("k").await.unwrap().version;
        let mut raw = server.client();
        raw.text(&["CONFIG", "SET", "maxmemory", "1"]);
        let errors = [
            store
                .compare_and_swap("k", &old, &"new", None)
                .await
                .map(|_| ()),
            store
                .compare_and_swap_bytes("k", &old, "n", None)
                .await
                .map(|_| ()),
            commit(&store).await,
        ];
        for error in errors {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
            assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        }
        raw.text(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(store.get::<String>("k").await.unwrap(), Some(value));
        assert_eq!(store.get::<i64>("other").await.unwrap(), Some(1));
        raw.text(&["DEL", "k"]);
        raw.text(&["RPUSH", "k", "canary"]);
        let error = store.compare_and_swap("k", &old, &"new", None).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
        assert_eq!(raw.text(&["LLEN", "k"]), "1");
        raw.text(&["DEL", "k"]);
    }
}

async fn commit(store: &StateStore) -> Result<(), Error> {
    let both = store.transaction().set("other", &2).set("k", &"new");
    both.commit().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_swaps_and_transactions_of_a_stopped_server_are_unknown() {
    let server = RedisServer::start(RedisConfig::new());
    let limit = 3 * SECOND;
    let store = connect(server.url(), limit).await;
    store.set("k", &1).await.unwrap();
    let old = store.get_versioned::<i64>("k").await.unwrap().version;
    server.stop();
    let asked = Instant::now();
    let (swap, both, read) = tokio::join!(
        store.compare_and_swap("k", &old, &2, None),
        commit(&store),
        store.get_versioned::<i64>("k"),
    );
    let took = asked.elapsed();
    server.cont();
    // None waits twice, nor for another.
    assert!(took >= limit && took < 2 * limit, "{took:?}");
    let errors = [
        (swap.unwrap_err(), Outcome::Unknown),
        (both.unwrap_err(), Outcome::Unknown),
        (read.unwrap_err(), Outcome::NotApplied),
    ];
    for (error, outcome) in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(error.outcome(), outcome, "{error}");
    }
}

/// Whatever is acknowledged is there; what is unknown is there at most once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_swaps_through_a_restart_lose_nothing() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(server.url(), 5 * SECOND).await;
    store.set("sum", &0_i64).await.unwrap();
    let counters: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            context::spawn(async move { count(&store).await })
        })
        .collect();
    let mut raw = server.client();
    until("some are counted", || {
        raw.text(&["GET", "sum"]).parse::<i64>().unwrap() > 100
    })
    .await;
    server.restart();
    let (mut acknowledged, mut unknown) = (0, 0);
    for counter in counters {
        let (done, lost) = counter.await.unwrap();
        acknowledged += done;
        unknown += lost;
    }
    let sum = store.get::<i64>("sum").await.unwrap().unwrap();
    let bounds = acknowledged..=acknowledged + unknown;
    assert!(bounds.contains(&sum), "{sum} not in {bounds:?}");
}

async fn count(store: &StateStore) -> (i64, i64) {
    let (mut acknowledged, mut unknown) = (0, 0);
    for _ in 0..200 {
        let Ok(found) = store.get_versioned::<i64>("sum").await else {
            continue;
        };
        let next = found.value.unwrap_or_default() + 1;
        match store
            .compare_and_swap("sum", &found.version, &next, None)
            .await
        {
            Ok(_) => acknowledged += 1,
            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
            Err(_) => {}
        }
    }
    (acknowledged, unknown)
}
