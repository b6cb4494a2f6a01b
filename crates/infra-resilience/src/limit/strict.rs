//! A window that never holds more than its limit, wherever it begins, as a state machine without
//! I/O.

use std::collections::VecDeque;
use std::time::Duration;

use infra_core::MonoTime;

use super::quota::Quota;

/// The times and weights of the last period.
#[derive(Debug)]
pub(super) struct StrictWindow {
    pub(super) limit: u32,
    pub(super) period: Duration,
    log: VecDeque<(MonoTime, u32)>,
    used: u32,
}

impl StrictWindow {
    pub(super) fn new(quota: Quota) -> Self {
        StrictWindow {
            limit: quota.limit,
            period: quota.period,
            log: VecDeque::new(),
            used: 0,
        }
    }

    /// Remembers what `old` does.
    pub(super) fn go_on_from(&mut self, old: StrictWindow) {
        (self.log, self.used) = (old.log, old.used);
    }

    /// How long `weight` must wait; `None` if it can never pass.
    pub(super) fn wait(&mut self, weight: u32, now: MonoTime) -> Option<Duration> {
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

    pub(super) fn push(&mut self, now: MonoTime, weight: u32) {
        if weight == 0 {
            // A weight that fills nothing would grow the log without bound.
            return;
        }
        // A clock that goes back must not make the log unsorted: that would free units early.
        let at = self.log.back().map_or(now, |(last, _)| now.max(*last));
        self.used = self.used.saturating_add(weight);
        match self.log.back_mut() {
            Some((last, units)) if *last == at => *units = units.saturating_add(weight),
            _ => self.log.push_back((at, weight)),
        }
    }

    /// Gives back units that were taken at `taken`, or at some time within the window. What it has
    /// forgotten since is not given back: those units are free already.
    pub(super) fn refund(&mut self, mut weight: u32, taken: Option<MonoTime>, now: MonoTime) {
        self.expire(now);
        if taken.is_some_and(|taken| taken.plus(self.period) <= now) {
            return;
        }
        let taken = taken.unwrap_or(MonoTime::ZERO);
        // From the oldest that it can be: to remember the younger ones for longer is safe.
        for (_, units) in self.log.iter_mut().filter(|(at, _)| *at >= taken) {
            let back = weight.min(*units);
            (*units, weight) = (*units - back, weight - back);
            self.used = self.used.saturating_sub(back);
        }
        self.log.retain(|(_, units)| *units > 0);
    }

    /// Raises what was used to what the other side says.
    pub(super) fn observe(&mut self, used: u32, now: MonoTime) {
        self.expire(now);
        let unknown = used.saturating_sub(self.used);
        if unknown > 0 {
            self.push(now, unknown);
        }
    }

    pub(super) fn is_empty(&mut self, now: MonoTime) -> bool {
        self.expire(now);
        self.used == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::ZERO.plus(seconds as u32 * SECOND)
    }

    #[test]
    fn the_log_holds_one_entry_for_each_time_at_which_units_are_used() {
        let mut window = StrictWindow::new(Quota::strict(1_000, 60 * SECOND));
        for _ in 0..100 {
            window.push(at(1), 1);
        }
        window.push(at(2), 1);
        assert_eq!(window.log, [(at(1), 100), (at(2), 1)]);
        window.observe(101, at(3));
        assert_eq!(window.log.len(), 2, "nothing that was not known");
        window.refund(100, Some(at(1)), at(3));
        assert_eq!(window.log, [(at(2), 1)]);
        assert!(!window.is_empty(at(3)));
    }

    #[test]
    fn a_weight_of_nothing_leaves_nothing_in_the_log() {
        let mut window = StrictWindow::new(Quota::strict(1, SECOND));
        for second in 0..10 {
            assert_eq!(window.wait(0, at(second)), Some(Duration::ZERO));
            window.push(at(second), 0);
        }
        assert!(window.log.is_empty());
    }
}
