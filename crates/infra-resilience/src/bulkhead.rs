//! A limit on how many calls run at the same time, so that one slow backend cannot take
//! everything.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Clock, Deadline, MonoTime, SharedClock, SystemClock};

use crate::call_error::{CallError, RejectedBy, Rejection};
use crate::config_error::{self as check, ConfigError};
use crate::turnstile::{Gate, Refused, Scarce, Take, Taking, Turnstile};

/// A bulkhead. Clones share one limit.
///
/// ```
/// use infra_resilience::{Bulkhead, RejectedBy};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bulkhead = Bulkhead::builder("exchange").max_concurrent(1).build()?;
/// let running = bulkhead.try_acquire()?;
/// let refused = bulkhead.call(|| async { Ok::<_, std::io::Error>(7) }).await.unwrap_err();
/// assert_eq!(refused.rejected_by(), Some(RejectedBy::Bulkhead));
/// drop(running);
/// assert_eq!(bulkhead.call(|| async { Ok::<_, std::io::Error>(7) }).await?, 7);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    name: Arc<str>,
    turnstile: Turnstile<Places>,
    max_wait: Duration,
    clock: SharedClock,
}

#[derive(Debug)]
pub(crate) struct Places {
    max: u32,
    taken: u32,
}

impl Scarce for Places {
    fn try_take(&mut self, _weight: u32, _now: MonoTime) -> Take {
        if self.taken < self.max {
            self.taken += 1;
            Take::Taken
        } else {
            Take::Wait(None)
        }
    }
}

/// The settings of a [`Bulkhead`]: 25 calls, no queue.
#[derive(Clone)]
pub struct BulkheadBuilder {
    name: Arc<str>,
    max: u32,
    queue: u32,
    max_wait: Duration,
    clock: Option<SharedClock>,
}

impl BulkheadBuilder {
    /// How many calls run at the same time, 1 or more.
    #[must_use]
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.max = calls;
        self
    }

    /// How many calls may wait for a place, and how long each. First come, first served.
    #[must_use]
    pub fn queue(mut self, calls: u32, max_wait: Duration) -> Self {
        (self.queue, self.max_wait) = (calls, max_wait);
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings and builds the bulkhead.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        check::count("max_concurrent", self.max, u32::MAX)?;
        if self.queue > 0 {
            check::positive("queue", self.max_wait)?;
        }
        let places = Places {
            max: self.max,
            taken: 0,
        };
        Ok(Bulkhead {
            shared: Arc::new(Shared {
                name: self.name,
                turnstile: Turnstile::new(places, self.queue),
                max_wait: self.max_wait,
                clock: self.clock.unwrap_or_else(SystemClock::shared),
            }),
        })
    }
}

impl Bulkhead {
    /// Starts the settings of a bulkhead whose name appears in errors.
    pub fn builder(name: impl Into<Arc<str>>) -> BulkheadBuilder {
        BulkheadBuilder {
            name: name.into(),
            max: 25,
            queue: 0,
            max_wait: Duration::ZERO,
            clock: None,
        }
    }

    /// Makes the call when there is a place for it, waiting in the queue if there is one.
    ///
    /// Cancel safe: a dropped future leaves the queue, or gives its place back.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_until(Deadline::NEVER, operation).await
    }

    /// Like [`call`](Self::call), with the time in the queue counted against `deadline`. It does
    /// not limit the call itself: that is what [`timeout_at`](crate::timeout_at) is for.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call_until<T, E, F, Fut>(
        &self,
        deadline: Deadline,
        operation: F,
    ) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let _place = self.enter(deadline).await?;
        operation().await.map_err(CallError::Inner)
    }

    /// Takes a place at once.
    ///
    /// # Errors
    /// [`Rejection`] when all places are taken, or others are waiting for one.
    pub fn try_acquire(&self) -> Result<BulkheadPermit, Rejection> {
        self.shared.try_enter()?;
        Ok(BulkheadPermit(self.clone()))
    }

    /// Takes a place, waiting in the queue until `deadline` at the latest. Cancel safe.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, or the wait was too long.
    pub async fn acquire(&self, deadline: Deadline) -> Result<BulkheadPermit, Rejection> {
        let place = self.enter(deadline).await?;
        std::mem::forget(place);
        Ok(BulkheadPermit(self.clone()))
    }

    /// Changes the limit. Calls that run are left alone: with more of them than `max`, none is
    /// admitted until there are fewer. More places are taken by those who wait, in their order.
    ///
    /// # Errors
    /// [`ConfigError`] for a limit of zero.
    pub fn resize(&self, max: u32) -> Result<(), ConfigError> {
        check::count("max_concurrent", max, u32::MAX)?;
        self.shared.turnstile.change(|places| places.max = max);
        Ok(())
    }

    /// How many calls run.
    pub fn in_flight(&self) -> u32 {
        self.shared.turnstile.read(|places| places.taken)
    }

    /// How many calls wait.
    pub fn queued(&self) -> usize {
        self.shared.turnstile.queued()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) async fn enter(&self, deadline: Deadline) -> Result<Place<&Shared>, Rejection> {
        let shared = &*self.shared;
        match shared.try_enter() {
            Ok(()) => return Ok(Place(shared)),
            Err(rejection) if shared.max_wait.is_zero() => return Err(rejection),
            Err(_) => {}
        }
        let taking = Taking::new(shared, 1, shared.give_up(deadline));
        taking.await.map_err(|refused| shared.rejection(refused))?;
        Ok(Place(shared))
    }

    #[cfg(feature = "tower")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Gate for Shared {
    type Scarce = Places;
    fn turnstile(&self) -> &Turnstile<Places> {
        &self.turnstile
    }
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

impl Shared {
    pub(crate) fn give_up(&self, deadline: Deadline) -> Deadline {
        Deadline::after(self.clock.now(), self.max_wait).earlier(deadline)
    }

    fn try_enter(&self) -> Result<(), Rejection> {
        let now = MonoTime::ZERO; // places do not depend on the time
        self.turnstile
            .try_take(1, now)
            .map_err(|refused| self.rejection(refused))
    }

    fn leave(&self) {
        self.turnstile
            .change(|places| places.taken = places.taken.saturating_sub(1));
    }

    pub(crate) fn rejection(&self, refused: Refused) -> Rejection {
        Rejection::new(RejectedBy::Bulkhead, &self.name, refused.reason)
    }
}

/// A place in a borrowed or shared bulkhead; free again when dropped.
pub(crate) struct Place<S: Borrow<Shared>>(S);

impl<S: Borrow<Shared>> Place<S> {
    /// The place that was taken at the turnstile.
    #[cfg(feature = "tower")]
    pub(crate) fn taken(shared: S) -> Self {
        Place(shared)
    }
}

impl<S: Borrow<Shared>> Drop for Place<S> {
    fn drop(&mut self) {
        self.0.borrow().leave();
    }
}

/// A place in a bulkhead; free again when dropped.
#[must_use = "the place is free again when this is dropped"]
pub struct BulkheadPermit(Bulkhead);

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.0.shared.leave();
    }
}

impl fmt::Debug for BulkheadPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit").finish_non_exhaustive()
    }
}

impl fmt::Debug for BulkheadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadBuilder")
            .field("name", &self.name)
            .field("max_concurrent", &self.max)
            .field("queue", &self.queue)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.shared.name)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
