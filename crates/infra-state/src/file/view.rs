//! What the file holds, in memory: the last commit that was answered.
//!
//! Reads end here. They share locks with each other and wait for the publishing of a commit at
//! most, never for the disk.

use std::array;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap};

pub(super) const SHARDS: usize = 64;
/// The expiry of what never expires.
pub(super) const NEVER: u64 = u64::MAX;
/// What a pair costs beside its bytes: its places in table and order, two allocations.
const OVERHEAD: usize = 160;

/// A value and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: Bytes,
    /// Of the whole store, new with each write of a value, never used again.
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
}

impl Entry {
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.expires > now
    }
}

/// What changes with one commit; `None` removes.
pub(super) type Changes = HashMap<Arc<str>, Option<Entry>>;

/// A part of the keys: hashed to be found in one step, and in order to be scanned by prefix.
#[derive(Debug, Clone, Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    keys: BTreeSet<Arc<str>>,
}

/// Bytes that a pair counts against the bound.
pub(super) fn weight(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + OVERHEAD
}

pub(super) struct View {
    shards: [RwLock<Shard>; SHARDS],
    hasher: DefaultHashBuilder,
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
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn insert(&mut self, key: Arc<str>, entry: Entry) {
        if self.entries.insert(key.clone(), entry).is_none() {
            self.keys.insert(key);
        }
    }

    fn remove(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.keys.remove(key);
        }
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
        }
    }

    pub(super) fn shard_of(&self, key: &str) -> usize {
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }

    /// The entry, expired or not.
    pub(super) fn entry(&self, key: &str) -> Option<Entry> {
        self.read(self.shard_of(key)).entries.get(key).cloned()
    }

    /// The values of one moment.
    pub(super) fn many(&self, keys: &[&str], now: u64) -> Vec<Option<Bytes>> {
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
        keys.iter()
            .zip(places)
            .map(|(key, shard)| {
                let entry = guards.get(shard)?.as_ref()?.entries.get(*key)?;
                entry.is_live(now).then(|| entry.value.clone())
            })
            .collect()
    }

    /// Makes a commit visible, all of it in one step.
    pub(super) fn publish(&self, changes: Changes) {
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
        for (shard, key, entry) in by_shard {
            let Some(Some(map)) = guards.get_mut(shard) else {
                continue;
            };
            match entry {
                Some(entry) => map.insert(key, entry),
                None => map.remove(&key),
            }
        }
    }

    /// Takes what was read from the file for all there is.
    pub(super) fn replace(&self, shards: Vec<Shard>) {
        let mut guards: Vec<_> = (0..SHARDS).map(|shard| self.write(shard)).collect();
        let mut shards = shards.into_iter();
        for guard in &mut guards {
            **guard = shards.next().unwrap_or_default();
        }
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
            let is_live = |key: &str| map.entries.get(key).is_some_and(|entry| entry.is_live(now));
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
