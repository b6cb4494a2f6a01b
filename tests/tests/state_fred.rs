//! The state store on a real server, over the client library `fred`: what the other driver passes.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::time::Duration;

use infra_core::{Classify, Outcome};
use infra_redis::FredConnection as Connection;
use infra_state::{
    ErrorKind, FredDriver as Driver, StateOptions, StateStore, StoreOptions, create_state_store,
};
use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};

#[path = "over_redis/changing.rs"]
mod changing;
#[path = "over_redis/errors.rs"]
mod errors;
#[path = "over_redis/faults.rs"]
mod faults;
#[path = "over_redis/lease.rs"]
mod lease;
#[path = "over_redis/levels.rs"]
mod levels;
#[path = "over_redis/operations.rs"]
mod operations;
#[path = "over_redis/outage.rs"]
mod outage;
#[path = "over_redis/replicas.rs"]
mod replicas;
#[path = "over_redis/signals.rs"]
mod signals;
#[path = "over_redis/suite.rs"]
mod suite;
#[path = "over_redis/table.rs"]
mod table;

const BACKEND: &str = "fred";

async fn connect(url: &str) -> StateStore {
    let limit = Duration::from_secs(5);
    let store = StoreOptions::new().read_timeout(limit).write_timeout(limit);
    let options = StateOptions::new().url(url).store(store);
    create_state_store(BACKEND, options).await.unwrap()
}

#[tokio::test]
async fn url_and_name_choose_the_driver() {
    for url in [shared_redis_url(), format!("fred+{}", shared_redis_url())] {
        assert_eq!(connect(&url).await.backend(), "fred");
    }
    let url = format!("fred+{}", shared_redis_url());
    assert_eq!(StateStore::connect(&url).await.unwrap().backend(), "fred");
    let error = create_state_store("redis", StateOptions::new().url(url)).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidUrl);
}

/// The library takes such lists for published messages and would leave the caller without an
/// answer, and the next caller with a wrong one.
#[tokio::test]
async fn values_that_look_like_published_messages_arrive() {
    let store = connect(&shared_redis_url()).await;
    let store = store.namespaced(&unique_name("looks"));
    let words = [
        "subscribe",
        "message",
        "pmessage",
        "smessage",
        "pubsub",
        "unsubscribe",
    ];
    for word in words {
        store
            .set_bytes(word, word.as_bytes().to_vec())
            .await
            .unwrap();
    }
    for first in words {
        for count in 1..=8 {
            let keys: Vec<&str> = std::iter::once(first)
                .chain(words.into_iter().cycle())
                .take(count)
                .collect();
            let found = store.get_many_bytes(&keys).await.unwrap();
            let found: Vec<_> = found.into_iter().map(Option::unwrap).collect();
            assert_eq!(found, keys);
        }
    }
    assert_eq!(store.delete_many(&words).await.unwrap(), 6);
}

#[tokio::test]
async fn s60_scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server.url()).await;
    store.set("n", &0_i64).await.unwrap();
    for n in 1..=20_i64 {
        if n % 3 == 0 {
            server.client().text(&["SCRIPT", "FLUSH"]);
        }
        let found = store.get_versioned::<i64>("n").await.unwrap();
        store
            .compare_and_swap("n", &found.version, &n, None)
            .await
            .unwrap();
        let again = store.compare_and_swap("n", &found.version, &n, None).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(store.get::<i64>("n").await.unwrap(), Some(20));
    let stats = server.client().text(&["INFO", "commandstats"]);
    let sent_whole = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_eval:"))
        .unwrap();
    assert!(
        sent_whole.contains("calls=7,"),
        "known by its digest: {sent_whole}"
    );
}

/// Never sent again by the library, whatever it thinks it may do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_writes_cut_off_are_unknown_and_never_sent_twice() {
    let server = RedisServer::start(RedisConfig::new());
    let store = connect(&server.url()).await;
    let mut raw = server.client();
    let (mut acknowledged, mut unknown) = (0, 0);
    for round in 0..20 {
        let calls = (0..32).map(|_| {
            let store = store.clone();
            infra_core::context::spawn(async move { store.increment("sum", 1).await })
        });
        let calls: Vec<_> = calls.collect();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        raw.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    unknown += i64::from(error.outcome() == Outcome::Unknown);
                }
            }
        }
    }
    let sum = store.get::<i64>("sum").await.unwrap().unwrap_or(0);
    let bounds = acknowledged..=acknowledged + unknown;
    assert!(bounds.contains(&sum), "{sum} not in {bounds:?}");
    assert!(acknowledged > 0);
}
