//! What the pieces of this module need of a store, and one in memory.
//!
//! This crate knows no store: `infra-state` (feature `resilience`) implements [`SharedStore`] for
//! its `StateStore`, on every backend that has versions.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use infra_core::{BoxFuture, Class, Classify, Outcome};

/// What the calls of a [`SharedStore`] return.
pub type StoreResult<'a, T> = BoxFuture<'a, Result<T, SharedStoreError>>;

/// A value with its version, both of the same moment.
#[derive(Debug, Clone)]
pub struct SharedValue {
    /// The bytes; none where there is no value.
    pub bytes: Option<Vec<u8>>,
    /// The version to compare with, also of "nothing there".
    pub version: SharedVersion,
}

/// The state of one key; only the store that made it knows what it says.
#[derive(Clone)]
pub struct SharedVersion(Arc<dyn Any + Send + Sync>);

/// Values under keys that several processes share. Object safe. Every call must end within a time
/// of the store's own.
pub trait SharedStore: Send + Sync + 'static {
    /// Why this store cannot compare and swap, if it cannot.
    fn unfit(&self) -> Option<String> {
        None
    }

    /// The value under `key`, with its version.
    fn read<'a>(&'a self, key: &'a str) -> StoreResult<'a, SharedValue>;

    /// Stores a value where the key still has this version, for `ttl` or for ever, and returns the
    /// new version; `None` where the key has another one, and nothing was changed.
    fn swap<'a>(
        &'a self,
        key: &'a str,
        version: &'a SharedVersion,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, Option<SharedVersion>>;

    /// Reports when the value under `key` may have changed, beginning before this returns; `None`
    /// where the store cannot do that.
    fn changes<'a>(&'a self, key: &'a str) -> StoreResult<'a, Option<Box<dyn SharedChanges>>> {
        let _ = key;
        Box::pin(ready(Ok(None)))
    }
}

/// Changes of one key.
pub trait SharedChanges: Send {
    /// Ready with true when the value may have changed since the last time, with false when no
    /// change will be reported any more.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<bool>;
}

/// A call of a [`SharedStore`] failed.
#[derive(Debug)]
pub struct SharedStoreError {
    message: String,
    class: Class,
    outcome: Outcome,
    retry_after: Option<Duration>,
    closed: bool,
}

impl SharedVersion {
    /// A version that holds what the store needs to compare.
    pub fn new(token: impl Any + Send + Sync) -> Self {
        SharedVersion(Arc::new(token))
    }

    /// What it holds, if it is of this type.
    pub fn token<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl SharedStoreError {
    /// An error with the text and the class of `error`. Its text must hold no value and no secret.
    pub fn of(error: &(impl Classify + fmt::Display)) -> Self {
        SharedStoreError {
            message: error.to_string(),
            class: error.class(),
            outcome: error.outcome(),
            retry_after: error.retry_after(),
            closed: false,
        }
    }

    /// A permanent error, not applied.
    pub fn permanent(message: impl Into<String>) -> Self {
        SharedStoreError {
            message: message.into(),
            class: Class::Permanent,
            outcome: Outcome::NotApplied,
            retry_after: None,
            closed: false,
        }
    }

    /// Says that the store was closed and will not come back.
    #[must_use]
    pub fn closed(mut self, closed: bool) -> Self {
        self.closed = closed;
        self
    }

    /// True where the store was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

impl fmt::Display for SharedStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SharedStoreError {}

impl Classify for SharedStoreError {
    fn class(&self) -> Class {
        self.class
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Debug for SharedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedVersion")
    }
}

/// A store in the memory of one process: for tests, and for programs that are a fleet of one.
/// Values live for ever. Clones share the values.
#[derive(Clone, Default)]
pub struct MemorySharedStore {
    shared: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    values: BTreeMap<String, (u64, Vec<u8>)>,
    writes: u64,
    listeners: Vec<(String, Weak<Mutex<Listener>>)>,
}

#[derive(Default)]
struct Listener {
    changed: bool,
    waker: Option<Waker>,
}

impl MemorySharedStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores a value whatever was there before; `None` removes it.
    pub fn put(&self, key: &str, value: Option<Vec<u8>>) {
        let wakers = self.with(|memory| memory.put(key, value).1);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    fn version(&self, key: &str) -> u64 {
        self.values.get(key).map_or(0, |(version, _)| *version)
    }

    /// The new version, and whom to wake after the lock is free.
    fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> (u64, Vec<Waker>) {
        self.writes += 1;
        let version = self.writes;
        match value {
            Some(bytes) => drop(self.values.insert(key.to_owned(), (version, bytes))),
            None => drop(self.values.remove(key)),
        }
        self.listeners
            .retain(|(_, listener)| listener.strong_count() > 0);
        let mut wakers = Vec::new();
        for (_, listener) in self.listeners.iter().filter(|(watched, _)| watched == key) {
            let Some(listener) = listener.upgrade() else {
                continue;
            };
            let mut listener = listener.lock().unwrap_or_else(PoisonError::into_inner);
            listener.changed = true;
            wakers.extend(listener.waker.take());
        }
        (version, wakers)
    }
}

impl SharedStore for MemorySharedStore {
    fn read<'a>(&'a self, key: &'a str) -> StoreResult<'a, SharedValue> {
        let value = self.with(|memory| SharedValue {
            bytes: memory.values.get(key).map(|(_, bytes)| bytes.clone()),
            version: SharedVersion::new(memory.version(key)),
        });
        Box::pin(ready(Ok(value)))
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        version: &'a SharedVersion,
        value: Vec<u8>,
        _ttl: Option<Duration>,
    ) -> StoreResult<'a, Option<SharedVersion>> {
        let written = self.with(|memory| {
            let same = version.token::<u64>() == Some(&memory.version(key));
            same.then(|| memory.put(key, Some(value)))
        });
        let swapped = written.map(|(version, wakers)| {
            wakers.into_iter().for_each(Waker::wake);
            SharedVersion::new(version)
        });
        Box::pin(ready(Ok(swapped)))
    }

    fn changes<'a>(&'a self, key: &'a str) -> StoreResult<'a, Option<Box<dyn SharedChanges>>> {
        let listener = Arc::new(Mutex::new(Listener::default()));
        let weak = Arc::downgrade(&listener);
        self.with(|memory| memory.listeners.push((key.to_owned(), weak)));
        let changes: Box<dyn SharedChanges> = Box::new(MemoryChanges(listener));
        Box::pin(ready(Ok(Some(changes))))
    }
}

struct MemoryChanges(Arc<Mutex<Listener>>);

impl SharedChanges for MemoryChanges {
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut listener.changed) {
            return Poll::Ready(true);
        }
        listener.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for MemorySharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySharedStore")
            .field("keys", &self.with(|memory| memory.values.len()))
            .finish()
    }
}
