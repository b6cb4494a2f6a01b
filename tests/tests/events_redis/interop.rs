//! Processes that know nothing of us publish and read on the same channels.

use std::time::Duration;

use infra_events::{EnvelopeMode, EventBus, EventOptions, JSON, NewEvent};
use infra_tests::raw::{RawClient, Reply};
use infra_tests::servers::{shared_redis_url, unique_name};

async fn bus(mode: EnvelopeMode) -> EventBus {
    let options = EventOptions::default()
        .url(shared_redis_url())
        .source("desk")
        .envelope(mode);
    EventBus::connect_with(options).await.unwrap()
}

fn client() -> RawClient {
    RawClient::from_url(&shared_redis_url()).unwrap()
}

/// What another process sees as the payload of the next message.
fn next_message(client: &mut RawClient) -> serde_json::Value {
    let Reply::Array(parts) = client.read().unwrap() else {
        panic!("no message")
    };
    assert_eq!(parts[0].to_text(), "message");
    serde_json::from_str(&parts[2].to_text()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_json_of_a_foreign_process_arrives_as_data() {
    let (bus, channel) = (bus(EnvelopeMode::CloudEvents).await, unique_name("plain"));
    let mut stream = bus.stream(&channel).await.unwrap();
    let sent = r#"{"symbol": "AAPL", "price": 187.5, "id": 7, "type": "trade"}"#;
    client().text(&["PUBLISH", &channel, sent]);
    let event = stream.recv().await.unwrap();
    assert_eq!(event.data(), sent);
    assert_eq!((event.content_type(), event.channel()), (JSON, &*channel));
    assert_eq!(event.json::<serde_json::Value>().unwrap()["price"], 187.5);
    client().text(&["PUBLISH", &channel, "no json at all"]);
    assert_eq!(stream.recv().await.unwrap().content_type(), "text/plain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_process_reads_our_events_as_cloud_events() {
    let (bus, channel) = (bus(EnvelopeMode::CloudEvents).await, unique_name("ours"));
    let mut foreign = client();
    foreign.command(&["SUBSCRIBE", &channel]).unwrap();
    let event = NewEvent::json(&serde_json::json!({"q": 1}))
        .unwrap()
        .ty("fill.v1");
    let published = bus.publish_event(&channel, event).await.unwrap();
    let seen = next_message(&mut foreign);
    assert_eq!(seen["specversion"], "1.0");
    assert_eq!(seen["id"], published.id.as_str());
    assert_eq!(
        (&seen["source"], &seen["type"]),
        (&"desk".into(), &"fill.v1".into())
    );
    assert_eq!(seen["data"], serde_json::json!({"q": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_process_that_knows_no_envelope_is_served_in_plain_mode() {
    let (bus, channel) = (bus(EnvelopeMode::Plain).await, unique_name("bare"));
    let mut foreign = client();
    foreign.command(&["SUBSCRIBE", &channel]).unwrap();
    let mut ours = bus.stream(&channel).await.unwrap();
    let payload = serde_json::json!({"symbol": "AAPL", "quantity": 10});
    bus.publish(&channel, &payload).await.unwrap();
    assert_eq!(next_message(&mut foreign), payload);
    let event = tokio::time::timeout(Duration::from_secs(5), ours.recv()).await;
    assert_eq!(
        event.unwrap().unwrap().json::<serde_json::Value>().unwrap(),
        payload
    );
}
