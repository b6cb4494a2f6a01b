//! Chance that can be repeated.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A counter with its numbers well mixed (SplitMix64): shared by all threads without a lock.
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Random(AtomicU64::new(
            seed.unwrap_or_else(|| RandomState::new().hash_one(STEP)),
        ))
    }

    pub(crate) fn number(&self) -> u64 {
        mixed(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }

    /// Above 0, at most 1.
    pub(crate) fn unit(&self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// `time`, longer or shorter by at most this fraction, and at least 1 ms.
    pub(crate) fn around(&self, time: Duration, fraction: f64) -> Duration {
        if fraction <= 0.0 {
            return time;
        }
        let factor = 1.0 + fraction * (2.0 * self.unit() - 1.0);
        let varied = Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(time);
        varied.max(Duration::from_millis(1))
    }
}

/// Spreads numbers that are close to each other.
pub(crate) fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_within_its_bounds() {
        let (left, right) = (Random::new(Some(7)), Random::new(Some(7)));
        let ten = Duration::from_secs(10);
        let mut sum = 0.0;
        for _ in 0..10_000 {
            let unit = left.unit();
            assert!(unit > 0.0 && unit <= 1.0);
            assert_eq!(unit, right.unit());
            sum += unit;
            let around = left.around(ten, 0.1);
            assert!(around >= ten.mul_f64(0.9) && around <= ten.mul_f64(1.1));
            right.unit();
        }
        assert!((sum / 10_000.0 - 0.5).abs() < 0.02);
        assert_eq!(left.around(Duration::MAX, 0.5).min(ten), ten);
    }
}
