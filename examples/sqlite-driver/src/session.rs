//! What happens within one transaction.
//!
//! | table | |
//! |---|---|
//! | `entries` | key, value, revision, expiry in milliseconds since 1970 or none |
//! | `store` | one row: a random number that names this database, and the last revision |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use infra_core::Outcome;
use infra_state::{
    Action, DriverError, ErrorKind, Expect, Expiry, ScanCursor, ScanPage, Step, TtlMillis,
    TtlState, VersionToken,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::error::sqlite;

type Result<T> = std::result::Result<T, DriverError>;

/// Keys of one page of a scan.
const PAGE: usize = 500;

const SCHEMA: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS entries (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, expires INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS expiries ON entries (expires) WHERE expires IS NOT NULL;
    CREATE TABLE IF NOT EXISTS store (origin INTEGER NOT NULL, revision INTEGER NOT NULL);
    INSERT INTO store SELECT random(), 0 WHERE NOT EXISTS (SELECT 1 FROM store);
";

/// A connection that is ready to be used.
pub(crate) fn prepare(connection: Connection) -> Result<Connection> {
    // Nobody else will give it up while this process waits.
    connection.busy_timeout(Duration::ZERO).map_err(sqlite)?;
    connection.execute_batch(SCHEMA).map_err(sqlite)?;
    Ok(connection)
}

/// A value that has not expired.
pub(crate) struct Row {
    pub(crate) value: Bytes,
    revision: i64,
    expires: Option<i64>,
}

/// One transaction at one moment.
pub(crate) struct Session<'c> {
    transaction: Transaction<'c>,
    now: i64,
    changed: Vec<String>,
}

/// A step that can be handed to another thread.
pub(crate) struct OwnedStep {
    key: String,
    expect: OwnedExpect,
    action: OwnedAction,
}

enum OwnedExpect {
    Anything,
    Present,
    Version(VersionToken),
}

enum OwnedAction {
    Check,
    Put(Bytes, Expiry),
    Delete,
}

impl From<&Step<'_>> for OwnedStep {
    fn from(step: &Step<'_>) -> Self {
        OwnedStep {
            key: step.key.to_owned(),
            expect: match step.expect {
                Expect::Anything => OwnedExpect::Anything,
                Expect::Present => OwnedExpect::Present,
                Expect::Version(version) => OwnedExpect::Version(version.clone()),
            },
            action: match step.action {
                Action::Check => OwnedAction::Check,
                Action::Put { value, expiry } => OwnedAction::Put(value.clone(), expiry),
                Action::Delete => OwnedAction::Delete,
            },
        }
    }
}

impl OwnedExpect {
    fn holds(&self, found: &VersionToken) -> bool {
        match self {
            OwnedExpect::Anything => Expect::Anything.holds(found),
            OwnedExpect::Present => Expect::Present.holds(found),
            OwnedExpect::Version(version) => Expect::Version(version).holds(found),
        }
    }
}

impl<'c> Session<'c> {
    pub(crate) fn new(transaction: Transaction<'c>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.unwrap_or_default().as_millis();
        Session {
            transaction,
            now: i64::try_from(now).unwrap_or(i64::MAX),
            changed: Vec::new(),
        }
    }

    /// Makes it durable; returns the keys whose values are others now.
    pub(crate) fn commit(self) -> Result<Vec<String>> {
        // Whether it was done is not certain when this fails.
        let committed = self.transaction.commit();
        committed.map_err(|error| sqlite(error).with_outcome(Outcome::Unknown))?;
        Ok(self.changed)
    }

    pub(crate) fn find(&self, key: &str) -> Result<Option<Row>> {
        let query = "SELECT value, revision, expires FROM entries
            WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
        let mut query = self.transaction.prepare_cached(query).map_err(sqlite)?;
        let row = query.query_row(params![key, self.now], |row| {
            Ok(Row {
                value: row.get::<_, Vec<u8>>(0)?.into(),
                revision: row.get(1)?,
                expires: row.get(2)?,
            })
        });
        row.optional().map_err(sqlite)
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8], expiry: Expiry) -> Result<()> {
        let expires = match expiry {
            Expiry::Clear => None,
            Expiry::Keep => self.find(key)?.and_then(|row| row.expires),
            Expiry::After(ttl) => Some(self.after(ttl)),
        };
        self.put(key, value, expires)
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Option<i64>) -> Result<()> {
        let next = "UPDATE store SET revision = revision + 1 RETURNING revision";
        let revision = self.transaction.query_row(next, [], |row| row.get(0));
        let revision: i64 = revision.map_err(sqlite)?;
        let put = "INSERT OR REPLACE INTO entries (key, value, revision, expires)
            VALUES (?1, ?2, ?3, ?4)";
        let mut put = self.transaction.prepare_cached(put).map_err(sqlite)?;
        let done = put.execute(params![key, value, revision, expires]);
        done.map_err(sqlite)?;
        self.changed.push(key.to_owned());
        Ok(())
    }

    /// Whether there was a value.
    pub(crate) fn remove(&mut self, key: &str) -> Result<bool> {
        let there = self.find(key)?.is_some();
        let delete = "DELETE FROM entries WHERE key = ?1";
        let deleted = self.transaction.execute(delete, [key]).map_err(sqlite)?;
        if deleted > 0 {
            self.changed.push(key.to_owned());
        }
        Ok(there)
    }

    pub(crate) fn increment(&mut self, key: &str, delta: i64) -> Result<i64> {
        let row = self.find(key)?;
        let (before, expires) = match &row {
            None => (0, None),
            Some(row) => (integer(&row.value)?, row.expires),
        };
        let sum = before.checked_add(delta).ok_or_else(|| {
            DriverError::new(ErrorKind::Overflow, "the sum does not fit into 64 bits")
        })?;
        self.put(key, sum.to_string().as_bytes(), expires)?;
        Ok(sum)
    }

    /// Gives a value another expiry, or none; false where there is no value, or nothing to change.
    /// The revision stays: it is that of the value.
    pub(crate) fn expire(&mut self, key: &str, ttl: Option<TtlMillis>) -> Result<bool> {
        let row = self.find(key)?;
        let expires = ttl.map(|ttl| self.after(ttl));
        let changes = row.is_some_and(|row| expires.is_some() || row.expires.is_some());
        if changes {
            let update = "UPDATE entries SET expires = ?2 WHERE key = ?1";
            let done = self.transaction.execute(update, params![key, expires]);
            done.map_err(sqlite)?;
        }
        Ok(changes)
    }

    pub(crate) fn ttl(&self, key: &str) -> Result<TtlState> {
        Ok(match self.find(key)?.map(|row| row.expires) {
            None => TtlState::Absent,
            Some(None) => TtlState::NoExpiry,
            Some(Some(expires)) => {
                let left = u64::try_from(expires - self.now).unwrap_or_default();
                TtlState::Remaining(Duration::from_millis(left))
            }
        })
    }

    pub(crate) fn version(&self, row: Option<&Row>) -> VersionToken {
        let origin = "SELECT origin FROM store";
        let origin = self.transaction.query_row(origin, [], |row| row.get(0));
        let origin: i64 = origin.unwrap_or_default();
        row.map_or(VersionToken::Absent, |row| VersionToken::Revision {
            origin: origin.cast_unsigned(),
            revision: row.revision.cast_unsigned(),
        })
    }

    /// First every condition, then every change: where one of them fails nothing was done.
    pub(crate) fn take(&mut self, steps: &[OwnedStep]) -> Result<Vec<VersionToken>> {
        for (index, step) in steps.iter().enumerate() {
            let found = self.find(&step.key)?;
            if !step.expect.holds(&self.version(found.as_ref())) {
                return Err(DriverError::conflict(index));
            }
        }
        let mut versions = Vec::with_capacity(steps.len());
        for step in steps {
            match &step.action {
                OwnedAction::Check => {}
                OwnedAction::Put(value, expiry) => self.set(&step.key, value, *expiry)?,
                OwnedAction::Delete => drop(self.remove(&step.key)?),
            }
            let row = self.find(&step.key)?;
            versions.push(self.version(row.as_ref()));
        }
        Ok(versions)
    }

    /// The cursor is the last key of the page before. SQLite compares texts byte by byte, so all
    /// keys with a prefix are neighbours.
    pub(crate) fn page(&self, prefix: &str, after: Option<&str>) -> Result<ScanPage> {
        let query = "SELECT key FROM entries
            WHERE key >= ?1 AND (?2 IS NULL OR key > ?2) AND (expires IS NULL OR expires > ?3)
            ORDER BY key LIMIT ?4";
        let mut query = self.transaction.prepare_cached(query).map_err(sqlite)?;
        let from = after.unwrap_or(prefix);
        let found = query.query_map(params![from, after, self.now, PAGE as i64], |row| {
            row.get(0)
        });
        let keys: rusqlite::Result<Vec<String>> = found.map_err(sqlite)?.collect();
        let keys = keys.map_err(sqlite)?;
        let full = keys.len() == PAGE;
        let ours = |key: &String| key.starts_with(prefix);
        let next = keys.last().filter(|key| full && ours(key));
        Ok(ScanPage {
            next: next.map(ScanCursor::new),
            keys: keys.into_iter().filter(ours).collect(),
        })
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&mut self) -> Result<()> {
        let delete = "DELETE FROM entries WHERE expires <= ?1 RETURNING key";
        let mut delete = self.transaction.prepare_cached(delete).map_err(sqlite)?;
        let keys = delete.query_map([self.now], |row| row.get::<_, String>(0));
        for key in keys.map_err(sqlite)? {
            self.changed.push(key.map_err(sqlite)?);
        }
        Ok(())
    }

    pub(crate) fn ping(&self) -> Result<()> {
        let one = self
            .transaction
            .query_row("SELECT 1", [], |row| row.get::<_, i64>(0));
        one.map(drop).map_err(sqlite)
    }

    fn after(&self, ttl: TtlMillis) -> i64 {
        self.now.saturating_add_unsigned(ttl.get())
    }
}

/// Only what Rust would print is an integer, so that 007 and +7 stay texts.
fn integer(bytes: &[u8]) -> Result<i64> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let number = text.parse().ok();
    number
        .filter(|number: &i64| number.to_string() == text)
        .ok_or_else(|| DriverError::new(ErrorKind::NotAnInteger, "the value is no integer"))
}
