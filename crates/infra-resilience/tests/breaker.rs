//! The breaker rows of the conformance table, on every way to call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

mod support;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use infra_core::{Clock, MonoTime};
use infra_resilience::breaker::{BreakerChange, Mode, OnCancel, OpenCause, State};
use infra_resilience::{BreakerError, BreakerRegistry, CircuitBreaker, RejectReason, Verdict};
#[cfg(feature = "tower")]
use support::Tower;
use support::{ByPermit, Caller, Fault, Plain, Rig, c0, ms, poll_once, secs};

async fn b01_fifth_failure_opens_with_one_event<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    assert_eq!(rig.state(), State::Closed);
    rig.fail().await;
    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.openings().len(), 1);
    assert_eq!(rig.openings()[0].cause, OpenCause::FailureRate);
    assert_eq!(
        (rig.openings()[0].failures, rig.openings()[0].calls),
        (5, 5)
    );
}

async fn b02_a_long_success_history_does_not_mask_an_outage<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    for _ in 0..1_000 {
        rig.ok().await;
    }
    rig.fails(4).await;
    assert_eq!(rig.state(), State::Closed);
    rig.fail().await;
    assert_eq!(rig.state(), State::Open);
}

async fn b03_rate_at_the_threshold_opens_and_below_does_not<C: Caller>() {
    for (rate, failures) in [(0.3, 3), (0.7, 7), (0.07, 1), (1.0, 10)] {
        let rig = Rig::<C>::new(c0().minimum_calls(10).failure_rate(rate));
        assert_eq!(rig.breaker.snapshot().failure_rate(), 0.0);
        for _ in 0..10 - failures {
            rig.ok().await;
        }
        rig.fails(failures - 1).await;
        assert_eq!(rig.state(), State::Closed, "below {rate}");
        rig.fail().await;
        assert_eq!(rig.state(), State::Open, "at {rate}");
    }
}

async fn b04_time_window_forgets_and_stays_small<C: Caller>() {
    let builder = CircuitBreaker::builder("time")
        .time_window(secs(10))
        .minimum_calls(5);
    let rig = Rig::<C>::new(builder);
    rig.fails(4).await;
    rig.clock.advance(secs(10));
    rig.fails(4).await;
    assert_eq!(rig.state(), State::Closed, "older failures counted");
    rig.clock.advance(secs(3_600));
    assert_eq!(rig.breaker.snapshot().window_calls, 0);
    rig.fails(5).await;
    assert_eq!(rig.state(), State::Open);
}

async fn b05_open_rejects_without_calling_inner<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(5).await;
    assert_eq!(rig.rejected().await, Some(secs(30)));
    rig.clock.advance(ms(29_999));
    assert_eq!(rig.rejected().await, Some(ms(1)));
    assert_eq!(rig.inner_calls(), 5);
    rig.clock.advance(ms(1));
    rig.ok().await;
    assert_eq!(rig.inner_calls(), 6);
}

async fn b06_half_open_admits_exactly_the_probes<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(5).await;
    rig.clock.advance(secs(30));
    let before = rig.inner_calls();
    let (mut first, mut second) = (rig.begin(), rig.begin());
    for _ in 0..498 {
        assert_eq!(rig.rejected().await, None);
    }
    assert_eq!(rig.inner_calls() - before, 2);
    first.end(Ok(()));
    rig.rejected().await;
    second.end(Ok(()));
    assert_eq!(rig.state(), State::Closed);
    let snapshot = rig.breaker.snapshot();
    assert_eq!(
        (snapshot.window_calls, snapshot.consecutive_failures),
        (0, 0)
    );
    rig.fails(4).await;
    assert_eq!(rig.state(), State::Closed);
}

async fn b07_failed_probes_lengthen_the_wait_until_closed<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(5).await;
    for wait in [30, 60, 120] {
        rig.clock.advance(secs(wait) - Duration::from_nanos(1));
        assert_eq!(rig.rejected().await, Some(Duration::from_nanos(1)));
        rig.clock.advance(Duration::from_nanos(1));
        rig.fail().await;
    }
    rig.clock.advance(secs(120));
    rig.ok().await;
    rig.ok().await;
    rig.fails(5).await;
    let waits: Vec<_> = rig.openings().iter().map(|o| o.wait.as_secs()).collect();
    assert_eq!(waits, [30, 60, 120, 120, 30]);
}

async fn b08_dropped_probe_gives_its_place_back<C: Caller>() {
    let rig = Rig::<C>::new(c0().half_open_probes(1));
    let probe = rig.half_open().await;
    rig.rejected().await;
    drop(probe);
    assert_eq!(rig.state(), State::HalfOpen);
    assert_eq!(rig.breaker.snapshot().probes, 0);
    rig.ok().await;
    assert_eq!(rig.state(), State::Closed);
}

async fn b09_hung_probe_fails_at_the_end_of_its_lease<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    let mut probe = rig.half_open().await;
    rig.clock.advance(secs(10) - Duration::from_nanos(1));
    assert_eq!(rig.state(), State::HalfOpen);
    rig.clock.advance(Duration::from_nanos(1));
    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.rejected().await, Some(secs(60)));
    probe.end(Ok(()));
    assert_eq!(rig.state(), State::Open);
    let counts = rig.breaker.snapshot().counts;
    assert_eq!((counts.probe_leases_expired, counts.late_results), (1, 1));
    assert_eq!(rig.openings()[1].cause, OpenCause::ProbeLeaseExpired);
}

async fn b09_a_result_at_the_end_of_the_lease_is_late<C: Caller>() {
    let rig = Rig::<C>::new(c0().half_open_probes(1));
    let mut probe = rig.half_open().await;
    rig.clock.advance(secs(10));
    probe.end(Ok(()));
    assert_eq!(rig.state(), State::Open);
}

async fn b09_an_unobserved_lease_end_counts_from_its_own_time<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    let _probe = rig.half_open().await;
    rig.clock.advance(secs(10 + 59));
    assert_eq!(rig.rejected().await, Some(secs(1)));
    rig.clock.advance(secs(1));
    rig.ok().await;
}

async fn b10_late_results_decide_nothing_in_half_open<C: Caller>() {
    for late_result in [Ok(()), Err(Fault::Down)] {
        let rig = Rig::<C>::new(c0());
        let mut late = rig.begin();
        let mut probe = rig.half_open().await;
        late.end(late_result);
        assert_eq!(rig.state(), State::HalfOpen);
        assert_eq!(rig.breaker.snapshot().counts.late_results, 1);
        probe.end(Ok(()));
        rig.ok().await;
        assert_eq!(rig.state(), State::Closed);
    }
}

async fn b11_late_failure_does_not_prolong_open<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    let mut late = rig.begin();
    rig.fails(5).await;
    rig.clock.advance(secs(10));
    late.end(Err(Fault::Down));
    assert_eq!(rig.rejected().await, Some(secs(20)));
    assert_eq!(rig.changes().len(), 1);
}

async fn b12_ignored_results_change_nothing<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    let before = rig.breaker.snapshot();
    for _ in 0..100 {
        rig.ignored().await;
    }
    let after = rig.breaker.snapshot();
    assert_eq!(after.window_calls, before.window_calls);
    assert_eq!(after.consecutive_failures, before.consecutive_failures);
    rig.fail().await;
    rig.clock.advance(secs(30));
    for _ in 0..100 {
        rig.ignored().await;
        assert_eq!(rig.state(), State::HalfOpen);
    }
    assert_eq!(rig.breaker.snapshot().probes, 0);
    rig.ok().await;
    rig.ok().await;
    assert_eq!(rig.state(), State::Closed);
}

async fn b13_panics_count_and_go_on_to_the_caller<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    for n in 1..=5 {
        let mut call = rig.call(Box::pin(async { panic!("inner") }));
        let panic = std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut call)));
        assert_eq!(*panic.err().unwrap().downcast::<&str>().unwrap(), "inner");
        drop(call);
        let counts = rig.breaker.snapshot().counts;
        assert_eq!(
            (counts.panics, counts.failures, counts.cancelled),
            (n, n, 0)
        );
    }
    assert_eq!(rig.state(), State::Open);
    rig.clock.advance(secs(30));
    let mut call = rig.call(Box::pin(async { panic!("inner") }));
    std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).unwrap_err();
    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.rejected().await, Some(secs(60)));
}

async fn b14_consecutive_count_is_reset_by_success_only<C: Caller>() {
    let rig = || Rig::<C>::new(CircuitBreaker::builder("k3").consecutive_failures(3));
    let reset = rig();
    reset.fails(2).await;
    reset.ok().await;
    reset.fails(2).await;
    assert_eq!(reset.state(), State::Closed);
    reset.fail().await;
    assert_eq!(reset.state(), State::Open);

    let ignored = rig();
    ignored.fails(2).await;
    ignored.ignored().await;
    ignored.fail().await;
    assert_eq!(ignored.state(), State::Open);

    let late = rig();
    let mut old = [late.begin(), late.begin(), late.begin()];
    late.breaker.isolate();
    late.breaker.release();
    for call in &mut old {
        call.end(Err(Fault::Down));
    }
    assert_eq!(late.state(), State::Closed);
    assert_eq!(late.breaker.snapshot().counts.late_results, 3);
}

async fn b14_a_late_success_is_late_although_closed_again<C: Caller>() {
    let rig = Rig::<C>::new(CircuitBreaker::builder("k3").consecutive_failures(3));
    let mut old = rig.begin();
    rig.breaker.isolate();
    rig.breaker.release();
    old.end(Ok(()));
    let counts = rig.breaker.snapshot().counts;
    assert_eq!((counts.successes, counts.late_results), (0, 1));
}

async fn b15_slow_calls_open_and_a_slow_probe_has_failed<C: Caller>() {
    let rig = Rig::<C>::new(c0().slow_call(secs(1), 0.5));
    for _ in 0..5 {
        rig.lasting(ms(999), Ok(())).await;
    }
    for _ in 0..4 {
        rig.lasting(secs(1), Ok(())).await;
    }
    assert_eq!(rig.state(), State::Closed);
    rig.lasting(secs(1), Ok(())).await;
    assert_eq!(rig.state(), State::Open);
    assert_eq!(rig.openings()[0].cause, OpenCause::SlowCallRate);
    rig.clock.advance(secs(30));
    rig.lasting(secs(1), Ok(())).await;
    assert_eq!(rig.state(), State::Open);
}

async fn b16_isolation_outlasts_time_and_resets<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    rig.breaker.isolate();
    rig.clock.advance(secs(365 * 24 * 3_600));
    rig.breaker.reset_statistics();
    let error = rig.ends(Ok(())).await.unwrap_err();
    let rejected = error.rejected().unwrap();
    assert_eq!(rejected.reason, RejectReason::Isolated);
    assert_eq!(rejected.retry_after, None);
    rig.breaker.release();
    let snapshot = rig.breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.window_calls), (State::Closed, 0));
    rig.ok().await;
}

async fn b17_isolation_during_a_probe_ignores_its_result<C: Caller>() {
    let rig = Rig::<C>::new(c0().half_open_probes(1));
    let mut probe = rig.half_open().await;
    rig.breaker.isolate();
    probe.end(Err(Fault::Down));
    assert_eq!(rig.breaker.mode(), Mode::Isolated);
    rig.rejected().await;
    rig.breaker.release();
    assert_eq!(rig.state(), State::Closed);
}

async fn b17b_metrics_only_never_rejects_and_disabled_records_nothing<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.breaker.set_mode(Mode::MetricsOnly);
    let would_open = || {
        let is = |c: &BreakerChange| matches!(c, BreakerChange::WouldOpen(_));
        rig.changes().into_iter().filter(is).count()
    };
    rig.fails(20).await;
    assert_eq!(would_open(), 1);
    for _ in 0..10 {
        rig.ok().await;
    }
    rig.fails(20).await;
    assert_eq!(would_open(), 2);
    rig.breaker.set_mode(Mode::Disabled);
    let before = rig.breaker.snapshot();
    rig.fails(20).await;
    assert_eq!(rig.breaker.snapshot(), before);
    assert!(rig.openings().is_empty());
}

async fn b18_a_clock_that_stands_or_goes_back_admits_nobody_early<C: Caller>() {
    let rig = Rig::<C>::new(c0().slow_call(secs(1), 1.0));
    rig.clock.set(MonoTime::from_nanos(1_000_000_000_000));
    rig.fails(5).await;
    rig.clock.set(MonoTime::ZERO);
    assert!(rig.rejected().await.unwrap() >= secs(30));
    rig.clock.set(MonoTime::NEVER);
    let mut probe = rig.begin();
    rig.clock.set(MonoTime::ZERO);
    probe.end(Ok(()));
    rig.state();
}

async fn b20_hung_calls_dropped_from_outside_open<C: Caller>() {
    let rule = OnCancel::FailureIfOlderThan(secs(1));
    let hung = Rig::<C>::new(c0().on_cancel(rule));
    let calls: Vec<_> = (0..50).map(|_| hung.begin()).collect();
    hung.clock.advance(secs(1));
    drop(calls);
    assert_eq!(hung.state(), State::Open);

    let impatient = Rig::<C>::new(c0().on_cancel(rule));
    let calls: Vec<_> = (0..50).map(|_| impatient.begin()).collect();
    impatient.clock.advance(ms(999));
    drop(calls);
    assert_eq!(impatient.state(), State::Closed);
    assert_eq!(impatient.breaker.snapshot().counts.cancelled, 50);
}

async fn retry_after_lengthens_the_opening_it_causes<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    rig.ends(Err(Fault::DownFor(secs(90)))).await.unwrap_err();
    assert_eq!(rig.rejected().await, Some(secs(90)));
}

macro_rules! on_every_shell {
    ($($row:ident,)*) => {
        mod plain { $(#[tokio::test] async fn $row() { super::$row::<super::Plain>().await; })* }
        mod permit { $(#[tokio::test] async fn $row() { super::$row::<super::ByPermit>().await; })* }
        /// C04: the tower layer passes the same suite.
        #[cfg(feature = "tower")]
        mod c04_tower { $(#[tokio::test] async fn $row() { super::$row::<super::Tower>().await; })* }
    };
}

on_every_shell! {
    b01_fifth_failure_opens_with_one_event,
    b02_a_long_success_history_does_not_mask_an_outage,
    b03_rate_at_the_threshold_opens_and_below_does_not,
    b04_time_window_forgets_and_stays_small,
    b05_open_rejects_without_calling_inner,
    b06_half_open_admits_exactly_the_probes,
    b07_failed_probes_lengthen_the_wait_until_closed,
    b08_dropped_probe_gives_its_place_back,
    b09_hung_probe_fails_at_the_end_of_its_lease,
    b09_a_result_at_the_end_of_the_lease_is_late,
    b09_an_unobserved_lease_end_counts_from_its_own_time,
    b10_late_results_decide_nothing_in_half_open,
    b11_late_failure_does_not_prolong_open,
    b12_ignored_results_change_nothing,
    b13_panics_count_and_go_on_to_the_caller,
    b14_consecutive_count_is_reset_by_success_only,
    b14_a_late_success_is_late_although_closed_again,
    b15_slow_calls_open_and_a_slow_probe_has_failed,
    b16_isolation_outlasts_time_and_resets,
    b17_isolation_during_a_probe_ignores_its_result,
    b17b_metrics_only_never_rejects_and_disabled_records_nothing,
    b18_a_clock_that_stands_or_goes_back_admits_nobody_early,
    b20_hung_calls_dropped_from_outside_open,
    retry_after_lengthens_the_opening_it_causes,
}

#[test]
fn b22_full_of_open_breakers_a_new_key_is_served_but_not_kept() {
    let settings = CircuitBreaker::builder("").consecutive_failures(1);
    let registry = BreakerRegistry::builder(settings)
        .capacity(2)
        .build()
        .unwrap();
    for key in ["a", "b"] {
        registry.get(key).try_acquire().unwrap().failure();
    }
    registry.get("c").try_acquire().unwrap().success();
    assert_eq!((registry.len(), registry.overflowed()), (2, 1));
}

#[test]
fn b22_idle_breakers_are_removed_little_by_little() {
    let clock = infra_core::ManualClock::new();
    let settings = CircuitBreaker::builder("").clock(clock.shared());
    let registry = BreakerRegistry::builder(settings)
        .idle_after(secs(60))
        .build()
        .unwrap();
    for key in 0..100 {
        registry.get(&key.to_string());
    }
    clock.advance(secs(60));
    for _ in 0..100 {
        registry.get("busy");
    }
    assert_eq!(registry.len(), 1);
}

#[tokio::test]
async fn throttled_answers_are_no_failures_but_fail_a_probe() {
    let rig = Rig::<Plain>::new(c0());
    let throttled = |_: &Result<(), Fault>| Verdict::Throttled(Some(secs(100)));
    let work = || async { Err::<(), _>(Fault::Down) };
    for _ in 0..20 {
        rig.breaker.call_if(throttled, work).await.unwrap_err();
    }
    assert_eq!(rig.state(), State::Closed);
    rig.fails(5).await;
    rig.clock.advance(secs(30));
    rig.breaker.call_if(throttled, work).await.unwrap_err();
    assert_eq!(rig.rejected().await, Some(secs(100)));
}

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
