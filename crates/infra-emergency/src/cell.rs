//! The level of one gate and what is inside it. Compiled a second time by `tests/loom_gate.rs`,
//! with loom's primitives, therefore it knows nothing but them.

use super::sync::{AtomicU8, Mutex, MutexGuard, Ordering, PoisonError};

/// One level and the entries admitted under it.
///
/// Whoever was admitted is listed by [`Cell::inside`] after [`Cell::set_level`] returned, or is
/// denied: an admission checks the level while it holds the lock that a listing takes, so a
/// listing that misses an entry happened before that check, which then sees the new level.
pub(crate) struct Cell<T> {
    level: AtomicU8,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Cell<T> {
    pub(crate) fn new(level: u8) -> Self {
        Cell {
            level: AtomicU8::new(level),
            entries: Mutex::new(Entries {
                slots: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    /// The level: one atomic load.
    #[inline]
    pub(crate) fn level(&self) -> u8 {
        self.level.load(Ordering::Acquire)
    }

    pub(crate) fn set_level(&self, level: u8) {
        self.level.store(level, Ordering::SeqCst);
    }

    /// Adds an entry if the level is admitted; else says which level it was.
    pub(crate) fn enter(&self, entry: T, admits: impl Fn(u8) -> bool) -> Result<usize, u8> {
        let level = self.level();
        if !admits(level) {
            return Err(level);
        }
        let mut entries = self.lock();
        let level = self.level();
        if !admits(level) {
            return Err(level);
        }
        Ok(entries.insert(entry))
    }

    /// Removes an entry.
    pub(crate) fn leave(&self, key: usize) {
        let entry = {
            let mut entries = self.lock();
            entries.remove(key)
        };
        drop(entry);
    }

    /// What `pick` makes of the entries inside.
    pub(crate) fn inside<R>(&self, pick: impl FnMut(&T) -> Option<R>) -> Vec<R> {
        self.lock()
            .slots
            .iter()
            .flatten()
            .filter_map(pick)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entries<T> {
    fn insert(&mut self, entry: T) -> usize {
        if let Some(key) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(key)
        {
            *slot = Some(entry);
            return key;
        }
        self.slots.push(Some(entry));
        self.slots.len() - 1
    }

    fn remove(&mut self, key: usize) -> Option<T> {
        let entry = self.slots.get_mut(key)?.take();
        if entry.is_some() {
            self.free.push(key);
        }
        entry
    }
}
