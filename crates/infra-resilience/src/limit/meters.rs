//! All quotas of one limiter together: all give, or none does.

use std::time::Duration;

use infra_core::MonoTime;

use super::gcra::{Gcra, Pace};
use super::quota::{Quota, QuotaKind};
use super::strict::StrictWindow;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::turnstile::{Scarce, Take};

/// The state of one quota.
#[derive(Debug)]
enum Meter {
    Smooth(Gcra),
    Strict(StrictWindow),
}

/// All quotas of a limiter, and the gate that the other side can close.
///
/// A limiter with one smooth quota and an open gate is one number, which calls take from without a
/// lock. As a word: below the theoretical arrival time, above it the number of the change that the
/// pace belongs to, so that nobody takes by a pace that has been exchanged.
#[derive(Debug)]
pub(crate) struct Meters {
    meters: Vec<Meter>,
    /// [`MonoTime::ZERO`] while the gate is open.
    closed_until: MonoTime,
    changes: u64,
}

/// The pace of a limiter with one smooth quota; written under the lock, while no word is lent.
#[derive(Debug)]
pub(crate) struct LentPace {
    cell: AtomicU64,
    burst: AtomicU32,
}

/// 2^58 ns are nine years.
const TAT_BITS: u32 = 58;
const TAT: u64 = (1 << TAT_BITS) - 1;
const CHANGES: u64 = (1 << (63 - TAT_BITS)) - 1;

impl LentPace {
    #[inline]
    fn load(&self) -> Pace {
        Pace {
            cell: self.cell.load(Ordering::Relaxed),
            burst: self.burst.load(Ordering::Relaxed),
        }
    }

    fn store(&self, pace: Pace) {
        self.cell.store(pace.cell, Ordering::Relaxed);
        self.burst.store(pace.burst, Ordering::Relaxed);
    }
}

impl Meters {
    pub(super) fn new(quotas: &[Quota]) -> Self {
        Meters {
            meters: quotas.iter().copied().map(Meter::new).collect(),
            closed_until: MonoTime::ZERO,
            changes: 0,
        }
    }

    /// The pace to begin with.
    pub(super) fn lent_pace(&self) -> LentPace {
        let pace = self.only_smooth().map(|gcra| gcra.pace);
        let pace = pace.unwrap_or(Pace { cell: 0, burst: 0 });
        LentPace {
            cell: AtomicU64::new(pace.cell),
            burst: AtomicU32::new(pace.burst),
        }
    }

    pub(super) fn refund(&mut self, weight: u32, taken: Option<MonoTime>, now: MonoTime) {
        for meter in &mut self.meters {
            match meter {
                Meter::Smooth(gcra) => gcra.refund(weight, taken, now),
                Meter::Strict(window) => window.refund(weight, taken, now),
            }
        }
    }

    /// Takes what must be taken although there may be no room for it.
    pub(super) fn overdraw(&mut self, weight: u32, now: MonoTime) {
        for meter in &mut self.meters {
            match meter {
                Meter::Smooth(gcra) => gcra.overdraw(weight, now),
                Meter::Strict(window) => window.push(now, weight),
            }
        }
    }

    /// Raises what was used in the strict quotas of `period`, or in the only strict one there is.
    /// False where there is none to speak of.
    pub(super) fn observe(&mut self, used: u32, period: Option<Duration>, now: MonoTime) -> bool {
        let mut windows = self.meters.iter_mut().filter_map(|meter| match meter {
            Meter::Strict(window) => Some(window),
            Meter::Smooth(_) => None,
        });
        let Some(period) = period else {
            let (Some(only), None) = (windows.next(), windows.next()) else {
                return false;
            };
            only.observe(used, now);
            return true;
        };
        let mut any = false;
        for window in windows.filter(|window| window.period == period) {
            window.observe(used, now);
            any = true;
        }
        any
    }

    pub(super) fn close_until(&mut self, until: MonoTime) {
        self.closed_until = self.closed_until.max(until);
    }

    pub(super) fn exchange(&mut self, quotas: &[Quota], lent: &LentPace, now: MonoTime) {
        let mut old = std::mem::take(&mut self.meters).into_iter();
        self.meters = quotas
            .iter()
            .map(|quota| Meter::replacing(old.next(), *quota, now))
            .collect();
        self.changes += 1;
        if let Some(gcra) = self.only_smooth() {
            lent.store(gcra.pace);
        }
    }

    /// True when nothing would be different if this were made anew.
    pub(super) fn is_fresh(&mut self, now: MonoTime) -> bool {
        self.closed_until <= now && self.meters.iter_mut().all(|meter| meter.is_fresh(now))
    }

    fn only_smooth(&self) -> Option<&Gcra> {
        match &*self.meters {
            [Meter::Smooth(gcra)] => Some(gcra),
            _ => None,
        }
    }

    fn wait(&mut self, weight: u32, now: MonoTime) -> Option<Duration> {
        let mut wait = self.closed_until.since(now);
        if wait.is_zero() {
            self.closed_until = MonoTime::ZERO;
        }
        for meter in &mut self.meters {
            wait = wait.max(meter.wait(weight, now)?);
        }
        Some(wait)
    }
}

impl Scarce for Meters {
    type Ask = u32;
    type Terms = LentPace;
    const NEEDS_TIME: bool = true;

    fn try_take(&mut self, weight: u32, now: MonoTime) -> Take {
        match self.wait(weight, now) {
            None => return Take::TooHeavy,
            Some(wait) if !wait.is_zero() => return Take::Wait(Some(wait)),
            Some(_) => {}
        }
        for meter in &mut self.meters {
            meter.take(weight, now);
        }
        Take::Taken
    }

    fn rank(_weight: u32) -> u8 {
        0
    }

    fn lend(&self) -> Option<u64> {
        let tat = self.only_smooth()?.tat;
        let open = self.closed_until == MonoTime::ZERO;
        (open && tat <= TAT).then_some((self.changes & CHANGES) << TAT_BITS | tat)
    }

    fn take_back(&mut self, word: u64) {
        if let [Meter::Smooth(gcra)] = &mut *self.meters {
            gcra.tat = word & TAT;
        }
    }

    #[inline]
    fn step(pace: &LentPace, word: u64, weight: u32, now: MonoTime) -> Result<u64, Option<Take>> {
        let after = pace.load().after(word & TAT, weight, now).map_err(Some)?;
        if after > TAT {
            return Err(None);
        }
        Ok(word & !TAT | after)
    }
}

impl Meter {
    fn new(quota: Quota) -> Self {
        match quota.kind {
            QuotaKind::Smooth { burst } => Meter::Smooth(Gcra::new(Pace::new(quota, burst))),
            QuotaKind::Strict => Meter::Strict(StrictWindow::new(quota)),
        }
    }

    /// The meter of `quota` that goes on from `old` without a second burst. What cannot be carried
    /// over counts as used up.
    fn replacing(old: Option<Meter>, quota: Quota, now: MonoTime) -> Self {
        let mut meter = Meter::new(quota);
        match (&mut meter, old) {
            (Meter::Smooth(new), Some(Meter::Smooth(old))) => new.go_on_from(&old, now),
            (Meter::Strict(new), Some(Meter::Strict(old))) => new.go_on_from(old),
            (Meter::Smooth(new), _) => new.drain(now),
            (Meter::Strict(new), _) => new.push(now, new.limit),
        }
        meter
    }

    /// How long `weight` must wait; `None` if it can never pass.
    fn wait(&mut self, weight: u32, now: MonoTime) -> Option<Duration> {
        match self {
            Meter::Smooth(gcra) => match gcra.pace.after(gcra.tat, weight, now) {
                Ok(_) | Err(Take::Taken) => Some(Duration::ZERO),
                Err(Take::Wait(wait)) => Some(wait.unwrap_or_default()),
                Err(Take::TooHeavy) => None,
            },
            Meter::Strict(window) => window.wait(weight, now),
        }
    }

    /// Takes `weight`, which must not have to wait.
    fn take(&mut self, weight: u32, now: MonoTime) {
        match self {
            Meter::Smooth(gcra) => {
                if let Ok(after) = gcra.pace.after(gcra.tat, weight, now) {
                    gcra.tat = after;
                }
            }
            Meter::Strict(window) => window.push(now, weight),
        }
    }

    fn is_fresh(&mut self, now: MonoTime) -> bool {
        match self {
            Meter::Smooth(gcra) => gcra.tat <= now.as_nanos(),
            Meter::Strict(window) => window.is_empty(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_lent_word_tells_a_change_from_the_one_before_and_stays_below_its_bound() {
        crate::sync::model(|| {
            let quotas = [Quota::smooth(1, SECOND)];
            let mut meters = Meters::new(&quotas);
            let pace = meters.lent_pace();
            let mut changes = Vec::new();
            for _ in 0..100 {
                let word = meters.lend().unwrap();
                assert!(word < 1 << 63);
                changes.push(word & !TAT);
                meters.exchange(&quotas, &pace, at(0));
            }
            for row in changes.windows(32) {
                let others = row.iter().filter(|change| **change != row[0]);
                assert_eq!(others.count(), 31, "a word that comes again too soon");
            }
        });
    }

    #[test]
    fn a_limiter_is_fresh_again_when_all_is_refilled_and_the_gate_is_open() {
        for quota in [Quota::smooth(2, 2 * SECOND), Quota::strict(1, SECOND)] {
            let mut meters = Meters::new(&[quota]);
            assert!(meters.is_fresh(at(10)));
            assert_eq!(meters.try_take(1, at(10)), Take::Taken);
            assert!(!meters.is_fresh(at(10)));
            assert!(meters.is_fresh(at(11)));
            meters.close_until(at(20));
            assert!(!meters.is_fresh(at(19)));
            assert!(meters.is_fresh(at(20)));
        }
    }
}
