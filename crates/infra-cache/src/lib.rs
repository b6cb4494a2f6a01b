//! A cache of typed values: in this process, bounded by weight, in front of a store that other
//! processes share.
//!
//! ```
//! use std::time::Duration;
//! use infra_cache::{CacheOptions, CachePolicy, CacheStore};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Quote { symbol: String, bid: f64 }
//!
//! async fn fetch(symbol: &str) -> Result<Quote, std::io::Error> {
//!     Ok(Quote { symbol: symbol.into(), bid: 187.5 }) // slow and expensive
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infra_cache::Error> {
//! let policy = CachePolicy::new(Duration::from_secs(60)).soft_ttl(Duration::from_secs(10));
//! let cache = CacheStore::memory_with(CacheOptions::new().policy(policy));
//!
//! let quote = cache.get_or_load("AAPL", || fetch("AAPL")).await?; // loads
//! let again = cache.get_or_load("AAPL", || fetch("AAPL")).await?; // does not
//! assert_eq!((quote.bid, again.bid), (187.5, 187.5));
//!
//! cache.invalidate("AAPL").await?;
//! assert!(cache.get::<Quote>("AAPL").await?.is_none());
//! assert_eq!(cache.stats().loads, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Contents
//! - *What is promised*: [one load](#one-load-for-all), [freshness](#freshness),
//!   [invalidation](#invalidation), [outages](#outages), [memory](#memory)
//! - *Which cache*: [backends](#backends), [what the store holds](#what-the-store-holds)
//! - *For readers of the code*: [layout](#layout), [features](#features)
//!
//! # One load for all
//! However many ask for a key that is not there, in one process one load runs. It is a task of its
//! own:
//! - a caller that gives up, or is dropped, also the first one, harms nobody; each waits for its own
//!   [wait timeout](CachePolicy::wait_timeout);
//! - a loader that fails gives its error to those who wait and to nobody else: the next call loads
//!   again; one that panics or hangs ([load timeout](CachePolicy::load_timeout)) likewise;
//! - across processes each loads once, or, with [`CacheOptions::shared_loads`], one for all;
//!   when that one dies, another takes over after 6 s.
//!
//! # Freshness
//! | point in a value's life | what a read does |
//! |---|---|
//! | before its soft time to live | returns it |
//! | shortly before that or before its end, by chance | returns it; one load renews it in the background |
//! | from the [soft time to live](CachePolicy::soft_ttl) on | returns it, marked [`Stale`](Freshness::Stale); one load renews it |
//! | from the end of the time to live on | loads, and waits for it |
//! | within [`stale_if_error`](CachePolicy::stale_if_error) after it, when that fails | returns it, marked [`StaleOnError`](Freshness::StaleOnError) |
//!
//! Times to live [vary](CachePolicy::jitter) a little, so that what was stored together does not
//! expire together. That there is nothing can be [remembered](CachePolicy::negative_ttl) too.
//!
//! This process never keeps a value longer than the store does, nor without asking again longer
//! than the [local time to live](CacheOptions::local_ttl), 30 s unless set. So that is the longest
//! time for which a change elsewhere can go unnoticed, whatever is broken.
//!
//! # Invalidation
//! What another process writes or removes is heard of at once where the store tells
//! ([`is_tracking`](CacheStore::is_tracking)): then also writes of programs that know nothing of
//! this cache. For other stores there is [`CacheStore::listen`]. Whenever something may have been
//! missed, because the connection broke or a queue overflowed, everything in this process is asked
//! for again before it counts as fresh.
//!
//! An outdated value is never put back: each read notes the key's generation before it starts, and
//! what it found is kept only if nothing was heard of the key since. A load also marks its key in
//! the store, and its value is stored only if the mark is still there; so a removal in another
//! process, at any moment of the load, leaves nothing old behind, neither here nor in the store.
//! (Without compare-and-swap in the store, the last write wins there.)
//!
//! A process hears of its own writes too. So the first read after a write asks the store once more.
//!
//! # Outages
//! A read that finds the store down loads, and keeps the value in this process; the store is not
//! asked by loads for one second then, so that an outage does not cost each of them a timeout.
//! `get` and writes fail. [`Error`] says by [`infra_core::Classify`] what became of a write.
//!
//! # Memory
//! Values in this process weigh their key, their stored form and 160 bytes each, together never
//! more than [`CacheOptions::max_bytes`]. Which ones stay is decided by use (quick_cache, a relative
//! of S3-FIFO): one scan over everything does not push out what is asked for often. Values are
//! immutable and shared: a hit costs a reference count, and no allocation.
//!
//! # Backends
//! | backend | made by | shared | tells what changes |
//! |---|---|---|---|
//! | `memory` | [`CacheStore::memory`] | no | need not |
//! | `redis`, `elasticache` | [`create_cache_store`] (feature `redis`) | yes | yes |
//! | any [`StateStore`](infra_state::StateStore) | [`CacheStore::over`] | as the store | where its driver can watch |
//!
//! # What the store holds
//! The values as [`StateStore::set`](infra_state::StateStore::set) stores them, JSON unless the
//! store is made otherwise, under the key in the namespace of the [cache's
//! name](CacheOptions::name): `cache:AAPL`. During a load the key holds a mark, and after a loader
//! found nothing another; both begin with a byte 0, which no JSON text does, and both expire.
//!
//! # Layout
//! - `store`: [`CacheStore`]: `read`, `write`, `warm`, `connect`, `options`; `shared`: what its
//!   handles and tasks share
//! - `policy`: [`CachePolicy`]; `freshness`: when a value is fresh, a state machine without a clock
//! - `coarse`: a clock that is cheap to read, for hits
//! - `near`: the values in this process; `generations`: whether what was read may be kept
//! - `flight`: one load for all; `waiters`: those who wait for it; `load`: what it does;
//!   `backend`: the store and the marks in it
//! - `invalidation`: `tracking` of the store, `channel`s between processes, `events`
//! - `stats`, `metrics`; `error`; `random`
//!
//! # Features
//! - `redis`: the backends `redis` and `elasticache`
//! - `events`: [`CacheStore::listen`] over an event bus
//! - `metrics`: the counters as metrics of the `metrics` facade

mod backend;
mod coarse;
mod error;
mod flight;
mod freshness;
mod generations;
mod invalidation;
mod load;
#[cfg(feature = "metrics")]
mod metrics;
mod near;
mod policy;
mod random;
mod shared;
mod stats;
mod store;
mod waiters;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{self, BoxFuture, Class, Classify, Outcome, Secret, SharedClock};

pub use error::{BoxError, Error, ErrorKind, Result};
pub use freshness::Freshness;
#[cfg(feature = "events")]
pub use invalidation::EventInvalidation;
pub use invalidation::{Invalidation, InvalidationChannel, InvalidationGuard, InvalidationSink};
pub use policy::CachePolicy;
pub use stats::CacheStats;
pub use store::{CacheOptions, CacheStore, Cacheable, Cached, WarmReport, create_cache_store};
