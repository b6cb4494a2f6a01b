//! A store that a test can take away, and that counts what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use infra_core::{Class, Classify};
use infra_resilience::shared::{
    MemorySharedStore, SharedChanges, SharedStore, SharedStoreError, SharedValue, SharedVersion,
    StoreResult,
};

/// The memory store behind a switch. Clones are the stores of several processes.
#[derive(Clone)]
pub(crate) struct Switched(Arc<Switch>);

pub(crate) struct Switch {
    inner: MemorySharedStore,
    pub(crate) away: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) closed: AtomicBool,
    pub(crate) unfit: AtomicBool,
    watched: bool,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
}

#[derive(Debug)]
struct Away;

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("taken away by the test")
    }
}

impl Classify for Away {
    fn class(&self) -> Class {
        Class::Transient
    }
}

impl Switched {
    pub(crate) fn new() -> Self {
        Self::watched(true)
    }

    pub(crate) fn watched(watched: bool) -> Self {
        Switched(Arc::new(Switch {
            inner: MemorySharedStore::new(),
            away: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            unfit: AtomicBool::new(false),
            watched,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }))
    }

    pub(crate) fn put(&self, key: &str, value: Option<&str>) {
        self.0
            .inner
            .put(key, value.map(|text| text.as_bytes().to_vec()));
    }

    fn answer<'a, T: Send + 'a>(&self, inner: StoreResult<'a, T>) -> StoreResult<'a, T> {
        if self.hangs.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        let closed = self.closed.load(Ordering::SeqCst);
        if closed || self.away.load(Ordering::SeqCst) {
            let error = SharedStoreError::of(&Away).closed(closed);
            return Box::pin(std::future::ready(Err(error)));
        }
        inner
    }
}

impl std::ops::Deref for Switched {
    type Target = Switch;
    fn deref(&self) -> &Switch {
        &self.0
    }
}

impl SharedStore for Switched {
    fn unfit(&self) -> Option<String> {
        let unfit = self.unfit.load(Ordering::SeqCst);
        unfit.then(|| "cannot compare and swap".into())
    }
    fn read<'a>(&'a self, key: &'a str) -> StoreResult<'a, SharedValue> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.answer(self.inner.read(key))
    }
    fn swap<'a>(
        &'a self,
        key: &'a str,
        version: &'a SharedVersion,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, Option<SharedVersion>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) || self.away.load(Ordering::SeqCst) {
            // Not even begun: the inner call acts when it is made.
            return self.answer(Box::pin(std::future::pending()));
        }
        self.answer(self.inner.swap(key, version, value, ttl))
    }
    fn changes<'a>(&'a self, key: &'a str) -> StoreResult<'a, Option<Box<dyn SharedChanges>>> {
        if !self.watched {
            return Box::pin(std::future::ready(Ok(None)));
        }
        self.answer(self.inner.changes(key))
    }
}
