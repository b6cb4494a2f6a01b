//! The edges of waits for a rate limit: found by mutants that no row noticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

mod support;

use infra_core::{Clock, Deadline, ManualClock};
use infra_resilience::{Quota, RateLimiter};
use support::{poll_once, secs, settle};

/// One unit per second, the first of which is taken.
fn used_up() -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    let quota = Quota::smooth(1, secs(1)).burst(1);
    let builder = RateLimiter::builder("l").quota(quota).max_wait(secs(100));
    let limiter = builder.clock(clock.shared()).build().unwrap();
    limiter.try_acquire(1).unwrap();
    (clock, limiter)
}

#[tokio::test]
async fn a_wait_that_ends_at_its_deadline_is_worth_waiting_for() {
    let (clock, limiter) = used_up();
    let deadline = Deadline::after(clock.now(), secs(1));
    let mut wait = Box::pin(limiter.acquire_until(1, deadline));
    assert!(poll_once(&mut wait).is_pending());
    clock.advance(secs(1));
    wait.await.unwrap();
}

#[tokio::test]
async fn who_comes_to_the_head_of_the_queue_sleeps_no_longer_than_its_own_wait() {
    let (clock, limiter) = used_up();
    let waiting = || {
        let limiter = limiter.clone();
        infra_core::context::spawn(async move { limiter.acquire(1).await })
    };
    let first = waiting();
    settle().await;
    let second = waiting();
    settle().await;
    clock.advance(secs(1));
    settle().await;
    assert!(first.is_finished() && !second.is_finished());
    clock.advance(secs(1));
    settle().await;
    assert!(second.is_finished());
}
