//! What the rows of the breaker leave open: found by mutants that no row noticed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::{ManualClock, MonoTime};
use infra_resilience::breaker::core::BreakerCore;
use infra_resilience::breaker::{
    BreakerChange, Mode, OnCancel, OpenCause, Opening, State, Verdict,
};
use infra_resilience::{BreakerBuilder, BreakerConfig, CircuitBreaker};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn built(builder: BreakerBuilder) -> (ManualClock, CircuitBreaker) {
    let clock = ManualClock::new();
    clock.advance(1_000 * SECOND);
    (
        clock.clone(),
        builder.clock(clock.shared()).build().unwrap(),
    )
}

fn named() -> BreakerBuilder {
    CircuitBreaker::builder("b")
}

#[test]
fn b20_each_rule_for_dropped_calls_counts_what_it_says() {
    let after = OnCancel::FailureIfOlderThan(2 * SECOND);
    let cases = [
        (OnCancel::Ignore, 100 * SECOND, 0),
        (OnCancel::Failure, Duration::ZERO, 1),
        (after, 2 * SECOND - NANO, 0),
        (after, 2 * SECOND, 1),
    ];
    for (rule, age, failures) in cases {
        let (clock, breaker) = built(named().on_cancel(rule));
        let permit = breaker.try_acquire().unwrap();
        clock.advance(age);
        drop(permit);
        let counts = breaker.snapshot().counts;
        let expected = (failures, 1 - failures, 1);
        assert_eq!(
            (counts.failures, counts.ignored, counts.cancelled),
            expected,
            "{rule:?} after {age:?}"
        );
    }
}

#[test]
fn b15_calls_are_timed_for_slowness_whatever_dropped_ones_count_for() {
    let builder = named().count_window(4).slow_call(SECOND, 0.5);
    let (clock, breaker) = built(builder.minimum_calls(4).on_cancel(OnCancel::Ignore));
    for took in [SECOND - NANO, SECOND] {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(took);
        permit.success();
    }
    assert_eq!(breaker.snapshot().window_slow, 1);
}

#[test]
fn b06_an_opening_by_a_probe_tells_how_many_probes_there_were() {
    let openings: Arc<Mutex<Vec<Opening>>> = Arc::default();
    let sink = openings.clone();
    let builder = named().consecutive_failures(1).half_open_probes(3);
    let (clock, breaker) = built(builder.on_event(move |event| {
        if let BreakerChange::Opened(opening) = event.change {
            sink.lock().unwrap().push(opening);
        }
    }));
    breaker.try_acquire().unwrap().failure();
    clock.advance(30 * SECOND);
    breaker.try_acquire().unwrap().failure();
    clock.advance(60 * SECOND);
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().failure();
    let told = openings.lock().unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|o| (o.cause, o.failures, o.calls))
        .collect();
    let expected = [
        (OpenCause::ConsecutiveFailures, 1, 1),
        (OpenCause::ProbeFailed, 1, 1),
        (OpenCause::ProbeFailed, 1, 3),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_snapshot_says_when_to_come_back_while_open_and_only_then() {
    let (clock, breaker) = built(named().consecutive_failures(1));
    let retry_after = || breaker.snapshot().retry_after;
    assert_eq!(retry_after(), None);
    breaker.try_acquire().unwrap().failure();
    clock.advance(SECOND);
    assert_eq!(retry_after(), Some(29 * SECOND));
    clock.advance(29 * SECOND);
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert_eq!(retry_after(), None);
    probe.success();
    assert_eq!(retry_after(), None);
    breaker.set_mode(Mode::MetricsOnly);
    assert_eq!(retry_after(), None);
}

#[test]
fn the_wait_of_an_opening_ends_with_the_life_that_it_belongs_to() {
    let config = BreakerConfig::new().consecutive_failures(1);
    let core = BreakerCore::new(config.open_wait(30 * SECOND)).unwrap();
    let now = MonoTime::ZERO.plus(SECOND);
    let call = core.admit(now).unwrap();
    core.record(call, Verdict::Failure, now);
    assert!(core.admit(now).is_err());
    for mode in [Mode::Disabled, Mode::Auto] {
        core.set_mode(mode, now);
        assert!(core.admit(now).is_ok(), "{mode:?}");
    }
}

#[test]
fn reset_statistics_forgets_window_and_streak_but_neither_state_nor_mode() {
    let builder = named().count_window(4).consecutive_failures(3);
    let (_clock, breaker) = built(builder.minimum_calls(4));
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    let generation = breaker.snapshot().generation;
    breaker.reset_statistics();
    let snapshot = breaker.snapshot();
    let forgotten = (
        snapshot.consecutive_failures,
        snapshot.window_calls,
        snapshot.window_failures,
    );
    assert_eq!(forgotten, (0, 0, 0));
    assert_eq!(snapshot.generation, generation);
    for _ in 0..2 {
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(breaker.state(), State::Closed);
    breaker.isolate();
    breaker.reset_statistics();
    assert_eq!(breaker.mode(), Mode::Isolated);
}

#[test]
fn b24_calls_that_began_untimed_are_neither_slow_nor_old_by_later_settings() {
    let untimed = BreakerConfig::new()
        .count_window(4)
        .on_cancel(OnCancel::Ignore);
    let (_clock, breaker) = built(named().config(untimed.clone()));
    let permits = [(); 3].map(|()| breaker.try_acquire().unwrap());
    let timed = untimed
        .slow_call(SECOND, 0.5)
        .on_cancel(OnCancel::FailureIfOlderThan(SECOND));
    breaker.reconfigure(timed).unwrap();
    let [succeeded, failed, dropped] = permits;
    succeeded.success();
    failed.failure();
    drop(dropped);
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.window_calls, snapshot.window_slow), (2, 0));
    assert_eq!((snapshot.counts.failures, snapshot.counts.ignored), (1, 1));
}
