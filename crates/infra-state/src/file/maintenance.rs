//! Copies of a store in use, and space that is given back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use infra_core::Outcome;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use super::FileDriver;
use super::config::FileOptions;
use super::control::Request;
use super::disk::{Disk, Unnamed};
use super::engine::Engine;
use super::error::{FileError, FileFault, closed, thread_gone, timed_out};
use super::queue::Claim;
use super::row::Progress;
use super::snapshot::{Pair, Snapshot};
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// Bytes and keys that one commit of a copy takes.
const COPIED_BYTES: usize = 8 << 20;
const COPIED_KEYS: usize = 10_000;
/// How often a long copy says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// A finished copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Keys in it, also expired ones that were not yet removed.
    pub keys: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What a compaction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Bytes of the file before.
    pub before: u64,
    /// Bytes of the file after.
    pub after: u64,
}

impl FileDriver {
    /// Copies the store as it is at this moment, while it is in use. Everything that was
    /// acknowledged before the call is in the copy, nothing of what is written later.
    ///
    /// The copy is written beside `to`, read back and compared, and only then gets its name, in
    /// place of an older file that has it: whatever happens, `to` is a complete copy or what it was
    /// before. It is a state file like any other; versions of the original conflict there. While it
    /// is being made, the original keeps the pages of that moment, and so it may grow.
    ///
    /// Cancel safe: a dropped call ends, and leaves nothing behind.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyOpen`] where `to` is a store in use, as this one is;
    /// [`ErrorKind::InvalidPath`], [`ErrorKind::Permission`], [`ErrorKind::Capacity`] for a full
    /// disk; [`ErrorKind::Timeout`] after `limit`, [`ErrorKind::Closed`]. The source is a
    /// [`FileError`] that names the copy.
    pub async fn backup(
        &self,
        to: impl Into<PathBuf>,
        limit: Duration,
    ) -> Result<Backup, DriverError> {
        let (to, abandoned) = (to.into(), Abandon::default());
        let claim = abandoned.0.clone();
        let options = self.options.clone();
        let copied = timeout(limit, async {
            let snapshot = self.ask(Request::Snapshot).await?;
            let (answer, copied) = oneshot::channel();
            thread::Builder::new()
                .name("infra-state-copy".to_owned())
                .spawn(move || {
                    let copied = copy(&snapshot, &to, &options, &claim);
                    drop(snapshot);
                    let _ = answer.send(copied);
                })
                .map_err(|error| {
                    DriverError::new(ErrorKind::Unavailable, "no thread for the copy")
                        .with_source(error)
                })?;
            Ok(copied.await.map_err(|_| thread_gone())??)
        });
        match copied.await {
            Ok(copied) => copied,
            Err(_) if abandoned.0.take() => Err(timed_out(limit, Outcome::NotApplied)),
            Err(_) => Err(timed_out(limit, Outcome::Unknown)),
        }
    }

    /// Gives back what the file no longer needs. Writes wait until that is done, and so do reads
    /// of values that are not in memory; it may take as long as copying the file. When it is
    /// opened, a file of more than four times what it holds is compacted anyway.
    ///
    /// Not cancel safe: once begun, it goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while a backup is being made; [`ErrorKind::Timeout`] after `limit`;
    /// [`ErrorKind::Closed`], and what the disk refuses.
    pub async fn compact(&self, limit: Duration) -> Result<Compaction, DriverError> {
        match timeout(limit, self.ask(Request::Compact)).await {
            Ok(done) => done.map(|(before, after)| Compaction { before, after }),
            Err(_) => Err(timed_out(limit, Outcome::Unknown)),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(super::control::Answer<T>) -> Request,
    ) -> Result<T, DriverError> {
        let (answer, answered) = oneshot::channel();
        if self.shared.queue.is_closed() {
            return Err(closed());
        }
        if !self.shared.control.ask(request(answer)) {
            let message = "too many copies and compactions are under way";
            return Err(DriverError::new(ErrorKind::Busy, message));
        }
        self.shared.queue.poke();
        answered.await.map_err(|_| closed())?
    }
}

/// Stops the copy when its caller is gone, unless it is about to get its name.
#[derive(Default)]
struct Abandon(Claim);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.take();
    }
}

fn copy(
    snapshot: &Arc<Snapshot>,
    to: &Path,
    options: &FileOptions,
    claim: &Claim,
) -> Result<Backup, FileError> {
    let path = std::path::absolute(to).map_err(|error| FileError::io(to, &error))?;
    Disk::check_unused(&path, options)?;
    let unnamed = Unnamed::create(&path, options)?;
    let copied = fill(snapshot, unnamed.disk(), claim).and_then(|sum| {
        let bytes = unnamed.disk().len()?;
        match claim.take() {
            true => Ok((sum, bytes)),
            false => Err(abandoned(&path)),
        }
    });
    let (sum, bytes) = match copied {
        Ok(copied) => copied,
        Err(error) => {
            unnamed.discard();
            return Err(error);
        }
    };
    unnamed.replace()?;
    info!(path = %path.display(), keys = sum.keys, bytes, "state file copied");
    Ok(Backup {
        path,
        keys: sum.keys,
        bytes,
    })
}

fn abandoned(path: &Path) -> FileError {
    FileError::new(path, FileFault::Io).detail("nobody waits for the copy any more")
}

/// Writes the copy and reads it back.
fn fill(snapshot: &Snapshot, disk: &Disk, claim: &Claim) -> Result<Sum, FileError> {
    let path = disk.path();
    let mut copy = Copy {
        engine: Engine::initialise(disk)?,
        path,
        claim,
        progress: snapshot.progress()?,
        pairs: Vec::new(),
        bytes: 0,
        sum: Sum::default(),
        say_at: Instant::now() + SAY_EVERY,
    };
    snapshot.pairs(|pair| copy.add(pair))?;
    copy.write()?;
    let Copy { engine, sum, .. } = copy;
    engine.close(path)?;

    let verified = Engine::verified(disk)?;
    let mut found = Sum::default();
    verified.snapshot(path)?.pairs(|pair| {
        found.add(&pair);
        Ok(())
    })?;
    verified.close(path)?;
    match found.is(&sum) {
        true => Ok(sum),
        false => {
            Err(FileError::new(path, FileFault::Corrupted)
                .detail("the copy is not what was written"))
        }
    }
}

struct Copy<'c> {
    engine: Engine,
    path: &'c Path,
    claim: &'c Claim,
    progress: Progress,
    pairs: Vec<Pair>,
    bytes: usize,
    sum: Sum,
    say_at: Instant,
}

impl Copy<'_> {
    fn add(&mut self, pair: Pair) -> Result<(), FileError> {
        self.sum.add(&pair);
        self.bytes += pair.key.len() + pair.value.len();
        self.pairs.push(pair);
        match self.bytes < COPIED_BYTES && self.pairs.len() < COPIED_KEYS {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn write(&mut self) -> Result<(), FileError> {
        if self.claim.is_taken() {
            return Err(abandoned(self.path));
        }
        self.engine.copy(self.path, &self.pairs, self.progress)?;
        self.pairs.clear();
        self.bytes = 0;
        if Instant::now() >= self.say_at {
            self.say_at = Instant::now() + SAY_EVERY;
            info!(path = %self.path.display(), keys = self.sum.keys, "state file being copied");
        }
        Ok(())
    }
}

/// What two files with the same content have in common.
#[derive(Default)]
struct Sum {
    keys: u64,
    hash: crc32fast::Hasher,
}

impl Sum {
    fn add(&mut self, pair: &Pair) {
        self.keys += 1;
        let numbers = [
            pair.revision,
            pair.expires,
            pair.key.len() as u64,
            pair.value.len() as u64,
        ];
        for number in numbers {
            self.hash.update(&number.to_be_bytes());
        }
        self.hash.update(pair.key.as_bytes());
        self.hash.update(&pair.value);
    }

    fn is(&self, other: &Sum) -> bool {
        let hash = |sum: &Sum| sum.hash.clone().finalize();
        self.keys == other.keys && hash(self) == hash(other)
    }
}
