//! From recorded fields to one line: which fields, in which order, under which unique keys.
//!
//! The order is the precedence: reserved > event > span (inner first) > context > static fields.
//! A key is written once; whoever comes later with the same key is left out. A key of the user
//! that equals a reserved one is written as `field.<key>`.

mod console;
mod json;
mod key;
mod logfmt;
mod schema;
mod walk;

use infra_core::context::Value as Bound;
use infra_core::{Context, TraceParent};
use tracing_core::Level;

use crate::collect::{Bounded, Rules, write_masked};
use crate::escape;
use crate::fields::Value;
#[cfg(feature = "otel")]
use crate::otel::wire::{self, Part};
use crate::settings::{Format, LogSettings};
use crate::time::Timestamp;

pub(crate) use key::{Key, Reserved};
pub use schema::Schema;
use schema::{Flags, Names, Trace};
pub(crate) use walk::Walk;

/// How one layer writes its lines. Made once, immutable.
#[derive(Debug)]
pub(crate) struct Shape {
    /// A number of this layer's own: whose rendering a context keeps.
    pub(crate) id: u64,
    pub(crate) style: Style,
    pub(crate) colors: bool,
    pub(crate) rules: Rules,
    pub(crate) reserved: Reserved,
    names: &'static Names,
    /// Fields are left out, and counted, when the line is longer than this in bytes.
    pub(crate) max_line: usize,
    statics: Vec<(String, Bound)>,
    statics_text: Vec<u8>,
}

/// What a shape writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Lines(Format),
    /// Attributes of a message of OTLP.
    #[cfg(feature = "otel")]
    Otlp(Part),
}

impl Style {
    fn names(self, schema: Schema) -> &'static Names {
        match self {
            Style::Lines(Format::Json) => Names::of(schema),
            Style::Lines(Format::Console | Format::Logfmt) => Names::of(Schema::Plain),
            #[cfg(feature = "otel")]
            Style::Otlp(_) => Names::otlp(),
        }
    }

    /// Whether a context may keep what was written of it: only texts are kept.
    fn is_text(self) -> bool {
        matches!(self, Style::Lines(_))
    }
}

/// What every line starts with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) time: Timestamp,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
}

/// Where a field comes from; the console dims what is not the event's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Event,
    Around,
}

impl Shape {
    pub(crate) fn new(id: u64, settings: &LogSettings, style: Style, rules: Rules) -> Self {
        let names = style.names(settings.schema);
        let mut shape = Shape {
            id,
            style,
            colors: settings.colors(),
            rules,
            reserved: Reserved::new(names),
            names,
            max_line: settings.max_line_bytes,
            statics: Vec::new(),
            statics_text: Vec::new(),
        };
        for (key, value) in &settings.fields {
            shape.statics.retain(|(k, _)| k != key);
            shape.statics.push((key.clone(), value.clone()));
        }
        let mut text = Vec::new();
        let own = shape.statics.iter().map(|(k, v)| (k.as_str(), v));
        shape.bound_fields(&mut text, own, |_| false);
        shape.statics_text = text;
        shape
    }

    /// Writes fields whose keys were chosen at run time, except those that `taken` has.
    fn bound_fields<'a>(
        &self,
        out: &mut Vec<u8>,
        fields: impl Iterator<Item = (&'a str, &'a Bound)> + Clone,
        taken: impl Fn(&Key<'_>) -> bool,
    ) {
        for (name, value) in fields.clone() {
            let key = self.key(name);
            let collides = |(other, _): (&str, &Bound)| {
                key.is_renamed() && key.same(&self.key(other)) && other != name
            };
            if taken(&key) || fields.clone().any(collides) {
                continue;
            }
            if self.rules.deny.denies(name) {
                let mask = Value::Text(infra_core::secret::MASK);
                self.field(out, &key, mask, Origin::Around);
            } else if let Value::Text(text) = Value::from(value) {
                let text = self.bounded(text);
                self.field(out, &key, Value::Text(&text), Origin::Around);
            } else {
                self.field(out, &key, Value::from(value), Origin::Around);
            }
        }
    }

    /// The same without the static fields.
    #[cfg(feature = "otel")]
    pub(crate) fn without_statics(mut self) -> Self {
        self.statics.clear();
        self.statics_text.clear();
        self
    }

    /// The static fields as they stand in every line.
    #[cfg(feature = "otel")]
    pub(crate) fn statics(&self) -> &[u8] {
        &self.statics_text
    }

    fn bounded(&self, text: &str) -> String {
        let mut bounded = String::new();
        let write = |out: &mut Bounded<'_>| std::fmt::Write::write_str(out, text);
        write_masked(&mut bounded, self.rules.max_value, write);
        bounded
    }

    /// The ids and fields of a context, as they stand in a line.
    fn context_text(&self, context: &Context, taken: impl Fn(&Key<'_>) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(id) = context.correlation_id() {
            self.own(
                &mut out,
                self.names.correlation_id,
                Value::Text(id.as_str()),
            );
        }
        if let Some(id) = context.causation_id() {
            self.own(&mut out, self.names.causation_id, Value::Text(id.as_str()));
        }
        if let Some(traceparent) = context.traceparent() {
            self.trace(&mut out, traceparent);
        }
        let fields: Vec<_> = context.fields().collect();
        self.bound_fields(&mut out, fields.into_iter(), taken);
        out
    }

    fn trace(&self, out: &mut Vec<u8>, parent: &TraceParent) {
        let (trace_id, span_id, flags) = match &self.names.trace {
            Trace::Whole(name) => return self.own(out, name, Value::Text(&parent.to_string())),
            #[cfg(feature = "otel")]
            Trace::Elsewhere(_) => return,
            Trace::Parts {
                trace_id,
                span_id,
                flags,
            } => (trace_id, span_id, flags),
        };
        self.own(
            out,
            trace_id,
            Value::Text(&format!("{:032x}", parent.trace_id)),
        );
        self.own(
            out,
            span_id,
            Value::Text(&format!("{:016x}", parent.parent_id)),
        );
        match flags {
            Flags::None => {}
            Flags::Hex(name) => self.own(out, name, Value::Text(&format!("{:02x}", parent.flags))),
            Flags::Sampled(name) => self.own(out, name, Value::Bool(parent.flags & 1 == 1)),
        }
    }

    /// A field of the library's own.
    fn own(&self, out: &mut Vec<u8>, name: &'static str, value: Value<'_>) {
        self.field(out, &Key::own(name), value, Origin::Around);
    }

    fn key<'a>(&self, name: &'a str) -> Key<'a> {
        Key::of(&self.reserved, name, "")
    }

    fn head(&self, out: &mut Vec<u8>, head: &Head<'_>, message: Value<'_>) {
        match self.style {
            Style::Lines(Format::Json) => json::head(out, self.names, head, message),
            Style::Lines(Format::Console) => console::head(out, head, message, self.colors),
            Style::Lines(Format::Logfmt) => logfmt::head(out, head, message),
            #[cfg(feature = "otel")]
            Style::Otlp(part) => otlp_head(out, part, head, message),
        }
    }

    fn field(&self, out: &mut Vec<u8>, key: &Key<'_>, value: Value<'_>, origin: Origin) {
        match self.style {
            Style::Lines(Format::Json) => json::field(out, key, value),
            Style::Lines(Format::Console) => console::field(out, key, value, origin, self.colors),
            Style::Lines(Format::Logfmt) => logfmt::field(out, key, value),
            #[cfg(feature = "otel")]
            Style::Otlp(part) => wire::attribute(out, part.attributes(), &key.parts(), value),
        }
    }

    fn list<'a>(
        &self,
        out: &mut Vec<u8>,
        key: &Key<'_>,
        items: impl Iterator<Item = &'a str>,
        origin: Origin,
    ) {
        match self.style {
            Style::Lines(Format::Json) => json::list(out, key, items),
            // Written below the line, see `Walk::finish`.
            Style::Lines(Format::Console) if origin == Origin::Event => {}
            Style::Lines(Format::Console | Format::Logfmt) => logfmt::list(out, key, items),
            #[cfg(feature = "otel")]
            Style::Otlp(part) => wire::list(out, part.attributes(), &key.parts(), items),
        }
    }
}

/// The fields of a `LogRecord` that are no attributes; what a span has instead is written by whoever
/// knows the span.
#[cfg(feature = "otel")]
fn otlp_head(out: &mut Vec<u8>, part: Part, head: &Head<'_>, message: Value<'_>) {
    if part != Part::Log {
        return;
    }
    let nanos = head.time.0.saturating_mul(1000);
    wire::fixed_64(out, 1, nanos);
    wire::number(out, 2, Names::severity(head.level));
    wire::bytes(out, 3, head.level.as_str().as_bytes());
    wire::nested(out, 5, |out| wire::any_value(out, message));
    wire::fixed_64(out, 11, nanos);
}

/// A number, truth value or null, the same in every format.
fn write_scalar(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::I64(v) => escape::write_int(out, v),
        Value::U64(v) => escape::write_int(out, v),
        Value::I128(v) => escape::write_int(out, v),
        Value::U128(v) => escape::write_int(out, v),
        Value::F64(v) => escape::write_float(out, v),
        Value::Text(_) => {}
    }
}
