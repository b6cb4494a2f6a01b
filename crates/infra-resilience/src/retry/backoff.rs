//! How long to wait after the n-th failure.

use std::time::Duration;

use fastrand::Rng;

use super::terms::{RetryState, Wait};
use crate::config_error::{self as check, ConfigError};

/// How waits grow from one failure to the next.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Growth {
    /// `base`, always.
    Constant,
    /// `base`, 2 `base`, 3 `base` ...
    Linear,
    /// `base`, `base` times `factor`, `base` times `factor` squared ...
    Exponential {
        /// 1 or more.
        factor: f64,
    },
    /// `base` times 1, 1, 2, 3, 5, 8 ...
    Fibonacci,
    /// What a term of one's own says; `base` does not matter.
    Term(Wait),
}

/// How chance spreads the waits of callers that failed together. `e` is the wait by [`Growth`],
/// already limited by the cap; jitter never leads above the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Exactly `e`.
    None,
    /// Anything from 0 to `e`.
    Full,
    /// Anything from half of `e` to `e`.
    Equal,
    /// Anything from `base` to three times the wait before, at most the cap. [`Growth`] does not
    /// matter.
    Decorrelated,
}

/// Base, cap, growth and jitter of waits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
    pub(crate) growth: Growth,
    pub(crate) jitter: Jitter,
}

impl Backoff {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check::ordered(("base", self.base), ("cap", self.cap))?;
        if let Growth::Exponential { factor } = self.growth {
            check::factor("factor", factor)?;
        }
        Ok(())
    }

    /// The wait after the `failures`-th failure (from 1), where the wait before was `previous`.
    pub(crate) fn wait(&self, failures: u32, previous: Duration, rng: &mut Rng) -> Duration {
        let limit = nanos(self.without_jitter(failures));
        let drawn = match self.jitter {
            Jitter::None => limit,
            Jitter::Full => rng.u64(0..=limit),
            Jitter::Equal => limit / 2 + rng.u64(0..=limit - limit / 2),
            Jitter::Decorrelated => {
                let base = nanos(self.base);
                let top = nanos(previous).saturating_mul(3).min(nanos(self.cap));
                rng.u64(base..=top.max(base))
            }
        };
        Duration::from_nanos(drawn)
    }

    fn without_jitter(&self, failures: u32) -> Duration {
        let steps = failures.saturating_sub(1);
        let grown = match &self.growth {
            Growth::Constant => Some(self.base),
            Growth::Linear => self.base.checked_mul(failures),
            Growth::Exponential { factor } => {
                let power = factor.powi(i32::try_from(steps).unwrap_or(i32::MAX));
                Duration::try_from_secs_f64(self.base.as_secs_f64() * power).ok()
            }
            Growth::Fibonacci => self.base.checked_mul(fibonacci(failures)),
            Growth::Term(wait) => {
                Some(wait.next(&RetryState::new(failures, Duration::ZERO, Duration::ZERO)))
            }
        };
        // A wait too long for its type is, above all, longer than the cap.
        grown.unwrap_or(Duration::MAX).min(self.cap)
    }
}

/// The n-th Fibonacci number from 1, 1; saturating.
fn fibonacci(n: u32) -> u32 {
    let (mut current, mut next) = (1u32, 1u32);
    // The 48th is beyond u32, so more steps change nothing.
    for _ in 1..n.min(48) {
        (current, next) = (next, current.saturating_add(next));
    }
    current
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 100_000;

    fn backoff(growth: Growth, jitter: Jitter) -> Backoff {
        Backoff {
            base: Duration::from_millis(10),
            cap: Duration::from_secs(2),
            growth,
            jitter,
        }
    }

    #[test]
    fn r02_jitter_stays_in_its_bounds_and_below_the_cap() {
        let exponential = Growth::Exponential { factor: 2.0 };
        let mut rng = Rng::with_seed(7);
        for draw in 0..DRAWS {
            let failures = draw % 20 + 1;
            let bare =
                backoff(exponential.clone(), Jitter::None).wait(failures, Duration::ZERO, &mut rng);
            let full =
                backoff(exponential.clone(), Jitter::Full).wait(failures, Duration::ZERO, &mut rng);
            let equal = backoff(exponential.clone(), Jitter::Equal).wait(
                failures,
                Duration::ZERO,
                &mut rng,
            );
            assert!(bare <= Duration::from_secs(2));
            assert!(full <= bare);
            assert!(bare / 2 <= equal && equal <= bare);
        }
    }

    #[test]
    fn r02_decorrelated_jitter_stays_between_base_and_three_times_the_wait_before() {
        let backoff = backoff(Growth::Constant, Jitter::Decorrelated);
        let mut rng = Rng::with_seed(7);
        let mut previous = backoff.base;
        for failures in 1..DRAWS {
            let wait = backoff.wait(failures, previous, &mut rng);
            assert!(backoff.base <= wait && wait <= backoff.cap.min(previous * 3));
            previous = wait;
        }
    }

    #[test]
    fn r02_jitter_reaches_both_ends_of_its_range() {
        let mut rng = Rng::with_seed(7);
        for (jitter, least) in [(Jitter::Full, 0), (Jitter::Equal, 5_000)] {
            let backoff = backoff(Growth::Constant, jitter);
            let draws: Vec<_> = (0..DRAWS)
                .map(|_| backoff.wait(1, Duration::ZERO, &mut rng))
                .collect();
            assert!(*draws.iter().min().unwrap() < Duration::from_micros(least + 10));
            assert!(*draws.iter().max().unwrap() > Duration::from_micros(9_990));
        }
    }

    #[test]
    fn r02_attempt_one_million_saturates_at_the_cap() {
        let mut rng = Rng::with_seed(7);
        let growths = [
            Growth::Linear,
            Growth::Exponential { factor: 2.0 },
            Growth::Fibonacci,
        ];
        for growth in growths {
            for failures in [1_000, 1_000_000, u32::MAX] {
                let wait =
                    backoff(growth.clone(), Jitter::None).wait(failures, Duration::ZERO, &mut rng);
                assert_eq!(wait, Duration::from_secs(2), "{growth:?}");
            }
        }
    }

    #[test]
    fn each_growth_follows_its_sequence() {
        let cases = [
            (Growth::Constant, [10, 10, 10, 10, 10]),
            (Growth::Linear, [10, 20, 30, 40, 50]),
            (Growth::Exponential { factor: 3.0 }, [10, 30, 90, 270, 810]),
            (Growth::Fibonacci, [10, 10, 20, 30, 50]),
        ];
        let mut rng = Rng::with_seed(7);
        for (growth, expected) in cases {
            for (failures, expected) in (1..).zip(expected) {
                let wait =
                    backoff(growth.clone(), Jitter::None).wait(failures, Duration::ZERO, &mut rng);
                assert_eq!(
                    wait,
                    Duration::from_millis(expected),
                    "{growth:?} {failures}"
                );
            }
        }
    }
}
