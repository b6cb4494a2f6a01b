//! How a concurrency limit follows what calls experience, as a state machine without I/O.

use infra_core::MonoTime;

use crate::config_error::{self as check, ConfigError};

const MAX_LIMIT: u32 = 1_000_000;

/// By what rule a limit moves.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Additive increase, multiplicative decrease: one more for each round of successes, times
    /// `backoff` when a call is overloaded, once per round. Looks at latency only through
    /// [`slow_after`](super::AdaptiveBuilder::slow_after).
    Aimd {
        /// Above 0 and below 1; 0.9 is gentle, 0.5 is what TCP does.
        backoff: f64,
    },
    /// Compares latency with what it is while nobody queues: calls that take longer than
    /// `tolerance` times that are queueing somewhere, and the limit shrinks before anything fails;
    /// else it grows by its square root, or by a sixth of it and a quarter of a call where that is
    /// less. Calls that all wait for a backend of few places settle at about twice as many, for a
    /// tolerance of 1.5. It moves once per round of 25 to 500 calls, by their mean, so that a few late
    /// answers say nothing. While calls seem to queue, every 20 rounds the limit is halved for one, to
    /// see how long calls take without a queue, as Envoy's adaptive concurrency filter does: calls
    /// beyond it wait or are refused meanwhile.
    Gradient {
        /// 1 or more; 1.5 lets latency grow by half before the limit shrinks.
        tolerance: f64,
    },
}

impl Algorithm {
    fn check(self) -> Result<(), ConfigError> {
        match self {
            Algorithm::Gradient { tolerance } => check::factor("algorithm", tolerance),
            Algorithm::Aimd { backoff } if backoff > 0.0 && backoff < 1.0 => Ok(()),
            Algorithm::Aimd { backoff } => {
                let message = format!("`backoff` is {backoff}, must be above 0 and below 1");
                Err(ConfigError::new("algorithm", message))
            }
        }
    }
}

/// How one call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the call began.
    pub started: MonoTime,
    /// When it ended.
    pub ended: MonoTime,
    /// How many calls ran when it ended, this one included.
    pub in_flight: u32,
    /// Whether the other side was overloaded: it refused, broke or was too slow.
    pub overloaded: bool,
}

/// A limit by gradient moves when as many calls as the limit, but at least and at most so many, have
/// begun and ended since it last moved.
const ROUND: (f64, f64) = (25.0, 500.0);

/// After so many rounds the latency without a queue is looked at again, where calls seem to queue.
const ROUNDS_BEFORE_PROBE: u32 = 20;

/// After so many it is looked at while it is not confirmed, whatever calls seem to do: the limit to
/// begin with may be far too high.
const ROUNDS_BEFORE_FIRST_PROBE: u32 = 3;

/// What an overloaded call does to a limit by gradient.
const GRADIENT_BACKOFF: f64 = 0.9;

/// A limit between two bounds that follows the samples it is given.
#[derive(Debug)]
pub struct AdaptiveLimit {
    algorithm: Algorithm,
    min: f64,
    max: f64,
    limit: f64,
    /// Calls that began before the last decrease say nothing about the limit of today.
    decreased_at: Option<MonoTime>,
    /// The latency in seconds while nobody queues, as far as it is known.
    baseline: Option<f64>,
    round: Round,
    /// How many rounds are left before the next look at the baseline.
    rounds_left: u32,
    /// The limit is halved, to look at the baseline.
    probing: bool,
    /// That has been done, and no round since was much quicker.
    confirmed: bool,
}

/// The calls since a limit by gradient last moved.
#[derive(Debug, Default)]
struct Round {
    began: Option<MonoTime>,
    seconds: f64,
    calls: f64,
    /// Of those, the calls that ended while the limit was used.
    busy: f64,
}

impl AdaptiveLimit {
    /// Begins at `initial`, and stays between the two bounds (1 to 1,000,000).
    ///
    /// # Errors
    /// [`ConfigError`] naming the settings and their values where they cannot work.
    pub fn new(
        algorithm: Algorithm,
        initial: u32,
        (min, max): (u32, u32),
    ) -> Result<Self, ConfigError> {
        algorithm.check()?;
        check::count("bounds", min, MAX_LIMIT)?;
        check::count("bounds", max, MAX_LIMIT)?;
        if min > max {
            let message = format!("the lower bound is {min}, above the upper one ({max})");
            return Err(ConfigError::new("bounds", message));
        }
        if !(min..=max).contains(&initial) {
            let message = format!("is {initial}, outside of `bounds` ({min} to {max})");
            return Err(ConfigError::new("initial", message));
        }
        Ok(AdaptiveLimit {
            algorithm,
            min: f64::from(min),
            max: f64::from(max),
            limit: f64::from(initial),
            decreased_at: None,
            baseline: None,
            round: Round::default(),
            rounds_left: ROUNDS_BEFORE_FIRST_PROBE,
            probing: false,
            confirmed: false,
        })
    }

    /// The limit of today, in whole calls.
    pub fn limit(&self) -> u32 {
        let limit = if self.probing {
            (self.limit / 2.0).max(self.min)
        } else {
            self.limit
        };
        limit as u32
    }

    /// Takes note of a call that ended, and returns the limit from here on.
    pub fn observe(&mut self, sample: Sample) -> u32 {
        let moved = match self.algorithm {
            Algorithm::Aimd { backoff } if sample.overloaded => self.decreased(backoff, sample),
            Algorithm::Gradient { .. } if sample.overloaded => {
                self.decreased(GRADIENT_BACKOFF, sample)
            }
            Algorithm::Aimd { .. } => self.increased(sample),
            Algorithm::Gradient { tolerance } => self.by_gradient(tolerance, sample),
        };
        self.limit = moved.clamp(self.min, self.max);
        self.limit()
    }

    fn decreased(&mut self, backoff: f64, sample: Sample) -> f64 {
        if self.decreased_at.is_some_and(|at| sample.started < at) {
            return self.limit;
        }
        self.decreased_at = Some(sample.ended);
        self.round = Round::since(sample.ended);
        self.limit * backoff
    }

    fn increased(&self, sample: Sample) -> f64 {
        if self.is_hardly_used(sample) {
            return self.limit;
        }
        self.limit + 1.0 / self.limit
    }

    fn by_gradient(&mut self, tolerance: f64, sample: Sample) -> f64 {
        // Those that began under the limit before say nothing about this one.
        if self
            .round
            .began
            .is_some_and(|began| sample.started <= began)
        {
            return self.limit;
        }
        let busy = !self.is_hardly_used(sample);
        self.round.add(sample, busy);
        let (least, most) = ROUND;
        if self.round.calls < f64::from(self.limit()).clamp(least, most) {
            return self.limit;
        }
        let round = std::mem::replace(&mut self.round, Round::since(sample.ended));
        let (latency, was_busy) = (round.latency(), round.was_busy());
        let Some(mut baseline) = self.baseline.filter(|_| was_busy && !self.probing) else {
            // Nobody queued, or nothing better is known.
            self.learn(latency);
            return self.limit;
        };
        if latency < baseline {
            // To queue makes no call quicker. Slowly, because a round may be quick by chance; and
            // calls may queue even so.
            self.confirmed &= latency > baseline * 0.75;
            baseline += (latency - baseline) * 0.1;
            self.baseline = Some(baseline);
        }
        self.rounds_left = self.rounds_left.saturating_sub(1);
        let queueing = latency > baseline * f64::midpoint(1.0, tolerance);
        self.probing = self.rounds_left == 0 && (queueing || !self.confirmed);
        let gradient = (tolerance * baseline / latency).clamp(0.5, 1.0);
        self.limit * gradient + headroom(self.limit)
    }

    /// Takes note of a latency that was looked at without a queue. A shorter one than before is
    /// believed at once, of a longer one half: it may be chance.
    fn learn(&mut self, latency: f64) {
        let known = self.baseline.unwrap_or(latency);
        self.baseline = Some(if known < latency {
            f64::midpoint(known, latency)
        } else {
            latency
        });
        if std::mem::take(&mut self.probing) {
            // Where half of the limit was a queue still, a quarter may be none.
            self.confirmed = latency > known * 0.85;
            self.rounds_left = if self.confirmed {
                ROUNDS_BEFORE_PROBE
            } else {
                ROUNDS_BEFORE_FIRST_PROBE
            };
        }
    }

    /// A limit that nobody comes near must not grow: nothing says that the other side can take it.
    fn is_hardly_used(&self, sample: Sample) -> bool {
        f64::from(sample.in_flight) * 2.0 < f64::from(self.limit())
    }
}

/// By how much a limit grows that nobody queues under. Its root would be too much for a small one: where
/// half of it is a queue still, the latency looked at grows with the limit, the gradient comes to rest
/// at 3/4 for a tolerance of 1.5, and a limit that grows by a quarter of itself, as its root is up to
/// 16, stays wherever it is.
fn headroom(limit: f64) -> f64 {
    limit.sqrt().min(limit / 6.0 + 0.25)
}

impl Round {
    fn since(began: MonoTime) -> Self {
        Round {
            began: Some(began),
            ..Round::default()
        }
    }

    fn add(&mut self, sample: Sample, busy: bool) {
        self.seconds += sample.ended.since(sample.started).as_secs_f64();
        self.calls += 1.0;
        self.busy += f64::from(u8::from(busy));
    }

    /// The mean, of a nanosecond at least.
    fn latency(&self) -> f64 {
        (self.seconds / self.calls).max(1e-9)
    }

    fn was_busy(&self) -> bool {
        self.busy * 2.0 > self.calls
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(millis * 1_000_000)
    }

    fn sample(started: u64, took: u64, in_flight: u32) -> Sample {
        Sample {
            started: at(started),
            ended: at(started + took),
            in_flight,
            overloaded: false,
        }
    }

    fn overloaded(started: u64, took: u64) -> Sample {
        Sample {
            overloaded: true,
            ..sample(started, took, 10)
        }
    }

    fn aimd() -> AdaptiveLimit {
        AdaptiveLimit::new(Algorithm::Aimd { backoff: 0.5 }, 10, (2, 100)).unwrap()
    }

    fn gradient() -> AdaptiveLimit {
        AdaptiveLimit::new(Algorithm::Gradient { tolerance: 1.5 }, 20, (2, 100)).unwrap()
    }

    #[test]
    fn aimd_adds_one_for_a_round_of_successes_and_halves_once_per_round() {
        let mut limit = aimd();
        for call in 0..11 {
            limit.observe(sample(call, 1, 10));
        }
        assert_eq!(limit.limit(), 11);
        assert_eq!(limit.observe(overloaded(20, 5)), 5);
        assert_eq!(limit.observe(overloaded(21, 9)), 5, "of the same round");
        assert_eq!(limit.observe(overloaded(25, 5)), 2);
        assert_eq!(limit.observe(overloaded(99, 5)), 2, "the lower bound");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let new = |algorithm| AdaptiveLimit::new(algorithm, 10, (2, 100));
        for backoff in [f64::NAN, -0.5, 0.0, 1.0, 2.0] {
            let refused = new(Algorithm::Aimd { backoff }).unwrap_err();
            assert_eq!(refused.setting(), "algorithm", "{backoff}");
        }
        assert!(new(Algorithm::Gradient { tolerance: 0.5 }).is_err());
        let algorithm = Algorithm::Aimd { backoff: 0.5 };
        for (initial, bounds) in [(10, (0, 100)), (10, (20, 10)), (1, (2, 9)), (10, (2, 9))] {
            assert!(AdaptiveLimit::new(algorithm, initial, bounds).is_err());
        }
        assert!(AdaptiveLimit::new(algorithm, 2, (2, 2)).is_ok());
    }

    #[test]
    fn an_overloaded_call_lowers_a_limit_by_gradient_by_a_tenth() {
        let mut limit = gradient();
        assert_eq!(limit.observe(overloaded(0, 1)), 18);
    }

    #[test]
    fn a_limit_of_which_half_is_used_grows() {
        let mut limit = aimd();
        limit.observe(sample(0, 1, 5));
        for call in 1..11 {
            limit.observe(sample(call, 1, 10));
        }
        assert_eq!(limit.limit(), 11);
    }

    #[test]
    fn a_limit_that_nobody_comes_near_does_not_grow() {
        let mut limit = aimd();
        for call in 0..1_000 {
            limit.observe(sample(call, 1, 4));
        }
        assert_eq!(limit.limit(), 10);
    }

    /// The limits on the way of calls of that latency, one of which begins each millisecond.
    fn limits(limit: &mut AdaptiveLimit, calls: std::ops::Range<u64>, took: u64) -> Vec<u32> {
        let observed = calls.map(|call| limit.observe(sample(call, took, limit.limit())));
        observed.collect()
    }

    #[test]
    fn gradient_grows_while_latency_is_steady_and_shrinks_when_it_rises() {
        let mut limit = gradient();
        let steady = limits(&mut limit, 0..3_000, 10);
        assert_eq!(steady.iter().max(), Some(&100), "the upper bound");
        let rising = limits(&mut limit, 3_000..4_000, 100);
        let least = *rising.iter().min().unwrap();
        assert!((2..50).contains(&least), "{least}");
    }

    #[test]
    fn gradient_halves_the_limit_for_a_round_to_look_at_the_latency_without_a_queue() {
        let mut limit = gradient();
        // How often the limit was halved at its upper bound, and for how many calls.
        let mut halved = |calls: std::ops::Range<u64>, took| {
            let all = limits(&mut limit, calls, took);
            let begun = all.windows(2).filter(|pair| *pair == [100, 50]).count();
            (begun, all.iter().filter(|limit| **limit == 50).count())
        };
        // The early look was at a lower limit.
        assert_eq!(halved(0..10_000, 10), (0, 0), "nobody queues");
        assert_eq!(halved(10_000..20_000, 13), (1, 50 + 13));
    }

    #[test]
    fn gradient_looks_at_the_latency_early_for_the_first_time() {
        let mut limit = gradient();
        let all = limits(&mut limit, 0..200, 10);
        let halvings = all.windows(2).filter(|pair| pair[1] < pair[0]);
        assert_eq!(halvings.count(), 1);
    }

    #[test]
    fn a_limit_at_its_lower_bound_is_not_halved() {
        let algorithm = Algorithm::Gradient { tolerance: 1.5 };
        let mut limit = AdaptiveLimit::new(algorithm, 5, (4, 6)).unwrap();
        let all = limits(&mut limit, 0..10_000, 10);
        assert_eq!(all.iter().min(), Some(&4));
    }

    #[test]
    fn gradient_finds_its_way_back_when_latency_does() {
        let mut limit = gradient();
        limits(&mut limit, 0..3_000, 500);
        let back = limits(&mut limit, 3_000..9_000, 10);
        assert_eq!(back.iter().max(), Some(&100));
    }

    #[test]
    fn a_round_was_busy_when_more_than_half_of_its_calls_were() {
        let was_busy = |(busy, calls)| {
            let mut round = Round::default();
            (0..calls).for_each(|call| round.add(sample(0, 1, 1), call < busy));
            round.was_busy()
        };
        let rounds = [(0, 3), (1, 2), (2, 3), (3, 3)].map(was_busy);
        assert_eq!(rounds, [false, false, true, true]);
    }

    #[test]
    fn a_quicker_round_moves_the_baseline_by_a_tenth_and_a_much_quicker_one_puts_it_in_doubt() {
        for (took, baseline, confirmed) in [(90, 0.099, true), (50, 0.095, false)] {
            let mut limit = gradient();
            (limit.baseline, limit.confirmed) = (Some(0.1), true);
            limits(&mut limit, 0..25, took);
            let moved = limit.baseline.unwrap();
            assert!((moved - baseline).abs() < 1e-6, "{took}: {moved}");
            assert_eq!(limit.confirmed, confirmed, "{took}");
        }
    }

    #[test]
    fn a_baseline_follows_quicker_calls_although_the_limit_is_used() {
        let mut limit = gradient();
        limits(&mut limit, 0..3_000, 40);
        let known = limit.baseline.unwrap();
        assert!(known > 0.039, "{known}");
        limits(&mut limit, 3_000..13_000, 10);
        let known = limit.baseline.unwrap();
        assert!(known < 0.011, "{known}");
    }

    #[test]
    fn a_baseline_falls_at_once_and_rises_by_half() {
        let mut limit = gradient();
        for (latency, baseline) in [(3.0, 3.0), (1.0, 1.0), (2.0, 1.5)] {
            limit.learn(latency);
            assert_eq!(limit.baseline, Some(baseline));
        }
    }

    proptest! {
        #[test]
        fn no_history_leads_out_of_the_bounds(
            by_gradient in any::<bool>(),
            calls in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u32..200, any::<bool>()), 0..200),
        ) {
            let mut limit = if by_gradient { gradient() } else { aimd() };
            for (started, ended, in_flight, overloaded) in calls {
                let sample = Sample {
                    started: MonoTime::from_nanos(u64::from(started)),
                    ended: MonoTime::from_nanos(u64::from(ended)),
                    in_flight,
                    overloaded,
                };
                let now = limit.observe(sample);
                prop_assert!((2..=100).contains(&now));
                prop_assert_eq!(now, limit.limit());
            }
        }
    }
}
