//! Repeat what may be repeated, with waits that spread callers out.
//!
//! # Layout
//! - [`Retry`]: a policy that runs operations; [`RetryBuilder`] makes one.
//! - [`schedule`]: one run as a state machine without I/O.
//! - [`Growth`] and [`Jitter`]: how long the waits are.
//! - [`RetryError`]: what is left when no attempt succeeded.

mod backoff;
mod builder;
mod error;
pub mod schedule;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Classify, Deadline, MonoTime, Outcome, SharedClock};

use crate::timeout::timeout_at;

pub use backoff::{Growth, Jitter};
pub use builder::RetryBuilder;
pub use error::RetryError;
pub use schedule::{Decision, Schedule, Step, StopReason};

/// A retry policy. Clones are cheap and share the settings.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use infra_resilience::Retry;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Retry::exponential()
///     .max_attempts(3)
///     .base(Duration::from_millis(1))
///     .deadline(Duration::from_secs(5))
///     .build()?;
/// let mut calls = 0;
/// let price = retry
///     .run(|| {
///         calls += 1;
///         let refused = calls < 3;
///         async move {
///             if refused {
///                 return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
///             }
///             Ok(101.5)
///         }
///     })
///     .await?;
/// assert_eq!((price, calls), (101.5, 3));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    policy: Arc<RetryBuilder>,
    clock: SharedClock,
}

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

impl Retry {
    /// Waits that double from 100 ms up to 10 s, with full jitter. The usual choice.
    pub fn exponential() -> RetryBuilder {
        RetryBuilder::new(Growth::Exponential { factor: 2.0 })
    }

    /// Waits that are all alike, but for their jitter.
    pub fn constant(wait: Duration) -> RetryBuilder {
        RetryBuilder::new(Growth::Constant).base(wait)
    }

    /// Waits that grow by `step` from one to the next.
    pub fn linear(step: Duration) -> RetryBuilder {
        RetryBuilder::new(Growth::Linear).base(step)
    }

    /// Waits that grow like the Fibonacci numbers.
    pub fn fibonacci(base: Duration) -> RetryBuilder {
        RetryBuilder::new(Growth::Fibonacci).base(base)
    }

    /// This policy's settings, to change some of them for one call. The policy itself stays.
    pub fn to_builder(&self) -> RetryBuilder {
        let mut builder = RetryBuilder::clone(&self.policy);
        builder.clock = Some(self.clock.clone());
        builder
    }

    /// Calls `operation` until it succeeds, its error is not to be repeated, or a limit is
    /// reached.
    ///
    /// What is repeated follows [`Classify`]: transient errors whose outcome is
    /// [`Outcome::NotApplied`], and those whose outcome is unknown where the policy is
    /// [`idempotent`](RetryBuilder::idempotent). An error's `retry_after` replaces the wait.
    ///
    /// Cancel safe: dropping the future drops the running attempt or ends the wait.
    ///
    /// # Errors
    /// [`RetryError`] with the last error, the number of attempts and the reason to stop.
    pub async fn run<T, E, F, Fut>(&self, operation: F) -> Result<T, RetryError<E>>
    where
        E: Classify + fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let idempotent = self.policy.idempotent;
        self.drive(|result| Judged::by_class(result, idempotent), operation)
            .await
    }

    /// Like [`run`](Self::run), repeating the errors for which `retry_if` is true.
    ///
    /// # Errors
    /// [`RetryError`] with the last error, the number of attempts and the reason to stop.
    pub async fn run_if<T, E, F, Fut>(
        &self,
        mut retry_if: impl FnMut(&E) -> bool,
        operation: F,
    ) -> Result<T, RetryError<E>>
    where
        E: fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let judge = |result: &Result<T, E>| match result {
            Err(error) if retry_if(error) => Decision::Retry,
            _ => Decision::Stop,
        };
        self.run_with(judge, operation).await
    }

    /// Like [`run`](Self::run), judged by the whole result: an `Ok` can be worth repeating too.
    /// When the attempts are used up on such an `Ok`, it is returned.
    ///
    /// # Errors
    /// [`RetryError`] with the last error, the number of attempts and the reason to stop.
    pub async fn run_with<T, E, F, Fut>(
        &self,
        mut judge: impl FnMut(&Result<T, E>) -> Decision,
        operation: F,
    ) -> Result<T, RetryError<E>>
    where
        E: fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let judged = |result: &Result<T, E>| Judged {
            decision: judge(result),
            maybe_applied: false,
        };
        self.drive(judged, operation).await
    }

    async fn drive<T, E, F, Fut>(
        &self,
        mut judge: impl FnMut(&Result<T, E>) -> Judged,
        mut operation: F,
    ) -> Result<T, RetryError<E>>
    where
        E: fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let policy = &*self.policy;
        let mut schedule = Schedule::start(policy.limits(), policy.backoff, policy.seed);
        let deadline = self.deadline();
        let mut run = Run::default();
        loop {
            if deadline != Deadline::NEVER && deadline.is_expired(self.clock.now()) {
                return Err(run.out_of_time());
            }
            run.attempts += 1;
            let Some(result) = self.attempt(deadline, &mut operation).await else {
                return Err(run.cut_off());
            };
            let judged = judge(&result);
            if result.is_ok() && judged.decision == Decision::Stop {
                return result.map_err(|error| run.failed(error, StopReason::NotRetryable));
            }
            run.maybe_applied |= judged.maybe_applied;
            let now = self.now_if(deadline != Deadline::NEVER);
            match schedule.after_failure(judged.decision, now, deadline) {
                Step::Stop(reason) => return result.map_err(|error| run.failed(error, reason)),
                Step::Sleep(delay) => {
                    self.tell(run.attempts, delay, result.as_ref().err());
                    run.last = result.err();
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
        timeout_at(&self.clock, deadline, operation()).await.ok()
    }

    fn deadline(&self) -> Deadline {
        self.policy.deadline.map_or(Deadline::NEVER, |limit| {
            Deadline::after(self.clock.now(), limit)
        })
    }

    fn now_if(&self, needed: bool) -> MonoTime {
        if needed {
            self.clock.now()
        } else {
            MonoTime::ZERO
        }
    }

    fn tell(&self, attempt: u32, delay: Duration, error: Option<&impl fmt::Display>) {
        let attempt = RetryAttempt {
            name: self.policy.name.as_deref(),
            attempt,
            max_attempts: self.policy.max_attempts,
            delay,
            error: error.map(|error| error as &dyn fmt::Display),
        };
        attempt.log();
        if let Some(listener) = &self.policy.before_sleep {
            listener(&attempt);
        }
    }
}

/// A decision, and whether the attempt may have taken effect although it failed.
struct Judged {
    decision: Decision,
    maybe_applied: bool,
}

impl Judged {
    fn by_class<T, E: Classify>(result: &Result<T, E>, idempotent: bool) -> Self {
        let Err(error) = result else {
            return Judged {
                decision: Decision::Stop,
                maybe_applied: false,
            };
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
}

/// What a run has seen so far.
struct Run<E> {
    attempts: u32,
    last: Option<E>,
    maybe_applied: bool,
}

impl<E> Default for Run<E> {
    fn default() -> Self {
        Run {
            attempts: 0,
            last: None,
            maybe_applied: false,
        }
    }
}

impl<E> Run<E> {
    fn failed(&self, error: E, reason: StopReason) -> RetryError<E> {
        RetryError {
            error: Some(error),
            attempts: self.attempts,
            reason,
            cut_off: false,
            maybe_applied: self.maybe_applied,
        }
    }

    fn out_of_time(self) -> RetryError<E> {
        RetryError {
            error: self.last,
            attempts: self.attempts,
            reason: StopReason::DeadlineExceeded,
            cut_off: false,
            maybe_applied: self.maybe_applied,
        }
    }

    fn cut_off(self) -> RetryError<E> {
        RetryError {
            cut_off: true,
            maybe_applied: true,
            ..self.out_of_time()
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
