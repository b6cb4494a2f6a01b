//! Numbers that need not be good, only different.

use std::hash::{BuildHasher, RandomState};

/// A random number; each call another.
pub(crate) fn number() -> u64 {
    // Every state has other keys.
    RandomState::new().hash_one(0)
}

/// From 0 up to but not 1.
pub(crate) fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_differ_and_stay_below_one() {
        let drawn: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|part| (0.0..1.0).contains(part)));
        let low = drawn.iter().filter(|part| **part < 0.5).count();
        assert!((300..700).contains(&low), "{low}");
    }
}
