//! The settings of a retry policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{SharedClock, SystemClock};

use super::backoff::{Backoff, Growth, Jitter};
use super::schedule::Limits;
use super::{Retry, RetryAttempt};
use crate::config_error::{self as check, ConfigError};

pub(super) type BeforeSleep = Arc<dyn Fn(&RetryAttempt<'_>) + Send + Sync>;

/// The settings of a [`Retry`]: 3 attempts, waits from 100 ms doubling up to 10 s, full jitter,
/// no deadline, only calls that are known not to have taken effect.
#[derive(Clone)]
pub struct RetryBuilder {
    pub(super) name: Option<Arc<str>>,
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) longest_hint: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) idempotent: bool,
    pub(super) before_sleep: Option<BeforeSleep>,
    pub(super) clock: Option<SharedClock>,
    pub(super) seed: Option<u64>,
}

impl RetryBuilder {
    pub(super) fn new(growth: Growth) -> Self {
        RetryBuilder {
            name: None,
            max_attempts: 3,
            backoff: Backoff {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(10),
                growth,
                jitter: Jitter::Full,
            },
            longest_hint: None,
            deadline: None,
            idempotent: false,
            before_sleep: None,
            clock: None,
            seed: None,
        }
    }

    /// A name for the log, such as that of the operation.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many attempts are made in all, the first call included; 1 or more.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The wait after the first failure, before jitter; at most the cap.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.backoff.base = base;
        self
    }

    /// No wait is longer than this, jitter included.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.backoff.cap = cap;
        self
    }

    /// By what the wait is multiplied from one failure to the next, 1 or more; makes the growth
    /// exponential.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.backoff.growth = Growth::Exponential { factor };
        self
    }

    /// How chance spreads the waits.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.backoff.jitter = jitter;
        self
    }

    /// The longest wait that the other side may ask for (Retry-After); a run that is asked for
    /// more stops at once. The cap unless set.
    #[must_use]
    pub fn retry_after_cap(mut self, longest: Duration) -> Self {
        self.longest_hint = Some(longest);
        self
    }

    /// The limit on a whole run, attempts and waits together. No wait starts that would reach it;
    /// an attempt that is running at the deadline is dropped.
    #[must_use]
    pub fn deadline(mut self, total: Duration) -> Self {
        self.deadline = Some(total);
        self
    }

    /// Says that doing the work twice is harmless, so that attempts with an unknown outcome (a
    /// timeout, a cut connection) are repeated as well. Off unless said.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Calls `listener` before each wait, after it was logged.
    #[must_use]
    pub fn before_sleep(
        mut self,
        listener: impl Fn(&RetryAttempt<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.before_sleep = Some(Arc::new(listener));
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes chance repeatable: each run draws the same waits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks the settings and builds the policy.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<Retry, ConfigError> {
        let clock = self.clock.clone().unwrap_or_else(SystemClock::shared);
        Ok(Retry {
            policy: Arc::new(self.checked()?),
            clock,
        })
    }

    pub(super) fn checked(self) -> Result<Self, ConfigError> {
        check::count("max_attempts", self.max_attempts, u32::MAX)?;
        self.backoff.check()?;
        if let Some(deadline) = self.deadline {
            check::positive("deadline", deadline)?;
        }
        Ok(self)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_attempts: self.max_attempts,
            longest_hint: self.longest_hint.unwrap_or(self.backoff.cap),
        }
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder")
            .field("name", &self.name)
            .field("max_attempts", &self.max_attempts)
            .field("backoff", &self.backoff)
            .field("deadline", &self.deadline)
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}
