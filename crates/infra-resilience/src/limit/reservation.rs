//! Weight that was taken for a call that may not be made after all.

use std::fmt;

use infra_core::MonoTime;

use super::RateLimiter;

/// Weight held for a call. Say by [`used`](Reservation::used) how much of it the call took;
/// dropping the reservation gives everything back.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Quota, RateLimiter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let quota = Quota::strict(20, Duration::from_secs(60));
/// let limiter = RateLimiter::builder("exchange").quota(quota).build()?;
/// // A page costs 10 to 20 units, and the answer says how many it was.
/// let held = limiter.try_reserve(20)?;
/// held.used(12);
/// drop(limiter.try_reserve(8)?); // nothing was sent
/// assert!(limiter.try_acquire(8).is_ok());
/// # Ok(()) }
/// ```
#[must_use = "the weight is given back when this is dropped"]
pub struct Reservation {
    limiter: RateLimiter,
    weight: u32,
    taken: MonoTime,
}

impl Reservation {
    pub(super) fn new(limiter: RateLimiter, weight: u32, taken: MonoTime) -> Self {
        Reservation {
            limiter,
            weight,
            taken,
        }
    }

    /// How much is held.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The call was made and took `weight`; the rest is given back. More than was held is taken
    /// as well, as far as it is known only now.
    pub fn used(mut self, weight: u32) {
        let more = weight.saturating_sub(self.weight);
        self.weight = self.weight.saturating_sub(weight);
        if more > 0 {
            self.limiter.overdraw(more);
        }
    }

    /// The call was made and took all that was held.
    pub fn used_all(mut self) {
        self.weight = 0;
    }
}

/// What has been refilled, or has left the window, since the reservation is not given back a
/// second time.
impl Drop for Reservation {
    fn drop(&mut self) {
        if self.weight > 0 {
            self.limiter.give_back(self.weight, Some(self.taken));
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("limiter", &self.limiter.name())
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}
