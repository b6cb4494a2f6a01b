//! A queue in front of something scarce: the more important first, then first come, first served.
//!
//! Only the head of the queue may try to take, and newcomers of no higher rank queue up behind it,
//! so nobody overtakes. A waiter that is dropped leaves the queue and owes nothing. Wakers are
//! called after the lock is released.
//!
//! While nobody waits, what is behind the turnstile can be lent out as one atomic word, and calls
//! take from it without the lock. Whoever locks takes the word back first: a word that reads
//! [`HELD`] says that the truth is behind the lock. So there is never more than one truth.

mod taking;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::task::Waker;
use std::time::Duration;

use infra_core::MonoTime;

use crate::call_error::RejectReason;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

pub(crate) use taking::{Gate, Taking};

/// The word while the truth is behind the lock. Lent words are below 2^63.
const HELD: u64 = u64::MAX;

/// What is behind the turnstile.
pub(crate) trait Scarce {
    /// What a call asks for.
    type Ask: Copy + Unpin;
    /// What [`step`](Scarce::step) must know beside the word.
    type Terms;
    /// Whether what can be taken depends on the time.
    const NEEDS_TIME: bool;

    /// Takes what is asked for, or says how long that must wait.
    fn try_take(&mut self, ask: Self::Ask, now: MonoTime) -> Take;

    /// The place in the queue: lower ranks come before higher ones.
    fn rank(ask: Self::Ask) -> u8;

    /// All of the state as a word below 2^63, where calls may take without the lock.
    fn lend(&self) -> Option<u64>;

    /// Goes on from a word that was lent.
    fn take_back(&mut self, word: u64);

    /// The word after a call took what it asks for. `Err(None)` sends it to the lock.
    fn step(
        terms: &Self::Terms,
        word: u64,
        ask: Self::Ask,
        now: MonoTime,
    ) -> Result<u64, Option<Take>>;
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

pub(crate) struct Turnstile<R: Scarce> {
    word: AtomicU64,
    terms: R::Terms,
    inner: Mutex<Inner<R>>,
}

/// Rank, then order of arrival.
type Place = (u8, u64);

struct Inner<R> {
    scarce: R,
    queue_limit: usize,
    next_id: u64,
    waiting: BTreeMap<Place, Waker>,
}

/// The lock, with the truth behind it. Lends it out again when released, if nobody waits.
struct Held<'a, R: Scarce> {
    word: &'a AtomicU64,
    inner: MutexGuard<'a, Inner<R>>,
}

impl<R: Scarce> Deref for Held<'_, R> {
    type Target = Inner<R>;
    fn deref(&self) -> &Inner<R> {
        &self.inner
    }
}

impl<R: Scarce> DerefMut for Held<'_, R> {
    fn deref_mut(&mut self) -> &mut Inner<R> {
        &mut self.inner
    }
}

impl<R: Scarce> Drop for Held<'_, R> {
    fn drop(&mut self) {
        if self.inner.waiting.is_empty()
            && let Some(word) = self.inner.scarce.lend()
        {
            self.word.store(word, Ordering::Release);
        }
    }
}

impl<R: Scarce> Turnstile<R> {
    pub(crate) fn new(scarce: R, terms: R::Terms, queue_limit: u32) -> Self {
        Turnstile {
            word: AtomicU64::new(scarce.lend().unwrap_or(HELD)),
            terms,
            inner: Mutex::new(Inner {
                scarce,
                queue_limit: queue_limit as usize,
                next_id: 0,
                waiting: BTreeMap::new(),
            }),
        }
    }

    /// Takes at once or not at all.
    #[inline]
    pub(crate) fn try_take(&self, ask: R::Ask, now: MonoTime) -> Result<(), Refused> {
        match self.try_quickly(ask, now) {
            Some(take) => take.now_or_never(),
            None => self.try_locked(ask, now),
        }
    }

    #[inline(never)]
    fn try_locked(&self, ask: R::Ask, now: MonoTime) -> Result<(), Refused> {
        let mut inner = self.lock();
        if !inner.may_try(None, R::rank(ask)) {
            return Err(Refused::queue_full(None));
        }
        inner.scarce.try_take(ask, now).now_or_never()
    }

    /// Takes without the lock; `None` where that cannot be.
    #[inline]
    fn try_quickly(&self, ask: R::Ask, now: MonoTime) -> Option<Take> {
        let mut taken = Take::Taken;
        let stepped = self.step(|word| match R::step(&self.terms, word, ask, now) {
            Ok(next) => Some(next),
            Err(Some(refused)) => {
                taken = refused;
                Some(word)
            }
            Err(None) => None,
        });
        stepped.then_some(taken)
    }

    /// Exchanges the lent word; false where the truth is behind the lock, or `next` says so.
    #[inline]
    pub(crate) fn step(&self, mut next: impl FnMut(u64) -> Option<u64>) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        while word != HELD {
            let Some(to) = next(word) else {
                return false;
            };
            if to == word {
                return true;
            }
            let exchanged =
                self.word
                    .compare_exchange_weak(word, to, Ordering::AcqRel, Ordering::Acquire);
            match exchanged {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }

    /// Changes what is behind the turnstile, and lets the head of the queue look again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut R, &R::Terms) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.scarce, &self.terms);
        let head = inner.head();
        drop(inner);
        wake(head);
        result
    }

    /// The lent word, if there is one.
    pub(crate) fn lent(&self) -> Option<u64> {
        let word = self.word.load(Ordering::Acquire);
        (word != HELD).then_some(word)
    }

    /// Looks at what is behind the turnstile.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&R) -> T) -> T {
        look(&self.lock().scarce)
    }

    /// How many are waiting.
    pub(crate) fn queued(&self) -> usize {
        self.lock().waiting.len()
    }

    fn leave(&self, place: Place) {
        let mut inner = self.lock();
        inner.waiting.remove(&place);
        let head = inner.head();
        drop(inner);
        wake(head);
    }

    fn lock(&self) -> Held<'_, R> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let word = self.word.swap(HELD, Ordering::AcqRel);
        if word != HELD {
            inner.scarce.take_back(word);
        }
        Held {
            word: &self.word,
            inner,
        }
    }
}

impl<R> Inner<R> {
    fn head(&self) -> Option<Waker> {
        self.waiting
            .first_key_value()
            .map(|(_, waker)| waker.clone())
    }

    /// Whether it is the turn of the waiter at `place`, or of a newcomer.
    fn may_try(&self, place: Option<Place>, rank: u8) -> bool {
        match (self.waiting.first_key_value(), place) {
            (None, _) => true,
            (Some((first, _)), Some(place)) => *first == place,
            (Some(((first_rank, _), _)), None) => rank < *first_rank,
        }
    }

    fn has_place_for(&self, rank: u8) -> bool {
        let full = self.waiting.len() >= self.queue_limit;
        let last = self.waiting.last_key_value();
        !full || last.is_some_and(|((last_rank, _), _)| *last_rank > rank)
    }

    /// Queues up a newcomer for whom there is a place. In a full queue it is that of the last one
    /// of a higher rank, whose waker is returned.
    fn queue_up(&mut self, rank: u8, waker: Waker) -> (Place, Option<Waker>) {
        let full = self.waiting.len() >= self.queue_limit;
        let shed = full.then(|| self.waiting.pop_last()).flatten();
        let place = (rank, self.next_id);
        self.next_id += 1;
        self.waiting.insert(place, waker);
        (place, shed.map(|(_, waker)| waker))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Take {
    fn now_or_never(self) -> Result<(), Refused> {
        match self {
            Take::Taken => Ok(()),
            Take::Wait(wait) => Err(Refused::queue_full(wait)),
            Take::TooHeavy => Err(Refused::too_heavy()),
        }
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

    fn shed() -> Self {
        Refused {
            reason: RejectReason::Shed,
            retry_after: None,
        }
    }
}

impl<R: Scarce> fmt::Debug for Turnstile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turnstile").finish_non_exhaustive()
    }
}
