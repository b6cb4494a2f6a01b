//! Every command finds its node.

use infra_cache::{CacheOptions, create_cache_store};
use infra_core::{Class, Classify, HealthCheck, Outcome};
use infra_events::{EventOptions, Typed, create_event_bus};
use infra_redis::{FaultKind, RedisOptions};
use infra_state::conformance::Fixture;
use infra_state::{
    Atomicity, ErrorKind, Requirement, StateOptions, StateStore, create_state_store,
};
use infra_tests::servers::{RedisCluster, RedisConfig, shared_redis_url, unique_name};

use crate::support::{PATIENT, SECOND, connect, key_at, tell_version, until, valkey};

/// One cluster for all rows: each in a namespace of its own, whose keys lie in all slots.
#[test]
fn the_conformance_suite_passes_on_a_cluster() {
    conformance(RedisConfig::new());
}

#[test]
fn the_conformance_suite_passes_on_a_cluster_of_valkey() {
    conformance(valkey());
}

fn conformance(config: RedisConfig) {
    let cluster = RedisCluster::start_with(config, 3, 0, PATIENT);
    tell_version(&cluster);
    let url: &'static str = cluster.url().leak();
    let fixture = || async {
        let name = unique_name("conformance");
        let store = connect(url, 20 * SECOND).await.namespaced(&name);
        let other = connect(url, 20 * SECOND).await.namespaced(&name);
        Fixture::new(store, other).namespace_bytes(name.len() + 1)
    };
    infra_state::conformance_in_one_test!(fixture);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_finds_the_node_of_its_key() {
    let cluster = RedisCluster::start(3, 0, PATIENT);
    // One seed is enough.
    let seed = format!("redis+cluster://127.0.0.1:{}", cluster.node(2).port());
    let store = connect(&seed, 10 * SECOND).await;
    s38_capabilities_and_cross_slot(&store).await;
    plain_url_says_what_to_change(&cluster).await;
    s60_scripts_are_sent_to_each_node(&cluster, &store).await;
    redirections_cost_one_look_at_the_map(&cluster, &store).await;
    leases_and_caches_work(&cluster, &store).await;
    events_reach_subscribers_at_any_node(&cluster).await;
    s62_close_ends_all_connections(&cluster, store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s61_every_node_wants_the_password_and_a_wrong_one_is_permanent() {
    let cluster = RedisCluster::start_with(RedisConfig::new().password("secret"), 3, 0, PATIENT);
    let with = |password: &str| cluster.url().replace("://", &format!("://:{password}@"));
    let store = connect(&with("secret"), 10 * SECOND).await;
    let entries: Vec<_> = (0..60).map(|n| (format!("k{n}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    assert_eq!(store.scan("k").collect().await.unwrap().len(), 60);
    for (url, lazy) in [
        (with("canary"), false),
        (cluster.url(), false),
        (with("canary"), true),
    ] {
        let options = StateOptions::new().url(url).lazy(lazy);
        let error = match create_state_store("redis", options).await {
            Ok(store) => store.get::<i64>("k").await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert_eq!(error.class(), Class::Permanent, "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}

async fn s38_capabilities_and_cross_slot(store: &StateStore) {
    let can = store.capabilities();
    assert!(can.one_slot_transactions && can.set_many == Atomicity::PerKey);
    assert!(can.can(Requirement::Transactions) && !can.can(Requirement::AtomicSetMany));
    let error = store.require(Requirement::TransactionsOfAnyKeys);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    let both = store.transaction().set("a", &1).set("b", &2).commit().await;
    let error = both.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CrossSlot);
    assert!(error.to_string().contains("hash tag"), "{error}");
    let tagged = store.namespaced("{desk}");
    let both = tagged.transaction().set("a", &1).set("b", &2).commit();
    both.await.unwrap();
    let health = store.check().await;
    assert!(format!("{health:?}").contains("append-only"), "{health:?}");
}

async fn plain_url_says_what_to_change(cluster: &RedisCluster) {
    let plain = format!("redis://127.0.0.1:{}", cluster.node(0).port());
    let store = connect(&plain, 5 * SECOND).await;
    let elsewhere = key_at(cluster, 1);
    let error = store.get::<i64>(&elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Permanent, Outcome::NotApplied)
    );
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
    // And the other way round.
    let server = shared_redis_url().replace("redis://", "redis+cluster://");
    let options = StateOptions::new().url(server);
    let error = create_state_store("redis", options).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert!(error.to_string().contains("redis://"), "{error}");
    // Nor does the other library do what it cannot.
    let options = StateOptions::new().url(cluster.url());
    let error = create_state_store("fred", options).await.unwrap_err();
    assert!(error.to_string().contains("use `redis`"), "{error}");
}

async fn s60_scripts_are_sent_to_each_node(cluster: &RedisCluster, store: &StateStore) {
    let large = |n: usize| format!("{n}{}", "x".repeat(2000));
    let keys: Vec<_> = (0..3).map(|place| key_at(cluster, place)).collect();
    for round in 0..3 {
        for (place, key) in keys.iter().enumerate() {
            if round > 0 {
                cluster.node(place).client().text(&["SCRIPT", "FLUSH"]);
            }
            let old = store.get_versioned::<String>(key).await.unwrap().version;
            let new = large(round);
            store.compare_and_swap(key, &old, &new, None).await.unwrap();
            let error = store.compare_and_swap(key, &old, &new, None).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
            store.delete(&format!("{{{key}}}:other")).await.unwrap();
        }
    }
    assert_eq!(store.delete_many(&keys).await.unwrap(), 3);
}

/// How often the nodes were asked for the map.
fn looks(cluster: &RedisCluster) -> u64 {
    let asked = (0..cluster.len()).map(|place| {
        let info = cluster.node(place).client().text(&["INFO", "commandstats"]);
        let line = info
            .lines()
            .find(|line| line.starts_with("cmdstat_cluster|slots:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        calls.map_or(0, |calls| calls.parse().unwrap())
    });
    asked.sum()
}

async fn redirections_cost_one_look_at_the_map(cluster: &RedisCluster, store: &StateStore) {
    let key = key_at(cluster, 0);
    let slot = cluster.slot_of(&key);
    let keys: Vec<_> = (0..200).map(|n| format!("{{{key}}}:{n}")).collect();
    let entries: Vec<_> = keys.iter().map(|key| (key, 0)).collect();
    store.set_many(&entries).await.unwrap();
    cluster.move_slot(slot, 0, 1);
    let before = looks(cluster);
    let calls = keys.iter().map(|key| store.increment(key, 1));
    let sums = futures_util::future::join_all(calls).await;
    assert!(sums.into_iter().all(|sum| sum.unwrap() == 1));
    // It is one, and one more where the first node asked has not heard of the move yet.
    assert!(looks(cluster) - before <= 4, "{}", looks(cluster) - before);
    let values = store.get_many::<i64>(&keys).await.unwrap();
    assert!(values.iter().all(|value| *value == Some(1)));
    assert_eq!(store.delete_many(&keys).await.unwrap(), 200);
    cluster.move_slot(slot, 1, 0);
}

async fn leases_and_caches_work(cluster: &RedisCluster, store: &StateStore) {
    for n in 0..10 {
        let lease = store.lease(&format!("job{n}"));
        let held = lease.try_acquire().await.unwrap().unwrap();
        assert!(lease.try_acquire().await.unwrap().is_none());
        assert!(held.is_valid() && held.release().await.unwrap());
    }
    // A fenced write is a transaction: one slot.
    let tagged = store.namespaced("{desk}");
    let held = tagged.lease("fenced").acquire().await.unwrap();
    held.set("cash", &5).await.unwrap();
    let options = || CacheOptions::new().name("cache").url(cluster.url());
    let one = create_cache_store("redis", options()).await.unwrap();
    let two = create_cache_store("redis", options()).await.unwrap();
    for n in 0..20_u64 {
        let key = format!("k{n}");
        one.put(&key, n).await.unwrap();
        assert_eq!(*two.get::<u64>(&key).await.unwrap().unwrap(), n);
        one.put(&key, n + 100).await.unwrap();
        until("the other hears of it", async || {
            *two.get::<u64>(&key).await.unwrap().unwrap() == n + 100
        })
        .await;
    }
    assert_eq!(one.invalidate_prefix("k").await.unwrap(), 20);
}

/// Whatever a node is told to publish, the cluster tells all nodes.
async fn events_reach_subscribers_at_any_node(cluster: &RedisCluster) {
    let at = |place: usize| {
        let url = format!("redis+cluster://127.0.0.1:{}", cluster.node(place).port());
        EventOptions::default().url(url)
    };
    let here = create_event_bus("redis", at(0)).await.unwrap();
    let there = create_event_bus("redis", at(1)).await.unwrap();
    let (seen, mut orders) = tokio::sync::mpsc::unbounded_channel();
    let channel = unique_name("orders");
    let handler = move |order: Typed<u64>| {
        let seen = seen.clone();
        async move { seen.send(order.data) }
    };
    let subscription = there.subscribe_typed(&channel, handler).await.unwrap();
    for n in 0..20_u64 {
        here.publish(&channel, &n).await.unwrap();
        let order = tokio::time::timeout(20 * SECOND, orders.recv()).await;
        assert_eq!(order.unwrap(), Some(n));
    }
    drop(subscription);
    here.close().await.unwrap();
    there.close().await.unwrap();
}

async fn s62_close_ends_all_connections(cluster: &RedisCluster, store: StateStore) {
    let mut changes = store.changes("k").await.unwrap();
    let options = RedisOptions::parse(&cluster.url()).unwrap();
    let other = infra_redis::Cluster::connect(options.client_name("closing"))
        .await
        .unwrap();
    other.ping(5 * SECOND).await.unwrap();
    let named = || {
        let clients = (0..3).map(|place| {
            let list = cluster.node(place).client().text(&["CLIENT", "LIST"]);
            list.matches("name=closing").count()
        });
        clients.sum::<usize>()
    };
    assert_eq!(named(), 3);
    other.close();
    other.close();
    let fault = other.ping(SECOND).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Closed);
    until("the connections end", async || named() == 0).await;
    store.close().await;
    let error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(changes.next().await, None);
}
