//! From recorded fields to one line: which fields, in which order, under which unique keys.
//!
//! The order is the precedence: reserved > event > span (inner first) > context > static fields.
//! A key is written once; whoever comes later with the same key is left out. A key of the user
//! that equals a reserved one is written as `field.<key>`.

mod console;
mod json;
mod logfmt;

use infra_core::Context;
use infra_core::context::Value as Bound;
use tracing_core::Level;

use crate::collect::{Bounded, Rules, write_masked};
use crate::escape;
use crate::fields::{Fields, Stored, Value};
use crate::settings::Format;
use crate::time::Timestamp;

const RENAMED: &str = "field.";

/// The keys that are the library's own.
fn is_reserved(key: &str) -> bool {
    matches!(
        key,
        "timestamp"
            | "level"
            | "target"
            | "message"
            | "correlation_id"
            | "causation_id"
            | "traceparent"
            | "fields_dropped"
    )
}

/// How one layer writes its lines. Made once, immutable.
#[derive(Debug)]
pub(crate) struct Shape {
    /// A number of this layer's own: whose rendering a context keeps.
    pub(crate) id: u64,
    pub(crate) format: Format,
    pub(crate) colors: bool,
    pub(crate) rules: Rules,
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

/// A key in its parts, so that renaming costs no allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    prefix: &'static str,
    name: &'a str,
    suffix: &'static str,
}

impl<'a> Key<'a> {
    pub(crate) fn of(name: &'a str, suffix: &'static str) -> Self {
        let reserved = suffix.is_empty() && is_reserved(name);
        Key {
            prefix: if reserved { RENAMED } else { "" },
            name,
            suffix,
        }
    }

    fn is_plain(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty()
    }

    fn same(&self, other: &Key<'_>) -> bool {
        if self.is_plain() && other.is_plain() {
            return self.name == other.name;
        }
        let bytes = |k: &Key<'a>| [k.prefix, k.name, k.suffix];
        let others = [other.prefix, other.name, other.suffix];
        let mine = bytes(self).into_iter().flat_map(str::bytes);
        mine.eq(others.into_iter().flat_map(str::bytes))
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.prefix, self.name, self.suffix)
    }
}

impl Shape {
    pub(crate) fn new(
        id: u64,
        format: Format,
        colors: bool,
        rules: Rules,
        max_line: usize,
        fields: &[(String, Bound)],
    ) -> Self {
        let mut shape = Shape {
            id,
            format,
            colors,
            rules,
            max_line,
            statics: Vec::new(),
            statics_text: Vec::new(),
        };
        for (key, value) in fields {
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
            let key = Key::of(name, "");
            let collides = |(other, _): (&str, &Bound)| {
                !key.prefix.is_empty() && key.same(&Key::of(other, "")) && other != name
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
        let mut id = |name: &'static str, text: &str| {
            let key = Key {
                prefix: "",
                name,
                suffix: "",
            };
            self.field(&mut out, &key, Value::Text(text), Origin::Around);
        };
        if let Some(correlation) = context.correlation_id() {
            id("correlation_id", correlation.as_str());
        }
        if let Some(causation) = context.causation_id() {
            id("causation_id", causation.as_str());
        }
        if let Some(traceparent) = context.traceparent() {
            id("traceparent", &traceparent.to_string());
        }
        let fields: Vec<_> = context.fields().collect();
        self.bound_fields(&mut out, fields.into_iter(), taken);
        out
    }

    fn head(&self, out: &mut Vec<u8>, head: &Head<'_>, message: Value<'_>) {
        match self.format {
            Format::Json => json::head(out, head, message),
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

    fn list<'a>(&self, out: &mut Vec<u8>, key: &Key<'_>, items: impl Iterator<Item = &'a str>) {
        match self.format {
            Format::Json => json::list(out, key, items),
            // Written below the line, see `Walk::finish`.
            Format::Console => {}
            Format::Logfmt => logfmt::list(out, key, items),
        }
    }
}

/// Writes one line, field by field, and remembers which keys it has.
pub(crate) struct Walk<'a> {
    shape: &'a Shape,
    out: &'a mut Vec<u8>,
    seen: &'a mut Vec<Key<'static>>,
    dropped: u64,
}

impl<'a> Walk<'a> {
    /// Starts the line: `out` and `seen` are empty.
    pub(crate) fn start(
        shape: &'a Shape,
        out: &'a mut Vec<u8>,
        seen: &'a mut Vec<Key<'static>>,
        head: &Head<'_>,
        event: &Fields,
    ) -> Self {
        let message = event.message.as_ref();
        let message = message.map_or(Value::Text(""), |m| event.value(m));
        shape.head(out, head, message);
        let mut walk = Walk {
            shape,
            out,
            seen,
            dropped: 0,
        };
        walk.fields(event, Origin::Event);
        walk
    }

    /// The fields of a span around the event; the innermost comes first.
    pub(crate) fn span(&mut self, span: &Fields) {
        if let Some(message) = &span.message {
            self.stored(span, "message", message, Origin::Around);
        }
        self.fields(span, Origin::Around);
    }

    fn fields(&mut self, fields: &Fields, origin: Origin) {
        for (name, stored) in fields.entries() {
            self.stored(fields, name, stored, origin);
        }
    }

    fn stored(&mut self, fields: &Fields, name: &'static str, stored: &Stored, origin: Origin) {
        let Stored::Error { kind, chain, .. } = stored else {
            if self.claim(Key::of(name, "")) {
                let key = Key::of(name, "");
                self.shape
                    .field(self.out, &key, fields.value(stored), origin);
            }
            return;
        };
        let message = Key::of(name, ".message");
        if self.claim(message) {
            self.shape
                .field(self.out, &message, fields.value(stored), origin);
        }
        if let Some(kind) = kind {
            let key = Key::of(name, ".type");
            if self.claim(key) {
                self.shape.field(self.out, &key, Value::Text(kind), origin);
            }
        }
        let key = Key::of(name, ".chain");
        if !chain.is_empty() && self.claim(key) {
            self.shape.list(self.out, &key, fields.chain(chain));
        }
    }

    /// True when the key is still free and there is room for it.
    fn claim(&mut self, key: Key<'static>) -> bool {
        if self.seen.iter().any(|k| k.same(&key)) {
            return false;
        }
        if self.out.len() > self.shape.max_line {
            self.dropped += 1;
            return false;
        }
        self.seen.push(key);
        true
    }

    /// The context, the static fields and the end of the line.
    pub(crate) fn finish(mut self, context: &Context, event: &Fields) {
        self.context(context);
        self.statics(context);
        if self.dropped > 0 {
            let key = Key {
                prefix: "",
                name: "fields_dropped",
                suffix: "",
            };
            let dropped = Value::U64(self.dropped);
            self.shape.field(self.out, &key, dropped, Origin::Around);
        }
        if self.shape.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
        if self.shape.format == Format::Console {
            for (_, stored) in event.entries() {
                if let Stored::Error { chain, .. } = stored {
                    console::causes(self.out, event.chain(chain));
                }
            }
        }
    }

    fn context(&mut self, context: &Context) {
        let shape = self.shape;
        let taken = |key: &Key<'_>| self.seen.iter().any(|k| k.same(key));
        let collides = context.fields().any(|(name, _)| taken(&Key::of(name, "")));
        let render = |context: &Context| {
            String::from_utf8(shape.context_text(context, |_| false)).unwrap_or_default()
        };
        match context.rendered(shape.id, render) {
            Some(text) if !collides => self.out.extend_from_slice(text.as_bytes()),
            _ => {
                let text = shape.context_text(context, taken);
                self.out.extend_from_slice(&text);
            }
        }
    }

    fn statics(&mut self, context: &Context) {
        let shape = self.shape;
        let taken = |key: &Key<'_>| {
            self.seen.iter().any(|k| k.same(key))
                || context.fields().any(|(k, _)| Key::of(k, "").same(key))
        };
        let statics = shape.statics.iter().map(|(k, v)| (k.as_str(), v));
        if statics.clone().any(|(name, _)| taken(&Key::of(name, ""))) {
            let mut text = Vec::new();
            shape.bound_fields(&mut text, statics, taken);
            self.out.extend_from_slice(&text);
        } else {
            self.out.extend_from_slice(&shape.statics_text);
        }
    }
}

/// A number, truth value or null, the same in every format; false for a text.
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
