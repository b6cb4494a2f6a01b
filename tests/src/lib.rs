//! What crosses crates, processes or servers: the harness, and under `tests/` the suites that use
//! it.
//!
//! # Layout
//! - [`servers`]: a Redis or Valkey server of the test's own, to be killed, stopped and started
//!   again, and the [shared one](servers::shared_redis_url) for tests that only need *some* server;
//! - [`raw`]: the Redis protocol over a bare socket, to look at a server without the code under
//!   test;
//! - [`proxy`]: between a client and a server, to cut connections in the middle of an answer;
//! - [`desk`]: runs of the example `trading_desk`, as processes;
//! - [`tls`]: a certificate authority and a server certificate for one test run.
//!
//! The library needs nothing but the standard library, so that `xtask` can use it too. What a suite
//! needs on top stands behind the features `redis` (every test that talks to a server) and
//! `containers` (the program that starts the server in a container).
//!
//! # First example
//! ```no_run
//! use infra_tests::servers::{RedisConfig, RedisServer};
//!
//! let mut server = RedisServer::start(RedisConfig::new().append_only());
//! let mut client = server.client();
//! assert_eq!(client.text(&["SET", "greeting", "hello"]), "OK");
//! server.restart(); // killed with SIGKILL, started again on the same port and directory
//! assert_eq!(server.client().text(&["GET", "greeting"]), "hello");
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test support: a failure has to fail the test at once; addresses come from outside"
)]

use std::time::Duration;

/// By how much a machine that is busy with other things may be late with what is due: a bound that
/// is measured on the clock is what is promised and this, and what would be wrong takes longer.
pub const LATE: Duration = Duration::from_secs(3);

pub mod desk;
pub mod proxy;
pub mod raw;
pub mod servers;
pub mod tls;
