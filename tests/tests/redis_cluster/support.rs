//! What the tests of clusters share.

use std::time::{Duration, Instant};

use infra_state::{StateOptions, StateSignal, StateSignals, StateStore, StoreOptions};
use infra_state::{WatchEvent, WatchStream, create_state_store};
use infra_tests::servers::{RedisCluster, RedisConfig, valkey_program, version_at};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Long enough for nobody to be taken for dead on a machine under load.
pub(crate) const PATIENT: u32 = 20_000;

pub(crate) async fn connect(url: &str, limit: Duration) -> StateStore {
    let options = StateOptions::new()
        .url(url)
        .connect_timeout(20 * SECOND)
        .store(
            StoreOptions::new()
                .read_timeout(limit)
                .write_timeout(limit)
                .bulk_timeout(limit)
                .max_value_bytes(2 * 1024 * 1024),
        );
    create_state_store("redis", options).await.unwrap()
}

/// A key of each primary, in the order of the nodes.
pub(crate) fn key_at(cluster: &RedisCluster, place: usize) -> String {
    let keys = (0..1000).map(|n| format!("key{n}"));
    let mut there = keys.filter(|key| cluster.owner_of(key) == place);
    there.next().expect("some key lies there")
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < 40 * SECOND, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn signal(signals: &mut StateSignals) -> StateSignal {
    let signal = tokio::time::timeout(40 * SECOND, signals.next()).await;
    signal.expect("in time").expect("more signals")
}

pub(crate) async fn event(watch: &mut WatchStream) -> WatchEvent {
    let event = tokio::time::timeout(40 * SECOND, watch.next()).await;
    event.expect("in time").expect("the watch goes on")
}

/// Nodes that are Valkey.
pub(crate) fn valkey() -> RedisConfig {
    RedisConfig::new().program(valkey_program())
}

/// Says what the nodes are, for whoever reads the output of a run.
pub(crate) fn tell_version(cluster: &RedisCluster) {
    let version = version_at(&cluster.node(0).url());
    eprintln!("the cluster is {}", version.expect("a node tells"));
}
