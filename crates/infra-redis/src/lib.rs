//! How the Redis drivers connect, and what Redis errors mean.
//!
//! The drivers of `infra-state` and `infra-events` stand on this crate; applications do not need
//! it. It owns what both must agree on: the [URL](RedisUrl) with TLS and ACL, the
//! [options](RedisOptions), the [supervised connection](Connection), the
//! [classes of errors](RedisFault) and the [backoff](Backoff).
//!
#![cfg_attr(feature = "redis", doc = "```no_run")]
#![cfg_attr(not(feature = "redis"), doc = "```ignore")]
//! use std::time::Duration;
//! use infra_redis::{Connection, Effect, RedisOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = RedisOptions::parse("redis://localhost:6379")?;
//! let connection = Connection::connect(options).await?;
//! let mut get = redis::cmd("GET");
//! get.arg("greeting");
//! let reply = connection
//!     .command(&get, Effect::Read, Duration::from_secs(2))
//!     .await?;
//! # let _ = reply;
//! # Ok(())
//! # }
//! ```
//!
//! # What a client library is used for
//! The crate `redis` (feature `redis`) builds commands. Everything that waits is done here,
//! because its own ways lose calls or connections, and cost more per call than the server does:
//! name lookup, TCP, TLS (rustls with ring and the operating system's trust store), login,
//! [sharing a connection](Connection), timeouts, and connecting again.
//! The crate `fred` (feature `fred`) opens the connection, logs in and multiplexes by itself, with
//! the same TLS settings; its reconnecting, its second and third attempts and its timeouts are
//! not in use.
//!
//! # Layout
//! - `url`: [`RedisUrl`]; `options`: [`RedisOptions`]; `backoff`: [`Backoff`]; `address_map`:
//!   [`AddressMap`]
//! - `dial`: the steps of an attempt to connect, ending in a `stream`; `tls`: the session's
//!   settings; `wire`: the login, and one command after the other
//! - `encode`, `reply`, `value`: the protocol, RESP2 and RESP3
//! - `mux`: one connection that many callers share; its `queue` has no I/O, its `driver` is the
//!   task that does
//! - `supervised`: a connection that is dialled again for ever, and the calls over it; `link`:
//!   the state shared with its supervisor; `supervisor`: the task that keeps it alive; `client`:
//!   what both need of a client; `lasting`: connections that do not last
//! - `connection`: [`Connection`], what callers hold; `fred`: the same over the library `fred`
//! - `cluster`: [`Cluster`], a connection for each primary and the way to them; `sentinel`: where the
//!   master is; `discover`: whether a server is a node of a cluster
//! - `acknowledge`: the levels at which a write counts as done; `acked`: connections of their own
//!   for writes of such a level; `replicas`: [`ReadFrom`] replicas
//! - `subscriber`: [`Subscriber`], a connection for subscriptions; `resp`: its protocol
//! - `tracker`: [`Tracker`], a connection that reports the keys that change
//! - `together`: several futures in one task
//! - `fault`: [`RedisFault`], errors of calls; `connect_error`: [`ConnectError`]
//!
//! # Clusters and sentinels
//! `redis+cluster://` names nodes of a cluster. [`Cluster`] routes each command to the primary that
//! serves the slot of its key. A [`Connection`] or [`Subscriber`] with such a URL speaks to any one
//! of the nodes, which is enough for Pub/Sub; commands for keys of other nodes fail there, as with
//! a `redis://` URL that leads to a node, as the permanent fault [`FaultKind::Cluster`].
//!
//! `redis+sentinel://` names sentinels. They are asked for the master at every dial, what answers
//! there has to be one, and when they name another the connection is dialled anew.

// Without a client library only the URL and the subscriber are in use.
#![cfg_attr(not(any(feature = "redis", feature = "fred")), allow(dead_code))]

mod acked;
mod acknowledge;
mod address_map;
mod backoff;
mod client;
#[cfg(feature = "redis")]
mod cluster;
mod connect_error;
#[cfg(feature = "redis")]
mod connection;
mod dial;
mod discover;
mod encode;
mod fault;
#[cfg(feature = "fred")]
mod fred;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lasting;
mod link;
#[cfg(feature = "redis")]
mod mux;
mod options;
mod replicas;
mod reply;
mod resp;
mod sentinel;
mod stream;
mod subscriber;
mod supervised;
mod supervisor;
mod tls;
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod together;
mod tracker;
mod url;
mod value;
mod wire;

pub use acknowledge::Acknowledge;
pub use address_map::AddressMap;
pub use backoff::Backoff;
#[cfg(feature = "redis")]
pub use cluster::{Cluster, ClusterMap, Command, MapWatch, Node, Slot};
pub use connect_error::{ConnectError, ConnectFault};
#[cfg(feature = "redis")]
pub use connection::{Connection, Transaction};
pub use encode::Decimal;
pub use fault::{FaultKind, RedisFault};
#[cfg(feature = "fred")]
pub use fred::{FredCommand, FredConnection, FredLife, FredReply};
pub use lasting::{Attempts, OF_USE, TOLD_EVERY, Tidings};
pub use link::{LinkStatus, LinkWatch};
#[cfg(feature = "redis")]
pub use mux::ItemScript;
pub use options::RedisOptions;
pub use replicas::ReadFrom;
pub use subscriber::{Push, Reply, Subscriber, SubscriberCommand};
pub use supervised::Effect;
pub use tracker::{TrackError, Tracked, Tracker};
pub use url::{Address, RedisUrl, UrlError, UrlKind};
pub use value::Value;

/// The client library, for drivers only.
#[cfg(feature = "redis")]
#[doc(hidden)]
pub use redis;
