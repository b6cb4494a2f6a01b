//! A limit on how many calls run at the same time, so that one slow backend cannot take
//! everything.

mod places;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Deadline, DirectClock, MonoTime, SharedClock};

use crate::call_error::{CallError, RejectedBy, Rejection};
use crate::config_error::{self as check, ConfigError};
use crate::priority::Priority;
use crate::telemetry::Count;
use crate::turnstile::{Gate, Refused, Taking, Turnstile};

use self::places::{MAX_PLACES, Places, SharedPlaces, Shares};

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
    turnstile: Turnstile<SharedPlaces>,
    max_wait: Duration,
    clock: DirectClock,
    /// Of what piece this is the limit.
    by: RejectedBy,
    rejected: Count,
}

/// The settings of a [`Bulkhead`]: 25 calls, no queue.
#[derive(Clone)]
pub struct BulkheadBuilder {
    name: Arc<str>,
    max: u32,
    queue: u32,
    max_wait: Duration,
    shares: Vec<(Priority, f64)>,
    by: RejectedBy,
    clock: Option<DirectClock>,
}

impl BulkheadBuilder {
    /// How many calls run at the same time, 1 to 2,147,483,647.
    #[must_use]
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.max = calls;
        self
    }

    /// How many calls may wait for a place, and how long each. The more important first, then
    /// first come, first served. In a full queue a call takes the place of the last one that is
    /// less important.
    #[must_use]
    pub fn queue(mut self, calls: u32, max_wait: Duration) -> Self {
        (self.queue, self.max_wait) = (calls, max_wait);
        self
    }

    /// Up to which share of the places (above 0, at most 1) calls of `priority` may go; the whole
    /// unless set. With `Low` at 0.5, half of the places are kept for what matters more. No share
    /// may be above that of a more important priority.
    #[must_use]
    pub fn share(mut self, priority: Priority, share: f64) -> Self {
        self.shares.push((priority, share));
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Says of what piece this is the limit.
    pub(crate) fn named_by(mut self, by: RejectedBy) -> Self {
        self.by = by;
        self
    }

    /// Checks the settings and builds the bulkhead.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<Bulkhead, ConfigError> {
        check::count("max_concurrent", self.max, MAX_PLACES)?;
        if self.queue > 0 {
            check::positive("queue", self.max_wait)?;
        }
        let mut shares = Shares::default();
        for (priority, share) in self.shares {
            shares.set(priority, share)?;
        }
        shares.check()?;
        let places = SharedPlaces::new(self.max, shares);
        Ok(Bulkhead {
            shared: Arc::new(Shared {
                name: self.name,
                turnstile: Turnstile::new(places, shares, self.queue),
                max_wait: self.max_wait,
                clock: self.clock.unwrap_or_else(DirectClock::system),
                by: self.by,
                rejected: Count::new(),
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
            shares: Vec::new(),
            by: RejectedBy::Bulkhead,
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
        let _place = self.enter(Priority::Normal, deadline).await?;
        operation().await.map_err(CallError::Inner)
    }

    /// Like [`call`](Self::call) for a call that matters more or less than others.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call_as<T, E, F, Fut>(
        &self,
        priority: Priority,
        operation: F,
    ) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let _place = self.enter(priority, Deadline::NEVER).await?;
        operation().await.map_err(CallError::Inner)
    }

    /// Takes a place at once.
    ///
    /// # Errors
    /// [`Rejection`] when all places are taken, or others are waiting for one.
    pub fn try_acquire(&self) -> Result<BulkheadPermit, Rejection> {
        self.try_acquire_as(Priority::Normal)
    }

    /// Takes a place at once for a call of that priority.
    ///
    /// # Errors
    /// [`Rejection`] when all places that it may take are taken, or others that matter as much are
    /// waiting for one.
    pub fn try_acquire_as(&self, priority: Priority) -> Result<BulkheadPermit, Rejection> {
        self.shared.try_enter(priority)?;
        Ok(BulkheadPermit(self.clone()))
    }

    /// Takes a place, waiting in the queue until `deadline` at the latest. Cancel safe.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, or the wait was too long.
    pub async fn acquire(&self, deadline: Deadline) -> Result<BulkheadPermit, Rejection> {
        self.acquire_as(Priority::Normal, deadline).await
    }

    /// Like [`acquire`](Self::acquire) for a call of that priority.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, the wait was too long, or a more important call took
    /// the place in the queue.
    pub async fn acquire_as(
        &self,
        priority: Priority,
        deadline: Deadline,
    ) -> Result<BulkheadPermit, Rejection> {
        let place = self.enter(priority, deadline).await?;
        std::mem::forget(place);
        Ok(BulkheadPermit(self.clone()))
    }

    /// Changes the limit. Calls that run are left alone: with more of them than `max`, none is
    /// admitted until there are fewer. More places are taken by those who wait, in their order.
    ///
    /// # Errors
    /// [`ConfigError`] for a limit of zero, or above 2,147,483,647.
    pub fn resize(&self, max: u32) -> Result<(), ConfigError> {
        check::count("max_concurrent", max, MAX_PLACES)?;
        self.shared
            .turnstile
            .change(|shared, _| shared.places.max = max);
        Ok(())
    }

    /// How many calls may run.
    pub fn max_concurrent(&self) -> u32 {
        self.shared.turnstile.read(|shared| shared.places.max)
    }

    /// How many calls run.
    pub fn in_flight(&self) -> u32 {
        match self.shared.turnstile.lent() {
            Some(word) => Places::of(word).taken,
            None => self.shared.turnstile.read(|shared| shared.places.taken),
        }
    }

    /// How many calls wait.
    pub fn queued(&self) -> usize {
        self.shared.turnstile.queued()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// A place without waiting for one, and without telling of it where there is none.
    pub(crate) fn enter_at_once(&self, priority: Priority) -> Option<Place<&Shared>> {
        let shared = &*self.shared;
        shared.try_take(priority).ok().map(|()| Place(shared))
    }

    pub(crate) async fn enter(
        &self,
        priority: Priority,
        deadline: Deadline,
    ) -> Result<Place<&Shared>, Rejection> {
        let shared = &*self.shared;
        match shared.try_take(priority) {
            Ok(()) => return Ok(Place(shared)),
            Err(refused) if shared.max_wait.is_zero() => return Err(shared.rejection(refused)),
            Err(_) => {}
        }
        let taking = Taking::new(shared, priority, deadline);
        taking.await.map_err(|refused| shared.rejection(refused))?;
        Ok(Place(shared))
    }

    #[cfg(feature = "tower")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Gate for Shared {
    type Scarce = SharedPlaces;
    fn turnstile(&self) -> &Turnstile<SharedPlaces> {
        &self.turnstile
    }
    fn clock(&self) -> &DirectClock {
        &self.clock
    }
    fn max_wait(&self) -> Option<Duration> {
        Some(self.max_wait)
    }
}

impl Shared {
    fn try_enter(&self, priority: Priority) -> Result<(), Rejection> {
        self.try_take(priority)
            .map_err(|refused| self.rejection(refused))
    }

    /// Takes a place at once; there is no use in asking the time for that.
    pub(crate) fn try_take(&self, priority: Priority) -> Result<(), Refused> {
        self.turnstile.try_take(priority, MonoTime::ZERO)
    }

    fn leave(&self) {
        if !self.turnstile.step(Places::word_after_leaving) {
            self.turnstile
                .change(|shared, _| shared.places = shared.places.after_leaving());
        }
    }

    pub(crate) fn rejection(&self, refused: Refused) -> Rejection {
        let rejection = Rejection::new(self.by, &self.name, refused.reason);
        self.rejected.rejection(&rejection);
        rejection
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

impl BulkheadPermit {
    /// The permit for a place that was taken at the turnstile.
    #[cfg(feature = "tower")]
    pub(crate) fn taken(bulkhead: Bulkhead) -> Self {
        BulkheadPermit(bulkhead)
    }
}

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
