//! Overrides of breakers and rate limits of a fleet over a state store in memory.
#![cfg(feature = "resilience")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use infra_core::context;
use infra_resilience::CircuitBreaker;
use infra_resilience::breaker::Mode;
use infra_resilience::shared::{FleetOverrides, SharedRateLimiter};
use infra_state::StateStore;

const SECOND: Duration = Duration::from_secs(1);

fn process(store: &StateStore) -> (FleetOverrides, CircuitBreaker) {
    let fleet = FleetOverrides::builder(store.clone()).build().unwrap();
    let breaker = CircuitBreaker::builder("exchange").build().unwrap();
    fleet.register(&breaker).unwrap();
    (fleet, breaker)
}

#[tokio::test]
async fn a_decision_reaches_whoever_watches_the_store_and_closing_it_ends_the_following() {
    let store = StateStore::memory().namespaced("desk");
    let (operator, _) = process(&store);
    let (follower, breaker) = process(&store);
    let following = context::spawn(follower.clone().run());
    operator.isolate("exchange", "alice", "why").await.unwrap();
    let isolated = async {
        while breaker.mode() != Mode::Isolated {
            tokio::time::sleep(SECOND / 200).await;
        }
    };
    tokio::time::timeout(20 * SECOND, isolated).await.unwrap();
    let text = store.get_bytes("breaker-overrides").await.unwrap().unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains(r#""mode":"isolated""#), "{text}");
    store.close().await;
    tokio::time::timeout(20 * SECOND, following)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(breaker.mode(), Mode::Isolated);
}

#[tokio::test]
async fn two_limiters_of_one_name_take_from_one_burst() {
    let store = StateStore::memory();
    let make = || {
        let builder = SharedRateLimiter::builder("orders", store.clone());
        let builder = builder.rate(1, 3_600 * SECOND).burst(10).batch(1);
        builder.expected_processes(2).build().unwrap()
    };
    let (one, other) = (make(), make());
    let mut taken = 0;
    for limiter in [&one, &other].into_iter().cycle().take(40) {
        taken += u32::from(limiter.try_acquire(1).await.is_ok());
    }
    assert_eq!(taken, 10);
    store.close().await;
    assert!(make().try_acquire(1).await.is_err());
}
