//! How to write a driver for [`infra_state`]: SQLite, in 400 lines.
//!
//! A driver is what stands between [`StateStore`](infra_state::StateStore), which users hold, and
//! a backend. It implements one trait, [`StateDriver`], in bytes. Everything else is done in front of
//! it: types, namespaces, checks of keys and times to live, limits, tracing. This crate is a whole
//! one, over a backend that needs no server, so that every part can be seen at work:
//!
//! ```
//! use std::sync::Arc;
//! use infra_state::{StateStore, StoreOptions};
//! use infra_state_sqlite::SqliteDriver;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("state.sqlite");
//! let driver = SqliteDriver::open(path).await?;
//! let store = StateStore::from_driver(Arc::new(driver), StoreOptions::new());
//! store.set("position", &3).await?;
//! assert_eq!(store.get::<i64>("position").await?, Some(3));
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # In which order to write one
//! 1. **The suite first.** [`infra_state::conformance_tests!`] turns one line into a test for every
//!    behaviour; `tests/conformance.rs` is all that this crate needs. Rows about what a driver
//!    cannot do check that it is refused with a typed error, so the suite passes from the first
//!    draft on as far as that goes.
//! 2. **Reads and writes**: the calls without a default. Each gets a `limit`; a driver that does not
//!    keep it by itself leaves [`StateDriver::keeps_deadlines`] at false, and the store puts a timer
//!    around each call. This driver does that: its work goes on in the background, which is why the
//!    store reports a write that timed out as [`Outcome::Unknown`].
//! 3. **Expiry**: an expired value is invisible to every call at once. Here each statement compares
//!    with the time; a task in the background removes what has expired.
//! 4. **Errors**: [`DriverError::new`] with the kind that tells the user what to do, and above all
//!    with the right outcome. See `error`. No message holds a value.
//! 5. **Versions and transactions**: [`StateDriver::get_versioned`] and [`StateDriver::transact`],
//!    which together give users compare-and-swap, `update`, transactions and leases. A backend that
//!    sees all of its writers counts them ([`Versions::Revision`]), as this one does; one that does
//!    not compares contents ([`Versions::Content`]).
//! 6. **Watching**: a [`WatchHub`] that is told of a key once its change can be read.
//! 7. **Capabilities**: say what of that there is; asking for the rest is an error at the start.
//!
//! What is specific to SQLite: one connection on one thread at a time, transactions that begin with
//! the write lock, WAL with `synchronous=FULL`, so that what is acknowledged survives a power cut.
//! Each write pays for a sync of its own; the file driver of `infra-state` shares them.
//!
//! # Layout
//! - `lib.rs`: the driver; `session`: what it does within one transaction; `error`: what goes wrong

mod error;
mod session;

use std::future::ready;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, Outcome, context};
use infra_state::{
    Capabilities, DriverError, DriverResult, ErrorKind, Expiry, ScanCursor, ScanPage, StateDriver,
    Step, TtlMillis, TtlState, VersionToken, Versions, WatchFeed, WatchHub,
};
use rusqlite::{Connection, TransactionBehavior};

use error::sqlite;
use session::Session;

/// Between two removals of expired values.
const SWEEP: Duration = Duration::from_millis(200);
/// One value goes through memory in one piece.
const MAX_VALUE_BYTES: usize = 64 << 20;
const MAX_TRANSACTION_OPS: usize = 1_000;

/// A store in one SQLite database, for one process.
pub struct SqliteDriver {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` once closed.
    connection: Mutex<Option<Connection>>,
    hub: WatchHub,
}

impl SqliteDriver {
    /// Opens the database, or creates it. Needs a tokio runtime, on whose blocking threads all work
    /// is done.
    ///
    /// # Errors
    /// What SQLite refuses: no database, no permission, a file that another process has open.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, DriverError> {
        let path = path.into();
        let opening = context::spawn_blocking(move || {
            session::prepare(Connection::open(path).map_err(sqlite)?)
        });
        let connection = opening.await.map_err(|_| panicked())??;
        let inner = Arc::new(Inner {
            connection: Mutex::new(Some(connection)),
            hub: WatchHub::new(),
        });
        // It holds on to nothing: the task ends when the driver is gone.
        context::spawn_detached(sweep_for_ever(Arc::downgrade(&inner)));
        Ok(SqliteDriver { inner })
    }

    /// Does something within one transaction, on a thread that may wait for the disk.
    fn call<'a, T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Session<'_>) -> Result<T, DriverError> + Send + 'static,
    ) -> DriverResult<'a, T> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let done = context::spawn_blocking(move || inner.transact(action));
            done.await.map_err(|_| panicked())?
        })
    }
}

impl Inner {
    fn transact<T>(
        &self,
        action: impl FnOnce(&mut Session<'_>) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = connection.as_mut() else {
            return Err(DriverError::new(ErrorKind::Closed, "the store was closed"));
        };
        // Where the action fails, dropping the session takes everything back.
        let began = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let mut session = Session::new(began.map_err(sqlite)?);
        let result = action(&mut session)?;
        let changed = session.commit()?;
        // Under the lock, so that the order of reports is that of the changes; after the commit,
        // because whoever hears of a key reads it.
        changed.iter().for_each(|key| self.hub.changed(key));
        Ok(result)
    }
}

async fn sweep_for_ever(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = inner.upgrade() else { return };
        let swept = context::spawn_blocking(move || inner.transact(|session| session.sweep()));
        match swept.await {
            Ok(Err(error)) if error.kind() == ErrorKind::Closed => return,
            // What could not be removed is invisible all the same, and removed the next time.
            _ => {}
        }
    }
}

fn panicked() -> DriverError {
    let message = "the call to SQLite panicked";
    DriverError::new(ErrorKind::Backend, message).with_outcome(Outcome::Unknown)
}

impl StateDriver for SqliteDriver {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_max_value_bytes(MAX_VALUE_BYTES)
            .with_transactions(Versions::Revision, MAX_TRANSACTION_OPS)
            .with_watch(true)
    }

    /// Pages are cut from keys in order.
    fn scan_repeats_keys(&self) -> bool {
        false
    }

    fn get<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        let key = key.to_owned();
        self.call(move |session| Ok(session.find(&key)?.map(|row| row.value)))
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let keys = owned(keys);
        self.call(move |session| {
            let value = |key: &String| Ok(session.find(key)?.map(|row| row.value));
            keys.iter().map(value).collect()
        })
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        _: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        let key = key.to_owned();
        self.call(move |session| {
            let row = session.find(&key)?;
            let version = session.version(row.as_ref());
            Ok((row.map(|row| row.value), version))
        })
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        let key = key.to_owned();
        self.call(move |session| session.set(&key, &value, expiry))
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        let owned = |(key, value): &(&str, Bytes)| ((*key).to_owned(), value.clone());
        let entries: Vec<(String, Bytes)> = entries.iter().map(owned).collect();
        self.call(move |session| {
            let mut entries = entries.iter();
            entries.try_for_each(|(key, value)| session.set(key, value, expiry))
        })
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        let key = key.to_owned();
        self.call(move |session| {
            let absent = session.find(&key)?.is_none();
            if absent {
                session.set(&key, &value, expiry)?;
            }
            Ok(absent)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        let keys = owned(keys);
        self.call(move |session| {
            let mut deleted = 0;
            for key in &keys {
                deleted += u64::from(session.remove(key)?);
            }
            Ok(deleted)
        })
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        let key = key.to_owned();
        self.call(move |session| Ok(session.find(&key)?.is_some()))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, _: Duration) -> DriverResult<'a, i64> {
        let key = key.to_owned();
        self.call(move |session| session.increment(&key, delta))
    }

    fn expire<'a>(&'a self, key: &'a str, ttl: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        let key = key.to_owned();
        self.call(move |session| session.expire(&key, Some(ttl)))
    }

    fn persist<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        let key = key.to_owned();
        self.call(move |session| session.expire(&key, None))
    }

    fn ttl<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        let key = key.to_owned();
        self.call(move |session| session.ttl(&key))
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        let prefix = prefix.to_owned();
        self.call(move |session| session.page(&prefix, cursor.as_ref().map(ScanCursor::as_str)))
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        _: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let steps: Vec<_> = steps.iter().map(session::OwnedStep::from).collect();
        self.call(move |session| session.take(&steps))
    }

    /// Subscribing comes before anything that is reported from now on.
    fn watch<'a>(&'a self, prefix: &'a str, _: Duration) -> DriverResult<'a, WatchFeed> {
        Box::pin(ready(Ok(self.inner.hub.subscribe(prefix))))
    }

    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        self.call(|session| session.ping())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.hub.close();
        let inner = self.inner.clone();
        Box::pin(async move {
            // Behind whatever still runs.
            let closed = context::spawn_blocking(move || {
                let mut connection = inner.connection.lock();
                drop(connection.as_mut().map(|connection| connection.take()));
            });
            let _ = closed.await;
        })
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
