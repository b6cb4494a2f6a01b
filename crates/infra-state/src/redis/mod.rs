//! The Redis driver: plain strings under plain keys over one supervised connection.
//!
//! | call | commands |
//! |---|---|
//! | `get`, `get_many` | `GET`; `MGET` of up to 512 keys, several in one pipeline |
//! | `set`, `set_if_absent` | `SET` with `PX`, `KEEPTTL`, `NX` |
//! | `set_many` | `MULTI`, one `SET` each, `EXEC` |
//! | `delete`, `exists` | `DEL` of up to 512 keys; `EXISTS` |
//! | `increment` | `INCRBY` with a signed number |
//! | `expire`, `persist`, `ttl` | `PEXPIRE`, `PERSIST`, `PTTL` |
//! | `scan` | `SCAN` with `MATCH` and `COUNT 500` |
//! | `transact` | one script; of one key `SET NX`, `SET IFEQ` where the server has it, or a script |
//! | `watch` | a connection of its own with `CLIENT TRACKING ON BCAST PREFIX` |
//!
//! A driver that connected by itself keeps a marker under `~instance`, one key for the whole
//! server, by which it notices a server that came back empty; scans leave it out.
//!
//! # What compare-and-swap compares
//! The stored bytes, whole, whatever their length. So a swap sends the old value and the new one;
//! with large values that is the price, and small ones (a checkpoint that is a reference, a lease)
//! cost next to nothing. A digest instead would save half of the bytes and give up the certainty:
//! of SHA-1, the only digest a script has (`redis.sha1hex`), two texts with one digest can be made
//! on purpose, by whoever writes values; `SET IFDEQ` of Redis 8.4 compares 64 bits of XXH3, which
//! are no defence at all, and Valkey has it not. A wrong match would overwrite a change that nobody
//! has seen, which is the one thing that compare-and-swap is there to prevent.
//!
//! # What a write and a read mean
//! By default a write is answered when the primary has it in its memory, and every read asks the
//! primary. Both can be chosen, in the URL or the options:
//! - `ack=replicated:n` or `ack=fsynced` ([`StateOptions::acknowledge`]): all writes, those of
//!   leases and transactions too, share connections of their own, on which a batch of them is sent
//!   with one `WAIT` or `WAITAOF`. Of a batch that misses its level each caller is told at its own
//!   deadline how many confirmed ([`ErrorKind::Unacknowledged`](crate::ErrorKind::Unacknowledged)):
//!   the primary has the write then. While no replica confirms at all, three batches wait and
//!   further writes are not sent; they fail as not applied.
//! - `read=replicas` or `read=host:port,host:port` ([`StateOptions::read_from_replicas`]): `get`,
//!   `get_many`, `exists` and `ttl` ask replicas in turns, and the primary where none is in touch
//!   with it. A replica that is cut off from its primary is left within about a second. Whatever
//!   reads a version, `get_entry` (so caches too), `scan`, watches and leases ask the primary.
//!
//! Needs Redis 6.0 or newer, or Valkey (`KEEPTTL`). One server, also
//! one that sentinels watch over (`redis+sentinel://`). A node of a cluster is no such server: for
//! keys of other nodes the calls fail as [`Unsupported`](crate::ErrorKind::Unsupported) and say
//! that the URL should begin with `redis+cluster://`, which is another driver.

pub(crate) mod scan;
pub(crate) mod single;
pub(crate) mod transact;

use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;
use infra_redis::redis::{Cmd, Pipeline, cmd, pipe};
use infra_redis::{
    Connection, Effect, LinkStatus, LinkWatch, RedisFault, RedisOptions, Transaction, Value,
};

use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::redis_common::{
    CHUNK, Monitor, Observed, Watches, capabilities, connection_options, reply,
};
use crate::signal::StateSignals;
use crate::step::Step;
use crate::store::StateOptions;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// The driver behind `redis://` and `rediss://`.
///
/// While the connection is down, calls wait for it until their deadlines; reads that lose it on
/// the way are repeated within their deadlines, writes never are.
#[derive(Debug)]
pub struct RedisDriver {
    connection: Connection,
    native: transact::Native,
    watches: Watches,
    monitor: Monitor,
}

impl RedisDriver {
    /// Connects, unless the options say lazy.
    ///
    /// # Errors
    /// A URL that cannot be used; and what stands in the way of the connection.
    pub async fn connect(options: &StateOptions) -> Result<Self, DriverError> {
        let options = connection_options(options)?;
        Ok(RedisDriver::over(Connection::connect(options).await?).monitored())
    }

    /// A driver over a connection that others may use too; closing the store closes it.
    ///
    /// It tells no signals and no risks until [`RedisDriver::monitored`] asks for them: that
    /// writes a key, and the connection may be one of a user who must not.
    pub fn over(connection: Connection) -> Self {
        RedisDriver {
            connection,
            native: transact::Native::default(),
            watches: Watches::new(),
            monitor: Monitor::idle(),
        }
    }

    /// Lets a driver made by [`RedisDriver::over`] tell signals and risks: it asks `INFO` after
    /// each connect, and keeps the marker `~instance` on the server. Must be called on a tokio
    /// runtime.
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.monitor = Monitor::start(self.connection.clone());
        self
    }

    async fn read(&self, command: &Cmd, limit: Duration) -> Result<Value, DriverError> {
        Ok(self
            .connection
            .command(command, Effect::Read, limit)
            .await?)
    }

    async fn write(&self, command: &Cmd, limit: Duration) -> Result<Value, DriverError> {
        Ok(self
            .connection
            .command(command, Effect::Write, limit)
            .await?)
    }
}

impl Observed for Connection {
    fn options(&self) -> &RedisOptions {
        Connection::options(self)
    }

    fn status(&self) -> LinkStatus {
        Connection::status(self)
    }

    fn follow(&self) -> LinkWatch {
        self.watch()
    }

    async fn ask(
        &self,
        name: &'static str,
        arguments: &[&str],
        effect: Effect,
        limit: Duration,
    ) -> Result<Option<Bytes>, RedisFault> {
        let mut parts = vec![name.as_bytes()];
        parts.extend(arguments.iter().map(|argument| argument.as_bytes()));
        Ok(match self.send(&parts, effect, limit).await? {
            Value::Bytes(text) => Some(text.into()),
            Value::Okay => Some(Bytes::from_static(b"OK")),
            _ => None,
        })
    }
}

impl Drop for RedisDriver {
    fn drop(&mut self) {
        self.watches.close();
    }
}

impl StateDriver for RedisDriver {
    fn backend(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.connection.options())
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        Box::pin(async move { single::get(&self.connection, Effect::StaleRead, key, limit).await })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move { single::get_entry(&self.connection, key, limit).await })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let chunks = chunked("MGET", keys);
            let replies = self
                .connection
                .pipeline(&chunks, Effect::StaleRead, limit)
                .await?;
            let mut values = Vec::with_capacity(keys.len());
            for chunk in replies {
                for value in reply::list(chunk)? {
                    values.push(reply::bytes(value)?);
                }
            }
            if values.len() != keys.len() {
                return Err(reply::unexpected("one value for each key"));
            }
            Ok(values)
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move { single::set(&self.connection, key, &value, expiry, limit).await })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let mut transaction = Transaction::new();
            for (key, value) in entries {
                transaction.add(set_command(key, value, expiry));
            }
            // Only SETs, which fail when they are queued or not at all: nothing or everything.
            self.connection.transaction(transaction, limit).await?;
            Ok(())
        })
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        Box::pin(async move {
            single::set_if_absent(&self.connection, key, &value, expiry, limit).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        Box::pin(async move {
            if let [key] = keys {
                let reply = self.write(cmd("DEL").arg(*key), limit).await?;
                return Ok(reply::integer(&reply)?.unsigned_abs());
            }
            let chunks = chunked("DEL", keys);
            let replies = self
                .connection
                .pipeline(&chunks, Effect::Write, limit)
                .await?;
            let counts = replies.iter().map(reply::integer);
            let deleted: i64 = counts.sum::<Result<i64, DriverError>>()?;
            Ok(deleted.unsigned_abs())
        })
    }

    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move { single::exists(&self.connection, key, limit).await })
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        Box::pin(async move { single::increment(&self.connection, key, delta, limit).await })
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        Box::pin(async move { single::expire(&self.connection, key, ttl, limit).await })
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move { single::persist(&self.connection, key, limit).await })
    }

    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        Box::pin(async move { single::ttl(&self.connection, key, limit).await })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        Box::pin(async move {
            let command = scan::command(prefix, cursor.as_ref());
            reply::page(self.read(&command, limit).await?)
        })
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        Box::pin(async move { single::get_versioned(&self.connection, key, limit).await })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(transact::run(&self.connection, &self.native, steps, limit))
    }

    fn watch<'a>(&'a self, prefix: &'a str, limit: Duration) -> DriverResult<'a, WatchFeed> {
        let options = self.connection.options();
        Box::pin(self.watches.start(options, prefix, limit))
    }

    fn signals(&self) -> StateSignals {
        self.monitor.signals()
    }

    fn risks(&self) -> Vec<String> {
        self.monitor.risks()
    }

    fn ping(&self, limit: Duration) -> DriverResult<'_, ()> {
        Box::pin(async move { Ok(self.connection.ping(limit).await?) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.watches.close();
        self.monitor.close();
        self.connection.close();
        Box::pin(std::future::ready(()))
    }
}

fn set_command(key: &str, value: &Bytes, expiry: Expiry) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(&value[..]);
    match expiry {
        Expiry::Clear => {}
        Expiry::Keep => {
            set.arg("KEEPTTL");
        }
        Expiry::After(ttl) => {
            set.arg("PX").arg(ttl.get());
        }
    }
    set
}

fn chunked(name: &str, keys: &[&str]) -> Pipeline {
    let mut pipeline = pipe();
    for chunk in keys.chunks(CHUNK) {
        let mut command = cmd(name);
        for key in chunk {
            command.arg(*key);
        }
        pipeline.add_command(command);
    }
    pipeline
}
