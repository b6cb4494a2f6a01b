//! The bytes under the database: held back while it opens, counted while it commits.
//!
//! Opening repairs and checks, and both write. Nothing of it reaches the file before all of it
//! has succeeded, so a file that turns out to be damaged is left as it was found.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use redb::backends::FileBackend;

const BLOCK: u64 = 4096;

/// Shared by the database and those who watch over it.
#[derive(Clone)]
pub(super) struct Storage(Arc<Inner>);

struct Inner {
    file: FileBackend,
    held: Mutex<Option<Held>>,
    holding: AtomicBool,
    syncs: AtomicU64,
    sync_failed: AtomicBool,
    sealed: AtomicBool,
    #[cfg(test)]
    faults: Arc<super::faults::Faults>,
}

/// What is to be written later: block by block to be read, change by change to be done.
struct Held {
    len: u64,
    /// Below this the file itself is still valid where no block is.
    intact: u64,
    blocks: HashMap<u64, Box<[u8]>>,
    changes: Vec<Change>,
}

enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
    Sync,
}

impl Storage {
    pub(super) fn new(
        file: File,
        #[cfg(test)] faults: Arc<super::faults::Faults>,
    ) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Storage(Arc::new(Inner {
            file: FileBackend::new(file).map_err(io::Error::other)?,
            held: Mutex::new(Some(Held {
                len,
                intact: len,
                blocks: HashMap::new(),
                changes: Vec::new(),
            })),
            holding: AtomicBool::new(true),
            syncs: AtomicU64::new(0),
            sync_failed: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
            #[cfg(test)]
            faults,
        })))
    }

    /// Writes what was held back, in its order and with its syncs; from now on everything goes
    /// straight to the file. Where that fails, the rest and all that follows never reaches it: the
    /// file is then as after a crash in the middle.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut held = self.held();
        let changes = held.as_mut().map(|held| std::mem::take(&mut held.changes));
        for change in changes.into_iter().flatten() {
            match change {
                Change::Write { offset, data } => self.0.write(offset, &data)?,
                Change::SetLen(len) => self.0.set_len(len)?,
                Change::Sync => self.0.sync()?,
            }
        }
        *held = None;
        self.0.holding.store(false, Ordering::Release);
        Ok(())
    }

    /// Syncs that succeeded so far.
    pub(super) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Acquire)
    }

    /// Whether a sync ever failed: what was written before it may or may not be there.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.sync_failed.load(Ordering::Acquire)
    }

    /// Refuses all writes from now on: the file may belong to another opening of it.
    pub(super) fn seal(&self) {
        self.0.sealed.store(true, Ordering::Release);
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it in memory while holding back; true when done.
    fn hold(
        &self,
        action: impl FnOnce(&mut Held, &FileBackend) -> io::Result<()>,
    ) -> io::Result<bool> {
        if !self.0.holding.load(Ordering::Acquire) {
            return Ok(false);
        }
        match self.held().as_mut() {
            Some(held) => action(held, &self.0.file).map(|()| true),
            None => Ok(false),
        }
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        match self.held().as_ref() {
            Some(held) => Ok(held.len),
            None => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.hold(|held, file| held.read(file, offset, out))? {
            return Ok(());
        }
        self.0.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.hold(|held, _| held.set_len(len))? {
            return Ok(());
        }
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let hold = |held: &mut Held, _: &FileBackend| {
            held.changes.push(Change::Sync);
            Ok(())
        };
        if self.hold(hold)? {
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.hold(|held, file| held.write(file, offset, data))? {
            return Ok(());
        }
        self.0.write(offset, data)
    }
}

/// Straight to the file.
impl Inner {
    fn open_for_writes(&self) -> io::Result<()> {
        match self.sealed.load(Ordering::Acquire) {
            true => Err(io::Error::other("the database was given up")),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.open_for_writes()?;
        #[cfg(test)]
        self.faults.on_write()?;
        #[cfg(test)]
        self.faults
            .record(|| super::faults::Event::Write(offset, data.to_vec()));
        self.file.write(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.open_for_writes()?;
        #[cfg(test)]
        self.faults.on_write()?;
        #[cfg(test)]
        self.faults.record(|| super::faults::Event::SetLen(len));
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.open_for_writes()?;
        #[cfg(test)]
        let synced = self.faults.on_sync().and_then(|()| self.file.sync_data());
        #[cfg(not(test))]
        let synced = self.file.sync_data();
        #[cfg(test)]
        if synced.is_ok() {
            self.faults.record(|| super::faults::Event::Sync);
        }
        match &synced {
            Ok(()) => {
                self.syncs.fetch_add(1, Ordering::AcqRel);
            }
            Err(_) => self.sync_failed.store(true, Ordering::Release),
        }
        synced
    }
}

impl Held {
    fn read(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.blocks.is_empty() && end <= self.intact {
            return file.read(offset, out);
        }
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            let within = (at % BLOCK) as usize;
            let count = rest.len().min(BLOCK as usize - within);
            let (part, after) = rest.split_at_mut(count);
            match self.blocks.get(&(at / BLOCK)) {
                Some(block) => {
                    let from = block.get(within..within + count).unwrap_or_default();
                    part.copy_from_slice(from);
                }
                None => self.read_intact(file, at, part)?,
            }
            at += count as u64;
            rest = after;
        }
        Ok(())
    }

    fn read_intact(&self, file: &FileBackend, at: u64, part: &mut [u8]) -> io::Result<()> {
        let left = self.intact.saturating_sub(at);
        let count = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (valid, beyond) = part.split_at_mut(count);
        beyond.fill(0);
        if valid.is_empty() {
            return Ok(());
        }
        file.read(at, valid)
    }

    fn write(&mut self, file: &FileBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = (at % BLOCK) as usize;
            let count = rest.len().min(BLOCK as usize - within);
            let (part, after) = rest.split_at(count);
            let number = at / BLOCK;
            if !self.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                self.read_intact(file, number * BLOCK, &mut block)?;
                self.blocks.insert(number, block);
            }
            if let Some(block) = self.blocks.get_mut(&number)
                && let Some(place) = block.get_mut(within..within + count)
            {
                place.copy_from_slice(part);
            }
            at += count as u64;
            rest = after;
        }
        self.len = self.len.max(at);
        let data = data.to_vec();
        self.changes.push(Change::Write { offset, data });
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.intact = self.intact.min(len);
        self.blocks.retain(|number, _| number * BLOCK < len);
        if let Some(last) = self.blocks.get_mut(&(len / BLOCK))
            && let Some(cut) = last.get_mut((len % BLOCK) as usize..)
        {
            cut.fill(0);
        }
        self.len = len;
        self.changes.push(Change::SetLen(len));
        Ok(())
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}
