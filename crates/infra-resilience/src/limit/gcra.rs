//! The generic cell rate algorithm as a state machine without I/O.

use std::time::Duration;

use infra_core::MonoTime;

use super::quota::Quota;
use crate::turnstile::Take;

/// How far apart units are, and how many may pass at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Nanoseconds per unit.
    pub(super) cell: u64,
    pub(super) burst: u32,
}

impl Pace {
    pub(super) fn new(quota: Quota, burst: u32) -> Self {
        // Rounded up: a nanosecond too slow breaks no limit.
        let cell = quota.period.as_nanos().div_ceil(u128::from(quota.limit));
        Pace {
            cell: u64::try_from(cell).unwrap_or(u64::MAX),
            burst,
        }
    }

    /// The theoretical arrival time after `weight` passed at `now`, or why it cannot.
    #[inline]
    pub(super) fn after(self, tat: u64, weight: u32, now: MonoTime) -> Result<u64, Take> {
        if weight > self.burst {
            return Err(Take::TooHeavy);
        }
        let now = now.as_nanos();
        let after = tat.max(now).saturating_add(self.cells(weight));
        let allowed = now.saturating_add(self.cells(self.burst));
        if after <= allowed {
            return Ok(after);
        }
        Err(Take::Wait(Some(Duration::from_nanos(after - allowed))))
    }

    #[inline]
    pub(super) fn cells(self, units: u32) -> u64 {
        self.cell.saturating_mul(u64::from(units))
    }
}

/// One number, the theoretical arrival time, says everything.
#[derive(Debug)]
pub(super) struct Gcra {
    pub(super) pace: Pace,
    pub(super) tat: u64,
}

impl Gcra {
    pub(super) fn new(pace: Pace) -> Self {
        Gcra { pace, tat: 0 }
    }

    /// Gives back units that were taken at `taken`, or just now. What has been refilled since is
    /// not given back: it would come on top of a full burst.
    pub(super) fn refund(&mut self, weight: u32, taken: Option<MonoTime>, now: MonoTime) {
        let taken = taken.unwrap_or(now);
        let passed = now.as_nanos().saturating_sub(taken.as_nanos());
        let back = self.pace.cells(weight).saturating_sub(passed);
        self.tat = self.tat.saturating_sub(back);
    }

    pub(super) fn overdraw(&mut self, weight: u32, now: MonoTime) {
        let from = self.tat.max(now.as_nanos());
        self.tat = from.saturating_add(self.pace.cells(weight));
    }

    /// Counts as used up.
    pub(super) fn drain(&mut self, now: MonoTime) {
        let burst = self.pace.cells(self.pace.burst);
        self.tat = now.as_nanos().saturating_add(burst);
    }

    /// Keeps what was used, counted in units and not in time.
    pub(super) fn go_on_from(&mut self, old: &Gcra, now: MonoTime) {
        let debt = old.tat.saturating_sub(now.as_nanos());
        let units = debt.div_ceil(old.pace.cell.max(1));
        let unused = u64::from(old.pace.burst).saturating_sub(units);
        let burst = self.pace.burst;
        let unused = u32::try_from(unused).unwrap_or(u32::MAX).min(burst);
        let used = self.pace.cells(burst - unused);
        self.tat = now.as_nanos().saturating_add(used);
    }
}
