//! Windows over the latest calls: constant memory, constant cost per call.

use infra_core::MonoTime;

use super::config::WindowKind;

/// What a window holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u32,
    pub(super) failures: u32,
    pub(super) slow: u32,
}

impl Tally {
    fn add(&mut self, failed: bool, slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(failed));
        self.slow = self.slow.saturating_add(u32::from(slow));
    }

    fn remove(&mut self, other: Tally) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failures = self.failures.saturating_sub(other.failures);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// The latest calls, by count or by time, or nothing for a breaker that has no window.
#[derive(Debug)]
pub(super) enum Window {
    None,
    Count(CountWindow),
    Time(TimeWindow),
}

impl Window {
    pub(super) fn new(kind: Option<WindowKind>) -> Self {
        match kind {
            None => Window::None,
            Some(WindowKind::Count(size)) => Window::Count(CountWindow::new(size)),
            Some(WindowKind::Time { length, buckets }) => {
                let nanos = length.as_nanos() / u128::from(buckets.max(1));
                let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
                Window::Time(TimeWindow::new(nanos, buckets))
            }
        }
    }

    pub(super) fn record(&mut self, now: MonoTime, failed: bool, slow: bool) {
        match self {
            Window::None => {}
            Window::Count(window) => window.record(failed, slow),
            Window::Time(window) => window.record(now, failed, slow),
        }
    }

    pub(super) fn tally(&mut self, now: MonoTime) -> Tally {
        match self {
            Window::None => Tally::default(),
            Window::Count(window) => window.tally,
            Window::Time(window) => {
                window.move_to(now);
                window.tally
            }
        }
    }

    /// Whether one more success that is not slow would leave it as it is. A ring that is full of
    /// them is the same wherever it begins.
    pub(super) fn is_steady(&self) -> bool {
        match self {
            Window::None => true,
            Window::Count(window) => {
                let tally = window.tally;
                let full = tally.calls as usize == window.ring.len();
                full && tally.failures == 0 && tally.slow == 0
            }
            Window::Time(_) => false,
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Window::None => {}
            Window::Count(window) => window.clear(),
            Window::Time(window) => window.clear(),
        }
    }
}

const FAILED: u8 = 1;
const SLOW: u8 = 2;

/// A ring of the last `n` calls, one byte each, with a running sum.
#[derive(Debug)]
pub(super) struct CountWindow {
    ring: Box<[u8]>,
    next: usize,
    tally: Tally,
}

impl CountWindow {
    fn new(size: u32) -> Self {
        CountWindow {
            ring: vec![0; size as usize].into_boxed_slice(),
            next: 0,
            tally: Tally::default(),
        }
    }

    fn record(&mut self, failed: bool, slow: bool) {
        let full = self.tally.calls as usize == self.ring.len();
        let Some(slot) = self.ring.get_mut(self.next) else {
            return;
        };
        if full {
            self.tally.remove(Tally {
                calls: 1,
                failures: u32::from(*slot & FAILED != 0),
                slow: u32::from(*slot & SLOW != 0),
            });
        }
        *slot = u8::from(failed) * FAILED + u8::from(slow) * SLOW;
        self.tally.add(failed, slow);
        self.next += 1;
        if self.next == self.ring.len() {
            self.next = 0;
        }
    }

    fn clear(&mut self) {
        self.tally = Tally::default();
        self.next = 0;
    }
}

/// A ring of equal spans of time with a running sum. The newest bucket is the one being filled.
#[derive(Debug)]
pub(super) struct TimeWindow {
    bucket_nanos: u64,
    buckets: Box<[Tally]>,
    /// The number of the newest bucket, counted from the beginning of time, and its place.
    newest: u64,
    place: usize,
    /// Where the newest bucket ends: until then, nothing moves and nothing is divided.
    newest_end: u64,
    tally: Tally,
}

impl TimeWindow {
    fn new(bucket_nanos: u64, buckets: u32) -> Self {
        TimeWindow {
            bucket_nanos,
            buckets: vec![Tally::default(); buckets as usize].into_boxed_slice(),
            newest: 0,
            place: 0,
            newest_end: bucket_nanos,
            tally: Tally::default(),
        }
    }

    fn record(&mut self, now: MonoTime, failed: bool, slow: bool) {
        self.move_to(now);
        self.tally.add(failed, slow);
        if let Some(bucket) = self.buckets.get_mut(self.place) {
            bucket.add(failed, slow);
        }
    }

    /// Empties the buckets that `now` has left behind. A clock that goes backwards moves nothing.
    fn move_to(&mut self, now: MonoTime) {
        if now.as_nanos() >= self.newest_end {
            self.advance_to(now.as_nanos() / self.bucket_nanos);
        }
    }

    #[cold]
    fn advance_to(&mut self, target: u64) {
        let passed = target.saturating_sub(self.newest);
        self.newest = target;
        self.newest_end = target.saturating_add(1).saturating_mul(self.bucket_nanos);
        if passed >= self.buckets.len() as u64 {
            self.clear();
            return;
        }
        for _ in 0..passed {
            self.place = (self.place + 1) % self.buckets.len();
            let left = self.buckets.get_mut(self.place).map(std::mem::take);
            self.tally.remove(left.unwrap_or_default());
        }
    }

    fn clear(&mut self) {
        self.buckets.fill(Tally::default());
        self.tally = Tally::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn time_window() -> Window {
        Window::new(Some(WindowKind::Time {
            length: Duration::from_secs(10),
            buckets: 10,
        }))
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    proptest! {
        #[test]
        fn count_window_equals_a_list_of_the_last_calls(
            size in 1u32..20,
            calls in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..100),
        ) {
            let mut window = Window::new(Some(WindowKind::Count(size)));
            let mut model = VecDeque::new();
            for (failed, slow) in calls {
                window.record(MonoTime::ZERO, failed, slow);
                model.push_back((failed, slow));
                if model.len() > size as usize {
                    model.pop_front();
                }
                let expected = Tally {
                    calls: model.len() as u32,
                    failures: model.iter().filter(|(failed, _)| *failed).count() as u32,
                    slow: model.iter().filter(|(_, slow)| *slow).count() as u32,
                };
                prop_assert_eq!(window.tally(MonoTime::ZERO), expected);
            }
        }

        #[test]
        fn time_window_equals_a_list_of_the_last_ten_buckets(
            steps in proptest::collection::vec(
                (prop_oneof![9 => 0u64..4_000, 1 => 0u64..15_000], any::<bool>()),
                0..100,
            ),
        ) {
            let mut window = time_window();
            let mut model: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            for (step, failed) in steps {
                now += step;
                window.record(at(now), failed, false);
                model.push((now / 1_000, failed));
                model.retain(|(bucket, _)| bucket + 10 > now / 1_000);
                let failures = model.iter().filter(|(_, failed)| *failed).count() as u32;
                let tally = window.tally(at(now));
                prop_assert_eq!((tally.calls, tally.failures), (model.len() as u32, failures));
            }
        }
    }

    #[test]
    fn a_window_is_steady_while_a_success_would_change_nothing() {
        let mut window = Window::new(Some(WindowKind::Count(3)));
        let mut steady = |failed, slow| {
            window.record(MonoTime::ZERO, failed, slow);
            window.is_steady()
        };
        assert_eq!(
            [(); 4].map(|()| steady(false, false)),
            [false, false, true, true]
        );
        for (failed, slow) in [(true, false), (false, true)] {
            assert!(!steady(failed, slow));
            assert_eq!([(); 3].map(|()| steady(false, false)), [false, false, true]);
        }
        window.clear();
        assert!(!window.is_steady());
        assert!(Window::new(None).is_steady());
        let mut time = time_window();
        for _ in 0..100 {
            time.record(at(0), false, false);
        }
        assert!(!time.is_steady(), "each call counts until its time is over");
    }

    #[test]
    fn an_idle_gap_empties_the_time_window() {
        let mut window = time_window();
        for second in 0..10 {
            window.record(at(second * 1_000), true, false);
        }
        assert_eq!(window.tally(at(9_999)).failures, 10);
        assert_eq!(window.tally(at(10_000)).failures, 9);
        assert_eq!(window.tally(at(1_000_000)), Tally::default());
    }

    #[test]
    fn a_clock_that_goes_back_moves_nothing() {
        let mut window = time_window();
        window.record(at(50_000), true, false);
        window.record(at(1_000), true, false);
        assert_eq!(window.tally(at(0)).failures, 2);
    }
}
