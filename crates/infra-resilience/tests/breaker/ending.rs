//! What the ends of calls count for: late ones, ignored ones, panics, dropped futures.

use std::panic::AssertUnwindSafe;

use infra_resilience::breaker::{OnCancel, State};

#[cfg(feature = "tower")]
use super::support::Tower;
use super::support::{ByPermit, Caller, Fault, Plain, Rig, c0, ms, poll_once, secs};

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

on_every_shell! {
    b10_late_results_decide_nothing_in_half_open,
    b11_late_failure_does_not_prolong_open,
    b12_ignored_results_change_nothing,
    b13_panics_count_and_go_on_to_the_caller,
    b20_hung_calls_dropped_from_outside_open,
}
