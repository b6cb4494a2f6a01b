//! Decisions and rate limits of two processes over a real server, which is killed and comes back.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::{Duration, Instant};

use infra_core::context;
use infra_resilience::CircuitBreaker;
use infra_resilience::breaker::Mode;
use infra_resilience::shared::{FleetOverrides, SharedRateLimiter};
use infra_state::{StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::servers::{RedisConfig, RedisServer};

const SECOND: Duration = Duration::from_secs(1);

/// The store of one process, on a connection of its own.
async fn connect(backend: &str, server: &RedisServer) -> StateStore {
    let limits = StoreOptions::new()
        .read_timeout(2 * SECOND)
        .write_timeout(2 * SECOND);
    let options = StateOptions::new().url(server.url()).store(limits);
    create_state_store(backend, options).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < 20 * SECOND, "never: {what}");
        tokio::time::sleep(SECOND / 100).await;
    }
}

fn process(store: StateStore) -> (FleetOverrides, CircuitBreaker) {
    let fleet = FleetOverrides::builder(store).poll_interval(SECOND / 4);
    let fleet = fleet.build().unwrap();
    let breaker = CircuitBreaker::builder("exchange").build().unwrap();
    fleet.register(&breaker).unwrap();
    (fleet, breaker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_other_processes_and_outlive_the_server() {
    decisions("redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_other_processes_over_fred() {
    decisions("fred").await;
}

async fn decisions(backend: &str) {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let (operator, _) = process(connect(backend, &server).await);
    let (follower, breaker) = process(connect(backend, &server).await);
    let following = context::spawn(follower.clone().run());
    operator
        .isolate("exchange", "alice", "maintenance")
        .await
        .unwrap();
    until("isolated", async || breaker.mode() == Mode::Isolated).await;

    server.kill();
    until("the loss noticed", async || {
        !follower.status().store_reachable
    })
    .await;
    assert_eq!(breaker.mode(), Mode::Isolated);
    operator
        .release("exchange", "bob", "too early")
        .await
        .unwrap_err();
    server.restart();
    until("the server back", async || {
        follower.status().store_reachable
    })
    .await;
    assert_eq!(breaker.mode(), Mode::Isolated);
    until("the release written", async || {
        operator.release("exchange", "bob", "done").await.is_ok()
    })
    .await;
    until("released", async || breaker.mode() == Mode::Auto).await;
    following.abort();
}

fn limiter(store: StateStore) -> SharedRateLimiter {
    SharedRateLimiter::builder("orders", store)
        .rate(200, SECOND)
        .burst(20)
        .expected_processes(2)
        .ask_again(SECOND / 4)
        .store_timeout(2 * SECOND)
        .build()
        .unwrap()
}

/// Takes as much as there is for `time`.
async fn take(limiter: SharedRateLimiter, time: Duration) -> u64 {
    let (started, mut taken) = (Instant::now(), 0);
    // However slow the machine is: a burst and some leases.
    while started.elapsed() < time || taken < 20 {
        match limiter.try_acquire(1).await {
            Ok(()) => taken += 1,
            Err(_) => tokio::time::sleep(SECOND / 500).await,
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_rate_and_fall_back_on_their_shares() {
    rates("redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_rate_over_fred() {
    rates("fred").await;
}

async fn rates(backend: &str) {
    let mut server = RedisServer::start(RedisConfig::new().append_only());
    let one = limiter(connect(backend, &server).await);
    let other = limiter(connect(backend, &server).await);
    let started = Instant::now();
    let (first, second) = tokio::join!(
        context::spawn(take(one.clone(), 2 * SECOND)),
        context::spawn(take(other.clone(), 2 * SECOND))
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    // The rate for as long as it took, one burst, and a lease of each process.
    let most = started.elapsed().as_secs_f64() * 200.0 + 20.0 + 2.0 * 16.0;
    assert!(
        (first + second) as f64 <= most,
        "{first} + {second} > {most}"
    );
    assert!(first + second >= 40, "{first} + {second}");
    assert!(!one.is_degraded() && !other.is_degraded());

    server.kill();
    until("the loss noticed", async || {
        let _ = one.try_acquire(1).await;
        one.is_degraded()
    })
    .await;
    let (before, started) = (one.counts().granted_locally, Instant::now());
    take(one.clone(), 2 * SECOND).await;
    let granted = one.counts().granted_locally - before;
    // Half of the rate, half of the burst.
    let most = started.elapsed().as_secs_f64() * 100.0 + 10.0 + 1.0;
    assert!(granted > 0 && granted as f64 <= most, "{granted} > {most}");

    server.restart();
    until("the store used again", async || {
        let _ = one.try_acquire(1).await;
        !one.is_degraded()
    })
    .await;
    assert!(one.counts().store_failures >= 1);
}
