//! The Redis driver for a cluster: the same data and the same commands as over one server, each at
//! the primary that serves the slot of its key.
//!
//! What differs from one server:
//!
//! | call | here |
//! |---|---|
//! | `set_many` | one `SET` for each key: others may see a part, and each key fails by itself |
//! | `get_many`, `delete_many` | one `MGET` or `DEL` for the keys of a slot; each key fails by itself |
//! | `transaction`, `compare_and_swap` | keys of one slot; others are refused before anything is sent |
//! | `scan` | every primary in turn; again while slots move, at most 16 times |
//! | `watch` | a connection to every primary; a gap where the primaries changed |
//! | `ack=` | the replicas, or the disk, of the primary of each key; of several keys each by itself |
//! | `read=replicas` | the replicas of the primary of each key; what they do not have is asked of it |
//! | signals | lost when any primary is, restored when every slot has a primary that answers |
//! | risks | those of every primary |
//!
//! A slot is named by the hash tag of a key: what stands between its first `{` and the next `}`.
//! Keys that have to be written in one step need the same one, as in `{desk}:cash` and
//! `{desk}:shares`; `store.namespaced("{desk}")` gives it to all keys. No tag is ever added to a
//! key here.
//!
//! While a slot is being moved, calls over several keys of it that lie on both sides are refused by
//! the nodes: `get_many` and `delete_many` then ask for one key at a time, transactions wait until
//! their deadlines and fail as [`Unavailable`](crate::ErrorKind::Unavailable), not applied.
//!
//! Each primary keeps a marker under `~instance{..}`, as one server does under `~instance`.

mod bulk;
mod monitor;
mod scan;
mod settled;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use infra_core::BoxFuture;
use infra_redis::{Cluster, Command, Decimal, Effect, RedisFault, Slot, Value};

use self::monitor::ClusterMonitor;
use crate::capabilities::{Atomicity, Capabilities};
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::error::ErrorKind;
use crate::redis::reply;
use crate::redis::transact::{self, Link, Native};
use crate::redis_common::{Watches, capabilities, connection_options};
use crate::signal::StateSignals;
use crate::step::Step;
use crate::store::StateOptions;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// The driver behind `redis+cluster://` and `rediss+cluster://`.
///
/// While a primary is down, calls for its slots wait until it is back, or until another node has
/// taken its place, or until their deadlines; reads that lose their connection on the way are
/// repeated within their deadlines, writes never are.
#[derive(Debug)]
pub struct RedisClusterDriver {
    cluster: Cluster,
    native: Native,
    watches: Watches,
    monitor: ClusterMonitor,
}

impl RedisClusterDriver {
    /// Asks the nodes of the URL about the cluster, unless the options say lazy.
    ///
    /// # Errors
    /// A URL that cannot be used; why no node tells about the cluster; and that a primary cannot
    /// confirm writes of the level that the options ask for.
    pub async fn connect(options: &StateOptions) -> Result<Self, DriverError> {
        let options = connection_options(options)?;
        Ok(RedisClusterDriver::over(Cluster::connect(options).await?).monitored())
    }

    /// A driver over a cluster that others may use too; closing the store closes it.
    ///
    /// It tells no signals and no risks until [`RedisClusterDriver::monitored`] asks for them.
    pub fn over(cluster: Cluster) -> Self {
        RedisClusterDriver {
            cluster,
            native: Native::default(),
            watches: Watches::new(),
            monitor: ClusterMonitor::idle(),
        }
    }

    /// Lets a driver made by [`RedisClusterDriver::over`] tell signals and risks: it connects to
    /// every primary, asks `INFO` after each connect, and keeps a marker there. Must be called on
    /// a tokio runtime.
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.monitor = ClusterMonitor::start(&self.cluster);
        self
    }

    async fn get_as(
        &self,
        effect: Effect,
        key: &str,
        limit: Duration,
    ) -> Result<Option<Bytes>, DriverError> {
        let parts = [&b"GET"[..], key.as_bytes()];
        reply::bytes(self.at(key).send(&parts, effect, limit).await?)
    }

    fn at(&self, key: &str) -> At<'_> {
        At {
            cluster: &self.cluster,
            slot: Slot::of(key.as_bytes()),
        }
    }
}

/// Where the commands for the keys of one slot go.
struct At<'a> {
    cluster: &'a Cluster,
    slot: Slot,
}

impl Link for At<'_> {
    async fn send(
        &self,
        parts: &[&[u8]],
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        self.cluster.send(self.slot, parts, effect, limit).await
    }
}

/// The decimal text of a time to live.
fn millis(expiry: Expiry) -> Decimal {
    match expiry {
        Expiry::After(ttl) => Decimal::from(ttl.get()),
        _ => Decimal::from(0_u64),
    }
}

/// The parts of a `SET`.
fn set<'a>(
    key: &'a str,
    value: &'a [u8],
    expiry: Expiry,
    millis: &'a Decimal,
    condition: &[&'a [u8]],
) -> Vec<&'a [u8]> {
    let mut parts = vec![&b"SET"[..], key.as_bytes(), value];
    match expiry {
        Expiry::Clear => {}
        Expiry::Keep => parts.push(b"KEEPTTL"),
        Expiry::After(_) => parts.extend([&b"PX"[..], millis.as_bytes()]),
    }
    parts.extend(condition);
    parts
}

impl Drop for RedisClusterDriver {
    fn drop(&mut self) {
        self.watches.close();
    }
}

impl StateDriver for RedisClusterDriver {
    fn backend(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.cluster.options())
            .with_set_many(Atomicity::PerKey)
            .with_one_slot_transactions(true)
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        Box::pin(async move { self.get_as(Effect::StaleRead, key, limit).await })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move {
            let slot = Slot::of(key.as_bytes());
            let command = |name: &[u8]| Command::new(slot, &[name, key.as_bytes()]);
            let both = [command(b"GET"), command(b"PTTL")];
            let replies = self.cluster.send_each(&both, Effect::Read, limit).await;
            let replies: Vec<Value> = replies.into_iter().collect::<Result<_, _>>()?;
            let [value, ttl] = <[Value; 2]>::try_from(replies)
                .map_err(|_| reply::unexpected("a value and its time to live"))?;
            let (Some(value), ttl) = (reply::bytes(value)?, reply::ttl(&ttl)?) else {
                return Ok(None);
            };
            let entry = DriverEntry {
                version: Some(VersionToken::Content(value.clone())),
                value,
                ttl,
            };
            Ok((ttl != TtlState::Absent).then_some(entry))
        })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(bulk::get(&self.cluster, keys, limit))
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let millis = millis(expiry);
            let parts = set(key, &value, expiry, &millis, &[]);
            self.at(key).send(&parts, Effect::Write, limit).await?;
            Ok(())
        })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(bulk::set(&self.cluster, entries, expiry, limit))
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
            let millis = millis(expiry);
            let parts = set(key, &value, expiry, &millis, &[b"NX"]);
            let reply = self.at(key).send(&parts, Effect::Write, limit).await?;
            Ok(reply != Value::Nil)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        Box::pin(bulk::delete(&self.cluster, keys, limit))
    }

    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move {
            let parts = [&b"EXISTS"[..], key.as_bytes()];
            reply::flag(&self.at(key).send(&parts, Effect::StaleRead, limit).await?)
        })
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        Box::pin(async move {
            let delta = Decimal::from(delta);
            let parts = [&b"INCRBY"[..], key.as_bytes(), delta.as_bytes()];
            reply::integer(&self.at(key).send(&parts, Effect::Write, limit).await?)
        })
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        Box::pin(async move {
            let ttl = Decimal::from(ttl.get());
            let parts = [&b"PEXPIRE"[..], key.as_bytes(), ttl.as_bytes()];
            reply::flag(&self.at(key).send(&parts, Effect::Write, limit).await?)
        })
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move {
            let parts = [&b"PERSIST"[..], key.as_bytes()];
            reply::flag(&self.at(key).send(&parts, Effect::Write, limit).await?)
        })
    }

    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        Box::pin(async move {
            let parts = [&b"PTTL"[..], key.as_bytes()];
            reply::ttl(&self.at(key).send(&parts, Effect::StaleRead, limit).await?)
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        Box::pin(scan::page(&self.cluster, prefix, cursor, limit))
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        Box::pin(async move {
            let value = self.get_as(Effect::Read, key, limit).await?;
            let version = match &value {
                Some(value) => VersionToken::Content(value.clone()),
                None => VersionToken::Absent,
            };
            Ok((value, version))
        })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(async move {
            let Some(first) = steps.first() else {
                return Ok(Vec::new());
            };
            let at = self.at(first.key);
            let apart = |step: &Step<'_>| Slot::of(step.key.as_bytes()) != at.slot;
            if let Some(index) = steps.iter().position(apart) {
                return Err(cross_slot(index));
            }
            transact::run(&at, &self.native, steps, limit).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, limit: Duration) -> DriverResult<'a, WatchFeed> {
        Box::pin(watch::start(&self.cluster, &self.watches, prefix, limit))
    }

    fn signals(&self) -> StateSignals {
        self.monitor.signals()
    }

    fn risks(&self) -> Vec<String> {
        self.monitor.risks()
    }

    fn ping(&self, limit: Duration) -> DriverResult<'_, ()> {
        Box::pin(async move { Ok(self.cluster.ping(limit).await?) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.watches.close();
        self.monitor.close();
        self.cluster.close();
        Box::pin(std::future::ready(()))
    }
}

fn cross_slot(index: usize) -> DriverError {
    let message = "the keys lie in different slots of the cluster: give those that are written in \
                   one step a hash tag in common, as in `{desk}:a` and `{desk}:b`";
    DriverError::new(ErrorKind::CrossSlot, message).with_index(index)
}
