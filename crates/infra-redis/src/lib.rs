//! How the Redis drivers connect, and what Redis errors mean.
//!
//! The drivers of `infra-state` and `infra-events` stand on this crate; applications do not need
//! it. It owns what both must agree on: the [URL](RedisUrl) with TLS and ACL, the
//! [options](RedisOptions), the [supervised connection](Connection), the
//! [classes of errors](RedisFault) and the [backoff](Backoff).
//!
//! ```no_run
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
//! # What the client library is used for
//! The crate `redis` encodes, decodes and multiplexes. Everything around that is done here,
//! because its own ways lose calls or connections: name lookup, TCP, TLS (rustls with ring and
//! the operating system's trust store), login, timeouts, and connecting again. Neither its
//! `ConnectionManager`, nor its response timeout of 500 ms, nor its retries are in use.
//!
//! # Layout
//! - `url`: [`RedisUrl`]; `options`: [`RedisOptions`]; `backoff`: [`Backoff`]
//! - `subscriber`: [`Subscriber`], a connection for subscriptions; `resp`: its protocol
//! - `dial`: one attempt to connect, ending in a stream or a multiplexed connection; `tls`: the
//!   session's settings; `stream`: the bytes, small writes gathered
//! - `connection`: [`Connection`], what callers hold; `link`: the state shared with its
//!   supervisor; `supervisor`: the task that keeps it alive
//! - `fault`: [`RedisFault`], errors of calls; `connect_error`: [`ConnectError`]
//!
//! # Not here
//! Clusters and sentinels: a `MOVED` answer is the permanent fault [`FaultKind::Cluster`].

mod backoff;
mod connect_error;
mod connection;
mod dial;
mod fault;
mod link;
mod options;
mod resp;
mod stream;
mod subscriber;
mod supervisor;
mod tls;
mod url;

pub use backoff::Backoff;
pub use connect_error::{ConnectError, ConnectFault};
pub use connection::{Connection, Effect, LinkWatch, Transaction};
pub use fault::{FaultKind, RedisFault, classify, classify_reply};
pub use link::LinkStatus;
pub use options::RedisOptions;
pub use subscriber::{Push, Reply, Subscriber, SubscriberCommand};
pub use url::{RedisUrl, UrlError};

/// The client library, for drivers only.
#[doc(hidden)]
pub use redis;
