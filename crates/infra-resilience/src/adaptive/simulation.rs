//! Limits on calls to simulated backends whose latencies are spread as real ones are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;
use infra_core::MonoTime;

use super::limit::{AdaptiveLimit, Algorithm, Sample};

/// A backend that works on some calls at a time, first come, first served, and callers who always
/// make as many calls as the limit lets them.
struct World {
    limit: AdaptiveLimit,
    rng: Rng,
    /// How much the logarithms of latencies are spread: at 1, one in a hundred takes ten times the
    /// median.
    spread: f64,
    /// When each place of the backend is free.
    places: BinaryHeap<Reverse<u64>>,
    /// The end and the start of the calls in flight.
    calls: BinaryHeap<Reverse<(u64, u64)>>,
    now: u64,
}

/// What callers saw.
struct Seen {
    per_second: f64,
    mean_millis: f64,
    largest_limit: u32,
}

impl World {
    fn new(places: usize, spread: f64) -> Self {
        Self::beginning_at(20, places, spread)
    }

    fn beginning_at(initial: u32, places: usize, spread: f64) -> Self {
        let algorithm = Algorithm::Gradient { tolerance: 1.5 };
        World {
            limit: AdaptiveLimit::new(algorithm, initial, (1, 400)).unwrap(),
            rng: Rng::with_seed(7),
            spread,
            places: vec![Reverse(0); places].into(),
            calls: BinaryHeap::new(),
            now: 0,
        }
    }

    /// Work that takes so long in the mean.
    fn work(&mut self, mean_millis: f64) -> u64 {
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let factor = (self.spread * normal - self.spread * self.spread / 2.0).exp();
        (mean_millis * 1e6 * factor) as u64 + 1
    }

    fn run(&mut self, calls: u32, mean_millis: f64) -> Seen {
        let (began, mut nanos, mut largest_limit) = (self.now, 0, 0);
        for _ in 0..calls {
            while self.calls.len() < self.limit.limit() as usize {
                let Reverse(free) = self.places.pop().unwrap();
                let end = free.max(self.now) + self.work(mean_millis);
                self.places.push(Reverse(end));
                self.calls.push(Reverse((end, self.now)));
            }
            let in_flight = self.calls.len() as u32;
            let Reverse((ended, started)) = self.calls.pop().unwrap();
            self.now = ended;
            nanos += ended - started;
            let limit = self.limit.observe(Sample {
                started: MonoTime::from_nanos(started),
                ended: MonoTime::from_nanos(ended),
                in_flight,
                overloaded: false,
            });
            largest_limit = limit.max(largest_limit);
        }
        Seen {
            per_second: f64::from(calls) * 1e9 / (self.now - began) as f64,
            mean_millis: nanos as f64 / 1e6 / f64::from(calls),
            largest_limit,
        }
    }
}

const SPREADS: [f64; 3] = [0.0, 0.5, 1.0];

#[test]
fn gradient_uses_all_of_a_backend_and_hardly_queues_at_it() {
    for spread in SPREADS {
        for places in [10, 50] {
            let mut world = World::new(places, spread);
            world.run(20_000, 10.0);
            let seen = world.run(20_000, 10.0);
            let share = seen.per_second / (places as f64 * 100.0);
            let case = format!("{places} places, spread {spread}");
            assert!(share > 0.92, "{case}: {share} of what it can do");
            assert!(seen.mean_millis < 21.0, "{case}: {} ms", seen.mean_millis);
        }
    }
}

#[test]
fn gradient_neither_starves_a_small_backend_nor_queues_at_it() {
    for spread in SPREADS {
        for places in [1, 2, 3, 5] {
            let mut world = World::new(places, spread);
            world.run(20_000, 10.0);
            let seen = world.run(20_000, 10.0);
            let share = seen.per_second / (places as f64 * 100.0);
            let case = format!("{places} places, spread {spread}");
            assert!(share > 0.95, "{case}: {share} of what it can do");
            assert!(seen.mean_millis < 26.0, "{case}: {} ms", seen.mean_millis);
        }
    }
}

#[test]
fn gradient_is_not_held_back_by_late_answers_of_a_backend_that_can_take_all() {
    for spread in SPREADS {
        let seen = World::new(1_000, spread).run(50_000, 10.0);
        assert_eq!(seen.largest_limit, 400, "spread {spread}");
    }
}

#[test]
fn gradient_follows_a_backend_that_becomes_slower_or_quicker_for_good() {
    for spread in SPREADS {
        let mut world = World::new(50, spread);
        for millis in [10.0, 40.0, 4.0] {
            world.run(20_000, millis);
            let seen = world.run(20_000, millis);
            let share = seen.per_second * millis / 50_000.0;
            assert!(share > 0.92, "spread {spread}, {millis} ms: {share}");
            let times = seen.mean_millis / millis;
            assert!(times < 2.1, "spread {spread}, {millis} ms: {times} times");
        }
    }
}

#[test]
fn a_limit_far_above_what_a_backend_can_do_comes_down() {
    let mut world = World::beginning_at(200, 3, 0.5);
    assert!(world.run(1_000, 10.0).mean_millis > 300.0);
    world.run(30_000, 10.0);
    let seen = world.run(5_000, 10.0);
    assert!(seen.mean_millis < 70.0, "{} ms", seen.mean_millis);
}
