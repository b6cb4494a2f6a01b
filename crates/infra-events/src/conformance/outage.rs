//! Rows 25 and 26: the server goes away and comes back.

use std::time::Instant;

use infra_core::Classify;

use super::*;
use crate::{ErrorKind, Signal, SignalStream, Target};
use futures_util::StreamExt;

/// Short waits, so that the suite is quick; a client's own retry budget plays no part.
fn restless() -> EventOptions {
    options()
        .connect_timeout(LIMIT)
        .reconnect_backoff(Duration::from_millis(10), Duration::from_millis(100))
}

async fn signal(signals: &mut SignalStream, wanted: impl Fn(&Signal) -> bool) -> Signal {
    soon("signal", async {
        loop {
            let signal = signals.next().await.expect("the bus is open");
            if wanted(&signal) {
                return signal;
            }
        }
    })
    .await
}

/// A subscriber that does nothing but wait gets events again, and is told that it may have missed
/// some; channel and pattern alike, and as often as it happens.
pub async fn ev25_an_idle_subscriber_recovers_and_is_told_of_the_gap(harness: &impl OutageHarness) {
    let (subscriber, prefix) = (harness.connect(restless()).await, unique());
    let mut signals = subscriber.signals();
    let (channel, pattern) = (format!("{prefix}a"), format!("{prefix}*"));
    let (exact, _one) = Seen::on(&subscriber, &channel).await;
    let (matching, _two) = Seen::on(&subscriber, &pattern).await;
    for round in 1..=2 {
        harness.cut();
        signal(&mut signals, |s| matches!(s, Signal::Disconnected { .. })).await;
        assert!(subscriber.ping().await.is_err());
        harness.restore();
        let restored = |s: &Signal| matches!(s, Signal::Resubscribed { .. });
        let restored = signal(&mut signals, restored).await;
        assert_eq!(restored, Signal::Resubscribed { targets: 2 });
        let mut gaps = Vec::new();
        for _ in 0..2 {
            match signal(&mut signals, |s| matches!(s, Signal::Gap { .. })).await {
                Signal::Gap { target, lost: None } => gaps.push(target),
                other => panic!("{other:?}"),
            }
        }
        gaps.sort_by_key(Target::is_pattern);
        assert_eq!(gaps[0].as_str(), channel);
        assert_eq!(gaps[1].as_str(), pattern);
        let publisher = harness.connect(restless()).await;
        publisher.publish(&channel, &round).await.unwrap();
        exact.wait_for(round).await;
        matching.wait_for(round).await;
        soon("ping", async {
            while subscriber.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A subscribe during the outage waits and then works; what was given up meanwhile stays so.
pub async fn ev26_subscriptions_made_during_the_outage_take_effect_after_it(
    harness: &impl OutageHarness,
) {
    let (bus, prefix) = (harness.connect(restless()).await, unique());
    let mut signals = bus.signals();
    let (before, kept) = Seen::on(&bus, &format!("{prefix}before")).await;
    let (given_up, ended) = Seen::on(&bus, &format!("{prefix}ended")).await;
    harness.cut();
    signal(&mut signals, |s| matches!(s, Signal::Disconnected { .. })).await;
    soon("unsubscribe", ended.unsubscribe()).await.unwrap();
    let during = infra_core::context::spawn({
        let (bus, channel) = (bus.clone(), format!("{prefix}during"));
        async move { Seen::on(&bus, &channel).await }
    });
    tokio::task::yield_now().await;
    assert!(!during.is_finished());
    harness.restore();
    let (new, new_subscription) = soon("subscribe", during).await.unwrap();
    signal(&mut signals, |s| matches!(s, Signal::Gap { .. })).await;
    for name in ["before", "ended", "during"] {
        bus.publish(&format!("{prefix}{name}"), &1).await.unwrap();
    }
    before.wait_for(1).await;
    new.wait_for(1).await;
    barrier(&bus).await;
    assert_eq!(given_up.len(), 0);
    drop((kept, new_subscription));
}

/// A subscribe whose time runs out is an error that says what is wrong, and leaves nothing.
pub async fn ev26_what_cannot_be_confirmed_in_time_is_an_error_that_leaves_nothing(
    harness: &impl OutageHarness,
) {
    let channel = unique();
    let bus = harness
        .connect(restless().subscribe_timeout(Duration::from_millis(300)))
        .await;
    harness.cut();
    let asked = Instant::now();
    let error = bus.stream(&channel).await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(5), "by its deadline");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_safe_to_repeat());
    harness.restore();
    let (seen, _subscription) = loop {
        // The connection is back within the backoff, but 300 ms may be short on a busy machine.
        match bus.stream(&format!("{channel}again")).await {
            Ok(_) => break Seen::on(&bus, &format!("{channel}*")).await,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    bus.publish(&channel, &1).await.unwrap();
    seen.wait_for(1).await;
    assert_eq!(bus.stats().queued, 0);
}

/// A publish during the outage waits for its end; with less time it fails, not applied.
pub async fn ev26_a_publish_during_the_outage_waits_or_fails_by_its_deadline(
    harness: &impl OutageHarness,
) {
    let channel = unique();
    let patient = harness.connect(restless()).await;
    let hasty = harness
        .connect(restless().publish_timeout(Duration::from_millis(200)))
        .await;
    harness.cut();
    let error = loop {
        // The first call may meet the breaking connection itself.
        let error = hasty.publish(&channel, &1).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        if error.is_safe_to_repeat() {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let waiting = infra_core::context::spawn(async move { patient.publish(&channel, &2).await });
    harness.restore();
    match soon("publish", waiting).await.unwrap() {
        Ok(_) => {}
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
}
