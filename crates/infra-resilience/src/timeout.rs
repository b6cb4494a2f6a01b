//! A limit on how long a future may take, on any [`Clock`](infra_core::Clock).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::context::JoinError;
use infra_core::{Class, Classify, Deadline, DirectClock, MonoTime, Outcome, SharedClock, Sleep};

use pin_project_lite::pin_project;

use crate::call_error::CallError;
use crate::telemetry;

/// Gives `future` until `limit` from now, then drops it and returns [`TimedOut`].
///
/// The time counts from this call, not from the first poll. A result that is ready at the very
/// moment of the limit wins. No timer is set while the future completes at its first poll, so
/// that path allocates nothing.
///
/// Cancel safe: dropping the returned future drops `future`, and no timeout is reported.
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{SystemClock, timeout};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let clock = SystemClock::shared();
/// let answer = timeout(&clock, Duration::from_secs(1), async { 42 }).await;
/// assert_eq!(answer.unwrap(), 42);
///
/// let never = std::future::pending::<()>();
/// let error = timeout(&clock, Duration::from_millis(5), never).await.unwrap_err();
/// assert_eq!(error.to_string(), "no result within 5ms");
/// # }
/// ```
pub fn timeout<F: Future>(clock: &SharedClock, limit: Duration, future: F) -> Timeout<F> {
    Timeout::within(&clock.into(), limit, future)
}

/// Like [`timeout`], until a moment that several calls may share.
///
/// A deadline that has passed already gives [`TimedOut`] without polling `future` at all.
pub fn timeout_at<F: Future>(clock: &SharedClock, deadline: Deadline, future: F) -> Timeout<F> {
    Timeout::at(&clock.into(), deadline, future)
}

/// Under which name the end of the time is told.
#[derive(Clone)]
enum Told {
    Unnamed,
    Named(Arc<str>),
    /// By whoever waits for the future.
    Elsewhere,
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F> {
        #[pin]
        future: Option<F>,
        sleep: Option<Sleep>,
        clock: DirectClock,
        at: MonoTime,
        limit: Duration,
        which: TimeLimit,
        told: Told,
    }
}

impl<F> Timeout<F> {
    /// Says in the error which of several limits this is.
    pub fn named(mut self, which: TimeLimit) -> Self {
        self.which = which;
        self
    }

    /// The name of what is called, for the log and for metrics; `unnamed` unless set. A shared
    /// text is not copied.
    pub fn of(mut self, name: impl Into<Arc<str>>) -> Self {
        self.told = Told::Named(name.into());
        self
    }

    /// Leaves it to the caller to tell.
    pub(crate) fn told_elsewhere(mut self) -> Self {
        self.told = Told::Elsewhere;
        self
    }
}

impl<F> Timeout<F> {
    pub(crate) fn within(clock: &DirectClock, limit: Duration, future: F) -> Self {
        Timeout {
            at: clock.now().plus(limit),
            ..Timeout::new(clock, limit, Some(future))
        }
    }

    pub(crate) fn at(clock: &DirectClock, deadline: Deadline, future: F) -> Self {
        let limit = deadline.remaining(clock.now());
        Timeout {
            at: deadline.time(),
            ..Timeout::new(clock, limit, (!limit.is_zero()).then_some(future))
        }
    }

    /// A call whose time is up before it is made.
    #[cfg(feature = "tower")]
    pub(crate) fn expired(clock: &DirectClock) -> Self {
        Timeout::new(clock, Duration::ZERO, None)
    }

    fn new(clock: &DirectClock, limit: Duration, future: Option<F>) -> Self {
        Timeout {
            future,
            sleep: None,
            clock: clock.clone(),
            at: MonoTime::ZERO,
            limit,
            which: TimeLimit::Plain,
            told: Told::Unnamed,
        }
    }
}

impl Told {
    fn tell(&self, timed_out: TimedOut) {
        match self {
            Told::Unnamed => telemetry::timed_out(None, timed_out),
            Told::Named(name) => telemetry::timed_out(Some(name), timed_out),
            Told::Elsewhere => {}
        }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let timed_out = TimedOut {
            limit: *this.limit,
            which: *this.which,
        };
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            this.told.tell(timed_out);
            return Poll::Ready(Err(timed_out));
        };
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if *this.at == MonoTime::NEVER {
            return Poll::Pending;
        }
        let (clock, at) = (&*this.clock, *this.at);
        let sleep = this.sleep.get_or_insert_with(|| clock.sleep_until(at));
        if Pin::new(sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.future.set(None);
        this.told.tell(timed_out);
        Poll::Ready(Err(timed_out))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// A call was cut off at its time limit. Nobody knows whether it took effect:
/// [`Outcome::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// The time that the call had.
    pub limit: Duration,
    /// Which of several limits it was.
    pub which: TimeLimit,
}

impl TimedOut {
    pub(crate) fn of(limit: Duration, which: TimeLimit) -> Self {
        TimedOut { limit, which }
    }
}

/// Which time limit cut a call off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// A limit that stands alone.
    Plain,
    /// The limit on one attempt.
    Attempt,
    /// The limit on a whole call with all its attempts and waits.
    Total,
}

impl TimeLimit {
    /// The words used in messages: `limit`, `limit of one attempt`, `limit of the whole call`.
    pub const fn as_str(self) -> &'static str {
        match self {
            TimeLimit::Plain => "limit",
            TimeLimit::Attempt => "limit of one attempt",
            TimeLimit::Total => "limit of the whole call",
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no result within {:?}", self.limit)?;
        match self.which {
            TimeLimit::Plain => Ok(()),
            which => write!(f, " ({})", which.as_str()),
        }
    }
}

impl std::error::Error for TimedOut {}

impl Classify for TimedOut {
    fn class(&self) -> Class {
        Class::Transient
    }
    fn outcome(&self) -> Outcome {
        Outcome::Unknown
    }
}

/// Like [`timeout`] for work that goes on when its time is up: it runs in a task of its own, with
/// the current context, and is never dropped half-way.
///
/// # Errors
/// [`CallError::Timeout`] when the time is up, [`CallError::Panicked`] when the work panicked,
/// which is not a timeout, or its own error.
///
/// # Panics
/// When called outside of a tokio runtime.
pub async fn timeout_detached<T, E, F>(
    clock: &SharedClock,
    limit: Duration,
    future: F,
) -> Result<T, CallError<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let task = infra_core::context::spawn(future);
    joined(timeout(clock, limit, task).await)?.map_err(CallError::Inner)
}

/// What became of work in a task of its own.
pub(crate) fn joined<R, E>(
    ended: Result<Result<R, JoinError>, TimedOut>,
) -> Result<R, CallError<E>> {
    match ended {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(join_error)) => Err(CallError::Panicked(join_error.to_string())),
        Err(timed_out) => Err(CallError::Timeout(timed_out)),
    }
}
