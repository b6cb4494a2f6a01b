//! What holds on a runtime with one thread, where nothing runs beside the publisher.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use infra_events::{ErrorKind, EventBus, EventOptions, Overflow, SubscribeOptions};

#[tokio::test]
async fn a_loop_that_publishes_without_waiting_overflows_no_fast_handler() {
    let bus = EventBus::memory();
    let subscription = bus.subscribe("a", |_| async {}).await.unwrap();
    for n in 0..10_000 {
        bus.publish("a", &n).await.unwrap();
    }
    let report = bus.close().await.unwrap();
    assert_eq!(report.events.handled, 10_000);
    assert_eq!(subscription.stats().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn ev33_a_blocked_publish_ends_at_its_timeout() {
    let limit = Duration::from_secs(3600);
    let bus = EventBus::memory_with(EventOptions::default().publish_timeout(limit)).unwrap();
    let options = SubscribeOptions::default()
        .capacity(1)
        .overflow(Overflow::Block);
    let _stream = bus.stream_with("a", options).await.unwrap();
    bus.publish("a", &1).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = bus.publish("a", &2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), limit.as_secs());
}

#[tokio::test]
async fn handlers_that_are_always_ready_leave_room_for_other_tasks() {
    let bus = EventBus::memory();
    let options = SubscribeOptions::default().capacity(1 << 20);
    let subscription = bus
        .subscribe_with("a", options, |_| async {})
        .await
        .unwrap();
    bus.stop_listening().await.unwrap();
    for n in 0..10_000 {
        bus.publish("a", &n).await.unwrap();
    }
    bus.start_listening().await.unwrap();
    tokio::task::yield_now().await;
    let handled = subscription.stats().handled;
    assert!((1..10_000).contains(&handled), "{handled}");
}
