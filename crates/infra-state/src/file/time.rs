//! Time for expiries: the monotonic clock within a run, the wall clock from one run to the next.

use infra_core::{MonoTime, SharedClock};

use super::config::WallClock;

/// Milliseconds since 1970 that only go forward.
///
/// A run begins at the wall clock's time, or where the file says that time was before, whichever
/// is later, and then follows the monotonic clock. So a clock that is set back or forth during a
/// run moves no expiry, and one that was set back between two runs lengthens a life by the time
/// between them at most.
pub(super) struct Time {
    clock: SharedClock,
    began: MonoTime,
    began_at: u64,
}

impl Time {
    pub(super) fn starting(clock: SharedClock, wall: &WallClock, seen: u64) -> Self {
        Time {
            began: clock.now(),
            began_at: wall().max(seen),
            clock,
        }
    }

    pub(super) fn now(&self) -> u64 {
        let passed = self.clock.now().since(self.began).as_nanos() / 1_000_000;
        self.began_at
            .saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}
