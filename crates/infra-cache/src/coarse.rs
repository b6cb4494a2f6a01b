//! A clock that is read in a few nanoseconds, for those hits that are far from their end.
//!
//! Reading the exact clock is what costs most in a hit. The system also keeps the time of its last
//! tick, which is late by some milliseconds: enough to know that a value which is fresh for much
//! longer is fresh. Whatever is close to its end is decided by the exact clock.

use std::sync::Arc;
use std::time::Duration;

use infra_core::{MonoTime, SharedClock, SystemClock};

/// By how much the coarse clock may be late; ticks come every 1 to 10 ms.
const LATE: Duration = Duration::from_millis(50);

pub(crate) struct Coarse {
    /// Nanoseconds from the origin of the coarse clock to that of the cache's clock, and `LATE`
    /// less. None where the cache has another clock than the system's, or the system no coarse one.
    ahead: Option<u64>,
}

impl Coarse {
    pub(crate) fn of(clock: &SharedClock) -> Self {
        let system = SystemClock::shared();
        let is_system = std::ptr::addr_eq(Arc::as_ptr(clock), Arc::as_ptr(&system));
        let exact = exact_nanos().filter(|_| is_system);
        let late = LATE.as_nanos() as u64;
        Coarse {
            ahead: exact.map(|exact| exact.saturating_sub(clock.now().as_nanos() + late)),
        }
    }

    /// True only before that moment; false says nothing.
    pub(crate) fn is_surely_before(&self, at: MonoTime) -> bool {
        let now = self
            .ahead
            .and_then(|ahead| coarse_nanos()?.checked_sub(ahead));
        now.is_some_and(|now| now < at.as_nanos())
    }
}

#[cfg(target_os = "linux")]
fn nanos(clock: rustix::time::ClockId) -> Option<u64> {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(u64::try_from(time.tv_nsec).ok()?)
}

/// The clock behind [`std::time::Instant`].
#[cfg(target_os = "linux")]
fn exact_nanos() -> Option<u64> {
    nanos(rustix::time::ClockId::Monotonic)
}

#[cfg(target_os = "linux")]
fn coarse_nanos() -> Option<u64> {
    nanos(rustix::time::ClockId::MonotonicCoarse)
}

#[cfg(not(target_os = "linux"))]
fn exact_nanos() -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn coarse_nanos() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use infra_core::{Clock, ManualClock};

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_sure_of_what_is_far_and_never_wrong() {
        let clock = SystemClock::shared();
        let coarse = Coarse::of(&clock);
        let until = clock.now().plus(Duration::from_millis(200));
        assert!(coarse.is_surely_before(clock.now().plus(Duration::from_secs(60))));
        while clock.now() < until {
            assert!(!coarse.is_surely_before(clock.now()));
            std::hint::spin_loop();
        }
        assert!(!coarse.is_surely_before(until));
    }

    #[test]
    fn it_says_nothing_about_any_other_clock() {
        let clock = ManualClock::new();
        let coarse = Coarse::of(&clock.shared());
        assert!(!coarse.is_surely_before(MonoTime::NEVER));
        assert_eq!(clock.now(), MonoTime::ZERO);
    }
}
