//! Disk faults on demand.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// What the disk under a store does wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    full: AtomicBool,
    refused: AtomicU32,
    /// Syncs that still succeed, and those after them that fail.
    failing_syncs: Mutex<(u32, u32)>,
    folder_syncs: AtomicU32,
    looks: AtomicU32,
    syncs: AtomicU32,
    hanging: Mutex<bool>,
    hung: AtomicBool,
    reads_hang: Mutex<bool>,
    reads_hung: AtomicU32,
    reads_fail: AtomicBool,
    released: Condvar,
    reads_released: Condvar,
    journal: Mutex<Option<Vec<Event>>>,
}

/// What happened to the file.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Faults {
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// How many writes were refused because the disk was full.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Lets `good` syncs succeed and the next `bad` ones fail.
    pub(crate) fn fail_syncs(&self, good: u32, bad: u32) {
        *self.failing_syncs.lock().unwrap() = (good, bad);
    }

    /// Makes every sync wait until this is called with false.
    pub(crate) fn hang(&self, hanging: bool) {
        *self.hanging.lock().unwrap() = hanging;
        self.released.notify_all();
    }

    /// Whether a sync waits right now.
    pub(crate) fn is_hung(&self) -> bool {
        self.hung.load(Ordering::SeqCst)
    }

    /// Makes every read of a value that is not in memory wait until this is called with false.
    pub(crate) fn hang_reads(&self, hanging: bool) {
        *self.reads_hang.lock().unwrap() = hanging;
        self.reads_released.notify_all();
    }

    /// How many reads wait right now.
    pub(crate) fn reads_hung(&self) -> u32 {
        self.reads_hung.load(Ordering::SeqCst)
    }

    pub(crate) fn fail_reads(&self, failing: bool) {
        self.reads_fail.store(failing, Ordering::SeqCst);
    }

    /// How often it was looked whether the file is still under its name.
    pub(crate) fn looks(&self) -> u32 {
        self.looks.load(Ordering::SeqCst)
    }

    pub(super) fn looked(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes from now on what happens to the file.
    pub(crate) fn keep_journal(&self) {
        *self.journal.lock().unwrap() = Some(Vec::new());
    }

    /// What has happened so far.
    pub(crate) fn journal(&self) -> Vec<Event> {
        self.journal.lock().unwrap().clone().unwrap_or_default()
    }

    /// How much has happened so far.
    pub(crate) fn journal_len(&self) -> usize {
        self.journal.lock().unwrap().as_ref().map_or(0, Vec::len)
    }

    pub(super) fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(journal) = self.journal.lock().unwrap().as_mut() {
            journal.push(event());
        }
    }

    pub(crate) fn syncs(&self) -> u32 {
        self.syncs.load(Ordering::SeqCst)
    }

    pub(crate) fn folder_syncs(&self) -> u32 {
        self.folder_syncs.load(Ordering::SeqCst)
    }

    pub(super) fn folder_synced(&self) {
        self.folder_syncs.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn on_write(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                Err(io::ErrorKind::StorageFull.into())
            }
            false => Ok(()),
        }
    }

    pub(super) fn on_read(&self) -> io::Result<()> {
        if self.reads_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected failure of a read"));
        }
        let hanging = self.reads_hang.lock().unwrap();
        self.reads_hung.fetch_add(1, Ordering::SeqCst);
        drop(self.reads_released.wait_while(hanging, |hanging| *hanging));
        self.reads_hung.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        let hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        self.hung.store(*hanging, Ordering::SeqCst);
        drop(self.released.wait_while(hanging, |hanging| *hanging));
        self.hung.store(false, Ordering::SeqCst);
        let mut failing = self.failing_syncs.lock().unwrap();
        match &mut *failing {
            (0, 0) => {}
            (0, bad) => {
                *bad -= 1;
                return Err(io::Error::other("injected failure of fdatasync"));
            }
            (good, _) => *good -= 1,
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
