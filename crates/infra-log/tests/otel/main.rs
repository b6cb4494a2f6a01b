//! OpenTelemetry, against a receiver that the tests run themselves: what arrives, and what happens
//! when the receiver hangs, refuses, dies or is not there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    missing_docs
)]

mod any;
mod receiver;
mod records;
mod traces;
mod troubles;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_log::{Format, LogHandle, LogSettings, OtelSettings, Output};
use tracing_subscriber::layer::SubscriberExt;

use receiver::{Receiver, SOON};

/// An output that keeps everything.
#[derive(Debug, Clone, Default)]
pub struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Settings for a test: no waiting for company.
pub fn collector(url: &str) -> OtelSettings {
    OtelSettings::new(url)
        .unwrap()
        .interval(Duration::from_millis(1))
}

pub fn json() -> LogSettings {
    LogSettings::new().format(Format::Json)
}

/// Runs `code` under a log that also sends to the collector; returns its lines.
pub fn logged(
    settings: LogSettings,
    collector: OtelSettings,
    code: impl FnOnce(&LogHandle),
) -> String {
    let buffer = Buffer::default();
    let settings = settings.output(Output::Custom(Box::new(buffer.clone())));
    let (layer, handle) = settings.otel(collector).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || code(&handle));
    buffer.text()
}

/// What arrives of `code` at a receiver that takes everything.
pub fn received(settings: LogSettings, code: impl FnOnce()) -> Receiver {
    let receiver = Receiver::start();
    logged(settings, collector(&receiver.url()), |handle| {
        code();
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().lost(), 0);
    });
    receiver
}
