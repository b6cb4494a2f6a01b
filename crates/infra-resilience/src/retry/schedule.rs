//! One run of a retry policy as a state machine without I/O.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use infra_core::{Deadline, MonoTime};

use super::builder::Policy;
use super::terms::RetryState;

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
    /// Try again after exactly this long, or by the policy, without taking from the budget: the
    /// attempt was rejected here and reached nobody.
    RetryFree(Option<Duration>),
}

/// Why no further attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// All attempts are used up, or a stop term ended the run.
    Exhausted,
    /// The error is not one that a repetition could cure, or repeating it might do the work twice.
    NotRetryable,
    /// The next wait would end at or after the deadline, or the attempt was cut off at it.
    DeadlineExceeded,
    /// The other side asked for a longer wait than the policy allows.
    WaitTooLong,
    /// The budget that this policy shares with others has no token left.
    BudgetExhausted,
    /// The caller cancelled the run.
    Cancelled,
}

/// The next step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Sleep so long, then make an attempt.
    Sleep(Duration),
    /// Make no further attempt.
    Stop(StopReason),
}

/// The course of one run, by [`Retry::schedule`](super::Retry::schedule): counts failures and
/// says how long to wait after each.
#[derive(Debug)]
pub struct Schedule {
    policy: Arc<Policy>,
    started: MonoTime,
    deadline: Deadline,
    rng: Option<Rng>,
    previous: Duration,
    failures: u32,
}

impl Schedule {
    pub(super) fn start(policy: Arc<Policy>, now: MonoTime) -> Self {
        let deadline = policy.deadline;
        Schedule {
            started: now,
            deadline: deadline.map_or(Deadline::NEVER, |limit| Deadline::after(now, limit)),
            rng: None,
            previous: policy.backoff.base,
            policy,
            failures: 0,
        }
    }

    /// The attempts that have failed so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The moment that neither a wait nor an attempt may pass.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ends the run `total` after `now` at the latest.
    pub(super) fn shorten(&mut self, now: MonoTime, total: Duration) {
        self.deadline = self.deadline.earlier(Deadline::after(now, total));
    }

    /// Takes note of a failed attempt at `now` and says what comes next.
    pub fn after_failure(&mut self, decision: Decision, now: MonoTime) -> Step {
        self.failures = self.failures.saturating_add(1);
        let asked = match decision {
            Decision::Stop => return Step::Stop(StopReason::NotRetryable),
            Decision::Retry => None,
            Decision::RetryAfter(wait) => Some(wait),
            Decision::RetryFree(wait) => wait,
        };
        if self.failures >= self.policy.attempts() {
            return Step::Stop(StopReason::Exhausted);
        }
        if asked.is_some_and(|wait| wait > self.policy.longest_asked()) {
            return Step::Stop(StopReason::WaitTooLong);
        }
        let wait = asked.unwrap_or_else(|| self.draw());
        if self.deadline != Deadline::NEVER && now.plus(wait) >= self.deadline.time() {
            return Step::Stop(StopReason::DeadlineExceeded);
        }
        let state = RetryState::new(self.failures, now.since(self.started), wait);
        if self.policy.stop.as_ref().is_some_and(|s| s.holds(&state)) {
            return Step::Stop(StopReason::Exhausted);
        }
        Step::Sleep(wait)
    }

    fn draw(&mut self) -> Duration {
        let seed = self.policy.seed;
        let rng = self
            .rng
            .get_or_insert_with(|| seed.map_or_else(Rng::new, Rng::with_seed));
        let wait = self.policy.backoff.wait(self.failures, self.previous, rng);
        self.previous = wait;
        wait
    }
}
