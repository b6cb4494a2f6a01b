//! The breaker against a straightforward reference over random steps, and its races.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code"
)]

use std::collections::VecDeque;
use std::sync::Barrier;
use std::time::Duration;

use infra_core::{Clock, ManualClock};
use infra_resilience::breaker::{BreakerConfig, State};
use infra_resilience::{CircuitBreaker, Permit};

const STEPS: u32 = 1_000_000;
const SECOND: u64 = 1_000;

/// A breaker as one would explain it, on milliseconds, with a list of the last ten calls.
struct Reference {
    state: State,
    life: u32,
    calls: VecDeque<bool>,
    streak: u32,
    rounds: u32,
    open_until: u64,
    leases: Vec<Option<u64>>,
    succeeded: u32,
}

#[derive(Clone, Copy)]
struct ReferencePermit {
    life: u32,
    probe: Option<usize>,
}

const PROBES: usize = 2;
const ROW: u32 = 7;

impl Reference {
    fn new() -> Self {
        Reference {
            state: State::Closed,
            life: 0,
            calls: VecDeque::new(),
            streak: 0,
            rounds: 0,
            open_until: 0,
            leases: Vec::new(),
            succeeded: 0,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.life += 1;
        self.calls.clear();
        self.leases = vec![None; PROBES];
        (self.streak, self.succeeded) = (0, 0);
    }

    fn open(&mut self, at: u64) {
        let wait = ((30 * SECOND) << self.rounds.min(2)).min(120 * SECOND);
        self.open_until = at + wait;
        self.enter(State::Open);
    }

    fn look(&mut self, now: u64) {
        let end = self.leases.iter().flatten().min().copied();
        if self.state == State::HalfOpen && end.is_some_and(|end| end <= now) {
            self.rounds += 1;
            self.open(end.unwrap());
        }
    }

    fn admit(&mut self, now: u64) -> Option<ReferencePermit> {
        self.look(now);
        if self.state == State::Open && now >= self.open_until {
            self.enter(State::HalfOpen);
        }
        let life = self.life;
        match self.state {
            State::Open => None,
            State::Closed => Some(ReferencePermit { life, probe: None }),
            State::HalfOpen => {
                let taken = self.leases.iter().flatten().count() + self.succeeded as usize;
                if taken >= PROBES {
                    return None;
                }
                let probe = self.leases.iter().position(Option::is_none).unwrap();
                self.leases[probe] = Some(now + 10 * SECOND);
                let probe = Some(probe);
                Some(ReferencePermit { life, probe })
            }
        }
    }

    /// `None`: ignored.
    fn end(&mut self, permit: ReferencePermit, failed: Option<bool>, now: u64) {
        self.look(now);
        if permit.life != self.life {
            return;
        }
        if let Some(probe) = permit.probe {
            self.leases[probe] = None;
            match failed {
                None => {}
                Some(true) => {
                    self.rounds += 1;
                    self.open(now);
                }
                Some(false) => {
                    self.succeeded += 1;
                    if self.succeeded as usize == PROBES {
                        self.rounds = 0;
                        self.enter(State::Closed);
                    }
                }
            }
            return;
        }
        let Some(failed) = failed else { return };
        self.streak = if failed { self.streak + 1 } else { 0 };
        self.calls.push_back(failed);
        if self.calls.len() > 10 {
            self.calls.pop_front();
        }
        let failures = self.calls.iter().filter(|failed| **failed).count();
        let rate = self.calls.len() >= 5 && 2 * failures >= self.calls.len();
        if failed && (rate || self.streak >= ROW) {
            self.open(now);
        }
    }
}

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    CircuitBreaker::builder("model")
        .count_window(10)
        .minimum_calls(5)
        .consecutive_failures(ROW)
        .open_wait(Duration::from_secs(30))
        .open_wait_cap(Duration::from_secs(120))
        .half_open_probes(PROBES as u32)
        .probe_lease(Duration::from_secs(10))
        .clock(clock.shared())
        .build()
        .unwrap()
}

#[test]
fn a_million_random_steps_agree_with_the_reference() {
    for seed in 0..4 {
        let clock = ManualClock::new();
        let (breaker, mut reference) = (breaker(&clock), Reference::new());
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut running: Vec<(Permit, ReferencePermit)> = Vec::new();
        let mut visits = [0u32; 3];
        for step in 0..STEPS / 4 {
            let now = clock.now().as_nanos() / 1_000_000;
            match rng.u32(0..10) {
                0 => clock.advance(Duration::from_millis(rng.u64(0..8_000))),
                1..6 => match (breaker.try_acquire().ok(), reference.admit(now)) {
                    (Some(ours), Some(theirs)) => running.push((ours, theirs)),
                    (None, None) => {}
                    (ours, _) => panic!("seed {seed} step {step}: admitted {}", ours.is_some()),
                },
                _ if running.is_empty() => {}
                _ => {
                    let (ours, theirs) = running.swap_remove(rng.usize(0..running.len()));
                    match rng.u32(0..20) {
                        0..8 => {
                            ours.failure();
                            reference.end(theirs, Some(true), now);
                        }
                        8 => {
                            ours.ignore();
                            reference.end(theirs, None, now);
                        }
                        _ => {
                            ours.success();
                            reference.end(theirs, Some(false), now);
                        }
                    }
                }
            }
            let now = clock.now().as_nanos() / 1_000_000;
            reference.look(now);
            assert_eq!(breaker.state(), reference.state, "seed {seed} step {step}");
            visits[reference.state as usize] += 1;
        }
        assert!(visits.iter().all(|n| *n > 100), "{visits:?}");
    }
}

/// Runs `left` and `right` at the same time, often.
fn race<T: Send>(
    mut prepare: impl FnMut() -> (CircuitBreaker, ManualClock),
    left: impl Fn(&CircuitBreaker, &ManualClock) -> T + Sync,
    right: impl Fn(&CircuitBreaker, &ManualClock) -> T + Sync,
    mut check: impl FnMut(CircuitBreaker, T, T),
) {
    for _ in 0..500 {
        let (breaker, clock) = prepare();
        let start = Barrier::new(2);
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                start.wait();
                right(&breaker, &clock)
            });
            start.wait();
            let a = left(&breaker, &clock);
            (a, other.join().unwrap())
        });
        check(breaker, a, b);
    }
}

fn opened() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let one = BreakerConfig::new()
        .consecutive_failures(1)
        .half_open_probes(1);
    breaker.reconfigure(one).unwrap();
    breaker.try_acquire().unwrap().failure();
    clock.advance(Duration::from_secs(30));
    (breaker, clock)
}

#[test]
fn b25_the_last_permit_goes_to_one_of_two_threads() {
    let probe = |breaker: &CircuitBreaker, _: &ManualClock| breaker.try_acquire().ok();
    race(opened, probe, probe, |_, a, b| {
        assert!(a.is_some() != b.is_some());
    });
}

#[test]
fn b25_a_lease_end_and_a_result_have_one_winner() {
    let held = std::sync::Mutex::new(None);
    let prepare = || {
        let (breaker, clock) = opened();
        *held.lock().unwrap() = Some(breaker.try_acquire().unwrap());
        (breaker, clock)
    };
    let result = |_: &CircuitBreaker, _: &ManualClock| {
        held.lock().unwrap().take().unwrap().success();
    };
    let lease_ends = |breaker: &CircuitBreaker, clock: &ManualClock| {
        clock.advance(Duration::from_secs(10));
        breaker.state();
    };
    race(prepare, result, lease_ends, |breaker, (), ()| {
        let counts = breaker.snapshot().counts;
        let (won, expired) = (counts.successes, counts.probe_leases_expired);
        assert_eq!(won + expired, 1);
        assert_eq!(counts.late_results, expired);
        let state = if won == 1 { State::Closed } else { State::Open };
        assert_eq!(breaker.state(), state);
    });
}

#[test]
fn b25_a_trip_and_a_success_leave_one_legal_state() {
    let prepare = || {
        let clock = ManualClock::new();
        let builder = CircuitBreaker::builder("trip").consecutive_failures(2);
        let breaker = builder.clock(clock.shared()).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        (breaker, clock)
    };
    let admit = |breaker: &CircuitBreaker| breaker.try_acquire().ok();
    race(
        prepare,
        |breaker, _| admit(breaker).map(Permit::failure).is_some(),
        |breaker, _| admit(breaker).map(Permit::success).is_some(),
        |breaker, failure, _| {
            let snapshot = breaker.snapshot();
            assert!(failure);
            let legal = match snapshot.state {
                State::Open => snapshot.counts.successes == 0,
                _ => snapshot.counts.successes == 1 && snapshot.consecutive_failures <= 1,
            };
            assert!(legal, "{snapshot:?}");
        },
    );
}
