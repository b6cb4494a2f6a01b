//! What happens, told to whoever listens: bounded, in order, losses counted.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use serde::Serialize;

use crate::audit::AuditKind;
use crate::hold::{HoldId, unix_millis};
use crate::level::{Action, Level};
use crate::procedure::HaltReport;
use crate::scope::{Scope, Scopes};

/// A change of the holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Counts up by one for each change of a controller, from 1.
    pub sequence: u64,
    /// [`AuditKind::Raised`] or [`AuditKind::Cleared`].
    pub what: AuditKind,
    /// The holds raised or cleared.
    pub holds: Vec<HoldId>,
    /// Whom it concerns; for a clear of holds on several scopes, [`Scope::Global`].
    pub scope: Scope,
    /// The level of the scope before.
    pub before: Level,
    /// The level of the scope after: the highest of the remaining holds, which may differ from the
    /// level of this hold.
    pub after: Level,
    /// Who.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// When, on the wall clock. Milliseconds since 1970 in JSON.
    #[serde(serialize_with = "unix_millis")]
    pub at: SystemTime,
}

impl Change {
    /// Whether the level of the scope is another one than before.
    pub fn level_changed(&self) -> bool {
        self.before != self.after
    }
}

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// Holds were raised or cleared.
    Changed(Arc<Change>),
    /// Somebody passed a gate at level Alert.
    EnteredUnderAlert {
        /// What they do.
        action: Action,
        /// Who they are.
        scopes: Arc<Scopes>,
    },
    /// An attempt of a handler or hook failed. The level stays.
    HookFailed(HookFailure),
    /// The halt hooks have run to their end.
    Swept(Arc<HaltReport>),
    /// This listener was too slow and missed that many signals; sent before the next one.
    Missed(u64),
}

/// A failed attempt of a handler or hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HookFailure {
    /// The name under which it was registered.
    pub hook: Arc<str>,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// What happened.
    pub failure: Failure,
    /// When it is tried again; `None` when this was the last attempt.
    pub retry_in: Option<Duration>,
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Failure {
    /// It returned an error.
    Error(String),
    /// It panicked.
    Panic,
    /// It took longer than the timeout and was stopped.
    TimedOut,
    /// The runtime was shut down under it.
    Cancelled,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(text) => f.write_str(text),
            Failure::Panic => f.write_str("panicked"),
            Failure::TimedOut => f.write_str("took too long"),
            Failure::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// Signals from the moment of [`subscribe`](crate::EmergencyController::subscribe) on, in order.
///
/// A [`Stream`] that never ends while a controller lives. Holds at most its capacity; when it is
/// full the oldest are dropped and [`Signal::Missed`] says how many. [`Signal::EnteredUnderAlert`]
/// takes at most half of it, so that busy gates cannot push out a halt. Cancel safe.
pub struct Signals {
    queue: Arc<Queue>,
}

pub(crate) struct Queue {
    state: Mutex<QueueState>,
    capacity: usize,
}

struct QueueState {
    waiting: VecDeque<Signal>,
    missed: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Signals {
    /// The next signal; `None` once all controllers and gates are gone.
    pub async fn recv(&mut self) -> Option<Signal> {
        std::future::poll_fn(|cx| self.queue.poll(cx)).await
    }

    /// The next signal if there is one.
    pub fn try_recv(&mut self) -> Option<Signal> {
        self.queue.lock().pop()
    }
}

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        self.queue.poll(cx)
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.lock().waiting.len();
        f.debug_struct("Signals")
            .field("waiting", &waiting)
            .finish()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        let mut state = self.lock();
        if let Some(signal) = state.pop() {
            return Poll::Ready(Some(signal));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn push(&self, signal: &Signal) -> Option<Waker> {
        let mut state = self.lock();
        // What is told of each action must not push out what is told of the level.
        let chatter = matches!(signal, Signal::EnteredUnderAlert { .. });
        if chatter && state.waiting.len() >= self.capacity / 2 {
            state.missed += 1;
            return None;
        }
        if state.waiting.len() >= self.capacity {
            state.waiting.pop_front();
            state.missed += 1;
        }
        state.waiting.push_back(signal.clone());
        state.waker.take()
    }
}

impl QueueState {
    fn pop(&mut self) -> Option<Signal> {
        match std::mem::take(&mut self.missed) {
            0 => self.waiting.pop_front(),
            missed => Some(Signal::Missed(missed)),
        }
    }
}

/// Everybody who listens.
#[derive(Default)]
pub(crate) struct Hub {
    queues: Mutex<Vec<Weak<Queue>>>,
}

/// Wakes listeners when dropped or called: never while a lock is held.
#[must_use = "listeners sleep until they are woken"]
pub(crate) struct Wakers(Vec<Waker>);

impl Wakers {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Hub {
    pub(crate) fn subscribe(&self, capacity: usize) -> Signals {
        let queue = Arc::new(Queue {
            state: Mutex::new(QueueState {
                waiting: VecDeque::new(),
                missed: 0,
                waker: None,
                closed: false,
            }),
            capacity: capacity.max(1),
        });
        let mut queues = self.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Signals { queue }
    }

    /// Puts a signal into every queue; the caller wakes the listeners once it holds no lock.
    pub(crate) fn push(&self, signal: &Signal) -> Wakers {
        let queues = self.lock();
        let alive = queues.iter().filter_map(Weak::upgrade);
        Wakers(alive.filter_map(|queue| queue.push(signal)).collect())
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.lock().iter().any(|queue| queue.strong_count() > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for queue in self.lock().iter().filter_map(Weak::upgrade) {
            let waker = {
                let mut state = queue.lock();
                state.closed = true;
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
