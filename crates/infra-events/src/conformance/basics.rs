//! Rows 1 to 9, 12, 31 and 41: what is published arrives, all of it, in order, and as it was.

use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt;
use infra_core::{HealthCheck, HealthStatus};

use super::*;
use crate::{Attribute, ErrorKind, EventId, JSON, NewEvent, PublishLevel};

/// 100 events arrive with data and attributes as they were published.
pub async fn ev01_what_is_published_arrives_byte_for_byte(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (seen, _subscription) = Seen::on(&bus, &channel).await;
    let mut published = Vec::new();
    for n in 0..100 {
        let event = NewEvent::encoded_json(format!("{{\"n\": {n},\"text\":\"é\\n\"}}"))
            .ty("test.v1")
            .subject(&format!("number {n}"))
            .time(UNIX_EPOCH + Duration::from_micros(1_769_247_000_000_001 + n))
            .extension("round", n as i32);
        published.push(bus.publish_event(&channel, event).await.unwrap().id);
    }
    for (n, event) in seen.wait_for(100).await.iter().enumerate() {
        assert_eq!(*event.id(), published[n]);
        assert_eq!(event.data(), &format!("{{\"n\": {n},\"text\":\"é\\n\"}}"));
        assert_eq!((event.channel(), event.ty()), (&*channel, "test.v1"));
        assert_eq!(
            (event.source(), event.content_type()),
            ("conformance", JSON)
        );
        assert_eq!(event.subject(), Some(&*format!("number {n}")));
        assert_eq!(
            event.extension("round"),
            Some(&Attribute::Integer(n as i32))
        );
        let time = UNIX_EPOCH + Duration::from_micros(1_769_247_000_000_001 + n as u64);
        assert_eq!(event.time(), time);
    }
}

/// A stream hands out what it holds and then ends; closing again gives the same report.
pub async fn ev02_streams_end_after_close_and_a_second_close_is_ok(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let mut stream = bus.stream(&channel).await.unwrap();
    bus.publish(&channel, &1).await.unwrap();
    let report = soon("close", bus.close()).await.unwrap();
    assert_eq!(soon("second close", bus.close()).await.unwrap(), report);
    assert_eq!((report.events.received, report.events.queued), (1, 1));
    assert_eq!(soon("next", stream.next()).await.unwrap().data(), "1");
    assert!(soon("end", stream.next()).await.is_none());
    let mut signals = bus.signals();
    assert!(soon("end of signals", signals.next()).await.is_none());
}

/// 20 subscriptions, 5,000 events, none lost.
pub async fn ev03_many_subscribers_get_all_of_5000_events(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        subscribers.push(Seen::on(&bus, &channel).await);
    }
    let publishers = (0..5_u64).map(|publisher| {
        let (bus, channel) = (bus.clone(), channel.clone());
        infra_core::context::spawn(async move {
            for n in 0..1000 {
                bus.publish(&channel, &(publisher * 1000 + n))
                    .await
                    .unwrap();
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        soon("publish", publisher).await.unwrap();
    }
    for (seen, subscription) in &subscribers {
        seen.wait_for(5000).await;
        let mut numbers = seen.numbers();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..5000));
        assert_eq!(subscription.stats().dropped, 0);
    }
}

/// Each of 20 channels gets its own events and no others.
pub async fn ev04_twenty_channels_do_not_mix(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let mut subscribers = Vec::new();
    for n in 0..20 {
        subscribers.push(Seen::on(&bus, &format!("{prefix}{n}")).await);
    }
    let publishing = (0..20_u64).map(|n| {
        let (bus, channel) = (&bus, format!("{prefix}{n}"));
        async move {
            for round in 0..25 {
                bus.publish(&channel, &(n * 100 + round)).await.unwrap();
            }
        }
    });
    soon("publish", futures_util::future::join_all(publishing)).await;
    barrier(&bus).await;
    for (n, (seen, _subscription)) in subscribers.iter().enumerate() {
        seen.wait_for(25).await;
        let first = n as u64 * 100;
        assert!(seen.numbers().into_iter().eq(first..first + 25));
    }
}

/// Events of one publisher arrive in the order in which they were published.
pub async fn ev05_order_is_kept(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    if !bus.capabilities().ordered {
        return;
    }
    let seen = Seen::default();
    let kept = seen.clone();
    let handler = move |event: crate::Event| {
        let kept = kept.clone();
        async move {
            // Handlers of different length must not overtake each other.
            if event.json::<u64>().unwrap().is_multiple_of(7) {
                tokio::task::yield_now().await;
            }
            kept.add(event);
        }
    };
    let _subscription = bus.subscribe(&channel, handler).await.unwrap();
    for n in 0..2000_u64 {
        bus.publish(&channel, &n).await.unwrap();
    }
    seen.wait_for(2000).await;
    assert!(seen.numbers().into_iter().eq(0..2000));
}

/// Binary, non-UTF-8, empty and large data, and odd texts in attributes.
pub async fn ev06_any_bytes_and_attributes_arrive_as_they_were(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (seen, _subscription) = Seen::on(&bus, &channel).await;
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n * 7 % 251) as u8).collect();
    let bodies: [(&str, Vec<u8>); 7] = [
        ("application/octet-stream", vec![0, 159, 146, 150, 13, 10]),
        ("application/octet-stream", Vec::new()),
        ("application/octet-stream", large),
        (JSON, Vec::new()),
        (JSON, b" [1] ".to_vec()),
        ("text/plain", "\u{0}\"\r\n\u{1f4c8}".into()),
        ("image/png", b"\x89PNG\r\n".to_vec()),
    ];
    for (content_type, body) in &bodies {
        let event = NewEvent::bytes(content_type, body.clone())
            .id(EventId::parse("id with spaces \" and é").unwrap())
            .subject("\"quotes\", \\ and \u{1f4c8}")
            .partition_key("{}")
            .extension("a", "{\"json\":true}")
            .extension("zz9", false);
        bus.publish_event(&channel, event).await.unwrap();
    }
    for (event, (content_type, body)) in seen.wait_for(7).await.iter().zip(&bodies) {
        assert_eq!(event.content_type(), *content_type);
        assert_eq!(event.data(), body);
        assert_eq!(event.id().as_str(), "id with spaces \" and é");
        assert_eq!(event.subject(), Some("\"quotes\", \\ and \u{1f4c8}"));
        assert_eq!(event.partition_key(), Some("{}"));
        let text = event.extension("a").and_then(Attribute::as_str);
        assert_eq!(text, Some("{\"json\":true}"));
        assert_eq!(event.extension("zz9"), Some(&Attribute::Boolean(false)));
    }
}

/// Forbidden names, values, channels and sizes are errors before anything is sent.
pub async fn ev06_what_no_envelope_can_carry_is_refused(harness: &impl Harness) {
    let channel = unique();
    let bus = harness.connect(options().max_data_len(1000)).await;
    let event = || NewEvent::encoded_json("1");
    for refused in [
        event().extension("With-Dash", 1),
        event().extension("", 1),
        event().extension("id", 1),
        event().extension("averylongnameindeedyes", 1),
        event().extension("a", "control \u{1}"),
        event().subject(""),
        event().ty("line\nbreak"),
    ] {
        let error = bus.publish_event(&channel, refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAttribute);
        assert_eq!(error.channel(), Some(&*channel));
    }
    let large = NewEvent::encoded_json(vec![b' '; 1001]);
    let error = bus.publish_event(&channel, large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    for bad in ["", "a\u{0}b", &"x".repeat(1025)] {
        let error = bus.publish(bad, &1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidChannel);
        let error = bus.stream(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidChannel);
    }
    let no_json = std::collections::HashMap::from([((1, 2), 3)]);
    let error = bus.publish(&channel, &no_json).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
}

/// Nothing works on a closed bus, and everything says so.
pub async fn ev07_after_close_publish_and_subscribe_say_closed(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (_seen, subscription) = Seen::on(&bus, &channel).await;
    soon("close", bus.close()).await.unwrap();
    assert!(bus.publish(&channel, &1).await.unwrap_err().is_closed());
    assert!(bus.stream(&channel).await.unwrap_err().is_closed());
    let refused = bus.subscribe(&channel, |_| async {}).await;
    assert!(refused.unwrap_err().is_closed());
    assert!(bus.start_listening().await.unwrap_err().is_closed());
    assert!(bus.ping().await.unwrap_err().is_closed());
    bus.stop_listening().await.unwrap();
    soon("unsubscribe", subscription.unsubscribe())
        .await
        .unwrap();
}

/// One event goes to every subscription of its channel.
pub async fn ev08_two_subscriptions_to_one_channel_both_get_everything(harness: &impl Harness) {
    let (bus, channel) = (bus(harness).await, unique());
    let (first, _one) = Seen::on(&bus, &channel).await;
    let (second, _two) = Seen::on(&bus, &channel).await;
    for n in 0..50_u64 {
        bus.publish(&channel, &n).await.unwrap();
    }
    for seen in [first, second] {
        seen.wait_for(50).await;
        assert!(seen.numbers().into_iter().eq(0..50));
    }
}

/// 1,000 rounds of subscribe, then publish at once.
pub async fn ev09_what_is_published_right_after_subscribe_arrives(harness: &impl Harness) {
    let (bus, prefix) = (bus(harness).await, unique());
    let publisher = super::bus(harness).await;
    // Where other processes take part, the publisher is one of them.
    let publisher = if bus.capabilities().cross_process {
        &publisher
    } else {
        &bus
    };
    for round in 0..1000 {
        let channel = format!("{prefix}{round}");
        let target = if round % 2 == 0 {
            channel.clone()
        } else {
            format!("{channel}*")
        };
        let mut stream = bus.stream(&target).await.unwrap();
        publisher.publish(&channel, &round).await.unwrap();
        assert_eq!(
            soon("event", stream.recv()).await.unwrap().channel(),
            channel
        );
    }
}

/// A bus that works says so.
pub async fn ev12_ping_and_health_answer(harness: &impl Harness) {
    let bus = bus(harness).await;
    soon("ping", bus.ping()).await.unwrap();
    assert_eq!(bus.name(), "events");
    assert_eq!(soon("check", bus.check()).await.status, HealthStatus::Up);
    bus.close().await.unwrap();
    assert_eq!(soon("check", bus.check()).await.status, HealthStatus::Down);
}

/// What was published before a close is handled by it.
pub async fn ev31_publish_then_close_loses_nothing(harness: &impl Harness) {
    for _ in 0..20 {
        let (bus, channel) = (bus(harness).await, unique());
        let (seen, subscription) = Seen::on(&bus, &channel).await;
        for n in 0..50 {
            bus.publish(&channel, &n).await.unwrap();
        }
        let report = soon("close", bus.close()).await.unwrap();
        assert_eq!((report.events.handled, report.drained), (50, true));
        assert_eq!((seen.len(), subscription.stats().handled), (50, 50));
    }
}

/// The backend does what its capabilities say, no less and no more.
pub async fn ev41_capabilities_are_kept(harness: &impl Harness) {
    let (first, second) = (bus(harness).await, bus(harness).await);
    let (capabilities, channel) = (first.capabilities(), unique());
    let (here, _one) = Seen::on(&first, &channel).await;
    let (there, _two) = Seen::on(&second, &channel).await;
    let published = first.publish(&channel, &1).await.unwrap();
    assert_eq!(published.level, capabilities.publish_level);
    assert!(published.level >= PublishLevel::Buffered);
    here.wait_for(1).await;
    if capabilities.cross_process {
        assert_eq!(*there.wait_for(1).await[0].id(), published.id);
    } else {
        barrier(&second).await;
        assert_eq!(there.len(), 0);
    }
    let (late, _three) = Seen::on(&first, &channel).await;
    barrier(&first).await;
    assert_eq!(late.len(), usize::from(capabilities.replay));
}
