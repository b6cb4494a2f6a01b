//! The threads that read values which are not in memory: no thread of a runtime ever waits for
//! the disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::error::FileError;
use super::snapshot::Snapshot;

/// Reads under way at a time; each holds one answer in memory.
const THREADS: usize = 4;
/// Reads that wait for a thread; beyond that callers wait for room.
const WAITING: usize = 1_024;

/// What a reader is asked for: keys with the revisions that the snapshot has of them.
pub(super) struct Wanted {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) keys: Vec<(String, u64)>,
}

type Answer = Result<Vec<Bytes>, FileError>;

struct Job {
    wanted: Wanted,
    answer: oneshot::Sender<Answer>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ReadFailed {
    Closed,
    TimedOut(Duration),
    NoThread(io::Error),
    File(FileError),
}

pub(super) struct Readers {
    places: Semaphore,
    inner: Mutex<Inner>,
    ready: Condvar,
    #[cfg(test)]
    faults: Arc<super::faults::Faults>,
}

struct Inner {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Readers {
    pub(super) fn new(#[cfg(test)] faults: Arc<super::faults::Faults>) -> Arc<Self> {
        Arc::new(Readers {
            places: Semaphore::new(WAITING),
            inner: Mutex::new(Inner {
                jobs: VecDeque::new(),
                threads: 0,
                idle: 0,
                closed: false,
            }),
            ready: Condvar::new(),
            #[cfg(test)]
            faults,
        })
    }

    /// The values, in the order of the keys. Cancel safe: a dropped call is skipped, or read for
    /// nothing.
    pub(super) async fn read(self: &Arc<Self>, wanted: Wanted) -> Result<Vec<Bytes>, ReadFailed> {
        let room = self.places.acquire().await;
        room.map_err(|_| ReadFailed::Closed)?.forget();
        let (answer, values) = oneshot::channel();
        self.push(Job { wanted, answer })?;
        let answered = values.await.map_err(|_| ReadFailed::Closed)?;
        answered.map_err(ReadFailed::File)
    }

    fn push(self: &Arc<Self>, job: Job) -> Result<(), ReadFailed> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(ReadFailed::Closed);
        }
        inner.jobs.push_back(job);
        if inner.idle < inner.jobs.len() && inner.threads < THREADS {
            let readers = self.clone();
            let started = thread::Builder::new()
                .name("infra-state-read".to_owned())
                .spawn(move || readers.work());
            match started {
                Ok(_) => inner.threads += 1,
                Err(error) if inner.threads == 0 => {
                    inner.jobs.clear();
                    self.places.add_permits(1);
                    return Err(ReadFailed::NoThread(error));
                }
                // The others get to it.
                Err(_) => {}
            }
        }
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// Ends the threads; what waits is dropped.
    pub(super) fn close(&self) {
        self.places.close();
        let mut inner = self.lock();
        inner.closed = true;
        inner.jobs.clear();
        drop(inner);
        self.ready.notify_all();
    }

    fn work(&self) {
        while let Some(Job { wanted, answer }) = self.next() {
            self.places.add_permits(1);
            if answer.is_closed() {
                continue;
            }
            let value = |(key, revision): &(String, u64)| {
                #[cfg(test)]
                (self.faults.on_read())
                    .map_err(|error| FileError::io(std::path::Path::new(key), &error))?;
                wanted.snapshot.value(key, *revision)
            };
            let values = wanted.keys.iter().map(value).collect();
            // The snapshot goes first: whoever waits for the answer may wait for that too.
            drop(wanted);
            let _: Result<(), Answer> = answer.send(values);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if let Some(job) = inner.jobs.pop_front() {
                return Some(job);
            }
            if inner.closed {
                return None;
            }
            inner.idle += 1;
            let woken = self.ready.wait(inner);
            inner = woken.unwrap_or_else(PoisonError::into_inner);
            inner.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
