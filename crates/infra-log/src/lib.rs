//! Structured logs with the context on every line.
//!
//! Log with the macros of [`tracing`](https://docs.rs/tracing); this crate is what they write to.
//! A line has the event's fields, those of the spans around it, and the
//! [context] of the work in hand: correlation id, causation id, trace parent
//! and every field bound at run time. The context lives outside of spans, so no level loses it.
//!
//! ```
//! use infra_log::{Format, LogSettings, context};
//! use tracing::info;
//!
//! let log = infra_log::init(LogSettings::new().format(Format::Json).field("service", "desk"))?;
//!
//! context::Context::new().bind("bot_id", "bot_001").sync_scope(|| {
//!     info!(symbol = "BTC", price = 101.25, "order sent");
//! });
//! // {"timestamp":"2026-11-23T19:48:11.123456Z","level":"INFO","message":"order sent",
//! //  "target":"my_bot","symbol":"BTC","price":101.25,"correlation_id":"0199...",
//! //  "bot_id":"bot_001","service":"desk"}
//!
//! log.set_level("debug,hyper=warn".parse()?);
//! log.flush(std::time::Duration::from_secs(1))?;
//! # Ok::<(), infra_log::Error>(())
//! ```
//!
//! # Contents
//! - **Setting up** (binaries): [`init`], [`LogSettings`], [`LogHandle`]; with a subscriber of
//!   your own: [`LogSettings::build`].
//! - **Which events and spans**: [`LevelSpec`], [`LogSettings::span_level`]; fewer of those that come too often: [`Sampling`].
//! - **How they look**: [`Format`], [`Schema`], [`ColorChoice`]; see *Fields* below.
//! - **Where they go**: [`Output`], [`LogSettings::queue_bytes`], [`LogStats`]; see *Outputs*.
//! - **Traces**: [`traced`], [`trace_parent`]; to a collector: `OtelSettings`; see *OpenTelemetry*.
//! - **Tests**: [`capture`], [`tests_init`].
//! - **Coming from structlog**: the table at the end.
//!
//! # Fields
//! A JSON line is one flat object, and no key stands in it twice. In the order of precedence:
//! the library's own keys (`timestamp`, `level`, `message`, `target`, ids; [`Schema`] can rename
//! them), the event's fields, the fields of its spans with the inner ones first, the context, the
//! [static fields](LogSettings::field). Who comes later with a key that is taken is left out;
//! a key of yours that equals one of the library's is written as `field.<key>`.
//!
//! | recorded | written |
//! |---|---|
//! | numbers, truth values | as they are; `u128` and `i128` beyond 64 bits as text |
//! | `NaN`, infinities | the texts `NaN`, `Infinity`, `-Infinity` |
//! | `None`, `?None` | `null`; `Some(x)` as `x` |
//! | `error = &e as &dyn Error` | `error.message`, `error.chain` (at most 16 sources), `error.type` where it can be known |
//! | `%decimal` | its text, so `1.10` stays `1.10` |
//! | [`Secret`] | `***` |
//! | keys ending in `password`, `token`, `secret`, `api_key`, … or a word of [`LogSettings::deny`] | `***`, the value is never looked at |
//! | URLs in any text | with the password masked |
//! | a `Debug` or `Display` that panics or fails | a marker; the line is whole and so is the next |
//! | line breaks, control and bidirectional characters | escaped, in every format |
//! | texts beyond [`LogSettings::max_value_bytes`] | cut, with the mark `…[cut]` |
//!
//! The context of a line is that of the work in hand. An event that names its parent
//! (`info!(parent: &span, ..)`) has the context in which that span was made.
//!
//! # Outputs
//! By default the thread that logs writes the line, with one write call. With
//! [`queue_bytes`](LogSettings::queue_bytes) a thread writes; call [`LogHandle::flush`] before the
//! process ends. A full queue drops lines below ERROR and says in the log how many. A closed pipe
//! or a full disk never disturbs the application: it is told once on the standard error and
//! counted in [`LogHandle::stats`]. With [`panic_hook`](LogSettings::panic_hook) panics are
//! lines too, written before the earlier hook runs.
//!
//! # OpenTelemetry
//! With the feature `otel`, `LogSettings::otel` sends every event that is written as a log record
//! and every span to a collector, as OTLP over HTTP. A record has the fields of the line, under the
//! same keys and with the same redaction; the static fields are the resource.
//!
//! ```no_run
//! # #[cfg(feature = "otel")] {
//! use infra_log::{LogSettings, OtelSettings};
//!
//! let collector = OtelSettings::new("http://localhost:4318")?;
//! let log = infra_log::init(LogSettings::new().field("service", "desk").otel(collector))?;
//! # }
//! # Ok::<(), infra_log::Error>(())
//! ```
//!
//! - **Traces across processes** are W3C trace parents in the context. A span belongs to the span
//!   around it, or to a trace parent that was bound inside of that one. [`traced`] runs work in a
//!   span and makes that span the trace parent of whatever the work publishes; [`trace_parent`]
//!   gives the header for a request of your own. `tracestate` is not kept.
//! - **Spans**: `otel.name`, `otel.kind` (`server`, `client`, `producer`, `consumer`) and
//!   `otel.status_code` (`ok`, `error`) are read from the span's fields. An event of level ERROR
//!   directly in a span makes its status an error. A span that the level filters out is not sent;
//!   [`LogSettings::span_level`] gives spans a level of their own.
//! - **Nobody waits** for the collector except [`LogHandle::flush`]. A queue bounded in bytes, one
//!   thread, batches with a time limit that covers their repetitions. What is lost is counted in
//!   `LogHandle::otel_stats` and told in the log, once when it begins and once when it is over.
//! - **No loop**: the thread that sends logs nothing that would be sent.
//! - Requests are not compressed and go through no proxy; metrics are not sent.
//!
//! # Features
//! - `log` (default): records of the `log` crate come through the same path.
//! - `otel`: OpenTelemetry, over http. Brings no crate.
//! - `otel-tls`: over https too, with rustls and the certificates of the system.
//!
//! # Coming from structlog
//! | structlog | here |
//! |---|---|
//! | `structlog.configure(...)` | [`init`] with [`LogSettings`] |
//! | `structlog.get_logger(__name__)` | nothing: the macros know their module, as `target` |
//! | `logger.info("order_sent", price=1.5)` | `info!(price = 1.5, "order_sent")` |
//! | `logger.warning(..)`, `logger.error(..)` | `warn!(..)`, `error!(..)` |
//! | `logger.exception(..)`, `exc_info=True` | `error!(error = &e as &dyn Error, ..)` |
//! | `bind_contextvars(bot_id=b)`, `bind_context(..)` | [`context::bind("bot_id", b)`](infra_core::context::bind) and `.scope(future)` or `.sync_scope(code)` |
//! | `bound_contextvars(..)` | the same: the scope restores what was before |
//! | `unbind_contextvars("k")` | `context::current().unbind("k")` |
//! | `clear_contextvars()` | `Context::new().scope(..)`, with a fresh correlation id |
//! | `asyncio.create_task(f())` | [`context::spawn(f())`](infra_core::context::spawn); without the context: `spawn_detached` |
//! | `JSONRenderer`, `ConsoleRenderer` | [`Format::Json`], [`Format::Console`] |
//! | `filter_by_level`, `setLevel` | [`LogSettings::level`], [`LogHandle::set_level`] |
//! | `capture_logs()` | [`capture`] |

mod capture;
mod collect;
mod error;
mod escape;
mod fields;
mod filter;
mod format;
mod layer;
mod level;
mod lines;
#[cfg(feature = "otel")]
mod otel;
mod panic_hook;
mod redact;
mod sampling;
mod settings;
mod setup;
mod time;
mod trace;
mod writer;

// The words without which no line has a context, so that nobody needs another dependency to bind one;
// and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{self, Context, CorrelationId, Secret, TraceParent, context};

pub use capture::{Capture, CapturedEvent, FieldValue, capture, tests_init};
pub use error::{Error, ErrorKind};
pub use format::Schema;
pub use level::LevelSpec;
#[cfg(feature = "otel")]
pub use otel::{OtelSettings, OtelStats};
pub use sampling::Sampling;
pub use settings::{ColorChoice, Format, LogSettings, Output};
pub use setup::{LogHandle, init};
pub use trace::{trace_parent, traced};
pub use writer::LogStats;

#[cfg(test)]
mod tests;
