//! Disk faults on demand.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What the disk under a store does wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    full: AtomicBool,
    failing_syncs: AtomicU32,
    folder_syncs: AtomicU32,
    syncs: AtomicU32,
}

impl Faults {
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    pub(crate) fn fail_syncs(&self, count: u32) {
        self.failing_syncs.store(count, Ordering::SeqCst);
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
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        let one_less = |left: u32| left.checked_sub(1);
        let failing =
            (self.failing_syncs).fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if failing.is_ok() {
            return Err(io::Error::other("injected failure of fdatasync"));
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
