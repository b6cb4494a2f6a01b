//! All pieces around one call, in the order that works.
//!
//! # Layout
//! - [`Pipeline`]: the shared handle; [`PipelineBuilder`] makes one and checks its parts.
//! - [`CallOptions`]: what is particular about one call.
//! - [`PipelineRegistry`]: pipelines by name.
//! - `presets`: [`Pipeline::standard`] and [`Pipeline::exchange_api`].

mod builder;
mod options;
mod presets;
mod registry;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infra_core::{Classify, Deadline, DirectClock, MonoTime};

use crate::breaker::{CircuitBreaker, Guard, Shared as BreakerShared, Verdict};
use crate::bulkhead::{Bulkhead, Place, Shared as BulkheadShared};
use crate::call_error::{CallError, Rejection};
use crate::config_error::ConfigError;
use crate::hedge::Hedge;
use crate::limit::RateLimiter;
use crate::priority::Priority;
use crate::retry::{Retry, RetryError};
use crate::telemetry;
use crate::timeout::{TimeLimit, TimedOut, Timeout};

pub use builder::PipelineBuilder;
pub use options::CallOptions;
pub use presets::ResilienceSettings;
pub use registry::PipelineRegistry;

/// Retry, breaker, limits and the rest around a call. Clones share one state.
///
/// The order is fixed, outermost first: rate limiter, total timeout, retry, hedge, breaker,
/// bulkhead, attempt timeout, call. Each attempt, hedged ones too, passes the breaker and the
/// bulkhead on its own, and each repetition waits for a turn of its own at the rate limiter: the
/// other side counts them too. An error that [says so](Classify::is_throttled) closes the rate
/// limiter for all calls, as [`observe_status`](RateLimiter::observe_status) does for a 429.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{CircuitBreaker, Pipeline, Retry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let exchange = Pipeline::builder("exchange")
///     .total_timeout(Duration::from_secs(30))
///     .retry(Retry::exponential().max_attempts(3).build()?)
///     .breaker(CircuitBreaker::builder("exchange").build()?)
///     .attempt_timeout(Duration::from_secs(10))
///     .build()?;
/// let price = exchange.call(|| async { Ok::<_, std::io::Error>(101.5) }).await?;
/// assert_eq!(price, 101.5);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    layers: Mutex<Arc<Layers>>,
}

#[derive(Debug, Clone)]
struct Layers {
    name: Arc<str>,
    limiter: Option<RateLimiter>,
    total: Option<Duration>,
    retry: Option<Retry>,
    hedge: Option<Hedge>,
    breaker: Option<CircuitBreaker>,
    bulkhead: Option<Bulkhead>,
    attempt: Option<Duration>,
    clock: DirectClock,
}

impl Pipeline {
    /// Starts the settings of a pipeline.
    pub fn builder(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder::new(name.into())
    }

    fn of(layers: Layers) -> Self {
        Pipeline {
            shared: Arc::new(Shared {
                name: layers.name.clone(),
                layers: Mutex::new(Arc::new(layers)),
            }),
        }
    }

    /// Makes the call through all layers.
    ///
    /// Cancel safe: dropping the future drops what runs, leaves queues and gives places back.
    ///
    /// # Errors
    /// [`CallError`], one level deep whatever the layers are: that of the last attempt, or of an earlier
    /// one where that may have taken effect and the last did not, so that an order which got no answer
    /// is never reported as rejected.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        E: Classify + fmt::Display,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_with(CallOptions::new(), operation).await
    }

    /// Like [`call`](Self::call) for a call that weighs more than others, matters more or less, or
    /// may be done twice where others may not. Cancel safe as that is.
    ///
    /// ```
    /// use std::time::Duration;
    /// use infra_resilience::{CallOptions, Pipeline, Priority, Quota, ResilienceSettings};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn order_book() -> Result<u32, std::io::Error> { Ok(7) }
    /// # async fn cancel_order() -> Result<(), std::io::Error> { Ok(()) }
    /// let quotas = [Quota::strict(1_200, Duration::from_secs(60))];
    /// let settings = ResilienceSettings::default();
    /// let exchange = Pipeline::exchange_api("exchange", settings, &quotas)?.build()?;
    /// // Costs 50 units of the minute's 1,200, and may be asked for twice.
    /// let reads = CallOptions::new().weight(50).idempotent(true);
    /// let book = exchange.call_with(reads, order_book).await?;
    /// let urgent = CallOptions::new().priority(Priority::Critical);
    /// exchange.call_with(urgent, cancel_order).await?;
    /// # assert_eq!(book, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CallError`] as for [`call`](Self::call).
    pub async fn call_with<T, E, F, Fut>(
        &self,
        options: CallOptions,
        operation: F,
    ) -> Result<T, CallError<E>>
    where
        E: Classify + fmt::Display,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let layers = self.layers();
        let paid = Turn::of(options);
        if let Some(limiter) = &layers.limiter {
            paid.put(limiter.take(options.weight, Deadline::NEVER).await?);
        }
        let result = layers.in_time(&operation, &paid).await;
        if let Err(CallError::Timeout(cut_off)) = &result
            && cut_off.which == TimeLimit::Total
        {
            telemetry::timed_out(Some(&layers.name), *cut_off);
        }
        result
    }

    /// Exchanges all layers while calls are running: those finish with the old ones, later ones
    /// use the new. Breakers and limiters carry their state along where the same handle is used.
    ///
    /// # Errors
    /// [`ConfigError`] where the parts do not fit; the old ones stay.
    pub fn replace(&self, builder: PipelineBuilder) -> Result<(), ConfigError> {
        self.exchange(builder.into_layers()?);
        Ok(())
    }

    fn exchange(&self, mut layers: Layers) {
        layers.name = self.shared.name.clone();
        *self.lock() = Arc::new(layers);
    }

    /// What works but is probably not meant, one sentence each; logged when built or exchanged.
    pub fn warnings(&self) -> Vec<&'static str> {
        self.layers().warnings()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The breaker, for health and operators.
    pub fn breaker(&self) -> Option<CircuitBreaker> {
        self.layers().breaker.clone()
    }

    /// The rate limiter, to tell it what the other side says about its quotas:
    /// [`observe_in`](RateLimiter::observe_in) and [`observe_status`](RateLimiter::observe_status).
    pub fn rate_limiter(&self) -> Option<RateLimiter> {
        self.layers().limiter.clone()
    }

    /// The bulkhead, for health and for [`resize`](Bulkhead::resize).
    pub fn bulkhead(&self) -> Option<Bulkhead> {
        self.layers().bulkhead.clone()
    }

    fn layers(&self) -> Arc<Layers> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Layers>> {
        let layers = &self.shared.layers;
        layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call: what is particular about it, and when it got a turn at the rate limiter that no attempt
/// has used yet; [`MonoTime::NEVER`] where there is none.
struct Turn {
    options: CallOptions,
    taken: AtomicU64,
}

impl Turn {
    fn of(options: CallOptions) -> Self {
        Turn {
            options,
            taken: AtomicU64::new(MonoTime::NEVER.as_nanos()),
        }
    }

    fn put(&self, taken: MonoTime) {
        self.taken.store(taken.as_nanos(), Ordering::Relaxed);
    }

    fn take(&self) -> Option<MonoTime> {
        let nanos = self
            .taken
            .swap(MonoTime::NEVER.as_nanos(), Ordering::Relaxed);
        let taken = MonoTime::from_nanos(nanos);
        (taken != MonoTime::NEVER).then_some(taken)
    }
}

impl Layers {
    /// The whole call within its time.
    async fn in_time<T, E, F, Fut>(&self, operation: &F, paid: &Turn) -> Result<T, CallError<E>>
    where
        E: Classify + fmt::Display,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(total) = self.total else {
            return self.repeat(operation, paid).await;
        };
        let limited = Timeout::within(&self.clock, total, self.repeat(operation, paid));
        match limited.named(TimeLimit::Total).told_elsewhere().await {
            Ok(result) => result,
            Err(timed_out) => Err(CallError::Timeout(timed_out)),
        }
    }

    /// `paid`: the turn at the rate limiter that the first attempt has got already.
    async fn repeat<T, E, F, Fut>(&self, operation: &F, paid: &Turn) -> Result<T, CallError<E>>
    where
        E: Classify + fmt::Display,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(retry) = &self.retry else {
            return self.hedged(operation, paid).await;
        };
        let idempotent = paid.options.idempotent;
        let attempts = retry.run_calls(self.total, idempotent, || self.hedged(operation, paid));
        attempts.await.map_err(|error| self.flatten(error))
    }

    async fn hedged<T, E, F, Fut>(&self, operation: &F, paid: &Turn) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match &self.hedge {
            Some(hedge) => {
                let eligible = paid.options.idempotent.unwrap_or(true);
                let attempt = || self.attempt(operation, paid);
                hedge.run_if(eligible, attempt).await
            }
            None => self.attempt(operation, paid).await,
        }
    }

    /// One attempt and its turn at the rate limiter, given back if nothing was sent.
    async fn attempt<T, E, F, Fut>(&self, operation: &F, paid: &Turn) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let options = paid.options;
        let Some(limiter) = &self.limiter else {
            return self.guarded(operation, options.priority).await;
        };
        let taken = match paid.take() {
            Some(taken) => taken,
            None => limiter.take(options.weight, Deadline::NEVER).await?,
        };
        let result = self.guarded(operation, options.priority).await;
        match &result {
            Err(CallError::Rejected(_)) => limiter.give_back(options.weight, Some(taken)),
            Err(error) => limiter.heed(error),
            Ok(_) => {}
        }
        result
    }

    /// One attempt, judged by the breaker.
    async fn guarded<T, E, F, Fut>(
        &self,
        operation: &F,
        priority: Priority,
    ) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(breaker) = &self.breaker else {
            let _place = match &self.bulkhead {
                Some(bulkhead) => Some(bulkhead.enter(priority, Deadline::NEVER).await?),
                None => None,
            };
            return self.limited(operation).await;
        };
        let mut guard = breaker.admit().map_err(|r| CallError::Rejected(r.into()))?;
        let _place = match &self.bulkhead {
            Some(bulkhead) => Some(Self::place(bulkhead, priority, &mut guard).await?),
            None => None,
        };
        let result = self.limited(operation).await;
        guard.end(Verdict::of_call(&result));
        result
    }

    /// A place in the bulkhead for a call that the breaker has admitted. The wait is bounded by the
    /// total time, which drops this whole future, and says nothing about the other side.
    async fn place<'a>(
        bulkhead: &'a Bulkhead,
        priority: Priority,
        guard: &mut Guard<&BreakerShared>,
    ) -> Result<Place<&'a BulkheadShared>, Rejection> {
        if let Some(place) = bulkhead.enter_at_once(priority) {
            return Ok(place);
        }
        let entering = bulkhead.enter(priority, Deadline::NEVER);
        guard.while_waiting(entering).await
    }

    /// One attempt within its time.
    async fn limited<T, E, F, Fut>(&self, operation: &F) -> Result<T, CallError<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(limit) = self.attempt else {
            return operation().await.map_err(CallError::Inner);
        };
        let limited = Timeout::within(&self.clock, limit, operation());
        match limited.named(TimeLimit::Attempt).told_elsewhere().await {
            Ok(result) => result.map_err(CallError::Inner),
            Err(timed_out) => {
                telemetry::timed_out(Some(&self.name), timed_out);
                Err(CallError::Timeout(timed_out))
            }
        }
    }

    /// The last error, or an earlier one where only that tells that the work may have been done; a run
    /// that its deadline cut off is a timeout of the whole call.
    fn flatten<E>(&self, error: RetryError<CallError<E>>) -> CallError<E> {
        let cut_off = error.was_cut_off();
        match error.into_worst() {
            Some(error) if !cut_off => error,
            _ => {
                let own = self.retry.as_ref().and_then(Retry::total);
                let limit = own.or(self.total).unwrap_or_default();
                CallError::Timeout(TimedOut::of(limit, TimeLimit::Total))
            }
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.shared.name)
            .field("layers", &self.layers())
            .finish()
    }
}
