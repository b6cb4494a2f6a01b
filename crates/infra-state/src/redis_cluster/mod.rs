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
//! | `scan` | every primary in turn; again for slots that were on the move, at most 16 times |
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
//! While a primary is down, calls for the slots of others go on, if the nodes let them: by default
//! (`cluster-require-full-coverage yes`) they refuse every slot from when they hold a primary for dead
//! until another has taken its slots. Calls wait for that too.
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
use infra_redis::{Cluster, Command, Effect, RedisFault, Slot, Value};

use self::monitor::ClusterMonitor;
use crate::capabilities::{Atomicity, Capabilities};
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::error::ErrorKind;
use crate::redis::single;
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

    async fn read_both(
        &self,
        names: [&'static str; 2],
        key: &str,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        let command = |name: &str| Command::new(self.slot, &[name.as_bytes(), key.as_bytes()]);
        let both = names.map(command);
        let replies = self.cluster.send_each(&both, Effect::Read, limit).await;
        replies.into_iter().collect()
    }
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
        Box::pin(async move { single::get(&self.at(key), Effect::StaleRead, key, limit).await })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move { single::get_entry(&self.at(key), key, limit).await })
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
        Box::pin(async move { single::set(&self.at(key), key, &value, expiry, limit).await })
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
        Box::pin(
            async move { single::set_if_absent(&self.at(key), key, &value, expiry, limit).await },
        )
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        Box::pin(bulk::delete(&self.cluster, keys, limit))
    }

    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move { single::exists(&self.at(key), key, limit).await })
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        Box::pin(async move { single::increment(&self.at(key), key, delta, limit).await })
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        Box::pin(async move { single::expire(&self.at(key), key, ttl, limit).await })
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        Box::pin(async move { single::persist(&self.at(key), key, limit).await })
    }

    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        Box::pin(async move { single::ttl(&self.at(key), key, limit).await })
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
        Box::pin(async move { single::get_versioned(&self.at(key), key, limit).await })
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
