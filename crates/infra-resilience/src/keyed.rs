//! Values by key in bounded memory: rings that a hand goes round (the CLOCK algorithm).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use infra_core::{MonoTime, SharedClock};

/// From this capacity on the values are spread over shards, each with its share of the capacity.
const SHARDED_FROM: u32 = 1_024;
const SHARDS: usize = 16;
/// How many entries each request looks at for being idle.
const IDLE_LOOKS: usize = 4;

/// What can be kept by key. Clones share one state.
pub(crate) trait Keep: Clone {
    /// True when nobody else holds this and it would not matter if it were forgotten.
    fn is_forgettable(&self) -> bool;
}

/// A bounded map that makes its values. Values that matter are never removed. Finding a value
/// takes a lock for reading only.
pub(crate) struct Keyed<V> {
    clock: SharedClock,
    shard_capacity: usize,
    idle_after: Option<Duration>,
    hasher: RandomState,
    first: RwLock<Shard<V>>,
    more: Box<[RwLock<Shard<V>>]>,
    /// Whose turn it is to be looked at for idle entries.
    sweeps: AtomicUsize,
}

/// Entries in a ring, and where the key of each hash is. Should two keys have the same 64 bits of
/// hash, the later one is served without being kept.
struct Shard<V> {
    ring: Vec<Entry<V>>,
    index: HashMap<u64, usize, AsItIs>,
    hand: usize,
    counts: KeyedCounts,
}

struct Entry<V> {
    key: Arc<str>,
    hash: u64,
    value: V,
    used: AtomicBool,
    last_used: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyedCounts {
    pub(crate) len: usize,
    pub(crate) evicted: u64,
    pub(crate) overflowed: u64,
}

impl<V: Keep> Keyed<V> {
    pub(crate) fn new(clock: SharedClock, capacity: u32, idle_after: Option<Duration>) -> Self {
        let shards = if capacity >= SHARDED_FROM { SHARDS } else { 1 };
        Keyed {
            clock,
            shard_capacity: capacity as usize / shards,
            idle_after,
            hasher: RandomState::new(),
            first: RwLock::default(),
            more: (1..shards).map(|_| RwLock::default()).collect(),
            sweeps: AtomicUsize::new(0),
        }
    }

    /// The value of `key`, by `make` if there is none. It runs under the lock, so that two callers
    /// get the same value.
    pub(crate) fn get(&self, key: &str, make: impl FnOnce(&Arc<str>) -> V) -> V {
        self.with(key, make, V::clone)
    }

    /// What `look` makes of the value of `key`, which saves to count one more holder of it. Both
    /// run under the lock: they must be short and not call the user's code.
    pub(crate) fn with<T>(
        &self,
        key: &str,
        make: impl FnOnce(&Arc<str>) -> V,
        look: impl FnOnce(&V) -> T,
    ) -> T {
        let now = self.idle_after.map(|idle| self.sweep(idle));
        let hash = self.hasher.hash_one(key);
        let found = read(self.shard_of(hash));
        if let Some(value) = found.find(hash, key, now) {
            return look(value);
        }
        drop(found);
        self.with_new(hash, key, now, make, look)
    }

    fn with_new<T>(
        &self,
        hash: u64,
        key: &str,
        now: Option<MonoTime>,
        make: impl FnOnce(&Arc<str>) -> V,
        look: impl FnOnce(&V) -> T,
    ) -> T {
        let mut shard = write(self.shard_of(hash));
        if let Some(value) = shard.find(hash, key, now) {
            return look(value);
        }
        let key: Arc<str> = key.into();
        let value = make(&key);
        let result = look(&value);
        let full = shard.ring.len() >= self.shard_capacity;
        if shard.index.contains_key(&hash) || full && !shard.evict_one() {
            shard.counts.overflowed += 1;
        } else {
            shard.insert(key, hash, value, now.unwrap_or_default());
        }
        result
    }

    pub(crate) fn counts(&self) -> KeyedCounts {
        let mut sum = KeyedCounts::default();
        for shard in self.shards() {
            let shard = read(shard);
            sum.len += shard.ring.len();
            sum.evicted += shard.counts.evicted;
            sum.overflowed += shard.counts.overflowed;
        }
        sum
    }

    pub(crate) fn values(&self) -> Vec<V> {
        let mut values = Vec::new();
        for shard in self.shards() {
            values.extend(read(shard).ring.iter().map(|entry| entry.value.clone()));
        }
        values
    }

    /// Looks at the next few entries for idle ones and removes them. Returns the time.
    fn sweep(&self, idle: Duration) -> MonoTime {
        let now = self.clock.now();
        let turn = self.sweeps.fetch_add(1, Relaxed);
        write(self.shard(turn)).evict_idle(now, idle, IDLE_LOOKS);
        now
    }

    fn shards(&self) -> impl Iterator<Item = &RwLock<Shard<V>>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn shard_of(&self, hash: u64) -> &RwLock<Shard<V>> {
        // The bits in the middle: the map inside uses both ends.
        self.shard((hash >> 32) as usize)
    }

    fn shard(&self, number: usize) -> &RwLock<Shard<V>> {
        let number = number % (self.more.len() + 1);
        let more = number.checked_sub(1).and_then(|n| self.more.get(n));
        more.unwrap_or(&self.first)
    }
}

impl<V: Keep> Shard<V> {
    fn find(&self, hash: u64, key: &str, now: Option<MonoTime>) -> Option<&V> {
        let entry = self.ring.get(*self.index.get(&hash)?)?;
        if *entry.key != *key {
            return None;
        }
        // Written only where it changes something: the mark is read by all threads.
        if !entry.used.load(Relaxed) {
            entry.used.store(true, Relaxed);
        }
        if let Some(now) = now {
            entry.last_used.store(now.as_nanos(), Relaxed);
        }
        Some(&entry.value)
    }

    fn insert(&mut self, key: Arc<str>, hash: u64, value: V, now: MonoTime) {
        self.index.insert(hash, self.ring.len());
        self.ring.push(Entry {
            key,
            hash,
            value,
            used: AtomicBool::new(false),
            last_used: AtomicU64::new(now.as_nanos()),
        });
    }

    /// Removes the first entry that was not used since the hand last passed. Two rounds suffice:
    /// the first clears every mark.
    fn evict_one(&mut self) -> bool {
        for _ in 0..self.ring.len() * 2 {
            let hand = self.advance();
            let Some(entry) = self.ring.get_mut(hand) else {
                return false;
            };
            let used = std::mem::take(entry.used.get_mut());
            if !used && entry.value.is_forgettable() {
                self.remove(hand);
                return true;
            }
        }
        false
    }

    fn evict_idle(&mut self, now: MonoTime, idle: Duration, looks: usize) {
        for _ in 0..looks.min(self.ring.len()) {
            let hand = self.advance();
            let is_idle = self.ring.get(hand).is_some_and(|entry| {
                let last = MonoTime::from_nanos(entry.last_used.load(Relaxed));
                now.since(last) >= idle && entry.value.is_forgettable()
            });
            if is_idle {
                self.remove(hand);
            }
        }
    }

    fn advance(&mut self) -> usize {
        let hand = if self.hand < self.ring.len() {
            self.hand
        } else {
            0
        };
        self.hand = hand + 1;
        hand
    }

    fn remove(&mut self, at: usize) {
        let gone = self.ring.swap_remove(at);
        self.index.remove(&gone.hash);
        if let Some(moved) = self.ring.get(at) {
            self.index.insert(moved.hash, at);
        }
        self.counts.evicted += 1;
    }
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Shard {
            ring: Vec::new(),
            index: HashMap::default(),
            hand: 0,
            counts: KeyedCounts::default(),
        }
    }
}

fn read<V>(shard: &RwLock<Shard<V>>) -> RwLockReadGuard<'_, Shard<V>> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<V>(shard: &RwLock<Shard<V>>) -> RwLockWriteGuard<'_, Shard<V>> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes what is a hash already.
#[derive(Default, Clone, Copy)]
struct AsItIs;

#[derive(Default)]
struct AsItIsHasher(u64);

impl BuildHasher for AsItIs {
    type Hasher = AsItIsHasher;
    fn build_hasher(&self) -> AsItIsHasher {
        AsItIsHasher::default()
    }
}

impl Hasher for AsItIsHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
