//! How much may pass in how much time, as state machines without I/O.

use std::collections::VecDeque;
use std::time::Duration;

use infra_core::MonoTime;

use crate::config_error::{self as check, ConfigError};

const MAX_LIMIT: u32 = 1_000_000;

/// How much weight may pass in a period. A plain call weighs 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub(super) kind: QuotaKind,
    pub(super) limit: u32,
    pub(super) period: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaKind {
    Smooth { burst: u32 },
    Strict,
}

impl Quota {
    /// `limit` per `period`, evenly spread: one every `period / limit` (GCRA). With a
    /// [`burst`](Quota::burst), so many more may pass at once; a period can then see up to
    /// `limit + burst`, so where that would get you banned use [`strict`](Quota::strict).
    pub const fn smooth(limit: u32, period: Duration) -> Self {
        Quota {
            kind: QuotaKind::Smooth { burst: 1 },
            limit,
            period,
        }
    }

    /// Never more than `limit` in *any* interval of `period`, wherever it begins. Remembers the
    /// time of each unit of the last period, so it needs up to 16 bytes per unit.
    pub const fn strict(limit: u32, period: Duration) -> Self {
        Quota {
            kind: QuotaKind::Strict,
            limit,
            period,
        }
    }

    /// How much may pass at once after a pause, 1 or more; 1 unless set. Only for
    /// [`smooth`](Quota::smooth) quotas.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        if let QuotaKind::Smooth { .. } = self.kind {
            self.kind = QuotaKind::Smooth { burst };
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::count("limit", self.limit, MAX_LIMIT)?;
        check::positive("period", self.period)?;
        if let QuotaKind::Smooth { burst } = self.kind {
            check::count("burst", burst, MAX_LIMIT)?;
        }
        Ok(())
    }
}

/// The state of one quota.
#[derive(Debug)]
pub(super) enum Meter {
    Smooth(Gcra),
    Strict(StrictWindow),
}

impl Meter {
    pub(super) fn new(quota: Quota) -> Self {
        match quota.kind {
            QuotaKind::Smooth { burst } => Meter::Smooth(Gcra::new(quota, burst)),
            QuotaKind::Strict => Meter::Strict(StrictWindow::new(quota)),
        }
    }

    /// The meter of `quota` that goes on from `old` without a second burst. What cannot be carried
    /// over counts as used up.
    pub(super) fn replacing(old: Option<Meter>, quota: Quota, now: MonoTime) -> Self {
        let mut meter = Meter::new(quota);
        match (&mut meter, old) {
            (Meter::Smooth(new), Some(Meter::Smooth(old))) => new.go_on_from(&old, now),
            (Meter::Strict(new), Some(Meter::Strict(old))) => {
                (new.log, new.used) = (old.log, old.used);
            }
            (Meter::Smooth(new), _) => new.drain(now),
            (Meter::Strict(new), _) => new.push(now, new.limit),
        }
        meter
    }

    /// How long `weight` must wait; `None` if it can never pass.
    pub(super) fn wait(&mut self, weight: u32, now: MonoTime) -> Option<Duration> {
        match self {
            Meter::Smooth(gcra) => gcra.wait(weight, now),
            Meter::Strict(window) => window.wait(weight, now),
        }
    }

    /// Takes `weight`, which must not have to wait.
    pub(super) fn take(&mut self, weight: u32, now: MonoTime) {
        match self {
            Meter::Smooth(gcra) => gcra.take(weight, now),
            Meter::Strict(window) => window.push(now, weight),
        }
    }

    /// Gives back `weight` that was taken and not used.
    pub(super) fn refund(&mut self, weight: u32) {
        match self {
            Meter::Smooth(gcra) => gcra.refund(weight),
            Meter::Strict(window) => window.refund(weight),
        }
    }

    /// Raises what was used to what the other side says.
    pub(super) fn observe(&mut self, used: u32, now: MonoTime) {
        if let Meter::Strict(window) = self {
            window.expire(now);
            let unknown = used.saturating_sub(window.used);
            if unknown > 0 {
                window.push(now, unknown);
            }
        }
    }

    /// True when nothing would be different if this were made anew.
    pub(super) fn is_fresh(&mut self, now: MonoTime) -> bool {
        match self {
            Meter::Smooth(gcra) => gcra.tat <= now,
            Meter::Strict(window) => {
                window.expire(now);
                window.used == 0
            }
        }
    }
}

/// The generic cell rate algorithm: one number, the theoretical arrival time, says everything.
#[derive(Debug)]
pub(super) struct Gcra {
    cell: u64,
    burst: u32,
    tat: MonoTime,
}

impl Gcra {
    fn new(quota: Quota, burst: u32) -> Self {
        // Rounded up: a nanosecond too slow breaks no limit.
        let cell = quota.period.as_nanos().div_ceil(u128::from(quota.limit));
        Gcra {
            cell: u64::try_from(cell).unwrap_or(u64::MAX),
            burst,
            tat: MonoTime::ZERO,
        }
    }

    fn wait(&self, weight: u32, now: MonoTime) -> Option<Duration> {
        if weight > self.burst {
            return None;
        }
        let after = self.after(weight, now);
        let allowed = now.plus(self.cells(self.burst));
        Some(after.since(allowed))
    }

    fn take(&mut self, weight: u32, now: MonoTime) {
        self.tat = self.after(weight, now);
    }

    fn refund(&mut self, weight: u32) {
        let back = self.cells(weight).as_nanos();
        let nanos = u64::try_from(back).unwrap_or(u64::MAX);
        self.tat = MonoTime::from_nanos(self.tat.as_nanos().saturating_sub(nanos));
    }

    fn drain(&mut self, now: MonoTime) {
        self.tat = now.plus(self.cells(self.burst));
    }

    /// Keeps what was used, counted in units and not in time.
    fn go_on_from(&mut self, old: &Gcra, now: MonoTime) {
        let debt = u64::try_from(old.tat.since(now).as_nanos()).unwrap_or(u64::MAX);
        let units = debt.div_ceil(old.cell.max(1));
        let unused = u64::from(old.burst).saturating_sub(units);
        let unused = u32::try_from(unused).unwrap_or(u32::MAX).min(self.burst);
        self.tat = now.plus(self.cells(self.burst - unused));
    }

    fn after(&self, weight: u32, now: MonoTime) -> MonoTime {
        self.tat.max(now).plus(self.cells(weight))
    }

    fn cells(&self, n: u32) -> Duration {
        Duration::from_nanos(self.cell.saturating_mul(u64::from(n)))
    }
}

/// The times and weights of the last period.
#[derive(Debug)]
pub(super) struct StrictWindow {
    limit: u32,
    period: Duration,
    log: VecDeque<(MonoTime, u32)>,
    used: u32,
}

impl StrictWindow {
    fn new(quota: Quota) -> Self {
        StrictWindow {
            limit: quota.limit,
            period: quota.period,
            log: VecDeque::new(),
            used: 0,
        }
    }

    fn wait(&mut self, weight: u32, now: MonoTime) -> Option<Duration> {
        if weight > self.limit {
            return None;
        }
        self.expire(now);
        let mut excess = self.used.saturating_add(weight).saturating_sub(self.limit);
        if excess == 0 {
            return Some(Duration::ZERO);
        }
        let mut free_at = now;
        for (at, weight) in &self.log {
            free_at = at.plus(self.period);
            excess = excess.saturating_sub(*weight);
            if excess == 0 {
                break;
            }
        }
        Some(free_at.since(now))
    }

    fn push(&mut self, now: MonoTime, weight: u32) {
        // A clock that goes back must not make the log unsorted: that would free units early.
        let at = self.log.back().map_or(now, |(last, _)| now.max(*last));
        self.used = self.used.saturating_add(weight);
        match self.log.back_mut() {
            Some((last, units)) if *last == at => *units = units.saturating_add(weight),
            _ => self.log.push_back((at, weight)),
        }
    }

    fn refund(&mut self, mut weight: u32) {
        while let Some((_, units)) = self.log.back_mut()
            && weight > 0
        {
            let back = weight.min(*units);
            *units -= back;
            weight -= back;
            self.used -= back;
            if *units == 0 {
                self.log.pop_back();
            }
        }
    }

    fn expire(&mut self, now: MonoTime) {
        while let Some((at, units)) = self.log.front()
            && at.plus(self.period) <= now
        {
            self.used = self.used.saturating_sub(*units);
            self.log.pop_front();
        }
    }
}
