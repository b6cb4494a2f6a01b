//! The settings of a rate limiter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{DirectClock, SharedClock};

use super::meters::Meters;
use super::{Quota, RateLimiter, Shared};
use crate::config_error::{self as check, ConfigError};
use crate::telemetry::Count;
use crate::turnstile::Turnstile;

const DEFAULT_QUEUE: u32 = 1_024;

/// The settings of a [`RateLimiter`].
#[derive(Clone)]
pub struct RateLimiterBuilder {
    name: Arc<str>,
    pub(super) quotas: Vec<Quota>,
    queue: u32,
    max_wait: Option<Duration>,
    pub(super) clock: Option<DirectClock>,
}

impl RateLimiterBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        RateLimiterBuilder {
            name,
            quotas: Vec::new(),
            queue: DEFAULT_QUEUE,
            max_wait: None,
            clock: None,
        }
    }

    /// Adds a quota. A call passes when all quotas have room for it.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// How many calls may wait; 1,024 unless set.
    #[must_use]
    pub fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// How long a call may wait; a call that would have to wait longer is refused, at once where
    /// that is known. No limit unless set.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// The clock to live by; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Checks the settings and builds the limiter.
    ///
    /// # Errors
    /// [`ConfigError`] without any quota, and naming the setting and value that cannot work.
    pub fn build(self) -> Result<RateLimiter, ConfigError> {
        check_quotas(&self.quotas)?;
        if let Some(wait) = self.max_wait {
            check::positive("max_wait", wait)?;
        }
        let name = self.name.clone();
        Ok(self.made(name))
    }

    /// The limiter by settings that have been checked.
    pub(super) fn made(self, name: Arc<str>) -> RateLimiter {
        let meters = Meters::new(&self.quotas);
        let pace = meters.lent_pace();
        RateLimiter {
            shared: Arc::new(Shared {
                name,
                turnstile: Turnstile::new(meters, pace, self.queue),
                max_wait: self.max_wait,
                clock: self.clock.unwrap_or_else(DirectClock::system),
                rejected: Count::new(),
            }),
        }
    }
}

pub(super) fn check_quotas(quotas: &[Quota]) -> Result<(), ConfigError> {
    if quotas.is_empty() {
        return Err(ConfigError::new("quota", "none is set, must be at least 1"));
    }
    quotas.iter().try_for_each(Quota::check)
}

impl fmt::Debug for RateLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterBuilder")
            .field("name", &self.name)
            .field("quotas", &self.quotas)
            .field("queue", &self.queue)
            .field("max_wait", &self.max_wait)
            .finish_non_exhaustive()
    }
}
