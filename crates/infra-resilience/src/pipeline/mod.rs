//! All pieces around one call, in the order that works.
//!
//! # Layout
//! - [`Pipeline`]: the shared handle; [`PipelineBuilder`] makes one and checks its parts.
//! - [`PipelineRegistry`]: pipelines by name.
//! - `presets`: [`Pipeline::standard`] and [`Pipeline::exchange_api`].

mod builder;
mod presets;
mod registry;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use infra_core::{Classify, Deadline, DirectClock, MonoTime};

use crate::breaker::{CircuitBreaker, Verdict};
use crate::bulkhead::Bulkhead;
use crate::call_error::CallError;
use crate::config_error::ConfigError;
use crate::hedge::Hedge;
use crate::limit::RateLimiter;
use crate::priority::Priority;
use crate::retry::{Retry, RetryError};
use crate::telemetry;
use crate::timeout::{TimeLimit, TimedOut, Timeout};

pub use builder::PipelineBuilder;
pub use presets::ResilienceSettings;
pub use registry::PipelineRegistry;

/// Retry, breaker, limits and the rest around a call. Clones share one state.
///
/// The order is fixed, outermost first: rate limiter, total timeout, retry, hedge, breaker,
/// bulkhead, attempt timeout, call. Each attempt, hedged ones too, passes the breaker and the
/// bulkhead on its own, and each repetition waits for a turn of its own at the rate limiter: the
/// other side counts them too.
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
    warnings: Vec<&'static str>,
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

    fn new(name: Arc<str>, layers: Mutex<Arc<Layers>>, warnings: Vec<&'static str>) -> Self {
        Pipeline {
            shared: Arc::new(Shared {
                name,
                layers,
                warnings,
            }),
        }
    }

    /// Makes the call through all layers.
    ///
    /// Cancel safe: dropping the future drops what runs, leaves queues and gives places back.
    ///
    /// # Errors
    /// [`CallError`], one level deep whatever the layers are.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        E: Classify + fmt::Display,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let layers = self.layers();
        let paid = Turn::default();
        if let Some(limiter) = &layers.limiter {
            paid.put(limiter.take(1, Deadline::NEVER).await?);
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
        let mut layers = builder.into_layers()?;
        layers.name = self.shared.name.clone();
        *self.lock() = Arc::new(layers);
        Ok(())
    }

    /// What works but is probably not meant, one sentence each; logged when built.
    pub fn warnings(&self) -> &[&'static str] {
        &self.shared.warnings
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The breaker, for health and operators.
    pub fn breaker(&self) -> Option<CircuitBreaker> {
        self.layers().breaker.clone()
    }

    fn layers(&self) -> Arc<Layers> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Layers>> {
        let layers = &self.shared.layers;
        layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a turn at the rate limiter was got that no attempt has used yet. Never a moment that no
/// clock reaches.
struct Turn(AtomicU64);

impl Default for Turn {
    fn default() -> Self {
        Turn(AtomicU64::new(MonoTime::NEVER.as_nanos()))
    }
}

impl Turn {
    fn put(&self, taken: MonoTime) {
        self.0.store(taken.as_nanos(), Ordering::Relaxed);
    }

    fn take(&self) -> Option<MonoTime> {
        let nanos = self.0.swap(MonoTime::NEVER.as_nanos(), Ordering::Relaxed);
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
        let attempts = retry.run_calls(self.total, || self.hedged(operation, paid));
        attempts.await.map_err(|error| self.flatten(error))
    }

    async fn hedged<T, E, F, Fut>(&self, operation: &F, paid: &Turn) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        match &self.hedge {
            Some(hedge) => hedge.run(|| self.attempt(operation, paid)).await,
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
        let Some(limiter) = &self.limiter else {
            return self.guarded(operation).await;
        };
        let taken = match paid.take() {
            Some(taken) => taken,
            None => limiter.take(1, Deadline::NEVER).await?,
        };
        let result = self.guarded(operation).await;
        if let Err(CallError::Rejected(_)) = &result {
            limiter.give_back(1, Some(taken));
        }
        result
    }

    /// One attempt, judged by the breaker.
    async fn guarded<T, E, F, Fut>(&self, operation: &F) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some(breaker) = &self.breaker else {
            return self.limited(operation).await;
        };
        let guard = breaker.admit().map_err(|r| CallError::Rejected(r.into()))?;
        let result = self.limited(operation).await;
        guard.end(Verdict::of_call(&result));
        result
    }

    /// One attempt in its place in the bulkhead, within its time.
    async fn limited<T, E, F, Fut>(&self, operation: &F) -> Result<T, CallError<E>>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        // The wait is bounded by the total time: that limit drops this whole future.
        let _place = match &self.bulkhead {
            Some(bulkhead) => Some(bulkhead.enter(Priority::Normal, Deadline::NEVER).await?),
            None => None,
        };
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

    /// The last error; a run that its deadline cut off is a timeout of the whole call.
    fn flatten<E>(&self, error: RetryError<CallError<E>>) -> CallError<E> {
        let cut_off = error.was_cut_off();
        match error.into_inner() {
            Some(last) if !cut_off => last,
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
