//! The state store on a server that sentinels watch over.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use infra_core::{Class, Classify};
use infra_events::{EventBus, EventStream, Signal, SignalStream};
use infra_state::{Change, StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::servers::{RedisSentinels, shared_redis_url};

const SECOND: Duration = Duration::from_secs(1);

async fn connect(backend: &str, url: &str) -> StateStore {
    let options = StateOptions::new().url(url).connect_timeout(20 * SECOND);
    let limits = StoreOptions::new()
        .read_timeout(2 * SECOND)
        .write_timeout(2 * SECOND);
    create_state_store(backend, options.store(limits))
        .await
        .unwrap()
}

async fn until_written(store: &StateStore, value: i64) -> Duration {
    let started = Instant::now();
    while let Err(error) = store.set("k", &value).await {
        assert!(error.is_transient(), "{error}");
        assert!(started.elapsed() < 40 * SECOND, "{error}");
        tokio::time::sleep(SECOND / 50).await;
    }
    started.elapsed()
}

async fn until_gap(signals: &mut SignalStream) {
    let gap = tokio::time::timeout(40 * SECOND, async {
        while !matches!(signals.next().await, Some(Signal::Gap { .. })) {}
    });
    gap.await.expect("a gap in time");
}

/// What is published while the bus is on its way to the master may be lost, but not what comes after.
async fn until_published(bus: &EventBus, prices: &mut EventStream, value: u64) {
    let started = Instant::now();
    loop {
        let published = bus.publish("prices", &value).await;
        let heard = tokio::time::timeout(SECOND, prices.recv()).await;
        if let (Ok(_), Ok(Some(event))) = (published, heard) {
            assert_eq!(event.data().as_ref(), value.to_string().as_bytes());
            break;
        }
        assert!(started.elapsed() < 40 * SECOND, "the bus hears nothing");
    }
    while tokio::time::timeout(SECOND / 10, prices.recv())
        .await
        .is_ok()
    {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_s59_a_new_master_is_found_without_a_new_handle() {
    let mut servers = RedisSentinels::start(3000);
    let store = connect("redis", &servers.url()).await;
    let fred = connect("fred", &servers.url()).await;
    let mut changes = store.changes("k").await.unwrap();
    let bus = EventBus::connect(&servers.url()).await.unwrap();
    let (mut signals, mut prices) = (bus.signals(), bus.stream("prices").await.unwrap());
    store.set("k", &1).await.unwrap();
    assert_eq!(fred.get::<i64>("k").await.unwrap(), Some(1));
    assert_eq!(changes.next().await, Some(Change::Key("k".into())));
    // One that was planned: the old master stays, as a replica.
    servers.fail_over();
    assert_eq!(servers.master(), Some(1));
    let took = until_written(&store, 2).await;
    until_written(&fred, 3).await;
    assert_eq!(servers.server_mut(1).client().text(&["GET", "k"]), "3");
    let gap = tokio::time::timeout(20 * SECOND, async {
        while !matches!(changes.next().await, Some(Change::Gap(_))) {}
    });
    gap.await.unwrap();
    // Subscribers are told that they may have missed something, and hear the new master.
    until_gap(&mut signals).await;
    until_published(&bus, &mut prices, 1).await;
    let started = Instant::now();
    while !servers.says(0, "master_link_status:up") {
        assert!(
            started.elapsed() < 40 * SECOND,
            "the old master does not follow"
        );
        tokio::time::sleep(SECOND / 20).await;
    }
    // And one that was not, with a sentinel less.
    servers.sentinel_mut(0).kill();
    servers.server_mut(1).stop();
    let died = until_written(&store, 4).await;
    until_written(&fred, 5).await;
    eprintln!("planned {took:?}, stopped {died:?}");
    until_gap(&mut signals).await;
    until_published(&bus, &mut prices, 2).await;
    assert_eq!(servers.server_mut(0).client().text(&["GET", "k"]), "5");
    // What comes back is no master any more, and is not taken for one.
    servers.server_mut(1).cont();
    for value in 6..40 {
        until_written(&store, value).await;
        tokio::time::sleep(SECOND / 50).await;
    }
    assert_eq!(servers.server_mut(0).client().text(&["GET", "k"]), "39");
}

#[tokio::test]
async fn s61_what_is_no_sentinel_or_knows_no_such_service_is_named() {
    let server = shared_redis_url().replace("redis://", "redis+sentinel://");
    let options = StateOptions::new().url(format!("{}/desk", server.trim_end_matches('/')));
    let error = create_state_store("redis", options).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("no sentinel"), "{error}");
    let servers = RedisSentinels::start(20_000);
    let url = servers.url().replace("/desk", "/other");
    let error = create_state_store("redis", StateOptions::new().url(url)).await;
    let error = error.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("no service `other`"), "{error}");
}
