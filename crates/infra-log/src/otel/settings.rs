//! Where telemetry goes, and what it may cost.

use std::time::Duration;

use infra_core::Secret;

use super::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};

/// Sends logs and spans to an OpenTelemetry collector, as OTLP over HTTP with protobuf. See
/// [`LogSettings::otel`](crate::LogSettings::otel) and *OpenTelemetry* on the crate's root page.
///
/// ```
/// use std::time::Duration;
/// use infra_log::{LogSettings, OtelSettings};
///
/// let collector = OtelSettings::new("http://localhost:4318")?
///     .header("x-tenant", "desk")?
///     .timeout(Duration::from_secs(5));
/// let settings = LogSettings::new().field("service", "trading-desk").otel(collector);
/// # Ok::<(), infra_log::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until passed to `LogSettings::otel`"]
pub struct OtelSettings {
    pub(super) endpoint: Endpoint,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) logs: bool,
    pub(super) spans: bool,
    pub(super) sampled: f64,
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    pub(super) queue_bytes: usize,
    pub(super) batch: usize,
    #[cfg(feature = "otel-tls")]
    pub(super) tls: super::tls::Tls,
}

const MIN_QUEUE: usize = 64 << 10;

impl OtelSettings {
    /// The collector's base URL: `http://host[:port][/path]`, port 4318 unless given. Logs are
    /// posted to `/v1/logs` below it, spans to `/v1/traces`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSetting`] for anything else. `https` needs the feature `otel-tls`. A
    /// user name or password in the URL is refused: send a header.
    pub fn new(endpoint: &str) -> Result<Self, Error> {
        let endpoint = Endpoint::parse(endpoint).map_err(refused)?;
        Ok(OtelSettings {
            endpoint,
            headers: Vec::new(),
            logs: true,
            spans: true,
            sampled: 1.0,
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            queue_bytes: 4 << 20,
            batch: 512,
            #[cfg(feature = "otel-tls")]
            tls: super::tls::Tls::default(),
        })
    }

    /// A header of every request, such as `authorization`. Its value is never printed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSetting`] when name or value could not stand in a header.
    pub fn header(mut self, name: &str, value: impl Into<Secret>) -> Result<Self, Error> {
        let value = value.into();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(refused("a header's name is not valid".to_owned()));
        }
        let printable = |b: u8| b == b'\t' || (0x20..0x7f).contains(&b);
        if !value.expose().bytes().all(printable) {
            return Err(refused(format!(
                "the value of the header {name} is not valid"
            )));
        }
        self.headers.push((name.to_owned(), value));
        Ok(self)
    }

    /// Trusts the certificates of this PEM file in place of the system's. The file is read for
    /// each request.
    #[cfg(feature = "otel-tls")]
    pub fn ca_file(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.tls.ca_file = Some(path.into());
        self
    }

    /// Whether log events are sent. Default: yes.
    pub fn logs(mut self, on: bool) -> Self {
        self.logs = on;
        self
    }

    /// Whether spans are sent. Default: yes.
    pub fn spans(mut self, on: bool) -> Self {
        self.spans = on;
        self
    }

    /// The share of traces begun here whose spans are sent, from 0 to 1. A trace that another
    /// process began follows that one's decision; logs are always sent. Default: 1.
    pub fn sampled(mut self, share: f64) -> Self {
        self.sampled = share;
        self
    }

    /// How long one batch may take, repetitions included; then it is given up and counted.
    /// Default: 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How long a record may wait for company. Default: 1 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The most that waits to be sent, in bytes; at least 64 KiB. What finds no room is dropped
    /// and counted; nobody waits. Default: 4 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes.max(MIN_QUEUE);
        self
    }

    /// The most records of one kind in a request; at least 1. Default: 512.
    pub fn batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }
}

fn refused(reason: String) -> Error {
    Error::new(
        ErrorKind::InvalidSetting,
        "reading the OpenTelemetry settings",
        reason,
    )
}

/// What became of the logs and spans for the collector so far. The numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OtelStats {
    /// Taken by the collector.
    pub sent: u64,
    /// Found the queue full.
    pub dropped: u64,
    /// Given up: the collector was not reached in time, or refused the request.
    pub failed: u64,
    /// Sent in a request that was taken, but not taken themselves.
    pub rejected: u64,
}

impl OtelStats {
    /// All that is missing at the collector. After a time limit or a cut connection some of it
    /// may have arrived all the same.
    pub fn lost(&self) -> u64 {
        self.dropped + self.failed + self.rejected
    }
}
