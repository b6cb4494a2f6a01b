//! The file driver: an embedded store in one file that survives kill -9, for one process.
//!
//! `queue` holds what callers want written; `writer` is the thread that takes it, evaluates it
//! (`batch`), commits it (`engine`, in the file that `disk` found and locked, through `storage`) and
//! makes it visible to readers (`view`).

mod batch;
mod config;
mod disk;
mod engine;
mod error;
#[cfg(test)]
pub(crate) mod faults;
mod queue;
mod storage;
#[cfg(test)]
mod tests;
mod time;
mod view;
mod writer;

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, Outcome};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::capabilities::Capabilities;
use crate::driver::{
    DriverError, DriverResult, Expiry, ScanCursor, ScanPage, StateDriver, TtlMillis,
};
use crate::error::ErrorKind;
use crate::ttl::TtlState;

use batch::{Op, Reply};
pub(crate) use config::path_of_url;
pub use config::{FileDurability, FileOptions};
use disk::{Disk, Found};
use engine::{Engine, Loaded};
pub use error::{FileError, FileFault};
use queue::{Claim, Queue, QueueClosed, Request};
use time::Time;
use view::{Position, View};
use writer::{Shared, Writer};

/// One value goes through memory in one piece, and holds up the others behind it.
const MAX_VALUE_BYTES: usize = 256 << 20;
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
/// share the cost of one `fdatasync`. All keys and values are held in memory too
/// ([`FileOptions::max_resident_bytes`]), where reads find them without waiting for the disk: a
/// store that does not fit into memory is none for this driver.
///
/// - **Crash**: what was acknowledged is there, what was not is there whole or not at all.
/// - **Damage** is found when opening, by the checksum of every page (above 1 GiB only after an
///   unclean end); it is an error that names the file, and the file is left as it was. A damaged
///   page may make the database panic inside; the driver catches that, which a program built with
///   `panic = "abort"` cannot.
/// - **Full or failing disk**: writes fail, reads go on, and the driver opens the file anew by
///   itself (after 20 ms, then up to 1 s), so writes come back without a restart. A failed
///   `fdatasync` is never repeated: the file is read again first, and writes whose fate that does
///   not settle are reported as [`Outcome::Unknown`](infra_core::Outcome::Unknown). What the
///   system shows of such a write and the disk never got, only a power cut would bring to light.
/// - **Expiry** is kept as a time of the wall clock, which counts between runs; within a run only
///   the monotonic clock does, so setting the wall clock moves nothing. Time in which the machine
///   sleeps counts from the next start on.
/// - **Lock**: held by the operating system for the open file, so none is left behind by a crash;
///   it holds through every path to the same file.
///
/// Dropping it writes what waits in the background; only after [`StateDriver::close`] can the
/// file be opened again at once.
pub struct FileDriver {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

impl FileDriver {
    /// Opens the file, or creates it in an existing folder. Reads and checks all of it, on its own
    /// thread; that takes about a second per million small keys.
    ///
    /// Cancel safe: a dropped call leaves no open file behind, and a new one perhaps empty.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyOpen`], [`ErrorKind::Corrupted`], [`ErrorKind::InvalidPath`],
    /// [`ErrorKind::Permission`], [`ErrorKind::Unsupported`] for a file of a later version,
    /// [`ErrorKind::Capacity`] for one that holds more than may be resident or a full disk. The
    /// source is a [`FileError`].
    pub async fn open(path: impl Into<PathBuf>, options: FileOptions) -> Result<Self, DriverError> {
        let path = path.into();
        let (opened, answer) = oneshot::channel();
        let (running, ended) = watch::channel(false);
        thread::Builder::new()
            .name("infra-state-file".to_owned())
            .spawn(move || match open(&path, options) {
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
        Ok(FileDriver { shared, ended })
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
            Err(_) => Err(timed_out(limit, claim.take())),
        }
    }

    async fn flag(&self, op: Op, limit: Duration) -> Result<bool, DriverError> {
        match self.submit(op, limit).await? {
            Reply::Flag(flag) => Ok(flag),
            other => Err(unexpected(other)),
        }
    }

    fn live(&self, key: &str) -> Option<view::Entry> {
        let entry = self.shared.view.entry(key)?;
        // Time is read only where a value can expire.
        let live = entry.expires == view::NEVER || entry.is_live(self.shared.time.now());
        live.then_some(entry)
    }
}

impl Drop for FileDriver {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

fn open(path: &Path, options: FileOptions) -> Result<Writer, FileError> {
    // A relative path keeps its meaning when the program changes its folder.
    let path = std::path::absolute(path).map_err(|error| FileError::io(path, &error))?;
    let view = View::new();
    let max_resident = options.max_resident_bytes;
    // The second time: another process created it in between.
    let mut found = Disk::open(&path, &options)?;
    let disk = loop {
        match found {
            Found::Existing(disk) => break disk,
            Found::Created(unnamed) => {
                if let Err(error) = Engine::initialise(unnamed.disk()) {
                    unnamed.discard();
                    return Err(error);
                }
                match unnamed.publish()? {
                    Some(disk) => break disk,
                    None => found = Disk::open_existing(&path, &options)?,
                }
            }
        }
    };
    let (engine, loaded): (Engine, Loaded) = Engine::open(&disk, &view, max_resident)?;
    let shared = Arc::new(Shared {
        view,
        queue: Queue::new(options.queue_capacity),
        time: Time::starting(options.clock.clone(), &options.wall, loaded.progress.time),
    });
    Ok(Writer::new(shared, disk, engine, loaded, options))
}

impl StateDriver for FileDriver {
    fn backend(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_max_value_bytes(MAX_VALUE_BYTES)
    }

    fn keeps_deadlines(&self) -> bool {
        true
    }

    fn scan_repeats_keys(&self) -> bool {
        false
    }

    fn get<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        Box::pin(ready(Ok(self.live(key).map(|entry| entry.value))))
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        let values = self.shared.view.many(keys, self.shared.time.now());
        Box::pin(ready(Ok(values)))
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
                other => Err(unexpected(other)),
            }
        })
    }

    fn exists<'a>(&'a self, key: &'a str, _: Duration) -> DriverResult<'a, bool> {
        Box::pin(ready(Ok(self.live(key).is_some())))
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        let key = key.into();
        Box::pin(async move {
            match self.submit(Op::Increment { key, delta }, limit).await? {
                Reply::Sum(sum) => Ok(sum),
                other => Err(unexpected(other)),
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
        let now = self.shared.time.now();
        let entry = self.shared.view.entry(key);
        let state = match entry.filter(|entry| entry.is_live(now)) {
            None => TtlState::Absent,
            Some(entry) if entry.expires == view::NEVER => TtlState::NoExpiry,
            Some(entry) => TtlState::Remaining(Duration::from_millis(entry.expires - now)),
        };
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

fn closed() -> DriverError {
    DriverError::new(ErrorKind::Closed, "the store was closed")
}

fn queue_full(limit: Duration) -> DriverError {
    let message = format!("too many writes wait for the disk, none was done within {limit:?}");
    DriverError::new(ErrorKind::Busy, message)
}

fn timed_out(limit: Duration, taken_back: bool) -> DriverError {
    let (outcome, what) = match taken_back {
        true => (Outcome::NotApplied, "the disk did not get to it"),
        false => (Outcome::Unknown, "the disk had not answered"),
    };
    let message = format!("{what} within {limit:?}");
    DriverError::new(ErrorKind::Timeout, message).with_outcome(outcome)
}

fn thread_gone() -> DriverError {
    let message = "the thread that owns the file has ended: open the store anew";
    DriverError::new(ErrorKind::Backend, message).with_outcome(Outcome::Unknown)
}

fn unexpected(reply: Reply) -> DriverError {
    DriverError::new(ErrorKind::Backend, format!("unexpected answer {reply:?}"))
}
