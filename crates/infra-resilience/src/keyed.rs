//! Values by key in bounded memory: rings that a hand goes round (the CLOCK algorithm).

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use infra_core::{DirectClock, MonoTime};

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
    clock: DirectClock,
    shard_capacity: usize,
    idle_after: Option<Duration>,
    hasher: RandomState,
    first: Locked<V>,
    more: Box<[Locked<V>]>,
    /// Whose turn it is to be looked at for idle entries.
    sweeps: AtomicUsize,
}

/// A shard and its lock, which even readers write to: nothing else may share its cache line, nor the
/// one beside it that processors fetch along with it.
#[repr(align(128))]
struct Locked<V>(RwLock<Shard<V>>);

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
    pub(crate) fn new(clock: DirectClock, capacity: u32, idle_after: Option<Duration>) -> Self {
        let shards = if capacity >= SHARDED_FROM { SHARDS } else { 1 };
        Keyed {
            clock,
            shard_capacity: capacity as usize / shards,
            idle_after,
            hasher: RandomState::new(),
            first: Locked::default(),
            more: (1..shards).map(|_| Locked::default()).collect(),
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
        let hash = self.hash_of(key);
        let found = read(self.shard_of(hash));
        if let Some(value) = found.find(hash, key, now) {
            return look(value);
        }
        drop(found);
        self.with_new(hash, key, now, make, look)
    }

    /// Of the bytes alone: `str` hashes one byte more, which tells it from what may follow it in a
    /// larger key.
    #[inline]
    fn hash_of(&self, key: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    #[inline(never)]
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

    fn shards(&self) -> impl Iterator<Item = &Locked<V>> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn shard_of(&self, hash: u64) -> &Locked<V> {
        // The bits in the middle: the map inside uses both ends.
        self.shard((hash >> 32) as usize)
    }

    fn shard(&self, number: usize) -> &Locked<V> {
        // One shard or 16 of them: a power of two, so the bits that are left are the remainder.
        let number = number & self.more.len();
        let more = number.checked_sub(1).and_then(|n| self.more.get(n));
        more.unwrap_or(&self.first)
    }
}

impl<V: Keep> Shard<V> {
    #[inline]
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

impl<V> Default for Locked<V> {
    fn default() -> Self {
        Locked(RwLock::default())
    }
}

fn read<V>(shard: &Locked<V>) -> RwLockReadGuard<'_, Shard<V>> {
    shard.0.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<V>(shard: &Locked<V>) -> RwLockWriteGuard<'_, Shard<V>> {
    shard.0.write().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use infra_core::ManualClock;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);
    const NANO: Duration = Duration::from_nanos(1);

    /// A value that can be told from others, and whether it may be forgotten.
    #[derive(Debug, Clone, PartialEq)]
    struct Value(u32, bool);

    impl Keep for Value {
        fn is_forgettable(&self) -> bool {
            self.1
        }
    }

    fn keyed(capacity: u32) -> Keyed<Value> {
        Keyed::new(ManualClock::new().shared().into(), capacity, None)
    }

    fn idle(capacity: u32) -> (ManualClock, Keyed<Value>) {
        let clock = ManualClock::new();
        let keyed = Keyed::new(clock.shared().into(), capacity, Some(IDLE));
        (clock, keyed)
    }

    /// The number under `key`, which is `number` if there was none.
    fn number(keyed: &Keyed<Value>, key: &str, number: u32) -> u32 {
        keyed.get(key, |_| Value(number, true)).0
    }

    fn counts(keyed: &Keyed<Value>) -> (usize, u64, u64) {
        let counts = keyed.counts();
        (counts.len, counts.evicted, counts.overflowed)
    }

    #[test]
    fn a_key_is_made_once_and_knows_its_name() {
        let keyed = keyed(3);
        let value = keyed.get("a", |key| {
            assert_eq!(&**key, "a");
            Value(1, true)
        });
        assert_eq!(value, Value(1, true));
        assert_eq!((number(&keyed, "a", 2), number(&keyed, "b", 3)), (1, 3));
        assert_eq!(keyed.with("b", |_| Value(9, true), |value| value.0), 3);
        assert_eq!(counts(&keyed), (2, 0, 0));
        let mut numbers: Vec<u32> = keyed.values().iter().map(|value| value.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 3]);
    }

    #[test]
    fn the_capacity_is_exact_and_what_was_used_stays_longer() {
        let keyed = keyed(3);
        for (at, key) in (0..).zip(["a", "b", "c"]) {
            number(&keyed, key, at);
        }
        number(&keyed, "a", 9);
        number(&keyed, "c", 9);
        number(&keyed, "d", 3);
        assert_eq!(counts(&keyed), (3, 1, 0));
        // `b` went, the only one that nobody had asked for again; the others are found where they
        // are now.
        let found = ["a", "c", "d"].map(|key| number(&keyed, key, 9));
        assert_eq!(found, [0, 2, 3]);
        assert_eq!(number(&keyed, "b", 9), 9);
        assert_eq!(counts(&keyed), (3, 2, 0));
    }

    #[test]
    fn where_all_were_used_the_hand_goes_round_once_more() {
        let keyed = keyed(2);
        for key in ["a", "b", "a", "b"] {
            number(&keyed, key, 1);
        }
        number(&keyed, "c", 2);
        assert_eq!(counts(&keyed), (2, 1, 0));
        assert_eq!(number(&keyed, "c", 9), 2);
    }

    #[test]
    fn a_value_that_matters_is_never_removed_and_a_newcomer_is_served_unkept() {
        let keyed = keyed(2);
        for key in ["a", "b"] {
            keyed.get(key, |_| Value(1, false));
        }
        assert_eq!(number(&keyed, "c", 2), 2);
        assert_eq!(number(&keyed, "c", 3), 3, "it was not kept");
        assert_eq!(counts(&keyed), (2, 0, 2));
        assert_eq!(number(&keyed, "a", 9) + number(&keyed, "b", 9), 2);
    }

    #[test]
    fn the_only_one_that_may_go_is_found_although_it_was_used_and_comes_last() {
        let keyed = keyed(4);
        for key in ["a", "b", "c"] {
            keyed.get(key, |_| Value(1, false));
        }
        for _ in 0..2 {
            number(&keyed, "last", 2);
        }
        number(&keyed, "new", 3);
        assert_eq!(counts(&keyed), (4, 1, 0));
        assert_eq!(number(&keyed, "new", 9), 3);
    }

    #[test]
    fn each_request_removes_up_to_four_idle_entries_and_none_before_its_time() {
        let (clock, keyed) = idle(100);
        for key in 0..10 {
            number(&keyed, &key.to_string(), key);
        }
        clock.advance(IDLE - NANO);
        number(&keyed, "0", 99);
        assert_eq!(counts(&keyed), (10, 0, 0));
        clock.advance(NANO);
        number(&keyed, "0", 99);
        let (len, evicted, _) = counts(&keyed);
        assert!((1..=4).contains(&evicted) && len == 10 - evicted as usize);
        for _ in 0..10 {
            assert_eq!(number(&keyed, "0", 99), 0, "it is in use");
        }
        assert_eq!(counts(&keyed), (1, 9, 0));
    }

    #[test]
    fn an_idle_value_that_matters_stays() {
        let (clock, keyed) = idle(100);
        keyed.get("held", |_| Value(1, false));
        clock.advance(2 * IDLE);
        for _ in 0..3 {
            number(&keyed, "other", 2);
        }
        assert_eq!(number(&keyed, "held", 9), 1);
        assert_eq!(counts(&keyed), (2, 0, 0));
    }

    #[test]
    fn what_was_asked_for_again_is_not_idle() {
        let (clock, keyed) = idle(100);
        number(&keyed, "a", 1);
        for _ in 0..5 {
            clock.advance(IDLE / 2);
            assert_eq!(number(&keyed, "a", 9), 1);
        }
    }

    #[test]
    fn many_keys_are_spread_over_shards_that_share_the_capacity() {
        assert!(keyed(SHARDED_FROM - 1).more.is_empty());
        let keyed = keyed(SHARDED_FROM);
        assert_eq!(keyed.more.len(), SHARDS - 1);
        assert_eq!(keyed.shard_capacity, 64);
        for key in 0..8_000 {
            number(&keyed, &key.to_string(), key);
        }
        let used = keyed.shards().filter(|shard| read(shard).ring.len() == 64);
        assert_eq!(used.count(), SHARDS, "all are full");
        assert_eq!(counts(&keyed), (1_024, 8_000 - 1_024, 0));
        assert_eq!(keyed.values().len(), 1_024);
        for number in 0..3 * SHARDS {
            let at = number % SHARDS;
            let expected = keyed.shards().nth(at).map(std::ptr::from_ref);
            assert_eq!(Some(std::ptr::from_ref(keyed.shard(number))), expected);
        }
    }

    #[test]
    fn idle_entries_of_every_shard_have_their_turn() {
        let (clock, keyed) = idle(SHARDED_FROM);
        for key in 0..64 {
            number(&keyed, &key.to_string(), key);
        }
        clock.advance(IDLE);
        // Four looks into each of 16 shards, a few times over; the entry asked for stays.
        for _ in 0..16 * 8 {
            number(&keyed, "0", 99);
        }
        assert_eq!(counts(&keyed).0, 1);
    }

    #[test]
    fn the_later_of_two_keys_with_one_hash_is_served_without_being_kept() {
        let keyed = keyed(10);
        let ask = |key: &str, number| {
            keyed.with_new(7, key, None, |_| Value(number, true), |value| value.0)
        };
        assert_eq!((ask("a", 1), ask("b", 2), ask("b", 3)), (1, 2, 3));
        assert_eq!(ask("a", 4), 1);
        assert_eq!(counts(&keyed), (1, 0, 2));
    }

    #[test]
    fn a_hash_is_its_own_hash() {
        let mut hasher = AsItIs.build_hasher();
        hasher.write_u64(u64::MAX - 1);
        assert_eq!(hasher.finish(), u64::MAX - 1);
        let mut hasher = AsItIs.build_hasher();
        hasher.write(&[1, 2, 255]);
        assert_eq!(hasher.finish(), 0x0102ff);
    }
}
