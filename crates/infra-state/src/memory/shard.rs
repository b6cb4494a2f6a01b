//! One shard of the map: values, and their expiries in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use infra_core::{Clock, MonoTime};

use crate::driver::{DriverError, Expiry};
use crate::integer;
use crate::ttl::TtlState;

/// Expired values that one call removes in passing. More than one, so that they cannot pile up
/// however many are written.
const REMOVED_IN_PASSING: usize = 4;

/// Time is read only where a value with an expiry is concerned.
pub(crate) struct Shard {
    table: HashTable<Entry>,
    expiries: BTreeMap<(MonoTime, u64), Expiring>,
    next_id: u64,
    /// Grows with every write of a value.
    revision: u64,
    /// Whether anybody may be watching, and what has expired since it was last asked.
    watched: bool,
    expired: Vec<Arc<str>>,
}

struct Entry {
    hash: u64,
    key: Arc<str>,
    value: Bytes,
    revision: u64,
    expires: Option<(MonoTime, u64)>,
}

struct Expiring {
    hash: u64,
    key: Arc<str>,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Shard {
            table: HashTable::new(),
            expiries: BTreeMap::new(),
            next_id: 0,
            revision: 0,
            watched: false,
            expired: Vec::new(),
        }
    }

    /// From now on what expires is noted for [`Shard::take_expired`].
    pub(crate) fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The keys of values that were removed because they had expired.
    pub(crate) fn take_expired(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.expired)
    }

    pub(crate) fn get(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> Option<Bytes> {
        self.live(hash, key, clock).map(|entry| entry.value.clone())
    }

    /// The value and its revision.
    pub(crate) fn get_versioned(
        &mut self,
        hash: u64,
        key: &str,
        clock: &dyn Clock,
    ) -> Option<(Bytes, u64)> {
        self.live(hash, key, clock)
            .map(|entry| (entry.value.clone(), entry.revision))
    }

    pub(crate) fn exists(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> bool {
        self.live(hash, key, clock).is_some()
    }

    pub(crate) fn set(
        &mut self,
        hash: u64,
        key: &str,
        value: Bytes,
        expiry: Expiry,
        clock: &dyn Clock,
    ) {
        let at = match expiry {
            Expiry::After(ttl) => Some(clock.now().plus(ttl.duration())),
            Expiry::Clear | Expiry::Keep => None,
        };
        let revision = self.next_revision();
        let Some(entry) = self.live(hash, key, clock) else {
            self.insert(hash, key, value, at);
            return;
        };
        entry.value = value;
        entry.revision = revision;
        let key = entry.key.clone();
        if expiry != Expiry::Keep {
            self.set_expiry(hash, key, at);
        }
    }

    pub(crate) fn set_if_absent(
        &mut self,
        hash: u64,
        key: &str,
        value: Bytes,
        expiry: Expiry,
        clock: &dyn Clock,
    ) -> bool {
        if self.live(hash, key, clock).is_some() {
            return false;
        }
        self.set(hash, key, value, expiry, clock);
        true
    }

    pub(crate) fn delete(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> bool {
        if self.live(hash, key, clock).is_none() {
            return false;
        }
        self.remove(hash, key);
        true
    }

    pub(crate) fn increment(
        &mut self,
        hash: u64,
        key: &str,
        delta: i64,
        clock: &dyn Clock,
    ) -> Result<i64, DriverError> {
        let revision = self.next_revision();
        let Some(entry) = self.live(hash, key, clock) else {
            self.insert(hash, key, Bytes::from(delta.to_string()), None);
            return Ok(delta);
        };
        let after = integer::add(&entry.value, delta)?;
        entry.value = Bytes::from(after.to_string());
        entry.revision = revision;
        Ok(after)
    }

    pub(crate) fn expire(
        &mut self,
        hash: u64,
        key: &str,
        ttl: crate::driver::TtlMillis,
        clock: &dyn Clock,
    ) -> bool {
        let Some(entry) = self.live(hash, key, clock) else {
            return false;
        };
        let key = entry.key.clone();
        self.set_expiry(hash, key, Some(clock.now().plus(ttl.duration())));
        true
    }

    pub(crate) fn persist(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> bool {
        let Some(entry) = self.live(hash, key, clock) else {
            return false;
        };
        if entry.expires.is_none() {
            return false;
        }
        let key = entry.key.clone();
        self.set_expiry(hash, key, None);
        true
    }

    pub(crate) fn ttl(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> TtlState {
        match self.live(hash, key, clock) {
            None => TtlState::Absent,
            Some(entry) => match entry.expires {
                None => TtlState::NoExpiry,
                Some((at, _)) => {
                    let left = at.since(clock.now());
                    let millis = left.as_nanos().div_ceil(1_000_000) as u64;
                    TtlState::Remaining(std::time::Duration::from_millis(millis))
                }
            },
        }
    }

    /// The keys with this prefix that have not expired.
    pub(crate) fn keys(&mut self, prefix: &str, clock: &dyn Clock) -> Vec<String> {
        let now = clock.now();
        self.table
            .iter()
            .filter(|entry| entry.key.starts_with(prefix))
            .filter(|entry| entry.expires.is_none_or(|(at, _)| at > now))
            .map(|entry| entry.key.to_string())
            .collect()
    }

    /// Removes up to `limit` expired values; true when there may be more.
    pub(crate) fn sweep(&mut self, limit: usize, clock: &dyn Clock) -> bool {
        if self.expiries.is_empty() {
            return false;
        }
        let now = clock.now();
        for _ in 0..limit {
            match self.expiries.first_key_value() {
                Some(((at, _), _)) if *at <= now => {}
                _ => return false,
            }
            if let Some((_, expired)) = self.expiries.pop_first()
                && let Ok(found) = self
                    .table
                    .find_entry(expired.hash, |entry| Arc::ptr_eq(&entry.key, &expired.key))
            {
                found.remove();
                if self.watched {
                    self.expired.push(expired.key);
                }
            }
        }
        true
    }

    /// Values held, expired ones included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn clear(&mut self) {
        let revision = self.revision;
        *self = Shard::new();
        self.revision = revision;
    }

    /// The entry of a key that has not expired. Removes some expired ones in passing, this key's
    /// among them if need be.
    fn live(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> Option<&mut Entry> {
        self.sweep(REMOVED_IN_PASSING, clock);
        let Ok(found) = self.table.find_entry(hash, |entry| *entry.key == *key) else {
            return None;
        };
        match found.get().expires {
            Some(expires) if expires.0 <= clock.now() => {
                let (entry, _) = found.remove();
                self.expiries.remove(&expires);
                if self.watched {
                    self.expired.push(entry.key);
                }
                None
            }
            _ => Some(found.into_mut()),
        }
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn insert(&mut self, hash: u64, key: &str, value: Bytes, at: Option<MonoTime>) {
        let key: Arc<str> = key.into();
        let entry = Entry {
            hash,
            key: key.clone(),
            value,
            revision: self.revision,
            expires: None,
        };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        if at.is_some() {
            self.set_expiry(hash, key, at);
        }
    }

    fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(found) = self.table.find_entry(hash, |entry| *entry.key == *key) {
            let (entry, _) = found.remove();
            if let Some(expires) = entry.expires {
                self.expiries.remove(&expires);
            }
        }
    }

    /// Sets or removes the expiry of an entry that exists.
    fn set_expiry(&mut self, hash: u64, key: Arc<str>, at: Option<MonoTime>) {
        let Some(entry) = self.table.find_mut(hash, |entry| *entry.key == *key) else {
            return;
        };
        if let Some(old) = entry.expires.take() {
            self.expiries.remove(&old);
        }
        if let Some(at) = at {
            self.next_id += 1;
            let expires = (at, self.next_id);
            entry.expires = Some(expires);
            self.expiries.insert(expires, Expiring { hash, key });
        }
    }
}
