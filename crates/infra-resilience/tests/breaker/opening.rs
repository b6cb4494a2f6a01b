//! When a breaker opens, and what it does then.

use infra_resilience::CircuitBreaker;
use infra_resilience::breaker::{OpenCause, State};

#[cfg(feature = "tower")]
use super::support::Tower;
use super::support::{ByPermit, Caller, Fault, Plain, Rig, c0, ms, secs};

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

async fn retry_after_lengthens_the_opening_it_causes<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    rig.fails(4).await;
    rig.ends(Err(Fault::DownFor(secs(90)))).await.unwrap_err();
    assert_eq!(rig.rejected().await, Some(secs(90)));
}

on_every_shell! {
    b01_fifth_failure_opens_with_one_event,
    b02_a_long_success_history_does_not_mask_an_outage,
    b03_rate_at_the_threshold_opens_and_below_does_not,
    b04_time_window_forgets_and_stays_small,
    b05_open_rejects_without_calling_inner,
    b14_consecutive_count_is_reset_by_success_only,
    b14_a_late_success_is_late_although_closed_again,
    b15_slow_calls_open_and_a_slow_probe_has_failed,
    retry_after_lengthens_the_opening_it_causes,
}
