use std::time::{Duration, UNIX_EPOCH};

use infra_core::{Context, CorrelationId, TraceParent};
use proptest::prelude::*;

use super::*;
use crate::event::NewEvent;

fn stamped(event: NewEvent) -> Event {
    let at = UNIX_EPOCH + Duration::from_micros(1_769_247_000_123_456);
    let source = Arc::from("desk");
    event.stamp(
        EventId::at(at),
        at,
        Arc::from("orders"),
        &source,
        &Context::empty(),
    )
}

fn round_trip(event: &Event) -> Event {
    decode(
        &Arc::from("orders"),
        encode(event, EnvelopeMode::CloudEvents),
    )
}

fn same(a: &Event, b: &Event) {
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
    assert_eq!((a.time(), a.content_type()), (b.time(), b.content_type()));
    assert_eq!(a.data(), b.data());
    assert_eq!(
        (a.causation_id(), a.traceparent()),
        (b.causation_id(), b.traceparent())
    );
    assert_eq!(
        (a.subject(), a.partition_key()),
        (b.subject(), b.partition_key())
    );
    assert_eq!(a.data_schema(), b.data_schema());
    assert!(a.extensions().eq(b.extensions()));
}

#[test]
fn the_envelope_is_a_cloud_events_object() {
    let event = stamped(
        NewEvent::json(&serde_json::json!({"q": 1}))
            .unwrap()
            .ty("order.filled.v1")
            .correlation_id(CorrelationId::parse("run-1").unwrap()),
    );
    let text = encode(&event, EnvelopeMode::CloudEvents);
    let object: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        object,
        serde_json::json!({
            "specversion": "1.0", "id": event.id().as_str(), "source": "desk",
            "type": "order.filled.v1", "time": "2026-01-24T09:30:00.123456Z",
            "datacontenttype": "application/json", "correlationid": "run-1", "data": {"q": 1},
        })
    );
    assert_eq!(encode(&event, EnvelopeMode::Plain), &b"{\"q\":1}"[..]);
}

#[test]
fn everything_said_about_an_event_survives() {
    let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let event = stamped(
        NewEvent::json("text with \"quotes\" \u{1f4c8}")
            .unwrap()
            .ty("a\"b")
            .subject("Straße 7")
            .partition_key("AAPL")
            .data_schema("urn:x")
            .causation_id(CorrelationId::parse("cause").unwrap())
            .traceparent(trace.unwrap())
            .extension("venue", "XNAS\\")
            .extension("attempt", 3)
            .extension("live", true),
    );
    same(&event, &round_trip(&event));
}

#[test]
fn ev06_any_bytes_arrive_as_they_were() {
    for (content_type, data) in [
        (JSON, &b"{\"a\":1}"[..]),
        (JSON, b" {\"a\":1}\n"),
        (JSON, b"not json"),
        (JSON, b""),
        ("application/octet-stream", &[0, 159, 146, 150]),
        ("application/octet-stream", b""),
        ("text/plain; charset=utf-8", b"\"quoted\"\n\0"),
        ("text/plain", &[0xff]),
        ("application/vnd.x+json", b"[1, 2]"),
    ] {
        let event = stamped(NewEvent::bytes(content_type, data));
        same(&event, &round_trip(&event));
    }
}

#[test]
fn what_is_no_envelope_is_data() {
    for (text, content_type) in [
        (r#"{"symbol":"AAPL"}"#, JSON),
        (r#"{"specversion":"1.0","id":"1"}"#, JSON),
        (
            r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
            JSON,
        ),
        (r#"{"id":7,"type":["x"],"data":1}"#, JSON),
        ("[1,2]", JSON),
        ("42", JSON),
        ("plain words", "text/plain"),
        ("{broken", "text/plain"),
    ] {
        let event = decode(&Arc::from("orders"), Bytes::from(text.to_owned()));
        assert_eq!(event.data(), text.as_bytes());
        assert_eq!(event.content_type(), content_type, "{text}");
        assert_eq!(event.correlation_id(), event.id().as_str());
    }
    let event = decode(&Arc::from("orders"), Bytes::from_static(&[0xff, 0]));
    assert_eq!(event.content_type(), "application/octet-stream");
}

#[test]
fn ev39_bad_ids_of_foreign_envelopes_are_left_out() {
    let text = r#"{"specversion":"1.0","id":"7 7","source":"s","type":"t","time":"later",
        "correlationid":"has space","traceparent":"nonsense","Bad Name":1,"nested":{"a":1},
        "data":{"a":1}}"#;
    let event = decode(&Arc::from("orders"), Bytes::from(text));
    assert_eq!(
        (event.id().as_str(), event.correlation_id()),
        ("7 7", "7 7")
    );
    assert_eq!((event.traceparent(), event.extensions().count()), (None, 0));
    assert_eq!(event.data(), &b"{\"a\":1}"[..]);
    // Neither id can be a correlation id: the handler gets a new one.
    let context = event.context();
    assert_eq!(context.correlation_id().unwrap().as_str().len(), 36);
    assert!(context.causation_id().is_none());
}

#[test]
fn null_attributes_count_as_absent() {
    let text = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":null,
        "time":null,"data":null}"#;
    let event = decode(&Arc::from("orders"), Bytes::from(text));
    assert_eq!((event.id().as_str(), event.subject()), ("1", None));
    assert_eq!(event.data(), "null");
}

proptest! {
    #[test]
    fn decoding_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode(&Arc::from("c"), bytes.into());
    }

    #[test]
    fn decoding_takes_any_json_object_with_our_names(
        fields in prop::collection::btree_map(
            prop::sample::select(vec!["specversion", "id", "source", "type", "time", "data",
                "data_base64", "datacontenttype", "correlationid", "subject", "x"]),
            prop::sample::select(vec!["\"1.0\"", "\"\"", "1", "null", "true", "[]", "{\"a\":1}",
                "\"\\u0000\"", "\"!!\""]),
            0..11,
        ),
    ) {
        let body: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        decode(&Arc::from("c"), Bytes::from(format!("{{{}}}", body.join(","))));
    }
}
