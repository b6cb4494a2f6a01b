//! C04: the rows of the conformance table on both shells, the plain wrappers and the tower layers.
//! `complete` checks that none is left out.
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

mod breaker;
mod bulkhead;
mod complete;
mod composition;
#[cfg(feature = "shared")]
mod fleet;
mod limiter;
mod load;
mod race;
mod retry;
#[cfg(feature = "shared")]
#[path = "../shared_support/mod.rs"]
mod shared_support;
#[path = "../support/mod.rs"]
mod support;
mod time;

const NANO: std::time::Duration = std::time::Duration::from_nanos(1);
