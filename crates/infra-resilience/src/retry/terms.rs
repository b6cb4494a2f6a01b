//! Terms from which a policy is composed: when to stop, how long to wait, what to repeat.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::Decision;

/// What a term can look at: the run after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryState {
    /// Attempts that have ended, 1 or more.
    pub attempts: u32,
    /// The time since the run began. Zero unless the policy has a stop term or a deadline.
    pub elapsed: Duration,
    /// The wait that would come next; zero for [`Wait`] terms.
    pub wait: Duration,
}

impl RetryState {
    pub(crate) fn new(attempts: u32, elapsed: Duration, wait: Duration) -> Self {
        RetryState {
            attempts,
            elapsed,
            wait,
        }
    }
}

/// When a run ends without success. Terms combine by [`or`](Stop::or) and [`and`](Stop::and).
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Retry, retry::Stop};
///
/// # fn main() -> Result<(), infra_resilience::ConfigError> {
/// // At least 3 attempts, then until a minute is over; never more than 20.
/// let long = Stop::after_attempts(3).and(Stop::before(Duration::from_secs(60)));
/// let retry = Retry::exponential().stop(long.or(Stop::after_attempts(20))).build()?;
/// # let _ = retry; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stop(Arc<dyn Fn(&RetryState) -> bool + Send + Sync>);

impl Stop {
    /// Stops where `condition` is true.
    pub fn when(condition: impl Fn(&RetryState) -> bool + Send + Sync + 'static) -> Self {
        Stop(Arc::new(condition))
    }

    /// Stops after so many attempts, the first one included.
    pub fn after_attempts(attempts: u32) -> Self {
        Stop::when(move |state| state.attempts >= attempts)
    }

    /// Stops once the run has lasted so long.
    pub fn after(elapsed: Duration) -> Self {
        Stop::when(move |state| state.elapsed >= elapsed)
    }

    /// Stops where the next wait would end so long after the beginning, or later.
    pub fn before(elapsed: Duration) -> Self {
        Stop::when(move |state| state.elapsed.saturating_add(state.wait) >= elapsed)
    }

    /// Stops where either does.
    #[must_use]
    pub fn or(self, other: Stop) -> Self {
        Stop::any([self, other])
    }

    /// Stops where both do.
    #[must_use]
    pub fn and(self, other: Stop) -> Self {
        Stop::all([self, other])
    }

    /// Stops where any of the terms does; never for an empty list.
    pub fn any(terms: impl IntoIterator<Item = Stop>) -> Self {
        let terms: Box<[Stop]> = terms.into_iter().collect();
        Stop::when(move |state| terms.iter().any(|term| term.holds(state)))
    }

    /// Stops where all of the terms do; at once for an empty list.
    pub fn all(terms: impl IntoIterator<Item = Stop>) -> Self {
        let terms: Box<[Stop]> = terms.into_iter().collect();
        Stop::when(move |state| terms.iter().all(|term| term.holds(state)))
    }

    /// Whether the run ends here.
    pub fn holds(&self, state: &RetryState) -> bool {
        (self.0)(state)
    }
}

/// How long the next wait is, before cap and jitter. Terms combine by [`plus`](Wait::plus),
/// [`then`](Wait::then) and [`at_most`](Wait::at_most).
///
/// ```
/// use std::time::Duration;
/// use infra_resilience::{Retry, retry::Wait};
///
/// # fn main() -> Result<(), infra_resilience::ConfigError> {
/// // Twice 50 ms, then 1 s, 2 s, 4 s ...
/// let wait = Wait::fixed(Duration::from_millis(50))
///     .then(2, Wait::exponential(Duration::from_secs(1), 2.0));
/// let retry = Retry::waiting(wait).cap(Duration::from_secs(30)).build()?;
/// # let _ = retry; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Wait(Arc<dyn Fn(&RetryState) -> Duration + Send + Sync>);

impl Wait {
    /// The wait that `term` returns.
    pub fn by(term: impl Fn(&RetryState) -> Duration + Send + Sync + 'static) -> Self {
        Wait(Arc::new(term))
    }

    /// Always the same.
    pub fn fixed(wait: Duration) -> Self {
        Wait::by(move |_| wait)
    }

    /// `step` after the first failure, twice that after the second ...
    pub fn linear(step: Duration) -> Self {
        Wait::by(move |state| step.saturating_mul(state.attempts))
    }

    /// `base` after the first failure, each next one `factor` times as long. A factor below 1, or
    /// one that is no number, counts as 1.
    pub fn exponential(base: Duration, factor: f64) -> Self {
        let factor = factor.max(1.0);
        Wait::by(move |state| {
            let steps = i32::try_from(state.attempts.saturating_sub(1)).unwrap_or(i32::MAX);
            Duration::try_from_secs_f64(base.as_secs_f64() * factor.powi(steps))
                .unwrap_or(Duration::MAX)
        })
    }

    /// Both, one after the other.
    #[must_use]
    pub fn plus(self, other: Wait) -> Self {
        Wait::by(move |state| self.next(state).saturating_add(other.next(state)))
    }

    /// Never longer than this.
    #[must_use]
    pub fn at_most(self, longest: Duration) -> Self {
        Wait::by(move |state| self.next(state).min(longest))
    }

    /// This for the first `failures` failures, then `other`, which counts from its own start.
    #[must_use]
    pub fn then(self, failures: u32, other: Wait) -> Self {
        Wait::by(move |state| {
            if state.attempts <= failures {
                return self.next(state);
            }
            other.next(&RetryState {
                attempts: state.attempts - failures,
                ..*state
            })
        })
    }

    /// The next wait.
    pub fn next(&self, state: &RetryState) -> Duration {
        (self.0)(state)
    }
}

/// Compared by identity: two terms built alike are not equal.
impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Which results are repeated. Terms combine by [`or`](RetryWhen::or), [`and`](RetryWhen::and)
/// and [`not`](RetryWhen::not); [`decide`](RetryWhen::decide) makes a judge for
/// [`Retry::run_with`](super::Retry::run_with).
///
/// ```
/// use infra_resilience::{Retry, retry::RetryWhen};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retry = Retry::constant(std::time::Duration::ZERO).build()?;
/// let empty = RetryWhen::ok(|rows: &Vec<u32>| rows.is_empty());
/// let busy = RetryWhen::error(|error: &String| error.contains("busy"));
/// let when = empty.or(busy);
///
/// let mut calls = 0;
/// let rows = retry
///     .run_with(|result| when.decide(result), || {
///         calls += 1;
///         std::future::ready(match calls {
///             1 => Err("busy".to_owned()),
///             2 => Ok(vec![]),
///             _ => Ok(vec![7]),
///         })
///     })
///     .await;
/// assert_eq!(rows.unwrap(), [7]);
/// # Ok(()) }
/// ```
pub struct RetryWhen<T, E>(Predicate<T, E>);

type Predicate<T, E> = Arc<dyn Fn(&Result<T, E>) -> bool + Send + Sync>;

impl<T: 'static, E: 'static> RetryWhen<T, E> {
    /// Repeats results for which `condition` is true.
    pub fn result(condition: impl Fn(&Result<T, E>) -> bool + Send + Sync + 'static) -> Self {
        RetryWhen(Arc::new(condition))
    }

    /// Repeats errors for which `condition` is true.
    pub fn error(condition: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        RetryWhen::result(move |result| result.as_ref().is_err_and(&condition))
    }

    /// Repeats successes for which `condition` is true.
    pub fn ok(condition: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        RetryWhen::result(move |result| result.as_ref().is_ok_and(&condition))
    }

    /// Repeats what either does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        RetryWhen::result(move |result| self.holds(result) || other.holds(result))
    }

    /// Repeats what both do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        RetryWhen::result(move |result| self.holds(result) && other.holds(result))
    }

    /// Repeats what this does not. Beware: that includes successes.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "reads as the third of or, and, not"
    )]
    pub fn not(self) -> Self {
        RetryWhen::result(move |result| !self.holds(result))
    }

    /// Whether the result is to be repeated.
    pub fn holds(&self, result: &Result<T, E>) -> bool {
        (self.0)(result)
    }

    /// The decision for [`Retry::run_with`](super::Retry::run_with).
    pub fn decide(&self, result: &Result<T, E>) -> Decision {
        if self.holds(result) {
            Decision::Retry
        } else {
            Decision::Stop
        }
    }
}

impl<T, E> Clone for RetryWhen<T, E> {
    fn clone(&self) -> Self {
        RetryWhen(self.0.clone())
    }
}

impl<T, E> fmt::Debug for RetryWhen<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetryWhen(..)")
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop(..)")
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait(..)")
    }
}
