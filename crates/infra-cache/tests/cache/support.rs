//! A store that counts, fails and is slow on demand, and the waits of the tests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infra_cache::{CacheOptions, CacheStore};
use infra_core::{BoxFuture, ManualClock, Outcome};
use infra_state::{
    Capabilities, DriverEntry, DriverError, DriverResult, ErrorKind, Expiry, MemoryDriver,
    MemoryOptions, ScanCursor, ScanPage, StateDriver, StateStore, Step, StoreOptions, TtlMillis,
    TtlState, VersionToken, Versions, WatchFeed, WatchSink, watch_feed,
};

/// The memory driver, watched.
pub(crate) struct Spy {
    inner: MemoryDriver,
    tracking: bool,
    pub(crate) versions: AtomicBool,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) down: AtomicBool,
    /// Writes are applied, and then there is no answer.
    pub(crate) mute: AtomicBool,
    /// Writes are applied, and then nothing happens any more.
    pub(crate) hang: AtomicBool,
    /// The other ends of what listens.
    pub(crate) sinks: Mutex<Vec<WatchSink>>,
}

impl Spy {
    fn read<T>(&self) -> Result<(), DriverResult<'static, T>>
    where
        T: Send + 'static,
    {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.up()
    }

    fn up<T: Send + 'static>(&self) -> Result<(), DriverResult<'static, T>> {
        if !self.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        let error = DriverError::new(ErrorKind::Unavailable, "down on purpose");
        Err(Box::pin(std::future::ready(Err(error))))
    }

    fn write<'a, T: Send + 'static>(&self, call: DriverResult<'a, T>) -> DriverResult<'a, T> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.up() {
            return error;
        }
        let mute = self.mute.load(Ordering::SeqCst);
        let hang = self.hang.load(Ordering::SeqCst);
        Box::pin(async move {
            let answer = call.await;
            if hang {
                std::future::pending::<()>().await;
            }
            let error = DriverError::new(ErrorKind::Timeout, "mute on purpose");
            match mute {
                true => Err(error.with_outcome(Outcome::Unknown)),
                false => answer,
            }
        })
    }
}

macro_rules! up {
    ($check:expr) => {
        if let Err(error) = $check {
            return error;
        }
    };
}

impl StateDriver for Spy {
    fn backend(&self) -> &'static str {
        "spy"
    }
    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        match self.versions.load(Ordering::SeqCst) {
            true => inner.with_watch(self.tracking),
            false => inner
                .with_watch(self.tracking)
                .with_transactions(Versions::None, 0),
        }
    }
    fn keeps_deadlines(&self) -> bool {
        true
    }
    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        up!(self.read());
        self.inner.get(key, limit)
    }
    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        up!(self.read());
        let versions = self.versions.load(Ordering::SeqCst);
        Box::pin(async move {
            let mut entry = self.inner.get_entry(key, limit).await?;
            if let Some(entry) = entry.as_mut().filter(|_| !versions) {
                entry.version = None;
            }
            Ok(entry)
        })
    }
    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        up!(self.read());
        self.inner.get_many(keys, limit)
    }
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        up!(self.up());
        self.write(self.inner.set(key, value, expiry, limit))
    }
    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        up!(self.up());
        self.write(self.inner.set_many(entries, expiry, limit))
    }
    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        up!(self.up());
        self.write(self.inner.set_if_absent(key, value, expiry, limit))
    }
    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        up!(self.up());
        self.write(self.inner.delete(keys, limit))
    }
    fn exists<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        up!(self.read());
        self.inner.exists(key, limit)
    }
    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        up!(self.up());
        self.write(self.inner.increment(key, delta, limit))
    }
    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        up!(self.up());
        self.write(self.inner.expire(key, ttl, limit))
    }
    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        up!(self.up());
        self.write(self.inner.persist(key, limit))
    }
    fn ttl<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, TtlState> {
        up!(self.read());
        self.inner.ttl(key, limit)
    }
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        limit: Duration,
    ) -> DriverResult<'a, ScanPage> {
        up!(self.read());
        self.inner.scan(prefix, cursor, limit)
    }
    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        up!(self.read());
        self.inner.get_versioned(key, limit)
    }
    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        up!(self.up());
        self.write(self.inner.transact(steps, limit))
    }
    fn watch<'a>(&'a self, prefix: &'a str, _: Duration) -> DriverResult<'a, WatchFeed> {
        up!(self.up());
        let (sink, feed) = watch_feed(prefix, 1000);
        self.sinks.lock().unwrap().push(sink);
        Box::pin(std::future::ready(Ok(feed)))
    }
    fn ping(&self, limit: Duration) -> DriverResult<'_, ()> {
        up!(self.up());
        self.inner.ping(limit)
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

/// A store and a clock that stands still.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) spy: Arc<Spy>,
    pub(crate) store: StateStore,
}

impl World {
    /// Its store cannot tell what changes.
    pub(crate) fn new() -> Self {
        World::make(false)
    }

    /// Its store tells what the test says.
    pub(crate) fn tracking() -> Self {
        World::make(true)
    }

    fn make(tracking: bool) -> Self {
        let clock = ManualClock::new();
        let spy = Arc::new(Spy {
            inner: MemoryDriver::new(MemoryOptions::new().clock(clock.shared())),
            tracking,
            versions: AtomicBool::new(true),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            down: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            sinks: Mutex::default(),
        });
        World {
            clock,
            store: StateStore::from_driver(spy.clone(), StoreOptions::new()),
            spy,
        }
    }

    /// What belongs to this world; nothing is left to chance.
    pub(crate) fn options(&self) -> CacheOptions {
        CacheOptions::new().clock(self.clock.shared()).seed(1)
    }

    pub(crate) async fn cache(&self, options: CacheOptions) -> CacheStore {
        CacheStore::over(self.store.clone(), options).await.unwrap()
    }

    pub(crate) fn reads(&self) -> u64 {
        self.spy.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.spy.down.store(down, Ordering::SeqCst);
    }

    /// The store as another program sees it.
    pub(crate) fn space(&self) -> StateStore {
        self.store.namespaced("cache")
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets everything that is ready run.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
