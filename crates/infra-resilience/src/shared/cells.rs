//! The generic cell rate algorithm over a clock that several processes agree on.

use std::time::Duration;

/// A rate: one unit per cell, and how many units may pass at once. Times are nanoseconds since any
/// origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cells {
    cell: u64,
    burst: u32,
}

/// What can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// So many units, after which the theoretical arrival time is this.
    Grant { units: u32, arrival: u64 },
    /// Nothing before so long.
    Wait(Duration),
}

impl Cells {
    /// `limit` units per `period`, both positive. A cell is rounded up: a nanosecond too slow
    /// breaks no limit.
    pub(super) fn new(limit: u32, period: Duration, burst: u32) -> Self {
        let cell = period.as_nanos().div_ceil(u128::from(limit.max(1)));
        Cells {
            cell: u64::try_from(cell).unwrap_or(u64::MAX).max(1),
            burst,
        }
    }

    /// One of `parts` equal shares, with a burst of at least 1.
    pub(super) fn share(self, parts: u32) -> Self {
        Cells {
            cell: self.cell.saturating_mul(u64::from(parts)),
            burst: (self.burst / parts.max(1)).max(1),
        }
    }

    pub(super) fn burst(self) -> u32 {
        self.burst
    }

    /// The time that `units` take.
    pub(super) fn span(self, units: u32) -> u64 {
        self.cell.saturating_mul(u64::from(units))
    }

    /// Up to `wanted` units and at least `needed`, which must not be more than the burst.
    pub(super) fn plan(self, arrival: u64, now: u64, needed: u32, wanted: u32) -> Plan {
        let start = arrival.max(now);
        let end = now.saturating_add(self.span(self.burst));
        let room = end.saturating_sub(start) / self.cell;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        if room < needed {
            let possible = start.saturating_add(self.span(needed));
            return Plan::Wait(Duration::from_nanos(possible.saturating_sub(end)));
        }
        let units = wanted.clamp(needed, room.max(needed));
        Plan::Grant {
            units,
            arrival: start.saturating_add(self.span(units)),
        }
    }

    /// How much further an arrival time is ahead than any that was written at `now` could be.
    pub(super) fn beyond(self, arrival: u64, now: u64) -> Duration {
        let latest = now.saturating_add(self.span(self.burst));
        Duration::from_nanos(arrival.saturating_sub(latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ten_per_second(burst: u32) -> Cells {
        Cells::new(10, Duration::from_secs(1), burst)
    }

    #[test]
    fn a_fresh_state_grants_the_burst_and_then_one_per_cell() {
        let cells = ten_per_second(5);
        let Plan::Grant { units, arrival } = cells.plan(0, 1_000 * MS, 1, 9) else {
            panic!("nothing was used");
        };
        assert_eq!((units, arrival), (5, 1_500 * MS));
        let wait = Duration::from_millis(100);
        assert_eq!(cells.plan(arrival, 1_000 * MS, 1, 1), Plan::Wait(wait));
        let just_before = 1_100 * MS - 1;
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(
            cells.plan(arrival, just_before, 1, 9),
            Plan::Wait(nanosecond)
        );
        let next = Plan::Grant {
            units: 1,
            arrival: 1_600 * MS,
        };
        assert_eq!(cells.plan(arrival, 1_100 * MS, 1, 9), next);
    }

    #[test]
    fn a_heavy_call_waits_for_all_it_needs() {
        let cells = ten_per_second(5);
        let wait = Duration::from_millis(300);
        assert_eq!(cells.plan(1_300 * MS, 1_000 * MS, 5, 5), Plan::Wait(wait));
        assert!(matches!(
            cells.plan(1_300 * MS, 1_300 * MS, 5, 5),
            Plan::Grant { units: 5, .. }
        ));
    }

    #[test]
    fn shares_add_up_to_no_more_than_the_whole() {
        let cells = ten_per_second(7);
        let share = cells.share(4);
        assert_eq!(share.span(1), 4 * cells.span(1));
        assert_eq!(share.burst(), 1);
        assert_eq!(ten_per_second(8).share(4).burst(), 2);
        assert_eq!(ten_per_second(2).share(4).burst(), 1);
    }

    #[test]
    fn an_arrival_that_no_agreeing_clock_wrote_is_noticed() {
        let cells = ten_per_second(5);
        assert_eq!(cells.beyond(1_500 * MS, 1_000 * MS), Duration::ZERO);
        let ahead = Duration::from_millis(10);
        assert_eq!(cells.beyond(1_510 * MS, 1_000 * MS), ahead);
    }

    #[test]
    fn extreme_values_saturate() {
        let slow = Cells::new(1, Duration::MAX, u32::MAX);
        assert_eq!(slow.span(u32::MAX), u64::MAX);
        let fast = Cells::new(1_000_000, Duration::from_nanos(1), 1);
        assert_eq!(fast.span(1), 1);
        assert!(matches!(
            fast.plan(u64::MAX, 0, 1, 1),
            Plan::Wait(wait) if wait > Duration::from_secs(1)
        ));
    }
}
