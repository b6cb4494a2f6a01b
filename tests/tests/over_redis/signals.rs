//! What a Redis driver tells about its server, unasked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::HealthCheck;
use infra_redis::RedisOptions;
use infra_state::{
    StateOptions, StateSignal, StateSignals, StateStore, StoreOptions, create_state_store,
};
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::{BACKEND, Connection, Driver};

const SECOND: Duration = Duration::from_secs(1);

async fn connect(server: &RedisServer) -> StateStore {
    let options = StateOptions::new().url(server.url());
    create_state_store(BACKEND, options).await.unwrap()
}

async fn signal(signals: &mut StateSignals) -> StateSignal {
    let signal = tokio::time::timeout(20 * SECOND, signals.next()).await;
    signal.expect("in time").expect("more signals")
}

/// The driver has looked at the server once it has left its marker.
async fn marked(server: &RedisServer) {
    let started = Instant::now();
    while server.client().text(&["EXISTS", "~instance"]) != "1" {
        assert!(started.elapsed() < 10 * SECOND, "no marker");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn risks(store: &StateStore, count: usize) -> Vec<String> {
    let started = Instant::now();
    while store.risks().len() != count {
        assert!(started.elapsed() < 10 * SECOND, "{:?}", store.risks());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.risks()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_empty_is_told() {
    let mut server = RedisServer::start(RedisConfig::new());
    let store = connect(&server).await;
    let mut signals = store.signals();
    store.set("k", &1).await.unwrap();
    marked(&server).await;
    // What it asks last: so it knows of its own marker.
    risks(&store, 1).await;
    for _ in 0..2 {
        server.kill();
        let lost = signal(&mut signals).await;
        assert!(matches!(lost, StateSignal::Lost { .. }), "{lost:?}");
        server.restart();
        assert_eq!(signal(&mut signals).await, StateSignal::Restored);
        let reset = signal(&mut signals).await;
        assert!(matches!(reset, StateSignal::Reset { .. }), "{reset:?}");
    }
    // The marker is nobody's key.
    assert!(store.scan("").collect().await.unwrap().is_empty());
    store.close().await;
    assert_eq!(signals.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_kept_its_data_is_only_lost_and_restored() {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let store = connect(&server).await;
    let mut signals = store.signals();
    marked(&server).await;
    for _ in 0..2 {
        server.kill();
        let lost = signal(&mut signals).await;
        assert!(matches!(lost, StateSignal::Lost { .. }), "{lost:?}");
        server.restart();
        assert_eq!(signal(&mut signals).await, StateSignal::Restored);
    }
    assert!(store.risks().is_empty(), "{:?}", store.risks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_and_missing_persistence_are_risks() {
    let config = RedisConfig::new()
        .line("maxmemory 100mb")
        .line("maxmemory-policy volatile-lru");
    let server = RedisServer::start(config);
    let store = connect(&server).await;
    let risks = risks(&store, 2).await;
    assert!(risks[0].contains("volatile-lru"), "{risks:?}");
    assert!(risks[1].contains("append-only"), "{risks:?}");
    let health = format!("{:?}", store.check().await);
    assert!(health.contains("volatile-lru"), "{health}");
}

/// Whoever may not ask is not hindered by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_to_ask_works_all_the_same() {
    let rule = "bot on >secret ~bot:* +get +set +ping";
    let server = RedisServer::start(RedisConfig::new().acl_user(rule));
    let options = StateOptions::new().url(server.url_for("bot", "secret"));
    let store = create_state_store(BACKEND, options).await.unwrap();
    store.set("bot:k", &1).await.unwrap();
    assert_eq!(store.get::<i64>("bot:k").await.unwrap(), Some(1));
    assert!(store.risks().is_empty());
}

/// A connection that is lent tells what is asked of it, and writes nothing before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_over_a_connection_tells_when_it_is_asked_to() {
    let mut server = RedisServer::start(RedisConfig::new());
    let options = RedisOptions::parse(&server.url()).unwrap();
    let connection = Connection::connect(options).await.unwrap();
    let silent = Arc::new(Driver::over(connection.clone()));
    let silent = StateStore::from_driver(silent, StoreOptions::new());
    assert_eq!(silent.signals().next().await, None);
    silent.set("k", &1).await.unwrap();
    assert_eq!(server.client().text(&["EXISTS", "~instance"]), "0");
    let telling = Arc::new(Driver::over(connection).monitored());
    let telling = StateStore::from_driver(telling, StoreOptions::new());
    let mut signals = telling.signals();
    marked(&server).await;
    risks(&telling, 1).await;
    server.restart();
    let lost = signal(&mut signals).await;
    assert!(matches!(lost, StateSignal::Lost { .. }), "{lost:?}");
    assert_eq!(signal(&mut signals).await, StateSignal::Restored);
    let reset = signal(&mut signals).await;
    assert!(matches!(reset, StateSignal::Reset { .. }), "{reset:?}");
}
