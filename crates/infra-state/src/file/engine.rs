//! The database in the file: tables, opening with every check, commits.
//!
//! | table | key | value |
//! |---|---|---|
//! | `infra_state_rows` | the key's text | a row, see `row` |
//! | `infra_state_long_values` | the key's text | the value, where the row says so |
//! | `infra_state_meta` | `format` | version of this layout, 4 bytes |
//! | `infra_state_meta` | `origin` | a random number of this file, 8 bytes |
//! | `infra_state_meta` | `probe` | nothing of use, while it is tried whether there is room |
//! | `infra_state_meta` | `progress` | last revision, last time seen, first free revision (8 bytes each) |
//!
//! Version 1 had one table, `infra_state_values`, and neither origin nor the last number.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{
    Builder, CompactionError, Database, Durability, ReadableDatabase, ReadableTable, Table,
    TableDefinition, TableError, WriteTransaction,
};
use tracing::{info, warn};

use super::disk::Disk;
use super::error::{FileError, FileFault};
use super::load::{self, Loaded};
use super::residency::Residency;
use super::row::{self, Progress, is_apart};
use super::snapshot::{Pair, Snapshot};
use super::storage::Storage;
use super::view::{Changes, Entry, Value, View};
use crate::random;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const ROWS: Rows = TableDefinition::new("infra_state_rows");
pub(super) const LONG_VALUES: Rows = TableDefinition::new("infra_state_long_values");
pub(super) const VALUES_V1: Rows = TableDefinition::new("infra_state_values");
pub(super) const META: Rows = TableDefinition::new("infra_state_meta");
pub(super) const FORMAT: &[u8] = b"format";
pub(super) const ORIGIN: &[u8] = b"origin";
pub(super) const PROGRESS: &[u8] = b"progress";
/// There while it is tried whether the disk has room; means nothing.
const PROBE: &[u8] = b"probe";
pub(super) const FORMAT_VERSION: u32 = 2;

/// Pages that the database keeps; values are in the view anyway, unless they had to leave it.
const CACHE_BYTES: usize = 64 << 20;
/// Up to this size every page's checksum is verified at each opening, above it only after a crash.
const ALWAYS_CHECKED: u64 = 1 << 30;
/// How often a long verification says how far it is.
const PATIENCE: Duration = Duration::from_secs(1);
/// Smaller files are not worth compacting.
const SMALL: u64 = 4 << 20;

pub(super) struct Engine {
    database: Database,
    storage: Storage,
    /// Of the file, so that no version of another one is taken for one of this.
    pub(super) origin: u64,
}

/// A commit that failed.
pub(super) struct CommitFailed {
    pub(super) error: FileError,
    /// False when nothing of it can be in the file.
    pub(super) maybe_applied: bool,
}

/// An opening that failed.
pub(super) struct OpenFailed {
    pub(super) error: FileError,
    /// What can be read nevertheless: repaired in memory, because the disk takes no writes.
    pub(super) readable: Option<Box<(Engine, Loaded)>>,
}

impl From<FileError> for OpenFailed {
    fn from(error: FileError) -> Self {
        OpenFailed {
            error,
            readable: None,
        }
    }
}

impl Engine {
    /// Writes an empty store into an empty file. Nothing reaches the file by itself later.
    pub(super) fn initialise(disk: &Disk) -> Result<Engine, FileError> {
        guarded(disk.path(), || {
            let storage = disk.storage()?;
            let database = Engine::database(disk, &storage, false)?;
            storage
                .release()
                .map_err(|error| FileError::io(disk.path(), &error))?;
            let origin = random::number();
            let engine = Engine {
                database,
                storage,
                origin,
            };
            let write = |transaction: &WriteTransaction| {
                let mut meta = transaction.open_table(META)?;
                meta.insert(FORMAT, &FORMAT_VERSION.to_be_bytes()[..])?;
                meta.insert(ORIGIN, &origin.to_be_bytes()[..])?;
                meta.insert(PROGRESS, &Progress::default().row()[..])?;
                transaction.open_table(ROWS)?;
                transaction.open_table(LONG_VALUES).map(|_| ())
            };
            let failed = |failed: CommitFailed| failed.error;
            engine.transact(disk.path(), true, write).map_err(failed)?;
            Ok(engine)
        })
    }

    /// Opens, checks and reads a file, and brings an older format up to date. It is not modified
    /// unless it could be read whole; panics on damaged pages come back as errors (in programs
    /// that unwind).
    pub(super) fn open(
        disk: &Disk,
        view: &View,
        max_resident: usize,
    ) -> Result<(Engine, Loaded), OpenFailed> {
        let path = disk.path();
        let len = disk.len()?;
        let (mut engine, mut loaded) = guarded(path, || {
            let storage = disk.storage()?;
            let check = len <= ALWAYS_CHECKED;
            let database = Engine::database(disk, &storage, check)?;
            if !check {
                warn!(path = %path.display(), bytes = len,
                    "state file too large to verify all of it after a clean close");
            }
            let residency = Residency::new(max_resident);
            let loaded = load::load(path, &database, view, residency)?;
            let engine = Engine {
                database,
                storage,
                origin: loaded.origin,
            };
            Ok((engine, loaded))
        })?;
        if let Err(error) = engine.storage.release() {
            return Err(OpenFailed {
                error: FileError::io(path, &error),
                readable: Some(Box::new((engine, loaded))),
            });
        }
        if loaded.format < FORMAT_VERSION {
            engine.upgrade(path, &mut loaded)?;
        }
        Ok((engine, loaded))
    }

    fn database(disk: &Disk, storage: &Storage, check: bool) -> Result<Database, FileError> {
        let path = disk.path().to_owned();
        let told = Cell::new(Instant::now());
        let opened = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            // Called for a file that was closed as well, because the check is a repair.
            .set_repair_callback(move |session| {
                if told.get().elapsed() >= PATIENCE {
                    told.set(Instant::now());
                    info!(path = %path.display(), done = session.progress(),
                        "still verifying the state file");
                }
            })
            .create_with_backend(storage.clone());
        opened.map_err(|error| FileError::database(disk.path(), &error))
    }

    /// Rewrites a file of an older version in one step.
    fn upgrade(&mut self, path: &Path, loaded: &mut Loaded) -> Result<(), FileError> {
        let origin = random::number();
        info!(path = %path.display(), from = loaded.format, to = FORMAT_VERSION,
            "state file gets a new format");
        self.transact(path, true, |transaction| load::upgrade(transaction, origin))
            .map_err(|failed| failed.error)?;
        self.origin = origin;
        loaded.origin = origin;
        loaded.format = FORMAT_VERSION;
        Ok(())
    }

    /// Makes changes, all or none. A value whose revision is not above `since` is in the file
    /// already, so that only its expiry is written.
    pub(super) fn commit(
        &self,
        path: &Path,
        changes: &Changes,
        since: u64,
        progress: Progress,
        durable: bool,
    ) -> Result<(), CommitFailed> {
        let write = |transaction: &WriteTransaction| {
            let mut tables = Tables::open(transaction)?;
            for (key, entry) in changes {
                match entry {
                    Some(entry) if entry.revision <= since => tables.set_expiry(key, entry)?,
                    Some(entry) => tables.put(key, entry)?,
                    None => tables.remove(key)?,
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(PROGRESS, &progress.row()[..])?;
            Ok(())
        };
        self.transact(path, durable, write)
    }

    /// Writes so much to nothing's use, and takes it back: both durable, with all before.
    pub(super) fn probe(
        &self,
        path: &Path,
        progress: Progress,
        bytes: usize,
    ) -> Result<(), CommitFailed> {
        self.transact(path, true, |transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(PROBE, &vec![0x5A; bytes][..])?;
            meta.insert(PROGRESS, &progress.row()[..])?;
            Ok(())
        })?;
        self.transact(path, true, |transaction| {
            transaction.open_table(META)?.remove(PROBE).map(|_| ())?;
            Ok(())
        })
    }

    fn transact(
        &self,
        path: &Path,
        durable: bool,
        write: impl FnOnce(&WriteTransaction) -> Result<(), TableError>,
    ) -> Result<(), CommitFailed> {
        let syncs = self.storage.syncs();
        let result = guarded(path, || {
            let mut transaction = (self.database.begin_write())
                .map_err(|error| FileError::transaction(path, &error))?;
            let durability = match durable {
                true => Durability::Immediate,
                false => Durability::None,
            };
            transaction
                .set_durability(durability)
                .map_err(|error| FileError::new(path, FileFault::Io).detail(error))?;
            // A crash then finds the last commit whole, never the one before it.
            transaction.set_two_phase_commit(true);
            write(&transaction).map_err(|error| FileError::table(path, &error))?;
            (transaction.commit()).map_err(|error| FileError::commit(path, &error))
        });
        // The commit counts from the write after its first sync on.
        result.map_err(|error| CommitFailed {
            error,
            maybe_applied: self.storage.sync_failed() || self.storage.syncs() != syncs,
        })
    }

    /// The last commit, to be read from.
    pub(super) fn snapshot(&self, path: &Path) -> Result<Arc<Snapshot>, FileError> {
        guarded(path, || {
            let transaction = self.database.begin_read();
            let transaction = transaction.map_err(|error| FileError::transaction(path, &error))?;
            Ok(Arc::new(Snapshot::new(path.to_owned(), transaction)))
        })
    }

    /// Compacts a file of which little is still needed, when it is opened.
    pub(super) fn tidy(&mut self, disk: &Disk, loaded: &Loaded) -> Result<(), FileError> {
        let bytes = disk.len()?;
        if bytes > (4 * loaded.live_bytes).max(SMALL) {
            // A failure shows at the next commit; what is there stays as it is.
            let result = self.compact(disk.path());
            info!(path = %disk.path().display(), bytes, ?result,
                "state file gives back what it no longer needs");
        }
        Ok(())
    }

    /// Moves what is scattered together and gives back the rest.
    ///
    /// # Errors
    /// [`FileFault::InUse`] while a snapshot lives.
    pub(super) fn compact(&mut self, path: &Path) -> Result<(), FileError> {
        let database = &mut self.database;
        guarded(path, || match database.compact() {
            Ok(_) => Ok(()),
            Err(CompactionError::Storage(error)) => Err(FileError::storage(path, &error)),
            Err(_) => Err(FileError::new(path, FileFault::InUse)),
        })
    }

    /// Verifies every page of a file that was just written, and lets it be read.
    pub(super) fn verified(disk: &Disk) -> Result<Engine, FileError> {
        guarded(disk.path(), || {
            let storage = disk.storage()?;
            let database = Engine::database(disk, &storage, true)?;
            let released = storage.release();
            released.map_err(|error| FileError::io(disk.path(), &error))?;
            Ok(Engine {
                database,
                storage,
                origin: 0,
            })
        })
    }

    /// Adds pairs of another file, as they are there.
    pub(super) fn copy(
        &self,
        path: &Path,
        pairs: &[Pair],
        progress: Progress,
    ) -> Result<(), FileError> {
        let write = |transaction: &WriteTransaction| {
            let mut tables = Tables::open(transaction)?;
            for pair in pairs {
                tables.insert(&pair.key, pair.revision, pair.expires, &pair.value)?;
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(PROGRESS, &progress.row()[..])?;
            Ok(())
        };
        self.transact(path, true, write)
            .map_err(|failed| failed.error)
    }

    /// Closes cleanly, so that the next opening is quick.
    pub(super) fn close(self, path: &Path) -> Result<(), FileError> {
        let database = self.database;
        guarded(path, || {
            (database.close()).map_err(|error| FileError::database(path, &error))
        })
    }

    /// Gives up a database that failed: nothing of it reaches the file any more.
    pub(super) fn abandon(self, path: &Path) {
        self.storage.seal();
        let database = self.database;
        let _ = guarded(path, || {
            drop(database);
            Ok(())
        });
    }
}

/// The tables of values in one transaction.
pub(super) struct Tables<'t> {
    rows: Table<'t, &'static [u8], &'static [u8]>,
    long_values: Table<'t, &'static [u8], &'static [u8]>,
    row: Vec<u8>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Tables {
            rows: transaction.open_table(ROWS)?,
            long_values: transaction.open_table(LONG_VALUES)?,
            row: Vec::new(),
        })
    }

    fn put(&mut self, key: &str, entry: &Entry) -> Result<(), TableError> {
        match &entry.value {
            Value::Resident(value) => self.insert(key, entry.revision, entry.expires, value),
            // Only what this batch has written is put, and that is in memory.
            Value::OnDisk { .. } => self.set_expiry(key, entry),
        }
    }

    pub(super) fn insert(
        &mut self,
        key: &str,
        revision: u64,
        expires: u64,
        value: &[u8],
    ) -> Result<(), TableError> {
        let apart = row::encode(revision, expires, value, &mut self.row);
        if apart {
            self.long_values.insert(key.as_bytes(), value)?;
        }
        let before = self.rows.insert(key.as_bytes(), &self.row[..])?;
        let was_apart = before.is_some_and(|before| is_apart(before.value()));
        if was_apart && !apart {
            self.long_values.remove(key.as_bytes())?;
        }
        Ok(())
    }

    fn set_expiry(&mut self, key: &str, entry: &Entry) -> Result<(), TableError> {
        let Some(before) = self.rows.get(key.as_bytes())? else {
            return Ok(());
        };
        self.row.clear();
        self.row.extend_from_slice(before.value());
        drop(before);
        row::set_expiry(&mut self.row, entry.expires);
        self.rows.insert(key.as_bytes(), &self.row[..])?;
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), TableError> {
        let before = self.rows.remove(key.as_bytes())?;
        if before.is_some_and(|before| is_apart(before.value())) {
            self.long_values.remove(key.as_bytes())?;
        }
        Ok(())
    }
}

/// Runs what may panic on damaged pages.
pub(super) fn guarded<T>(
    path: &Path,
    action: impl FnOnce() -> Result<T, FileError>,
) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        let what = "the database stumbled over a page that cannot be";
        Err(FileError::new(path, FileFault::Corrupted).detail(what))
    })
}
