//! What the Redis driver tells about its server, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use infra_redis::Connection;
use infra_state::RedisDriver as Driver;

#[path = "over_redis/signals.rs"]
mod signals;

const BACKEND: &str = "redis";
