//! What the thread does when the disk fails: it gives the database up and opens it anew, for as
//! long as it takes.

use std::mem;
use std::time::{Duration, Instant};

use infra_core::Outcome;
use tracing::{debug, error, info, warn};

use super::batch::Op;
use super::engine::{CommitFailed, Engine, OpenFailed};
use super::error::{FileError, FileFault};
use super::load::Loaded;
use super::queue::Request;
use super::row::Progress;
use super::trouble::Over;
use super::writer::{Evaluated, State, Writer};
use crate::driver::DriverError;

pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

impl Writer {
    /// Whether there is an open database, after an attempt to get one where it is time for that.
    pub(super) fn ready(&mut self) -> Result<(), FileError> {
        self.check_place()?;
        match &self.state {
            State::Open(_) if self.shared.control.take_suspicion() => {
                let what = "a read of the database failed";
                let error = FileError::new(self.disk.path(), FileFault::Io).detail(what);
                // Whose read it was has told the log.
                let _ = self.trouble.happened(Instant::now());
                self.give_up(error, None);
                self.reopen().map(|_| ())
            }
            State::Open(_) => Ok(()),
            State::Failed {
                error, retry_at, ..
            } if Instant::now() < *retry_at => Err(error.clone()),
            State::Failed { .. } => self.reopen().map(|_| ()),
        }
    }

    /// Nothing is acknowledged that could not be found again under the name of the file.
    fn check_place(&mut self) -> Result<(), FileError> {
        let removed = !self.disk.is_in_place();
        let path = self.disk.path();
        let error = removed.then(|| FileError::new(path, FileFault::Removed));
        if std::mem::replace(&mut self.removed, removed) != removed {
            match &error {
                Some(error) => error!(%error, "state file is gone, writes are refused"),
                None => info!(path = %path.display(), "state file is back, writes go on"),
            }
        }
        error.map_or(Ok(()), Err)
    }

    /// After the disk was full: whoever asks whether the store is well waits until as much as there
    /// was no room for could be written. Others try for themselves.
    pub(super) fn check_room(&mut self, requests: &[Request]) -> Result<(), FileError> {
        let asked = requests
            .iter()
            .any(|request| matches!(request.op, Op::Ping));
        let (true, Some(bytes), State::Open(engine)) = (asked, self.space.to_probe(), &self.state)
        else {
            return Ok(());
        };
        let progress = Progress {
            revision: self.revision,
            time: self.shared.time.now(),
            reserved: self.reserved,
        };
        match engine.probe(self.disk.path(), progress, bytes as usize) {
            Ok(()) => {
                self.space.committed(bytes, Some(0));
                self.flush_at = None;
                self.tell_if_well();
                Ok(())
            }
            Err(failed) => {
                let error = failed.error.clone();
                self.failed(Vec::new(), failed, self.revision);
                Err(error)
            }
        }
    }

    /// Answers a batch whose commit failed. What became of it is only known once the file was
    /// read again; where it may be in there, nobody is answered before that was tried.
    pub(super) fn failed(
        &mut self,
        evaluated: Vec<Evaluated>,
        failed: CommitFailed,
        revision: u64,
    ) {
        let CommitFailed {
            error,
            maybe_applied,
        } = failed;
        let path = self.disk.path().display();
        match self.trouble.happened(Instant::now()) {
            Some(untold) => error!(%path, %error, maybe_applied, more_failures = some(untold),
                "state file: a commit failed, opening the file anew"),
            None => debug!(%path, %error, maybe_applied, "state file: a commit failed again"),
        }
        let lost = self.flush_at.take().is_some();
        if lost {
            error!(path = %self.disk.path().display(),
                "state file: writes acknowledged before they were durable are lost");
        }
        // Whatever happens, these revisions are not used again.
        let before = mem::replace(&mut self.revision, revision);
        self.give_up(error.clone(), None);
        let mut outcome = Outcome::NotApplied;
        // Values that are not in memory cannot be read until the file is open again.
        if maybe_applied || lost || self.needs_file() {
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

    fn give_up(&mut self, error: FileError, readable: Option<Engine>) {
        let retry_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        let failed = State::Failed {
            error,
            retry_at,
            readable,
        };
        match mem::replace(&mut self.state, failed) {
            State::Open(engine) => engine.abandon(self.disk.path()),
            State::Failed { readable, .. } => {
                if let Some(engine) = readable {
                    engine.abandon(self.disk.path());
                }
            }
        }
    }

    /// Opens the database again and takes over what it holds; returns its last revision.
    fn reopen(&mut self) -> Result<u64, FileError> {
        let max_resident = self.options.max_resident_bytes;
        match Engine::open(&self.disk, &self.shared.view, max_resident) {
            Ok((engine, loaded)) => {
                debug!(path = %self.disk.path().display(), "state file open again");
                let stored = loaded.progress.revision;
                let before = mem::replace(&mut self.state, State::Open(engine));
                self.take_over(loaded);
                self.shared.hub.gap("the file was opened anew");
                if let State::Failed {
                    readable: Some(engine),
                    ..
                } = before
                {
                    engine.abandon(self.disk.path());
                }
                self.tell_if_well();
                Ok(stored)
            }
            Err(OpenFailed { error, readable }) => {
                let path = self.disk.path().display();
                match self.trouble.happened(Instant::now()) {
                    Some(untold) => warn!(%path, %error, more_failures = some(untold),
                        "state file is not back yet"),
                    None => debug!(%path, %error, "state file is not back yet"),
                }
                self.not_back(error.clone(), readable);
                Err(error)
            }
        }
    }

    /// After trouble: says that it is over, unless the disk may still be full.
    pub(super) fn tell_if_well(&mut self) {
        if self.space.to_probe().is_some() {
            return;
        }
        if let Some(Over { lasted, untold }) = self.trouble.over(Instant::now()) {
            info!(path = %self.disk.path().display(), lasted_ms = lasted.as_millis() as u64,
                more_failures = some(untold), "state file is back");
        }
    }

    /// Until the next attempt what is not in memory is read from a database that cannot be
    /// written, if there is one.
    fn not_back(&mut self, error: FileError, found: Option<Box<(Engine, Loaded)>>) {
        let before = match &mut self.state {
            State::Failed { readable, .. } => readable.take(),
            State::Open(_) => None,
        };
        match (before, found.map(|found| *found)) {
            (Some(engine), found) => {
                if let Some((superfluous, _)) = found {
                    superfluous.abandon(self.disk.path());
                }
                self.give_up(error, Some(engine));
            }
            (None, Some((engine, loaded))) => {
                self.give_up(error, Some(engine));
                self.take_over(loaded);
            }
            (None, None) => self.give_up(error, None),
        }
    }
}

/// What is not worth a field of the line where there is none.
fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}
