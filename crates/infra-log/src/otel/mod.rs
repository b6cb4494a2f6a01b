//! OpenTelemetry: events and spans as OTLP records to a collector.
//!
//! Written here rather than taken from the crates of OpenTelemetry: those are 40 crates before
//! anything can make a request, break together every few months, and do not tell what they lost.
//! The part of OTLP that is needed is small and stable. What a value may look like, which fields a
//! record has and under which keys is decided where it is decided for lines.
//!
//! - `settings`, `endpoint`: where to; `wire`: the messages; `span`: ids and times.
//! - `record`: from events and spans to records.
//! - `queue`: what waits; `export`: the thread that sends; `http`, `tls`: one request.

mod endpoint;
mod export;
mod http;
mod queue;
mod record;
mod settings;
mod span;
#[cfg(feature = "otel-tls")]
mod tls;
pub(crate) mod wire;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::fields::Value;
use crate::format::{Shape, Style};
use crate::lines::Lines;
use crate::settings::LogSettings;
use export::Exporter;
use http::Client;
use queue::{Queue, Record, Signal};
use wire::Part;

pub use settings::{OtelSettings, OtelStats};
pub(crate) use span::SpanTrace;

/// What the layer and its handle share of a collector. The exporter ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Telemetry {
    log: Shape,
    span: Shape,
    queue: Arc<Queue>,
    logs: bool,
    spans: bool,
    /// See [`SpanTrace::begin`].
    threshold: u64,
}

thread_local! {
    /// True on the exporter's thread: what happens there is not sent.
    static MUTED: Cell<bool> = const { Cell::new(false) };
}

fn mute_this_thread() {
    let _ = MUTED.try_with(|muted| muted.set(true));
}

fn is_muted() -> bool {
    MUTED.try_with(Cell::get).unwrap_or(true)
}

impl OtelSettings {
    /// Takes what it needs of the log's settings; the result starts the exporter.
    pub(crate) fn prepare(
        self,
        log: &LogSettings,
    ) -> impl FnOnce(Arc<Lines>) -> Result<Telemetry, Error> + use<> {
        let shape = |part| log.shape_of(Style::Otlp(part));
        let resource = resource(&shape(Part::Resource), log);
        let (log, span) = (shape(Part::Log), shape(Part::Span));
        move |lines| {
            let queue = Arc::new(Queue::new(self.queue_bytes, self.batch, self.interval));
            let client = Client::new(&self);
            let exporter = Exporter {
                queue: Arc::clone(&queue),
                client,
                timeout: self.timeout,
                resource,
                lines,
            };
            start(exporter)?;
            Ok(Telemetry {
                log: log.without_statics(),
                span: span.without_statics(),
                queue,
                logs: self.logs,
                spans: self.spans,
                threshold: span::threshold(self.sampled),
            })
        }
    }
}

fn start(exporter: Exporter) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name("infra-log-otel".into());
    let started = thread.spawn(move || exporter.run());
    started.map(drop).map_err(|error| {
        let detail = "the thread that sends telemetry cannot be started";
        Error::new(ErrorKind::Thread, "setting up the log", detail).with_source(error)
    })
}

/// What this process is: the static fields, a name for the service, and who sends.
fn resource(shape: &Shape, log: &LogSettings) -> Vec<u8> {
    let mut out = shape.statics().to_vec();
    let mut put = |key: &str, value: Value<'_>| {
        if !log.fields.iter().any(|(own, _)| own == key) {
            wire::attribute(&mut out, Part::Resource.attributes(), &[key], value);
        }
    };
    let service = log.fields.iter().rev().find(|(key, _)| key == "service");
    let service = service.map(|(_, name)| Value::from(name));
    put(
        "service.name",
        service.unwrap_or(Value::Text("unknown_service")),
    );
    put("telemetry.sdk.name", Value::Text("infra-log"));
    put("telemetry.sdk.language", Value::Text("rust"));
    put(
        "telemetry.sdk.version",
        Value::Text(env!("CARGO_PKG_VERSION")),
    );
    out
}

impl Telemetry {
    fn push(&self, signal: Signal, scope: &str, bytes: Vec<u8>) {
        let scope = scope.to_owned();
        self.queue.push(signal, Record { scope, bytes });
    }

    /// True when every record that came before was sent or given up. The exporter cannot wait for
    /// itself.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        is_muted() || self.queue.flush(within)
    }

    /// Waits only for a collector that took the last batch.
    pub(crate) fn flush_last(&self, within: Duration) {
        if !self.queue.is_failing() {
            self.flush(within);
        }
    }

    pub(crate) fn stats(&self) -> OtelStats {
        self.queue.stats()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.queue.close();
    }
}
