//! Events: plain JSON from a process that knows no envelope, and ours as plain consumers see them.

use std::time::Duration;

use infra_core::{Context, CorrelationId};
use infra_events::{EnvelopeMode, Event, EventBus, EventOptions, EventStream, create_event_bus};
use infra_tests::servers::{shared_redis_url, unique_name};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::peer::Python;

#[derive(Debug, PartialEq, Deserialize)]
struct Fill {
    ticker: String,
    price: f64,
}

impl Python {
    fn publish(&mut self, channel: &str, event: Value) {
        self.run(json!({"op": "publish", "channel": channel, "event": event}));
    }

    /// Subscribes and waits for the server's confirmation.
    fn subscribe(&mut self, channel: &str) {
        self.run(json!({"op": "subscribe", "channel": channel}));
    }

    /// The next event as Python decoded it.
    fn next_event(&mut self) -> Value {
        let found = self.run(json!({"op": "next_event", "seconds": 10}));
        found
            .get("event")
            .expect("an event arrives within 10 s")
            .clone()
    }
}

async fn both() -> (EventBus, Python, String) {
    let url = shared_redis_url();
    let bus = EventBus::connect(&url).await.unwrap();
    (bus, Python::start(&url), unique_name("python"))
}

async fn next(stream: &mut EventStream) -> Event {
    tokio::time::timeout(Duration::from_secs(10), stream.recv())
        .await
        .expect("an event arrives within 10 s")
        .expect("the stream goes on")
}

#[tokio::test]
async fn plain_json_of_python_arrives_as_data() {
    let (bus, mut python, channel) = both().await;
    let mut stream = bus.stream(&channel).await.unwrap();
    python.publish(
        &channel,
        json!({"ticker": "ÄÖÜ 🚀", "price": 10.25, "more": [1, null]}),
    );
    let event = next(&mut stream).await;
    let fill: Fill = event.json().unwrap();
    assert_eq!(
        fill,
        Fill {
            ticker: "ÄÖÜ 🚀".into(),
            price: 10.25
        }
    );
    assert_eq!(event.channel(), channel);
    for odd in [
        json!(null),
        json!(0),
        json!(""),
        json!([]),
        json!("text"),
        json!({}),
    ] {
        python.publish(&channel, odd.clone());
        assert_eq!(next(&mut stream).await.json::<Value>().unwrap(), odd);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn events_of_python_keep_their_order_and_reach_patterns() {
    let (bus, mut python, name) = both().await;
    let mut all = bus.stream(&format!("{name}.*")).await.unwrap();
    let channels = [format!("{name}.orders"), format!("{name}.fills")];
    for number in 0..100 {
        python.publish(&channels[number % 2], json!(number));
    }
    for number in 0..100 {
        let event = next(&mut all).await;
        assert_eq!(event.json::<usize>().unwrap(), number);
        assert_eq!(event.channel(), channels[number % 2]);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn python_reads_data_and_attributes_of_our_envelope() {
    let (bus, mut python, channel) = both().await;
    python.subscribe(&channel);
    let context = Context::new().with_correlation_id(CorrelationId::parse("order-77").unwrap());
    let fill = json!({"ticker": "MSFT", "price": 0.1, "name": "größer"});
    context.scope(bus.publish(&channel, &fill)).await.unwrap();
    let seen = python.next_event();
    assert_eq!(seen["data"], fill);
    assert_eq!(seen["specversion"], "1.0");
    assert_eq!(seen["correlationid"], "order-77");
    assert!(seen["id"].as_str().is_some_and(|id| !id.is_empty()));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn python_reads_the_bare_payload_in_plain_mode() {
    let url = shared_redis_url();
    let (mut python, channel) = (Python::start(&url), unique_name("python"));
    let options = EventOptions::default()
        .url(url)
        .envelope(EnvelopeMode::Plain);
    let bus = create_event_bus("redis", options).await.unwrap();
    python.subscribe(&channel);
    let fill = json!({"ticker": "MSFT", "price": 0.1});
    bus.publish(&channel, &fill).await.unwrap();
    assert_eq!(python.next_event(), fill);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn an_event_goes_to_python_and_back() {
    let (bus, mut python, name) = both().await;
    let (there, back) = (format!("{name}.there"), format!("{name}.back"));
    python.subscribe(&there);
    let mut stream = bus.stream(&back).await.unwrap();
    bus.publish(&there, &json!({"n": i64::MAX, "x": 1e-9}))
        .await
        .unwrap();
    let seen = python.next_event();
    // As a forwarder does: the whole envelope is sent on, and is understood again.
    python.publish(&back, seen.clone());
    let event = next(&mut stream).await;
    assert_eq!(
        event.json::<Value>().unwrap(),
        json!({"n": i64::MAX, "x": 1e-9})
    );
    assert_eq!(event.id().to_string(), seen["id"].as_str().unwrap());
    bus.close().await.unwrap();
}
