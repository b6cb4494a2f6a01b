//! The mistakes that other loggers make; numbers are those of the list of traps.

use std::error::Error;
use std::fmt;
use std::io;

use infra_core::context::{self, Context, CorrelationId, TraceParent, bind};
use infra_core::{Secret, context::Value as Bound};
use serde_json::{Value, json};
use tracing::{error, info, info_span};

use super::{json_line, json_lines, json_settings, logged, strict};
use crate::{ColorChoice, Format, LevelSpec, LogSettings};

/// A value whose `Debug` and `Display` do what the closure does.
struct Does<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Debug for Does<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Does<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

fn all_formats() -> [LogSettings; 4] {
    [
        json_settings(),
        LogSettings::new().format(Format::Logfmt),
        LogSettings::new().format(Format::Console),
        LogSettings::new().color(ColorChoice::Always),
    ]
}

#[test]
fn trap_01_no_level_filter_takes_the_context_away() {
    for level in [
        "trace",
        "debug",
        "info",
        "warn",
        "error",
        "infra_log=error,off",
    ] {
        let settings = json_settings().level(level.parse().unwrap());
        let text = logged(settings, |_| {
            let id = CorrelationId::parse("run-1").unwrap();
            bind("bot", "a").with_correlation_id(id).sync_scope(|| {
                let _span = info_span!("hidden at warn", x = 1).entered();
                error!("failed");
            });
        });
        let line = strict(text.trim_end());
        assert_eq!(
            (&line["correlation_id"], &line["bot"]),
            (&json!("run-1"), &json!("a"))
        );
    }
}

#[test]
fn trap_07_a_panicking_debug_gives_a_marker_and_whole_lines() {
    std::panic::set_hook(Box::new(|_| {}));
    let lines = json_lines(|| {
        let half = Does(|f| {
            f.write_str("half")?;
            panic!("boom")
        });
        let _span = info_span!("s", in_span = ?half).entered();
        info!(before = 1, bad = ?half, after = 2, "whole");
        info!("{half}");
        info!("next");
    });
    drop(std::panic::take_hook());
    assert_eq!(lines[0]["bad"], "<panicked while being formatted>");
    assert_eq!(lines[0]["in_span"], "<panicked while being formatted>");
    assert_eq!(
        (&lines[0]["before"], &lines[0]["after"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(lines[1]["message"], "<panicked while being formatted>");
    assert_eq!(lines[2]["message"], "next");
}

#[test]
fn trap_08_a_failing_debug_gives_a_marker_and_whole_lines() {
    let lines = json_lines(|| {
        let failing = Does(|f| f.write_str("half").and(Err(fmt::Error)));
        info!(bad = ?failing, "whole");
        info!("next");
    });
    assert_eq!(lines[0]["bad"], "<failed to be formatted>");
    assert_eq!(lines[1]["message"], "next");
}

#[test]
fn trap_10_numbers_and_options_keep_their_meaning() {
    let line = json_line(|| {
        info!(
            nan = f64::NAN,
            inf = f64::NEG_INFINITY,
            wide = u128::MAX,
            narrow = 7u128,
            low = i128::MIN,
            big = u64::MAX,
            none = None::<i32>,
            some = Some(4),
            debug_some = ?Some(5),
            debug_text = ?Some("a b"),
            debug_none = ?None::<i32>,
            debug_float = ?Some(1.5),
            decimal = %"1.10",
            yes = true,
            "m"
        );
    });
    for (key, value) in [
        ("nan", json!("NaN")),
        ("inf", json!("-Infinity")),
        ("wide", json!(u128::MAX.to_string())),
        ("narrow", json!(7)),
        ("low", json!(i128::MIN.to_string())),
        ("big", json!(u64::MAX)),
        ("none", Value::Null),
        ("some", json!(4)),
        ("debug_some", json!(5)),
        ("debug_text", json!("a b")),
        ("debug_none", Value::Null),
        ("debug_float", json!(1.5)),
        ("decimal", json!("1.10")),
        ("yes", json!(true)),
    ] {
        assert_eq!(line.get(key), Some(&value), "{key}");
    }
}

#[derive(Debug)]
struct Layered(u32);

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}", self.0)
    }
}

impl Error for Layered {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static LAYERS: [Layered; 3] = [Layered(0), Layered(1), Layered(2)];
        match self.0 {
            99 => Some(&Cyclic),
            n => LAYERS
                .get(n.checked_sub(1)? as usize)
                .map(|e| e as &dyn Error),
        }
    }
}

#[derive(Debug)]
struct Cyclic;

impl fmt::Display for Cyclic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("again")
    }
}

impl Error for Cyclic {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Cyclic)
    }
}

#[test]
fn trap_11_an_error_is_written_with_its_chain_and_a_cyclic_one_ends() {
    let lines = json_lines(|| {
        error!(error = &Layered(3) as &dyn Error, "three");
        error!(error = &Layered(99) as &dyn Error, "cyclic");
        let io = io::Error::from(io::ErrorKind::NotFound);
        error!(
            error = &io as &dyn Error,
            error.message = "late",
            "known type"
        );
    });
    assert_eq!(lines[0]["error.message"], "layer 3");
    assert_eq!(
        lines[0]["error.chain"],
        json!(["layer 2", "layer 1", "layer 0"])
    );
    let chain = lines[1]["error.chain"].as_array().unwrap();
    assert_eq!((chain.len(), chain.last()), (17, Some(&json!("…[cut]"))));
    assert_eq!(lines[2]["error.type"], "std::io::Error");
    assert_eq!(lines[2]["error.message"], "entity not found");
    assert!(lines[2].get("error.chain").is_none());
    let console = logged(LogSettings::new(), |_| {
        error!(error = &Layered(2) as &dyn Error, "m");
    });
    assert!(
        console.ends_with(" error=\"layer 2\"\n    caused by: layer 1\n    caused by: layer 0\n")
    );
}

#[test]
fn trap_12_an_explicit_parent_shows_its_own_request() {
    let context = |id: &str| {
        let id = CorrelationId::parse(id).unwrap();
        Context::empty().with_correlation_id(id)
    };
    let lines = json_lines(|| {
        let theirs = context("theirs").sync_scope(|| info_span!("theirs", request = "theirs"));
        context("mine").sync_scope(|| {
            let _mine = info_span!("mine", request = "mine").entered();
            info!(parent: &theirs, "named");
            info!("current");
            info!(parent: None, "root");
        });
    });
    assert_eq!(
        (&lines[0]["request"], &lines[0]["correlation_id"]),
        (&json!("theirs"), &json!("theirs"))
    );
    assert_eq!(
        (&lines[1]["request"], &lines[1]["correlation_id"]),
        (&json!("mine"), &json!("mine"))
    );
    assert_eq!(
        (lines[2].get("request"), &lines[2]["correlation_id"]),
        (None, &json!("mine"))
    );
}

#[test]
fn trap_13_no_value_starts_a_line_or_moves_the_cursor() {
    let evil = "a\nb\r\u{1b}[2K\u{7f}\u{85}\u{2028}\u{202e}c\0\t\u{9b}31m";
    let io = io::Error::other(evil);
    for settings in all_formats() {
        let colored = settings.color == ColorChoice::Always;
        let text = logged(settings.field("static\n", evil), |_| {
            bind(format!("key{evil}"), evil).sync_scope(|| {
                let _span = info_span!("s", "in\nspan" = evil).entered();
                info!(target: "tar\nget", { "fie\nld" = evil, e = &io as &dyn Error }, "{evil}");
            });
        });
        let text = match colored {
            true => without_colors(&text),
            false => text,
        };
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text:?}");
        let body = text.trim_end_matches('\n');
        assert!(!body.chars().any(crate::escape::is_unsafe), "{body:?}");
        assert!(body.contains("\\n") && !body.contains("a\nb"));
    }
}

/// Without the sequences that this crate itself writes.
fn without_colors(text: &str) -> String {
    let codes = ["0", "1", "2", "31", "32", "33", "34", "35", "36"];
    codes.iter().fold(text.to_owned(), |t, code| {
        t.replace(&format!("\x1b[{code}m"), "")
    })
}

#[test]
fn values_and_lines_are_bounded_and_cut_with_a_mark() {
    let huge = "é".repeat(500_000);
    let endless = Does(|f| {
        loop {
            f.write_str("endless ")?;
        }
    });
    let line = json_line(|| info!(huge, debug = ?endless, message = %huge));
    for key in ["huge", "debug", "message"] {
        let text = line[key].as_str().unwrap();
        assert!(
            text.len() <= 16 * 1024 + 8 && text.ends_with("…[cut]"),
            "{key}"
        );
    }
    let settings = json_settings().max_value_bytes(100).max_line_bytes(400);
    let text = logged(settings, |_| {
        let v = "x".repeat(200);
        bind("ctx", v.as_str()).sync_scope(|| info!(a = v, b = v, c = v, d = v, e = v, f = 1, "m"));
    });
    let line = strict(text.trim_end());
    assert_eq!(line["fields_dropped"], 3);
    assert!(line["ctx"].as_str().unwrap().len() < 120 && text.len() < 1000);
}

#[test]
fn trap_15_secrets_denied_keys_and_url_passwords_never_appear() {
    const CANARY: &str = "canary-4711";
    let secret = Secret::from(CANARY);
    let url = format!("redis://app:{CANARY}@db:6379/0");
    let io = io::Error::other(format!("cannot connect to {url}"));
    let source = Wrapping(io);
    for settings in all_formats() {
        let settings = settings
            .deny("pin")
            .field("api_key", CANARY)
            .field("home", url.as_str());
        let text = logged(settings, |_| {
            let context = bind("access_token", CANARY).bind("url", url.as_str());
            context.sync_scope(|| {
                let _span = info_span!("s", password = CANARY, db = url.as_str()).entered();
                info!(%secret, ?secret, user.password = CANARY, card_pin = CANARY, "to {url}");
                info!(clientSecret = ?Does(|f| f.write_str(CANARY)), x.url = ?url, "m");
                error!(error = &source as &dyn Error, authorization = 5, "failed");
                info!(token = &source as &dyn Error, secret = true, some = ?Some(&url), "m");
            });
        });
        assert!(!text.contains(CANARY), "{text}");
        assert!(text.contains("***") && text.contains("redis://app:***@db:6379/0"));
    }
}

#[derive(Debug)]
struct Wrapping(io::Error);

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "starting: {}", self.0)
    }
}

impl Error for Wrapping {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn trap_20_the_trace_id_stands_beside_the_correlation_id() {
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = Context::empty()
        .with_correlation_id(CorrelationId::parse("order-7").unwrap())
        .with_traceparent(TraceParent::parse(header).unwrap());
    let line = json_line(|| context.sync_scope(|| info!("m")));
    assert_eq!(line["correlation_id"], "order-7");
    assert_eq!(line["traceparent"], header);
}

#[test]
fn trap_04_what_an_event_carries_comes_back_as_context() {
    // A publisher copies the id; a consumer in another process opens a scope with it.
    let sent = CorrelationId::parse("run-1").unwrap();
    let wire = json!({"correlationid": sent.as_str(), "id": "evt-9"}).to_string();
    let received: Value = serde_json::from_str(&wire).unwrap();
    let read = |key: &str| CorrelationId::parse(received[key].as_str().unwrap()).unwrap();
    let context = Context::empty()
        .with_correlation_id(read("correlationid"))
        .with_causation_id(read("id"));
    let line = json_line(|| context.sync_scope(|| info!("handled")));
    assert_eq!(
        (&line["correlation_id"], &line["causation_id"]),
        (&json!("run-1"), &json!("evt-9"))
    );
    for foreign in ["", "a b", "x\n{\"level\":\"INFO\"}", &"x".repeat(129)] {
        assert!(CorrelationId::parse(foreign).is_err());
    }
}

#[test]
fn scalar_context_values_keep_their_types() {
    let context = Context::empty()
        .bind("n", 1)
        .bind("f", f64::INFINITY)
        .bind("b", false)
        .bind("u", Bound::from(u64::MAX));
    let line = json_line(|| context.sync_scope(|| info!("m")));
    assert_eq!(
        [&line["n"], &line["f"], &line["b"], &line["u"]],
        [
            &json!(1),
            &json!("Infinity"),
            &json!(false),
            &json!(u64::MAX)
        ]
    );
}

#[test]
fn two_layers_write_the_same_context_each_in_its_own_way() {
    let context = bind("bot", "a b");
    let json = json_line(|| context.clone().sync_scope(|| info!("m")));
    let console = logged(LogSettings::new().level(LevelSpec::TRACE), |_| {
        context.clone().sync_scope(|| info!("m"));
    });
    assert_eq!(json["bot"], "a b");
    assert!(console.ends_with(" bot=\"a b\"\n"));
    assert!(context::current().is_empty());
}
