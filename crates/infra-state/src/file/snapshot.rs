//! The file as it was after one commit, for those who read from it.

use std::path::PathBuf;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, StorageError};

use super::engine::{LONG_VALUES, META, PROGRESS, ROWS, guarded};
use super::error::{FileError, FileFault};
use super::row::{Place, Progress, Row};

/// A commit that stays readable for as long as this lives, whatever is written afterwards.
///
/// It ends early when the database is given up or closed: reads then fail as
/// [`FileFault::Io`], never with anything else.
pub(super) struct Snapshot {
    path: PathBuf,
    transaction: ReadTransaction,
}

/// A key of a snapshot, and all that belongs to it.
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) expires: u64,
    pub(super) value: Bytes,
}

impl Snapshot {
    pub(super) fn new(path: PathBuf, transaction: ReadTransaction) -> Self {
        Snapshot { path, transaction }
    }

    /// The value that `key` has at this revision, which it is known to have here.
    pub(super) fn value(&self, key: &str, revision: u64) -> Result<Bytes, FileError> {
        guarded(&self.path, || {
            let table = |error| FileError::table(&self.path, &error);
            let rows = self.transaction.open_table(ROWS).map_err(table)?;
            let found = rows.get(key.as_bytes()).map_err(self.storage())?;
            let found = found.ok_or_else(|| self.damaged("a key that is gone"))?;
            let row = Row::decode(found.value()).ok_or_else(|| self.damaged("a row cut short"))?;
            if row.revision != revision {
                return Err(self.damaged("a value of another revision"));
            }
            self.value_of(key, row)
        })
    }

    /// Last revision and time.
    pub(super) fn progress(&self) -> Result<Progress, FileError> {
        guarded(&self.path, || {
            let table = |error| FileError::table(&self.path, &error);
            let meta = self.transaction.open_table(META).map_err(table)?;
            let row = meta.get(PROGRESS).map_err(self.storage())?;
            let progress = row.and_then(|row| Progress::from_row(row.value()));
            progress.ok_or_else(|| self.damaged("no last revision"))
        })
    }

    /// Hands out every pair, in the order of the keys.
    pub(super) fn pairs(
        &self,
        mut each: impl FnMut(Pair) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        guarded(&self.path, || {
            let table = |error| FileError::table(&self.path, &error);
            let rows = self.transaction.open_table(ROWS).map_err(table)?;
            for found in rows.iter().map_err(self.storage())? {
                let (key, row) = found.map_err(self.storage())?;
                let key = std::str::from_utf8(key.value())
                    .map_err(|_| self.damaged("a key that is no text"))?;
                let row =
                    Row::decode(row.value()).ok_or_else(|| self.damaged("a row cut short"))?;
                each(Pair {
                    key: key.to_owned(),
                    revision: row.revision,
                    expires: row.expires,
                    value: self.value_of(key, row)?,
                })?;
            }
            Ok(())
        })
    }

    fn value_of(&self, key: &str, row: Row<'_>) -> Result<Bytes, FileError> {
        let value = match row.place {
            Place::Here(value) => Bytes::copy_from_slice(value),
            Place::Apart(_) => {
                let table = |error| FileError::table(&self.path, &error);
                let values = self.transaction.open_table(LONG_VALUES).map_err(table)?;
                let found = values.get(key.as_bytes()).map_err(self.storage())?;
                let found = found.ok_or_else(|| self.damaged("a row without its value"))?;
                Bytes::copy_from_slice(found.value())
            }
        };
        match row.vouches_for(&value) {
            true => Ok(value),
            false => Err(self.damaged("a value with another checksum")),
        }
    }

    fn storage(&self) -> impl Fn(StorageError) -> FileError + '_ {
        |error| FileError::storage(&self.path, &error)
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::new(&self.path, FileFault::Corrupted).detail(what)
    }
}
