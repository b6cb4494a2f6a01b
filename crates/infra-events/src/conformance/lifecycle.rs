//! Rows 10, 35 to 37 and 41: subscriptions end, buses close, and nothing is left behind.

use super::*;
use crate::ErrorKind;

/// No handler starts after `unsubscribe().await`, other subscriptions go on, and subscribing again
/// works.
pub async fn ev10_after_unsubscribe_no_handler_starts_and_others_go_on(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (other, _other) = Seen::on(&bus, &channel).await;
    for round in 1..=50 {
        let (seen, subscription) = Seen::on(&bus, &channel).await;
        let publishing = infra_core::context::spawn({
            let (bus, channel) = (bus.clone(), channel.clone());
            async move {
                for n in 0..20 {
                    bus.publish(&channel, &n).await.unwrap();
                }
            }
        });
        until("the first arrives", || seen.len() > 0).await;
        soon("unsubscribe", subscription.unsubscribe())
            .await
            .unwrap();
        let started = seen.len();
        soon("publish", publishing).await.unwrap();
        other.wait_for(round * 20).await;
        assert_eq!(seen.len(), started, "a handler started after unsubscribe");
        let stats = subscription.stats();
        assert_eq!((stats.queued, stats.received), (0, stats.accounted()));
        soon("again", bus.unsubscribe(&subscription)).await.unwrap();
    }
}

/// Dropping the handle unsubscribes, `detach` does not.
pub async fn ev10_dropping_a_subscription_unsubscribes(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (kept, subscription) = Seen::on(&bus, &channel).await;
    subscription.detach();
    let (dropped, subscription) = Seen::on(&bus, &channel).await;
    drop(subscription);
    let stream = bus.stream(&channel).await.unwrap();
    drop(stream);
    bus.publish(&channel, &1).await.unwrap();
    kept.wait_for(1).await;
    barrier(&bus).await;
    assert_eq!(dropped.len(), 0);
    let report = soon("close", bus.close()).await.unwrap();
    assert_eq!(report.events.received, report.events.accounted());
}

/// Everything queued is handled before the close returns.
pub async fn ev35_drain_finishes_what_is_queued(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let gate = Gate::closed();
    let passed = gate.clone();
    let handler = move |_| {
        let gate = passed.clone();
        async move { gate.pass().await }
    };
    let subscription = bus.subscribe(&channel, handler).await.unwrap();
    for n in 0..200 {
        bus.publish(&channel, &n).await.unwrap();
    }
    let closing = infra_core::context::spawn({
        let bus = bus.clone();
        async move { bus.close().await }
    });
    until("closing", || is_closing(&bus)).await;
    assert_eq!(subscription.stats().handled, 0);
    gate.let_pass(200);
    let report = soon("close", closing).await.unwrap().unwrap();
    assert_eq!((report.events.handled, report.drained), (200, true));
    assert_eq!(report.events.received, report.events.accounted());
}

fn is_closing(bus: &EventBus) -> bool {
    use futures_util::FutureExt;
    let refused = bus.start_listening().now_or_never();
    matches!(refused, Some(Err(error)) if error.kind() == ErrorKind::Closed)
}

/// At the deadline, what runs is cut short, what waits is left, and the sum is what was published.
pub async fn ev35_a_drain_that_meets_its_deadline_accounts_for_every_event(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let handler = move |event: Event| async move {
        match event.json::<u64>().unwrap() {
            0..10 => {}
            3000.. => panic!("never starts"),
            _ => std::future::pending().await,
        }
    };
    let subscription = bus.subscribe(&channel, handler).await.unwrap();
    for n in 0..100 {
        bus.publish(&channel, &n).await.unwrap();
    }
    // What has not come yet is waited for by nobody.
    until("all received", || subscription.stats().received == 100).await;
    until("ten handled", || subscription.stats().handled == 10).await;
    let limit = Duration::from_millis(200);
    let report = soon("close", bus.close_within(limit)).await.unwrap();
    let events = report.events;
    assert_eq!((events.received, events.accounted()), (100, 100));
    assert_eq!(
        (events.handled, events.interrupted, events.abandoned),
        (10, 1, 89)
    );
    assert!(!report.drained);
    assert_eq!(subscription.stats().handled, 10);
}

/// A handler that is being drained publishes, and it arrives; nobody else can publish any more.
pub async fn ev36_a_handler_in_flight_during_the_drain_can_publish(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let elsewhere = super::bus(harness).await;
    let (first, second) = (format!("{prefix}first"), format!("{prefix}second"));
    let gate = Gate::closed();
    let (passed, own, target) = (gate.clone(), bus.clone(), second.clone());
    let handler = move |_| {
        let (gate, bus, target) = (passed.clone(), own.clone(), target.clone());
        async move {
            gate.pass().await;
            bus.publish(&target, &2).await.map(|_| ())
        }
    };
    let subscription = bus.subscribe(&first, handler).await.unwrap();
    let receiver = if bus.capabilities().cross_process {
        &elsewhere
    } else {
        &bus
    };
    let (seen, _second) = Seen::on(receiver, &second).await;
    bus.publish(&first, &1).await.unwrap();
    until("running", || subscription.stats().running == 1).await;
    let closing = infra_core::context::spawn({
        let bus = bus.clone();
        async move { bus.close().await }
    });
    until("closing", || is_closing(&bus)).await;
    assert!(bus.publish(&first, &3).await.unwrap_err().is_closed());
    gate.let_pass(1);
    seen.wait_for(1).await;
    let report = soon("close", closing).await.unwrap().unwrap();
    assert!(report.drained, "{report:?}");
    assert_eq!((subscription.stats().handled, report.events.failed), (1, 0));
}

/// 100 rounds of subscribe and unsubscribe: no handler, no name and no count is left.
pub async fn ev37_a_hundred_subscriptions_leave_nothing_behind(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let alive = Arc::new(());
    for round in 0..100 {
        let held = alive.clone();
        let handler = move |_| {
            let _held = &held;
            async {}
        };
        let options = roomy().name("the same again");
        let subscription = loop {
            match bus
                .subscribe_with(&channel, options.clone(), handler.clone())
                .await
            {
                Ok(subscription) => break subscription,
                // The name is free once the last round's handler has ended.
                Err(error) if error.kind() == ErrorKind::DuplicateName => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        bus.publish(&channel, &round).await.unwrap();
        match round % 2 {
            0 => soon("unsubscribe", subscription.unsubscribe())
                .await
                .unwrap(),
            _ => drop(subscription),
        }
    }
    until("handlers are gone", || Arc::strong_count(&alive) == 1).await;
    let stats = bus.stats();
    assert_eq!(stats.received, stats.accounted());
    assert_eq!((stats.queued, stats.running), (0, 0));
    soon("close", bus.close()).await.unwrap();
}

/// Without handles there is no bus, and its handlers are dropped.
pub async fn ev37_dropping_a_bus_without_close_ends_its_handlers(harness: &impl Harness) {
    for _ in 0..20 {
        let (bus, channel) = (bus(harness).await, unique());
        let alive = Arc::new(());
        let held = alive.clone();
        let handler = move |_| {
            let _held = &held;
            std::future::pending::<()>()
        };
        bus.subscribe(&channel, handler).await.unwrap().detach();
        let held = alive.clone();
        let handler = move |_| {
            let _held = &held;
            async {}
        };
        bus.subscribe(&channel, handler).await.unwrap().detach();
        drop(bus);
        until("idle handlers are gone", || Arc::strong_count(&alive) <= 2).await;
    }
}

/// Nothing is handed out while the bus does not listen, and everything afterwards.
pub async fn ev41_listening_stops_and_starts(harness: &impl Harness) {
    let channel = unique();
    let bus = harness.connect(options().listening(false)).await;
    let (seen, subscription) = Seen::on(&bus, &channel).await;
    bus.publish(&channel, &1).await.unwrap();
    until("received", || subscription.stats().received == 1).await;
    assert_eq!((seen.len(), subscription.stats().queued), (0, 1));
    bus.start_listening().await.unwrap();
    bus.start_listening().await.unwrap();
    seen.wait_for(1).await;
    for round in 0..100 {
        soon("stop", bus.stop_listening()).await.unwrap();
        let held = seen.len();
        bus.publish(&channel, &round).await.unwrap();
        until("received", || subscription.stats().received == round + 2).await;
        assert_eq!(seen.len(), held);
        bus.start_listening().await.unwrap();
        seen.wait_for(held + 1).await;
    }
    bus.stop_listening().await.unwrap();
    bus.publish(&channel, &1).await.unwrap();
    let report = soon("close", bus.close()).await.unwrap();
    assert_eq!((report.events.abandoned, report.drained), (1, false));
}

/// A name that is taken is refused, and free again after its subscription.
pub async fn ev41_names_of_subscriptions_are_unique(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let stream = bus
        .stream_with(&channel, roomy().name("books"))
        .await
        .unwrap();
    let error = bus
        .stream_with(&channel, roomy().name("books"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DuplicateName);
    drop(stream);
    let again = bus
        .stream_with(&channel, roomy().name("books"))
        .await
        .unwrap();
    assert_eq!(again.subscription().name(), "books");
}
