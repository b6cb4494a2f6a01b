//! One run of a retry policy as a state machine without I/O.

use std::time::Duration;

use fastrand::Rng;
use infra_core::{Deadline, MonoTime};

use super::RetryBuilder;
use super::backoff::Backoff;
use crate::ConfigError;

/// What to do after an attempt, as judged by its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Take the result as it is.
    Stop,
    /// Try again after a wait by the policy.
    Retry,
    /// Try again after exactly this long, as the other side asked.
    RetryAfter(Duration),
}

/// Why no further attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// All attempts are used up.
    Exhausted,
    /// The error is not one that a repetition could cure, or repeating it might do the work twice.
    NotRetryable,
    /// The next wait would end at or after the deadline, or the attempt was cut off at it.
    DeadlineExceeded,
    /// The other side asked for a longer wait than the policy allows.
    WaitTooLong,
}

/// The next step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Sleep so long, then make an attempt.
    Sleep(Duration),
    /// Make no further attempt.
    Stop(StopReason),
}

/// The course of one run: counts failures and says how long to wait after each.
#[derive(Debug, Clone)]
pub struct Schedule {
    limits: Limits,
    backoff: Backoff,
    seed: Option<u64>,
    rng: Option<Rng>,
    previous: Duration,
    failures: u32,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) max_attempts: u32,
    pub(crate) longest_hint: Duration,
}

impl Schedule {
    /// The schedule of one run by the builder's settings.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work.
    pub fn new(settings: &RetryBuilder) -> Result<Self, ConfigError> {
        let policy = settings.clone().checked()?;
        Ok(Self::start(policy.limits(), policy.backoff, policy.seed))
    }

    pub(crate) fn start(limits: Limits, backoff: Backoff, seed: Option<u64>) -> Self {
        Schedule {
            limits,
            backoff,
            seed,
            rng: None,
            previous: backoff.base,
            failures: 0,
        }
    }

    /// The attempts that have failed so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes note of a failed attempt at `now` and says what comes next.
    pub fn after_failure(&mut self, decision: Decision, now: MonoTime, deadline: Deadline) -> Step {
        self.failures = self.failures.saturating_add(1);
        if decision == Decision::Stop {
            return Step::Stop(StopReason::NotRetryable);
        }
        if self.failures >= self.limits.max_attempts {
            return Step::Stop(StopReason::Exhausted);
        }
        let wait = match decision {
            Decision::RetryAfter(asked) if asked > self.limits.longest_hint => {
                return Step::Stop(StopReason::WaitTooLong);
            }
            Decision::RetryAfter(asked) => asked,
            _ => self.draw(),
        };
        if deadline != Deadline::NEVER && now.plus(wait) >= deadline.time() {
            return Step::Stop(StopReason::DeadlineExceeded);
        }
        Step::Sleep(wait)
    }

    fn draw(&mut self) -> Duration {
        let seed = self.seed;
        let rng = self
            .rng
            .get_or_insert_with(|| seed.map_or_else(Rng::new, Rng::with_seed));
        let wait = self.backoff.wait(self.failures, self.previous, rng);
        self.previous = wait;
        wait
    }
}
