//! What the processes of a fleet share over a state store: operators' decisions on breakers, and
//! rate limits.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::context;
//! use infra_resilience::CircuitBreaker;
//! use infra_resilience::breaker::Mode;
//! use infra_resilience::shared::{FleetOverrides, MemorySharedStore, SharedRateLimiter};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemorySharedStore::new(); // in a fleet: a `StateStore` of `infra-state`
//!
//! // In every process: breakers follow what operators decide for the fleet.
//! let breaker = CircuitBreaker::builder("exchange").build()?;
//! let fleet = FleetOverrides::builder(store.clone()).build()?;
//! fleet.register(&breaker)?;
//! let following = context::spawn(fleet.clone().run());
//!
//! // In any of them, or in a tool: an operator decides.
//! fleet.isolate("exchange", "alice", "venue maintenance").await?;
//! assert_eq!(breaker.mode(), Mode::Isolated);
//!
//! // 600 orders a minute by all processes together.
//! let orders = SharedRateLimiter::builder("orders", store)
//!     .rate(600, Duration::from_secs(60))
//!     .burst(10)
//!     .expected_processes(4)
//!     .build()?;
//! orders.acquire(1).await?;
//! # following.abort();
//! # Ok(()) }
//! ```
//!
//! # What is shared, and what is not
//! Statistics and automatic states of breakers stay in their process: one bad node must not stop
//! the others. What an *operator* decides goes to all. Neither needs its store at the moment of a
//! call: without it, breakers keep the last decision that was read, and a limiter grants a fixed
//! share. Both say so.
//!
//! # The store
//! Anything that can compare and swap a value under a key is a [`SharedStore`]. `infra-state`
//! (feature `resilience`) makes one of its `StateStore`: on Redis, in a file, in memory.
//!
//! # Layout
//! - [`FleetOverrides`]: modes of breakers, by name; `document` is what is stored,
//!   `error` why it was not.
//! - [`SharedRateLimiter`]: the handle; `exchange` asks the store, `ledger` decides in between,
//!   `cells` is the arithmetic of both.
//! - [`SharedStore`]: what a store must be able to do.

mod builder;
mod cells;
mod document;
mod error;
mod event;
mod exchange;
mod ledger;
mod limiter;
mod overrides;
mod store;

pub use builder::SharedRateLimiterBuilder;
pub use document::FleetOverride;
pub use error::FleetError;
pub use event::{FleetEvent, FleetStatus};
pub use ledger::SharedLimitCounts;
pub use limiter::{SharedLimitSignal, SharedRateLimiter};
pub use overrides::{FleetOverrides, FleetOverridesBuilder};
pub use store::{
    MemorySharedStore, SharedChanges, SharedStore, SharedStoreError, SharedValue, SharedVersion,
    StoreResult,
};
