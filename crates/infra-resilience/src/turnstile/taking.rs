//! One wait at a turnstile.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::{Deadline, DirectClock, MonoTime, Sleep};

use super::{Held, Place, Refused, Scarce, Take, Turnstile, wake};

/// Something that has a turnstile, borrowed or shared.
pub(crate) trait Gate: Unpin {
    type Scarce: Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce>;
    fn clock(&self) -> &DirectClock;
    /// How long anybody may wait at most.
    fn max_wait(&self) -> Option<Duration>;
}

impl<G: Gate> Gate for &G {
    type Scarce = G::Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce> {
        (**self).turnstile()
    }
    fn clock(&self) -> &DirectClock {
        (**self).clock()
    }
    fn max_wait(&self) -> Option<Duration> {
        (**self).max_wait()
    }
}

impl<G: Gate> Gate for Arc<G> {
    type Scarce = G::Scarce;
    fn turnstile(&self) -> &Turnstile<Self::Scarce> {
        (**self).turnstile()
    }
    fn clock(&self) -> &DirectClock {
        (**self).clock()
    }
    fn max_wait(&self) -> Option<Duration> {
        (**self).max_wait()
    }
}

/// Waits in the queue of a gate until what was asked for could be taken, at most until `deadline`,
/// and says when it was, where that matters. The longest wait counts from the first poll. Cancel
/// safe.
pub(crate) struct Taking<G: Gate> {
    gate: G,
    ask: <G::Scarce as Scarce>::Ask,
    deadline: Deadline,
    /// Set once the first attempt has failed.
    give_up: Option<Deadline>,
    place: Option<Place>,
    sleep: Option<(MonoTime, Sleep)>,
}

type Taken = Result<MonoTime, Refused>;

impl<G: Gate> Future for Taking<G> {
    type Output = Taken;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Taken> {
        let give_up = match self.give_up {
            Some(give_up) => give_up,
            None => match self.begin() {
                Ok(taken) => return Poll::Ready(Ok(taken)),
                Err(give_up) => *self.give_up.insert(give_up),
            },
        };
        loop {
            let now = self.gate.clock().now();
            let until = match self.advance(now, give_up, cx) {
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
    pub(crate) fn new(gate: G, ask: <G::Scarce as Scarce>::Ask, deadline: Deadline) -> Self {
        Taking {
            gate,
            ask,
            deadline,
            give_up: None,
            place: None,
            sleep: None,
        }
    }

    #[cfg(feature = "tower")]
    pub(crate) fn gate(&self) -> &G {
        &self.gate
    }

    /// Takes without the lock, or says when to give up. Asks for the time only where it matters.
    fn begin(&self) -> Result<MonoTime, Deadline> {
        let clock = self.gate.clock();
        let timed = G::Scarce::NEEDS_TIME.then(|| clock.now());
        let now = timed.unwrap_or_default();
        if self.gate.turnstile().try_quickly(self.ask, now) == Some(Take::Taken) {
            return Ok(now);
        }
        let now = timed.unwrap_or_else(|| clock.now());
        let longest = self.gate.max_wait();
        let own = longest.map_or(Deadline::NEVER, |wait| Deadline::after(now, wait));
        Err(own.earlier(self.deadline))
    }

    /// Takes, gives up, or says until when to sleep.
    fn advance(
        &mut self,
        now: MonoTime,
        give_up: Deadline,
        cx: &Context<'_>,
    ) -> Result<MonoTime, Taken> {
        let turnstile = self.gate.turnstile();
        let rank = G::Scarce::rank(self.ask);
        let mut inner = turnstile.lock();
        let mut wait = None;
        if inner.may_try(self.place, rank) {
            wait = match inner.scarce.try_take(self.ask, now) {
                Take::Taken => return Err(end(&mut self.place, inner, Ok(now))),
                Take::TooHeavy => {
                    return Err(end(&mut self.place, inner, Err(Refused::too_heavy())));
                }
                Take::Wait(wait) => wait,
            };
        }
        if self.place.is_none() && !inner.has_place_for(rank) {
            return Err(Err(Refused::queue_full(wait)));
        }
        // The head knows how long it must wait: too long is known at once.
        let too_long = wait.is_some_and(|wait| now.plus(wait) > give_up.time());
        if give_up.is_expired(now) || too_long {
            return Err(end(&mut self.place, inner, Err(Refused::too_late(wait))));
        }
        let mut shed = None;
        match self.place {
            Some(place) => match inner.waiting.get_mut(&place) {
                Some(waker) => waker.clone_from(cx.waker()),
                // A more important call was given this place.
                None => return Err(end(&mut self.place, inner, Err(Refused::shed()))),
            },
            None => {
                let (place, last) = inner.queue_up(rank, cx.waker().clone());
                (self.place, shed) = (Some(place), last);
            }
        }
        drop(inner);
        wake(shed);
        let ready = wait.map_or(MonoTime::NEVER, |wait| now.plus(wait));
        Ok(ready.min(give_up.time()))
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
fn end<R: Scarce>(place: &mut Option<Place>, mut inner: Held<'_, R>, result: Taken) -> Taken {
    if let Some(place) = place.take() {
        inner.waiting.remove(&place);
        let head = inner.head();
        drop(inner);
        wake(head);
    }
    result
}

impl<G: Gate> Drop for Taking<G> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.gate.turnstile().leave(place);
        }
    }
}
