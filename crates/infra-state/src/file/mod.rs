//! The file driver: an embedded store in one file that survives kill -9, for one process.
//!
//! `queue` holds what callers want written; `writer` is the thread that takes it, evaluates it
//! (`batch`), commits it (`engine`, in the file that `disk` found and locked, through `storage`) and
//! makes it visible to readers (`view`). When the disk fails it takes the road of `recovery`.
//!
//! `residency` says which values stay in memory; for others `readers` look into a `snapshot` of the
//! last commit. `row` is what one looks like, `load` reads them all at the start. `control` carries
//! what else the thread is asked for: `maintenance` makes copies and gives back space.

mod batch;
mod config;
mod control;
mod disk;
mod engine;
mod error;
#[cfg(test)]
pub(crate) mod faults;
mod load;
mod maintenance;
mod open;
mod queue;
mod read;
mod readers;
mod recovery;
mod residency;
mod row;
mod snapshot;
mod space;
mod storage;
#[cfg(test)]
mod tests;
mod time;
mod trouble;
mod versions;
mod view;
mod writer;

use std::any::Any;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, Outcome};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::capabilities::{Capabilities, Versions};
use crate::driver::{
    DriverEntry, DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::error::ErrorKind;
use crate::step::Step;
use crate::ttl::TtlState;
use crate::version::VersionToken;
use crate::watch::WatchFeed;

use batch::{Op, Reply};
pub(crate) use config::path_of_url;
pub use config::{FileDurability, FileOptions};
pub use error::{FileError, FileFault};
use error::{closed, queue_full, thread_gone, timed_out, unexpected};
pub use maintenance::{Backup, Compaction};
use queue::{Claim, QueueClosed, Request};
use read::Read;
use view::{Entry, Position, Value};
use writer::Shared;

/// One value goes through memory in one piece, and holds up the others behind it.
const MAX_VALUE_BYTES: usize = 256 << 20;
/// Steps of one transaction.
const MAX_TRANSACTION_OPS: usize = 10_000;
/// Keys of one page of a scan.
const SCAN_PAGE: usize = 500;

/// The driver behind `file:///path`: one file, one process, no server.
///
/// ```
/// use infra_state::{FileOptions, StateOptions, create_state_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let path = folder.join("state.redb");
/// let options = StateOptions::new()
///     .path(&path)
///     .file(FileOptions::new().max_resident_bytes(64 << 20));
/// let store = create_state_store("file", options.clone()).await?;
/// store.set("position", &3).await?; // on the disk from here on
/// store.close().await;
///
/// let store = create_state_store("file", options).await?;
/// assert_eq!(store.get::<i64>("position").await?, Some(3));
/// # Ok(())
/// # }
/// ```
///
/// One thread owns the file. Writes wait for it in a bounded queue; it takes whatever is there,
/// evaluates it in order, makes it durable with one commit and then answers, so many callers
/// share the cost of one `fdatasync`. Keys and values are held in memory too, where reads find
/// them without waiting for the disk. Where they would take up more than
/// [`FileOptions::max_resident_bytes`], the longer values that nobody asks for leave it: four
/// threads of the driver read them from the file then, within the deadline of the call and without
/// holding up any other.
///
/// - **Crash**: what was acknowledged is there, what was not is there whole or not at all.
/// - **Damage** is found when opening, by the checksum of every page (above 1 GiB only after an
///   unclean end) and of every value that is read; it is an error that names the file, and the file
///   is left as it was. A damaged
///   page may make the database panic inside; the driver catches that, which a program built with
///   `panic = "abort"` cannot.
/// - **Full or failing disk**: writes fail, reads go on, and the driver opens the file anew by
///   itself (after 20 ms, then up to 1 s), so writes come back without a restart. A failed
///   `fdatasync` is never repeated: the file is read again first, and writes whose fate that does
///   not settle are reported as [`Outcome::Unknown`](infra_core::Outcome::Unknown). What the
///   system shows of such a write and the disk never got, only a power cut would bring to light.
///   Whoever asks whether the store is well ([`StateStore::ping`](crate::StateStore::ping), health)
///   after the disk was full is told so only when about as much as there was no room for, between
///   256 KiB and 1 MiB, could be written on trial.
/// - **Removed or replaced** while it is open, which systems with numbered files (Unix) tell: writes
///   are refused, for nobody would find them again, until the file is back under its name; reads
///   and backups go on.
/// - **Expiry** is kept as a time of the wall clock, which counts between runs; within a run only
///   the monotonic clock does, so setting the wall clock moves nothing. Time in which the machine
///   sleeps counts from the next start on.
/// - **Lock**: held by the operating system for the open file, so none is left behind by a crash;
///   it holds through every path to the same file.
/// - **Format**: a file of an older version is rewritten in one step when it is opened; one of a
///   later version is refused.
/// - **Copies** are made while the store is in use, by [`FileDriver::backup`]; space that is no
///   longer needed is given back at the start, or by [`FileDriver::compact`].
///
/// Dropping it writes what waits in the background; only after [`StateDriver::close`] can the
/// file be opened again at once.
pub struct FileDriver {
    shared: Arc<Shared>,
    options: FileOptions,
    ended: watch::Receiver<bool>,
}

impl FileDriver {
    /// Opens the file, or creates it in an existing folder; a link that leads to no file yet has one
    /// created where it leads. Reads and checks all of it, on its own
    /// thread; that takes about a second per million small keys.
    ///
    /// Cancel safe: a dropped call leaves no open file behind, and a new one perhaps empty.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyOpen`], [`ErrorKind::Corrupted`], [`ErrorKind::InvalidPath`],
    /// [`ErrorKind::Permission`], [`ErrorKind::Unsupported`] for a file of a later version,
    /// [`ErrorKind::Capacity`] for one whose keys alone need more memory than they may, or a full
    /// disk. The source is a [`FileError`].
    pub async fn open(path: impl Into<PathBuf>, options: FileOptions) -> Result<Self, DriverError> {
        let path = path.into();
        let (opened, answer) = oneshot::channel();
        let (running, ended) = watch::channel(false);
        let chosen = options.clone();
        thread::Builder::new()
            .name("infra-state-file".to_owned())
            .spawn(move || match open::open(&path, options) {
                Ok(writer) => {
                    if opened.send(Ok(writer.shared())).is_ok() {
                        writer.run(running);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(DriverError::from(error)));
                }
            })
            .map_err(|error| {
                DriverError::new(ErrorKind::Unavailable, "no thread for the file")
                    .with_source(error)
            })?;
        let shared = answer.await.map_err(|_| thread_gone())??;
        Ok(FileDriver {
            shared,
            options: chosen,
            ended,
        })
    }

    /// Queues an operation and waits for its commit, both within `limit`.
    async fn submit(&self, op: Op, limit: Duration) -> Result<Reply, DriverError> {
        let deadline = Instant::now() + limit;
        let claim = Claim::default();
        let (answer, reply) = oneshot::channel();
        let request = Request {
            op,
            claim: claim.clone(),
            answer,
        };
        match timeout_at(deadline, self.shared.queue.push(request)).await {
            Ok(Ok(())) => {}
            Ok(Err(QueueClosed)) => return Err(closed()),
            Err(_) => return Err(queue_full(limit)),
        }
        match timeout_at(deadline, reply).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(thread_gone()),
            // Taking it back works only as long as the thread has not begun with it.
            Err(_) if claim.take() => Err(timed_out(limit, Outcome::NotApplied)),
            Err(_) => Err(timed_out(limit, Outcome::Unknown)),
        }
    }

    async fn flag(&self, op: Op, limit: Duration) -> Result<bool, DriverError> {
        match self.submit(op, limit).await? {
            Reply::Flag(flag) => Ok(flag),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for FileDriver {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl StateDriver for FileDriver {
    fn backend(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .with_acknowledged(self.options.durability.acknowledged())
            .with_max_value_bytes(MAX_VALUE_BYTES)
            .with_transactions(Versions::Revision, MAX_TRANSACTION_OPS)
            .with_watch(true)
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn scan_repeats_keys(&self) -> bool {
        false
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        match self.live(key) {
            None => Box::pin(ready(Ok(None))),
            Some(Entry {
                value: Value::Resident(value),
                ..
            }) => Box::pin(ready(Ok(Some(value)))),
            Some(_) => Box::pin(async move {
                let read = self.read_one(key, limit).await?;
                Ok(read.map(|read| read.value))
            }),
        }
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let read = self.read(keys, limit).await?;
            let value = |read: Option<Read>| read.map(|read| read.value);
            Ok(read.into_iter().map(value).collect())
        })
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        Box::pin(async move {
            let read = self.read_one(key, limit).await?;
            let version = self.version(read.as_ref().map(|read| read.revision));
            Ok((read.map(|read| read.value), version))
        })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move {
            let read = self.read_one(key, limit).await?;
            Ok(read.map(|read| DriverEntry {
                value: read.value,
                version: Some(self.version(Some(read.revision))),
                ttl: self.ttl_of(read.expires),
            }))
        })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        let steps = steps.iter().map(|step| self.owned(step)).collect();
        Box::pin(async move {
            match self.submit(Op::Transact { steps }, limit).await? {
                Reply::Revisions(revisions) => {
                    Ok(revisions.into_iter().map(|it| self.version(it)).collect())
                }
                other => Err(unexpected(&other)),
            }
        })
    }

    /// What is reported is visible already; an expired value is reported when it is swept.
    fn watch<'a>(&'a self, prefix: &'a str, _: Duration) -> DriverResult<'a, WatchFeed> {
        Box::pin(ready(Ok(self.shared.hub.subscribe(prefix))))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        let entries = vec![(key.into(), value)];
        let op = Op::Set { entries, expiry };
        Box::pin(async move { self.submit(op, limit).await.map(|_| ()) })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect();
        let op = Op::Set { entries, expiry };
        Box::pin(async move { self.submit(op, limit).await.map(|_| ()) })
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        let key = key.into();
        Box::pin(self.flag(Op::SetIfAbsent { key, value, expiry }, limit))
    }

    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        let keys = keys.iter().map(|key| (*key).into()).collect();
        Box::pin(async move {
            match self.submit(Op::Delete { keys }, limit).await? {
                Reply::Count(count) => Ok(count),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        let now = self.shared.time.now();
        let entry = self.shared.view.peek(key);
        Box::pin(ready(Ok(entry.is_some_and(|entry| entry.is_live(now)))))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        let key = key.into();
        Box::pin(async move {
            match self.submit(Op::Increment { key, delta }, limit).await? {
                Reply::Sum(sum) => Ok(sum),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: TtlMillis,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        let key = key.into();
        Box::pin(self.flag(Op::Expire { key, ttl }, limit))
    }

    fn persist<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, bool> {
        let key = key.into();
        Box::pin(self.flag(Op::Persist { key }, limit))
    }

    fn ttl<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        let expires = self.shared.view.peek(key).map(|entry| entry.expires);
        let state = expires.map_or(TtlState::Absent, |expires| self.ttl_of(expires));
        Box::pin(ready(Ok(state)))
    }

    /// Pages are cut from an ordered map, so each key comes once, and one that is there
    /// throughout does come.
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        cursor: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        let from = match &cursor {
            None => Some(Position {
                shard: 0,
                after: None,
            }),
            Some(cursor) => Position::parse(cursor.as_str()),
        };
        let page = match from {
            None => {
                let message = "a cursor that this driver did not make";
                Err(DriverError::new(ErrorKind::Backend, message))
            }
            Some(from) => {
                let now = self.shared.time.now();
                let page = self.shared.view.keys(prefix, from, SCAN_PAGE, now);
                Ok(ScanPage {
                    keys: page.keys,
                    next: page.next.map(|next| ScanCursor::new(next.to_string())),
                })
            }
        };
        Box::pin(ready(page))
    }

    /// Answers through the queue, so a disk that hangs or fails shows.
    fn ping(&self, limit: Duration) -> DriverResult<'_, ()> {
        Box::pin(async move {
            let answer = self.submit(Op::Ping, limit).await;
            answer
                .map(|_| ())
                .map_err(|error| error.with_outcome(Outcome::NotApplied))
        })
    }

    /// Returns when all that was queued is answered and the file is closed.
    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.queue.close();
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // An error means that the thread is gone, which is just as well.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}
