//! What a process may grant without asking the store, as a state machine without I/O.

use std::time::Duration;

use infra_core::MonoTime;

use super::cells::{Cells, Plan};

/// The shortest life of leased units.
const SHORTEST_LEASE: Duration = Duration::from_millis(10);

/// What comes next for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It may go.
    Taken,
    /// It has to wait so long; the store need not be asked before.
    Wait(Duration),
    /// The store must be asked for `needed` units, and better for `wanted`.
    Ask { needed: u32, wanted: u32 },
}

/// Counts since a limiter was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedLimitCounts {
    /// Units granted by the store.
    pub granted: u64,
    /// Units granted out of the local share, while the store was away.
    pub granted_locally: u64,
    /// Granted units that nobody used in time.
    pub expired: u64,
    /// How often the store was asked.
    pub exchanges: u64,
    /// How often another process was faster and the store had to be asked once more.
    pub conflicts: u64,
    /// How often the store did not answer, or answered with an error.
    pub store_failures: u64,
}

/// Units at hand, what the store said last, and the share for when it says nothing.
#[derive(Debug)]
pub(super) struct Ledger {
    cells: Cells,
    share: Cells,
    largest_batch: u32,
    ask_again: Duration,
    leased: u32,
    lease_end: MonoTime,
    batch: u32,
    /// Calls at least as heavy as this have to wait until then.
    refused: (u32, MonoTime),
    away: Option<Away>,
    pub(super) counts: SharedLimitCounts,
}

/// The store is away.
#[derive(Debug)]
struct Away {
    ask_at: MonoTime,
    arrival: u64,
}

impl Ledger {
    pub(super) fn new(cells: Cells, processes: u32, batch: u32, ask_again: Duration) -> Self {
        Ledger {
            cells,
            share: cells.share(processes),
            largest_batch: batch.min(cells.burst()),
            ask_again,
            leased: 0,
            lease_end: MonoTime::ZERO,
            batch: 1,
            refused: (0, MonoTime::ZERO),
            away: None,
            counts: SharedLimitCounts::default(),
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    pub(super) fn take(&mut self, weight: u32, now: MonoTime) -> Next {
        self.expire(now);
        if self.leased >= weight {
            self.leased -= weight;
            return Next::Taken;
        }
        if let Some(away) = &mut self.away
            && now < away.ask_at
        {
            let next = take_share(self.share, &mut away.arrival, weight, now);
            if next == Next::Taken {
                self.counts.granted_locally += u64::from(weight);
            }
            return next;
        }
        let (refused, until) = self.refused;
        if weight >= refused && now < until {
            return Next::Wait(until.since(now));
        }
        let needed = weight - self.leased;
        let wanted = needed.max(self.batch);
        Next::Ask { needed, wanted }
    }

    /// The store granted `units` to a call of this weight, which takes what it needs of them.
    /// True if it had been away.
    pub(super) fn granted(&mut self, weight: u32, units: u32, now: MonoTime) -> bool {
        self.counts.granted += u64::from(units);
        // Used up before its end: so much is needed that larger leases spare the store.
        self.batch = if now < self.lease_end {
            self.batch.saturating_mul(2).min(self.largest_batch)
        } else {
            1
        };
        let life = Duration::from_nanos(self.cells.span(units.max(self.batch)));
        self.lease_end = now.plus(life.max(SHORTEST_LEASE));
        self.leased = (self.leased.saturating_add(units)).saturating_sub(weight);
        self.refused = (0, MonoTime::ZERO);
        self.away.take().is_some()
    }

    /// The store has no room for a call of this weight before so long. True if it had been away.
    pub(super) fn refused(&mut self, weight: u32, wait: Duration, now: MonoTime) -> bool {
        self.refused = (weight, now.plus(wait));
        self.away.take().is_some()
    }

    /// The store did not answer. True if it had been there.
    pub(super) fn lost(&mut self, now: MonoTime) -> bool {
        self.counts.store_failures += 1;
        let ask_at = now.plus(self.ask_again);
        if let Some(away) = &mut self.away {
            away.ask_at = ask_at;
            return false;
        }
        // The share begins without its burst: the store may just have granted that.
        let arrival = now
            .as_nanos()
            .saturating_add(self.share.span(self.share.burst()));
        self.away = Some(Away { ask_at, arrival });
        true
    }

    fn expire(&mut self, now: MonoTime) {
        if now >= self.lease_end && self.leased > 0 {
            self.counts.expired += u64::from(self.leased);
            self.leased = 0;
        }
    }
}

/// Takes from the local share. A call that is heavier than the share's burst goes when all of the
/// burst is there, and is paid for afterwards.
fn take_share(share: Cells, arrival: &mut u64, weight: u32, now: MonoTime) -> Next {
    let checked = weight.min(share.burst());
    match share.plan(*arrival, now.as_nanos(), checked, checked) {
        Plan::Wait(wait) => Next::Wait(wait),
        Plan::Grant { .. } => {
            let start = (*arrival).max(now.as_nanos());
            *arrival = start.saturating_add(share.span(weight));
            Next::Taken
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 per second, burst 8, 2 processes, batches of up to 4.
    fn ledger() -> Ledger {
        let cells = Cells::new(10, Duration::from_secs(1), 8);
        Ledger::new(cells, 2, 4, Duration::from_secs(1))
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime::ZERO.plus(Duration::from_millis(millis))
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn ask(needed: u32, wanted: u32) -> Next {
        Next::Ask { needed, wanted }
    }

    #[test]
    fn batches_grow_while_they_are_used_up_and_shrink_after_a_pause() {
        let mut ledger = ledger();
        assert_eq!(ledger.take(1, at(0)), ask(1, 1));
        assert!(!ledger.granted(1, 1, at(0)));
        for (now, batch) in [(1, 1), (2, 2), (3, 4), (4, 4)] {
            assert_eq!(ledger.take(1, at(now)), ask(1, batch));
            ledger.granted(1, batch, at(now));
            for _ in 1..batch {
                assert_eq!(ledger.take(1, at(now)), Next::Taken);
            }
        }
        assert_eq!(ledger.take(1, at(5)), ask(1, 4));
        ledger.granted(1, 4, at(60_000));
        assert_eq!(ledger.batch, 1);
    }

    #[test]
    fn units_that_nobody_uses_expire() {
        let mut ledger = ledger();
        ledger.granted(1, 4, at(0));
        assert_eq!(ledger.take(1, at(399)), Next::Taken);
        assert_eq!(ledger.take(1, at(400)), ask(1, 1));
        assert_eq!(ledger.counts.expired, 2);
        assert_eq!(ledger.counts.granted, 4);
    }

    #[test]
    fn the_rest_of_a_lease_counts_for_a_heavier_call() {
        let mut ledger = ledger();
        ledger.granted(1, 3, at(0));
        assert_eq!(ledger.take(5, at(0)), ask(3, 3));
        ledger.granted(5, 3, at(0));
        assert_eq!(ledger.take(1, at(0)), ask(1, 2));
    }

    #[test]
    fn a_refusal_holds_for_calls_as_heavy_and_not_for_lighter_ones() {
        let mut ledger = ledger();
        assert!(!ledger.refused(3, ms(200), at(0)));
        assert_eq!(ledger.take(3, at(50)), Next::Wait(ms(150)));
        assert_eq!(ledger.take(2, at(50)), ask(2, 2));
        assert_eq!(ledger.take(3, at(200)), ask(3, 3));
    }

    #[test]
    fn without_the_store_the_share_is_granted_and_the_store_asked_now_and_then() {
        let mut ledger = ledger();
        assert!(ledger.lost(at(0)));
        // 5 per second here, no burst at first.
        assert_eq!(ledger.take(1, at(0)), Next::Wait(ms(200)));
        assert_eq!(ledger.take(1, at(200)), Next::Taken);
        assert_eq!(ledger.take(1, at(200)), Next::Wait(ms(200)));
        let taken = (201..1_000).filter(|now| ledger.take(1, at(*now)) == Next::Taken);
        assert_eq!(taken.count(), 3);
        assert_eq!(ledger.counts.granted_locally, 4);
        assert_eq!(ledger.take(1, at(1_000)), ask(1, 1));
        assert!(!ledger.lost(at(1_000)));
        assert_eq!(ledger.take(1, at(1_000)), Next::Taken);
        assert_eq!(ledger.take(1, at(2_000)), ask(1, 1));
        assert!(ledger.granted(1, 1, at(2_000)));
        assert!(!ledger.is_away());
        assert_eq!(ledger.counts.store_failures, 2);
    }

    #[test]
    fn a_call_heavier_than_the_share_is_paid_for_afterwards() {
        let mut ledger = ledger();
        ledger.lost(at(0));
        assert_eq!(ledger.take(8, at(799)), Next::Wait(ms(1)));
        assert_eq!(ledger.take(8, at(800)), Next::Taken);
        assert_eq!(ledger.take(1, at(801)), Next::Wait(ms(999)));
    }

    #[test]
    fn a_refusal_by_the_store_ends_its_absence() {
        let mut ledger = ledger();
        ledger.lost(at(0));
        assert!(ledger.refused(1, ms(100), at(1_000)));
        assert!(!ledger.is_away());
    }
}
