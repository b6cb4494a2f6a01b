//! The state store on a real server, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "over_redis/suite.rs"]
mod suite;

const BACKEND: &str = "redis";
