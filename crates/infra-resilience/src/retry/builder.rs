//! The settings of a retry policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{DirectClock, SharedClock};

use super::backoff::{Backoff, Growth, Jitter};
use super::terms::Stop;
use super::{Retry, RetryAttempt};
use crate::budget::RetryBudget;
use crate::config_error::{self as check, ConfigError};

pub(super) type BeforeSleep = Arc<dyn Fn(&RetryAttempt<'_>) + Send + Sync>;

/// The settings of a [`Retry`]: 3 attempts, waits from 100 ms doubling up to 10 s, full jitter,
/// no deadline, only calls that are known not to have taken effect.
#[derive(Clone)]
pub struct RetryBuilder {
    policy: Policy,
    clock: Option<DirectClock>,
}

/// The settings without the clock.
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) name: Option<Arc<str>>,
    pub(super) max_attempts: Option<u32>,
    pub(super) stop: Option<Stop>,
    pub(super) backoff: Backoff,
    pub(super) longest_hint: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) idempotent: bool,
    pub(super) budget: Option<RetryBudget>,
    pub(super) before_sleep: Option<BeforeSleep>,
    pub(super) seed: Option<u64>,
}

const DEFAULT_ATTEMPTS: u32 = 3;

impl RetryBuilder {
    pub(super) fn new(growth: Growth) -> Self {
        RetryBuilder {
            policy: Policy {
                name: None,
                max_attempts: None,
                stop: None,
                backoff: Backoff {
                    base: Duration::from_millis(100),
                    cap: Duration::from_secs(10),
                    growth,
                    jitter: Jitter::Full,
                },
                longest_hint: None,
                deadline: None,
                idempotent: false,
                budget: None,
                before_sleep: None,
                seed: None,
            },
            clock: None,
        }
    }

    pub(super) fn from_parts(policy: Policy, clock: DirectClock) -> Self {
        RetryBuilder {
            policy,
            clock: Some(clock),
        }
    }

    /// A name for the log, such as that of the operation.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.policy.name = Some(name.into());
        self
    }

    /// How many attempts are made in all, the first call included; 1 or more. Unless set: 3, or
    /// no limit beside a [`stop`](Self::stop) term.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.policy.max_attempts = Some(attempts);
        self
    }

    /// Ends the run where `stop` holds, beside the other limits.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.policy.stop = Some(stop);
        self
    }

    /// Takes a token for each repetition from a budget that several policies may share. Where
    /// none is left, the run ends with the error it has.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.policy.budget = Some(budget);
        self
    }

    /// The wait after the first failure, before jitter; at most the cap.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.policy.backoff.base = base;
        self
    }

    /// No wait is longer than this, jitter included.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.policy.backoff.cap = cap;
        self
    }

    /// By what the wait is multiplied from one failure to the next, 1 or more; makes the growth
    /// exponential.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.policy.backoff.growth = Growth::Exponential { factor };
        self
    }

    /// How chance spreads the waits.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.backoff.jitter = jitter;
        self
    }

    /// The longest wait that the other side may ask for (Retry-After); a run that is asked for
    /// more stops at once. The cap unless set.
    #[must_use]
    pub fn retry_after_cap(mut self, longest: Duration) -> Self {
        self.policy.longest_hint = Some(longest);
        self
    }

    /// The limit on a whole run, attempts and waits together. No wait starts that would reach it;
    /// an attempt that is running at the deadline is dropped.
    #[must_use]
    pub fn deadline(mut self, total: Duration) -> Self {
        self.policy.deadline = Some(total);
        self
    }

    /// Says that doing the work twice is harmless, so that attempts with an unknown outcome (a
    /// timeout, a cut connection) are repeated as well. Off unless said.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.policy.idempotent = idempotent;
        self
    }

    /// Calls `listener` before each wait, after it was logged.
    #[must_use]
    pub fn before_sleep(
        mut self,
        listener: impl Fn(&RetryAttempt<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.policy.before_sleep = Some(Arc::new(listener));
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Makes chance repeatable: each run draws the same waits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.policy.seed = Some(seed);
        self
    }

    /// Checks the settings and builds the policy.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<Retry, ConfigError> {
        self.policy.check()?;
        Ok(Retry {
            policy: Arc::new(self.policy),
            clock: self.clock.unwrap_or_else(DirectClock::system),
            telemetry: Arc::default(),
        })
    }
}

impl Policy {
    fn check(&self) -> Result<(), ConfigError> {
        check::count("max_attempts", self.attempts(), u32::MAX)?;
        self.backoff.check()?;
        if let Some(deadline) = self.deadline {
            check::positive("deadline", deadline)?;
        }
        Ok(())
    }

    pub(super) fn attempts(&self) -> u32 {
        let default = match self.stop {
            Some(_) => u32::MAX,
            None => DEFAULT_ATTEMPTS,
        };
        self.max_attempts.unwrap_or(default)
    }

    pub(super) fn longest_asked(&self) -> Duration {
        self.longest_hint.unwrap_or(self.backoff.cap)
    }

    /// Whether anything in a run depends on when it began.
    pub(super) fn is_timed(&self) -> bool {
        self.deadline.is_some() || self.stop.is_some() || self.budget.is_some()
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("name", &self.name)
            .field("attempts", &self.attempts())
            .field("stop", &self.stop)
            .field("backoff", &self.backoff)
            .field("deadline", &self.deadline)
            .field("idempotent", &self.idempotent)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
