//! Each fault meets every call of the state store, over the client library `redis`.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use infra_redis::Connection;
use infra_state::RedisDriver as Driver;

#[path = "over_redis/faults.rs"]
mod faults;
#[path = "over_redis/operations.rs"]
mod operations;
#[path = "over_redis/table.rs"]
mod table;
