//! Values by key in bounded memory: a ring that a hand goes round (the CLOCK algorithm).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{MonoTime, SharedClock};

/// What can be kept by key. Clones share one state.
pub(crate) trait Keep: Clone {
    /// True when nobody else holds this and it would not matter if it were forgotten.
    fn is_forgettable(&self) -> bool;
}

/// A bounded map that makes its values. Values that matter are never removed.
pub(crate) struct Keyed<V> {
    clock: SharedClock,
    capacity: usize,
    idle_after: Option<Duration>,
    slots: Mutex<Slots<V>>,
}

/// Entries in a ring, and where each key is.
struct Slots<V> {
    ring: Vec<Entry<V>>,
    index: HashMap<Arc<str>, usize>,
    hand: usize,
    counts: KeyedCounts,
}

struct Entry<V> {
    key: Arc<str>,
    value: V,
    used: bool,
    last_used: MonoTime,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyedCounts {
    pub(crate) len: usize,
    pub(crate) evicted: u64,
    pub(crate) overflowed: u64,
}

impl<V: Keep> Keyed<V> {
    pub(crate) fn new(clock: SharedClock, capacity: u32, idle_after: Option<Duration>) -> Self {
        Keyed {
            clock,
            capacity: capacity as usize,
            idle_after,
            slots: Mutex::new(Slots {
                ring: Vec::new(),
                index: HashMap::new(),
                hand: 0,
                counts: KeyedCounts::default(),
            }),
        }
    }

    /// The value of `key`, by `make` if there is none. It runs under the lock, so that two callers
    /// get the same value.
    pub(crate) fn get(&self, key: &str, make: impl FnOnce(&Arc<str>) -> V) -> V {
        let now = self.clock.now();
        let mut slots = self.lock();
        if let Some(idle) = self.idle_after {
            slots.evict_idle(now, idle, 2);
        }
        if let Some(value) = slots.find(key, now) {
            return value;
        }
        let key: Arc<str> = key.into();
        let value = make(&key);
        if slots.ring.len() >= self.capacity && !slots.evict_one() {
            slots.counts.overflowed += 1;
            return value;
        }
        slots.insert(key, value.clone(), now);
        value
    }

    pub(crate) fn counts(&self) -> KeyedCounts {
        let slots = self.lock();
        KeyedCounts {
            len: slots.ring.len(),
            ..slots.counts
        }
    }

    pub(crate) fn values(&self) -> Vec<V> {
        let slots = self.lock();
        slots.ring.iter().map(|entry| entry.value.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Slots<V>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Keep> Slots<V> {
    fn find(&mut self, key: &str, now: MonoTime) -> Option<V> {
        let index = *self.index.get(key)?;
        let entry = self.ring.get_mut(index)?;
        (entry.used, entry.last_used) = (true, now);
        Some(entry.value.clone())
    }

    fn insert(&mut self, key: Arc<str>, value: V, now: MonoTime) {
        self.index.insert(key.clone(), self.ring.len());
        self.ring.push(Entry {
            key,
            value,
            used: false,
            last_used: now,
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
            let used = std::mem::take(&mut entry.used);
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
            let idle = self
                .ring
                .get(hand)
                .is_some_and(|e| now.since(e.last_used) >= idle && e.value.is_forgettable());
            if idle {
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
        self.index.remove(&gone.key);
        if let Some(moved) = self.ring.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
        self.counts.evicted += 1;
    }
}
