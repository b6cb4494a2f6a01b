//! Repeat what may be repeated, with waits that spread callers out.
//!
//! # Layout
//! - [`Retry`]: a policy that runs operations; [`RetryBuilder`] makes one.
//! - [`schedule`]: one run as a state machine without I/O.
//! - [`Growth`] and [`Jitter`]: how long the waits are.
//! - [`Stop`], [`Wait`], [`RetryWhen`]: terms from which a policy of one's own is composed.
//! - [`RetryExt`]: `(|| call()).retry(&policy)`.
//! - [`RetryError`]: what is left when no attempt succeeded.

mod backoff;
mod builder;
mod error;
mod ext;
mod run;
pub mod schedule;
mod telemetry;
mod terms;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use infra_core::{Classify, DirectClock, MonoTime};

use self::builder::Policy;
pub(crate) use self::run::Judged;
use self::run::Run;
use self::telemetry::Telemetry;
use crate::breaker::{BreakerError, CircuitBreaker, Verdict};
use crate::call_error::CallError;

pub use backoff::{Growth, Jitter};
pub use builder::RetryBuilder;
pub use error::RetryError;
pub use ext::RetryExt;
pub use run::RetryAttempt;
pub use schedule::{Decision, Schedule, Step, StopReason};
pub use terms::{RetryState, RetryWhen, Stop, Wait};

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
    policy: Arc<Policy>,
    clock: DirectClock,
    telemetry: Arc<Telemetry>,
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

    /// Waits by a term of one's own; cap and jitter are applied to them. No jitter unless set.
    pub fn waiting(wait: Wait) -> RetryBuilder {
        RetryBuilder::new(Growth::Term(wait)).jitter(Jitter::None)
    }

    /// Waits that grow like the Fibonacci numbers.
    pub fn fibonacci(base: Duration) -> RetryBuilder {
        RetryBuilder::new(Growth::Fibonacci).base(base)
    }

    /// This policy's settings, to change some of them for one call. The policy itself stays.
    pub fn to_builder(&self) -> RetryBuilder {
        RetryBuilder::from_parts(Policy::clone(&self.policy), self.clock.clone())
    }

    /// One run of this policy as a state machine, for those who make the attempts themselves.
    /// It begins now.
    pub fn schedule(&self) -> Schedule {
        let now = if self.policy.is_timed() {
            self.clock.now()
        } else {
            MonoTime::ZERO
        };
        Schedule::start(self.policy.clone(), now)
    }

    /// Calls `operation` until it succeeds, its error is not to be repeated, or a limit is
    /// reached.
    ///
    /// What is repeated follows [`Classify`]: transient errors whose outcome is
    /// [`Outcome::NotApplied`](infra_core::Outcome::NotApplied), and those whose outcome is unknown where the policy is
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
        let judge = |result: &Result<T, E>| Judged::by_class(result, idempotent);
        self.drive(&mut Run::default(), judge, operation).await
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
        let judge = |result: &Result<T, E>| Judged::plain(judge(result));
        self.drive(&mut Run::default(), judge, operation).await
    }

    /// Like [`run`](Self::run), with each attempt made through `breaker`. Attempts that the
    /// breaker rejects wait until it admits a probe, where that is no longer than the policy's
    /// [`retry_after_cap`](RetryBuilder::retry_after_cap), and take nothing from the budget.
    ///
    /// # Errors
    /// [`RetryError`] with the last error, the number of attempts and the reason to stop.
    pub async fn run_through<T, E, F, Fut>(
        &self,
        breaker: &CircuitBreaker,
        mut operation: F,
    ) -> Result<T, RetryError<BreakerError<E>>>
    where
        E: Classify + fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let idempotent = self.policy.idempotent;
        let judge = |result: &Result<T, _>| Judged::through_breaker(result, idempotent);
        // The permit comes first: a rejected attempt must not even make its future.
        let attempt = || {
            let admitted = breaker.try_acquire().map(|permit| (permit, operation()));
            async move {
                let (permit, call) = admitted?;
                let result = call.await;
                permit.record(Verdict::of(&result));
                result.map_err(BreakerError::Inner)
            }
        };
        self.drive(&mut Run::default(), judge, attempt).await
    }

    /// Like [`run`](Self::run) for the attempts of a pipeline, with no wait that would reach
    /// `total`, and with the caller's word on whether they may be repeated.
    pub(crate) async fn run_calls<T, E, F, Fut>(
        &self,
        total: Option<Duration>,
        idempotent: Option<bool>,
        operation: F,
    ) -> Result<T, RetryError<CallError<E>>>
    where
        E: Classify + fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, CallError<E>>>,
    {
        let idempotent = idempotent.unwrap_or(self.policy.idempotent);
        let judge = |result: &Result<T, _>| Judged::through_layers(result, idempotent);
        let mut run = Run::within(total);
        self.drive(&mut run, judge, operation).await
    }

    #[cfg(feature = "tower")]
    pub(crate) fn clock(&self) -> &DirectClock {
        &self.clock
    }

    #[cfg(feature = "tower")]
    pub(crate) fn is_idempotent(&self) -> bool {
        self.policy.idempotent
    }

    /// The limit on a whole run, where the policy has one.
    pub(crate) fn total(&self) -> Option<Duration> {
        self.policy.deadline
    }

    /// Like [`run`](Self::run), given up at once when `cancelled` completes, in an attempt or in
    /// a wait.
    ///
    /// # Errors
    /// [`RetryError`], with [`StopReason::Cancelled`] where that ended the run.
    pub async fn run_until<T, E, F, Fut>(
        &self,
        cancelled: impl Future<Output = ()>,
        operation: F,
    ) -> Result<T, RetryError<E>>
    where
        E: Classify + fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let idempotent = self.policy.idempotent;
        let judge = |result: &Result<T, E>| Judged::by_class(result, idempotent);
        let mut run = Run::default();
        let ended = {
            let mut driven = pin!(self.drive(&mut run, judge, operation));
            let mut cancelled = pin!(cancelled);
            poll_fn(|cx| match cancelled.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => driven.as_mut().poll(cx).map(Some),
            })
            .await
        };
        ended.unwrap_or_else(|| Err(run.stopped(StopReason::Cancelled)))
    }
}
