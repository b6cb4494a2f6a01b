//! Errors of the state store on a real server, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use infra_redis::Connection;

#[path = "over_redis/errors.rs"]
mod errors;

const BACKEND: &str = "redis";
