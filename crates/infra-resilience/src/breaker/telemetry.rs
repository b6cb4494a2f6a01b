//! What a breaker counts for the `metrics` facade.

use std::sync::Arc;

use super::event::BreakerChange;
use super::{Mode, State};
use crate::telemetry::{Count, Gauge};

const STATE: &str = "resilience_breaker_state";
const OPENED: &str = "resilience_breaker_opened_total";
const LATE_RESULTS: &str = "resilience_breaker_late_results_total";
const LEASE_EXPIRED: &str = "resilience_breaker_probe_lease_expired_total";
const LABEL: &str = "breaker";

/// One gauge and the counters of one breaker. One gauge, and not one per state: nobody has to set
/// the others to zero.
pub(super) struct Telemetry {
    state: Gauge,
    opened: Count,
    late_results: Count,
    leases_expired: Count,
    rejected: Count,
}

impl Telemetry {
    pub(super) const fn new() -> Self {
        Telemetry {
            state: Gauge::new(),
            opened: Count::new(),
            late_results: Count::new(),
            leases_expired: Count::new(),
            rejected: Count::new(),
        }
    }

    /// 0 closed, 1 half-open, 2 open; 3 isolated, 4 disabled, 5 metrics only.
    pub(super) fn state(&self, name: &Arc<str>, mode: Mode, state: State) {
        let number = match (mode, state) {
            (Mode::Auto, State::Closed) => 0,
            (Mode::Auto, State::HalfOpen) => 1,
            (Mode::Auto, State::Open) => 2,
            (Mode::Isolated, _) => 3,
            (Mode::Disabled, _) => 4,
            (Mode::MetricsOnly, _) => 5,
        };
        self.state.set(STATE, LABEL, name, number);
    }

    pub(super) fn change(&self, name: &Arc<str>, change: BreakerChange) {
        match change {
            BreakerChange::Opened(_) => self.opened.add(OPENED, LABEL, name),
            BreakerChange::ProbeLeaseExpired => {
                self.leases_expired.add(LEASE_EXPIRED, LABEL, name);
            }
            _ => {}
        }
    }

    pub(super) fn late_result(&self, name: &Arc<str>) {
        tracing::debug!(breaker = &**name, "circuit_breaker_late_result");
        self.late_results.add(LATE_RESULTS, LABEL, name);
    }

    pub(super) fn rejected(&self, name: &Arc<str>) {
        self.rejected.rejected("circuit breaker", name);
    }
}
