//! Whatever the fields are, a JSON line is one line with unique keys.

use infra_core::context::{Context, Value as Bound};
use proptest::prelude::*;
use tracing::{error, info, info_span, warn};

use super::{json_settings, logged, strict};
use crate::{Format, LogSettings, Schema};

/// Keys that collide with each other, with reserved keys and with renamed ones.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "a",
            "b",
            "level",
            "message",
            "timestamp",
            "target",
            "correlation_id",
            "field.level",
            "field.message",
            "fields_dropped",
            "error",
            "error.message",
            "error.chain",
            "traceparent",
            "password",
            "",
            "severity_text",
            "body",
            "status",
            "severity",
            "suppressed",
            "log.level",
            "@timestamp",
            "trace_id",
            "labels.correlation_id",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = Bound> {
    prop_oneof![
        any::<String>().prop_map(Bound::from),
        any::<i64>().prop_map(Bound::from),
        any::<u64>().prop_map(Bound::from),
        any::<f64>().prop_map(Bound::from),
        any::<bool>().prop_map(Bound::from),
    ]
}

fn fields() -> impl Strategy<Value = Vec<(String, Bound)>> {
    prop::collection::vec((key(), value()), 0..6)
}

fn settings(format: Format, statics: &[(String, Bound)], max_line: usize) -> LogSettings {
    let settings = LogSettings::new().format(format).max_line_bytes(max_line);
    let add = |s: LogSettings, (k, v): &(String, Bound)| s.field(k.clone(), v.clone());
    statics.iter().fold(settings, add)
}

/// Events whose static keys collide with everything, around values that are not known before.
fn log_everything(texts: &[String], number: f64, wide: u128) {
    let text = texts.first().map_or("", String::as_str);
    let second = texts.get(1);
    let parse = text.parse::<i32>().err();
    let error = parse.as_ref().map(|e| e as &dyn std::error::Error);
    let _outer = info_span!("outer", a = text, level = 1, "field.level" = 2, b = number).entered();
    let span = info_span!("inner", a = wide, message = text, error, error.chain = 0);
    span.record("a", text);
    let _inner = span.entered();
    info!(a = text, a = number, level = ?second, "field.level" = wide, "{text}");
    warn!({ message = number, timestamp = text, error, error.message = text, c = ?texts }, "twice");
    error!(
        correlation_id = text,
        "we\nird \"key\"" = text,
        password = text
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_fields_give_one_strict_json_line_each(
        bound in fields(),
        statics in fields(),
        texts in prop::collection::vec(any::<String>(), 0..4),
        number in any::<f64>(),
        wide in any::<u128>(),
        max_line in prop_oneof![Just(200usize), Just(100_000)],
    ) {
        let bind = |c: Context, (k, v): &(String, Bound)| c.bind(k.clone(), v.clone());
        let context = bound.iter().fold(Context::new(), bind);
        let text = logged(settings(Format::Json, &statics, max_line), |_| {
            context.clone().sync_scope(|| log_everything(&texts, number, wide));
        });
        prop_assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            let fields = strict(line);
            prop_assert!(["INFO", "WARN", "ERROR"].contains(&fields["level"].as_str().unwrap()));
            prop_assert!(!line.chars().any(crate::escape::is_unsafe));
            let id = context.correlation_id().unwrap();
            prop_assert_eq!(fields["correlation_id"].as_str(), Some(id.as_str()));
        }
        for schema in [Schema::Ecs, Schema::Otel, Schema::Gcp, Schema::Datadog] {
            let settings = settings(Format::Json, &statics, max_line).schema(schema);
            let text = logged(settings, |_| {
                context.clone().sync_scope(|| log_everything(&texts, number, wide));
            });
            prop_assert_eq!(text.lines().map(strict).count(), 3);
        }
        for format in [Format::Logfmt, Format::Console] {
            let text = logged(settings(format, &statics, max_line), |_| {
                context.clone().sync_scope(|| log_everything(&texts, number, wide));
            });
            prop_assert_eq!(text.lines().count(), 3);
            prop_assert!(!text.replace('\n', "").chars().any(crate::escape::is_unsafe));
        }
    }

    #[test]
    fn any_level_text_is_refused_or_read_back_the_same(text in any::<String>()) {
        if let Ok(spec) = text.parse::<crate::LevelSpec>() {
            prop_assert_eq!(spec.to_string().parse::<crate::LevelSpec>().unwrap(), spec);
        }
    }
}

#[test]
fn every_line_of_many_threads_is_whole() {
    for settings in [json_settings(), json_settings().queue_bytes(usize::MAX)] {
        let text = logged(settings, |handle| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let log = |thread| (0..1000).for_each(|n| info!(thread, n, "line"));
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let dispatch = dispatch.clone();
                    scope.spawn(move || {
                        tracing::dispatcher::with_default(&dispatch, || log(thread));
                    });
                }
            });
            handle.flush(std::time::Duration::from_secs(20)).unwrap();
        });
        assert_eq!(text.lines().map(strict).count(), 8000);
    }
}
