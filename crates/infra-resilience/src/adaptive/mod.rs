//! A limit on concurrent calls that finds its own height.
//!
//! # Layout
//! - [`AdaptiveLimiter`]: the shared handle; [`AdaptiveBuilder`] makes one.
//! - [`AdaptivePermit`]: the right to make one call, for code that cannot be passed as a closure.
//! - [`AdaptiveLimit`]: the state machine without I/O.

mod builder;
mod limit;
#[cfg(test)]
mod simulation;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{Classify, Deadline, DirectClock, MonoTime};

use crate::breaker::Verdict;
use crate::bulkhead::{Bulkhead, BulkheadPermit};
use crate::call_error::{CallError, Rejection};
use crate::priority::Priority;
use crate::telemetry::Gauge;

pub use builder::AdaptiveBuilder;
pub use limit::{AdaptiveLimit, Algorithm, Sample};

/// The gauge of the limit.
const LIMIT: &str = "resilience_concurrency_limit";

/// A [`Bulkhead`] whose limit follows the load that the other side can take: it grows while calls
/// go well and shrinks when they are refused, break or slow down. Clones share one limit.
///
/// For a backend whose capacity nobody knows, or whose capacity changes. Permanent errors say
/// nothing about load, and move nothing.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{AdaptiveLimiter, Algorithm};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = AdaptiveLimiter::builder("quotes")
///     .algorithm(Algorithm::Aimd { backoff: 0.5 })
///     .initial(10)
///     .bounds(1, 200)
///     .build()?;
/// let refused = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
/// limiter.call(refused).await.unwrap_err();
/// assert_eq!(limiter.limit(), 5);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AdaptiveLimiter {
    shared: Arc<Shared>,
}

struct Shared {
    bulkhead: Bulkhead,
    limit: Mutex<AdaptiveLimit>,
    slow_after: Option<Duration>,
    clock: DirectClock,
    gauge: Gauge,
}

impl AdaptiveLimiter {
    /// Starts the settings of a limiter whose name appears in errors.
    pub fn builder(name: impl Into<Arc<str>>) -> AdaptiveBuilder {
        AdaptiveBuilder::new(name.into())
    }

    /// Makes the call when there is a place for it, and judges its result by [`Verdict::of`]:
    /// failures are overload. Cancel safe.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_as(Priority::Normal, operation).await
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
        E: Classify,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.acquire(priority, Deadline::NEVER).await?;
        let result = operation().await;
        permit.end(Verdict::of(&result));
        result.map_err(CallError::Inner)
    }

    /// Takes a place at once.
    ///
    /// # Errors
    /// [`Rejection`] when all places that the priority may take are taken.
    pub fn try_acquire(&self, priority: Priority) -> Result<AdaptivePermit, Rejection> {
        let place = self.shared.bulkhead.try_acquire_as(priority)?;
        Ok(self.permit(place))
    }

    /// Takes a place, waiting in the queue until `deadline` at the latest. Cancel safe.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, the wait was too long, or a more important call took
    /// the place in the queue.
    pub async fn acquire(
        &self,
        priority: Priority,
        deadline: Deadline,
    ) -> Result<AdaptivePermit, Rejection> {
        let place = self.shared.bulkhead.acquire_as(priority, deadline).await?;
        Ok(self.permit(place))
    }

    /// How many calls may run now.
    pub fn limit(&self) -> u32 {
        self.shared.lock().limit()
    }

    /// How many calls run.
    pub fn in_flight(&self) -> u32 {
        self.shared.bulkhead.in_flight()
    }

    /// How many calls wait.
    pub fn queued(&self) -> usize {
        self.shared.bulkhead.queued()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        self.shared.bulkhead.name()
    }

    #[cfg(feature = "tower")]
    pub(crate) fn bulkhead(&self) -> &Bulkhead {
        &self.shared.bulkhead
    }

    /// The permit for a place that was taken at the bulkhead's turnstile.
    #[cfg(feature = "tower")]
    pub(crate) fn admitted(&self) -> AdaptivePermit {
        self.permit(BulkheadPermit::taken(self.shared.bulkhead.clone()))
    }

    fn permit(&self, place: BulkheadPermit) -> AdaptivePermit {
        AdaptivePermit {
            started: self.shared.clock.now(),
            shared: self.shared.clone(),
            ended: false,
            _place: place,
        }
    }
}

impl Shared {
    fn observe(&self, started: MonoTime, overloaded: bool) {
        let ended = self.clock.now();
        let sample = Sample {
            started,
            ended,
            in_flight: self.bulkhead.in_flight(),
            overloaded: overloaded || self.is_slow(ended.since(started)),
        };
        let mut limit = self.lock();
        let before = limit.limit();
        let mut after = limit.observe(sample);
        drop(limit);
        // Resizing wakes those who wait, so it must not happen under the lock; whoever is last
        // sets the latest limit.
        let mut set = before;
        while after != set {
            set = after;
            self.resize(after);
            after = self.lock().limit();
        }
    }

    fn resize(&self, limit: u32) {
        // The bounds were checked: a bulkhead takes any limit within them.
        if self.bulkhead.resize(limit).is_ok() {
            let name = self.bulkhead.shared_name();
            self.gauge.set(LIMIT, "name", name, limit);
        }
    }

    fn is_slow(&self, took: Duration) -> bool {
        self.slow_after.is_some_and(|slow| took >= slow)
    }

    fn lock(&self) -> MutexGuard<'_, AdaptiveLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call. Say by [`end`](AdaptivePermit::end) how it went; a permit that is
/// dropped instead gives its place back, and counts as overloaded only where the call had been
/// running for [`slow_after`](AdaptiveBuilder::slow_after).
#[must_use = "the place is free again when this is dropped"]
pub struct AdaptivePermit {
    shared: Arc<Shared>,
    started: MonoTime,
    ended: bool,
    _place: BulkheadPermit,
}

impl AdaptivePermit {
    /// The call ended with `verdict`: failures and throttled answers are overload, ignored
    /// results say nothing.
    pub fn end(mut self, verdict: Verdict) {
        self.ended = true;
        match verdict {
            Verdict::Ignored => {}
            Verdict::Success => self.shared.observe(self.started, false),
            _ => self.shared.observe(self.started, true),
        }
    }
}

impl Drop for AdaptivePermit {
    fn drop(&mut self) {
        let shared = &self.shared;
        if !self.ended && shared.is_slow(shared.clock.now().since(self.started)) {
            shared.observe(self.started, true);
        }
    }
}

impl fmt::Debug for AdaptivePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptivePermit").finish_non_exhaustive()
    }
}

impl fmt::Debug for AdaptiveLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimiter")
            .field("name", &self.name())
            .field("limit", &self.limit())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
