//! How the log is set up.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use infra_core::context::Value;

use crate::error::{Error, ErrorKind};
use crate::format::Schema;
use crate::level::LevelSpec;
use crate::sampling::Sampling;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// One flat JSON object a line, for machines.
    Json,
    /// Aligned, coloured on a terminal, for people. The default.
    #[default]
    Console,
    /// `key=value` pairs.
    Logfmt,
}

impl FromStr for Format {
    type Err = Error;

    /// Reads `json`, `console` or `logfmt` in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.trim().to_ascii_lowercase().as_str() {
            "json" => Ok(Format::Json),
            "console" => Ok(Format::Console),
            "logfmt" => Ok(Format::Logfmt),
            _ => Err(Error::new(
                ErrorKind::InvalidSetting,
                "reading the log format",
                format!("{text:?} is no format; use one of json, console, logfmt"),
            )),
        }
    }
}

/// Whether the console format is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal. The default.
    #[default]
    Auto,
    /// Always, also into a pipe or a file.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Decides: `Auto` colours a terminal unless `NO_COLOR` is set and not empty
    /// (<https://no-color.org>). This crate never reads the environment; pass the variable here.
    pub fn resolve(self, is_terminal: bool, no_color: Option<&OsStr>) -> bool {
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && no_color.is_none_or(OsStr::is_empty),
        }
    }
}

/// Where lines go.
#[non_exhaustive]
pub enum Output {
    /// The standard output. The default.
    Stdout,
    /// The standard error.
    Stderr,
    /// Anything that takes bytes; gets one `write_all` a line, or a batch of lines.
    Custom(Box<dyn io::Write + Send>),
}

impl Output {
    fn is_terminal(&self) -> bool {
        match self {
            Output::Stdout => io::stdout().is_terminal(),
            Output::Stderr => io::stderr().is_terminal(),
            Output::Custom(_) => false,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Stdout => "Stdout",
            Output::Stderr => "Stderr",
            Output::Custom(_) => "Custom",
        })
    }
}

/// How the log is set up. Every setting has a default; see the methods.
///
/// ```no_run
/// use infra_log::{Format, LevelSpec, LogSettings};
///
/// let log = infra_log::init(
///     LogSettings::new()
///         .level("info,infra_state=debug".parse()?)
///         .format(Format::Json)
///         .field("service", "trading-desk"),
/// )?;
/// tracing::info!(bots = 5, "started");
/// log.set_level(LevelSpec::DEBUG);
/// # Ok::<(), infra_log::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "settings do nothing until passed to `init` or `build`"]
pub struct LogSettings {
    pub(crate) level: LevelSpec,
    pub(crate) span_level: Option<LevelSpec>,
    pub(crate) format: Format,
    pub(crate) schema: Schema,
    pub(crate) color: ColorChoice,
    pub(crate) output: Output,
    pub(crate) queue_bytes: Option<usize>,
    pub(crate) sampling: Option<Sampling>,
    pub(crate) fields: Vec<(String, Value)>,
    pub(crate) deny: Vec<String>,
    pub(crate) max_value_bytes: usize,
    pub(crate) max_line_bytes: usize,
    pub(crate) panic_hook: bool,
    #[cfg(feature = "otel")]
    pub(crate) otel: Option<crate::otel::OtelSettings>,
}

impl LogSettings {
    /// `INFO` and graver, console format, to the standard output, written directly.
    pub fn new() -> Self {
        LogSettings {
            level: LevelSpec::INFO,
            span_level: None,
            format: Format::Console,
            schema: Schema::Plain,
            color: ColorChoice::Auto,
            output: Output::Stdout,
            queue_bytes: None,
            sampling: None,
            fields: Vec::new(),
            deny: Vec::new(),
            max_value_bytes: 16 * 1024,
            max_line_bytes: 256 * 1024,
            panic_hook: false,
            #[cfg(feature = "otel")]
            otel: None,
        }
    }

    /// Which events are written. Default: [`LevelSpec::INFO`].
    pub fn level(mut self, level: LevelSpec) -> Self {
        self.level = level;
        self
    }

    /// Which spans are kept: their fields stand in the lines inside of them, and they are sent to a
    /// collector. Default: those that the [`level`](Self::level) of the events lets through, so
    /// that with `WARN` an `info_span!` is gone from both.
    pub fn span_level(mut self, level: LevelSpec) -> Self {
        self.span_level = Some(level);
        self
    }

    /// How lines are written. Default: [`Format::Console`].
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The names of the library's own fields in JSON. Default: [`Schema::Plain`].
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = schema;
        self
    }

    /// Whether the console format is coloured. Default: [`ColorChoice::Auto`].
    pub fn color(mut self, color: ColorChoice) -> Self {
        self.color = color;
        self
    }

    /// Where lines go. Default: [`Output::Stdout`].
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Writes on a thread of its own, from a queue of at most `bytes` (at least 4096). When the
    /// queue is full, lines are dropped and their number is written as soon as there is room;
    /// lines of level ERROR are never dropped but wait. Default: no queue, every line is written
    /// by the thread that logs it.
    ///
    /// Call [`LogHandle::flush`](crate::LogHandle::flush) before the process exits.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Writes only some events of a call site that logs very often. Default: all are written.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// A field of every line, such as the service's name. The last one of a key counts.
    pub fn field(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((key.into(), value.into()));
        self
    }

    /// Never prints the values of keys that end in `word`, as of `password`, `token`, `secret`,
    /// `authorization`, `api_key` and some more that are always on the list. Case does not matter,
    /// and `-`, `.` and `_` are the same.
    pub fn deny(mut self, word: impl Into<String>) -> Self {
        self.deny.push(word.into());
        self
    }

    /// The longest text of one value in bytes; longer ones are cut with a mark. Default: 16 KiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The length of a line in bytes after which further fields are left out and counted in
    /// `fields_dropped`. Default: 256 KiB.
    pub fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.max_line_bytes = bytes;
        self
    }

    /// Logs panics, with the context they happened in, before the panic hook that was there.
    /// Default: off.
    pub fn panic_hook(mut self, on: bool) -> Self {
        self.panic_hook = on;
        self
    }

    /// Also sends every event that is written, and every span, to an OpenTelemetry collector. What
    /// every line has as [static fields](Self::field) is sent once as the resource; the field
    /// `service` becomes `service.name`. Default: nothing is sent.
    #[cfg(feature = "otel")]
    pub fn otel(mut self, collector: crate::otel::OtelSettings) -> Self {
        self.otel = Some(collector);
        self
    }

    pub(crate) fn colors(&self) -> bool {
        self.color.resolve(self.output.is_terminal(), None)
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_in_any_case_and_others_refused_with_the_valid_set() {
        assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("console".parse::<Format>().unwrap(), Format::Console);
        let error = "xml".parse::<Format>().unwrap_err();
        assert!(error.to_string().contains("json, console, logfmt"));
    }

    #[test]
    fn colours_are_for_terminals_and_no_color_is_honoured() {
        let set = Some(OsStr::new("1"));
        let empty = Some(OsStr::new(""));
        assert!(ColorChoice::Auto.resolve(true, None));
        assert!(ColorChoice::Auto.resolve(true, empty));
        assert!(!ColorChoice::Auto.resolve(true, set));
        assert!(!ColorChoice::Auto.resolve(false, None));
        assert!(ColorChoice::Always.resolve(false, set));
        assert!(!ColorChoice::Never.resolve(true, None));
    }
}
