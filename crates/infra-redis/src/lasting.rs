//! Connections that come and do not last: how often in a row, and what the log is told of them.

use std::time::Duration;

use tokio::time::Instant;

/// A connection that ended sooner than this was of no use: something accepts the login and then
/// ends it, as proxies do, and servers whose output buffer overflows at once.
pub const OF_USE: Duration = Duration::from_secs(1);
/// The log gets one line of each kind in so long, however often the connection comes and goes.
pub const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Counts the attempts in a row that came to nothing: those that were refused, and connections
/// that did not last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts(u32);

impl Attempts {
    /// How many in a row came to nothing; which is the number of the next one's
    /// [wait](crate::Backoff::delay).
    pub fn in_vain(self) -> u32 {
        self.0
    }

    /// An attempt failed.
    pub fn failed(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// A connection ended that `lived` so long, and was of use meanwhile or not. Only one that was,
    /// for at least [`OF_USE`], is no failed attempt.
    pub fn ended(&mut self, lived: Duration, used: bool) {
        match used && lived >= OF_USE {
            true => self.0 = 0,
            false => self.failed(),
        }
    }
}

/// What the log was told of a connection that comes and goes. The first line of a kind is due at
/// once, the next one [`TOLD_EVERY`] later at the earliest, with the number of losses in between;
/// and the log never stays behind for longer than that.
#[derive(Debug, Default)]
pub struct Tidings {
    lost_at: Option<Instant>,
    restored_at: Option<Instant>,
    /// The last line was about a loss.
    told_lost: bool,
    untold: u64,
}

impl Tidings {
    /// A connection was lost. Where that is to be logged now: how many losses before it were not.
    pub fn lost(&mut self, now: Instant) -> Option<u64> {
        let told = self.tell_lost(now);
        if told.is_none() {
            self.untold = self.untold.saturating_add(1);
        }
        told
    }

    /// It is still lost. As [`Tidings::lost`] where that could not be logged when it happened.
    pub fn still_lost(&mut self, now: Instant) -> Option<u64> {
        if self.told_lost {
            return None;
        }
        let before = self.tell_lost(now)?;
        // The one that is told of now was counted.
        Some(before.saturating_sub(1))
    }

    /// It works again, or still does. Where that is to be logged now: how many losses before it
    /// were not.
    pub fn restored(&mut self, now: Instant) -> Option<u64> {
        if !self.behind() || !is_due(self.restored_at, now) {
            return None;
        }
        self.restored_at = Some(now);
        self.told_lost = false;
        Some(std::mem::take(&mut self.untold))
    }

    /// When the log is to be told that the connection works, if it lasts until then.
    pub fn restored_due(&self) -> Option<Instant> {
        let told = self.restored_at.filter(|_| self.behind())?;
        Some(told + TOLD_EVERY)
    }

    /// When the log is to be told that the connection is lost, if it still is then.
    pub fn still_lost_due(&self) -> Option<Instant> {
        let told = self.lost_at.filter(|_| !self.told_lost)?;
        Some(told + TOLD_EVERY)
    }

    /// Whether a working connection is news to the log.
    fn behind(&self) -> bool {
        self.told_lost || self.untold > 0
    }

    fn tell_lost(&mut self, now: Instant) -> Option<u64> {
        if !is_due(self.lost_at, now) {
            return None;
        }
        self.lost_at = Some(now);
        self.told_lost = true;
        Some(std::mem::take(&mut self.untold))
    }
}

fn is_due(told: Option<Instant>, now: Instant) -> bool {
    told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    #[test]
    fn only_a_connection_that_was_of_use_begins_the_count_anew() {
        let mut attempts = Attempts::default();
        attempts.ended(OF_USE - MOMENT, true);
        attempts.failed();
        attempts.ended(OF_USE * 9, false);
        assert_eq!(attempts.in_vain(), 3);
        attempts.ended(OF_USE, true);
        assert_eq!(attempts.in_vain(), 0);
    }

    #[test]
    fn single_outages_are_told_at_once_with_nothing_to_add() {
        let (mut tidings, start) = (Tidings::default(), Instant::now());
        for outage in 0..3 {
            let at = start + TOLD_EVERY * outage;
            assert_eq!(tidings.lost(at), Some(0));
            assert_eq!(tidings.still_lost(at + MOMENT), None);
            assert_eq!(tidings.restored(at + MOMENT * 2), Some(0));
            assert_eq!(tidings.restored_due(), None);
        }
    }

    #[test]
    fn of_a_connection_that_comes_and_goes_the_log_gets_few_lines_and_every_loss_is_counted() {
        let (mut tidings, start) = (Tidings::default(), Instant::now());
        let (mut lost, mut restored, mut counted) = (0, 0, 0);
        let rounds = 1_000;
        let mut now = start;
        for _ in 0..rounds {
            if let Some(more) = tidings.lost(now) {
                (lost, counted) = (lost + 1, counted + more + 1);
            }
            now += MOMENT;
            if let Some(more) = tidings.restored(now) {
                (restored, counted) = (restored + 1, counted + more);
            }
            now += MOMENT;
        }
        let most = 1 + (now - start).as_secs() / TOLD_EVERY.as_secs();
        assert!(
            lost <= most && restored <= most,
            "{lost}, {restored}, {most}"
        );
        // It stays, and the log hears how often it had gone.
        let due = tidings.restored_due().unwrap();
        assert!(due <= now + TOLD_EVERY);
        counted += tidings.restored(due).unwrap();
        assert_eq!(counted, rounds);
        assert_eq!(tidings.restored_due(), None);
        assert_eq!(tidings.restored(due + TOLD_EVERY), None);
    }

    #[test]
    fn an_outage_soon_after_another_one_is_told_while_it_lasts() {
        let (mut tidings, start) = (Tidings::default(), Instant::now());
        assert_eq!(tidings.lost(start), Some(0));
        assert_eq!(tidings.restored(start + MOMENT), Some(0));
        let again = start + MOMENT * 2;
        assert_eq!(tidings.lost(again), None);
        assert_eq!(tidings.still_lost(again), None);
        assert_eq!(tidings.still_lost(start + TOLD_EVERY), Some(0));
        assert_eq!(tidings.still_lost(start + TOLD_EVERY * 3), None);
        assert_eq!(tidings.restored(start + TOLD_EVERY * 4), Some(0));
    }
}
