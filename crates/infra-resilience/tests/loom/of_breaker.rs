//! Breaker: one legal state, whoever comes first.

use std::sync::{Arc, Mutex};

use infra_core::{Clock, ManualClock};
use loom::thread;

use super::SECOND;
use super::breaker::{BreakerChange, CircuitBreaker, Mode, State};

/// A breaker that one failure opens, and one success of a probe closes.
fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    builder.clock(clock.shared()).build().unwrap()
}

/// Loom changes threads where a lock is taken, and not at the first load after a `spawn`.
fn either_may_go_on(breaker: &CircuitBreaker) {
    breaker.snapshot();
}

/// The same, ready for its probe.
fn probing() -> (CircuitBreaker, ManualClock) {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    (breaker, clock)
}

#[test]
fn b25_the_last_permit_goes_to_one_of_two_threads() {
    loom::model(|| {
        let (breaker, _clock) = probing();
        let other = breaker.clone();
        let thread = thread::spawn(move || other.try_acquire().ok());
        let ours = breaker.try_acquire().ok();
        let theirs = thread.join().unwrap();
        assert!(ours.is_some() != theirs.is_some());
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn b25_a_trip_and_a_success_leave_one_legal_state() {
    loom::model(|| {
        let breaker = breaker(&ManualClock::new());
        let permits = (
            breaker.try_acquire().unwrap(),
            breaker.try_acquire().unwrap(),
        );
        let thread = thread::spawn(move || permits.0.failure());
        either_may_go_on(&breaker);
        let is_late = breaker.state() == State::Open;
        permits.1.success();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, State::Open);
        let counts = snapshot.counts;
        assert_eq!(counts.failures, 1);
        assert_eq!(counts.successes + counts.late_results, 1);
        assert!(counts.late_results == 1 || !is_late);
    });
}

#[test]
fn b25_the_end_of_a_lease_and_a_result_have_one_winner() {
    loom::model(|| {
        let (breaker, clock) = probing();
        let probe = breaker.try_acquire().unwrap();
        let (watch, end) = (clock.clone(), clock.now().plus(10 * SECOND));
        let other = breaker.clone();
        let thread = thread::spawn(move || {
            clock.advance(10 * SECOND);
            other.state();
        });
        either_may_go_on(&breaker);
        let is_late = watch.now() >= end;
        probe.success();
        thread.join().unwrap();
        let counts = breaker.snapshot().counts;
        assert!(counts.successes == 0 || !is_late);
        assert_eq!(counts.successes + counts.probe_leases_expired, 1);
        assert_eq!(counts.late_results, counts.probe_leases_expired);
        let closed = counts.successes == 1;
        assert_eq!(breaker.state() == State::Closed, closed);
    });
}

#[test]
fn b14_a_success_after_a_failure_of_another_thread_starts_the_count_anew() {
    loom::model(|| {
        let builder = CircuitBreaker::builder("b").consecutive_failures(3);
        let breaker = builder.clock(ManualClock::new().shared()).build().unwrap();
        let permit = breaker.try_acquire().unwrap();
        let thread = thread::spawn(move || permit.failure());
        breaker.try_acquire().unwrap().success();
        thread.join().unwrap();
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.snapshot().consecutive_failures, 0);
        assert_eq!(breaker.snapshot().counts.successes, 2);
    });
}

#[test]
fn b14_a_success_beside_a_trip_counts_for_its_own_life_or_is_late() {
    loom::model(|| {
        let builder = CircuitBreaker::builder("b").consecutive_failures(2);
        let breaker = builder.clock(ManualClock::new().shared()).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        let (failure, success) = (
            breaker.try_acquire().unwrap(),
            breaker.try_acquire().unwrap(),
        );
        let thread = thread::spawn(move || failure.failure());
        let other = thread::spawn(move || success.success());
        thread.join().unwrap();
        other.join().unwrap();
        let snapshot = breaker.snapshot();
        let counts = (snapshot.counts.successes, snapshot.counts.late_results);
        let legal = match snapshot.state {
            State::Open => (0, 1),
            _ => (1, 0),
        };
        assert_eq!(counts, legal, "{:?}", snapshot.state);
    });
}

#[test]
fn b14_a_success_of_an_earlier_life_is_late_while_a_probe_closes() {
    loom::model(|| {
        let clock = ManualClock::new();
        let breaker = breaker(&clock);
        let early = breaker.try_acquire().unwrap();
        breaker.try_acquire().unwrap().failure();
        clock.advance(30 * SECOND);
        let probe = breaker.try_acquire().unwrap();
        let thread = thread::spawn(move || probe.success());
        either_may_go_on(&breaker);
        early.success();
        thread.join().unwrap();
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.state, State::Closed);
        let counts = snapshot.counts;
        assert_eq!((counts.successes, counts.late_results), (1, 1));
    });
}

/// The changes that a breaker has told of.
type Told = Arc<Mutex<Vec<BreakerChange>>>;

/// A breaker ready for its probe that tells of its changes from here on.
fn telling() -> (CircuitBreaker, Told) {
    let (clock, told) = (ManualClock::new(), Told::default());
    let sink = told.clone();
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    let builder = builder.on_event(move |event| sink.lock().unwrap().push(event.change));
    let breaker = builder.clock(clock.shared()).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    (breaker, told)
}

#[test]
fn b16_isolation_beside_a_probe_is_final() {
    loom::model(|| {
        let (breaker, told) = telling();
        let probe = breaker.try_acquire().unwrap();
        let thread = thread::spawn(move || probe.success());
        either_may_go_on(&breaker);
        breaker.isolate();
        assert!(breaker.try_acquire().is_err());
        thread.join().unwrap();
        assert!(breaker.try_acquire().is_err());
        let last = told.lock().unwrap().last().copied();
        let isolated = matches!(last, Some(BreakerChange::ModeChanged { .. }));
        assert!(isolated, "after the isolation: {last:?}");
    });
}

#[test]
fn b16_isolation_beside_an_admission_is_final() {
    loom::model(|| {
        let (breaker, _clock) = probing();
        let other = breaker.clone();
        let thread = thread::spawn(move || other.try_acquire());
        either_may_go_on(&breaker);
        breaker.isolate();
        // Its permit lives on: the end of a call would correct what its admission published.
        let admitted = thread.join().unwrap();
        assert_eq!(breaker.mode(), Mode::Isolated);
        assert!(breaker.try_acquire().is_err());
        drop(admitted);
    });
}

#[test]
fn b16_of_two_operators_the_later_one_has_the_last_word() {
    loom::model(|| {
        let (breaker, told) = telling();
        let other = breaker.clone();
        let thread = thread::spawn(move || other.set_mode(Mode::Disabled));
        either_may_go_on(&breaker);
        breaker.isolate();
        thread.join().unwrap();
        let last = told.lock().unwrap().last().copied();
        let Some(BreakerChange::ModeChanged { to, .. }) = last else {
            panic!("{last:?}");
        };
        assert_eq!(breaker.mode(), to);
        assert_eq!(breaker.try_acquire().is_err(), to == Mode::Isolated);
    });
}
