//! The thread that owns the file: takes what waits, evaluates it, commits once, publishes, answers.
//!
//! The time of a commit is the time in which the next ones gather; nothing is delayed to gather
//! more. After a failure the database is opened anew before anything else is acknowledged.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::Outcome;
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::batch::{Batch, Expiries, Reply};
use super::config::{FileDurability, FileOptions};
use super::disk::Disk;
use super::engine::{CommitFailed, Engine, Loaded, Progress};
use super::error::FileError;
use super::queue::{Answer, Queue, Request, Taken};
use super::time::Time;
use super::view::{Changes, NEVER, View};
use crate::driver::DriverError;

/// Expired values removed with one commit.
const SWEEP_BATCH: usize = 500;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What the thread shares with the callers.
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) queue: Queue,
    pub(super) time: Time,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    options: FileOptions,
    state: State,
    expiries: Expiries,
    revision: u64,
    resident: usize,
    sweep_at: Instant,
    /// When what was acknowledged before it was durable has to be.
    flush_at: Option<Instant>,
    backoff: Duration,
}

enum State {
    Open(Engine),
    /// Until the next attempt everything but reads fails with this error.
    Failed {
        error: FileError,
        retry_at: Instant,
    },
}

/// A request that was evaluated, with its answer if the commit succeeds.
type Evaluated = (oneshot::Sender<Answer>, Answer);

/// Tells the callers that nobody will answer any more, however the thread ends.
struct OnExit {
    shared: Arc<Shared>,
    ended: watch::Sender<bool>,
}

impl Drop for OnExit {
    fn drop(&mut self) {
        self.shared.queue.abandon();
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
            revision: 0,
            resident: 0,
            sweep_at: Instant::now(),
            flush_at: None,
            backoff: FIRST_BACKOFF,
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
        }
        self.close();
        drop(on_exit);
    }

    fn wake_at(&self) -> Instant {
        match &self.state {
            State::Failed { retry_at, .. } => *retry_at,
            State::Open(_) => self
                .flush_at
                .map_or(self.sweep_at, |at| at.min(self.sweep_at)),
        }
    }

    fn work(&mut self, requests: Vec<Request>) {
        let claimed = |request: &Request| !request.answer.is_closed() && request.claim.take();
        let requests: Vec<Request> = requests.into_iter().filter(claimed).collect();
        if let State::Failed { error, retry_at } = &self.state {
            if Instant::now() < *retry_at {
                let error = DriverError::from(error.clone()).with_retry_after(self.backoff);
                return refuse(requests, &error);
            }
            if let Err(error) = self.reopen() {
                let error = DriverError::from(error).with_retry_after(self.backoff);
                return refuse(requests, &error);
            }
        }
        let now = self.shared.time.now();
        let max_resident = self.options.max_resident_bytes;
        let shared = self.shared.clone();
        let mut batch = Batch::new(
            &shared.view,
            now,
            self.revision,
            self.resident,
            max_resident,
        );
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
            changes,
            revision,
            resident,
            ..
        } = batch;
        let progress = Progress {
            revision,
            time: now,
        };
        self.finish(evaluated, changes, progress, resident);
    }

    /// Commits, publishes and answers.
    fn finish(
        &mut self,
        evaluated: Vec<Evaluated>,
        changes: Changes,
        progress: Progress,
        resident: usize,
    ) {
        let due = self.flush_at.is_some_and(|at| Instant::now() >= at);
        if changes.is_empty() && !due {
            return answer(evaluated);
        }
        let durable = due || self.options.durability == FileDurability::Immediate;
        let State::Open(engine) = &self.state else {
            return;
        };
        match engine.commit(self.disk.path(), &changes, progress, durable) {
            Ok(()) => {
                self.committed(durable);
                self.revision = progress.revision;
                self.resident = resident;
                self.index(&changes);
                self.shared.view.publish(changes);
                answer(evaluated);
            }
            Err(failed) => self.failed(evaluated, failed, progress.revision),
        }
    }

    fn committed(&mut self, durable: bool) {
        self.backoff = FIRST_BACKOFF;
        match self.options.durability {
            FileDurability::Eventual { within } if !durable => {
                self.flush_at.get_or_insert_with(|| Instant::now() + within);
            }
            _ => self.flush_at = None,
        }
    }

    /// Keeps the order of expiries in step with what is about to be published.
    fn index(&mut self, changes: &Changes) {
        for (key, entry) in changes {
            let before = (self.shared.view.entry(key)).map_or(NEVER, |entry| entry.expires);
            let after = entry.as_ref().map_or(NEVER, |entry| entry.expires);
            if before == after {
                continue;
            }
            if before != NEVER {
                self.expiries.remove(&(before, key.clone()));
            }
            if after != NEVER {
                self.expiries.insert((after, key.clone()));
            }
        }
    }

    /// Answers a batch whose commit failed. What became of it is only known once the file was
    /// read again; where it may be in there, nobody is answered before that was tried.
    fn failed(&mut self, evaluated: Vec<Evaluated>, failed: CommitFailed, revision: u64) {
        let CommitFailed {
            error,
            maybe_applied,
        } = failed;
        error!(path = %self.disk.path().display(), %error, maybe_applied,
            "state file: a commit failed, opening the file anew");
        let lost = self.flush_at.take().is_some();
        if lost {
            error!(path = %self.disk.path().display(),
                "state file: writes acknowledged before they were durable are lost");
        }
        // Whatever happens, these revisions are not used again.
        let before = mem::replace(&mut self.revision, revision);
        self.give_up(error.clone());
        let mut outcome = Outcome::NotApplied;
        if maybe_applied || lost {
            let reopened = self.reopen();
            let there = reopened.map_or(true, |stored| stored > before);
            if maybe_applied && there {
                outcome = Outcome::Unknown;
            }
        }
        let error = DriverError::from(error)
            .with_outcome(outcome)
            .with_retry_after(self.backoff);
        for (caller, _) in evaluated {
            let _ = caller.send(Err(error.clone()));
        }
    }

    fn give_up(&mut self, error: FileError) {
        let retry_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        let state = mem::replace(&mut self.state, State::Failed { error, retry_at });
        if let State::Open(engine) = state {
            engine.abandon(self.disk.path());
        }
    }

    /// Opens the database again and takes over what it holds; returns its last revision.
    fn reopen(&mut self) -> Result<u64, FileError> {
        let max_resident = self.options.max_resident_bytes;
        match Engine::open(&self.disk, &self.shared.view, max_resident) {
            Ok((engine, loaded)) => {
                info!(path = %self.disk.path().display(), "state file is back");
                let stored = loaded.progress.revision;
                self.state = State::Open(engine);
                self.take_over(loaded);
                Ok(stored)
            }
            Err(error) => {
                warn!(path = %self.disk.path().display(), %error, "state file is not back yet");
                self.give_up(error.clone());
                Err(error)
            }
        }
    }

    fn take_over(&mut self, loaded: Loaded) {
        self.expiries = loaded.expiries;
        self.resident = loaded.resident;
        self.revision = self.revision.max(loaded.progress.revision);
        self.shared.view.replace(loaded.shards);
    }

    /// Makes everything durable and notes the time, so that the next run begins after it.
    fn close(self) {
        let State::Open(engine) = self.state else {
            return;
        };
        let path = self.disk.path();
        let time = self.shared.time.now();
        let progress = Progress {
            revision: self.revision,
            time,
        };
        let noted = engine.commit(path, &Changes::new(), progress, true);
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
