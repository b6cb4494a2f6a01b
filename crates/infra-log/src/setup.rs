//! Putting it together: `init`, `LogSettings::build` and the handle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing_core::Subscriber;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::collect::Rules;
use crate::error::{Error, ErrorKind};
use crate::filter::LevelSwitch;
use crate::format::{Shape, Style};
use crate::layer::{Destination, LogLayer, next_id};
use crate::level::LevelSpec;
use crate::lines::{Lines, drop_note};
use crate::panic_hook;
use crate::redact::{DENIED, DenyList};
use crate::sampling::Limiter;
use crate::settings::LogSettings;
use crate::writer::{LogStats, Sink};

/// Sets up logging for the whole process: `tracing` events, records of the `log` crate, and, where
/// the settings say so, panics.
///
/// For binaries, and once: a library never calls it.
///
/// # Errors
/// [`ErrorKind::AlreadyInitialized`] when the process has a global subscriber; nothing is changed
/// then. [`ErrorKind::Thread`] when the writer thread cannot be started.
pub fn init(settings: LogSettings) -> Result<LogHandle, Error> {
    let hook = settings.panic_hook;
    let (layer, handle) = settings.build::<Registry>()?;
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| {
        Error::new(
            ErrorKind::AlreadyInitialized,
            "setting up the log",
            "this process already has a global subscriber; call `init` once, in `main`",
        )
    })?;
    bridge_log(&handle);
    if hook {
        panic_hook::install(handle.clone());
    }
    Ok(handle)
}

#[cfg(feature = "log")]
fn bridge_log(handle: &LogHandle) {
    if tracing_log::LogTracer::init().is_err() {
        tracing::warn!("the log crate already has a logger; its records are not in this log");
    }
    limit_log(&handle.level());
}

/// The `log` crate asks its own maximum first; it follows the filter.
#[cfg(feature = "log")]
fn limit_log(spec: &LevelSpec) {
    use tracing_log::AsLog;
    log::set_max_level(spec.max().as_log());
}

#[cfg(not(feature = "log"))]
fn bridge_log(_: &LogHandle) {}

#[cfg(not(feature = "log"))]
fn limit_log(_: &LevelSpec) {}

impl LogSettings {
    /// The layer for a subscriber of your own, and its handle. [`init`] does the rest.
    ///
    /// The level applies to this layer alone.
    ///
    /// # Errors
    /// [`ErrorKind::Thread`] when the writer thread cannot be started.
    pub fn build<S>(self) -> Result<(impl Layer<S> + Send + Sync + 'static, LogHandle), Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let shape = Arc::new(self.shape());
        #[cfg(feature = "otel")]
        let otel = self.otel.clone().map(|otel| otel.prepare(&self));
        let sink = Sink::new(self.output, self.queue_bytes, drop_note(&shape)).map_err(|e| {
            let detail = "the writer thread cannot be started";
            Error::new(ErrorKind::Thread, "setting up the log", detail).with_source(e)
        })?;
        let lines = Arc::new(Lines {
            shape: Arc::clone(&shape),
            sink,
            limiter: self.sampling.map(Limiter::new),
            started: Instant::now(),
        });
        #[cfg(feature = "otel")]
        let telemetry = match otel {
            None => None,
            Some(start) => Some(Arc::new(start(Arc::clone(&lines))?)),
        };
        let level = LevelSwitch::new(self.level, self.span_level);
        let handle = LogHandle {
            level: level.clone(),
            lines: Arc::clone(&lines),
            #[cfg(feature = "otel")]
            telemetry: telemetry.clone(),
        };
        let destination = Destination::Lines(lines);
        let layer = LogLayer {
            shape,
            destination,
            #[cfg(feature = "otel")]
            telemetry,
        };
        Ok((layer.with_filter(level), handle))
    }

    /// How lines are written.
    pub(crate) fn shape(&self) -> Shape {
        self.shape_of(Style::Lines(self.format))
    }

    pub(crate) fn shape_of(&self, style: Style) -> Shape {
        let deny = DENIED
            .iter()
            .copied()
            .chain(self.deny.iter().map(String::as_str));
        let rules = Rules {
            deny: DenyList::new(deny),
            max_value: self.max_value_bytes,
        };
        Shape::new(next_id(), self, style, rules)
    }
}

/// Changes and flushes a running log. Cheap to clone; dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct LogHandle {
    level: LevelSwitch,
    lines: Arc<Lines>,
    #[cfg(feature = "otel")]
    telemetry: Option<Arc<crate::otel::Telemetry>>,
}

impl LogHandle {
    /// Changes which events are written, at once and at every call site.
    pub fn set_level(&self, level: LevelSpec) {
        limit_log(&level);
        self.level.set(level);
    }

    /// Changes which spans are kept, at once and at every call site; `None` for the level of the
    /// events. See [`LogSettings::span_level`].
    pub fn set_span_level(&self, level: Option<LevelSpec>) {
        self.level.set_spans(level);
    }

    /// Which events are written.
    pub fn level(&self) -> LevelSpec {
        (*self.level.get()).clone()
    }

    /// Waits, at most this long, until every line logged before has been written or refused by
    /// the output, and every record for a collector been sent or given up. Blocks the thread;
    /// without a queue and a collector there is nothing to wait for.
    ///
    /// # Errors
    /// [`ErrorKind::FlushTimeout`] when output or collector was too slow; what is left stays
    /// queued.
    pub fn flush(&self, within: Duration) -> Result<(), Error> {
        let until = Instant::now().checked_add(within);
        let late = |what: &str| {
            let detail = format!("{what} within {within:?}");
            Error::new(ErrorKind::FlushTimeout, "flushing the log", detail)
        };
        if !self.lines.flush(within) {
            return Err(late("the output did not take all lines"));
        }
        let left = until.map_or(within, |until| {
            until.saturating_duration_since(Instant::now())
        });
        match self.flush_telemetry(left) {
            true => Ok(()),
            false => Err(late("the collector did not take all telemetry")),
        }
    }

    /// As [`flush`](Self::flush) before the process may end without warning: does not wait for a
    /// collector that was not there the last time either.
    pub(crate) fn flush_last(&self, within: Duration) {
        self.lines.flush(within);
        #[cfg(feature = "otel")]
        if let Some(telemetry) = &self.telemetry {
            telemetry.flush_last(within);
        }
    }

    #[cfg(feature = "otel")]
    fn flush_telemetry(&self, within: Duration) -> bool {
        let telemetry = self.telemetry.as_ref();
        telemetry.is_none_or(|telemetry| telemetry.flush(within))
    }

    #[cfg(not(feature = "otel"))]
    fn flush_telemetry(&self, _: Duration) -> bool {
        true
    }

    /// What became of the logs and spans for the collector so far; zeros without one.
    #[cfg(feature = "otel")]
    pub fn otel_stats(&self) -> crate::otel::OtelStats {
        let telemetry = self.telemetry.as_ref();
        telemetry.map_or_else(Default::default, |telemetry| telemetry.stats())
    }

    /// How many lines found the queue full so far.
    pub fn dropped(&self) -> u64 {
        self.stats().dropped
    }

    /// What became of the lines so far.
    pub fn stats(&self) -> LogStats {
        self.lines.sink.stats()
    }
}
