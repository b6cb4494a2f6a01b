//! The thread that owns the file: takes what waits, evaluates it, commits once, publishes, answers.
//!
//! The time of a commit is the time in which the next ones gather; nothing is delayed to gather
//! more. After a failure the database is opened anew before anything else is acknowledged
//! (`recovery`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::batch::{Batch, Expiries, Reply};
use super::config::{FileDurability, FileOptions};
use super::control::{self, Control};
use super::disk::Disk;
use super::engine::Engine;
use super::error::{FileError, FileFault};
use super::load::Loaded;
use super::queue::{Answer, Queue, Request, Taken};
use super::readers::Readers;
use super::recovery::FIRST_BACKOFF;
use super::residency::Residency;
use super::row::Progress;
use super::snapshot::Snapshot;
use super::space::{self, Space};
use super::time::Time;
use super::trouble::Trouble;
use super::view::{Changes, Entry, NEVER, Value, View};
use crate::driver::DriverError;
use crate::watch::WatchHub;

/// Expired values removed with one commit.
const SWEEP_BATCH: usize = 500;
/// Revisions that may be given away before one of them is durable.
const RESERVED: u64 = 1 << 20;
/// How soon a file that was removed is looked for again where nobody asks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a compaction waits for reads that have begun.
const READS_END: Duration = Duration::from_secs(2);

/// What the thread shares with the callers.
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) queue: Queue,
    pub(super) control: Control,
    pub(super) readers: Arc<Readers>,
    pub(super) hub: WatchHub,
    pub(super) time: Time,
    /// Of the file: what its revisions are revisions of.
    pub(super) origin: u64,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Disk,
    pub(super) options: FileOptions,
    pub(super) state: State,
    expiries: Expiries,
    residency: Residency,
    pub(super) revision: u64,
    /// Up to here revisions may be given away without a durable commit.
    pub(super) reserved: u64,
    sweep_at: Instant,
    /// When what was acknowledged before it was durable has to be.
    pub(super) flush_at: Option<Instant>,
    pub(super) space: Space,
    /// Another file, or none, is under the name of the open one.
    pub(super) removed: bool,
    pub(super) backoff: Duration,
    pub(super) trouble: Trouble,
}

pub(super) enum State {
    Open(Engine),
    /// Until the next attempt everything but reads fails with this error.
    Failed {
        error: FileError,
        retry_at: Instant,
        /// Keeps what can be read readable.
        readable: Option<Engine>,
    },
}

/// A request that was evaluated, with its answer if the commit succeeds.
pub(super) type Evaluated = (oneshot::Sender<Answer>, Answer);

/// Tells the callers that nobody will answer any more, however the thread ends.
struct OnExit {
    shared: Arc<Shared>,
    ended: watch::Sender<bool>,
}

impl Drop for OnExit {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.shared.control.close();
        self.shared.readers.close();
        self.shared.hub.close();
        self.ended.send_replace(true);
    }
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Disk,
        engine: Engine,
        loaded: Loaded,
        options: FileOptions,
    ) -> Self {
        let mut writer = Writer {
            shared,
            disk,
            state: State::Open(engine),
            expiries: Expiries::new(),
            residency: Residency::default(),
            revision: 0,
            reserved: 0,
            sweep_at: Instant::now(),
            flush_at: None,
            space: Space::default(),
            removed: false,
            backoff: FIRST_BACKOFF,
            trouble: Trouble::default(),
            options,
        };
        writer.take_over(loaded);
        writer
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, ended: watch::Sender<bool>) {
        let shared = self.shared.clone();
        let on_exit = OnExit { shared, ended };
        loop {
            match self.shared.queue.take(self.wake_at()) {
                Taken::Requests(requests) => self.work(requests),
                Taken::Nothing => self.work(Vec::new()),
                Taken::Closed => break,
            }
            self.take_back();
            while let Some(request) = self.shared.control.next() {
                self.control(request);
            }
        }
        self.close();
        drop(on_exit);
    }

    fn wake_at(&self) -> Instant {
        match &self.state {
            State::Failed { retry_at, .. } => *retry_at,
            State::Open(_) if self.removed => Instant::now() + LOOK_AGAIN,
            State::Open(_) => self
                .flush_at
                .map_or(self.sweep_at, |at| at.min(self.sweep_at)),
        }
    }

    fn work(&mut self, requests: Vec<Request>) {
        let claimed = |request: &Request| !request.answer.is_closed() && request.claim.take();
        let requests: Vec<Request> = requests.into_iter().filter(claimed).collect();
        if let Err(error) = self.ready().and_then(|()| self.check_room(&requests)) {
            let error = DriverError::from(error).with_retry_after(self.backoff);
            return refuse(requests, &error);
        }
        let now = self.shared.time.now();
        let max_resident = self.options.max_resident_bytes;
        let shared = self.shared.clone();
        let fixed = self.residency.fixed;
        let mut batch = Batch::new(&shared.view, now, self.revision, fixed, max_resident);
        let evaluated: Vec<Evaluated> = requests
            .into_iter()
            .map(|request| (request.answer, batch.apply(request.op)))
            .collect();
        if Instant::now() >= self.sweep_at {
            let more = batch.sweep(&self.expiries, SWEEP_BATCH);
            let pause = if more {
                Duration::ZERO
            } else {
                self.options.sweep_interval
            };
            self.sweep_at = Instant::now() + pause;
        }
        let Batch {
            changes, revision, ..
        } = batch;
        self.finish(evaluated, changes, revision, now);
    }

    /// Commits, publishes and answers.
    fn finish(&mut self, evaluated: Vec<Evaluated>, changes: Changes, revision: u64, time: u64) {
        let bytes = space::needed(&changes);
        let due = self.flush_at.is_some_and(|at| Instant::now() >= at) || self.space.is_due(bytes);
        if changes.is_empty() && !due {
            return answer(evaluated);
        }
        let immediate = self.options.durability == FileDurability::Immediate;
        // Nothing is acknowledged on trust while the disk may be full.
        let doubtful = self.space.to_probe().is_some();
        let durable = due || immediate || doubtful || revision > self.reserved;
        let reserved = match durable {
            true if immediate => revision,
            true => revision + RESERVED,
            false => self.reserved,
        };
        let State::Open(engine) = &self.state else {
            return;
        };
        let progress = Progress {
            revision,
            time,
            reserved,
        };
        match engine.commit(self.disk.path(), &changes, self.revision, progress, durable) {
            Ok(()) => {
                self.committed(durable, bytes);
                let since = std::mem::replace(&mut self.revision, revision);
                self.reserved = reserved;
                self.publish(changes, since);
                answer(evaluated);
            }
            Err(failed) => {
                self.space.failed(bytes, &failed.error);
                self.failed(evaluated, failed, revision);
            }
        }
    }

    fn committed(&mut self, durable: bool, bytes: u64) {
        self.backoff = FIRST_BACKOFF;
        match self.options.durability {
            FileDurability::Eventual { within } if !durable => {
                self.flush_at.get_or_insert_with(|| Instant::now() + within);
            }
            _ => self.flush_at = None,
        }
        // Only asked for where commits are rarely durable.
        let eventual = self.options.durability != FileDurability::Immediate;
        let len = (durable && eventual).then(|| self.disk.len().unwrap_or(0));
        self.space.committed(bytes, len.or(durable.then_some(0)));
        self.tell_if_well();
    }

    /// Makes a commit visible, tells those who watch, and makes memory small enough again.
    fn publish(&mut self, mut changes: Changes, since: u64) {
        let mut changed = Vec::with_capacity(changes.len());
        for (key, entry) in &mut changes {
            // A new expiry alone is no change.
            if entry.as_ref().is_none_or(|entry| entry.revision > since) {
                changed.push(key.clone());
            }
            if let Some(Entry { value, .. }) = entry
                && !self.residency.admits(value.len())
            {
                *value = Value::OnDisk { len: value.len() };
            }
            let before = self.shared.view.peek(key);
            self.residency.changed(key, before.as_ref(), entry.as_ref());
            self.index(key, before.as_ref(), entry.as_ref());
        }
        let snapshot = self.residency.any_on_disk().then(|| self.snapshot());
        self.shared.view.publish(changes, snapshot.flatten());
        // After it is visible: who watches reads what is there.
        changed.iter().for_each(|key| self.shared.hub.changed(key));
        self.shrink();
    }

    /// Keeps the order of expiries in step with what is about to be published.
    fn index(&mut self, key: &Arc<str>, before: Option<&Entry>, after: Option<&Entry>) {
        let expires = |entry: Option<&Entry>| entry.map_or(NEVER, |entry| entry.expires);
        let (before, after) = (expires(before), expires(after));
        if before == after {
            return;
        }
        if before != NEVER {
            self.expiries.remove(&(before, key.clone()));
        }
        if after != NEVER {
            self.expiries.insert((after, key.clone()));
        }
    }

    /// The last commit, for those who read values that are not in memory.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let engine = match &self.state {
            State::Open(engine) => engine,
            State::Failed { readable, .. } => readable.as_ref()?,
        };
        let snapshot = engine.snapshot(self.disk.path());
        snapshot
            .inspect_err(|error| self.shared.control.suspect(error))
            .ok()
    }

    fn shrink(&mut self) {
        if !self.residency.is_over() {
            return;
        }
        // What leaves memory has to be found in the file from then on.
        if !self.residency.any_on_disk() {
            let Some(snapshot) = self.snapshot() else {
                return;
            };
            self.shared.view.swap(Some(snapshot));
        }
        self.residency.shrink(&self.shared.view);
    }

    /// Takes values back into memory that were read from the file.
    fn take_back(&mut self) {
        for returning in self.shared.control.returning() {
            let control::Returning {
                key,
                revision,
                value,
            } = returning;
            if !self.residency.admits(value.len()) {
                continue;
            }
            if let Some((before, after)) = self.shared.view.admit(&key, revision, value) {
                let key: Arc<str> = key.into();
                self.residency.changed(&key, Some(&before), Some(&after));
            }
        }
        self.shrink();
    }

    fn control(&mut self, request: control::Request) {
        match request {
            control::Request::Snapshot(answer) => {
                let snapshot = match &self.state {
                    State::Open(engine) => engine.snapshot(self.disk.path()),
                    State::Failed { error, .. } => Err(error.clone()),
                };
                let _ = answer.send(snapshot.map_err(DriverError::from));
            }
            control::Request::Compact(answer) => {
                if !answer.is_closed() {
                    let _ = answer.send(self.compact().map_err(DriverError::from));
                }
            }
        }
    }

    /// The bytes of the file before and after.
    fn compact(&mut self) -> Result<(u64, u64), FileError> {
        let before = self.disk.len()?;
        // Reads of values that are not in memory wait until it is over.
        self.shared.view.swap(None);
        let until = Instant::now() + READS_END;
        let compacted = loop {
            let path = self.disk.path();
            let compacted = match &mut self.state {
                State::Open(engine) => engine.compact(path),
                State::Failed { error, .. } => Err(error.clone()),
            };
            match compacted {
                Err(error) if error.fault() == FileFault::InUse && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => break other,
            }
        };
        if self.residency.any_on_disk() {
            self.shared.view.swap(self.snapshot());
        }
        match compacted {
            Ok(()) => Ok((before, self.disk.len()?)),
            Err(error) => {
                if error.fault() != FileFault::InUse {
                    self.shared.control.suspect(&error);
                }
                Err(error)
            }
        }
    }

    /// Whether some values can only be read from the file.
    pub(super) fn needs_file(&self) -> bool {
        self.residency.any_on_disk()
    }

    /// Takes what was read from the file for the truth.
    pub(super) fn take_over(&mut self, loaded: Loaded) {
        self.expiries = loaded.expiries;
        self.residency = loaded.residency;
        self.revision = self.revision.max(loaded.progress.reserved);
        self.reserved = loaded.progress.reserved;
        let snapshot = self.residency.any_on_disk().then(|| self.snapshot());
        self.shared.view.replace(loaded.shards, snapshot.flatten());
    }

    /// Makes everything durable and notes the time, so that the next run begins after it.
    fn close(self) {
        let State::Open(engine) = self.state else {
            return;
        };
        let path = self.disk.path();
        let progress = Progress {
            revision: self.revision,
            time: self.shared.time.now(),
            reserved: self.revision,
        };
        let noted = engine.commit(path, &Changes::new(), self.revision, progress, true);
        self.shared.view.swap(None);
        let closed = match noted {
            Ok(()) => engine.close(path),
            Err(failed) => {
                engine.abandon(path);
                Err(failed.error)
            }
        };
        if let Err(error) = closed {
            warn!(path = %path.display(), %error, "state file was not closed cleanly");
        }
    }
}

fn answer(evaluated: Vec<Evaluated>) {
    for (caller, answer) in evaluated {
        // A caller that is gone hears nothing.
        let _: Result<(), Result<Reply, DriverError>> = caller.send(answer);
    }
}

fn refuse(requests: Vec<Request>, error: &DriverError) {
    for request in requests {
        let _ = request.answer.send(Err(error.clone()));
    }
}
