//! What a breaker tells: events for listeners, lines for the log.

use std::sync::Arc;
use std::time::Duration;

use infra_core::MonoTime;

use super::{Mode, State};

pub(super) type Listener = Arc<dyn Fn(&BreakerEvent<'_>) + Send + Sync>;

/// One change of a breaker, given to [`on_event`](super::BreakerBuilder::on_event) listeners.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerEvent<'a> {
    /// The breaker's name.
    pub breaker: &'a str,
    /// Counts this breaker's events from 1. A gap means that a listener did not return while
    /// 16,384 later events came: the oldest of those were dropped.
    pub sequence: u64,
    /// When it happened, on the breaker's clock.
    pub at: MonoTime,
    /// What happened.
    pub change: BreakerChange,
}

/// What happened to a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum BreakerChange {
    /// It rejects calls from now on.
    Opened(Opening),
    /// The wait is over: it admits probes.
    HalfOpened {
        /// How long it was open.
        waited: Duration,
    },
    /// Enough probes succeeded: it admits all calls, with empty statistics.
    Closed {
        /// How many probes succeeded.
        successes: u32,
    },
    /// A probe had no result by the end of its lease. The opening that follows is its own event.
    ProbeLeaseExpired,
    /// An operator changed the mode.
    ModeChanged {
        /// The mode before.
        from: Mode,
        /// The mode now.
        to: Mode,
        /// The automatic state from here on.
        state: State,
    },
    /// In [`Mode::MetricsOnly`]: it would have opened now. Once per crossing of the threshold.
    WouldOpen(Opening),
}

/// Why and for how long a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Opening {
    /// What crossed its threshold.
    pub cause: OpenCause,
    /// The failures that led here: in a row for [`OpenCause::ConsecutiveFailures`], in the window
    /// for the rates, of this round of probes else.
    pub failures: u32,
    /// The calls among which these failures were.
    pub calls: u32,
    /// How long it stays open.
    pub wait: Duration,
}

/// What opened a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenCause {
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// The failure rate in the window.
    FailureRate,
    /// The rate of slow calls in the window.
    SlowCallRate,
    /// A probe failed or was too slow.
    ProbeFailed,
    /// A probe had no result by the end of its lease.
    ProbeLeaseExpired,
}

impl OpenCause {
    /// The word used in logs, such as `failure_rate`.
    pub const fn as_str(self) -> &'static str {
        match self {
            OpenCause::ConsecutiveFailures => "consecutive_failures",
            OpenCause::FailureRate => "failure_rate",
            OpenCause::SlowCallRate => "slow_call_rate",
            OpenCause::ProbeFailed => "probe_failed",
            OpenCause::ProbeLeaseExpired => "probe_lease_expired",
        }
    }
}

/// Writes one log line for the event. The messages are the names under which it is searched.
pub(super) fn log(event: &BreakerEvent<'_>) {
    let breaker = event.breaker;
    match event.change {
        BreakerChange::Opened(o) => tracing::warn!(
            breaker,
            cause = o.cause.as_str(),
            failures = o.failures,
            calls = o.calls,
            wait_ms = millis(o.wait),
            "circuit_breaker_opened"
        ),
        BreakerChange::HalfOpened { waited } => tracing::info!(
            breaker,
            waited_ms = millis(waited),
            "circuit_breaker_half_open"
        ),
        BreakerChange::Closed { successes } => {
            tracing::info!(breaker, successes, "circuit_breaker_closed");
        }
        BreakerChange::ProbeLeaseExpired => {
            tracing::warn!(breaker, "circuit_breaker_probe_lease_expired");
        }
        BreakerChange::ModeChanged { from, to, .. } => tracing::warn!(
            breaker,
            from = from.as_str(),
            to = to.as_str(),
            "circuit_breaker_mode_changed"
        ),
        BreakerChange::WouldOpen(o) => tracing::warn!(
            breaker,
            cause = o.cause.as_str(),
            failures = o.failures,
            calls = o.calls,
            "circuit_breaker_would_open"
        ),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
