//! The Redis driver over the client library `fred`: the same data, the same answers and the same
//! errors as the other one.
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
//! | `transact` | one script; `SET NX` where one key must be absent |
//! | `watch` | a connection of its own with `CLIENT TRACKING ON BCAST PREFIX` |
//!
//! A driver that connected by itself keeps a marker under `~instance`, one key for the whole
//! server, by which it notices a server that came back empty; scans leave it out.
//!
//! What compare-and-swap compares, what levels of acknowledgement and reads from replicas mean, is
//! as with the other driver. Two commands of that one are not used here, at the same answers:
//! `SET IFEQ`, and the shorter script for one key. A request for confirmation is sent after the
//! answers to its writes, not behind them, because the library does not say in which order it
//! sends: one round trip more.
//!
//! Keys are watched over connections that are not the library's: it drops the message by which a
//! server says that all keys were removed (`FLUSHALL`), so a reader could believe in values that
//! are gone.

mod transact;

use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;
use infra_redis::{
    Effect, FredCommand, FredConnection, FredLife, FredReply, LinkStatus, LinkWatch, RedisFault,
    RedisOptions,
};

use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::redis_common::{
    CHUNK, Monitor, Observed, SCAN_COUNT, Watches, capabilities, connection_options, pattern, reply,
};
use crate::signal::StateSignals;
use crate::step::Step;
use crate::store::StateOptions;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// The library takes a list of 3 to 5 texts that begins like a published message for one, and
/// keeps it from the caller. What is stored could begin so; a longer list is safe.
const SAFE_LIST: usize = 6;

/// The driver behind `fred+redis://` and `fred+rediss://`.
///
/// While the connection is down, calls wait for it until their deadlines; reads that lose it on
/// the way are repeated within their deadlines, writes never are.
#[derive(Debug)]
pub struct FredDriver {
    connection: FredConnection,
    watches: Watches,
    monitor: Monitor,
}

impl FredDriver {
    /// Connects, unless the options say lazy. The URL may be with or without `fred+`.
    ///
    /// # Errors
    /// A URL that cannot be used; and what stands in the way of the connection.
    pub async fn connect(options: &StateOptions) -> Result<Self, DriverError> {
        let options = connection_options(&without_choice(options))?;
        Ok(FredDriver::over(FredConnection::connect(options).await?).monitored())
    }

    /// A driver over a connection that others may use too; closing the store closes it.
    ///
    /// It tells no signals and no risks until [`FredDriver::monitored`] asks for them: that
    /// writes a key, and the connection may be one of a user who must not.
    pub fn over(connection: FredConnection) -> Self {
        FredDriver {
            connection,
            watches: Watches::new(),
            monitor: Monitor::idle(),
        }
    }

    /// Lets a driver made by [`FredDriver::over`] tell signals and risks: it asks `INFO` after
    /// each connect, and keeps the marker `~instance` on the server. Must be called on a tokio
    /// runtime.
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.monitor = Monitor::start(self.connection.clone());
        self
    }

    async fn read(&self, command: FredCommand, limit: Duration) -> Result<FredReply, DriverError> {
        let connection = &self.connection;
        Ok(connection.command(&command, Effect::Read, limit).await?)
    }

    async fn stale_read(
        &self,
        command: FredCommand,
        limit: Duration,
    ) -> Result<FredReply, DriverError> {
        let connection = &self.connection;
        Ok(connection
            .command(&command, Effect::StaleRead, limit)
            .await?)
    }

    async fn write(&self, command: FredCommand, limit: Duration) -> Result<FredReply, DriverError> {
        let connection = &self.connection;
        Ok(connection.command(&command, Effect::Write, limit).await?)
    }
}

impl Observed for FredConnection {
    fn options(&self) -> &RedisOptions {
        FredConnection::options(self)
    }

    fn status(&self) -> LinkStatus {
        FredConnection::status(self)
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
        let new = FredCommand::new(name);
        let command = arguments
            .iter()
            .fold(new, |command, text| command.text(text));
        Ok(match self.command(&command, effect, limit).await? {
            FredReply::Bytes(text) => Some(text),
            _ => None,
        })
    }
}

impl Drop for FredDriver {
    fn drop(&mut self) {
        self.watches.close();
    }
}

impl StateDriver for FredDriver {
    fn backend(&self) -> &'static str {
        "fred"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.connection.options())
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        let get = FredCommand::get(key);
        Box::pin(async move { reply::bytes(self.stale_read(get, limit).await?) })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move {
            let both = [FredCommand::get(key), FredCommand::new("PTTL").text(key)];
            let replies = self.connection.pipeline(&both, Effect::Read, limit).await?;
            reply::entry(replies)
        })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let chunks = chunked("MGET", keys, SAFE_LIST);
            let replies = self
                .connection
                .pipeline(&chunks, Effect::StaleRead, limit)
                .await?;
            let mut values = Vec::with_capacity(keys.len());
            for (chunk, asked) in replies.into_iter().zip(keys.chunks(CHUNK)) {
                for value in reply::list(chunk)?.into_iter().take(asked.len()) {
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
        let set = set_command(key, value, expiry, false);
        Box::pin(async move { self.write(set, limit).await.map(|_| ()) })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let sets = entries
                .iter()
                .map(|(key, value)| set_command(key, value.clone(), expiry, false));
            // Only SETs, which fail when they are queued or not at all: nothing or everything.
            self.connection.transaction(sets.collect(), limit).await?;
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
            let expiry = match expiry {
                Expiry::Keep => Expiry::Clear,
                other => other,
            };
            let set = set_command(key, value, expiry, true);
            let reply = self.write(set, limit).await?;
            Ok(reply != FredReply::Nil)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        Box::pin(async move {
            let chunks = chunked("DEL", keys, 0);
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
        let exists = FredCommand::new("EXISTS").text(key);
        Box::pin(async move { reply::flag(&self.stale_read(exists, limit).await?) })
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        let increment = FredCommand::increment(key, delta);
        Box::pin(async move { reply::integer(&self.write(increment, limit).await?) })
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        let expire = FredCommand::new("PEXPIRE").text(key).number(millis(ttl));
        Box::pin(async move { reply::flag(&self.write(expire, limit).await?) })
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        let persist = FredCommand::new("PERSIST").text(key);
        Box::pin(async move { reply::flag(&self.write(persist, limit).await?) })
    }

    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        let ttl = FredCommand::new("PTTL").text(key);
        Box::pin(async move { reply::ttl(&self.stale_read(ttl, limit).await?) })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        Box::pin(async move {
            let from = cursor.as_ref().map_or("0", ScanCursor::as_str);
            let mut scan = FredCommand::new("SCAN").text(from);
            if !prefix.is_empty() {
                scan = scan.word("MATCH").text(&pattern(prefix));
            }
            let scan = scan.word("COUNT").number(SCAN_COUNT);
            reply::page(self.read(scan, limit).await?)
        })
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        Box::pin(async move { reply::versioned(self.read(FredCommand::get(key), limit).await?) })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(transact::run(self, steps, limit))
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

/// The part of the URL before the plus only chooses the driver.
fn without_choice(options: &StateOptions) -> StateOptions {
    let options = options.clone();
    let url = options.url.as_ref().map(|url| url.expose().trim());
    match url.and_then(|url| Some((url.get(..5)?, url.get(5..)?.to_owned()))) {
        Some((choice, url)) if choice.eq_ignore_ascii_case("fred+") => options.url(url),
        _ => options,
    }
}

fn millis(ttl: TtlMillis) -> i64 {
    i64::try_from(ttl.get()).unwrap_or(i64::MAX)
}

fn set_command(key: &str, value: Bytes, expiry: Expiry, only_new: bool) -> FredCommand {
    let life = match expiry {
        Expiry::Clear => FredLife::Clear,
        Expiry::Keep => FredLife::Keep,
        Expiry::After(ttl) => FredLife::Millis(millis(ttl)),
    };
    FredCommand::set(key, value, life, only_new)
}

/// One command for each chunk of keys; the last key is repeated until there are `least` in each.
fn chunked(name: &'static str, keys: &[&str], least: usize) -> Vec<FredCommand> {
    let command = |chunk: &[&str]| {
        let missing = least.saturating_sub(chunk.len());
        let padding = chunk.last().into_iter().cycle().take(missing);
        let keys = chunk.iter().chain(padding);
        keys.fold(FredCommand::new(name), |command, key| command.text(key))
    };
    keys.chunks(CHUNK).map(command).collect()
}
