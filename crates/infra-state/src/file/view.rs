//! What the file holds, in memory: the last commit that was answered.
//!
//! Reads end here, unless the value is one that had to leave (`residency`). They share locks with
//! each other and wait for the publishing of a commit at most, never for the disk.

use std::array;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap};

use super::residency::ALWAYS_RESIDENT;
use super::snapshot::Snapshot;

pub(super) const SHARDS: usize = 64;
/// The expiry of what never expires.
pub(super) const NEVER: u64 = u64::MAX;

/// A value and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Value,
    /// Of the whole store, new with each write of a value, never used again.
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
}

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Resident(Bytes),
    /// In the file, where the view's snapshot finds it.
    OnDisk {
        len: usize,
    },
}

impl Value {
    pub(super) fn len(&self) -> usize {
        match self {
            Value::Resident(bytes) => bytes.len(),
            Value::OnDisk { len } => *len,
        }
    }
}

impl Entry {
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.expires > now
    }
}

/// What changes with one commit; `None` removes.
pub(super) type Changes = HashMap<Arc<str>, Option<Entry>>;

/// A part of the keys: hashed to be found in one step, and in order to be scanned by prefix.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<str>, Slot>,
    keys: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Asked for since the hand of the clock came by.
    used: AtomicBool,
}

pub(super) struct View {
    shards: [RwLock<Shard>; SHARDS],
    hasher: DefaultHashBuilder,
    /// The commit that is published, for as long as a value is on the disk only.
    snapshot: RwLock<Option<Arc<Snapshot>>>,
}

/// Entries of one moment, and where to find those of their values that are not in memory.
pub(super) struct Found {
    pub(super) entries: Vec<Option<Entry>>,
    pub(super) snapshot: Option<Arc<Snapshot>>,
}

/// A page of keys, and where the next one begins.
pub(super) struct KeyPage {
    pub(super) keys: Vec<String>,
    pub(super) next: Option<Position>,
}

/// After this key of this shard, or at its beginning.
pub(super) struct Position {
    pub(super) shard: usize,
    pub(super) after: Option<String>,
}

impl Shard {
    /// Of entries in any order and their keys in that of the text.
    pub(super) fn new(entries: Vec<(Arc<str>, Entry)>) -> Self {
        // A set of keys in order is built in one go.
        let keys = entries.iter().map(|(key, _)| key.clone()).collect();
        let slot = |(key, entry)| (key, Slot::new(entry, false));
        Shard {
            entries: entries.into_iter().map(slot).collect(),
            keys,
        }
    }

    fn insert(&mut self, key: Arc<str>, entry: Entry) {
        let slot = Slot::new(entry, true);
        if self.entries.insert(key.clone(), slot).is_none() {
            self.keys.insert(key);
        }
    }

    fn remove(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.keys.remove(key);
        }
    }
}

impl Slot {
    fn new(entry: Entry, used: bool) -> Self {
        let used = AtomicBool::new(used);
        Slot { entry, used }
    }

    fn read(&self) -> Entry {
        // A store only where it changes something keeps the line shared between readers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.entry.clone()
    }
}

impl Position {
    pub(super) fn parse(text: &str) -> Option<Position> {
        let (shard, after) = match text.split_once(':') {
            Some((shard, after)) => (shard, Some(after.to_owned())),
            None => (text, None),
        };
        let shard = shard.parse().ok().filter(|shard| *shard < SHARDS)?;
        Some(Position { shard, after })
    }
}

/// What [`Position::parse`] reads.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            Some(key) => write!(f, "{}:{key}", self.shard),
            None => write!(f, "{}", self.shard),
        }
    }
}

impl View {
    pub(super) fn new() -> Self {
        View {
            shards: array::from_fn(|_| RwLock::default()),
            hasher: DefaultHashBuilder::default(),
            snapshot: RwLock::default(),
        }
    }

    pub(super) fn shard_of(&self, key: &str) -> usize {
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }

    /// The entry, expired or not, for somebody who asks for its value.
    pub(super) fn entry(&self, key: &str) -> Option<Entry> {
        let shard = self.read(self.shard_of(key));
        shard.entries.get(key).map(Slot::read)
    }

    /// The entry, expired or not, without counting as use of its value.
    pub(super) fn peek(&self, key: &str) -> Option<Entry> {
        let shard = self.read(self.shard_of(key));
        shard.entries.get(key).map(|slot| slot.entry.clone())
    }

    /// The live entries of one moment.
    pub(super) fn find(&self, keys: &[&str], now: u64) -> Found {
        let places: Vec<usize> = keys.iter().map(|key| self.shard_of(key)).collect();
        let mut guards: [Option<RwLockReadGuard<'_, Shard>>; SHARDS] = array::from_fn(|_| None);
        // In one order, as the writer does, so that none waits for the other for ever.
        let mut needed = [false; SHARDS];
        for shard in &places {
            if let Some(needed) = needed.get_mut(*shard) {
                *needed = true;
            }
        }
        for ((shard, guard), needed) in guards.iter_mut().enumerate().zip(needed) {
            *guard = needed.then(|| self.read(shard));
        }
        let entry = |(key, shard): (&&str, usize)| {
            let slot = guards.get(shard)?.as_ref()?.entries.get(*key)?;
            slot.entry.is_live(now).then(|| slot.read())
        };
        let entries: Vec<Option<Entry>> = keys.iter().zip(places).map(entry).collect();
        let on_disk = |entry: &Entry| matches!(entry.value, Value::OnDisk { .. });
        // Under the locks of the shards: of the same commit as the entries.
        let any = entries.iter().flatten().any(on_disk);
        let snapshot = any.then(|| self.snapshot().clone()).flatten();
        Found { entries, snapshot }
    }

    /// Makes a commit visible, all of it in one step, and with it the snapshot to find there what
    /// does not stay in memory.
    pub(super) fn publish(&self, changes: Changes, snapshot: Option<Arc<Snapshot>>) {
        let mut guards: [Option<RwLockWriteGuard<'_, Shard>>; SHARDS] = array::from_fn(|_| None);
        let mut by_shard: Vec<(usize, Arc<str>, Option<Entry>)> = changes
            .into_iter()
            .map(|(key, entry)| (self.shard_of(&key), key, entry))
            .collect();
        by_shard.sort_unstable_by_key(|(shard, ..)| *shard);
        for (shard, ..) in &by_shard {
            if let Some(guard) = guards.get_mut(*shard)
                && guard.is_none()
            {
                *guard = Some(self.write(*shard));
            }
        }
        let before = self.swap(snapshot);
        for (shard, key, entry) in by_shard {
            let Some(Some(map)) = guards.get_mut(shard) else {
                continue;
            };
            match entry {
                Some(entry) => map.insert(key, entry),
                None => map.remove(&key),
            }
        }
        drop(guards);
        drop(before);
    }

    /// Takes what was read from the file for all there is.
    pub(super) fn replace(&self, shards: Vec<Shard>, snapshot: Option<Arc<Snapshot>>) {
        let mut guards: Vec<_> = (0..SHARDS).map(|shard| self.write(shard)).collect();
        self.swap(snapshot);
        let mut shards = shards.into_iter();
        for guard in &mut guards {
            **guard = shards.next().unwrap_or_default();
        }
    }

    /// Offers another snapshot of the same commit, or none for a while; returns the one before.
    pub(super) fn swap(&self, snapshot: Option<Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
        let offered = self.snapshot.write();
        let mut offered = offered.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *offered, snapshot)
    }

    /// Whether this snapshot still is the one to read from.
    pub(super) fn offers(&self, snapshot: &Arc<Snapshot>) -> bool {
        let offered = self.snapshot();
        offered.as_ref().is_some_and(|it| Arc::ptr_eq(it, snapshot))
    }

    fn snapshot(&self) -> RwLockReadGuard<'_, Option<Arc<Snapshot>>> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys of all values in memory that can leave it.
    pub(super) fn can_leave(&self) -> BTreeSet<Arc<str>> {
        let mut keys = BTreeSet::new();
        for shard in 0..SHARDS {
            let shard = self.read(shard);
            let resident = |slot: &Slot| matches!(slot.entry.value, Value::Resident(_));
            let long = |slot: &Slot| slot.entry.value.len() > ALWAYS_RESIDENT;
            let found = shard.entries.iter();
            let found = found.filter(|(_, slot)| resident(slot) && long(slot));
            keys.extend(found.map(|(key, _)| key.clone()));
        }
        keys
    }

    /// Takes a value out of memory and returns its length; one that was used stays until the
    /// next time.
    pub(super) fn evict(&self, key: &str) -> Option<usize> {
        let mut shard = self.write(self.shard_of(key));
        let slot = shard.entries.get_mut(key)?;
        let used = std::mem::take(slot.used.get_mut());
        let Value::Resident(bytes) = &slot.entry.value else {
            return None;
        };
        let len = bytes.len();
        if used || len <= ALWAYS_RESIDENT {
            return None;
        }
        slot.entry.value = Value::OnDisk { len };
        Some(len)
    }

    /// Takes a value that was read from the file back into memory, if it still is that of the key.
    pub(super) fn admit(&self, key: &str, revision: u64, value: Bytes) -> Option<(Entry, Entry)> {
        let mut shard = self.write(self.shard_of(key));
        let slot = shard.entries.get_mut(key)?;
        let on_disk = matches!(slot.entry.value, Value::OnDisk { .. });
        if slot.entry.revision != revision || !on_disk {
            return None;
        }
        let before = slot.entry.clone();
        slot.entry.value = Value::Resident(value);
        // To stay it has to be asked for once more.
        *slot.used.get_mut() = false;
        Some((before, slot.entry.clone()))
    }

    /// Up to `limit` live keys with this prefix.
    pub(super) fn keys(&self, prefix: &str, from: Position, limit: usize, now: u64) -> KeyPage {
        let (mut keys, mut after): (Vec<String>, _) = (Vec::new(), from.after);
        for shard in from.shard..SHARDS {
            let map = self.read(shard);
            let start = match &after {
                Some(key) => Bound::Excluded(key.as_str()),
                None => Bound::Included(prefix),
            };
            let is_live = |key: &str| {
                let slot = map.entries.get(key);
                slot.is_some_and(|slot| slot.entry.is_live(now))
            };
            let found = map
                .keys
                .range::<str, _>((start, Bound::Unbounded))
                .take_while(|key| key.starts_with(prefix))
                .filter(|key| is_live(key));
            let before = keys.len();
            keys.extend(found.take(limit - before).map(|key| key.to_string()));
            if keys.len() == limit {
                let last = keys.get(before..).and_then(<[String]>::last).cloned();
                let after = last.or(after);
                let next = Some(Position { shard, after });
                return KeyPage { keys, next };
            }
            after = None;
        }
        KeyPage { keys, next: None }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard % SHARDS]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length"
    )]
    fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard % SHARDS]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
