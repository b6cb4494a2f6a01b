//! One state store over memory, a file and Redis: the same calls, the same answers, the same
//! errors.
//!
//! ```
//! use std::time::Duration;
//! use infra_state::{StateStore, TtlState};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! struct Position { ticker: String, shares: i64 }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infra_state::Error> {
//! let store = StateStore::connect("memory://").await?; // or file:///.., redis://..
//! let held = Position { ticker: "MSFT".into(), shares: 12 };
//! store.set("position:MSFT", &held).await?;
//! assert_eq!(store.get("position:MSFT").await?, Some(held));
//!
//! store.set_with("session", "open", Duration::from_secs(60)).await?;
//! assert!(matches!(store.ttl("session").await?, TtlState::Remaining(_)));
//! assert_eq!(store.increment("orders", 1).await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//! - **Keys** are UTF-8, 1 to 1,024 bytes, without control characters. [`StateStore::namespaced`]
//!   keeps the keys of one part of a program apart from all others.
//! - **Values** are JSON text under the plain key, so other programs and `redis-cli` read and
//!   write them too; or MessagePack by option, see [`Encoding`]. Nothing, a stored `null` and no
//!   bytes are three things. `get_bytes` and `set_bytes` take bytes as they are. NaN and infinity
//!   are refused.
//! - **Times to live** have milliseconds and are rounded up; zero is refused. An expired value is
//!   invisible at once. `set` removes an expiry unless [`Ttl::Keep`] is given; `increment` keeps
//!   it.
//! - **Versions**: [`StateStore::get_versioned`] reads a value with its version,
//!   [`StateStore::compare_and_swap`] writes only where it is still that one,
//!   [`StateStore::update`] repeats both, and [`StateStore::transaction`] writes several keys, all
//!   or none. What a version compares is in [`Capabilities::versions`].
//! - **Watching**: [`StateStore::watch`] reports all values under a prefix, then those that
//!   change; where some may have been missed it says so and begins anew.
//! - **Leases**: [`StateStore::lease`] is held by one process at a time, renewed in the background,
//!   with a fencing token that only grows; [`StateStore::election`] stands on it. Keys that begin
//!   with `~` belong to them.
//! - **Deadlines** hold for every call, by class of call, see [`StoreOptions`].
//! - **Errors** say what became of the call: after [`ErrorKind::Timeout`] of a write the outcome
//!   is unknown, never "failed". [`Error`] says so by [`Classify`].
//! - **Outages** of Redis: calls wait until it is back or until their deadline, and fail then as
//!   [`ErrorKind::Unavailable`], not applied. Reads cut off on the way are repeated, writes never.
//! - **Acknowledged** means what [`Capabilities::acknowledged`] says: in the memory of the primary
//!   by default on Redis; by option in that of replicas, or on the disk, see
//!   [`StateOptions::acknowledge`]. A write that misses its level in time fails as
//!   [`ErrorKind::Unacknowledged`].
//! - **Reads from replicas** are an option, [`StateOptions::read_from_replicas`]; then
//!   [`Capabilities::stale_reads`] is true.
//! - **A file** (`file:///path`, feature `file`) survives kill -9 without a server, for one
//!   process. A write is answered after it is durable (by default); many callers share the cost.
//!   What it holds is also held in memory, as far as it fits. See `FileDriver`.
//!
//! # Layers
//! What no backend does by itself is put around any of them, in one order from the outside in:
//! size limits, tenant, tracing, metrics, retry, breaker, timeout, compression, encryption, faults
//! on purpose. Another order is refused when the store is made. Every call keeps its meaning
//! through them. The table of which layer is for what is in [`layer`].
//!
//! ```
//! use std::time::Duration;
//! use infra_state::layer::{AttemptTimeouts, Faults, Layers, SizeLimits};
//! use infra_state::{ErrorKind, StateOptions, create_state_store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), infra_state::Error> {
//! let outage = Faults::seeded(42).fail_before(1.0);
//! let layers = Layers::new()
//!     .size_limits(SizeLimits::new().value_bytes(64 * 1024))
//!     .tenant("acme")
//!     .tracing()
//!     .timeout(AttemptTimeouts::new(Duration::from_millis(500)))
//!     .faults(outage.clone());
//! let store = create_state_store("memory", StateOptions::new().layers(layers)).await?;
//! let error = store.set("limit", &100).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Unavailable);
//! outage.switch(false);
//! store.set("limit", &100).await?; // under `acme:limit`
//! # Ok(())
//! # }
//! ```
//!
//! # Redis: one server, sentinels, a cluster
//! The URL says which, and nothing else changes in a program:
//!
//! | URL | what it leads to |
//! |---|---|
//! | `redis://host:6379` | one server; `rediss://` with TLS, here and below |
//! | `redis+sentinel://a,b,c/service` | the master that the sentinels name, asked for at every connect |
//! | `redis+cluster://a:7000,b:7000` | a cluster; any of its nodes will do |
//!
//! The configuration endpoint of ElastiCache or MemoryDB (`clustercfg` in its name), and the
//! endpoint of a serverless cache there, is taken for a cluster also after `rediss://`. With the
//! backend `elasticache` any name will do after `rediss://`: the server is asked whether it is a
//! node of a cluster.
//!
//! In a cluster keys are spread over slots by what stands between the first `{` and the next `}` of
//! a key, or by the whole key. So on a cluster
//! - a transaction, and a write through a [`LeaseGuard`], takes keys of one slot and refuses others
//!   before anything is sent, as [`ErrorKind::CrossSlot`]: see
//!   [`Capabilities::one_slot_transactions`]. `store.namespaced("{desk}")` puts all its keys into
//!   one slot, and so onto one node;
//! - `set_many`, `get_many` and `delete_many` are several commands, each key can fail by itself
//!   ([`Error::failures`]), and others may see a part ([`Atomicity::PerKey`]);
//! - a lease, a counter and a compare-and-swap are each about one key, and work as everywhere;
//! - calls follow slots that move, wait for nodes that are replaced until their deadlines, and
//!   fail as [`ErrorKind::Unavailable`], transient. Replication is asynchronous: what a primary
//!   has acknowledged just before it dies may be lost with it, here as with sentinels.
//!
//! # Two drivers for Redis
//! `redis` and `fred` store the same data, give the same answers and pass the same tests; one can
//! go on with what the other has written. They differ in what carries the bytes: `redis` is a
//! pipelining client of our own, `fred` the library of that name. **Choose `redis`**, unless one of
//! these counts for you: a second opinion when you suspect a client, or a program that has `fred`
//! in it anyway. What differs:
//! - It speaks to one server, also behind sentinels, and not to a cluster.
//! - After `CLUSTERDOWN` the library gives up its connection, so writes on their way have an
//!   unknown outcome then.
//! - A password that the server did not ask for is taken for accepted, where `redis` says so.
//! - It trusts the other end: lists in lists without an end, which no Redis sends, overflow its stack
//!   and end the process, where `redis` says that this is no Redis.
//! - It compiles 35 crates more.
//! - With many callers it is slower. The figures of both, side by side and beside the bare
//!   libraries, are in `BENCHMARKS.md` at the root of the repository.
//!
//! # Which part to read
//! | you want to | look at |
//! |---|---|
//! | store and read values | [`StateStore`] |
//! | choose the backend by name or URL | [`create_state_store`], [`StateStore::connect`] |
//! | know what went wrong | [`Error`], [`ErrorKind`] |
//! | move to another backend, with or without a pause | [`copy`] |
//! | limit, trace, count, repeat, compress or encrypt | [`layer`] |
//! | write a driver | [`StateDriver`], and `conformance` (feature) |
//!
//! # Layout
//! - `store`: the portable handle: `single` and `bulk` calls, `versioned` ones, `transaction`,
//!   `connect`, `options`
//! - `key`: rules and namespaces; `ttl`; `codec`: JSON, MessagePack, and what neither may hold;
//!   `integer`: what can be incremented
//! - `scan`: the stream of keys; `watch`: the stream of changes; `error`; `capabilities`
//! - `lease`: something that one process holds, and leader election
//! - `version`, `step`: what compare-and-swap and transactions are made of
//! - `driver`: what a backend implements; `memory`, `file`, `redis`, `redis_cluster`, `fred`: the
//!   backends; `redis_common`: what the last three share
//! - [`copy`]: moving between backends, and writing to both
//! - [`layer`]: what is put around a driver
//! - `conformance`: the suite that every backend passes
//!
//! # Features
//! - `file`: the file driver
//! - `redis`: the Redis driver
//! - `fred`: the Redis driver over the client library `fred`
//! - `resilience`: the layers `retry` and `breaker`
//! - `encryption`, `compression`, `metrics`: the layers of these names
//! - `msgpack`: values in MessagePack, by option
//! - `conformance`: the public suite

mod capabilities;
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod copy;
mod driver;
mod error;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "fred")]
mod fred;
mod integer;
mod key;
pub mod layer;
mod lease;
mod memory;
mod random;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(any(feature = "redis", feature = "fred"))]
mod redis_common;
mod scan;
#[cfg(feature = "resilience")]
mod shared;
mod signal;
mod step;
mod store;
mod ttl;
mod version;
mod watch;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{self, BoxFuture, Class, Classify, Outcome, Secret, SharedClock};

pub use capabilities::{Acknowledged, Atomicity, Capabilities, Requirement, Versions};
pub use codec::Encoding;
pub use driver::{
    DriverEntry, DriverError, DriverResult, Expiry, KeyFailure, ScanCursor, ScanPage, StateDriver,
    TtlMillis,
};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "file")]
pub use file::{Backup, Compaction, FileDriver, FileDurability, FileError, FileFault, FileOptions};
#[cfg(feature = "fred")]
pub use fred::FredDriver;
pub use key::MAX_KEY_BYTES;
pub use lease::{Election, Leader, Lease, LeaseGuard, RESERVED_PREFIX};
pub use memory::{MemoryDriver, MemoryOptions};
#[cfg(feature = "redis")]
pub use redis::RedisDriver;
#[cfg(feature = "redis")]
pub use redis_cluster::RedisClusterDriver;
pub use scan::ScanStream;
pub use signal::{SignalSender, StateSignal, StateSignals};
pub use step::{Action, Expect, Step};
pub use store::{
    StateOptions, StateStore, StoreOptions, Transaction, UpdateError, create_state_store,
};
pub use ttl::{Ttl, TtlState};
pub use version::{Entry, Version, VersionToken, Versioned};
pub use watch::{
    Change, ChangeStream, WatchEvent, WatchFeed, WatchHub, WatchSink, WatchStream, watch_feed,
};
