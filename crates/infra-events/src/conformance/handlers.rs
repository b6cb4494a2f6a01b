//! Rows 18, 38 and 39: what handlers do wrong stays with them, and what they know travels on.

use infra_core::{Context, CorrelationId, TraceParent, context};
use tokio::sync::mpsc;

use super::*;
use crate::{ErrorKind, Failure, NewEvent, Signal, Typed};
use futures_util::StreamExt;

/// An error, a panic before and after an await, and a timeout: each is counted, signalled, and
/// followed by the next event.
pub async fn ev18_errors_panics_and_timeouts_stay_with_their_event(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let mut signals = bus.signals();
    let seen = Seen::default();
    let kept = seen.clone();
    let handler = move |event: Event| {
        let (kept, what) = (kept.clone(), event.json::<String>().unwrap());
        if what == "panic at once" {
            panic!("{what}");
        }
        async move {
            match what.as_str() {
                "error" => return Err("no such order"),
                "hang" => std::future::pending().await,
                "panic" => {
                    tokio::task::yield_now().await;
                    panic!("static text");
                }
                _ => kept.add(event),
            }
            Ok(())
        }
    };
    let options = roomy()
        .name("frail")
        .handler_timeout(Duration::from_millis(100));
    let subscription = bus
        .subscribe_with(&channel, options, handler)
        .await
        .unwrap();
    for what in [
        "ok",
        "error",
        "ok",
        "panic at once",
        "ok",
        "panic",
        "ok",
        "hang",
        "ok",
    ] {
        bus.publish(&channel, what).await.unwrap();
    }
    seen.wait_for(5).await;
    until("counted", || subscription.stats().running == 0).await;
    let stats = subscription.stats();
    assert_eq!((stats.handled, stats.failed), (5, 1));
    assert_eq!((stats.panicked, stats.timed_out), (2, 1));
    assert_eq!(stats.received, stats.accounted());
    for expected in [
        Failure::Error("no such order".into()),
        Failure::Panic("panic at once".into()),
        Failure::Panic("static text".into()),
        Failure::Timeout,
    ] {
        let failure = soon("signal", failure_of(&mut signals, "frail")).await;
        assert_eq!(failure, expected);
    }
}

async fn failure_of(signals: &mut crate::SignalStream, subscription: &str) -> Failure {
    loop {
        match signals.next().await.expect("the bus is open") {
            Signal::HandlerFailed { name, failure, .. } if *name == *subscription => {
                return failure;
            }
            _ => {}
        }
    }
}

/// Data that is not a `T` fails its event, and only that.
pub async fn ev18_typed_handlers_refuse_other_data_and_go_on(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (send, mut seen) = mpsc::unbounded_channel();
    let handler = move |number: Typed<u64>| {
        let sent = send.send((number.data, number.event.ty().to_owned()));
        async move { sent.map_err(|_| "nobody listens") }
    };
    let subscription = bus.subscribe_typed(&channel, handler).await.unwrap();
    bus.publish(&channel, &1).await.unwrap();
    bus.publish(&channel, "two").await.unwrap();
    let broken = NewEvent::bytes("application/octet-stream", vec![0xff]);
    bus.publish_event(&channel, broken).await.unwrap();
    bus.publish(&channel, &4).await.unwrap();
    assert_eq!(
        soon("first", seen.recv()).await.unwrap(),
        (1, channel.clone())
    );
    assert_eq!(soon("fourth", seen.recv()).await.unwrap().0, 4);
    until("counted", || subscription.stats().handled == 2).await;
    assert_eq!(subscription.stats().failed, 2);
}

/// A handler that publishes to its own channel finishes, whatever the policy, at a full queue.
pub async fn ev38_publishing_to_the_own_full_channel_does_not_deadlock(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let blocks = bus.capabilities().backpressure;
    let policies = [SubscribeOptions::default().capacity(1), blocking(1)];
    for (n, options) in policies
        .into_iter()
        .take(1 + usize::from(blocks))
        .enumerate()
    {
        let channel = format!("{prefix}{n}");
        let (send, mut results) = mpsc::unbounded_channel();
        let own = bus.clone();
        let handler = move |event: Event| {
            let (bus, send) = (own.clone(), send.clone());
            async move {
                let first = event.json::<u64>().unwrap() == 1;
                for next in 0..if first { 10 } else { 0 } {
                    let result = bus.publish(event.channel(), &(100 + next)).await;
                    let _ = send.send(result.map_err(|error| error.kind()));
                }
            }
        };
        let subscription = bus
            .subscribe_with(&channel, options, handler)
            .await
            .unwrap();
        bus.publish(&channel, &1).await.unwrap();
        for next in 0..10 {
            let result = soon("publish in a handler", results.recv()).await.unwrap();
            match n {
                0 => assert!(result.is_ok()),
                // One has room; waiting for the others would wait for this very handler.
                _ if next == 0 => assert!(result.is_ok()),
                _ => assert_eq!(result.map(|_| ()), Err(ErrorKind::QueueFull)),
            }
        }
        barrier(&bus).await;
        until("the rest", || subscription.stats().queued == 0).await;
        soon("unsubscribe", subscription.unsubscribe())
            .await
            .unwrap();
    }
}

/// Two blocking subscriptions whose handlers publish to each other come to no standstill.
pub async fn ev38_handlers_that_wait_for_each_other_do_not_deadlock(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    if !bus.capabilities().backpressure {
        return ev33_block_holds_publishers_back_and_drops_nothing(harness).await;
    }
    let full = Arc::new(AtomicU64::new(0));
    let mut subscriptions = Vec::new();
    for (own, other) in [("a", "b"), ("b", "a")] {
        let (bus, other, full) = (bus.clone(), format!("{prefix}{other}"), full.clone());
        let handler = {
            let bus = bus.clone();
            move |event: Event| {
                let (bus, other, full) = (bus.clone(), other.clone(), full.clone());
                async move {
                    let left: u64 = event.json().unwrap();
                    for _ in 0..if left > 0 { 3 } else { 0 } {
                        match bus.publish(&other, &(left - 1)).await {
                            Ok(_) => {}
                            Err(error) if error.kind() == ErrorKind::QueueFull => {
                                full.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
        };
        let target = format!("{prefix}{own}");
        let subscription = bus.subscribe_with(&target, blocking(2), handler).await;
        subscriptions.push(subscription.unwrap());
    }
    bus.publish(&format!("{prefix}a"), &6).await.unwrap();
    let stats = || subscriptions.iter().map(Subscription::stats);
    until("no standstill", || {
        stats().all(|s| s.queued + s.running == 0 && s.panicked == 0)
    })
    .await;
    assert!(
        full.load(Ordering::Relaxed) > 0,
        "the queues were never full"
    );
}

/// The publisher's ids reach the handler, and what the handler publishes names its cause.
pub async fn ev39_ids_travel_across_a_hop(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let (first, second) = (format!("{prefix}first"), format!("{prefix}second"));
    let (send, mut contexts) = mpsc::unbounded_channel();
    let (own, target) = (bus.clone(), second.clone());
    let handler = move |_| {
        let _ = send.send(context::current());
        let (bus, target) = (own.clone(), target.clone());
        async move {
            tokio::task::yield_now().await; // the context survives awaits
            bus.publish(&target, &2).await.map(|_| ())
        }
    };
    let _hop = bus.subscribe(&first, handler).await.unwrap();
    let (seen, _subscription) = Seen::on(&bus, &second).await;
    let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let work = Context::empty()
        .with_correlation_id(CorrelationId::parse("run-17").unwrap())
        .with_traceparent(trace.unwrap());
    let published = work.scope(bus.publish(&first, &1)).await.unwrap();
    let inside = soon("context", contexts.recv()).await.unwrap();
    assert_eq!(inside.correlation_id().unwrap().as_str(), "run-17");
    assert_eq!(
        inside.causation_id().unwrap().as_str(),
        published.id.as_str()
    );
    assert_eq!(inside.traceparent(), trace.as_ref().ok());
    let event = &seen.wait_for(1).await[0];
    assert_eq!(event.correlation_id(), "run-17");
    assert_eq!(event.causation_id(), Some(published.id.as_str()));
    assert_eq!(event.traceparent(), trace.as_ref().ok());
}

/// Without a context, a piece of work begins; its id is the event's own, for every subscriber.
pub async fn ev39_missing_ids_are_created(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (one, _first) = Seen::on(&bus, &channel).await;
    let (two, _second) = Seen::on(&bus, &format!("{channel}*")).await;
    let published = bus.publish(&channel, &1).await.unwrap();
    let early = NewEvent::encoded_json("2").time(SystemTime::now() - Duration::from_secs(3600));
    bus.publish_event(&channel, early).await.unwrap();
    for seen in [one, two] {
        let event = &seen.wait_for(2).await[0];
        assert_eq!(event.correlation_id(), published.id.as_str());
        assert_eq!(event.causation_id(), None);
        let context = event.context();
        assert_eq!(
            context.correlation_id().unwrap().as_str(),
            published.id.as_str()
        );
        assert_eq!(
            context.causation_id().unwrap().as_str(),
            published.id.as_str()
        );
    }
}
