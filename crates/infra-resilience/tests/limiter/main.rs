//! The rate limiter: what needs no call around it. `c04/limiter.rs` holds the rows on both shells.
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

mod feedback;
mod quotas;
mod registry;
mod reservation;
#[path = "../support/mod.rs"]
mod support;
mod waiting;

use std::time::Duration;

use infra_core::{BoxFuture, ManualClock};
use infra_resilience::{Quota, RateLimiter, RateLimiterBuilder, Rejection};
use support::{poll_once, secs};

const NANO: Duration = Duration::from_nanos(1);

fn limiter(quotas: &[Quota]) -> (ManualClock, RateLimiter) {
    let clock = ManualClock::new();
    clock.advance(secs(1_000));
    (
        clock.clone(),
        builder(quotas).clock(clock.shared()).build().unwrap(),
    )
}

fn builder(quotas: &[Quota]) -> RateLimiterBuilder {
    let builder = RateLimiter::builder("l");
    quotas
        .iter()
        .fold(builder, |builder, quota| builder.quota(*quota))
}

fn waiting(limiter: &RateLimiter, weight: u32) -> BoxFuture<'static, Result<(), Rejection>> {
    let limiter = limiter.clone();
    let mut wait: BoxFuture<'static, _> = Box::pin(async move { limiter.acquire(weight).await });
    assert!(poll_once(&mut wait).is_pending());
    wait
}
