//! A queue in front of something scarce: strictly first come, first served.
//!
//! Only the head of the queue may try to take, and newcomers queue up behind it, so nobody
//! overtakes. A waiter that is dropped leaves the queue and owes nothing. Wakers are called after
//! the lock is released.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use infra_core::{Clock, Deadline, MonoTime, Sleep};

use crate::call_error::RejectReason;

/// What is behind the turnstile.
pub(crate) trait Scarce {
    /// Takes `weight` of it, or says how long that must wait.
    fn try_take(&mut self, weight: u32, now: MonoTime) -> Take;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Taken,
    /// After so long, if nobody else takes; `None` where only an event can tell.
    Wait(Option<Duration>),
    /// Never: more than there is.
    TooHeavy,
}

/// A refusal: why, and how long the wait would have been where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: RejectReason,
    pub(crate) retry_after: Option<Duration>,
}

/// Something that has a turnstile, borrowed or shared.
pub(crate) trait Gate: Unpin {
    type Scarce: Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce>;
    fn clock(&self) -> &dyn Clock;
}

impl<G: Gate> Gate for &G {
    type Scarce = G::Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce> {
        (**self).turnstile()
    }
    fn clock(&self) -> &dyn Clock {
        (**self).clock()
    }
}

impl<G: Gate> Gate for Arc<G> {
    type Scarce = G::Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce> {
        (**self).turnstile()
    }
    fn clock(&self) -> &dyn Clock {
        (**self).clock()
    }
}

pub(crate) struct Turnstile<R> {
    inner: Mutex<Inner<R>>,
}

struct Inner<R> {
    scarce: R,
    queue_limit: usize,
    next_id: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl<R: Scarce> Turnstile<R> {
    pub(crate) fn new(scarce: R, queue_limit: u32) -> Self {
        Turnstile {
            inner: Mutex::new(Inner {
                scarce,
                queue_limit: queue_limit as usize,
                next_id: 0,
                waiting: BTreeMap::new(),
            }),
        }
    }

    /// Takes at once or not at all.
    pub(crate) fn try_take(&self, weight: u32, now: MonoTime) -> Result<(), Refused> {
        let mut inner = self.lock();
        let queued = !inner.waiting.is_empty();
        if queued {
            return Err(Refused::queue_full(None));
        }
        match inner.scarce.try_take(weight, now) {
            Take::Taken => Ok(()),
            Take::Wait(wait) => Err(Refused::queue_full(wait)),
            Take::TooHeavy => Err(Refused::too_heavy()),
        }
    }

    /// Changes what is behind the turnstile, and lets the head of the queue look again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut R) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.scarce);
        let head = inner.head();
        drop(inner);
        wake(head);
        result
    }

    /// Looks at what is behind the turnstile.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&R) -> T) -> T {
        look(&self.lock().scarce)
    }

    /// How many are waiting.
    pub(crate) fn queued(&self) -> usize {
        self.lock().waiting.len()
    }

    fn leave(&self, id: u64) {
        let mut inner = self.lock();
        inner.waiting.remove(&id);
        let head = inner.head();
        drop(inner);
        wake(head);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Inner<R> {
    fn head(&self) -> Option<Waker> {
        self.waiting
            .first_key_value()
            .map(|(_, waker)| waker.clone())
    }

    fn is_turn_of(&self, id: Option<u64>) -> bool {
        self.waiting.first_key_value().map(|(first, _)| *first) == id
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Refused {
    fn queue_full(retry_after: Option<Duration>) -> Self {
        Refused {
            reason: RejectReason::QueueFull,
            retry_after,
        }
    }

    fn too_late(retry_after: Option<Duration>) -> Self {
        Refused {
            reason: RejectReason::WaitTooLong,
            retry_after,
        }
    }

    fn too_heavy() -> Self {
        Refused {
            reason: RejectReason::TooHeavy,
            retry_after: None,
        }
    }
}

/// Waits in the queue of a gate until `weight` could be taken, at most until `give_up`. Cancel
/// safe.
pub(crate) struct Taking<G: Gate> {
    gate: G,
    weight: u32,
    give_up: Deadline,
    id: Option<u64>,
    sleep: Option<(MonoTime, Sleep)>,
}

impl<G: Gate> Future for Taking<G> {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let now = self.gate.clock().now();
            let until = match self.advance(now, cx) {
                Ok(until) => until,
                Err(result) => return Poll::Ready(result),
            };
            if self.sleep_until(until, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<G: Gate> Taking<G> {
    pub(crate) fn new(gate: G, weight: u32, give_up: Deadline) -> Self {
        Taking {
            gate,
            weight,
            give_up,
            id: None,
            sleep: None,
        }
    }

    /// Takes, gives up, or says until when to sleep.
    fn advance(
        &mut self,
        now: MonoTime,
        cx: &Context<'_>,
    ) -> Result<MonoTime, Result<(), Refused>> {
        let mut inner = self.gate.turnstile().lock();
        let mut wait = None;
        if inner.is_turn_of(self.id) {
            wait = match inner.scarce.try_take(self.weight, now) {
                Take::Taken => return Err(end(&mut self.id, inner, Ok(()))),
                Take::TooHeavy => {
                    return Err(end(&mut self.id, inner, Err(Refused::too_heavy())));
                }
                Take::Wait(wait) => wait,
            };
        }
        if self.id.is_none() && inner.waiting.len() >= inner.queue_limit {
            return Err(Err(Refused::queue_full(wait)));
        }
        // The head knows how long it must wait: too long is known at once.
        let too_long = wait.is_some_and(|wait| now.plus(wait) > self.give_up.time());
        if self.give_up.is_expired(now) || too_long {
            return Err(end(&mut self.id, inner, Err(Refused::too_late(wait))));
        }
        match self.id {
            Some(id) => {
                inner.waiting.insert(id, cx.waker().clone());
            }
            None => {
                let id = inner.next_id;
                inner.next_id += 1;
                inner.waiting.insert(id, cx.waker().clone());
                self.id = Some(id);
            }
        }
        let ready = wait.map_or(MonoTime::NEVER, |wait| now.plus(wait));
        Ok(ready.min(self.give_up.time()))
    }

    fn sleep_until(&mut self, until: MonoTime, cx: &mut Context<'_>) -> Poll<()> {
        if until == MonoTime::NEVER {
            return Poll::Pending;
        }
        if self.sleep.as_ref().is_none_or(|(at, _)| *at != until) {
            self.sleep = Some((until, self.gate.clock().sleep_until(until)));
        }
        let Some((_, sleep)) = &mut self.sleep else {
            return Poll::Pending;
        };
        let slept = Pin::new(sleep).poll(cx);
        if slept.is_ready() {
            self.sleep = None;
        }
        slept
    }
}

/// Leaves the queue and lets the next one try.
fn end<R>(
    id: &mut Option<u64>,
    mut inner: MutexGuard<'_, Inner<R>>,
    result: Result<(), Refused>,
) -> Result<(), Refused> {
    if let Some(id) = id.take() {
        inner.waiting.remove(&id);
        let head = inner.head();
        drop(inner);
        wake(head);
    }
    result
}

impl<G: Gate> Drop for Taking<G> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.gate.turnstile().leave(id);
        }
    }
}

impl<R> fmt::Debug for Turnstile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turnstile").finish_non_exhaustive()
    }
}
