//! Pipelines that suit many, to start from.

use std::sync::Arc;
use std::time::Duration;

use super::{Pipeline, PipelineBuilder};
use crate::breaker::{BreakerConfig, CircuitBreaker};
use crate::bulkhead::Bulkhead;
use crate::config_error::ConfigError;
use crate::limit::{Quota, RateLimiter};
use crate::retry::{Retry, RetryBuilder};

/// How long a call may wait for its place in the bulkhead of a preset.
const MAX_QUEUED: Duration = Duration::from_secs(5);

/// What operators set from outside, such as by `RETRY_MAX_ATTEMPTS`, `CIRCUIT_BREAKER_THRESHOLD`
/// and their siblings. The fields are named as the variables are.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Pipeline, ResilienceSettings};
///
/// # fn main() -> Result<(), infra_resilience::ConfigError> {
/// let settings = ResilienceSettings {
///     retry_max_attempts: 5,
///     call_timeout: Some(Duration::from_secs(4)),
///     ..ResilienceSettings::default()
/// };
/// // An attempt may take 10 s unless set, and all of them together only 4 s.
/// let error = Pipeline::standard("api", settings)?.build().unwrap_err();
/// assert!(error.to_string().contains("is 4s, shorter than `attempt_timeout` (10s)"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResilienceSettings {
    /// Attempts in all, the first call included; 3 unless set.
    pub retry_max_attempts: u32,
    /// The longest wait before the second attempt; 100 ms unless set. It doubles from one to the
    /// next.
    pub retry_base_delay: Duration,
    /// The longest wait of all; 10 s unless set.
    pub retry_max_delay: Duration,
    /// Failures in a row that open the breaker; 5 unless set.
    pub circuit_breaker_threshold: u32,
    /// How long the breaker stays open at first; 30 s unless set. Twice as long after each failed
    /// probe, up to four times.
    pub circuit_breaker_open_duration: Duration,
    /// The limit on a whole call. `None`: what the preset says.
    pub call_timeout: Option<Duration>,
    /// The limit on one attempt. `None`: what the preset says.
    pub call_attempt_timeout: Option<Duration>,
}

impl Default for ResilienceSettings {
    fn default() -> Self {
        ResilienceSettings {
            retry_max_attempts: 3,
            retry_base_delay: Duration::from_millis(100),
            retry_max_delay: Duration::from_secs(10),
            circuit_breaker_threshold: 5,
            circuit_breaker_open_duration: Duration::from_secs(30),
            call_timeout: None,
            call_attempt_timeout: None,
        }
    }
}

impl ResilienceSettings {
    /// The retry policy of these settings: exponential waits with full jitter.
    pub fn retry(&self) -> RetryBuilder {
        Retry::exponential()
            .max_attempts(self.retry_max_attempts)
            .base(self.retry_base_delay)
            .cap(self.retry_max_delay)
    }

    /// The breaker of these settings, by failures in a row.
    pub fn breaker(&self) -> BreakerConfig {
        BreakerConfig::new()
            .consecutive_failures(self.circuit_breaker_threshold)
            .open_wait(self.circuit_breaker_open_duration)
    }

    /// The limits on a whole call and on one attempt, in seconds where the operator did not say.
    fn timeouts(&self, total: u64, attempt: u64) -> (Duration, Duration) {
        (
            self.call_timeout.unwrap_or(Duration::from_secs(total)),
            self.call_attempt_timeout
                .unwrap_or(Duration::from_secs(attempt)),
        )
    }
}

impl Pipeline {
    /// For a service call: 30 s in all and 10 s for an attempt unless set, exponential retries with
    /// full jitter, and a breaker.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot work, naming the values.
    pub fn standard(
        name: impl Into<Arc<str>>,
        settings: ResilienceSettings,
    ) -> Result<PipelineBuilder, ConfigError> {
        Self::preset(name.into(), settings, settings.timeouts(30, 10))
    }

    /// For the API of an exchange: its quotas, waited for in order, 10 calls at a time, 15 s in
    /// all and 5 s for an attempt unless set. Calls with an unknown outcome, such as an order that
    /// timed out, are never repeated, but for those that
    /// [`call_with`](Pipeline::call_with) marks as idempotent; it also takes the weight of a call.
    /// What answers say about the quotas goes to [`rate_limiter`](Pipeline::rate_limiter).
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot work, naming the values, and without any quota.
    pub fn exchange_api(
        name: impl Into<Arc<str>>,
        settings: ResilienceSettings,
        quotas: &[Quota],
    ) -> Result<PipelineBuilder, ConfigError> {
        let name: Arc<str> = name.into();
        let limiter = RateLimiter::builder(name.clone()).max_wait(Duration::from_secs(10));
        let limiter = quotas.iter().fold(limiter, |l, quota| l.quota(*quota));
        let bulkhead = Bulkhead::builder(name.clone())
            .max_concurrent(10)
            .queue(100, MAX_QUEUED);
        let pipeline = Self::preset(name, settings, settings.timeouts(15, 5))?;
        Ok(pipeline
            .rate_limiter(limiter.build()?)
            .bulkhead(bulkhead.build()?))
    }

    fn preset(
        name: Arc<str>,
        settings: ResilienceSettings,
        (total, attempt): (Duration, Duration),
    ) -> Result<PipelineBuilder, ConfigError> {
        let retry = settings.retry().name(name.clone());
        // A probe may wait for its place, and then for its answer.
        let lease = attempt.saturating_mul(2).saturating_add(MAX_QUEUED);
        let breaker = settings.breaker().probe_lease(lease);
        let breaker = CircuitBreaker::builder(&*name).config(breaker);
        Ok(Pipeline::builder(name)
            .total_timeout(total)
            .retry(retry.build()?)
            .breaker(breaker.build()?)
            .attempt_timeout(attempt))
    }
}
