//! The peers of the log, each with what it needs to do the same work to no output.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;

use logforth::bridge::log::LogBridge;
use logforth::diagnostic::StaticDiagnostic;
use logforth::layout::JsonLayout;
use logforth::record::Record;
use logforth::{Append, Diagnostic, Layout};
use tracing::Dispatch;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;

pub(super) fn fmt_json() -> Dispatch {
    let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
    let layer = layer.with_writer(io::sink).with_filter(LevelFilter::INFO);
    Dispatch::new(registry().with(layer))
}

pub(super) fn fmt_text() -> Dispatch {
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    let layer = layer.with_writer(io::sink).with_filter(LevelFilter::INFO);
    Dispatch::new(registry().with(layer))
}

pub(super) fn json_subscriber() -> Dispatch {
    let mut layer = json_subscriber::JsonLayer::new(io::sink);
    layer.with_timer("timestamp", SystemTime);
    layer.with_level("level");
    layer.with_target("target");
    layer.with_flattened_event();
    layer.with_top_level_flattened_span_list();
    Dispatch::new(registry().with(layer.with_filter(LevelFilter::INFO)))
}

pub(super) fn logfmt() -> Dispatch {
    let layer = tracing_logfmt::builder().with_level(true).with_target(true);
    let layer = layer.with_span_name(false).with_span_path(false).layer();
    let layer = layer.with_writer(io::sink).with_filter(LevelFilter::INFO);
    Dispatch::new(registry().with(layer))
}

/// Behind the `log` crate, whose macros carry the fields.
pub(super) struct Logforth(LogBridge);

impl Logforth {
    pub(super) fn new() -> Self {
        let context = [("bot_id", "bot_001"), ("strategy", "arb")];
        let context = context.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let context = StaticDiagnostic::new(BTreeMap::from(context));
        let logger = logforth::core::builder()
            .dispatch(|d| d.diagnostic(context).append(Nowhere(JsonLayout::default())));
        Logforth(LogBridge::new(logger.build()))
    }

    pub(super) fn event(&self, price: f64, qty: u64, side: &str) {
        log::info!(
            logger: self.0,
            price = black_box(price), qty = black_box(qty), side = black_box(side);
            "order sent"
        );
    }
}

/// Lays out and writes nothing.
#[derive(Debug)]
struct Nowhere(JsonLayout);

impl Append for Nowhere {
    fn append(
        &self,
        record: &Record<'_>,
        diagnostics: &[Box<dyn Diagnostic>],
    ) -> Result<(), logforth::Error> {
        black_box(self.0.format(record, diagnostics)?);
        Ok(())
    }

    fn flush(&self) -> Result<(), logforth::Error> {
        Ok(())
    }
}
