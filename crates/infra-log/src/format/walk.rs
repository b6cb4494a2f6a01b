//! One line from its parts, each key once.

use infra_core::Context;

use super::key::Key;
use super::schema::{FIELDS_DROPPED, SUPPRESSED};
use super::{Head, Origin, Shape, Style, console};
use crate::fields::{Fields, Stored, Value};
use crate::settings::Format;

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
            return self.put(self.key(name, ""), fields.value(stored), origin);
        };
        self.put(self.key(name, ".message"), fields.value(stored), origin);
        if let Some(kind) = kind {
            self.put(self.key(name, ".type"), Value::Text(kind), origin);
        }
        let key = self.key(name, ".chain");
        if !chain.is_empty() && self.claim(key) {
            let items = fields.chain(chain);
            self.shape.list(self.out, &key, items, origin);
        }
    }

    fn put(&mut self, key: Key<'static>, value: Value<'_>, origin: Origin) {
        if self.claim(key) {
            self.shape.field(self.out, &key, value, origin);
        }
    }

    fn key<'k>(&self, name: &'k str, suffix: &'static str) -> Key<'k> {
        Key::of(&self.shape.reserved, name, suffix)
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

    /// The context, the static fields and the end of the line; `suppressed` events of the same
    /// call site were not written before this one.
    pub(crate) fn finish(mut self, context: &Context, event: &Fields, suppressed: u64) {
        self.context(context);
        self.statics(context);
        self.count(FIELDS_DROPPED, self.dropped);
        self.count(SUPPRESSED, suppressed);
        match self.shape.style {
            Style::Lines(Format::Json) => self.out.extend_from_slice(b"}\n"),
            Style::Lines(Format::Logfmt) => self.out.push(b'\n'),
            Style::Lines(Format::Console) => {
                self.out.push(b'\n');
                self.causes(event);
            }
            #[cfg(feature = "otel")]
            Style::Otlp(_) => {}
        }
    }

    fn causes(&mut self, event: &Fields) {
        for (_, stored) in event.entries() {
            if let Stored::Error { chain, .. } = stored {
                console::causes(self.out, event.chain(chain));
            }
        }
    }

    fn count(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            let key = Key::own(name);
            self.shape
                .field(self.out, &key, Value::U64(count), Origin::Around);
        }
    }

    fn context(&mut self, context: &Context) {
        let shape = self.shape;
        let taken = |key: &Key<'_>| self.seen.iter().any(|k| k.same(key));
        let collides = context.fields().any(|(name, _)| taken(&self.key(name, "")));
        let render = |context: &Context| {
            String::from_utf8(shape.context_text(context, |_| false)).unwrap_or_default()
        };
        let kept = match shape.style.is_text() && !collides {
            true => context.rendered(shape.id, render),
            false => None,
        };
        match kept {
            Some(text) => self.out.extend_from_slice(text.as_bytes()),
            None => {
                let text = shape.context_text(context, taken);
                self.out.extend_from_slice(&text);
            }
        }
    }

    fn statics(&mut self, context: &Context) {
        let shape = self.shape;
        let taken = |key: &Key<'_>| {
            self.seen.iter().any(|k| k.same(key))
                || context.fields().any(|(k, _)| self.key(k, "").same(key))
        };
        let statics = shape.statics.iter().map(|(k, v)| (k.as_str(), v));
        if statics.clone().any(|(name, _)| taken(&self.key(name, ""))) {
            let mut text = Vec::new();
            shape.bound_fields(&mut text, statics, taken);
            self.out.extend_from_slice(&text);
        } else {
            self.out.extend_from_slice(&shape.statics_text);
        }
    }
}
