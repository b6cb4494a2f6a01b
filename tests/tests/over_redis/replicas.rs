//! Reads from replicas.

use std::time::{Duration, Instant};

use infra_state::{
    ErrorKind, Requirement, StateOptions, StateStore, StoreOptions, TtlState, WatchEvent,
    create_state_store,
};
use infra_tests::servers::{RedisConfig, RedisServer};

use crate::BACKEND;

const SECOND: Duration = Duration::from_secs(1);

fn primary() -> RedisServer {
    RedisServer::start(RedisConfig::new().line("repl-diskless-sync-delay 0"))
}

/// A replica on which a test may write what no primary knows.
fn replica(of: &RedisServer) -> RedisServer {
    let config = RedisConfig::new()
        .line(&format!("replicaof 127.0.0.1 {}", of.port()))
        .line("replica-read-only no");
    RedisServer::start(config)
}

fn options(server: &RedisServer) -> StateOptions {
    let limit = 4 * SECOND;
    let store = StoreOptions::new()
        .read_timeout(limit)
        .write_timeout(limit)
        .bulk_timeout(limit);
    StateOptions::new().url(server.url()).store(store)
}

async fn connect(server: &RedisServer) -> StateStore {
    let options = options(server).read_from_replicas(true);
    create_state_store(BACKEND, options).await.unwrap()
}

/// Until reads come from a server where `key` holds this.
async fn reads(store: &StateStore, key: &str, wanted: Option<i64>) {
    let started = Instant::now();
    while store.get::<i64>(key).await.unwrap() != wanted {
        assert!(started.elapsed() < 20 * SECOND, "never read {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `k` is 1 on the primary and 2 on the replica.
async fn apart() -> (RedisServer, RedisServer, StateStore) {
    let primary = primary();
    let replica = replica(&primary);
    let store = connect(&primary).await;
    store.set("k", &1).await.unwrap();
    let (started, mut raw) = (Instant::now(), replica.client());
    while raw.text(&["GET", "k"]) != "1" {
        assert!(
            started.elapsed() < 20 * SECOND,
            "the replica is not supplied"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    raw.text(&["SET", "k", "2", "PX", "100000"]);
    raw.text(&["SET", "only", "3"]);
    reads(&store, "k", Some(2)).await;
    (primary, replica, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_reads_come_from_the_replicas_the_primary_names() {
    let (_primary, _replica, store) = apart().await;
    assert!(store.capabilities().stale_reads);
    let error = store.require(Requirement::CurrentReads).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        store.get_many::<i64>(&["k", "only"]).await.unwrap(),
        [Some(2), Some(3)]
    );
    assert!(store.exists("only").await.unwrap());
    assert!(matches!(
        store.ttl("k").await.unwrap(),
        TtlState::Remaining(_)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_reads_are_never_used_where_a_version_is_read() {
    let (primary, _replica, store) = apart().await;
    let found = store.get_versioned::<i64>("k").await.unwrap();
    assert_eq!(found.value, Some(1));
    assert_eq!(store.get_entry("k").await.unwrap().unwrap().value, "1");
    store
        .compare_and_swap("k", &found.version, &10, None)
        .await
        .unwrap();
    store
        .update("k", |n: Option<i64>| Some(n.unwrap_or(0) + 1))
        .await
        .unwrap();
    assert_eq!(primary.client().text(&["GET", "k"]), "11");
    assert_eq!(store.scan("").collect().await.unwrap(), ["k"]);
    let guard = store.lease("l").acquire().await.unwrap();
    guard.set("k", &12).await.unwrap();
    assert!(guard.release().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_reads_are_never_used_by_watches() {
    let (_primary, replica, store) = apart().await;
    let mut watch = store.watch("k").await.unwrap();
    let mut next = async || {
        let event = tokio::time::timeout(20 * SECOND, watch.next()).await;
        event.expect("in time").expect("the watch goes on")
    };
    let WatchEvent::Put { value, .. } = next().await else {
        panic!("no value")
    };
    assert_eq!(value, "1");
    assert_eq!(next().await, WatchEvent::Ready);
    // The replica hears of it later than the watch.
    replica.stop();
    store.set("k", &5).await.unwrap();
    let WatchEvent::Put { value, .. } = next().await else {
        panic!("no value")
    };
    assert_eq!(value, "5");
    replica.cont();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_reads_fall_back_to_the_primary_and_return() {
    let (primary, mut replica, store) = apart().await;
    // Silent: half of the first read's time is lost, so that the primary has the other half.
    replica.stop();
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    // And of no other's, where each would lose 2 s.
    let asked = Instant::now();
    for _ in 0..50 {
        assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    }
    assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    replica.cont();
    reads(&store, "k", Some(2)).await;
    // Gone.
    replica.kill();
    for _ in 0..50 {
        assert_eq!(store.get_many::<i64>(&["k"]).await.unwrap(), [Some(1)]);
    }
    // Back: with what the primary has, and then something of its own.
    replica.restart();
    let started = Instant::now();
    while replica.client().text(&["GET", "k"]) != "1" {
        assert!(
            started.elapsed() < 20 * SECOND,
            "the replica is not supplied"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replica.client().text(&["SET", "k", "4"]);
    reads(&store, "k", Some(4)).await;
    // Not in touch with its primary: what it has may be of any age.
    replica.client().text(&["CONFIG", "SET", "masterauth", ""]);
    replica.client().text(&["REPLICAOF", "127.0.0.1", "1"]);
    reads(&store, "k", Some(1)).await;
    drop(primary);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_reads_from_addresses_of_the_url() {
    let primary = primary();
    let replica = replica(&primary);
    let nobody = infra_tests::servers::free_port();
    let url = format!(
        "{}/?read=127.0.0.1:{nobody},127.0.0.1:{}",
        primary.url(),
        replica.port()
    );
    let store = create_state_store(BACKEND, options(&primary).url(url))
        .await
        .unwrap();
    store.set("k", &1).await.unwrap();
    let started = Instant::now();
    while replica.client().text(&["GET", "k"]) != "1" {
        assert!(
            started.elapsed() < 20 * SECOND,
            "the replica is not supplied"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replica.client().text(&["SET", "k", "2"]);
    reads(&store, "k", Some(2)).await;
    // Two stores of one process do not share it.
    let current = create_state_store(BACKEND, options(&primary))
        .await
        .unwrap();
    assert_eq!(current.get::<i64>("k").await.unwrap(), Some(1));
    assert!(!current.capabilities().stale_reads);
    store.close().await;
    let started = Instant::now();
    while replica
        .client()
        .text(&["CLIENT", "LIST", "TYPE", "normal"])
        .lines()
        .count()
        > 1
    {
        assert!(started.elapsed() < 10 * SECOND, "still connected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
