//! One shard of the map: values, and their expiries in order.

use std::collections::BTreeSet;

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
    /// When an entry of which hash expires. Two entries may share both once in an age of the
    /// universe; then one of them waits for a call on its key.
    expiries: BTreeSet<(MonoTime, u64)>,
    /// Grows with every write of a value.
    revision: u64,
    /// Whether anybody may be watching, and what has expired since it was last asked.
    watched: bool,
    expired: Vec<Box<str>>,
}

/// What is left of an expired value: giving it back takes time.
type Leftover = (Option<Box<str>>, Bytes);

/// What one sweep of many works on; made once.
pub(crate) struct Swept {
    due: Vec<(MonoTime, u64)>,
    left: Vec<Leftover>,
}

impl Swept {
    /// Expired values removed under one lock: few, so that nobody waits long.
    const MOST: usize = 64;

    pub(crate) fn new() -> Self {
        Swept {
            due: Vec::with_capacity(Swept::MOST),
            left: Vec::with_capacity(Swept::MOST),
        }
    }

    /// Gives back what was removed.
    pub(crate) fn give_back(&mut self) {
        self.left.clear();
    }
}

struct Entry {
    hash: u64,
    key: Box<str>,
    value: Bytes,
    revision: u64,
    /// [`MonoTime::NEVER`] for a value that stays.
    expires: MonoTime,
}

impl Shard {
    pub(crate) fn new() -> Self {
        Shard {
            table: HashTable::new(),
            expiries: BTreeSet::new(),
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
    pub(crate) fn take_expired(&mut self) -> Vec<Box<str>> {
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
            Expiry::After(ttl) => clock.now().plus(ttl.duration()),
            Expiry::Clear | Expiry::Keep => MonoTime::NEVER,
        };
        let revision = self.next_revision();
        let Some(entry) = self.live(hash, key, clock) else {
            self.insert(hash, key, value, at);
            return;
        };
        entry.value = value;
        entry.revision = revision;
        if expiry != Expiry::Keep {
            let before = std::mem::replace(&mut entry.expires, at);
            self.reschedule(hash, before, at);
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
            self.insert(hash, key, integer::text(delta), MonoTime::NEVER);
            return Ok(delta);
        };
        let after = integer::add(&entry.value, delta)?;
        entry.value = integer::replaced(std::mem::take(&mut entry.value), after);
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
        let at = clock.now().plus(ttl.duration());
        let before = std::mem::replace(&mut entry.expires, at);
        self.reschedule(hash, before, at);
        true
    }

    pub(crate) fn persist(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> bool {
        let Some(entry) = self.live(hash, key, clock) else {
            return false;
        };
        let before = std::mem::replace(&mut entry.expires, MonoTime::NEVER);
        self.reschedule(hash, before, MonoTime::NEVER);
        before != MonoTime::NEVER
    }

    pub(crate) fn ttl(&mut self, hash: u64, key: &str, clock: &dyn Clock) -> TtlState {
        match self.live(hash, key, clock) {
            None => TtlState::Absent,
            Some(entry) => match entry.expires {
                MonoTime::NEVER => TtlState::NoExpiry,
                at => {
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
            .filter(|entry| entry.expires > now)
            .map(|entry| entry.key.to_string())
            .collect()
    }

    /// When the first of the values here expires.
    pub(crate) fn first_expiry(&self) -> Option<MonoTime> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Removes up to `limit` expired values; true when there may be more.
    fn sweep(&mut self, limit: usize, clock: &dyn Clock) -> bool {
        if self.expiries.is_empty() {
            return false;
        }
        let now = clock.now();
        for _ in 0..limit {
            let Some((at, hash)) = self.next_due(now) else {
                return false;
            };
            self.take_expired_entry(at, hash);
        }
        true
    }

    /// The same for many, leaving what has to be given back to the caller, who holds no lock then.
    /// One step for all after the other: what is far apart in memory is fetched together.
    pub(crate) fn sweep_into(&mut self, swept: &mut Swept, clock: &dyn Clock) -> bool {
        if self.expiries.is_empty() {
            return false;
        }
        let now = clock.now();
        let due = std::iter::from_fn(|| self.next_due(now));
        swept.due.extend(due.take(Swept::MOST));
        for (at, hash) in &swept.due {
            let taken = self.take_expired_entry(*at, *hash);
            swept.left.extend(taken);
        }
        let more = swept.due.len() == Swept::MOST;
        swept.due.clear();
        more
    }

    fn next_due(&mut self, now: MonoTime) -> Option<(MonoTime, u64)> {
        match self.expiries.first() {
            Some((at, _)) if *at <= now => self.expiries.pop_first(),
            _ => None,
        }
    }

    /// Takes out what expires then, and notes it for those who watch.
    fn take_expired_entry(&mut self, at: MonoTime, hash: u64) -> Option<Leftover> {
        let found = self
            .table
            .find_entry(hash, |entry| entry.expires == at && entry.hash == hash);
        let (entry, _) = found.ok()?.remove();
        if !self.watched {
            return Some((Some(entry.key), entry.value));
        }
        self.expired.push(entry.key);
        Some((None, entry.value))
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
        let expires = found.get().expires;
        if expires == MonoTime::NEVER || expires > clock.now() {
            return Some(found.into_mut());
        }
        let (entry, _) = found.remove();
        self.expiries.remove(&(expires, hash));
        if self.watched {
            self.expired.push(entry.key);
        }
        None
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn insert(&mut self, hash: u64, key: &str, value: Bytes, at: MonoTime) {
        let entry = Entry {
            hash,
            key: key.into(),
            value,
            revision: self.revision,
            expires: at,
        };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        self.reschedule(hash, MonoTime::NEVER, at);
    }

    fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(found) = self.table.find_entry(hash, |entry| *entry.key == *key) {
            let (entry, _) = found.remove();
            self.reschedule(hash, entry.expires, MonoTime::NEVER);
        }
    }

    /// An entry that would have expired at one time expires at another.
    fn reschedule(&mut self, hash: u64, before: MonoTime, after: MonoTime) {
        if before != MonoTime::NEVER {
            self.expiries.remove(&(before, hash));
        }
        if after != MonoTime::NEVER {
            self.expiries.insert((after, hash));
        }
    }
}
