//! The values in this process: bounded by weight, never older than what was heard of them.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use infra_core::MonoTime;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use crate::freshness::Times;
use crate::generations::{Generations, Ticket};

/// What an entry weighs besides key and value: its own fields and its share of the tables.
const OVERHEAD: usize = 160;
/// One entry weighs at most this fraction of the whole, and fits into one shard.
const SHARDS: u64 = 16;

/// What is known under a key.
#[derive(Clone)]
pub(crate) enum Slot {
    /// A value of some type.
    Value(Arc<dyn Any + Send + Sync>),
    /// The source has none.
    Nothing,
    /// The backend has none; the source was not asked.
    Missing,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) slot: Slot,
    pub(crate) times: Times,
    /// When it was read; in a later epoch it is not trusted.
    pub(crate) epoch: u64,
    /// Until here nobody tries again to renew it.
    pub(crate) quiet_until: MonoTime,
    weight: u64,
    /// Tells it from others under its key.
    stamp: u64,
}

impl Entry {
    /// `bytes` is the length of the stored form, which stands for the size in memory.
    pub(crate) fn new(key: &str, slot: Slot, bytes: usize, times: Times) -> Self {
        Entry {
            slot,
            times,
            epoch: 0,
            quiet_until: MonoTime::ZERO,
            weight: (key.len() + bytes + OVERHEAD) as u64,
            stamp: 0,
        }
    }
}

pub(crate) struct Near {
    map: Cache<Arc<str>, Entry, ByWeight, DefaultHashBuilder, Collect>,
    generations: Generations,
    max_entry: u64,
    stamps: AtomicU64,
    evictions: AtomicU64,
    bypassed: AtomicU64,
}

impl Near {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let max_bytes = max_bytes.max(SHARDS * 1024);
        // Only sizes its tables; a power of ten more or less is fine.
        let expected = (max_bytes / 512).clamp(1024, 1 << 20);
        let mut options = OptionsBuilder::new();
        options
            .weight_capacity(max_bytes)
            .estimated_items_capacity(expected as usize)
            .shards(SHARDS as usize);
        let map = match options.build() {
            Ok(options) => {
                Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), Collect)
            }
            // Only without the two options that were just set.
            Err(_) => Cache::with(1024, max_bytes, ByWeight, Default::default(), Collect),
        };
        Near {
            max_entry: map.shard_capacity().min(max_bytes / SHARDS),
            map,
            generations: Generations::new(),
            stamps: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            bypassed: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.map.get(key)
    }

    /// Whether nothing was missed since the entry was read.
    pub(crate) fn trusts(&self, entry: &Entry) -> bool {
        entry.epoch == self.generations.epoch()
    }

    /// To be taken before a value is read.
    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        self.generations.ticket(key)
    }

    pub(crate) fn holds(&self, key: &str, ticket: &Ticket) -> bool {
        self.generations.at_gate(key, |gate| gate.holds(ticket))
    }

    /// Keeps what was read under `ticket`, unless it is outdated or too large.
    pub(crate) fn insert(&self, key: &Arc<str>, mut entry: Entry, ticket: &Ticket) -> bool {
        entry.epoch = ticket.epoch;
        let mut outgoing = Outgoing::default();
        self.generations.at_gate(key, |gate| {
            let fits = gate.holds(ticket);
            if fits {
                self.place(key, entry, &mut outgoing);
            }
            fits
        })
    }

    /// Takes note that a write of this key begins: what is being read meanwhile will not be kept.
    pub(crate) fn begin_write(&self, key: &str) -> Ticket {
        self.generations.at_gate(key, |gate| {
            gate.advance();
            self.generations.ticket(key)
        })
    }

    /// Keeps what was written, unless somebody else wrote or was heard of meanwhile; then nobody
    /// knows whose value is the last one, and nothing is kept.
    pub(crate) fn end_write(&self, key: &Arc<str>, mut entry: Entry, ticket: &Ticket) {
        entry.epoch = ticket.epoch;
        let mut outgoing = Outgoing::default();
        self.generations.at_gate(key, |gate| {
            let alone = gate.holds(ticket);
            gate.advance();
            match alone {
                true => self.place(key, entry, &mut outgoing),
                false => outgoing.0.extend(self.map.remove(&**key)),
            }
        });
    }

    /// What is kept or being read under this key is outdated. Whether anything was kept.
    pub(crate) fn forget(&self, key: &str) -> bool {
        let removed = self.generations.at_gate(key, |gate| {
            gate.advance();
            self.map.remove(key)
        });
        removed.is_some()
    }

    /// [`Near::forget`] for all keys that begin with `prefix`; how many values there were.
    pub(crate) fn forget_prefix(&self, prefix: &str) -> u64 {
        self.generations.advance_all();
        let all = self.map.iter();
        let concerned: Vec<Arc<str>> = all
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, _)| key)
            .collect();
        let mut values = 0;
        for key in concerned {
            let removed = self.map.remove(&*key);
            values += u64::from(matches!(removed, Some((_, entry)) if entry.is_value()));
        }
        values
    }

    /// Something may have been missed: nothing that is kept or being read is trusted any more. It
    /// stays for when nothing better can be had.
    pub(crate) fn distrust(&self) {
        self.generations.advance_epoch();
    }

    /// Lets nobody try to renew this value before `until`.
    pub(crate) fn quiet(&self, key: &Arc<str>, until: MonoTime) {
        let mut outgoing = Outgoing::default();
        self.generations.at_gate(key, |_| {
            if let Some(mut entry) = self.map.peek(&**key) {
                entry.quiet_until = until;
                self.place(key, entry, &mut outgoing);
            }
        });
    }

    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn weight(&self) -> u64 {
        self.map.weight()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.map.capacity()
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    pub(crate) fn bypassed(&self) -> u64 {
        self.bypassed.load(Ordering::Relaxed)
    }

    /// At the gate. What leaves is dropped by the caller, after the gate: it is foreign code.
    fn place(&self, key: &Arc<str>, mut entry: Entry, outgoing: &mut Outgoing) {
        if entry.weight > self.max_entry {
            outgoing.0.extend(self.map.remove(&**key));
            outgoing.0.push((key.clone(), entry));
            self.bypassed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
        entry.stamp = stamp;
        self.map.insert_with_lifecycle(key.clone(), entry, outgoing);
        // The entry that was replaced goes out with those that made room, which may be the new one.
        let evicted = |(other, entry): &&(Arc<str>, Entry)| other != key || entry.stamp == stamp;
        let evicted = outgoing.0.iter().filter(evicted).count();
        self.evictions.fetch_add(evicted as u64, Ordering::Relaxed);
    }
}

impl Entry {
    fn is_value(&self) -> bool {
        matches!(self.slot, Slot::Value(_))
    }
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<Arc<str>, Entry> for ByWeight {
    fn weight(&self, _: &Arc<str>, entry: &Entry) -> u64 {
        entry.weight
    }
}

/// Entries on their way out.
#[derive(Default)]
struct Outgoing(Vec<(Arc<str>, Entry)>);

#[derive(Clone)]
struct Collect;

impl Lifecycle<Arc<str>, Entry> for Collect {
    type RequestState = Outgoing;

    fn on_evict(&self, state: &mut Outgoing, key: Arc<str>, entry: Entry) {
        state.0.push((key, entry));
    }
}
