//! The log of an outage, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "over_redis/log.rs"]
mod log;

const BACKEND: &str = "redis";
