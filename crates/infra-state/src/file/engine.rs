//! The database in the file: tables, rows, opening with every check, commits.
//!
//! | table | key | value |
//! |---|---|---|
//! | `infra_state_values` | the key's text | revision, expiry (8 bytes each, big endian), the value |
//! | `infra_state_meta` | `format` | version of this layout, 4 bytes |
//! | `infra_state_meta` | `progress` | last revision, last time seen (8 bytes each) |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};
use tracing::{info, warn};

use super::batch::Expiries;
use super::disk::Disk;
use super::error::{FileError, FileFault};
use super::storage::Storage;
use super::view::{Changes, Entry, NEVER, SHARDS, Shard, View, weight};

const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("infra_state_values");
const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("infra_state_meta");
const FORMAT: &[u8] = b"format";
const PROGRESS: &[u8] = b"progress";
const FORMAT_VERSION: u32 = 1;

/// Pages that the database keeps; the values are in the view anyway.
const CACHE_BYTES: usize = 64 << 20;
/// Up to this size every page's checksum is verified at each opening, above it only after a crash.
const ALWAYS_CHECKED: u64 = 1 << 30;
/// Smaller files are not worth compacting.
const SMALL: u64 = 4 << 20;
/// Revision and expiry before a value.
const ROW_HEADER: usize = 16;

pub(super) struct Engine {
    database: Database,
    storage: Storage,
}

/// All that a file holds.
pub(super) struct Loaded {
    pub(super) shards: Vec<Shard>,
    pub(super) expiries: Expiries,
    pub(super) resident: usize,
    pub(super) progress: Progress,
}

/// What is written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) time: u64,
}

/// A commit that failed.
pub(super) struct CommitFailed {
    pub(super) error: FileError,
    /// False when nothing of it can be in the file.
    pub(super) maybe_applied: bool,
}

impl Engine {
    /// Writes an empty store into an empty file.
    pub(super) fn initialise(disk: &Disk) -> Result<(), FileError> {
        guarded(disk.path(), || {
            let storage = disk.storage()?;
            let engine = Engine::database(disk, &storage, false)?;
            storage
                .release()
                .map_err(|error| FileError::io(disk.path(), &error))?;
            let failed = |failed: CommitFailed| failed.error;
            let write = |transaction: &WriteTransaction| {
                let mut meta = transaction.open_table(META)?;
                meta.insert(FORMAT, &FORMAT_VERSION.to_be_bytes()[..])?;
                meta.insert(PROGRESS, &Progress::default().row()[..])?;
                transaction.open_table(VALUES).map(|_| ())
            };
            let engine = Engine {
                database: engine,
                storage,
            };
            engine.transact(disk.path(), true, write).map_err(failed)?;
            engine.close(disk.path())
        })
    }

    /// Opens, checks and reads a file. It is not modified unless all of that succeeds; panics on
    /// damaged pages come back as errors (in programs that unwind).
    pub(super) fn open(
        disk: &Disk,
        view: &View,
        max_resident: usize,
    ) -> Result<(Engine, Loaded), FileError> {
        guarded(disk.path(), || {
            let began = Instant::now();
            let len = disk.len()?;
            let storage = disk.storage()?;
            let check = len <= ALWAYS_CHECKED;
            let mut database = Engine::database(disk, &storage, check)?;
            if !check {
                warn!(path = %disk.path().display(), bytes = len,
                    "state file too large to verify all of it after a clean close");
            }
            let loaded = load(disk.path(), &database, view, max_resident)?;
            storage
                .release()
                .map_err(|error| FileError::io(disk.path(), &error))?;
            let keys: usize = loaded.shards.iter().map(Shard::len).sum();
            if len > (4 * loaded.resident as u64).max(SMALL) {
                // A failure shows at the next commit; what is there stays as it is.
                let smaller = database.compact();
                info!(path = %disk.path().display(), bytes = len, result = ?smaller,
                    "state file gives back what it no longer needs");
            }
            info!(path = %disk.path().display(), keys, bytes = len, took = ?began.elapsed(),
                "state file open");
            Ok((Engine { database, storage }, loaded))
        })
    }

    fn database(disk: &Disk, storage: &Storage, check: bool) -> Result<Database, FileError> {
        let path = disk.path().to_owned();
        let opened = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            .set_repair_callback(move |session| {
                info!(path = %path.display(), done = session.progress(),
                    "state file was not closed, verifying it");
            })
            .create_with_backend(storage.clone());
        opened.map_err(|error| FileError::database(disk.path(), &error))
    }

    /// Makes changes, all or none.
    pub(super) fn commit(
        &self,
        path: &Path,
        changes: &Changes,
        progress: Progress,
        durable: bool,
    ) -> Result<(), CommitFailed> {
        let write = |transaction: &WriteTransaction| {
            let mut values = transaction.open_table(VALUES)?;
            let mut row = Vec::new();
            for (key, entry) in changes {
                match entry {
                    Some(entry) => {
                        encode(entry, &mut row);
                        values.insert(key.as_bytes(), &row[..])?;
                    }
                    None => {
                        values.remove(key.as_bytes())?;
                    }
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert(PROGRESS, &progress.row()[..])?;
            Ok(())
        };
        self.transact(path, durable, write)
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

    /// Closes cleanly, so that the next opening is quick.
    pub(super) fn close(self, path: &Path) -> Result<(), FileError> {
        let database = self.database;
        guarded(path, || {
            (database.close()).map_err(|error| FileError::database(path, &error))
        })
    }

    /// Gives up a database that failed.
    pub(super) fn abandon(self, path: &Path) {
        let database = self.database;
        let _ = guarded(path, || {
            drop(database);
            Ok(())
        });
    }
}

impl Progress {
    fn row(self) -> [u8; 16] {
        let mut row = [0; 16];
        let (revision, time) = row.split_at_mut(8);
        revision.copy_from_slice(&self.revision.to_be_bytes());
        time.copy_from_slice(&self.time.to_be_bytes());
        row
    }

    fn from_row(row: &[u8]) -> Option<Progress> {
        let (revision, rest) = row.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        rest.is_empty().then_some(Progress {
            revision: u64::from_be_bytes(*revision),
            time: u64::from_be_bytes(*time),
        })
    }
}

/// Runs what may panic on damaged pages.
fn guarded<T>(path: &Path, action: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
        let what = "the database stumbled over a page that cannot be";
        Err(FileError::new(path, FileFault::Corrupted).detail(what))
    })
}

fn load(
    path: &Path,
    database: &Database,
    view: &View,
    max_resident: usize,
) -> Result<Loaded, FileError> {
    let storage = |error: redb::StorageError| FileError::storage(path, &error);
    let table = |error: TableError| FileError::table(path, &error);
    let damaged = |what: &str| FileError::new(path, FileFault::Corrupted).detail(what);
    let transaction =
        (database.begin_read()).map_err(|error| FileError::transaction(path, &error))?;

    let meta = transaction.open_table(META).map_err(table)?;
    let format = meta.get(FORMAT).map_err(storage)?;
    match format.as_ref().map(|row| row.value()) {
        Some(row) if row == FORMAT_VERSION.to_be_bytes() => {}
        Some(row) if row.len() == 4 => return Err(FileError::new(path, FileFault::NewerFormat)),
        _ => return Err(damaged("no format version")),
    }
    let progress = meta.get(PROGRESS).map_err(storage)?;
    let progress = progress
        .and_then(|row| Progress::from_row(row.value()))
        .ok_or_else(|| damaged("no last revision"))?;

    let mut loaded = Loaded {
        shards: vec![Shard::default(); SHARDS],
        expiries: Expiries::new(),
        resident: 0,
        progress,
    };
    let values = transaction.open_table(VALUES).map_err(table)?;
    for row in values.iter().map_err(storage)? {
        let (key, row) = row.map_err(storage)?;
        let key = std::str::from_utf8(key.value()).map_err(|_| damaged("a key that is no text"))?;
        let entry = decode(row.value()).ok_or_else(|| damaged("a value cut short"))?;
        loaded.add(view.shard_of(key), key, entry);
        if loaded.resident > max_resident {
            return Err(FileError::new(path, FileFault::TooManyBytes));
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn add(&mut self, shard: usize, key: &str, entry: Entry) {
        let key: Arc<str> = key.into();
        self.resident += weight(&key, &entry.value);
        if entry.expires != NEVER {
            self.expiries.insert((entry.expires, key.clone()));
        }
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.insert(key, entry);
        }
    }
}

fn encode(entry: &Entry, row: &mut Vec<u8>) {
    row.clear();
    row.reserve(ROW_HEADER + entry.value.len());
    row.extend_from_slice(&entry.revision.to_be_bytes());
    row.extend_from_slice(&entry.expires.to_be_bytes());
    row.extend_from_slice(&entry.value);
}

fn decode(row: &[u8]) -> Option<Entry> {
    let (revision, rest) = row.split_first_chunk::<8>()?;
    let (expires, value) = rest.split_first_chunk::<8>()?;
    Some(Entry {
        value: Bytes::copy_from_slice(value),
        revision: u64::from_be_bytes(*revision),
        expires: u64::from_be_bytes(*expires),
    })
}
