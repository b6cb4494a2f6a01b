//! Rate limits: smooth or strict, several at once, weighted, with waiting in order.
//!
//! # Layout
//! - [`RateLimiter`]: the shared handle. `quota` holds the state machines without I/O.
//! - [`Quota`]: how much may pass in how much time.
//! - [`RateLimiterRegistry`]: one limiter per key, bounded.

mod quota;
mod registry;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Clock, Deadline, MonoTime, SharedClock, SystemClock};

use self::quota::Meter;
use crate::call_error::{CallError, RejectedBy, Rejection};
use crate::config_error::{self as check, ConfigError};
use crate::turnstile::{Gate, Refused, Scarce, Take, Taking, Turnstile};

pub use quota::Quota;
pub use registry::{RateLimiterRegistry, RateLimiterRegistryBuilder};

/// A rate limiter. Clones share one state.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Quota, RateLimiter};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // What an exchange allows: 1,200 units of weight in any minute, and 10 orders in any second.
/// let limiter = RateLimiter::builder("exchange")
///     .quota(Quota::strict(1_200, Duration::from_secs(60)))
///     .quota(Quota::strict(10, Duration::from_secs(1)))
///     .build()?;
/// limiter.acquire(5).await?; // waits its turn; takes from both quotas or from none
/// let refused = limiter.try_acquire(6).unwrap_err();
/// assert!(refused.retry_after.unwrap() > Duration::from_millis(900));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RateLimiter {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    name: Arc<str>,
    turnstile: Turnstile<Meters>,
    max_wait: Option<Duration>,
    clock: SharedClock,
}

/// All quotas of a limiter, and the gate that the other side can close.
#[derive(Debug)]
pub(crate) struct Meters {
    meters: Vec<Meter>,
    closed_until: MonoTime,
}

impl Scarce for Meters {
    fn try_take(&mut self, weight: u32, now: MonoTime) -> Take {
        let mut wait = self.closed_until.since(now);
        for meter in &mut self.meters {
            match meter.wait(weight, now) {
                Some(needed) => wait = wait.max(needed),
                None => return Take::TooHeavy,
            }
        }
        if !wait.is_zero() {
            return Take::Wait(Some(wait));
        }
        for meter in &mut self.meters {
            meter.take(weight, now);
        }
        Take::Taken
    }
}

/// The settings of a [`RateLimiter`].
#[derive(Clone)]
pub struct RateLimiterBuilder {
    name: Arc<str>,
    quotas: Vec<Quota>,
    queue: u32,
    max_wait: Option<Duration>,
    clock: Option<SharedClock>,
}

impl RateLimiterBuilder {
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
        self.clock = Some(clock);
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
    fn made(self, name: Arc<str>) -> RateLimiter {
        let meters = Meters {
            meters: self.quotas.iter().copied().map(Meter::new).collect(),
            closed_until: MonoTime::ZERO,
        };
        RateLimiter {
            shared: Arc::new(Shared {
                name,
                turnstile: Turnstile::new(meters, self.queue),
                max_wait: self.max_wait,
                clock: self.clock.unwrap_or_else(SystemClock::shared),
            }),
        }
    }
}

impl RateLimiter {
    /// Starts the settings of a limiter whose name appears in errors.
    pub fn builder(name: impl Into<Arc<str>>) -> RateLimiterBuilder {
        RateLimiterBuilder {
            name: name.into(),
            quotas: Vec::new(),
            queue: 1_024,
            max_wait: None,
            clock: None,
        }
    }

    /// Makes the call when there is room for one unit of weight, waiting in order.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.acquire(1).await?;
        operation().await.map_err(CallError::Inner)
    }

    /// Takes `weight` at once from all quotas, or nothing.
    ///
    /// # Errors
    /// [`Rejection`] with the time until there is room, where nobody else is waiting for it; a
    /// weight above what a quota can ever hold is a permanent error.
    pub fn try_acquire(&self, weight: u32) -> Result<(), Rejection> {
        let now = self.shared.clock.now();
        let taken = self.shared.turnstile.try_take(weight, now);
        taken.map_err(|refused| self.shared.rejection(refused))
    }

    /// Takes `weight`, waiting for it behind those who came before. Cancel safe: a dropped wait
    /// leaves nothing taken.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, the wait too long or the weight too much.
    pub async fn acquire(&self, weight: u32) -> Result<(), Rejection> {
        self.acquire_until(weight, Deadline::NEVER).await
    }

    /// Like [`acquire`](Self::acquire), waiting until `deadline` at the latest.
    ///
    /// # Errors
    /// [`Rejection`] when the queue is full, the wait too long or the weight too much.
    pub async fn acquire_until(&self, weight: u32, deadline: Deadline) -> Result<(), Rejection> {
        let shared = &*self.shared;
        let taking = Taking::new(shared, weight, shared.give_up(deadline));
        taking.await.map_err(|refused| shared.rejection(refused))
    }

    /// Gives back `weight` that was taken for a call that was not made after all.
    pub fn refund(&self, weight: u32) {
        self.shared.turnstile.change(|meters| {
            for meter in &mut meters.meters {
                meter.refund(weight);
            }
        });
    }

    /// Takes note of the weight that the other side says was used in the current period (such as
    /// a `used-weight` header). Strict quotas count at least that.
    pub fn observe(&self, used_weight: u32) {
        let now = self.shared.clock.now();
        self.shared.turnstile.change(|meters| {
            for meter in &mut meters.meters {
                meter.observe(used_weight, now);
            }
        });
    }

    /// Lets nothing pass for so long: the other side said so (HTTP 429 or 418 with Retry-After).
    /// A shorter wish than an earlier one changes nothing.
    pub fn close_for(&self, wait: Duration) {
        let until = self.shared.clock.now().plus(wait);
        self.shared.turnstile.change(|meters| {
            meters.closed_until = meters.closed_until.max(until);
        });
    }

    /// Exchanges the quotas while calls are waiting. What was used stays used: a change never
    /// grants a second burst. Quotas are matched by their position.
    ///
    /// # Errors
    /// [`ConfigError`] where a quota cannot work; the old ones stay.
    pub fn set_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        check_quotas(quotas)?;
        let now = self.shared.clock.now();
        self.shared.turnstile.change(|meters| {
            let mut old = std::mem::take(&mut meters.meters).into_iter();
            meters.meters = quotas
                .iter()
                .map(|quota| Meter::replacing(old.next(), *quota, now))
                .collect();
        });
        Ok(())
    }

    /// How many calls wait.
    pub fn queued(&self) -> usize {
        self.shared.turnstile.queued()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    #[cfg(feature = "tower")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// True when nobody else holds this limiter and a new one would behave alike.
    fn is_alone_and_fresh(&self) -> bool {
        let now = self.shared.clock.now();
        Arc::strong_count(&self.shared) == 1
            && self.shared.turnstile.change(|meters| {
                meters.closed_until <= now && meters.meters.iter_mut().all(|m| m.is_fresh(now))
            })
    }
}

fn check_quotas(quotas: &[Quota]) -> Result<(), ConfigError> {
    if quotas.is_empty() {
        return Err(ConfigError::new("quota", "none is set, must be at least 1"));
    }
    quotas.iter().try_for_each(Quota::check)
}

impl Gate for Shared {
    type Scarce = Meters;
    fn turnstile(&self) -> &Turnstile<Meters> {
        &self.turnstile
    }
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

impl Shared {
    pub(crate) fn give_up(&self, deadline: Deadline) -> Deadline {
        let own = self.max_wait.map_or(Deadline::NEVER, |wait| {
            Deadline::after(self.clock.now(), wait)
        });
        own.earlier(deadline)
    }

    pub(crate) fn rejection(&self, refused: Refused) -> Rejection {
        Rejection {
            retry_after: refused.retry_after,
            ..Rejection::new(RejectedBy::RateLimiter, &self.name, refused.reason)
        }
    }
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

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.shared.name)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}
