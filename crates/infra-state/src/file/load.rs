//! Reading a whole file, and bringing one of an older version up to date.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction,
};
use tracing::info;

use super::batch::Expiries;
use super::engine::{
    FORMAT, FORMAT_VERSION, LONG_VALUES, META, ORIGIN, PROGRESS, ROWS, Tables, VALUES_V1,
};
use super::error::{FileError, FileFault};
use super::residency::Residency;
use super::row::{self, Place, Progress, Row};
use super::view::{Entry, NEVER, SHARDS, Shard, Value, View};

/// How often a long reading says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// All that a file holds.
pub(super) struct Loaded {
    pub(super) shards: Vec<Shard>,
    pub(super) expiries: Expiries,
    pub(super) residency: Residency,
    pub(super) progress: Progress,
    pub(super) origin: u64,
    pub(super) format: u32,
    pub(super) keys: usize,
    /// Bytes of keys and values, wherever they are.
    pub(super) live_bytes: u64,
}

struct Loading<'l> {
    path: &'l Path,
    view: &'l View,
    shards: Vec<Vec<(Arc<str>, Entry)>>,
    expiries: Vec<(u64, Arc<str>)>,
    residency: Residency,
    keys: usize,
    live_bytes: u64,
    say_at: Instant,
}

struct Header {
    format: u32,
    progress: Progress,
    origin: u64,
}

pub(super) fn load(
    path: &Path,
    database: &Database,
    view: &View,
    residency: Residency,
) -> Result<Loaded, FileError> {
    let transaction =
        (database.begin_read()).map_err(|error| FileError::transaction(path, &error))?;
    let header = header(path, &transaction)?;
    let mut loading = Loading {
        path,
        view,
        shards: (0..SHARDS).map(|_| Vec::new()).collect(),
        expiries: Vec::new(),
        residency,
        keys: 0,
        live_bytes: 0,
        say_at: Instant::now() + PROGRESS_EVERY,
    };
    match header.format {
        1 => loading.read_v1(&transaction)?,
        _ => loading.read(&transaction)?,
    }
    Ok(loading.done(header))
}

fn header(path: &Path, transaction: &ReadTransaction) -> Result<Header, FileError> {
    let storage = |error: redb::StorageError| FileError::storage(path, &error);
    let meta = transaction.open_table(META);
    let meta = meta.map_err(|error| FileError::table(path, &error))?;
    let format = meta.get(FORMAT).map_err(storage)?;
    let format = format.and_then(|row| row.value().try_into().ok().map(u32::from_be_bytes));
    let format = match format {
        Some(format @ 1..=FORMAT_VERSION) => format,
        Some(_) => return Err(FileError::new(path, FileFault::NewerFormat)),
        None => return Err(damaged(path, "no format version")),
    };
    let progress = meta.get(PROGRESS).map_err(storage)?;
    let progress = progress.and_then(|row| Progress::from_row(row.value()));
    let origin = meta.get(ORIGIN).map_err(storage)?;
    let origin = origin.and_then(|row| row.value().try_into().ok().map(u64::from_be_bytes));
    Ok(Header {
        format,
        progress: progress.ok_or_else(|| damaged(path, "no last revision"))?,
        origin: match format {
            1 => 0,
            _ => origin.ok_or_else(|| damaged(path, "no origin"))?,
        },
    })
}

fn damaged(path: &Path, what: &str) -> FileError {
    FileError::new(path, FileFault::Corrupted).detail(what)
}

impl Loading<'_> {
    fn read(&mut self, transaction: &ReadTransaction) -> Result<(), FileError> {
        let path = self.path;
        let table = |error: TableError| FileError::table(path, &error);
        let storage = |error: redb::StorageError| FileError::storage(path, &error);
        let rows = transaction.open_table(ROWS).map_err(table)?;
        let long_values = transaction.open_table(LONG_VALUES).map_err(table)?;
        for found in rows.iter().map_err(storage)? {
            let (key, bytes) = found.map_err(storage)?;
            let row = Row::decode(bytes.value()).ok_or_else(|| damaged(path, "a row cut short"))?;
            let value = match row.place {
                Place::Here(value) => self.verified(row, value)?,
                Place::Apart(len) if self.residency.has_room(len) => {
                    let value = long_values.get(key.value()).map_err(storage)?;
                    let value = value.ok_or_else(|| damaged(path, "a row without its value"))?;
                    self.verified(row, value.value())?
                }
                Place::Apart(len) => Value::OnDisk { len },
            };
            self.add(key.value(), row.revision, row.expires, value)?;
        }
        Ok(())
    }

    fn read_v1(&mut self, transaction: &ReadTransaction) -> Result<(), FileError> {
        let path = self.path;
        let storage = |error: redb::StorageError| FileError::storage(path, &error);
        let rows = transaction.open_table(VALUES_V1);
        let rows = rows.map_err(|error| FileError::table(path, &error))?;
        for found in rows.iter().map_err(storage)? {
            let (key, row) = found.map_err(storage)?;
            let (revision, expires, value) =
                row::decode_v1(row.value()).ok_or_else(|| damaged(path, "a value cut short"))?;
            let value = self.kept(value);
            self.add(key.value(), revision, expires, value)?;
        }
        Ok(())
    }

    fn verified(&self, row: Row<'_>, value: &[u8]) -> Result<Value, FileError> {
        match row.vouches_for(value) {
            true => Ok(self.kept(Bytes::copy_from_slice(value))),
            false => Err(damaged(self.path, "a value with another checksum")),
        }
    }

    fn kept(&self, value: Bytes) -> Value {
        match self.residency.has_room(value.len()) {
            true => Value::Resident(value),
            false => Value::OnDisk { len: value.len() },
        }
    }

    fn add(
        &mut self,
        key: &[u8],
        revision: u64,
        expires: u64,
        value: Value,
    ) -> Result<(), FileError> {
        let key = std::str::from_utf8(key);
        let key = key.map_err(|_| damaged(self.path, "a key that is no text"))?;
        let shard = self.view.shard_of(key);
        let key: Arc<str> = key.into();
        self.keys += 1;
        self.live_bytes += (key.len() + value.len()) as u64;
        let entry = Entry {
            value,
            revision,
            expires,
        };
        self.residency.changed(&key, None, Some(&entry));
        if self.residency.is_full() {
            return Err(FileError::new(self.path, FileFault::TooManyBytes));
        }
        if expires != NEVER {
            self.expiries.push((expires, key.clone()));
        }
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.push((key, entry));
        }
        self.say();
        Ok(())
    }

    fn say(&mut self) {
        // The clock is read once in a thousand keys.
        if self.keys.is_multiple_of(1_000) && Instant::now() >= self.say_at {
            self.say_at = Instant::now() + PROGRESS_EVERY;
            info!(path = %self.path.display(), keys = self.keys, bytes = self.live_bytes,
                "state file being read");
        }
    }

    fn done(self, header: Header) -> Loaded {
        Loaded {
            shards: self.shards.into_iter().map(Shard::new).collect(),
            expiries: self.expiries.into_iter().collect(),
            residency: self.residency,
            progress: header.progress,
            origin: header.origin,
            format: header.format,
            keys: self.keys,
            live_bytes: self.live_bytes,
        }
    }
}

/// Rewrites version 1 as the present one.
pub(super) fn upgrade(transaction: &WriteTransaction, origin: u64) -> Result<(), TableError> {
    let mut tables = Tables::open(transaction)?;
    let old = transaction.open_table(VALUES_V1)?;
    for found in old.iter()? {
        let (key, row) = found?;
        // Reading the file has decoded all of them before.
        if let (Ok(key), Some((revision, expires, value))) = (
            std::str::from_utf8(key.value()),
            row::decode_v1(row.value()),
        ) {
            tables.insert(key, revision, expires, &value)?;
        }
    }
    drop(old);
    drop(tables);
    transaction.delete_table(VALUES_V1)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT, &FORMAT_VERSION.to_be_bytes()[..])?;
    meta.insert(ORIGIN, &origin.to_be_bytes()[..])?;
    Ok(())
}
