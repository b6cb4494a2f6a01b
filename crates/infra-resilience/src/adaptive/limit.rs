//! How a concurrency limit follows what calls experience, as a state machine without I/O.

use std::time::Duration;

use infra_core::MonoTime;

use crate::config_error::{self as check, ConfigError};

const MAX_LIMIT: u32 = 1_000_000;

/// By what rule a limit moves.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Additive increase, multiplicative decrease: one more for each round of successes, times
    /// `backoff` when a call is overloaded, once per round. Looks at latency only through
    /// [`slow_after`](super::AdaptiveBuilder::slow_after).
    Aimd {
        /// Above 0 and below 1; 0.9 is gentle, 0.5 is what TCP does.
        backoff: f64,
    },
    /// Compares each latency with its long-term average: calls that take longer than `tolerance`
    /// times that are queueing somewhere, and the limit shrinks before anything fails.
    Gradient {
        /// 1 or more; 1.5 lets latency grow by half before the limit shrinks.
        tolerance: f64,
    },
}

impl Algorithm {
    fn check(self) -> Result<(), ConfigError> {
        match self {
            Algorithm::Gradient { tolerance } => check::factor("algorithm", tolerance),
            Algorithm::Aimd { backoff } if backoff > 0.0 && backoff < 1.0 => Ok(()),
            Algorithm::Aimd { backoff } => {
                let message = format!("`backoff` is {backoff}, must be above 0 and below 1");
                Err(ConfigError::new("algorithm", message))
            }
        }
    }
}

/// How one call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the call began.
    pub started: MonoTime,
    /// When it ended.
    pub ended: MonoTime,
    /// How many calls ran when it ended, this one included.
    pub in_flight: u32,
    /// Whether the other side was overloaded: it refused, broke or was too slow.
    pub overloaded: bool,
}

/// Calls over which the long-term latency is averaged.
const LONG_TERM: f64 = 600.0;
/// How much one sample moves a limit by gradient.
const SMOOTHING: f64 = 0.2;
/// How many calls may queue at the other side without its latency being noticed.
const HEADROOM: f64 = 4.0;
/// What an overloaded call does to a limit by gradient.
const GRADIENT_BACKOFF: f64 = 0.9;

/// A limit between two bounds that follows the samples it is given.
#[derive(Debug)]
pub struct AdaptiveLimit {
    algorithm: Algorithm,
    min: f64,
    max: f64,
    limit: f64,
    /// Calls that began before the last decrease say nothing about the limit of today.
    decreased_at: Option<MonoTime>,
    average: LongTerm,
}

impl AdaptiveLimit {
    /// Begins at `initial`, and stays between the two bounds (1 to 1,000,000).
    ///
    /// # Errors
    /// [`ConfigError`] naming the settings and their values where they cannot work.
    pub fn new(
        algorithm: Algorithm,
        initial: u32,
        (min, max): (u32, u32),
    ) -> Result<Self, ConfigError> {
        algorithm.check()?;
        check::count("bounds", min, MAX_LIMIT)?;
        check::count("bounds", max, MAX_LIMIT)?;
        if min > max {
            let message = format!("the lower bound is {min}, above the upper one ({max})");
            return Err(ConfigError::new("bounds", message));
        }
        if !(min..=max).contains(&initial) {
            let message = format!("is {initial}, outside of `bounds` ({min} to {max})");
            return Err(ConfigError::new("initial", message));
        }
        Ok(AdaptiveLimit {
            algorithm,
            min: f64::from(min),
            max: f64::from(max),
            limit: f64::from(initial),
            decreased_at: None,
            average: LongTerm::default(),
        })
    }

    /// The limit of today, in whole calls.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Takes note of a call that ended, and returns the limit from here on.
    pub fn observe(&mut self, sample: Sample) -> u32 {
        let moved = match self.algorithm {
            Algorithm::Aimd { backoff } if sample.overloaded => self.decreased(backoff, sample),
            Algorithm::Gradient { .. } if sample.overloaded => {
                self.decreased(GRADIENT_BACKOFF, sample)
            }
            Algorithm::Aimd { .. } => self.increased(sample),
            Algorithm::Gradient { tolerance } => self.by_gradient(tolerance, sample),
        };
        self.limit = moved.clamp(self.min, self.max);
        self.limit()
    }

    fn decreased(&mut self, backoff: f64, sample: Sample) -> f64 {
        if self.decreased_at.is_some_and(|at| sample.started < at) {
            return self.limit;
        }
        self.decreased_at = Some(sample.ended);
        self.limit * backoff
    }

    fn increased(&self, sample: Sample) -> f64 {
        if self.is_hardly_used(sample) {
            return self.limit;
        }
        self.limit + 1.0 / self.limit
    }

    fn by_gradient(&mut self, tolerance: f64, sample: Sample) -> f64 {
        let short = sample
            .ended
            .since(sample.started)
            .max(Duration::from_nanos(1));
        let short = short.as_secs_f64();
        let long = self.average.with(short);
        if self.is_hardly_used(sample) {
            return self.limit;
        }
        let gradient = (tolerance * long / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + HEADROOM;
        self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING
    }

    /// A limit that nobody comes near must not grow: nothing says that the other side can take it.
    fn is_hardly_used(&self, sample: Sample) -> bool {
        f64::from(sample.in_flight) * 2.0 < self.limit
    }
}

/// An exponential average of latencies that starts as a plain one.
#[derive(Debug, Default)]
struct LongTerm {
    seconds: f64,
    samples: f64,
}

impl LongTerm {
    fn with(&mut self, sample: f64) -> f64 {
        self.samples = (self.samples + 1.0).min(LONG_TERM);
        self.seconds += (sample - self.seconds) / self.samples;
        // After an outage the average is far above what is normal: it must come down faster.
        if self.seconds > 2.0 * sample {
            self.seconds *= 0.95;
        }
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    fn sample(started: u64, took: u64, in_flight: u32) -> Sample {
        Sample {
            started: at(started),
            ended: at(started + took),
            in_flight,
            overloaded: false,
        }
    }

    fn overloaded(started: u64, took: u64) -> Sample {
        Sample {
            overloaded: true,
            ..sample(started, took, 10)
        }
    }

    fn aimd() -> AdaptiveLimit {
        AdaptiveLimit::new(Algorithm::Aimd { backoff: 0.5 }, 10, (2, 100)).unwrap()
    }

    fn gradient() -> AdaptiveLimit {
        AdaptiveLimit::new(Algorithm::Gradient { tolerance: 1.5 }, 20, (2, 100)).unwrap()
    }

    #[test]
    fn aimd_adds_one_for_a_round_of_successes_and_halves_once_per_round() {
        let mut limit = aimd();
        for call in 0..11 {
            limit.observe(sample(call, 1, 10));
        }
        assert_eq!(limit.limit(), 11);
        assert_eq!(limit.observe(overloaded(20, 5)), 5);
        assert_eq!(limit.observe(overloaded(21, 9)), 5, "of the same round");
        assert_eq!(limit.observe(overloaded(25, 5)), 2);
        assert_eq!(limit.observe(overloaded(99, 5)), 2, "the lower bound");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let new = |algorithm| AdaptiveLimit::new(algorithm, 10, (2, 100));
        for backoff in [f64::NAN, -0.5, 0.0, 1.0, 2.0] {
            let refused = new(Algorithm::Aimd { backoff }).unwrap_err();
            assert_eq!(refused.setting(), "algorithm", "{backoff}");
        }
        assert!(new(Algorithm::Gradient { tolerance: 0.5 }).is_err());
        let algorithm = Algorithm::Aimd { backoff: 0.5 };
        for (initial, bounds) in [(10, (0, 100)), (10, (20, 10)), (1, (2, 9)), (10, (2, 9))] {
            assert!(AdaptiveLimit::new(algorithm, initial, bounds).is_err());
        }
        assert!(AdaptiveLimit::new(algorithm, 2, (2, 2)).is_ok());
    }

    #[test]
    fn an_overloaded_call_lowers_a_limit_by_gradient_by_a_tenth() {
        let mut limit = gradient();
        assert_eq!(limit.observe(overloaded(0, 1)), 18);
    }

    #[test]
    fn a_limit_of_which_half_is_used_grows() {
        let mut limit = aimd();
        limit.observe(sample(0, 1, 5));
        for call in 1..11 {
            limit.observe(sample(call, 1, 10));
        }
        assert_eq!(limit.limit(), 11);
    }

    #[test]
    fn the_average_is_a_plain_one_at_first_and_falls_faster_from_far_above() {
        let mut average = LongTerm::default();
        assert_eq!(average.with(3.0), 3.0);
        assert_eq!(average.with(1.0), 2.0, "twice the sample is not far above");
        assert_eq!(average.with(0.5), 1.5 * 0.95);
    }

    #[test]
    fn a_limit_that_nobody_comes_near_does_not_grow() {
        let mut limit = aimd();
        for call in 0..1_000 {
            limit.observe(sample(call, 1, 4));
        }
        assert_eq!(limit.limit(), 10);
    }

    #[test]
    fn gradient_grows_while_latency_is_steady_and_shrinks_when_it_rises() {
        let mut limit = gradient();
        for call in 0..200 {
            limit.observe(sample(call, 10, limit.limit()));
        }
        let steady = limit.limit();
        assert_eq!(steady, 100, "the upper bound");
        for call in 200..230 {
            limit.observe(sample(call, 100, limit.limit()));
        }
        assert!(limit.limit() < steady / 2, "{}", limit.limit());
        assert!(limit.limit() >= 2);
    }

    #[test]
    fn gradient_finds_its_way_back_when_latency_does() {
        let mut limit = gradient();
        for call in 0..100 {
            limit.observe(sample(call, 500, limit.limit()));
        }
        for call in 100..400 {
            limit.observe(sample(call, 10, limit.limit()));
        }
        assert_eq!(limit.limit(), 100);
    }

    proptest! {
        #[test]
        fn no_history_leads_out_of_the_bounds(
            by_gradient in any::<bool>(),
            calls in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u32..200, any::<bool>()), 0..200),
        ) {
            let mut limit = if by_gradient { gradient() } else { aimd() };
            for (started, ended, in_flight, overloaded) in calls {
                let sample = Sample {
                    started: MonoTime::from_nanos(u64::from(started)),
                    ended: MonoTime::from_nanos(u64::from(ended)),
                    in_flight,
                    overloaded,
                };
                let now = limit.observe(sample);
                prop_assert!((2..=100).contains(&now));
                prop_assert_eq!(now, limit.limit());
            }
        }
    }
}
