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
    pub(crate) format: Format,
    pub(crate) colors: bool,
    pub(crate) rules: Rules,
    pub(crate) reserved: Reserved,
    names: &'static Names,
    /// Fields are left out, and counted, when the line is longer than this in bytes.
    pub(crate) max_line: usize,
    statics: Vec<(String, Bound)>,
    statics_text: Vec<u8>,
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
    pub(crate) fn new(id: u64, settings: &LogSettings, colors: bool, rules: Rules) -> Self {
        let names = match settings.format {
            Format::Json => Names::of(settings.schema),
            Format::Console | Format::Logfmt => Names::of(Schema::Plain),
        };
        let mut shape = Shape {
            id,
            format: settings.format,
            colors,
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
        match self.format {
            Format::Json => json::head(out, self.names, head, message),
            Format::Console => console::head(out, head, message, self.colors),
            Format::Logfmt => logfmt::head(out, head, message),
        }
    }

    fn field(&self, out: &mut Vec<u8>, key: &Key<'_>, value: Value<'_>, origin: Origin) {
        match self.format {
            Format::Json => json::field(out, key, value),
            Format::Console => console::field(out, key, value, origin, self.colors),
            Format::Logfmt => logfmt::field(out, key, value),
        }
    }

    fn list<'a>(
        &self,
        out: &mut Vec<u8>,
        key: &Key<'_>,
        items: impl Iterator<Item = &'a str>,
        origin: Origin,
    ) {
        match (self.format, origin) {
            (Format::Json, _) => json::list(out, key, items),
            // Written below the line, see `Walk::finish`.
            (Format::Console, Origin::Event) => {}
            (Format::Console, Origin::Around) | (Format::Logfmt, _) => {
                logfmt::list(out, key, items);
            }
        }
    }
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
