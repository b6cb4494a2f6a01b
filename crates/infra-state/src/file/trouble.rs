//! What the log is told of a disk that fails again and again.

use std::time::{Duration, Instant};

/// While it lasts the log gets a line in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Trouble that comes back sooner than this after it was over is the same trouble.
const QUIET: Duration = Duration::from_secs(10);

/// Failures in a row, until the disk does what it should.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
    told: Option<Instant>,
    over: Option<Instant>,
    /// The last line was about a failure.
    told_failure: bool,
    untold: u64,
}

/// What there is to say when it is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) lasted: Duration,
    /// Failures that the log was not told of.
    pub(super) untold: u64,
}

impl Trouble {
    /// Something failed. Where that is to be logged: how many failures before it were not.
    pub(super) fn happened(&mut self, now: Instant) -> Option<u64> {
        let elapsed = |since: Instant| now.saturating_duration_since(since);
        let is_new = self.since.is_none() && self.over.is_none_or(|over| elapsed(over) >= QUIET);
        self.since.get_or_insert(now);
        if !is_new && self.told.is_some_and(|told| elapsed(told) < TOLD_EVERY) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        self.told_failure = true;
        Some(std::mem::take(&mut self.untold))
    }

    /// All is well. What there is to log, if anything.
    pub(super) fn over(&mut self, now: Instant) -> Option<Over> {
        let lasted = now.saturating_duration_since(self.since.take()?);
        self.over = Some(now);
        let told = std::mem::take(&mut self.told_failure);
        told.then(|| Over {
            lasted,
            untold: std::mem::take(&mut self.untold),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trouble_that_lasts_is_told_at_once_then_once_a_minute_and_when_it_is_over() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.over(start), None);
        let told: Vec<_> = (0..=150_u32)
            .filter_map(|n| Some((n, trouble.happened(start + SECOND * n)?)))
            .collect();
        assert_eq!(told, [(0, 0), (60, 59), (120, 59)]);
        let over = Over {
            lasted: SECOND * 151,
            untold: 30,
        };
        assert_eq!(trouble.over(start + SECOND * 151), Some(over));
        assert_eq!(trouble.over(start + SECOND * 152), None);
        // Another one, later.
        assert_eq!(trouble.happened(start + SECOND * 170), Some(0));
    }

    #[test]
    fn trouble_that_comes_and_goes_is_told_once_a_minute_and_every_failure_is_counted() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let (mut lines, mut counted) = (Vec::new(), 0);
        for n in 0..600_u32 {
            let now = start + SECOND * n / 5;
            if let Some(untold) = trouble.happened(now) {
                lines.push(now);
                counted += untold + 1;
            }
            if let Some(over) = trouble.over(now) {
                lines.push(now);
                counted += over.untold;
            }
        }
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(counted + trouble.untold, 600);
    }
}
