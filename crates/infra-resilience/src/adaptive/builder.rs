//! The settings of an adaptive limiter.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::{SharedClock, SystemClock};

use super::limit::{AdaptiveLimit, Algorithm};
use super::{AdaptiveLimiter, Shared};
use crate::bulkhead::{Bulkhead, BulkheadBuilder};
use crate::call_error::RejectedBy;
use crate::config_error::{self as check, ConfigError};
use crate::priority::Priority;
use crate::telemetry::Gauge;

/// The settings of an [`AdaptiveLimiter`]: additive increase, times 0.9 when overloaded, from 20
/// calls between 1 and 1,000; no queue.
#[derive(Clone)]
pub struct AdaptiveBuilder {
    bulkhead: BulkheadBuilder,
    algorithm: Algorithm,
    initial: u32,
    bounds: (u32, u32),
    slow_after: Option<Duration>,
    clock: Option<SharedClock>,
}

impl AdaptiveBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        AdaptiveBuilder {
            bulkhead: Bulkhead::builder(name).named_by(RejectedBy::AdaptiveLimiter),
            algorithm: Algorithm::Aimd { backoff: 0.9 },
            initial: 20,
            bounds: (1, 1_000),
            slow_after: None,
            clock: None,
        }
    }

    /// By what rule the limit moves.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The limit to begin with, between the bounds; 20 unless set.
    #[must_use]
    pub fn initial(mut self, calls: u32) -> Self {
        self.initial = calls;
        self
    }

    /// The bounds of the limit, 1 to 1,000,000; 1 and 1,000 unless set.
    #[must_use]
    pub fn bounds(mut self, min: u32, max: u32) -> Self {
        self.bounds = (min, max);
        self
    }

    /// Calls that take so long are overloaded, also successful ones and those that were dropped.
    /// Not looked at unless set.
    #[must_use]
    pub fn slow_after(mut self, latency: Duration) -> Self {
        self.slow_after = Some(latency);
        self
    }

    /// How many calls may wait for a place, and how long each; see
    /// [`BulkheadBuilder::queue`](crate::BulkheadBuilder::queue).
    #[must_use]
    pub fn queue(mut self, calls: u32, max_wait: Duration) -> Self {
        self.bulkhead = self.bulkhead.queue(calls, max_wait);
        self
    }

    /// Up to which share of the limit calls of `priority` may go; see
    /// [`BulkheadBuilder::share`](crate::BulkheadBuilder::share).
    #[must_use]
    pub fn share(mut self, priority: Priority, share: f64) -> Self {
        self.bulkhead = self.bulkhead.share(priority, share);
        self
    }

    /// The clock to measure by and to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings and builds the limiter.
    ///
    /// # Errors
    /// [`ConfigError`] naming the settings and their values where they cannot work.
    pub fn build(self) -> Result<AdaptiveLimiter, ConfigError> {
        if let Some(latency) = self.slow_after {
            check::positive("slow_after", latency)?;
        }
        let clock = self.clock.unwrap_or_else(SystemClock::shared);
        let bulkhead = self.bulkhead.max_concurrent(self.initial);
        let limit = AdaptiveLimit::new(self.algorithm, self.initial, self.bounds)?;
        Ok(AdaptiveLimiter {
            shared: Arc::new(Shared {
                bulkhead: bulkhead.clock(clock.clone()).build()?,
                limit: Mutex::new(limit),
                slow_after: self.slow_after,
                clock: clock.into(),
                gauge: Gauge::new(),
            }),
        })
    }
}

impl fmt::Debug for AdaptiveBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveBuilder")
            .field("bulkhead", &self.bulkhead)
            .field("algorithm", &self.algorithm)
            .field("initial", &self.initial)
            .field("bounds", &self.bounds)
            .field("slow_after", &self.slow_after)
            .finish_non_exhaustive()
    }
}
