//! The latest moment by which a call must have answered.

use std::time::Duration;

use crate::clock::MonoTime;

/// A point in time that a whole call, with its retries and waits, must not pass.
///
/// Deadlines combine by taking the earlier one, so nesting can only shorten a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(MonoTime);

impl Deadline {
    /// No limit.
    pub const NEVER: Deadline = Deadline(MonoTime::NEVER);

    /// The deadline `limit` after `now`.
    pub const fn after(now: MonoTime, limit: Duration) -> Self {
        Deadline(now.plus(limit))
    }

    /// The deadline at `at`.
    pub const fn at(at: MonoTime) -> Self {
        Deadline(at)
    }

    /// The moment of the deadline; [`MonoTime::NEVER`] without a limit.
    pub const fn time(self) -> MonoTime {
        self.0
    }

    /// What is left at `now`; zero once it has passed.
    pub const fn remaining(self, now: MonoTime) -> Duration {
        self.0.since(now)
    }

    /// True from the moment of the deadline on.
    pub fn is_expired(self, now: MonoTime) -> bool {
        now >= self.0 && self != Deadline::NEVER
    }

    /// The earlier of two deadlines.
    pub fn earlier(self, other: Deadline) -> Deadline {
        self.min(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_deadlines_only_shorten() {
        let now = MonoTime::from_nanos(1_000);
        let outer = Deadline::after(now, Duration::from_secs(1));
        let inner = Deadline::after(now, Duration::from_secs(5));
        assert_eq!(outer.earlier(inner), outer);
        assert_eq!(inner.earlier(outer), outer);
        assert_eq!(Deadline::NEVER.earlier(outer), outer);
    }

    #[test]
    fn never_does_not_expire() {
        assert!(!Deadline::NEVER.is_expired(MonoTime::NEVER));
        let deadline = Deadline::at(MonoTime::from_nanos(5));
        assert!(!deadline.is_expired(MonoTime::from_nanos(4)));
        assert!(deadline.is_expired(MonoTime::from_nanos(5)));
        assert_eq!(deadline.remaining(MonoTime::from_nanos(9)), Duration::ZERO);
    }
}
