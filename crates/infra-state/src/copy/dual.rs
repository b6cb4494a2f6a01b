//! Writing to two stores.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, Classify, Outcome};

use super::mirror::Mirror;
use crate::capabilities::Capabilities;
use crate::driver::{
    DriverEntry, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::step::{Action, Step};
use crate::store::StateStore;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

/// How a [`Dual`] follows.
#[derive(Debug, Clone)]
pub struct DualOptions {
    pub(super) capacity: usize,
    pub(super) compare_one_in: u32,
    pub(super) caches: Option<Vec<String>>,
}

impl DualOptions {
    /// Up to 100,000 keys may wait; nothing is compared.
    pub fn new() -> Self {
        DualOptions {
            capacity: 100_000,
            compare_one_in: 0,
            caches: None,
        }
    }

    /// How many different keys may wait for the second store, at least 1. What comes on top is
    /// counted in [`DualStats::overflowed`]: it is only brought over by another copy.
    #[must_use]
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys.max(1);
        self
    }

    /// Compares the second store with the first at one read in so many; 0 is never.
    #[must_use]
    pub fn compare_one_in(mut self, reads: u32) -> Self {
        self.compare_one_in = reads;
        self
    }

    /// As [`Copy::caches`](super::Copy::caches).
    #[must_use]
    pub fn caches<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.caches = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

impl Default for DualOptions {
    fn default() -> Self {
        DualOptions::new()
    }
}

/// What the second store is up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DualStats {
    /// Keys that were brought over, or found to be the same.
    pub mirrored: u64,
    /// Keys that wait, or are under way.
    pub pending: u64,
    /// How long the oldest of them has waited.
    pub lag: Duration,
    /// Attempts that failed; their keys wait again.
    pub errors: u64,
    /// Keys that the second store refuses for good, as too large; to be looked at.
    pub refused: u64,
    /// Changes that found no room to wait: the second store is behind until the next copy.
    pub overflowed: u64,
    /// Reads that were compared.
    pub compared: u64,
    /// Of these, those that differed; their keys are brought over again.
    pub different: u64,
    /// The last failure, one line.
    pub last_error: Option<String>,
}

/// Two stores of which the first answers and the second follows: for moving without a pause.
///
/// Every call goes to the first store alone, and its answer is the answer. What it may have
/// changed is then brought over by a task: it reads the key anew and writes the second store, so
/// the second ends up with what the first holds, whatever the order of the calls was. The second
/// can be slow or away: calls do not notice, [`Dual::stats`] does.
///
/// Changes by writers that do not use a `Dual` are not seen. Leases and caches stay with the
/// first store, as in a [`Copy`](super::Copy). The task ends with [`Dual::stop`] or when its
/// runtime ends; what waits then is not brought over.
///
/// ```
/// use infra_state::copy::{Dual, DualOptions};
/// use infra_state::StateStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let (old, new) = (StateStore::memory(), StateStore::memory());
/// let dual = Dual::start(&old, &new, DualOptions::new());
/// let store = dual.store(); // for the rest of the program
/// store.set("position:MSFT", &12).await?;
/// dual.drained().await;
/// assert_eq!(new.get("position:MSFT").await?, Some(12));
/// # dual.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dual {
    store: StateStore,
    mirror: Arc<Mirror>,
}

impl Dual {
    /// Begins to follow. Must be called on a runtime. Namespaces of the two handles do not count:
    /// it is their backends that are paired. Closing the store that this makes closes neither.
    pub fn start(first: &StateStore, second: &StateStore, options: DualOptions) -> Self {
        let mirror = Mirror::start(first, second, &options);
        let driver = DualDriver {
            first: first.driver(),
            mirror: mirror.clone(),
            compare_one_in: u64::from(options.compare_one_in),
            reads: AtomicU64::new(0),
        };
        Dual {
            store: StateStore::from_driver(Arc::new(driver), first.options().clone()),
            mirror,
        }
    }

    /// The store that writes to both, without a namespace.
    pub fn store(&self) -> StateStore {
        self.store.clone()
    }

    /// What the second store is up to.
    pub fn stats(&self) -> DualStats {
        self.mirror.stats()
    }

    /// Waits until nothing waits any more. Never, while the second store is away: give it a
    /// timeout. Cancel safe.
    pub async fn drained(&self) {
        self.mirror.drained().await;
    }

    /// Ends the following; calls go on to the first store.
    pub fn stop(&self) {
        self.mirror.stop();
    }
}

impl fmt::Debug for Dual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dual")
            .field("store", &self.store)
            .field("stats", &self.stats())
            .finish()
    }
}

struct DualDriver {
    first: Arc<dyn StateDriver>,
    mirror: Arc<Mirror>,
    compare_one_in: u64,
    reads: AtomicU64,
}

impl DualDriver {
    fn compare(&self, key: &str) {
        if self.compare_one_in > 0
            && (self.reads.fetch_add(1, Ordering::Relaxed)).is_multiple_of(self.compare_one_in)
        {
            self.mirror.compare(key);
        }
    }

    /// Makes a call that may change these keys.
    fn write<'a, T: Send + 'a>(
        &'a self,
        keys: Vec<&'a str>,
        call: DriverResult<'a, T>,
    ) -> DriverResult<'a, T> {
        Box::pin(async move {
            // Also when this call is dropped on the way.
            let mut changed = Changed {
                mirror: &self.mirror,
                keys,
            };
            let answer = call.await;
            if let Err(error) = &answer
                && error.outcome() == Outcome::NotApplied
                && error.failures().is_empty()
            {
                changed.keys.clear();
            }
            answer
        })
    }
}

struct Changed<'a> {
    mirror: &'a Mirror,
    keys: Vec<&'a str>,
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        for key in &self.keys {
            self.mirror.changed(key);
        }
    }
}

impl StateDriver for DualDriver {
    fn backend(&self) -> &'static str {
        self.first.backend()
    }

    fn capabilities(&self) -> Capabilities {
        self.first.capabilities()
    }

    fn keeps_deadlines(&self) -> bool {
        self.first.keeps_deadlines()
    }

    fn scan_repeats_keys(&self) -> bool {
        self.first.scan_repeats_keys()
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        self.compare(key);
        self.first.get(key, limit)
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        keys.iter().for_each(|key| self.compare(key));
        self.first.get_many(keys, limit)
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        self.write(vec![key], self.first.set(key, value, expiry, limit))
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        let keys = entries.iter().map(|(key, _)| *key).collect();
        self.write(keys, self.first.set_many(entries, expiry, limit))
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        let call = self.first.set_if_absent(key, value, expiry, limit);
        self.write(vec![key], call)
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        self.write(keys.to_vec(), self.first.delete(keys, limit))
    }

    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        self.first.exists(key, limit)
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        self.write(vec![key], self.first.increment(key, delta, limit))
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        self.write(vec![key], self.first.expire(key, ttl, limit))
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        self.write(vec![key], self.first.persist(key, limit))
    }

    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        self.first.ttl(key, limit)
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        self.first.scan(prefix, cursor, limit)
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        self.compare(key);
        self.first.get_versioned(key, limit)
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        self.compare(key);
        self.first.get_entry(key, limit)
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let written = steps
            .iter()
            .filter(|step| !matches!(step.action, Action::Check));
        let keys = written.map(|step| step.key).collect();
        self.write(keys, self.first.transact(steps, limit))
    }

    fn watch<'a>(&'a self, prefix: &'a str, limit: Duration) -> DriverResult<'a, WatchFeed> {
        self.first.watch(prefix, limit)
    }

    fn ping(&self, limit: Duration) -> DriverResult<'_, ()> {
        self.first.ping(limit)
    }

    /// The two stores belong to those who made them.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
