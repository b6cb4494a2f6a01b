//! The bounded queue between callers and the thread that owns the file.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

use super::batch::{Op, Reply};
use crate::driver::DriverError;

/// Operations and bytes that one commit takes: enough to share its cost, few enough that a caller
/// waits for two short commits at most.
const MAX_OPS: usize = 256;
const MAX_BYTES: usize = 1 << 20;
/// So many bytes count as one place in the queue.
const BYTES_PER_PLACE: usize = 16 * 1024;

pub(super) type Answer = Result<Reply, DriverError>;

pub(super) struct Queue {
    places: Semaphore,
    capacity: usize,
    inner: Mutex<Inner>,
    ready: Condvar,
}

struct Inner {
    requests: VecDeque<Request>,
    closed: bool,
    poked: bool,
}

/// An operation and who waits for it.
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) claim: Claim,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Taken once: by the thread, which then evaluates the operation, or by a caller whose time is
/// up, whose operation then never happens.
#[derive(Clone, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

/// The queue was closed.
#[derive(Debug)]
pub(super) struct QueueClosed;

pub(super) enum Taken {
    Requests(Vec<Request>),
    /// The time came, or somebody poked.
    Nothing,
    /// Closed, and nothing is left.
    Closed,
}

impl Claim {
    /// True for the first who asks.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Request {
    fn places(&self, capacity: usize) -> usize {
        (1 + self.op.bytes() / BYTES_PER_PLACE).min(capacity)
    }
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Queue {
            places: Semaphore::new(capacity),
            capacity,
            inner: Mutex::new(Inner {
                requests: VecDeque::new(),
                closed: false,
                poked: false,
            }),
            ready: Condvar::new(),
        }
    }

    /// Waits for room. Cancel safe: a dropped call queues nothing.
    pub(super) async fn push(&self, request: Request) -> Result<(), QueueClosed> {
        let places = request.places(self.capacity) as u32;
        let room = self.places.acquire_many(places).await;
        room.map_err(|_| QueueClosed)?.forget();
        let mut inner = self.lock();
        if inner.closed {
            return Err(QueueClosed);
        }
        inner.requests.push_back(request);
        drop(inner);
        self.ready.notify_one();
        Ok(())
    }

    /// What waits, up to the bounds of one commit; waits for the first one until `until`.
    pub(super) fn take(&self, until: Instant) -> Taken {
        let mut inner = self.lock();
        while inner.requests.is_empty() {
            if std::mem::take(&mut inner.poked) {
                return Taken::Nothing;
            }
            if inner.closed {
                return Taken::Closed;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            let woken = self.ready.wait_timeout(inner, left);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let requests = inner.drain();
        drop(inner);
        let places = requests
            .iter()
            .map(|request| request.places(self.capacity))
            .sum();
        self.places.add_permits(places);
        Taken::Requests(requests)
    }

    /// Wakes the thread up, for what is not in the queue.
    pub(super) fn poke(&self) {
        self.lock().poked = true;
        self.ready.notify_one();
    }

    /// Refuses what comes from now on; what waits is still taken.
    pub(super) fn close(&self) {
        self.places.close();
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Drops what waits, so that its callers learn that nobody will answer.
    pub(super) fn abandon(&self) {
        self.close();
        self.lock().requests.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn drain(&mut self) -> Vec<Request> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(request) = self.requests.front() {
            bytes += request.op.bytes();
            if !taken.is_empty() && (taken.len() == MAX_OPS || bytes > MAX_BYTES) {
                break;
            }
            taken.extend(self.requests.pop_front());
        }
        taken
    }
}
