//! The asynchronous shell around a [`Schedule`]: makes attempts, sleeps, tells.

use std::fmt;
use std::time::Duration;

use infra_core::{Classify, Deadline, MonoTime, Outcome};

use super::{Decision, Retry, RetryError, Schedule, Step, StopReason};
use crate::breaker::BreakerError;
use crate::budget::BudgetedCall;
use crate::call_error::CallError;
use crate::telemetry;
use crate::timeout::{TimeLimit, TimedOut, Timeout};

/// What is known between a failed attempt and the wait before the next.
#[non_exhaustive]
pub struct RetryAttempt<'a> {
    /// The policy's name.
    pub name: Option<&'a str>,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// How many attempts are made at most.
    pub max_attempts: u32,
    /// The wait that follows.
    pub delay: Duration,
    /// The error; `None` where a result was judged worth repeating without being an error.
    pub error: Option<&'a dyn fmt::Display>,
}

/// A decision, and whether the attempt may have taken effect although it failed.
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    pub(crate) maybe_applied: bool,
}

/// What a run has seen so far.
pub(super) struct Run<E> {
    attempts: u32,
    attempting: bool,
    last: Option<E>,
    /// The last error of an attempt that may have taken effect, once another one has followed.
    lost: Option<E>,
    last_maybe_applied: bool,
    maybe_applied: bool,
    /// A limit beside the policy's own.
    total: Option<Duration>,
    /// The end of the time is told by whoever runs this.
    told_elsewhere: bool,
}

impl Retry {
    pub(super) async fn drive<T, E, F, Fut>(
        &self,
        run: &mut Run<E>,
        mut judge: impl FnMut(&Result<T, E>) -> Judged,
        mut operation: F,
    ) -> Result<T, RetryError<E>>
    where
        E: fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut schedule = self.schedule();
        if let Some(total) = run.total {
            schedule.shorten(self.clock.now(), total);
        }
        let deadline = schedule.deadline();
        let mut budgeted = self.begin_budgeted();
        loop {
            if deadline != Deadline::NEVER && deadline.is_expired(self.clock.now()) {
                return Err(self.out_of_time(run));
            }
            run.attempt_begins();
            let Some(result) = self.attempt(deadline, &mut operation).await else {
                return Err(self.out_of_time(run));
            };
            let judged = judge(&result);
            let maybe_applied = judged.maybe_applied;
            run.attempt_ended(maybe_applied);
            if result.is_ok() && judged.decision == Decision::Stop {
                if let Some(call) = &mut budgeted {
                    call.succeeded();
                }
                return result.map_err(|error| run.failed(error, StopReason::NotRetryable));
            }
            match self.next_step(&mut schedule, &judged, budgeted.as_mut()) {
                Step::Stop(reason) => {
                    return result.map_err(|error| {
                        run.put_last(None, maybe_applied);
                        run.failed(error, reason)
                    });
                }
                Step::Sleep(delay) => {
                    self.tell(run.attempts, delay, result.as_ref().err());
                    run.put_last(result.err(), maybe_applied);
                    self.clock.sleep(delay).await;
                }
            }
        }
    }

    /// One attempt; `None` if the deadline cut it off.
    async fn attempt<F, Fut>(&self, deadline: Deadline, operation: &mut F) -> Option<Fut::Output>
    where
        F: FnMut() -> Fut,
        Fut: Future,
    {
        if deadline == Deadline::NEVER {
            return Some(operation().await);
        }
        let limited = Timeout::at(&self.clock, deadline, operation());
        limited.told_elsewhere().await.ok()
    }

    /// The end of a run at its deadline.
    fn out_of_time<E>(&self, run: &mut Run<E>) -> RetryError<E> {
        if !run.told_elsewhere {
            self.timed_out();
        }
        run.stopped(StopReason::DeadlineExceeded)
    }

    /// The error of a run that its deadline cut off, told.
    pub(crate) fn timed_out(&self) -> TimedOut {
        let timed_out = TimedOut::of(self.total().unwrap_or_default(), TimeLimit::Total);
        telemetry::timed_out(self.policy.name.as_ref(), timed_out);
        timed_out
    }

    pub(crate) fn begin_budgeted(&self) -> Option<BudgetedCall> {
        let budget = self.policy.budget.as_ref()?;
        Some(budget.begin(self.clock.now()))
    }

    pub(crate) fn next_step(
        &self,
        schedule: &mut Schedule,
        judged: &Judged,
        budgeted: Option<&mut BudgetedCall>,
    ) -> Step {
        let now = if self.policy.is_timed() || schedule.deadline() != Deadline::NEVER {
            self.clock.now()
        } else {
            MonoTime::ZERO
        };
        let decision = judged.decision;
        let step = schedule.after_failure(decision, now);
        let (Step::Sleep(_), Some(call)) = (step, budgeted) else {
            return step;
        };
        // The attempt that failed was one, unless it was the first.
        call.repetition_ended();
        let outcome = if judged.maybe_applied {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        if matches!(decision, Decision::RetryFree(_)) || call.try_repeat_after(outcome, now) {
            return step;
        }
        tracing::debug!(
            operation = self.policy.name.as_deref(),
            attempt = schedule.failures(),
            "retry_budget_exhausted"
        );
        self.telemetry.budget_exhausted(self.policy.name.as_ref());
        Step::Stop(StopReason::BudgetExhausted)
    }

    pub(crate) fn tell(&self, attempt: u32, delay: Duration, error: Option<&impl fmt::Display>) {
        let attempt = RetryAttempt {
            name: self.policy.name.as_deref(),
            attempt,
            max_attempts: self.policy.attempts(),
            delay,
            error: error.map(|error| error as &dyn fmt::Display),
        };
        attempt.log();
        self.telemetry.retry(self.policy.name.as_ref());
        if let Some(listener) = &self.policy.before_sleep {
            listener(&attempt);
        }
    }
}

impl Judged {
    pub(crate) fn by_class<T, E: Classify>(result: &Result<T, E>, idempotent: bool) -> Self {
        let Err(error) = result else {
            return Judged::plain(Decision::Stop);
        };
        let unknown = error.outcome() == Outcome::Unknown;
        let repeat = error.is_safe_to_repeat() || idempotent && unknown && error.is_transient();
        let decision = match error.retry_after() {
            _ if !repeat => Decision::Stop,
            Some(wait) => Decision::RetryAfter(wait),
            None => Decision::Retry,
        };
        Judged {
            decision,
            maybe_applied: unknown,
        }
    }

    /// As [`by_class`](Self::by_class), but a rejection reached nobody and costs nothing.
    pub(super) fn through_breaker<T, E: Classify>(
        result: &Result<T, BreakerError<E>>,
        idempotent: bool,
    ) -> Self {
        match result {
            Err(BreakerError::Rejected(rejected)) if !rejected.isolated => {
                Judged::plain(Decision::RetryFree(rejected.retry_after))
            }
            _ => Judged::by_class(result, idempotent),
        }
    }

    /// As [`by_class`](Self::by_class), but a rejection by a layer reached nobody.
    pub(crate) fn through_layers<T, E: Classify>(
        result: &Result<T, CallError<E>>,
        idempotent: bool,
    ) -> Self {
        match result {
            Err(CallError::Rejected(rejection)) if rejection.is_transient() => {
                Judged::plain(Decision::RetryFree(rejection.retry_after))
            }
            _ => Judged::by_class(result, idempotent),
        }
    }

    pub(super) fn plain(decision: Decision) -> Self {
        Judged {
            decision,
            maybe_applied: false,
        }
    }
}

impl<E> Default for Run<E> {
    fn default() -> Self {
        Run {
            attempts: 0,
            attempting: false,
            last: None,
            lost: None,
            last_maybe_applied: false,
            maybe_applied: false,
            total: None,
            told_elsewhere: false,
        }
    }
}

impl<E> Run<E> {
    /// A part of a whole that has a time limit of its own, and tells of it.
    pub(super) fn within(total: Option<Duration>) -> Self {
        Run {
            total,
            told_elsewhere: true,
            ..Run::default()
        }
    }

    fn attempt_begins(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.attempting = true;
    }

    fn attempt_ended(&mut self, maybe_applied: bool) {
        self.attempting = false;
        self.maybe_applied |= maybe_applied;
    }

    /// Another attempt has ended. What the one before may have done is not forgotten for it.
    fn put_last(&mut self, error: Option<E>, maybe_applied: bool) {
        let before = std::mem::replace(&mut self.last, error);
        if maybe_applied {
            self.lost = None;
        } else if self.last_maybe_applied {
            self.lost = before;
        }
        self.last_maybe_applied = maybe_applied;
    }

    fn failed(&mut self, error: E, reason: StopReason) -> RetryError<E> {
        RetryError {
            error: Some(error),
            lost: self.lost.take(),
            attempts: self.attempts,
            reason,
            cut_off: false,
            maybe_applied: self.maybe_applied,
        }
    }

    /// The end of a run from outside of an attempt's result: an attempt under way is cut off.
    pub(super) fn stopped(&mut self, reason: StopReason) -> RetryError<E> {
        RetryError {
            error: self.last.take(),
            lost: self.lost.take(),
            attempts: self.attempts,
            reason,
            cut_off: self.attempting,
            maybe_applied: self.maybe_applied || self.attempting,
        }
    }
}

impl RetryAttempt<'_> {
    fn log(&self) {
        tracing::warn!(
            operation = self.name,
            attempt = self.attempt,
            max_attempts = self.max_attempts,
            delay_ms = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
            error = self.error.map(tracing::field::display),
            "retry_scheduled"
        );
    }
}

impl fmt::Debug for RetryAttempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryAttempt")
            .field("name", &self.name)
            .field("attempt", &self.attempt)
            .field("max_attempts", &self.max_attempts)
            .field("delay", &self.delay)
            .field("error", &self.error.map(ToString::to_string))
            .finish()
    }
}
