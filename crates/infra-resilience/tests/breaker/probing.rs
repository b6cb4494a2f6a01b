//! How a half-open breaker probes.

use std::time::Duration;

use infra_core::MonoTime;
use infra_resilience::Verdict;
use infra_resilience::breaker::{OpenCause, State};

#[cfg(feature = "tower")]
use super::support::Tower;
use super::support::{ByPermit, Caller, Fault, Plain, Rig, c0, secs};

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

async fn throttled_errors_are_no_failures_but_fail_a_probe<C: Caller>() {
    let rig = Rig::<C>::new(c0());
    for _ in 0..20 {
        let throttled = Err(Fault::Throttled(Some(secs(100))));
        rig.ends(throttled).await.unwrap_err();
    }
    assert_eq!(rig.state(), State::Closed);
    rig.fails(5).await;
    rig.clock.advance(secs(30));
    let throttled = Err(Fault::Throttled(Some(secs(100))));
    rig.ends(throttled).await.unwrap_err();
    assert_eq!(rig.rejected().await, Some(secs(100)));
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

on_every_shell! {
    b06_half_open_admits_exactly_the_probes,
    b07_failed_probes_lengthen_the_wait_until_closed,
    b08_dropped_probe_gives_its_place_back,
    b09_hung_probe_fails_at_the_end_of_its_lease,
    b09_a_result_at_the_end_of_the_lease_is_late,
    b09_an_unobserved_lease_end_counts_from_its_own_time,
    b18_a_clock_that_stands_or_goes_back_admits_nobody_early,
    throttled_errors_are_no_failures_but_fail_a_probe,
}
