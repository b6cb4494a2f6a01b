//! The settings of a breaker, checked as a whole before one is built.

use std::time::Duration;

use super::CircuitBreaker;
use super::builder::BreakerBuilder;
use crate::config_error::{self as check, ConfigError};

/// When a breaker opens, for how long, and how it tries again. See [`CircuitBreaker::builder`].
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    pub(super) consecutive: Option<u32>,
    pub(super) window: Option<WindowKind>,
    pub(super) both_windows: bool,
    pub(super) minimum_calls: Option<u32>,
    pub(super) failure_rate: f64,
    pub(super) slow: Option<SlowCalls>,
    pub(super) open_wait: Duration,
    pub(super) open_wait_factor: f64,
    pub(super) open_wait_cap: Option<Duration>,
    pub(super) probes: u32,
    pub(super) probe_lease: Duration,
    pub(super) on_cancel: Option<OnCancel>,
}

/// Over what the failure rate is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowKind {
    Count(u32),
    Time { length: Duration, buckets: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SlowCalls {
    pub(super) threshold: Duration,
    pub(super) rate: f64,
}

/// What a call counts for whose future, or whose permit, was dropped before it had a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCancel {
    /// Nothing.
    Ignore,
    /// A failure.
    Failure,
    /// A failure if the call had been running for at least this long, else nothing. Callers that
    /// give up on a hung backend then open the breaker, callers that change their mind do not.
    FailureIfOlderThan(Duration),
}

/// How old a dropped call must be to count as a failure, where nothing else was said.
const DEFAULT_CANCEL_AGE: Duration = Duration::from_secs(1);
const DEFAULT_CONSECUTIVE: u32 = 5;
const DEFAULT_MINIMUM_CALLS: u32 = 10;
const DEFAULT_BUCKETS: u32 = 10;
const MAX_WINDOW: u32 = 100_000;
const MAX_PROBES: u32 = 1_000;

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            consecutive: None,
            window: None,
            both_windows: false,
            minimum_calls: None,
            failure_rate: 0.5,
            slow: None,
            open_wait: Duration::from_secs(30),
            open_wait_factor: 2.0,
            open_wait_cap: None,
            probes: 1,
            probe_lease: Duration::from_secs(10),
            on_cancel: None,
        }
    }
}

/// Writes each setting once, for the plain config and for the builder that owns one.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) |$config:ident| $body:expr;)*) => {
        impl BreakerConfig {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $($arg: $ty),*) -> Self {
                let $config = &mut self;
                $body;
                self
            })*
        }
        impl BreakerBuilder {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $($arg: $ty),*) -> Self {
                self.config = self.config.$name($($arg),*);
                self
            })*
        }
    };
}

settings! {
    /// Opens after `n` failures in a row, 1 or more; a success starts the count anew. May stand
    /// beside a window. Without this and without a window: 5.
    consecutive_failures(n: u32) |config| config.consecutive = Some(n);

    /// Opens by the failure rate over the last `n` calls, 1 to 100,000.
    count_window(n: u32) |config| {
        config.both_windows |= matches!(config.window, Some(WindowKind::Time { .. }));
        config.window = Some(WindowKind::Count(n));
    };

    /// Opens by the failure rate over the last `length`, kept in 10 buckets: a call stops
    /// counting between 9/10 of `length` and `length` after it ended.
    time_window(length: Duration) |config| {
        config.both_windows |= matches!(config.window, Some(WindowKind::Count(_)));
        config.window = Some(WindowKind::Time { length, buckets: DEFAULT_BUCKETS });
    };

    /// How many calls a window must hold before its rates mean anything; 10, or the size of a
    /// smaller count window, unless set.
    minimum_calls(n: u32) |config| config.minimum_calls = Some(n);

    /// The share of failed calls in the window, above 0 and at most 1, from which on the breaker
    /// opens; 0.5 unless set.
    failure_rate(rate: f64) |config| config.failure_rate = rate;

    /// Calls that take `threshold` or longer are slow, also successful ones; a share of `rate`
    /// slow calls in the window opens the breaker, and a slow probe has failed. Needs a window.
    slow_call(threshold: Duration, rate: f64) |config| {
        config.slow = Some(SlowCalls { threshold, rate });
    };

    /// How long the breaker stays open before it lets a probe through; 30 s unless set.
    open_wait(wait: Duration) |config| config.open_wait = wait;

    /// Each failed probe multiplies the next wait by this, 1 or more; 2 unless set. A closed
    /// breaker starts again from [`open_wait`](BreakerConfig::open_wait).
    open_wait_factor(factor: f64) |config| config.open_wait_factor = factor;

    /// The longest wait; four times [`open_wait`](BreakerConfig::open_wait) unless set.
    open_wait_cap(cap: Duration) |config| config.open_wait_cap = Some(cap);

    /// How many probes a half-open breaker admits, 1 to 1,000, all of which must succeed to close
    /// it; 1 unless set.
    half_open_probes(n: u32) |config| config.probes = n;

    /// How long a probe may take. One that has no result by then has failed; 10 s unless set.
    probe_lease(lease: Duration) |config| config.probe_lease = lease;

    /// What dropped calls count for. Unless set: a failure if older than the slow-call threshold,
    /// or than 1 s where none is set.
    on_cancel(rule: OnCancel) |config| config.on_cancel = Some(rule);
}

impl BreakerConfig {
    /// The defaults: opens after 5 failures in a row, for 30 s, then 60 s, then 120 s, and closes
    /// when one probe succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses what cannot work and fills in what was left open.
    pub(super) fn checked(mut self) -> Result<Self, ConfigError> {
        self.check_trip()?;
        check::positive("open_wait", self.open_wait)?;
        check::factor("open_wait_factor", self.open_wait_factor)?;
        let cap = self
            .open_wait_cap
            .unwrap_or(self.open_wait.saturating_mul(4));
        check::ordered(("open_wait", self.open_wait), ("open_wait_cap", cap))?;
        self.open_wait_cap = Some(cap);
        check::count("half_open_probes", self.probes, MAX_PROBES)?;
        check::positive("probe_lease", self.probe_lease)?;
        if let Some(OnCancel::FailureIfOlderThan(age)) = self.on_cancel {
            check::positive("on_cancel", age)?;
        }
        if self.consecutive.is_none() && self.window.is_none() {
            self.consecutive = Some(DEFAULT_CONSECUTIVE);
        }
        Ok(self)
    }

    fn check_trip(&mut self) -> Result<(), ConfigError> {
        if let Some(n) = self.consecutive {
            check::count("consecutive_failures", n, u32::MAX)?;
        }
        check::rate("failure_rate", self.failure_rate)?;
        if let Some(slow) = self.slow {
            check::positive("slow_call", slow.threshold)?;
            check::rate("slow_call", slow.rate)?;
        }
        if self.both_windows {
            let message = "set beside `time_window`: a breaker has one window";
            return Err(ConfigError::new("count_window", message));
        }
        match self.window {
            None => self.check_without_window(),
            Some(WindowKind::Count(n)) => self.check_count_window(n),
            Some(WindowKind::Time { length, buckets }) => {
                if length.as_nanos() < u128::from(buckets) {
                    let message = format!("is {length:?}, must be at least {buckets} ns");
                    return Err(ConfigError::new("time_window", message));
                }
                let minimum = self.minimum_calls.unwrap_or(DEFAULT_MINIMUM_CALLS);
                check::count("minimum_calls", minimum, u32::MAX)?;
                self.minimum_calls = Some(minimum);
                Ok(())
            }
        }
    }

    fn check_count_window(&mut self, size: u32) -> Result<(), ConfigError> {
        check::count("count_window", size, MAX_WINDOW)?;
        let minimum = self
            .minimum_calls
            .unwrap_or(DEFAULT_MINIMUM_CALLS.min(size));
        check::count("minimum_calls", minimum, u32::MAX)?;
        if minimum > size {
            let message =
                format!("is {minimum}, more than `count_window` ({size}) can hold: never opens");
            return Err(ConfigError::new("minimum_calls", message));
        }
        self.minimum_calls = Some(minimum);
        Ok(())
    }

    fn check_without_window(&self) -> Result<(), ConfigError> {
        let needs_window = [
            ("slow_call", self.slow.is_some()),
            ("minimum_calls", self.minimum_calls.is_some()),
        ];
        for (setting, set) in needs_window {
            if set {
                let message = "needs `count_window` or `time_window`, and neither is set";
                return Err(ConfigError::new(setting, message));
            }
        }
        Ok(())
    }

    pub(super) fn minimum(&self) -> u32 {
        self.minimum_calls.unwrap_or(DEFAULT_MINIMUM_CALLS)
    }

    pub(super) fn cancel_rule(&self) -> OnCancel {
        self.on_cancel
            .unwrap_or(OnCancel::FailureIfOlderThan(match self.slow {
                Some(slow) => slow.threshold,
                None => DEFAULT_CANCEL_AGE,
            }))
    }

    /// The wait after `failed_probes` probe rounds failed since the breaker was last closed.
    pub(super) fn wait_after(&self, failed_probes: u32) -> Duration {
        let cap = self.open_wait_cap.unwrap_or(self.open_wait);
        let exponent = i32::try_from(failed_probes).unwrap_or(i32::MAX);
        let seconds = self.open_wait.as_secs_f64() * self.open_wait_factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(cap, |wait| wait.min(cap))
    }
}

impl CircuitBreaker {
    /// Starts the settings of a breaker whose name appears in errors, events and logs.
    pub fn builder(name: impl Into<String>) -> BreakerBuilder {
        BreakerBuilder::new(name.into())
    }
}
