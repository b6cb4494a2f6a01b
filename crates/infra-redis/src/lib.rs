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
//! The crate `redis` (feature `redis`) encodes, decodes and multiplexes. Everything around that
//! is done here, because its own ways lose calls or connections: name lookup, TCP, TLS (rustls
//! with ring and the operating system's trust store), login, timeouts, and connecting again.
//! Neither its `ConnectionManager`, nor its response timeout of 500 ms, nor its retries are in
//! use. The crate `fred` (feature `fred`) also opens the connection and logs in, with the same TLS
//! settings; its reconnecting, its second and third attempts and its timeouts are not in use.
//!
//! # Layout
//! - `url`: [`RedisUrl`]; `options`: [`RedisOptions`]; `backoff`: [`Backoff`]
//! - `subscriber`: [`Subscriber`], a connection for subscriptions; `resp`: its protocol
//! - `dial`: the steps of an attempt to connect; `tls`: the session's settings; `stream`: the
//!   bytes, small writes gathered
//! - `supervised`: a connection that is dialled again for ever, and the calls over it; `link`:
//!   the state shared with its supervisor; `supervisor`: the task that keeps it alive; `client`:
//!   what both need of a client library
//! - `connection`: [`Connection`], what callers of the library `redis` hold; `multiplexed`: how
//!   it is dialled; `classify`: its errors
//! - `fred`: the same over the library `fred`
//! - `fault`: [`RedisFault`], errors of calls; `connect_error`: [`ConnectError`]
//!
//! # Not here
//! Clusters and sentinels: a `MOVED` answer is the permanent fault [`FaultKind::Cluster`].

// Without a client library only the URL and the subscriber are in use.
#![cfg_attr(not(any(feature = "redis", feature = "fred")), allow(dead_code))]

mod backoff;
#[cfg(feature = "redis")]
mod classify;
mod client;
mod connect_error;
#[cfg(feature = "redis")]
mod connection;
mod dial;
mod fault;
#[cfg(feature = "fred")]
mod fred;
mod link;
#[cfg(feature = "redis")]
mod multiplexed;
mod options;
mod resp;
mod stream;
mod subscriber;
mod supervised;
mod supervisor;
mod tls;
mod url;

pub use backoff::Backoff;
#[cfg(feature = "redis")]
pub use classify::{classify, classify_reply};
pub use connect_error::{ConnectError, ConnectFault};
#[cfg(feature = "redis")]
pub use connection::{Connection, Transaction};
pub use fault::{FaultKind, RedisFault};
#[cfg(feature = "fred")]
pub use fred::{FredCommand, FredConnection, FredReply};
pub use link::{LinkStatus, LinkWatch};
pub use options::RedisOptions;
pub use subscriber::{Push, Reply, Subscriber, SubscriberCommand};
pub use supervised::Effect;
pub use url::{RedisUrl, UrlError};

/// The client library, for drivers only.
#[cfg(feature = "redis")]
#[doc(hidden)]
pub use redis;
