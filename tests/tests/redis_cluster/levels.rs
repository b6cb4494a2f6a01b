//! Writes that replicas or the disk confirm, and reads that replicas answer.

use std::time::{Duration, Instant};

use infra_core::{Class, Classify, Outcome};
use infra_state::{
    Acknowledged, ErrorKind, Requirement, StateOptions, StateStore, StoreOptions, TtlState,
    create_state_store,
};
use infra_tests::raw::RawClient;
use infra_tests::servers::{RedisCluster, RedisConfig};

use crate::support::{PATIENT, SECOND, key_at, until, valkey};

fn options(cluster: &RedisCluster, limit: Duration) -> StateOptions {
    let store = StoreOptions::new()
        .read_timeout(limit)
        .write_timeout(limit)
        .bulk_timeout(limit);
    StateOptions::new()
        .url(cluster.url())
        .connect_timeout(20 * SECOND)
        .store(store)
}

async fn acknowledging(cluster: &RedisCluster, level: Acknowledged, limit: Duration) -> StateStore {
    let options = options(cluster, limit).acknowledge(level);
    create_state_store("redis", options).await.unwrap()
}

/// The replica, which answers reads to this connection.
fn replica(cluster: &RedisCluster, place: usize) -> RawClient {
    let mut replica = cluster.node(place).client();
    assert_eq!(replica.text(&["READONLY"]), "OK");
    replica
}

fn calls(cluster: &RedisCluster, place: usize, command: &str) -> u64 {
    let info = cluster.node(place).client().text(&["INFO", "commandstats"]);
    let name = format!("cmdstat_{command}:");
    let line = info.lines().find(|line| line.starts_with(&name));
    let count = line.and_then(|line| line.split(['=', ',']).nth(1));
    count.map_or(0, |count| count.parse().unwrap())
}

/// The first primary has a replica, the others have none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_a_cluster_answer_reads_and_confirm_writes() {
    // Confirmations whose time is over are looked for every 10 ms, not every 100.
    let config = RedisConfig::new().line("hz 100");
    let mut cluster = RedisCluster::start_with(config, 3, 1, 4000);
    ack_a_write_is_on_the_replica_of_its_primary(&cluster).await;
    ack_a_write_that_moves_is_confirmed_where_it_lands(&cluster).await;
    replica_reads_come_from_the_replicas_of_the_slots_primary(&cluster).await;
    replica_reads_find_what_has_left_with_its_slot(&cluster).await;
    replica_reads_fall_back_to_the_primary(&cluster).await;
    ack_a_write_that_was_not_sent_goes_to_the_new_primary(&mut cluster).await;
}

async fn ack_a_write_is_on_the_replica_of_its_primary(cluster: &RedisCluster) {
    let level = Acknowledged::Replicated(1);
    let store = acknowledging(cluster, level, 20 * SECOND).await;
    assert_eq!(store.capabilities().acknowledged, level);
    store.require(Requirement::Acknowledged(level)).unwrap();
    let (tag, alone) = (key_at(cluster, 0), key_at(cluster, 1));
    let mut there = replica(cluster, 3);
    let at = |name: &str| format!("{{{tag}}}:{name}");
    for n in 0..20_i64 {
        store.set(&at("set"), &n).await.unwrap();
        assert_eq!(there.text(&["GET", &at("set")]), n.to_string());
        let both = [(at("a"), n), (at("b"), n)];
        store.set_many(&both).await.unwrap();
        assert_eq!(
            there.text(&["MGET", &at("a"), &at("b")]),
            format!("{n} {n}")
        );
        assert_eq!(store.increment(&at("sum"), 1).await.unwrap(), n + 1);
        assert_eq!(there.text(&["GET", &at("sum")]), (n + 1).to_string());
        let found = store.get_versioned::<i64>(&at("set")).await.unwrap();
        let (key, swapped) = (at("set"), n + 1000);
        let swap = store.compare_and_swap(&key, &found.version, &swapped, None);
        swap.await.unwrap();
        assert_eq!(there.text(&["GET", &key]), swapped.to_string());
        let conflict = store.compare_and_swap(&key, &found.version, &0, None);
        assert_eq!(conflict.await.unwrap_err().kind(), ErrorKind::Conflict);
        let both = store.transaction().set(&at("a"), &-n).delete(&at("b"));
        both.commit().await.unwrap();
        assert_eq!(there.text(&["GET", &at("a")]), (-n).to_string());
        assert_eq!(store.delete_many(&[at("a"), at("b")]).await.unwrap(), 1);
        assert_eq!(there.text(&["EXISTS", &at("a"), &at("b")]), "0");
    }
    let guard = store.lease(&at("lease")).acquire().await.unwrap();
    assert!(guard.release().await.unwrap());
    // A primary without a replica has the write and says that nobody else has.
    let impatient = acknowledging(cluster, level, SECOND).await;
    let error = impatient.set(&alone, &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unacknowledged, "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    assert_eq!(cluster.node(1).client().text(&["GET", &alone]), "1");
    // Of several keys each is told for itself.
    let some = impatient
        .set_many(&[(at("a"), 7), (alone.clone(), 7)])
        .await;
    let error = some.unwrap_err();
    let failed: Vec<_> = error
        .failures()
        .iter()
        .map(|one| (one.index, one.kind))
        .collect();
    assert_eq!(failed, [(1, ErrorKind::Unacknowledged)]);
    assert_eq!(there.text(&["GET", &at("a")]), "7");
    store.close().await;
    let error = store.set(&at("set"), &1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

async fn ack_a_write_that_moves_is_confirmed_where_it_lands(cluster: &RedisCluster) {
    let store = acknowledging(cluster, Acknowledged::Replicated(1), 20 * SECOND).await;
    let tag = key_at(cluster, 1);
    let slot = cluster.slot_of(&tag);
    let keys: Vec<_> = (0..40).map(|n| format!("{{{tag}}}:{n}")).collect();
    cluster.open_slot(slot, 1, 0);
    // Nothing is there, so all of it is asked for on the other side.
    let sums = keys.iter().map(|key| store.increment(key, 1));
    let sums = futures_util::future::join_all(sums).await;
    assert!(sums.into_iter().all(|sum| sum.unwrap() == 1));
    let entries: Vec<_> = keys.iter().map(|key| (key, 2)).collect();
    store.set_many(&entries).await.unwrap();
    while cluster.move_keys(slot, 1, 0) {}
    cluster.close_slot(slot, 1, 0);
    for key in &keys {
        assert_eq!(store.increment(key, 1).await.unwrap(), 3);
    }
    let mut there = replica(cluster, 3);
    let text = there.text(&["GET", &keys[39]]);
    assert_eq!(text, "3");
    assert_eq!(store.delete_many(&keys).await.unwrap(), 40);
    cluster.move_slot(slot, 0, 1);
}

async fn reading(cluster: &RedisCluster) -> StateStore {
    let options = options(cluster, 4 * SECOND).read_from_replicas(true);
    create_state_store("redis", options).await.unwrap()
}

/// Until the replica answers reads of this key.
pub(crate) async fn until_replica_reads(cluster: &RedisCluster, store: &StateStore, key: &str) {
    until("the replica is read", async || {
        let before = calls(cluster, 3, "get");
        store.get::<i64>(key).await.unwrap();
        calls(cluster, 3, "get") > before
    })
    .await;
}

async fn replica_reads_come_from_the_replicas_of_the_slots_primary(cluster: &RedisCluster) {
    let store = reading(cluster).await;
    assert!(store.capabilities().stale_reads);
    let error = store.require(Requirement::CurrentReads).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let (key, other) = (key_at(cluster, 0), key_at(cluster, 1));
    store.set(&key, &1).await.unwrap();
    store.set(&other, &2).await.unwrap();
    let mut there = replica(cluster, 3);
    until("the replica is supplied", async || {
        there.text(&["GET", &key]) == "1"
    })
    .await;
    until_replica_reads(cluster, &store, &key).await;
    let before = [calls(cluster, 0, "get"), calls(cluster, 0, "mget")];
    let replica_before = calls(cluster, 3, "mget");
    for _ in 0..20 {
        assert_eq!(store.get::<i64>(&key).await.unwrap(), Some(1));
        let both = store.get_many::<i64>(&[&key, &other]).await.unwrap();
        assert_eq!(both, [Some(1), Some(2)]);
        assert!(store.exists(&key).await.unwrap());
        assert_eq!(store.ttl(&key).await.unwrap(), TtlState::NoExpiry);
    }
    let after = [calls(cluster, 0, "get"), calls(cluster, 0, "mget")];
    assert_eq!(before, after, "the primary was asked");
    assert_eq!(calls(cluster, 3, "mget") - replica_before, 20);
    // What holds a version, or must be current, asks the primary.
    let (here, away) = (calls(cluster, 0, "get"), calls(cluster, 3, "get"));
    let found = store.get_versioned::<i64>(&key).await.unwrap();
    assert_eq!(store.get_entry(&key).await.unwrap().unwrap().value, "1");
    store
        .compare_and_swap(&key, &found.version, &10, None)
        .await
        .unwrap();
    store
        .update(&key, |n: Option<i64>| n.map(|n| n + 1))
        .await
        .unwrap();
    let guard = store.lease(&key).acquire().await.unwrap();
    assert!(guard.release().await.unwrap());
    assert!(calls(cluster, 0, "get") - here >= 3);
    assert_eq!(calls(cluster, 3, "get"), away, "the replica was asked");
    store.delete_many(&[&key, &other]).await.unwrap();
}

/// A replica does not know which keys of a slot have moved already.
async fn replica_reads_find_what_has_left_with_its_slot(cluster: &RedisCluster) {
    let store = reading(cluster).await;
    let tag = key_at(cluster, 0);
    let slot = cluster.slot_of(&tag);
    let keys: Vec<_> = (0..40).map(|n| format!("{{{tag}}}:{n}")).collect();
    let entries: Vec<_> = keys.iter().zip(0..40_i64).collect();
    store.set_many(&entries).await.unwrap();
    let mut there = replica(cluster, 3);
    until("the replica is supplied", async || {
        there.text(&["GET", &keys[39]]) == "39"
    })
    .await;
    until_replica_reads(cluster, &store, &keys[0]).await;
    cluster.open_slot(slot, 0, 1);
    assert!(cluster.move_keys(slot, 0, 1));
    // One by one: a replica of Valkey knows that the slot is moving, and refuses a command of many keys
    // of which it has some. How many of these went depends on what else is in the slot.
    until("the replica has lost some", async || {
        let mut has = |key: &&String| there.text(&["EXISTS", key.as_str()]) == "1";
        (1..keys.len()).contains(&keys.iter().filter(|key| has(key)).count())
    })
    .await;
    let values = store.get_many::<i64>(&keys).await.unwrap();
    assert!(values.iter().zip(0..).all(|(value, n)| *value == Some(n)));
    for (key, n) in keys.iter().zip(0..) {
        assert_eq!(store.get::<i64>(key).await.unwrap(), Some(n));
        assert!(store.exists(key).await.unwrap());
        assert_eq!(store.ttl(key).await.unwrap(), TtlState::NoExpiry);
    }
    while cluster.move_keys(slot, 0, 1) {}
    cluster.close_slot(slot, 0, 1);
    let values = store.get_many::<i64>(&keys).await.unwrap();
    assert!(values.iter().zip(0..).all(|(value, n)| *value == Some(n)));
    cluster.move_slot(slot, 1, 0);
    assert_eq!(store.delete_many(&keys).await.unwrap(), 40);
}

async fn replica_reads_fall_back_to_the_primary(cluster: &RedisCluster) {
    let store = reading(cluster).await;
    let key = key_at(cluster, 0);
    store.set(&key, &1).await.unwrap();
    let mut there = replica(cluster, 3);
    until("the replica is supplied", async || {
        there.text(&["GET", &key]) == "1"
    })
    .await;
    until_replica_reads(cluster, &store, &key).await;
    // Silent: half of the first read's time is lost, so that the primary has the other half.
    cluster.node(3).stop();
    assert_eq!(store.get::<i64>(&key).await.unwrap(), Some(1));
    // And of no other's, where each would lose 2 s.
    let asked = Instant::now();
    for _ in 0..50 {
        assert_eq!(store.get_many::<i64>(&[&key]).await.unwrap(), [Some(1)]);
    }
    assert!(asked.elapsed() < 10 * SECOND, "{:?}", asked.elapsed());
    cluster.node(3).cont();
    until_replica_reads(cluster, &store, &key).await;
    store.close().await;
}

/// Nobody confirms on the new primary, which has no replica; but it is the one that has the write.
async fn ack_a_write_that_was_not_sent_goes_to_the_new_primary(cluster: &mut RedisCluster) {
    let store = acknowledging(cluster, Acknowledged::Replicated(1), 30 * SECOND).await;
    let key = key_at(cluster, 0);
    store.set(&key, &1).await.unwrap();
    cluster.node_mut(0).kill();
    // What is on its way when the primary dies may have been applied. What comes after waits for the
    // primary, and then for the other that takes its place.
    let mut writes = (0..).map(|n| {
        let (store, key) = (store.clone(), format!("{{{key}}}:{n}"));
        let write = {
            let key = key.clone();
            async move { store.set(&key, &2).await }
        };
        (key, infra_core::context::spawn(write))
    });
    let waiting = loop {
        let (key, mut write) = writes.next().unwrap();
        match tokio::time::timeout(SECOND, &mut write).await {
            Ok(lost) => assert_eq!(lost.unwrap().unwrap_err().outcome(), Outcome::Unknown),
            Err(_) => break (key, write),
        }
    };
    let mut there = cluster.node(3).client();
    until("the replica has the write", async || {
        there.text(&["GET", &waiting.0]) == "2"
    })
    .await;
    waiting.1.abort();
    store.close().await;
}

/// `WAITAOF` needs Redis 7.2 or newer, or Valkey.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_a_write_to_any_node_is_synced_to_its_disk_or_refused_at_connect() {
    let level = Acknowledged::Fsynced;
    let cluster = RedisCluster::start_with(valkey(), 3, 0, PATIENT);
    let options = options(&cluster, 10 * SECOND).acknowledge(level);
    let error = create_state_store("redis", options.clone()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    for place in 0..3 {
        let mut node = cluster.node(place).client();
        assert_eq!(node.text(&["CONFIG", "SET", "appendonly", "yes"]), "OK");
    }
    let store = create_state_store("redis", options).await.unwrap();
    for place in 0..3 {
        let key = key_at(&cluster, place);
        for n in 1..20_i64 {
            assert_eq!(store.increment(&key, 1).await.unwrap(), n);
        }
        let stats = cluster.node(place).client().text(&["INFO", "commandstats"]);
        assert!(stats.contains("cmdstat_waitaof:"), "{stats}");
    }
}
