//! Levels of acknowledgement and reads from replicas, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "over_redis/levels.rs"]
mod levels;
#[path = "over_redis/replicas.rs"]
mod replicas;

const BACKEND: &str = "redis";
