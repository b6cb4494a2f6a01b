//! Under which names the library's own fields stand in JSON.

use std::str::FromStr;

use tracing_core::Level;

use crate::error::{Error, ErrorKind};

/// The names of the library's own fields in JSON, as the system that reads the lines expects them.
/// Fields of the application keep their names at the root in every schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Schema {
    /// `timestamp`, `level`, `message`, `target`, `correlation_id`, `causation_id`,
    /// `traceparent`. The default.
    #[default]
    Plain,
    /// Elastic Common Schema, <https://www.elastic.co/docs/reference/ecs>: `@timestamp`,
    /// `log.level`, `message`, `ecs.version`, `log.logger`, `labels.correlation_id`, `trace.id`.
    /// Name the service as ECS does: `.field("service.name", ..)`.
    Ecs,
    /// OpenTelemetry's names for logs that are not sent over OTLP: `severity_text`,
    /// `severity_number`, `body`, `otel.scope.name`, `trace_id`, `span_id`, `trace_flags`.
    Otel,
    /// Google Cloud Logging: `time`, `severity`, `message`, `logging.googleapis.com/trace`,
    /// `logging.googleapis.com/spanId`, `logging.googleapis.com/trace_sampled`.
    Gcp,
    /// Datadog: `timestamp`, `status`, `message`, `logger.name`, `trace_id`, `span_id`. Name the
    /// service with `.field("service", ..)`, and so `env` and `version`.
    Datadog,
}

impl FromStr for Schema {
    type Err = Error;

    /// Reads `plain`, `ecs`, `otel`, `gcp` or `datadog` in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim().to_ascii_lowercase().as_str() {
            "plain" => Ok(Schema::Plain),
            "ecs" => Ok(Schema::Ecs),
            "otel" => Ok(Schema::Otel),
            "gcp" => Ok(Schema::Gcp),
            "datadog" => Ok(Schema::Datadog),
            _ => Err(Error::new(
                ErrorKind::InvalidSetting,
                "reading the log schema",
                format!("{text:?} is no schema; use one of plain, ecs, otel, gcp, datadog"),
            )),
        }
    }
}

/// The names of one schema.
#[derive(Debug)]
pub(crate) struct Names {
    pub(super) timestamp: &'static str,
    pub(super) level: &'static str,
    /// The words for TRACE, DEBUG, INFO, WARN and ERROR.
    levels: [&'static str; 5],
    /// A number beside the word, 1 to 24.
    pub(super) severity_number: Option<&'static str>,
    pub(super) message: &'static str,
    pub(super) target: &'static str,
    /// A field with a fixed value.
    pub(super) version: Option<(&'static str, &'static str)>,
    pub(super) correlation_id: &'static str,
    pub(super) causation_id: &'static str,
    pub(super) trace: Trace,
}

/// How a W3C `traceparent` is written.
#[derive(Debug)]
pub(super) enum Trace {
    Whole(&'static str),
    /// In fields of the message that are no attributes; the name is reserved all the same.
    #[cfg(feature = "otel")]
    Elsewhere(&'static str),
    Parts {
        trace_id: &'static str,
        span_id: &'static str,
        flags: Flags,
    },
}

#[derive(Debug)]
pub(super) enum Flags {
    None,
    Hex(&'static str),
    Sampled(&'static str),
}

/// Added by the library to any line that needs them.
pub(super) const FIELDS_DROPPED: &str = "fields_dropped";
pub(super) const SUPPRESSED: &str = "suppressed";

impl Names {
    pub(crate) fn of(schema: Schema) -> &'static Names {
        match schema {
            Schema::Plain => const { &PLAIN },
            Schema::Ecs => &ECS,
            Schema::Otel => &OTEL,
            Schema::Gcp => &GCP,
            Schema::Datadog => &DATADOG,
        }
    }

    /// The names of attributes in OTLP: those of [`Schema::Plain`], so that a field has one name in
    /// a line and in a record.
    #[cfg(feature = "otel")]
    pub(crate) fn otlp() -> &'static Names {
        static OTLP: Names = Names {
            trace: Trace::Elsewhere("traceparent"),
            ..PLAIN
        };
        &OTLP
    }

    /// OpenTelemetry's number of a level.
    pub(super) fn severity(level: Level) -> u64 {
        match level {
            Level::TRACE => 1,
            Level::DEBUG => 5,
            Level::INFO => 9,
            Level::WARN => 13,
            Level::ERROR => 17,
        }
    }

    pub(super) fn level_word(&self, level: Level) -> &'static str {
        let [trace, debug, info, warn, error] = self.levels;
        match level {
            Level::TRACE => trace,
            Level::DEBUG => debug,
            Level::INFO => info,
            Level::WARN => warn,
            Level::ERROR => error,
        }
    }

    /// All keys that are the library's own.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let (trace_id, span_id, flags) = match &self.trace {
            Trace::Whole(name) => (*name, None, None),
            #[cfg(feature = "otel")]
            Trace::Elsewhere(name) => (*name, None, None),
            Trace::Parts {
                trace_id,
                span_id,
                flags,
            } => (*trace_id, Some(*span_id), flags.name()),
        };
        let always = [
            // The macros' own key, whatever the schema calls it.
            "message",
            self.message,
            self.timestamp,
            self.level,
            self.target,
            self.correlation_id,
            self.causation_id,
            trace_id,
            FIELDS_DROPPED,
            SUPPRESSED,
        ];
        let version = self.version.map(|(name, _)| name);
        let some = [span_id, flags, self.severity_number, version];
        always.into_iter().chain(some.into_iter().flatten())
    }
}

impl Flags {
    fn name(&self) -> Option<&'static str> {
        match self {
            Flags::None => None,
            Flags::Hex(name) | Flags::Sampled(name) => Some(name),
        }
    }
}

const UPPER: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
const LOWER: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

const PLAIN: Names = Names {
    timestamp: "timestamp",
    level: "level",
    levels: UPPER,
    severity_number: None,
    message: "message",
    target: "target",
    version: None,
    correlation_id: "correlation_id",
    causation_id: "causation_id",
    trace: Trace::Whole("traceparent"),
};

static ECS: Names = Names {
    timestamp: "@timestamp",
    level: "log.level",
    levels: LOWER,
    severity_number: None,
    message: "message",
    target: "log.logger",
    version: Some(("ecs.version", "8.11.0")),
    correlation_id: "labels.correlation_id",
    causation_id: "labels.causation_id",
    trace: Trace::Parts {
        trace_id: "trace.id",
        span_id: "span.id",
        flags: Flags::None,
    },
};

static OTEL: Names = Names {
    timestamp: "timestamp",
    level: "severity_text",
    levels: UPPER,
    severity_number: Some("severity_number"),
    message: "body",
    target: "otel.scope.name",
    version: None,
    correlation_id: "correlation_id",
    causation_id: "causation_id",
    trace: Trace::Parts {
        trace_id: "trace_id",
        span_id: "span_id",
        flags: Flags::Hex("trace_flags"),
    },
};

static GCP: Names = Names {
    timestamp: "time",
    level: "severity",
    levels: ["DEBUG", "DEBUG", "INFO", "WARNING", "ERROR"],
    severity_number: None,
    message: "message",
    target: "target",
    version: None,
    correlation_id: "correlation_id",
    causation_id: "causation_id",
    trace: Trace::Parts {
        trace_id: "logging.googleapis.com/trace",
        span_id: "logging.googleapis.com/spanId",
        flags: Flags::Sampled("logging.googleapis.com/trace_sampled"),
    },
};

static DATADOG: Names = Names {
    timestamp: "timestamp",
    level: "status",
    levels: LOWER,
    severity_number: None,
    message: "message",
    target: "logger.name",
    version: None,
    correlation_id: "correlation_id",
    causation_id: "causation_id",
    trace: Trace::Parts {
        trace_id: "trace_id",
        span_id: "span_id",
        flags: Flags::None,
    },
};
