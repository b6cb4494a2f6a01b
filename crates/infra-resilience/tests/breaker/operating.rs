//! An operator's modes.

use infra_resilience::RejectReason;
use infra_resilience::breaker::{BreakerChange, Mode, State};

#[cfg(feature = "tower")]
use super::support::Tower;
use super::support::{ByPermit, Caller, Fault, Plain, Rig, c0, secs};

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

on_every_shell! {
    b16_isolation_outlasts_time_and_resets,
    b17_isolation_during_a_probe_ignores_its_result,
    b17b_metrics_only_never_rejects_and_disabled_records_nothing,
}
