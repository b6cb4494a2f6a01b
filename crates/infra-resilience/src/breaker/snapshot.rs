//! A breaker's numbers, for health and metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::striped::Striped;
use super::window::Tally;
use super::{Mode, State};

/// Everything about a breaker at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// The automatic state.
    pub state: State,
    /// The operator's mode, which outranks the state.
    pub mode: Mode,
    /// Grows with each change of state or mode; results of older generations are late.
    pub generation: u64,
    /// The number of the latest event.
    pub sequence: u64,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Calls in the window.
    pub window_calls: u32,
    /// Failures in the window.
    pub window_failures: u32,
    /// Slow calls in the window.
    pub window_slow: u32,
    /// Probes in flight.
    pub probes: u32,
    /// The time until an open breaker admits a probe.
    pub retry_after: Option<Duration>,
    /// Counts since the breaker was built. Each finished call is in exactly one of `successes`,
    /// `failures`, `ignored` and `late_results`. A probe whose lease ended is a failure from then
    /// on; where it comes back after all, its result is a late one besides.
    pub counts: BreakerCounts,
}

impl BreakerSnapshot {
    /// The share of failures in the window, 0 for an empty one.
    pub fn failure_rate(&self) -> f64 {
        if self.window_calls == 0 {
            return 0.0;
        }
        f64::from(self.window_failures) / f64::from(self.window_calls)
    }
}

/// Counts since a breaker was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerCounts {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed, panics and counted cancellations included.
    pub failures: u64,
    /// Calls whose outcome says nothing about the other side.
    pub ignored: u64,
    /// Results that came after the state they were admitted in had ended; they changed nothing.
    pub late_results: u64,
    /// Calls not admitted.
    pub rejected: u64,
    /// Calls dropped before they had a result, whatever they counted for.
    pub cancelled: u64,
    /// Calls that panicked; they are among the failures, unless late.
    pub panics: u64,
    /// Probes that had no result by the end of their lease.
    pub probe_leases_expired: u64,
    /// Panics of the listener, contained.
    pub listener_panics: u64,
}

/// On cache lines of its own: it changes with every call.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Totals {
    /// Those that changed nothing else, and so took no lock.
    pub(super) quick_successes: Striped,
    pub(super) failures: AtomicU64,
    pub(super) ignored: AtomicU64,
    pub(super) late_results: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) probe_leases_expired: AtomicU64,
    pub(super) listener_panics: AtomicU64,
}

impl Totals {
    /// All counts, with the successes that were recorded under the lock.
    pub(super) fn read(&self, recorded: u64) -> BreakerCounts {
        BreakerCounts {
            successes: recorded + self.quick_successes.sum(),
            failures: self.failures.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            late_results: self.late_results.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            panics: self.panics.load(Relaxed),
            probe_leases_expired: self.probe_leases_expired.load(Relaxed),
            listener_panics: self.listener_panics.load(Relaxed),
        }
    }
}

impl BreakerSnapshot {
    pub(super) fn with_window(mut self, tally: Tally) -> Self {
        self.window_calls = tally.calls;
        self.window_failures = tally.failures;
        self.window_slow = tally.slow;
        self
    }
}
