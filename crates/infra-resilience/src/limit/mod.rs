//! Rate limits: smooth or strict, several at once, weighted, with waiting in order.
//!
//! # Layout
//! - [`RateLimiter`]: the shared handle; [`RateLimiterBuilder`] makes one.
//! - [`Quota`]: how much may pass in how much time.
//! - [`Reservation`]: weight that is given back where it was not used.
//! - [`RateLimiterRegistry`]: one limiter per key, bounded.
//! - `meters`, `gcra`, `strict`: the state machines without I/O. A limiter with one smooth quota
//!   is one atomic word; all others are behind a lock.

mod builder;
mod gcra;
mod meters;
mod quota;
mod registry;
mod reservation;
mod strict;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Classify, Deadline, DirectClock, MonoTime};

use self::builder::check_quotas;
use self::meters::Meters;
use crate::call_error::{CallError, RejectedBy, Rejection};
use crate::config_error::ConfigError;
use crate::telemetry::Count;
use crate::turnstile::{Gate, Refused, Taking, Turnstile};

pub use builder::RateLimiterBuilder;
pub use quota::Quota;
pub use registry::{RateLimiterRegistry, RateLimiterRegistryBuilder};
pub use reservation::Reservation;

/// How long the gate closes where an answer says no more than its status. 429: too many requests.
const PAUSE_AFTER_429: Duration = Duration::from_secs(1);
/// 418: the address is banned; the shortest ban of those exchanges that use it.
const PAUSE_AFTER_418: Duration = Duration::from_secs(120);

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
    clock: DirectClock,
    rejected: Count,
}

impl RateLimiter {
    /// Starts the settings of a limiter whose name appears in errors.
    pub fn builder(name: impl Into<Arc<str>>) -> RateLimiterBuilder {
        RateLimiterBuilder::new(name.into())
    }

    /// Makes the call when there is room for one unit of weight, waiting in order. An error that
    /// [says so](Classify::is_throttled) closes the gate for all calls, as
    /// [`observe_status`](Self::observe_status) does for a 429; an answer that is no error is the
    /// caller's to tell.
    ///
    /// # Errors
    /// [`CallError::Rejected`] without having called `operation`, or its own error.
    pub async fn call<T, E, F, Fut>(&self, operation: F) -> Result<T, CallError<E>>
    where
        E: Classify,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.acquire(1).await?;
        let result = operation().await;
        result.map_err(|error| {
            self.shared.heed(&error);
            CallError::Inner(error)
        })
    }

    /// Takes `weight` at once from all quotas, or nothing.
    ///
    /// # Errors
    /// [`Rejection`] with the time until there is room, where nobody else is waiting for it; a
    /// weight above what a quota can ever hold is a permanent error.
    #[inline]
    pub fn try_acquire(&self, weight: u32) -> Result<(), Rejection> {
        self.try_take(weight, self.shared.clock.now())
    }

    #[inline]
    fn try_take(&self, weight: u32, now: MonoTime) -> Result<(), Rejection> {
        match self.shared.turnstile.try_take(weight, now) {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.shared.rejection(refused)),
        }
    }

    /// Like [`try_acquire`](Self::try_acquire), to be given back where it is not used.
    ///
    /// # Errors
    /// [`Rejection`] as for [`try_acquire`](Self::try_acquire).
    pub fn try_reserve(&self, weight: u32) -> Result<Reservation, Rejection> {
        let now = self.shared.clock.now();
        self.try_take(weight, now)?;
        Ok(Reservation::new(self.clone(), weight, now))
    }

    /// Like [`acquire`](Self::acquire), to be given back where it is not used. Cancel safe.
    ///
    /// # Errors
    /// [`Rejection`] as for [`acquire`](Self::acquire).
    pub async fn reserve(&self, weight: u32) -> Result<Reservation, Rejection> {
        let taken = self.take(weight, Deadline::NEVER).await?;
        Ok(Reservation::new(self.clone(), weight, taken))
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
        self.take(weight, deadline).await.map(drop)
    }

    /// Takes `weight` and says when.
    pub(crate) async fn take(
        &self,
        weight: u32,
        deadline: Deadline,
    ) -> Result<MonoTime, Rejection> {
        let shared = &*self.shared;
        let taking = Taking::new(shared, weight, deadline);
        taking.await.map_err(|refused| shared.rejection(refused))
    }

    /// Gives back `weight` that was just taken, within the period of a strict quota at least, for
    /// a call that was not made after all. Where more time passes in between, a [`Reservation`]
    /// knows how much of it is still owed.
    pub fn refund(&self, weight: u32) {
        self.give_back(weight, None);
    }

    /// Takes note of the weight that the other side says was used in the current period (such as
    /// a `used-weight` header), where the limiter has one strict quota, which then counts at least
    /// that. Smooth quotas beside it do not count by period.
    ///
    /// Returns false, and changes nothing, where there is no strict quota, and where there are
    /// several: [`observe_in`](Self::observe_in) says which of them is meant.
    pub fn observe(&self, used_weight: u32) -> bool {
        self.take_note(used_weight, None)
    }

    /// Takes note of the weight that the other side says was used in the current period of so
    /// long: strict quotas of exactly this period count at least that, the others are left alone.
    /// Returns false, and changes nothing, where there is none.
    ///
    /// ```
    /// use std::time::Duration;
    /// use infra_resilience::{Quota, RateLimiter};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// const SECOND: Duration = Duration::from_secs(1);
    /// const MINUTE: Duration = Duration::from_secs(60);
    /// let exchange = RateLimiter::builder("exchange")
    ///     .quota(Quota::strict(1_200, MINUTE))
    ///     .quota(Quota::strict(50, SECOND))
    ///     .build()?;
    /// // An answer says `X-MBX-USED-WEIGHT-1M: 1150`: other programs use this account as well.
    /// assert!(exchange.observe_in(MINUTE, 1_150));
    /// exchange.try_acquire(50)?;
    /// let refused = exchange.try_acquire(1).unwrap_err();
    /// assert!(refused.retry_after.unwrap() > 59 * SECOND);
    /// # Ok(()) }
    /// ```
    pub fn observe_in(&self, period: Duration, used_weight: u32) -> bool {
        self.take_note(used_weight, Some(period))
    }

    fn take_note(&self, used: u32, period: Option<Duration>) -> bool {
        let now = self.shared.clock.now();
        let meters = &self.shared.turnstile;
        let known = meters.change(|meters, _| meters.observe(used, period, now));
        if !known {
            tracing::debug!(
                limiter = self.name(),
                ?period,
                "rate_limiter_observation_unused"
            );
        }
        known
    }

    /// Takes note of the status of an answer: 429 (too many requests) and 418 (banned) close the
    /// gate for as long as the answer asks for, or for 1 s and 2 minutes where it does not say.
    /// Returns whether the status was one of them.
    pub fn observe_status(&self, status: u16, retry_after: Option<Duration>) -> bool {
        let pause = match status {
            429 => PAUSE_AFTER_429,
            418 => PAUSE_AFTER_418,
            _ => return false,
        };
        self.shared.close_for(retry_after.unwrap_or(pause));
        true
    }

    /// Lets nothing pass for so long: the other side said so (HTTP 429 or 418 with Retry-After).
    /// A shorter wish than an earlier one changes nothing.
    pub fn close_for(&self, wait: Duration) {
        self.shared.close_for(wait);
    }

    /// Closes the gate where the other side says that it was asked too often.
    pub(crate) fn heed(&self, error: &impl Classify) {
        self.shared.heed(error);
    }

    /// Exchanges the quotas while calls are waiting. What was used stays used: a change never
    /// grants a second burst. Quotas are matched by their position.
    ///
    /// # Errors
    /// [`ConfigError`] where a quota cannot work; the old ones stay.
    pub fn set_quotas(&self, quotas: &[Quota]) -> Result<(), ConfigError> {
        check_quotas(quotas)?;
        let now = self.shared.clock.now();
        let meters = &self.shared.turnstile;
        meters.change(|meters, lent| meters.exchange(quotas, lent, now));
        Ok(())
    }

    /// Gives back what was taken at that time, or just now.
    pub(crate) fn give_back(&self, weight: u32, taken: Option<MonoTime>) {
        let now = self.shared.clock.now();
        let meters = &self.shared.turnstile;
        meters.change(|meters, _| meters.refund(weight, taken, now));
    }

    fn overdraw(&self, weight: u32) {
        let now = self.shared.clock.now();
        let meters = &self.shared.turnstile;
        meters.change(|meters, _| meters.overdraw(weight, now));
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
            && self
                .shared
                .turnstile
                .change(|meters, _| meters.is_fresh(now))
    }
}

impl Gate for Shared {
    type Scarce = Meters;
    fn turnstile(&self) -> &Turnstile<Meters> {
        &self.turnstile
    }
    fn clock(&self) -> &DirectClock {
        &self.clock
    }
    fn max_wait(&self) -> Option<Duration> {
        self.max_wait
    }
}

impl Shared {
    fn close_for(&self, wait: Duration) {
        let until = self.clock.now().plus(wait);
        self.turnstile.change(|meters, _| meters.close_until(until));
    }

    /// Closes the gate where the other side says that it was asked too often.
    pub(crate) fn heed(&self, error: &impl Classify) {
        if error.is_throttled() {
            self.close_for(error.retry_after().unwrap_or(PAUSE_AFTER_429));
        }
    }

    #[cold]
    pub(crate) fn rejection(&self, refused: Refused) -> Rejection {
        let rejection = Rejection {
            retry_after: refused.retry_after,
            ..Rejection::new(RejectedBy::RateLimiter, &self.name, refused.reason)
        };
        self.rejected.rejection(&rejection);
        rejection
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
