//! The memory driver: a sharded map with the semantics and the errors of Redis.
//!
//! Expired values are invisible at once. They are removed by whichever comes first: a call on
//! their key, any call on their shard (a few each), or, when the store was made on a tokio
//! runtime, a background task. So they cannot pile up, with or without a runtime.

mod config;
mod shard;
mod transact;

use std::any::Any;
use std::future::ready;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use infra_core::{BoxFuture, MonoTime, SharedClock, context};

use crate::capabilities::{Capabilities, Versions};
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::error::ErrorKind;
use crate::random;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::{WatchFeed, WatchHub};

pub use config::MemoryOptions;
use shard::{Shard, Swept};

const SHARDS: usize = 64;
/// The background task does not come back sooner, however close the next expiry is.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const MAX_TRANSACTION_OPS: usize = 10_000;

/// The driver behind [`StateStore::memory`](crate::StateStore::memory).
pub struct MemoryDriver {
    map: Arc<Map>,
}

struct Map {
    shards: [Mutex<Shard>; SHARDS],
    hasher: DefaultHashBuilder,
    clock: SharedClock,
    hub: WatchHub,
    /// Tells this store's versions from those of others.
    origin: u64,
}

/// Where a key lives.
#[derive(Clone, Copy)]
struct Place {
    shard: usize,
    hash: u64,
}

impl MemoryDriver {
    /// An empty store. On a tokio runtime a background task removes expired values until the
    /// driver is dropped.
    pub fn new(options: MemoryOptions) -> Self {
        let map = Arc::new(Map {
            shards: std::array::from_fn(|_| Mutex::new(Shard::new())),
            hasher: DefaultHashBuilder::default(),
            clock: options.clock.clone(),
            hub: WatchHub::new(),
            origin: random::number(),
        });
        if tokio::runtime::Handle::try_current().is_ok() {
            context::spawn_detached(sweep_for_ever(Arc::downgrade(&map), options));
        }
        MemoryDriver { map }
    }

    /// Values held in memory, expired ones that nobody has removed yet included.
    pub fn resident(&self) -> usize {
        (0..SHARDS).map(|shard| self.map.lock(shard).len()).sum()
    }

    fn on<'a, T: Send + 'a>(
        &self,
        key: &str,
        call: impl FnOnce(&mut Shard, u64, &dyn infra_core::Clock) -> Result<T, DriverError>,
    ) -> DriverResult<'a, T> {
        let result = self.map.on(key, call, |_| false);
        Box::pin(ready(result))
    }

    /// A call that changes the value where its answer says so.
    fn write<'a, T: Send + 'a>(
        &self,
        key: &str,
        call: impl FnOnce(&mut Shard, u64, &dyn infra_core::Clock) -> Result<T, DriverError>,
        changed: impl FnOnce(&T) -> bool,
    ) -> DriverResult<'a, T> {
        Box::pin(ready(self.map.on(key, call, changed)))
    }
}

impl Map {
    fn on<T>(
        &self,
        key: &str,
        call: impl FnOnce(&mut Shard, u64, &dyn infra_core::Clock) -> Result<T, DriverError>,
        changed: impl FnOnce(&T) -> bool,
    ) -> Result<T, DriverError> {
        let place = self.place(key);
        let mut shard = self.lock(place.shard);
        let result = call(&mut shard, place.hash, &*self.clock);
        // Read under the lock: whoever begins to watch has to take it, so either this write is
        // reported, or it is part of what the watcher reads first.
        if shard.is_watched() {
            let expired = shard.take_expired();
            drop(shard);
            let changed = result.as_ref().is_ok_and(changed);
            self.report(&expired, changed.then_some(key));
        }
        result
    }

    /// Tells those who watch; not under the lock of a shard.
    fn report<'k>(&self, expired: &[Box<str>], changed: impl IntoIterator<Item = &'k str>) {
        for key in expired {
            self.hub.changed(key);
        }
        for key in changed {
            self.hub.changed(key);
        }
    }

    /// Removes some expired values; true when there may be more, else `next` is the first expiry
    /// so far.
    fn sweep(&self, shard: usize, swept: &mut Swept, next: &mut MonoTime) -> bool {
        let mut locked = self.lock(shard);
        let more = locked.sweep_into(swept, &*self.clock);
        if !more {
            *next = locked.first_expiry().map_or(*next, |at| at.min(*next));
        }
        drop(locked);
        swept.give_back();
        self.report_expired(shard);
        more
    }

    /// Reports expired values of a shard, and forgets about it when nobody watches any more.
    fn report_expired(&self, shard: usize) {
        let mut locked = self.lock(shard);
        if !locked.is_watched() {
            return;
        }
        let expired = locked.take_expired();
        let watched = self.hub.is_watched();
        locked.watch(watched);
        drop(locked);
        self.report(&expired, []);
    }

    fn place(&self, key: &str) -> Place {
        let hash = self.hasher.hash_one(key);
        // The table uses the low bits and the top seven; take some from between.
        let shard = (hash >> 40) as usize % SHARDS;
        Place { shard, hash }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard % SHARDS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks every shard that the keys need, in one order for all callers, so that calls over
    /// several keys are atomic and cannot block each other for ever.
    fn lock_all<'k>(&self, keys: impl Iterator<Item = &'k str>) -> (Vec<Place>, Locked<'_>) {
        let places: Vec<Place> = keys.map(|key| self.place(key)).collect();
        let mut needed = [false; SHARDS];
        for place in &places {
            if let Some(slot) = needed.get_mut(place.shard) {
                *slot = true;
            }
        }
        let guards = needed
            .iter()
            .enumerate()
            .map(|(shard, needed)| needed.then(|| self.lock(shard)))
            .collect();
        (places, Locked(guards))
    }
}

struct Locked<'a>(Vec<Option<MutexGuard<'a, Shard>>>);

impl Locked<'_> {
    /// Unlocks, then reports these keys and what has expired.
    fn release<'k>(mut self, map: &Map, changed: impl IntoIterator<Item = &'k str>) {
        let mut expired = Vec::new();
        let mut watched = false;
        for shard in self.0.iter_mut().flatten() {
            watched |= shard.is_watched();
            expired.extend(shard.take_expired());
        }
        drop(self);
        if watched {
            map.report(&expired, changed);
        }
    }

    fn shard(&mut self, place: Place) -> Option<&mut Shard> {
        self.0.get_mut(place.shard)?.as_deref_mut()
    }
}

/// Comes back when something expires that was there the last time, else after the interval.
async fn sweep_for_ever(map: Weak<Map>, options: MemoryOptions) {
    let mut pause = options.sweep_interval;
    let mut swept = Swept::new();
    loop {
        options.clock.sleep(pause).await;
        let mut next = MonoTime::NEVER;
        for shard in 0..SHARDS {
            loop {
                let Some(map) = map.upgrade() else { return };
                if !map.sweep(shard, &mut swept, &mut next) {
                    break;
                }
                drop(map);
                tokio::task::yield_now().await;
            }
        }
        let until = next.since(options.clock.now());
        pause = until.clamp(SHORTEST_PAUSE, options.sweep_interval);
    }
}

impl StateDriver for MemoryDriver {
    fn backend(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_transactions(Versions::Revision, MAX_TRANSACTION_OPS)
            .with_watch(true)
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn scan_repeats_keys(&self) -> bool {
        false
    }

    fn get<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        self.on(key, |shard, hash, clock| Ok(shard.get(hash, key, clock)))
    }

    fn get_entry<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<DriverEntry>> {
        let origin = self.map.origin;
        self.on(key, |shard, hash, clock| {
            let found = shard.get_versioned(hash, key, clock);
            Ok(found.map(|(value, revision)| DriverEntry {
                value,
                version: Some(VersionToken::Revision { origin, revision }),
                ttl: shard.ttl(hash, key, clock),
            }))
        })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let (places, mut locked) = self.map.lock_all(keys.iter().copied());
        let clock = &*self.map.clock;
        let values = keys
            .iter()
            .zip(places)
            .map(|(key, place)| locked.shard(place)?.get(place.hash, key, clock))
            .collect();
        locked.release(&self.map, []);
        Box::pin(ready(Ok(values)))
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        let set = |shard: &mut Shard, hash, clock: &dyn infra_core::Clock| {
            shard.set(hash, key, value, expiry, clock);
            Ok(())
        };
        self.write(key, set, |()| true)
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        let (places, mut locked) = self.map.lock_all(entries.iter().map(|(key, _)| *key));
        for ((key, value), place) in entries.iter().zip(places) {
            if let Some(shard) = locked.shard(place) {
                shard.set(place.hash, key, value.clone(), expiry, &*self.map.clock);
            }
        }
        locked.release(&self.map, entries.iter().map(|(key, _)| *key));
        Box::pin(ready(Ok(())))
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        let set = |shard: &mut Shard, hash, clock: &dyn infra_core::Clock| {
            Ok(shard.set_if_absent(hash, key, value, expiry, clock))
        };
        self.write(key, set, |set| *set)
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        let (places, mut locked) = self.map.lock_all(keys.iter().copied());
        let mut deleted = 0;
        for (key, place) in keys.iter().zip(places) {
            if let Some(shard) = locked.shard(place) {
                deleted += u64::from(shard.delete(place.hash, key, &*self.map.clock));
            }
        }
        let removed = keys.iter().copied().filter(|_| deleted > 0);
        locked.release(&self.map, removed);
        Box::pin(ready(Ok(deleted)))
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        self.on(key, |shard, hash, clock| Ok(shard.exists(hash, key, clock)))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, _: Duration) -> DriverResult<'a, i64> {
        let add = |shard: &mut Shard, hash, clock: &dyn infra_core::Clock| {
            shard.increment(hash, key, delta, clock)
        };
        self.write(key, add, |_| true)
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        self.on(key, |shard, hash, clock| {
            Ok(shard.expire(hash, key, ttl, clock))
        })
    }

    fn persist<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        self.on(
            key,
            |shard, hash, clock| Ok(shard.persist(hash, key, clock)),
        )
    }

    fn ttl<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        self.on(key, |shard, hash, clock| Ok(shard.ttl(hash, key, clock)))
    }

    /// A page is a shard, so each key comes once, and one that is there throughout does come.
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        let shard = match &cursor {
            None => Some(0),
            Some(cursor) => cursor.as_str().parse().ok().filter(|shard| *shard < SHARDS),
        };
        let page = match shard {
            None => {
                let message = "a cursor that this driver did not make";
                Err(DriverError::new(ErrorKind::Backend, message))
            }
            Some(shard) => Ok(ScanPage {
                keys: self.map.lock(shard).keys(prefix, &*self.map.clock),
                next: (shard + 1 < SHARDS).then(|| ScanCursor::new((shard + 1).to_string())),
            }),
        };
        Box::pin(ready(page))
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        _: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        let origin = self.map.origin;
        self.on(key, |shard, hash, clock| {
            Ok(match shard.get_versioned(hash, key, clock) {
                None => (None, VersionToken::Absent),
                Some((value, revision)) => {
                    (Some(value), VersionToken::Revision { origin, revision })
                }
            })
        })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        _: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(ready(transact::transact(&self.map, steps)))
    }

    fn watch<'a>(&'a self, prefix: &'a str, _: Duration) -> DriverResult<'a, WatchFeed> {
        let feed = self.map.hub.subscribe(prefix);
        for shard in 0..SHARDS {
            self.map.lock(shard).watch(true);
        }
        Box::pin(ready(Ok(feed)))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        for shard in 0..SHARDS {
            self.map.lock(shard).clear();
        }
        self.map.hub.close();
        Box::pin(ready(()))
    }
}
