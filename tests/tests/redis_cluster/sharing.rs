//! Decisions and rate limits of several processes over a cluster, one of whose primaries dies.

use std::time::{Duration, Instant};

use infra_core::context;
use infra_resilience::CircuitBreaker;
use infra_resilience::breaker::Mode;
use infra_resilience::shared::{FleetOverrides, SharedRateLimiter};
use infra_state::StateStore;
use infra_tests::servers::RedisCluster;

use crate::support::{SECOND, connect, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_and_rates_are_shared_over_a_cluster_and_survive_a_failover() {
    let mut cluster = RedisCluster::start(3, 3, 5000);
    let one = connect(&cluster.url(), 5 * SECOND).await;
    let other = connect(&cluster.url(), 5 * SECOND).await;
    rates_are_shared(&one, &other).await;
    let (operator, _) = process(one);
    let (follower, breaker) = process(other);
    let following = context::spawn(follower.clone().run());
    decide(&operator, "isolate").await;
    until("isolated", async || breaker.mode() == Mode::Isolated).await;
    // The node that keeps the decisions dies: whoever follows keeps what it knows.
    let place = owner_of_decisions(&cluster);
    cluster.node_mut(place).kill();
    assert_eq!(breaker.mode(), Mode::Isolated);
    decide(&operator, "release").await;
    until("released", async || breaker.mode() == Mode::Auto).await;
    following.abort();
}

/// Until it is written: while a primary is missing that fails.
async fn decide(operator: &FleetOverrides, what: &str) {
    until(what, async || {
        let done = match what {
            "isolate" => operator.isolate("exchange", "alice", "maintenance").await,
            _ => operator.release("exchange", "bob", "done").await,
        };
        done.is_ok()
    })
    .await;
}

fn owner_of_decisions(cluster: &RedisCluster) -> usize {
    let holds = |place: &usize| {
        let keys = cluster.node(*place).client().text(&["KEYS", "*"]);
        keys.split(' ').any(|key| key.contains("overrides"))
    };
    let mut primaries = (0..3).filter(holds);
    primaries.next().expect("a primary keeps the decisions")
}

fn process(store: StateStore) -> (FleetOverrides, CircuitBreaker) {
    let fleet = FleetOverrides::builder(store).poll_interval(SECOND / 4);
    let fleet = fleet.build().unwrap();
    let breaker = CircuitBreaker::builder("exchange").build().unwrap();
    fleet.register(&breaker).unwrap();
    (fleet, breaker)
}

fn limiter(store: StateStore) -> SharedRateLimiter {
    SharedRateLimiter::builder("orders", store)
        .rate(200, SECOND)
        .burst(20)
        .expected_processes(2)
        .ask_again(SECOND / 4)
        .store_timeout(5 * SECOND)
        .build()
        .unwrap()
}

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

async fn rates_are_shared(one: &StateStore, other: &StateStore) {
    let (one, other) = (limiter(one.clone()), limiter(other.clone()));
    let started = Instant::now();
    let (first, second) = tokio::join!(
        context::spawn(take(one.clone(), 2 * SECOND)),
        context::spawn(take(other.clone(), 2 * SECOND))
    );
    let taken = first.unwrap() + second.unwrap();
    // The rate for as long as it took, one burst, and a lease of each process.
    let most = started.elapsed().as_secs_f64() * 200.0 + 20.0 + 2.0 * 16.0;
    assert!(taken as f64 <= most && taken >= 40, "{taken}, {most}");
    assert!(!one.is_degraded() && !other.is_degraded());
}
