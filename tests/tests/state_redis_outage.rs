//! Outages under the state store, over the client library `redis`.
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

#[path = "over_redis/changing.rs"]
mod changing;
#[path = "over_redis/outage.rs"]
mod outage;

const BACKEND: &str = "redis";
#[path = "over_redis/swapping.rs"]
mod swapping;
