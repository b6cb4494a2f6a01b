//! Pipelines that suit many, to start from.

use std::sync::Arc;
use std::time::Duration;

use super::{Pipeline, PipelineBuilder};
use crate::breaker::CircuitBreaker;
use crate::bulkhead::Bulkhead;
use crate::config_error::ConfigError;
use crate::limit::{Quota, RateLimiter};
use crate::retry::Retry;

/// What operators set from outside, such as by `RETRY_MAX_ATTEMPTS` and
/// `CIRCUIT_BREAKER_THRESHOLD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResilienceSettings {
    /// Attempts in all, the first call included; 3 unless set.
    pub retry_max_attempts: u32,
    /// Failures in a row that open the breaker; 5 unless set.
    pub circuit_breaker_threshold: u32,
}

impl Default for ResilienceSettings {
    fn default() -> Self {
        ResilienceSettings {
            retry_max_attempts: 3,
            circuit_breaker_threshold: 5,
        }
    }
}

impl Pipeline {
    /// For a service call: 30 s in all, 10 s for an attempt, exponential retries with full
    /// jitter, and a breaker that opens for 30 s.
    ///
    /// # Errors
    /// [`ConfigError`] for settings of zero.
    pub fn standard(
        name: impl Into<Arc<str>>,
        settings: ResilienceSettings,
    ) -> Result<PipelineBuilder, ConfigError> {
        let name: Arc<str> = name.into();
        let retry = Retry::exponential()
            .name(name.clone())
            .max_attempts(settings.retry_max_attempts);
        let breaker = CircuitBreaker::builder(&*name)
            .consecutive_failures(settings.circuit_breaker_threshold);
        Ok(Pipeline::builder(name)
            .total_timeout(Duration::from_secs(30))
            .retry(retry.build()?)
            .breaker(breaker.build()?)
            .attempt_timeout(Duration::from_secs(10)))
    }

    /// For the API of an exchange: its quotas, waited for in order, 10 calls at a time, 15 s in
    /// all and 5 s for an attempt. Calls with an unknown outcome, such as an order that timed
    /// out, are never repeated.
    ///
    /// # Errors
    /// [`ConfigError`] for settings of zero, and without any quota.
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
            .queue(100, Duration::from_secs(5));
        Ok(Pipeline::standard(name, settings)?
            .rate_limiter(limiter.build()?)
            .total_timeout(Duration::from_secs(15))
            .bulkhead(bulkhead.build()?)
            .attempt_timeout(Duration::from_secs(5)))
    }
}
