//! How long to wait before dialling again.

use std::time::Duration;

/// Capped exponential backoff with jitter: attempt `n` waits between half and all of
/// `min(cap, base * 2^n)`, so that many processes cut off at once do not come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// Waits that start at `base` and double up to `cap`; a cap below the base is raised to it.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        let cap = if cap.as_nanos() < base.as_nanos() {
            base
        } else {
            cap
        };
        Backoff { base, cap }
    }

    /// The wait before attempt `attempt`, counted from 0.
    pub fn delay(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(20)).unwrap_or(u32::MAX);
        let full = self.base.saturating_mul(factor).min(self.cap);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The same backoff with a cap `factor` times as high, for causes that a person must remove.
    #[must_use]
    pub const fn slower(&self, factor: u32) -> Self {
        Backoff::new(self.base, self.cap.saturating_mul(factor))
    }
}

/// 50 ms doubling to 1 s: an outage of any length ends for the client within about a second.
impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_stay_jittered_below_it() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (attempt, full) in [(0, 100), (1, 200), (3, 800), (4, 1000), (u32::MAX, 1000)] {
            for _ in 0..100 {
                let delay = backoff.delay(attempt).as_millis();
                assert!((full / 2..=full).contains(&delay), "{attempt}: {delay}");
            }
        }
    }

    #[test]
    fn a_cap_below_the_base_is_raised() {
        let backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert!(backoff.delay(9) >= Duration::from_secs(1));
    }
}
