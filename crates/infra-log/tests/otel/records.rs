//! What a log record and the resource hold.

use std::error::Error;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use infra_core::context::{Context, CorrelationId, bind};
use infra_core::{Secret, TraceParent};
use infra_log::{ErrorKind, OtelSettings};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tracing::{debug, error, info, info_span, warn};

use super::receiver::{Receiver, SOON, attribute, body, text};
use super::{collector, json, logged, received};

#[test]
fn a_record_has_time_severity_body_scope_fields_spans_and_context() {
    let before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_micros() as u64
        * 1000;
    let receiver = received(json(), || {
        let id = CorrelationId::parse("run-1").unwrap();
        let context = Context::empty().with_correlation_id(id).bind("bot", "a");
        context.sync_scope(|| {
            let _span = info_span!("order", symbol = "BTC", side = "span's").entered();
            warn!(target: "desk", price = 1.5, n = -3, ok = true, side = "event's", "order sent");
            debug!("below the level");
        });
    });
    let logs = receiver.logs();
    assert_eq!(logs.len(), 1);
    let (scope, record) = &logs[0];
    assert_eq!(
        (scope.as_str(), body(record).as_str()),
        ("desk", "order sent")
    );
    assert_eq!(
        (record.severity_number, record.severity_text.as_str()),
        (13, "WARN")
    );
    assert!(record.time_unix_nano >= before);
    assert_eq!(record.observed_time_unix_nano, record.time_unix_nano);
    let of = |key: &str| attribute(&record.attributes, key);
    for (key, value) in [
        ("price", Some(Value::DoubleValue(1.5))),
        ("n", Some(Value::IntValue(-3))),
        ("ok", Some(Value::BoolValue(true))),
        ("side", text("event's")),
        ("symbol", text("BTC")),
        ("correlation_id", text("run-1")),
        ("bot", text("a")),
    ] {
        assert_eq!(of(key), value, "{key}");
    }
    assert_eq!(record.attributes.len(), 7);
}

#[test]
fn values_keep_their_types_and_errors_their_chain() {
    let source = io::Error::other("disk full");
    let receiver = received(json(), || {
        info!(
            wide = u128::MAX,
            big = u64::MAX,
            nan = f64::NAN,
            none = None::<i32>,
            some = ?Some(4),
            decimal = %"1.10",
            error = &source as &dyn Error,
            "m"
        );
    });
    let (_, record) = &receiver.logs()[0];
    let of = |key: &str| attribute(&record.attributes, key);
    assert_eq!(of("wide"), text(&u128::MAX.to_string()));
    assert_eq!(of("big"), text(&u64::MAX.to_string()));
    assert!(matches!(of("nan"), Some(Value::DoubleValue(v)) if v.is_nan()));
    assert_eq!((of("none"), of("some")), (None, Some(Value::IntValue(4))));
    assert_eq!(of("decimal"), text("1.10"));
    assert_eq!(of("error.message"), text("disk full"));
    assert_eq!(of("error.type"), text("std::io::Error"));
}

#[test]
fn static_fields_are_sent_once_as_the_resource_which_names_the_service() {
    let settings = || json().field("service", "desk").field("zone", 3);
    let receiver = received(settings(), || info!("m"));
    let resource = receiver.resource();
    assert_eq!(attribute(&resource, "service.name"), text("desk"));
    assert_eq!(attribute(&resource, "zone"), Some(Value::IntValue(3)));
    assert_eq!(attribute(&resource, "telemetry.sdk.language"), text("rust"));
    assert!(receiver.logs()[0].1.attributes.is_empty());
    let named = received(settings().field("service.name", "other"), || info!("m"));
    let names: Vec<_> = named
        .resource()
        .into_iter()
        .filter(|a| a.key == "service.name")
        .collect();
    assert_eq!(names.len(), 1);
    assert_eq!(attribute(&names, "service.name"), text("other"));
    let unnamed = received(json(), || info!("m")).resource();
    assert_eq!(attribute(&unnamed, "service.name"), text("unknown_service"));
}

#[test]
fn trap_15_nothing_secret_is_sent_or_printed() {
    const CANARY: &str = "canary-4711";
    let receiver = Receiver::start();
    let url = format!("redis://app:{CANARY}@db:6379/0");
    let io = io::Error::other(format!("cannot connect to {url}"));
    let header = format!("Bearer {CANARY}");
    let settings = collector(&receiver.url())
        .header("Authorization", header.as_str())
        .unwrap();
    assert!(!format!("{settings:?}").contains(CANARY));
    let lines = logged(json().field("api_key", CANARY), settings, |handle| {
        let context = bind("access_token", CANARY).bind("url", url.as_str());
        context.sync_scope(|| {
            let _span = info_span!("s", password = CANARY, db = url.as_str()).entered();
            info!(secret = %Secret::from(CANARY), card_pin = %Secret::from(CANARY), "to {url}");
            error!(error = &io as &dyn Error, client_secret = CANARY, "failed");
        });
        handle.flush(SOON).unwrap();
    });
    assert!(!lines.contains(CANARY), "{lines}");
    let requests = receiver.requests();
    assert_eq!((receiver.logs().len(), receiver.spans().len()), (2, 1));
    for request in requests {
        let sent = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!sent.contains(CANARY) && sent.contains("***"), "{sent}");
        assert_eq!(request.header("authorization"), Some(&*header));
        assert_eq!(
            request.header("content-type"),
            Some("application/x-protobuf")
        );
    }
}

#[test]
fn trap_20_the_trace_id_stands_beside_the_correlation_id() {
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let receiver = received(json(), || {
        Context::empty()
            .with_correlation_id(CorrelationId::parse("order-7").unwrap())
            .with_traceparent(TraceParent::parse(header).unwrap())
            .sync_scope(|| info!("m"));
    });
    let (_, record) = &receiver.logs()[0];
    assert_eq!(
        attribute(&record.attributes, "correlation_id"),
        text("order-7")
    );
    let trace_id = 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes();
    assert_eq!(record.trace_id, trace_id);
    assert_eq!(record.span_id, 0xb7ad6b7169203331_u64.to_be_bytes());
    assert_eq!(record.flags, 1);
}

#[test]
fn settings_that_cannot_work_are_refused_without_being_printed() {
    for url in [
        "",
        "canary",
        "ftp://canary",
        "http://u:canary@h",
        "http://h:99999",
    ] {
        let error = OtelSettings::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{url}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let settings = || OtelSettings::new("http://localhost").unwrap();
    for (name, value) in [
        ("", "v"),
        ("a b", "v"),
        ("a\r\nb", "v"),
        ("a", "canary\r\nx: y"),
    ] {
        let error = settings().header(name, value).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert!(settings().header("x-tenant", "desk").is_ok());
}
