//! What stands in a line, and in which order.

use infra_core::CorrelationId;
use infra_core::context::{Context, bind};
use serde_json::json;
use tracing::{error, info, info_span, warn};

use super::{json_line, json_lines, json_settings, logged, strict};
use crate::{ColorChoice, Format, LogSettings};

fn id(text: &str) -> CorrelationId {
    CorrelationId::parse(text).unwrap()
}

#[test]
fn a_line_has_time_level_target_message_fields_and_context() {
    let context = Context::empty()
        .with_correlation_id(id("run-1"))
        .with_causation_id(id("evt-1"))
        .bind("bot_id", "bot_001")
        .bind("day", 3);
    let text = logged(json_settings().field("service", "desk"), |_| {
        context.sync_scope(|| {
            let _span = info_span!("order", symbol = "BTC", qty = 2).entered();
            info!(price = 1.5, side = "buy", "order sent");
        });
    });
    let (time, rest) = text.split_at("{\"timestamp\":\"2026-11-23T19:48:11.123456Z\"".len());
    assert!(time.starts_with("{\"timestamp\":\"20") && time.ends_with("Z\""));
    assert_eq!(
        rest,
        ",\"level\":\"INFO\",\"message\":\"order sent\",\"target\":\"infra_log::tests::lines\",\
         \"price\":1.5,\"side\":\"buy\",\"symbol\":\"BTC\",\"qty\":2,\
         \"correlation_id\":\"run-1\",\"causation_id\":\"evt-1\",\"bot_id\":\"bot_001\",\"day\":3,\
         \"service\":\"desk\"}\n"
    );
}

#[test]
fn trap_06_reserved_keys_are_renamed_and_precedence_keeps_keys_unique() {
    let settings = json_settings()
        .field("k", "static")
        .field("only", "static")
        .field("level", "static")
        .field("target", "static");
    let context = Context::empty()
        .with_correlation_id(id("real"))
        .bind("k", "context")
        .bind("bound", "context")
        .bind("message", "context")
        .bind("level", "context");
    let text = logged(settings, |_| {
        context.sync_scope(|| {
            let _outer = info_span!("outer", k = "outer", s = "outer", o = 1).entered();
            let _inner = info_span!("inner", s = "inner", bound = "inner").entered();
            info!(
                k = "event",
                level = "mine",
                correlation_id = "mine",
                timestamp = 7,
                "m"
            );
        });
    });
    let line = strict(text.trim_end());
    for (key, value) in [
        ("k", json!("event")),
        ("s", json!("inner")),
        ("o", json!(1)),
        ("bound", json!("inner")),
        ("only", json!("static")),
        ("level", json!("INFO")),
        ("field.level", json!("mine")),
        ("field.message", json!("context")),
        ("field.target", json!("static")),
        ("field.timestamp", json!(7)),
        ("correlation_id", json!("real")),
        ("field.correlation_id", json!("mine")),
        ("message", json!("m")),
    ] {
        assert_eq!(line.get(key), Some(&value), "{key} in {text}");
    }
}

#[test]
fn console_is_aligned_and_puts_the_sources_of_an_error_below() {
    let io = std::io::Error::other("disk\nfull");
    let settings = LogSettings::new().format(Format::Console);
    let text = logged(settings, |_| {
        Context::empty().bind("bot", "a b").sync_scope(|| {
            warn!(n = 1, text = "x y", "short");
            error!(error = &io as &dyn std::error::Error, "failed");
        });
    });
    let lines: Vec<&str> = text.lines().map(|l| &l[27..]).collect();
    assert_eq!(
        lines[0],
        " WARN  infra_log::tests::lines: short                            n=1 text=\"x y\" bot=\"a b\""
    );
    assert!(lines[1].contains(" error=\"disk\\nfull\" error.type=std::io::Error bot="));
}

#[test]
fn console_colours_only_when_told_so() {
    let plain = logged(LogSettings::new(), |_| info!(n = 1, "m"));
    assert!(!plain.contains('\x1b'));
    let colored = logged(LogSettings::new().color(ColorChoice::Always), |_| {
        info!(n = 1, "m")
    });
    assert!(colored.contains("\x1b[32mINFO \x1b[0m"));
}

#[test]
fn logfmt_quotes_what_needs_it() {
    let settings = LogSettings::new().format(Format::Logfmt);
    let text = logged(settings, |_| {
        info!(
            a = "x",
            b = "y z",
            c = "q\"=",
            d = "",
            e = true,
            "the message"
        )
    });
    let (_, rest) = text.split_once(' ').unwrap();
    assert_eq!(
        rest,
        "level=INFO target=infra_log::tests::lines message=\"the message\" \
         a=x b=\"y z\" c=\"q\\\"=\" d=\"\" e=true\n"
    );
}

#[test]
fn levels_change_at_run_time_at_existing_call_sites() {
    let text = logged(json_settings(), |handle| {
        for level in ["info", "debug", "off", "infra_log::tests=trace,error"] {
            handle.set_level(level.parse().unwrap());
            tracing::debug!(level_was = level, "same call site");
        }
    });
    let seen: Vec<_> = text
        .lines()
        .map(|l| strict(l)["level_was"].clone())
        .collect();
    assert_eq!(seen, ["debug", "infra_log::tests=trace,error"]);
}

#[test]
fn spans_can_have_a_level_of_their_own() {
    let log = || {
        let _span = info_span!("s", kept = 1).entered();
        tracing::debug_span!("d", gone = 2).in_scope(|| warn!("line"));
        info!("below the level");
    };
    let settings = json_settings().level("warn".parse().unwrap());
    let text = logged(settings.span_level("info".parse().unwrap()), |handle| {
        log();
        handle.set_span_level(Some("debug".parse().unwrap()));
        log();
        handle.set_span_level(None);
        log();
    });
    let fields = |line: &str| {
        let line = strict(line);
        (line.contains_key("kept"), line.contains_key("gone"))
    };
    let seen: Vec<_> = text.lines().map(fields).collect();
    assert_eq!(seen, [(true, false), (true, true), (false, false)]);
}

#[test]
fn fields_recorded_later_replace_the_span_s_own() {
    let line = json_line(|| {
        let span = info_span!("s", a = 1, later = tracing::field::Empty);
        span.record("later", "now").record("a", 2);
        let _in = span.entered();
        info!("m");
    });
    assert_eq!(
        (line["a"].clone(), line["later"].clone()),
        (json!(2), json!("now"))
    );
}

#[test]
fn a_context_is_bound_once_and_stands_in_every_line() {
    let lines = json_lines(|| {
        bind("bot", "a").sync_scope(|| {
            info!("one");
            info!("two");
            bind("day", 1).sync_scope(|| info!("three"));
            info!("four");
        });
        info!("five");
    });
    let bots: Vec<_> = lines.iter().map(|l| l.get("bot").is_some()).collect();
    assert_eq!(bots, [true, true, true, true, false]);
    assert_eq!(lines[2]["day"], json!(1));
    assert!(lines[3].get("day").is_none());
}

#[test]
fn every_schema_uses_the_names_its_reader_expects() {
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = Context::empty()
        .with_correlation_id(id("run-1"))
        .with_traceparent(header.parse().unwrap());
    let trace = "\"0af7651916cd43dd8448eb211c80319c\"";
    for (schema, level, name, rest) in [
        ("plain", "\"level\":\"WARN\"", "severity", format!("\"traceparent\":\"{header}\"")),
        ("ecs", "\"log.level\":\"warn\",\"message\":\"m\",\"ecs.version\":\"8.11.0\"", "log.logger",
            format!("\"labels.correlation_id\":\"run-1\",\"trace.id\":{trace}")),
        ("otel", "\"severity_text\":\"WARN\",\"severity_number\":13,\"body\":\"m\"", "body",
            format!("\"trace_id\":{trace},\"span_id\":\"b7ad6b7169203331\",\"trace_flags\":\"01\"")),
        ("GCP", "\"severity\":\"WARNING\"", "severity",
            "\"logging.googleapis.com/spanId\":\"b7ad6b7169203331\",\"logging.googleapis.com/trace_sampled\":true".to_owned()),
        ("datadog", "\"status\":\"warn\"", "status", format!("\"trace_id\":{trace},\"span_id\"")),
    ] {
        let settings = json_settings().schema(schema.parse().unwrap()).field(name, "user's own");
        let text = logged(settings, |_| context.clone().sync_scope(|| warn!("m")));
        let line = strict(text.trim_end());
        assert!(text.contains(level) && text.contains(&rest), "{schema}: {text}");
        let renamed = format!("field.{name}");
        let key = if schema == "plain" { name } else { &renamed };
        assert_eq!(line[key], "user's own", "{text}");
    }
    assert!("xml".parse::<crate::Schema>().is_err());
}
