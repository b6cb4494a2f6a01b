//! A rate limit that all processes of a fleet share.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{Deadline, SharedClock};

use super::builder::SharedRateLimiterBuilder;
use super::cells::Cells;
use super::exchange::{Answer, Exchange, Known};
use super::ledger::{Ledger, Next, SharedLimitCounts};
use super::store::SharedStore;
use crate::call_error::{CallError, RejectReason, RejectedBy, Rejection};
use crate::telemetry::Count;
use crate::timeout::{timeout, timeout_at};

/// A rate limiter whose units lie in a store, so that all processes with a limiter of this
/// name draw from the same. Clones share one state.
///
/// It is a GCRA: one unit every `period / limit`, and up to `burst` at once after a pause. Its
/// state is one number under the key `rate-limit:<name>`, changed by compare-and-swap.
///
/// # How much the store is asked
/// A process asks one question at a time. While units are used as fast as they come, it takes
/// them in growing batches up to [`batch`](SharedRateLimiterBuilder::batch), to be used within the
/// time that they take to grow back (at least 10 ms); what is not used by then is lost. When the
/// store says that nothing is to be had for a while, it is not asked again before. So the fleet
/// lets pass at most `limit` per period, one burst, and one batch per process.
///
/// # While the store is away
/// Each process grants `1 / expected_processes` of the rate, from empty on, and asks the store
/// again every [`ask_again`](SharedRateLimiterBuilder::ask_again). This is logged
/// (`rate_limiter_degraded`, `rate_limiter_restored`), told to the
/// [listener](SharedRateLimiterBuilder::on_signal), and counted.
///
/// # Clocks
/// The number is a point on the wall clock, because the processes must agree on it. A process
/// whose clock is ahead gains that much of a burst once, and no rate; one whose clock is behind
/// waits so much longer. Differences of more than a minute count as an absent store.
#[derive(Clone)]
pub struct SharedRateLimiter {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) cells: Cells,
    pub(super) clock: SharedClock,
    pub(super) store_timeout: Duration,
    pub(super) listener: Option<Listener>,
    pub(super) exchange: Exchange,
    pub(super) ledger: Mutex<Ledger>,
    /// Held by the one call that asks the store.
    pub(super) asking: tokio::sync::Mutex<Option<Known>>,
    /// Held by the first of the calls that wait for units; the others queue behind it, in order.
    pub(super) first: tokio::sync::Mutex<()>,
    pub(super) waiting: AtomicU32,
    pub(super) queue: u32,
    pub(super) rejected: Count,
}

pub(super) type Listener = Arc<dyn Fn(&SharedLimitSignal<'_>) + Send + Sync>;

/// What a [`SharedRateLimiter`] tells its listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharedLimitSignal<'a> {
    /// The store is away: from here on this process grants its share.
    Degraded {
        /// The limiter's name.
        limiter: &'a str,
        /// What was wrong, for a person.
        cause: &'a str,
    },
    /// The store is back.
    Restored {
        /// The limiter's name.
        limiter: &'a str,
    },
}

impl SharedRateLimiter {
    pub(super) fn over(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        SharedRateLimiter { shared }
    }

    /// Starts the settings of a limiter. All processes must give it the same name, rate and burst.
    pub fn builder(name: impl Into<Arc<str>>, store: impl SharedStore) -> SharedRateLimiterBuilder {
        SharedRateLimiterBuilder::new(name.into(), Arc::new(store))
    }

    /// Makes the call when there is room for one unit of weight, waiting in order.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.acquire(1).await?;
        operation().await.map_err(CallError::Inner)
    }

    /// Takes `weight` now, or nothing. It may have to ask the store, and then takes as long as
    /// that, at most the [`store_timeout`](SharedRateLimiterBuilder::store_timeout); it does not
    /// wait for units.
    ///
    /// # Errors
    /// [`Rejection`] with the time until there is room, where nobody else is waiting for it.
    pub async fn try_acquire(&self, weight: u32) -> Result<(), Rejection> {
        self.shared.check_weight(weight)?;
        if self.shared.waiting.load(Ordering::Acquire) > 0 {
            return Err(self.shared.rejection(RejectReason::QueueFull, None));
        }
        match self.shared.step(weight).await {
            None => Ok(()),
            wait => Err(self.shared.rejection(RejectReason::QueueFull, wait)),
        }
    }

    /// Takes `weight`, waiting for it behind those of this process that came before.
    ///
    /// Cancel safe: a dropped wait takes nothing, but for one that is dropped while the store is
    /// being asked, which may lose what it asked for: at most one batch.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, or the weight above the burst.
    pub async fn acquire(&self, weight: u32) -> Result<(), Rejection> {
        self.acquire_until(weight, Deadline::NEVER).await
    }

    /// Like [`acquire`](Self::acquire), waiting until `deadline` at the latest; a call that is
    /// known to have to wait longer is refused at once.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, the wait too long, or the weight above the burst.
    pub async fn acquire_until(&self, weight: u32, deadline: Deadline) -> Result<(), Rejection> {
        let shared = &*self.shared;
        if self.take_at_hand(weight)? {
            return Ok(());
        }
        let _place = shared.queue_up()?;
        let turn = timeout_at(&shared.clock, deadline, shared.first.lock());
        let Ok(_first) = turn.told_elsewhere().await else {
            return Err(shared.rejection(RejectReason::WaitTooLong, None));
        };
        while let Some(wait) = shared.step(weight).await {
            if wait > deadline.remaining(shared.clock.now()) {
                return Err(shared.rejection(RejectReason::WaitTooLong, Some(wait)));
            }
            shared.clock.sleep(wait).await;
        }
        Ok(())
    }

    /// Takes `weight` of the units at hand, where nobody waits. False where it has to wait, or the
    /// store to be asked.
    pub(crate) fn take_at_hand(&self, weight: u32) -> Result<bool, Rejection> {
        let shared = &*self.shared;
        shared.check_weight(weight)?;
        Ok(shared.waiting.load(Ordering::Acquire) == 0 && shared.quick(weight))
    }

    /// True while the store is away and this process grants its share.
    pub fn is_degraded(&self) -> bool {
        self.shared.ledger().is_away()
    }

    /// Counts since the limiter was built.
    pub fn counts(&self) -> SharedLimitCounts {
        self.shared.ledger().counts
    }

    /// How many calls of this process wait.
    pub fn queued(&self) -> u32 {
        self.shared.waiting.load(Ordering::Acquire)
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl Shared {
    /// Takes `weight`, or says how long to wait before trying again.
    async fn step(&self, weight: u32) -> Option<Duration> {
        if let Some(known) = self.without_asking(weight) {
            return known;
        }
        let mut memory = self.asking.lock().await;
        // The call before this one may have brought units, or an answer.
        let next = self.ledger().take(weight, self.clock.now());
        match next {
            Next::Taken => None,
            Next::Wait(wait) => Some(wait),
            Next::Ask { needed, wanted } => {
                let answer = self.ask(&mut memory, (needed, wanted)).await;
                self.settle(weight, answer)
            }
        }
    }

    async fn ask(&self, memory: &mut Option<Known>, units: (u32, u32)) -> Answer {
        let mut conflicts = 0;
        let asked = self.exchange.ask(memory, units, &mut conflicts);
        let limited = timeout(&self.clock, self.store_timeout, asked);
        let answer = limited.told_elsewhere().await;
        let mut ledger = self.ledger();
        ledger.counts.exchanges += 1;
        ledger.counts.conflicts += conflicts;
        answer.unwrap_or_else(|late| Answer::Lost(late.to_string()))
    }

    /// Enters the answer to a call of this weight, and says what is left of its wait.
    fn settle(&self, weight: u32, answer: Answer) -> Option<Duration> {
        let now = self.clock.now();
        let (limiter, mut ledger) = (&*self.name, self.ledger());
        let (signal, wait) = match &answer {
            Answer::Granted(units) => {
                let back = ledger.granted(weight, *units, now);
                (
                    back.then_some(SharedLimitSignal::Restored { limiter }),
                    None,
                )
            }
            Answer::Wait(wait) => {
                let back = ledger.refused(weight, *wait, now);
                let signal = back.then_some(SharedLimitSignal::Restored { limiter });
                (signal, Some(*wait))
            }
            Answer::Lost(cause) => {
                let gone = ledger.lost(now);
                let signal = gone.then_some(SharedLimitSignal::Degraded { limiter, cause });
                // At once from the share, where that has something.
                let wait = match ledger.take(weight, now) {
                    Next::Wait(wait) => Some(wait),
                    Next::Taken | Next::Ask { .. } => None,
                };
                (signal, wait)
            }
        };
        drop(ledger);
        if let Some(signal) = signal {
            self.tell(signal);
        }
        wait
    }

    fn quick(&self, weight: u32) -> bool {
        self.without_asking(weight) == Some(None)
    }

    /// `None` where the store must be asked.
    fn without_asking(&self, weight: u32) -> Option<Option<Duration>> {
        match self.ledger().take(weight, self.clock.now()) {
            Next::Taken => Some(None),
            Next::Wait(wait) => Some(Some(wait)),
            Next::Ask { .. } => None,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_weight(&self, weight: u32) -> Result<(), Rejection> {
        if weight > self.cells.burst() {
            return Err(self.rejection(RejectReason::TooHeavy, None));
        }
        Ok(())
    }

    fn rejection(&self, reason: RejectReason, retry_after: Option<Duration>) -> Rejection {
        let rejection = Rejection {
            retry_after,
            ..Rejection::new(RejectedBy::RateLimiter, &self.name, reason)
        };
        self.rejected.rejection(&rejection);
        rejection
    }

    fn queue_up(&self) -> Result<Place<'_>, Rejection> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.queue {
            return Err(self.rejection(RejectReason::QueueFull, None));
        }
        Ok(place)
    }

    /// Tells a change, outside of every lock.
    fn tell(&self, signal: SharedLimitSignal<'_>) {
        match signal {
            SharedLimitSignal::Degraded { limiter, cause } => {
                tracing::warn!(limiter, cause, "rate_limiter_degraded");
            }
            SharedLimitSignal::Restored { limiter } => {
                tracing::info!(limiter, "rate_limiter_restored");
            }
        }
        if let Some(listener) = &self.listener {
            // A listener that panics harms nobody else; there is nobody to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(&signal)));
        }
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for SharedRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimiter")
            .field("name", &self.shared.name)
            .field("degraded", &self.is_degraded())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
