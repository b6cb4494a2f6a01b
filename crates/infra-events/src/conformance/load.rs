//! Rows 33 and 34: slow subscribers.

use super::*;
use crate::{ErrorKind, Signal};
use futures_util::StreamExt;

/// A stuck subscription that passes one event at a time.
async fn gated(
    bus: &EventBus,
    channel: &str,
    options: SubscribeOptions,
) -> (Seen, Gate, Subscription) {
    let (seen, gate) = (Seen::default(), Gate::closed());
    let (kept, passed) = (seen.clone(), gate.clone());
    let handler = move |event| {
        let (kept, gate) = (kept.clone(), passed.clone());
        async move {
            gate.pass().await;
            kept.add(event);
        }
    };
    let subscription = bus.subscribe_with(channel, options, handler).await.unwrap();
    (seen, gate, subscription)
}

/// The newest events stay, and every dropped one is counted and signalled.
pub async fn ev33_drop_oldest_counts_exactly_what_it_dropped(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let mut signals = bus.signals();
    let options = SubscribeOptions::default().capacity(10).name("slow");
    let (seen, gate, subscription) = gated(&bus, &channel, options).await;
    bus.publish(&channel, &0).await.unwrap();
    until("the first is running", || subscription.stats().running == 1).await;
    for n in 1..=1000_u64 {
        bus.publish(&channel, &n).await.unwrap();
    }
    until("all have arrived", || subscription.stats().received == 1001).await;
    let stats = subscription.stats();
    assert_eq!((stats.dropped, stats.queued, stats.running), (990, 10, 1));
    assert_eq!(stats.accounted(), 1001);
    gate.let_pass(2000);
    seen.wait_for(11).await;
    assert!(
        seen.numbers()
            .into_iter()
            .eq(std::iter::once(0).chain(991..=1000))
    );
    let mut signalled = 0;
    while signalled < 990 {
        match soon("signal", signals.next()).await.unwrap() {
            Signal::SlowSubscriber { name, dropped, .. } if &*name == "slow" => {
                signalled += dropped;
            }
            _ => {}
        }
    }
    assert_eq!(signalled, 990);
}

/// Publishers wait while the queue is full, nothing is dropped, and memory stays bounded. A
/// backend that cannot do that refuses the policy.
pub async fn ev33_block_holds_publishers_back_and_drops_nothing(harness: &impl Harness) {
    let channel = unique();
    let bus = harness
        .connect(options().publish_timeout(Duration::from_secs(2)))
        .await;
    if !bus.capabilities().backpressure {
        let refused = bus
            .subscribe_with(&channel, blocking(1), |_| async {})
            .await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("DropOldest"), "{error}");
        return;
    }
    let (seen, gate, subscription) = gated(&bus, &channel, blocking(10)).await;
    bus.publish(&channel, &0).await.unwrap();
    until("the first is running", || subscription.stats().running == 1).await;
    for n in 1..=10_u64 {
        bus.publish(&channel, &n).await.unwrap();
    }
    let error = bus.publish(&channel, &11).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let elsewhere = format!("{channel}elsewhere");
    let (other, _other) = Seen::on(&bus, &elsewhere).await;
    bus.publish(&elsewhere, &1).await.unwrap(); // who does not publish there does not wait
    other.wait_for(1).await;
    let stats = subscription.stats();
    assert_eq!((stats.received, stats.queued, stats.dropped), (11, 10, 0));
    gate.let_pass(1 << 16);
    let publishers = (0..4).map(|_| {
        let (bus, channel) = (bus.clone(), channel.clone());
        infra_core::context::spawn(async move {
            for n in 0..500 {
                bus.publish(&channel, &n).await.unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        soon("publish", publisher).await.unwrap();
    }
    seen.wait_for(2011).await;
    assert_eq!(subscription.stats().dropped, 0);
}

/// While one subscription is stuck, another one on the same channel gets everything.
pub async fn ev34_a_stuck_subscriber_delays_no_other(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let options = SubscribeOptions::default().capacity(4);
    let (_stuck, gate, slow) = gated(&bus, &channel, options).await;
    let (fast, _fast) = Seen::on(&bus, &channel).await;
    for n in 0..500_u64 {
        bus.publish(&channel, &n).await.unwrap();
    }
    fast.wait_for(500).await;
    assert!(fast.numbers().into_iter().eq(0..500));
    assert_eq!((slow.stats().handled, slow.stats().running), (0, 1));
    gate.let_pass(500);
}
