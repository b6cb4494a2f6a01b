//! What is refused, and what the reader is told.

use std::time::Duration;

use infra_core::{Clock, MonoTime};
use infra_resilience::breaker::OnCancel;
use infra_resilience::{BreakerError, CircuitBreaker};

use super::support::{Fault, secs};

#[test]
fn bad_settings_are_refused_with_their_values() {
    let named = || CircuitBreaker::builder("bad");
    let cases = [
        (
            named().consecutive_failures(0),
            "`consecutive_failures`: is 0",
        ),
        (named().count_window(0), "`count_window`: is 0"),
        (
            named().count_window(100_001),
            "is 100001, must be from 1 to 100000",
        ),
        (named().time_window(Duration::ZERO), "`time_window`: is 0ns"),
        (named().failure_rate(f64::NAN), "`failure_rate`: is NaN"),
        (named().failure_rate(0.0), "`failure_rate`: is 0"),
        (named().failure_rate(1.01), "`failure_rate`: is 1.01"),
        (named().open_wait(Duration::ZERO), "`open_wait`: is 0 s"),
        (named().open_wait_factor(0.5), "`open_wait_factor`: is 0.5"),
        (
            named().open_wait_factor(f64::INFINITY),
            "`open_wait_factor`: is inf",
        ),
        (
            named().open_wait(secs(30)).open_wait_cap(secs(20)),
            "`open_wait_cap`: is 20s, shorter than `open_wait` (30s)",
        ),
        (named().half_open_probes(0), "`half_open_probes`: is 0"),
        (named().probe_lease(Duration::ZERO), "`probe_lease`: is 0 s"),
        (
            named().count_window(5).minimum_calls(6),
            "is 6, more than `count_window` (5)",
        ),
        (
            named().count_window(5).minimum_calls(0),
            "`minimum_calls`: is 0",
        ),
        (
            named().minimum_calls(5),
            "`minimum_calls`: needs `count_window`",
        ),
        (
            named().slow_call(secs(1), 0.5),
            "`slow_call`: needs `count_window`",
        ),
        (
            named().count_window(5).slow_call(Duration::ZERO, 0.5),
            "`slow_call`: is 0 s",
        ),
        (
            named().count_window(5).slow_call(secs(1), f64::NAN),
            "`slow_call`: is NaN",
        ),
        (
            named().count_window(5).time_window(secs(5)),
            "a breaker has one window",
        ),
        (
            named().on_cancel(OnCancel::FailureIfOlderThan(Duration::ZERO)),
            "`on_cancel`: is 0 s",
        ),
    ];
    for (builder, expected) in cases {
        let message = builder.build().unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn rejections_say_what_the_reader_can_do() {
    let clock = infra_core::ManualClock::new();
    let breaker = CircuitBreaker::builder("venue")
        .consecutive_failures(1)
        .clock(clock.shared())
        .build()
        .unwrap();
    breaker.try_acquire().unwrap().failure();
    let open: BreakerError<Fault> = breaker.try_acquire().unwrap_err().into();
    assert_eq!(
        open.to_string(),
        "circuit breaker 'venue' is open; the next try is possible in 30s"
    );
    clock.advance(secs(30));
    let _probe = breaker.try_acquire().unwrap();
    let taken = breaker.try_acquire().unwrap_err();
    assert!(taken.to_string().contains("all its probes are taken"));
    breaker.isolate();
    let isolated = breaker.try_acquire().unwrap_err();
    assert!(isolated.to_string().contains("isolated by an operator"));
    assert!(clock.now() > MonoTime::ZERO);
}
