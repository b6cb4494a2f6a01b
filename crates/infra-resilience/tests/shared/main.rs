//! Operators' decisions and rate limits of a fleet: two processes over one store.
#![cfg(feature = "shared")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod limits;
mod overrides;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use infra_core::{Class, Classify, Clock, Deadline, ManualClock, MonoTime, Outcome, context};
use infra_resilience::breaker::{Mode, State, Verdict};
use infra_resilience::shared::{
    FleetError, FleetEvent, FleetOverrides, SharedLimitSignal, SharedRateLimiter,
    SharedRateLimiterBuilder,
};
use infra_resilience::{BreakerRegistry, CircuitBreaker, RejectReason};
use shared_support::Switched;

#[path = "../shared_support/mod.rs"]
mod shared_support;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Waits for something that other tasks bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(ms(5)).await;
    }
    panic!("never: {what}");
}
