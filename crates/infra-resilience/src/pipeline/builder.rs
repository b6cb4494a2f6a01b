//! The settings of a pipeline, checked against each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{DirectClock, SharedClock};

use super::{Layers, Pipeline};
use crate::breaker::CircuitBreaker;
use crate::bulkhead::Bulkhead;
use crate::config_error::{self as check, ConfigError};
use crate::hedge::Hedge;
use crate::limit::RateLimiter;
use crate::retry::Retry;

/// The settings of a [`Pipeline`]. Without any, calls are simply made.
#[derive(Clone)]
pub struct PipelineBuilder {
    layers: Layers,
}

impl PipelineBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        PipelineBuilder {
            layers: Layers {
                name,
                limiter: None,
                total: None,
                retry: None,
                hedge: None,
                breaker: None,
                bulkhead: None,
                attempt: None,
                clock: DirectClock::system(),
            },
        }
    }

    /// Outermost: how many attempts may begin in a time. The first wait for a turn is not part of
    /// the total time; those of repetitions are.
    #[must_use]
    pub fn rate_limiter(mut self, limiter: RateLimiter) -> Self {
        self.layers.limiter = Some(limiter);
        self
    }

    /// The limit on a whole call with all its attempts and waits.
    #[must_use]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.layers.total = Some(limit);
        self
    }

    /// Repeats attempts. Rejections by the breaker wait for the breaker and cost no budget.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.layers.retry = Some(retry);
        self
    }

    /// Starts a second attempt beside one that is late. Only for work that may be done twice.
    #[must_use]
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.layers.hedge = Some(hedge);
        self
    }

    /// Stops attempts while the other side does not work.
    #[must_use]
    pub fn breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.layers.breaker = Some(breaker);
        self
    }

    /// Limits how many attempts run at the same time. Waiting for a place is no failure of the
    /// other side: a rejection here is ignored by the breaker.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.layers.bulkhead = Some(bulkhead);
        self
    }

    /// Innermost: the limit on one attempt, so that the breaker sees hung attempts as failures.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.layers.attempt = Some(limit);
        self
    }

    /// The clock of the time limits; the system's unless set. The other parts have their own.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.layers.clock = clock.into();
        self
    }

    /// Checks the parts against each other and builds the pipeline.
    ///
    /// # Errors
    /// [`ConfigError`] for time limits of zero, for an attempt that may take longer than the whole
    /// call, for a breaker whose time window is shorter than two attempts, which would forget a hung
    /// attempt before the next one ends, and for one whose probes have a shorter lease than an
    /// attempt may take, which would never close on a slow backend.
    pub fn build(self) -> Result<Pipeline, ConfigError> {
        self.into_layers().map(Pipeline::of)
    }

    /// The layers, checked; what is suspicious about them is logged.
    pub(super) fn into_layers(self) -> Result<Layers, ConfigError> {
        self.layers.check()?;
        for warning in self.layers.warnings() {
            tracing::warn!(
                pipeline = &*self.layers.name,
                warning,
                "pipeline_suspicious"
            );
        }
        Ok(self.layers)
    }
}

impl Layers {
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(attempt) = self.attempt {
            check::positive("attempt_timeout", attempt)?;
        }
        if let Some(total) = self.total {
            check::positive("total_timeout", total)?;
        }
        if let (Some(attempt), Some(total)) = (self.attempt, self.total) {
            check::ordered(("attempt_timeout", attempt), ("total_timeout", total))?;
        }
        if let (Some(attempt), Some(breaker)) = (self.attempt, &self.breaker)
            && breaker.probe_lease() < attempt
        {
            let message = format!(
                "the breaker's `probe_lease` is {:?}, shorter than `attempt_timeout` ({attempt:?}): a \
                 slow probe would count as hung",
                breaker.probe_lease()
            );
            return Err(ConfigError::new("breaker", message));
        }
        let window = self.breaker.as_ref().and_then(CircuitBreaker::time_window);
        if let (Some(attempt), Some(window)) = (self.attempt, window)
            && window < attempt.saturating_mul(2)
        {
            let message = format!(
                "the breaker's `time_window` is {window:?}, shorter than two attempts \
                 (`attempt_timeout` is {attempt:?})"
            );
            return Err(ConfigError::new("breaker", message));
        }
        Ok(())
    }

    pub(super) fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.breaker.is_some() && self.attempt.is_none() && self.total.is_some() {
            warnings.push(
                "the only time limit is outside of the breaker: set `attempt_timeout` so that \
                 hung attempts are failures and not merely cancelled",
            );
        }
        warnings
    }
}

impl fmt::Debug for PipelineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipelineBuilder")
            .field("name", &self.layers.name)
            .field("layers", &self.layers)
            .finish()
    }
}
