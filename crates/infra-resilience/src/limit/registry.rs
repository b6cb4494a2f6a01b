//! One rate limiter per key, in bounded memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::DirectClock;

use super::builder::check_quotas;
use super::{RateLimiter, RateLimiterBuilder};
use crate::call_error::Rejection;
use crate::config_error::{self as check, ConfigError};
use crate::keyed::{Keep, Keyed};

const DEFAULT_CAPACITY: u32 = 10_000;

/// Rate limiters by key, all with the same quotas. Clones share one registry.
///
/// When it is full, a limiter that nobody holds and that has all its quotas to itself again makes
/// room. If none has, a new key gets a limiter that the registry does not keep, counted in
/// [`overflowed`](RateLimiterRegistry::overflowed).
#[derive(Clone)]
pub struct RateLimiterRegistry {
    shared: Arc<RegistryShared>,
}

struct RegistryShared {
    template: RateLimiterBuilder,
    clock: DirectClock,
    keyed: Keyed<RateLimiter>,
}

impl Keep for RateLimiter {
    fn is_forgettable(&self) -> bool {
        self.is_alone_and_fresh()
    }
}

/// The settings of a [`RateLimiterRegistry`].
#[derive(Debug, Clone)]
pub struct RateLimiterRegistryBuilder {
    template: RateLimiterBuilder,
    capacity: u32,
    idle_after: Option<Duration>,
}

impl RateLimiterRegistryBuilder {
    /// How many limiters are kept, 1 or more; 10,000 unless set.
    #[must_use]
    pub fn capacity(mut self, limiters: u32) -> Self {
        self.capacity = limiters;
        self
    }

    /// Also removes limiters that nobody has asked for in this time. Each request looks at four
    /// entries, so the work never comes in bursts.
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = Some(idle);
        self
    }

    /// Checks the settings, those of the limiters as well.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work.
    pub fn build(self) -> Result<RateLimiterRegistry, ConfigError> {
        check::count("capacity", self.capacity, u32::MAX)?;
        if let Some(idle) = self.idle_after {
            check::positive("idle_after", idle)?;
        }
        check_quotas(&self.template.quotas)?;
        let mut template = self.template;
        let clock = template
            .clock
            .get_or_insert_with(DirectClock::system)
            .clone();
        Ok(RateLimiterRegistry {
            shared: Arc::new(RegistryShared {
                keyed: Keyed::new(clock.clone(), self.capacity, self.idle_after),
                template,
                clock,
            }),
        })
    }
}

impl RateLimiterRegistry {
    /// A registry whose limiters are built from `template`, each named by its key.
    pub fn builder(template: RateLimiterBuilder) -> RateLimiterRegistryBuilder {
        RateLimiterRegistryBuilder {
            template,
            capacity: DEFAULT_CAPACITY,
            idle_after: None,
        }
    }

    /// The limiter of `key`, made if there is none. Two callers get the same one.
    pub fn get(&self, key: &str) -> RateLimiter {
        let template = &self.shared.template;
        self.shared
            .keyed
            .get(key, |key| template.clone().made(key.clone()))
    }

    /// Takes `weight` from the limiter of `key` at once, or nothing: the same as
    /// `get(key).try_acquire(weight)`, and quicker.
    ///
    /// # Errors
    /// [`Rejection`] as for [`RateLimiter::try_acquire`].
    pub fn try_acquire(&self, key: &str, weight: u32) -> Result<(), Rejection> {
        let now = self.shared.clock.now();
        let template = &self.shared.template;
        let make = |key: &Arc<str>| template.clone().made(key.clone());
        let take = |limiter: &RateLimiter| limiter.try_take(weight, now);
        self.shared.keyed.with(key, make, take)
    }

    /// How many limiters are kept.
    pub fn len(&self) -> usize {
        self.shared.keyed.counts().len
    }

    /// True when no limiter is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many limiters were removed to make room or for being idle.
    pub fn evicted(&self) -> u64 {
        self.shared.keyed.counts().evicted
    }

    /// How many limiters were handed out without being kept, because none could make room.
    pub fn overflowed(&self) -> u64 {
        self.shared.keyed.counts().overflowed
    }
}

impl fmt::Debug for RateLimiterRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterRegistry")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
