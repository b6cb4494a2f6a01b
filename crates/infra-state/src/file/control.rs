//! What is asked of the thread beside operations: it gets to it between two commits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::FileError;
use super::snapshot::Snapshot;
use crate::driver::DriverError;

/// Values that were read from the file and wait to be taken back into memory.
const RETURNING: usize = 64;
/// Requests that wait for the thread.
const WAITING: usize = 16;

/// Something else than an operation.
pub(super) enum Request {
    /// The last commit, to be copied.
    Snapshot(Answer<Arc<Snapshot>>),
    /// Give back what the file no longer needs; the bytes before and after.
    Compact(Answer<(u64, u64)>),
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, DriverError>>;

/// A value read from the file, of this revision of the key.
pub(super) struct Returning {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) value: Bytes,
}

#[derive(Default)]
pub(super) struct Control {
    inner: Mutex<Inner>,
    suspect: AtomicBool,
}

#[derive(Default)]
struct Inner {
    requests: VecDeque<Request>,
    returning: Vec<Returning>,
    closed: bool,
}

impl Control {
    /// Leaves a request to the thread; false when there are too many, or it has ended.
    pub(super) fn ask(&self, request: Request) -> bool {
        let mut inner = self.lock();
        let room = !inner.closed && inner.requests.len() < WAITING;
        if room {
            inner.requests.push_back(request);
        }
        room
    }

    pub(super) fn next(&self) -> Option<Request> {
        self.lock().requests.pop_front()
    }

    /// Offers a value to be taken back into memory; true when the thread should do so soon.
    pub(super) fn offer(&self, returning: Returning) -> bool {
        let mut inner = self.lock();
        if inner.returning.len() < RETURNING {
            inner.returning.push(returning);
        }
        inner.returning.len() == RETURNING
    }

    pub(super) fn returning(&self) -> Vec<Returning> {
        std::mem::take(&mut self.lock().returning)
    }

    /// A read has failed: the database is worth nothing any more until it is opened anew.
    pub(super) fn suspect(&self, error: &FileError) {
        tracing::warn!(path = %error.path().display(), %error, "state file: a read failed");
        self.suspect.store(true, Ordering::Release);
    }

    pub(super) fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::AcqRel)
    }

    /// Drops what waits.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.requests.clear();
        inner.returning.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
