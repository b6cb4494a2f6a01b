//! Leases between processes and a server, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "over_redis/lease.rs"]
mod lease;

const BACKEND: &str = "redis";
