//! The operations of one commit, evaluated in order, each on what the ones before it did.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::residency::fixed_weight;
use super::view::{Changes, Entry, NEVER, Value, View};
use crate::driver::{DriverError, Expiry, TtlMillis};
use crate::error::ErrorKind;
use crate::integer;

/// A call that goes through the queue.
#[derive(Debug)]
pub(super) enum Op {
    Set {
        entries: Vec<(Arc<str>, Bytes)>,
        expiry: Expiry,
    },
    SetIfAbsent {
        key: Arc<str>,
        value: Bytes,
        expiry: Expiry,
    },
    Delete {
        keys: Vec<Arc<str>>,
    },
    Increment {
        key: Arc<str>,
        delta: i64,
    },
    Expire {
        key: Arc<str>,
        ttl: TtlMillis,
    },
    Persist {
        key: Arc<str>,
    },
    Transact {
        steps: Vec<OwnedStep>,
    },
    Ping,
}

/// One key of a transaction.
#[derive(Debug)]
pub(super) struct OwnedStep {
    pub(super) key: Arc<str>,
    pub(super) expect: Expected,
    pub(super) action: OwnedAction,
}

/// A condition, as far as this file is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Anything,
    Present,
    Absent,
    Revision(u64),
    /// A version of another store.
    Never,
}

#[derive(Debug)]
pub(super) enum OwnedAction {
    Check,
    Put { value: Bytes, expiry: Expiry },
    Delete,
}

/// The answer to an [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Done,
    Flag(bool),
    Count(u64),
    Sum(i64),
    /// Of the keys of a transaction, `None` where there is no value.
    Revisions(Vec<Option<u64>>),
}

impl Expected {
    fn holds(self, found: Option<u64>) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Present => found.is_some(),
            Expected::Absent => found.is_none(),
            Expected::Revision(revision) => found == Some(revision),
            Expected::Never => false,
        }
    }
}

impl OwnedStep {
    fn bytes(&self) -> usize {
        match &self.action {
            OwnedAction::Put { value, .. } => self.key.len() + value.len(),
            OwnedAction::Check | OwnedAction::Delete => self.key.len(),
        }
    }
}

impl Op {
    /// Bytes that it writes at most.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Op::Set { entries, .. } => entries
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum(),
            Op::SetIfAbsent { key, value, .. } => key.len() + value.len(),
            Op::Delete { keys } => keys.iter().map(|key| key.len()).sum(),
            Op::Increment { key, .. } | Op::Expire { key, .. } | Op::Persist { key } => key.len(),
            Op::Transact { steps } => steps.iter().map(OwnedStep::bytes).sum(),
            Op::Ping => 0,
        }
    }
}

/// The expiries of all entries that have one, earliest first.
pub(super) type Expiries = BTreeSet<(u64, Arc<str>)>;

/// What a commit is going to change, over what is there.
pub(super) struct Batch<'v> {
    view: &'v View,
    now: u64,
    max_resident: usize,
    pub(super) changes: Changes,
    pub(super) revision: u64,
    /// Bytes of memory that cannot be given back.
    fixed: usize,
}

impl<'v> Batch<'v> {
    pub(super) fn new(
        view: &'v View,
        now: u64,
        revision: u64,
        fixed: usize,
        max_resident: usize,
    ) -> Self {
        Batch {
            view,
            now,
            max_resident,
            changes: Changes::new(),
            revision,
            fixed,
        }
    }

    /// Does one operation. One that fails has changed nothing.
    pub(super) fn apply(&mut self, op: Op) -> Result<Reply, DriverError> {
        match op {
            Op::Set { entries, expiry } => {
                self.check_room(entries.iter().map(|(key, value)| (key, value)))?;
                for (key, value) in entries {
                    self.set(key, value, expiry);
                }
                Ok(Reply::Done)
            }
            Op::SetIfAbsent { key, value, expiry } => {
                if self.live(&key).is_some() {
                    return Ok(Reply::Flag(false));
                }
                self.check_room([(&key, &value)])?;
                self.set(key, value, expiry);
                Ok(Reply::Flag(true))
            }
            Op::Delete { keys } => {
                let deleted = keys.into_iter().map(|key| u64::from(self.delete(key)));
                Ok(Reply::Count(deleted.sum()))
            }
            Op::Increment { key, delta } => self.increment(key, delta).map(Reply::Sum),
            Op::Expire { key, ttl } => {
                let expires = self.now.saturating_add(ttl.get());
                Ok(Reply::Flag(self.change_expiry(key, expires)))
            }
            Op::Persist { key } => Ok(Reply::Flag(self.change_expiry(key, NEVER))),
            Op::Transact { steps } => self.transact(steps).map(Reply::Revisions),
            Op::Ping => Ok(Reply::Done),
        }
    }

    fn transact(&mut self, steps: Vec<OwnedStep>) -> Result<Vec<Option<u64>>, DriverError> {
        let mut revisions = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let found = self.live(&step.key).map(|entry| entry.revision);
            if !step.expect.holds(found) {
                return Err(DriverError::conflict(index));
            }
            revisions.push(found);
        }
        self.check_room(steps.iter().filter_map(|step| match &step.action {
            OwnedAction::Put { value, .. } => Some((&step.key, value)),
            OwnedAction::Check | OwnedAction::Delete => None,
        }))?;
        for (step, revision) in steps.into_iter().zip(&mut revisions) {
            match step.action {
                OwnedAction::Check => {}
                OwnedAction::Put { value, expiry } => {
                    self.set(step.key, value, expiry);
                    *revision = Some(self.revision);
                }
                OwnedAction::Delete => {
                    self.delete(step.key);
                    *revision = None;
                }
            }
        }
        Ok(revisions)
    }

    /// Removes up to `limit` expired entries; true when there are more.
    pub(super) fn sweep(&mut self, expiries: &Expiries, limit: usize) -> bool {
        let mut expired = expiries.iter().take_while(|(at, _)| *at <= self.now);
        let due: Vec<Arc<str>> = (&mut expired)
            .take(limit)
            .map(|(_, key)| key.clone())
            .collect();
        let more = expired.next().is_some();
        for key in due {
            if self
                .entry(&key)
                .is_some_and(|entry| !entry.is_live(self.now))
            {
                self.put(key, None);
            }
        }
        more
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        match self.changes.get(key) {
            Some(changed) => changed.clone(),
            None => self.view.peek(key),
        }
    }

    fn live(&self, key: &str) -> Option<Entry> {
        self.entry(key).filter(|entry| entry.is_live(self.now))
    }

    fn set(&mut self, key: Arc<str>, value: Bytes, expiry: Expiry) {
        let expires = match expiry {
            Expiry::Clear => NEVER,
            Expiry::Keep => self.live(&key).map_or(NEVER, |entry| entry.expires),
            Expiry::After(ttl) => self.now.saturating_add(ttl.get()),
        };
        self.write(key, value, expires);
    }

    fn delete(&mut self, key: Arc<str>) -> bool {
        match self.entry(&key) {
            None => false,
            Some(entry) => {
                self.put(key, None);
                entry.is_live(self.now)
            }
        }
    }

    fn increment(&mut self, key: Arc<str>, delta: i64) -> Result<i64, DriverError> {
        let before = self.live(&key);
        let (sum, expires) = match &before {
            None => (delta, NEVER),
            Some(entry) => (integer::add(text(&entry.value), delta)?, entry.expires),
        };
        let value = Bytes::from(sum.to_string());
        self.check_room([(&key, &value)])?;
        self.write(key, value, expires);
        Ok(sum)
    }

    /// False where there is nothing, or the expiry is this one already for ever.
    fn change_expiry(&mut self, key: Arc<str>, expires: u64) -> bool {
        let Some(mut entry) = self.live(&key) else {
            return false;
        };
        if expires == NEVER && entry.expires == NEVER {
            return false;
        }
        // The revision is that of the value and stays.
        entry.expires = expires;
        self.put(key, Some(entry));
        true
    }

    fn write(&mut self, key: Arc<str>, value: Bytes, expires: u64) {
        self.revision += 1;
        let entry = Entry {
            value: Value::Resident(value),
            revision: self.revision,
            expires,
        };
        self.put(key, Some(entry));
    }

    fn put(&mut self, key: Arc<str>, entry: Option<Entry>) {
        let fixed = |entry: &Entry| fixed_weight(&key, entry.value.len());
        let before = self.entry(&key).as_ref().map_or(0, fixed);
        let after = entry.as_ref().map_or(0, fixed);
        self.fixed = (self.fixed + after).saturating_sub(before);
        self.changes.insert(key, entry);
    }

    fn check_room<'e>(
        &self,
        entries: impl IntoIterator<Item = (&'e Arc<str>, &'e Bytes)>,
    ) -> Result<(), DriverError> {
        let grown = entries.into_iter().fold(0, |grown: usize, (key, value)| {
            let before = self
                .entry(key)
                .map_or(0, |entry| fixed_weight(key, entry.value.len()));
            grown + fixed_weight(key, value.len()).saturating_sub(before)
        });
        if grown == 0 || self.fixed + grown <= self.max_resident {
            return Ok(());
        }
        let message = format!(
            "the keys and short values of the file would need more than the {} bytes of memory \
             that `max_resident_bytes` allows",
            self.max_resident
        );
        Err(DriverError::new(ErrorKind::Capacity, message).with_class(infra_core::Class::Permanent))
    }
}

/// The text of a value, as far as it can be that of an integer: those are always in memory.
fn text(value: &Value) -> &[u8] {
    match value {
        Value::Resident(bytes) => bytes,
        Value::OnDisk { .. } => b"",
    }
}
