//! The state store on a Redis cluster: the conformance suite, redirections, slots that move under
//! load, primaries that die, hang or come back empty.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "redis_cluster/faults.rs"]
mod faults;
#[path = "redis_cluster/leases.rs"]
mod leases;
#[path = "redis_cluster/levels.rs"]
mod levels;
#[path = "redis_cluster/moving.rs"]
mod moving;
#[path = "over_redis/operations.rs"]
mod operations;
#[path = "redis_cluster/outage.rs"]
mod outage;
#[path = "redis_cluster/reach.rs"]
mod reach;
#[path = "redis_cluster/routing.rs"]
mod routing;
#[path = "redis_cluster/sharing.rs"]
mod sharing;
#[path = "redis_cluster/support.rs"]
mod support;
#[path = "over_redis/table.rs"]
mod table;
