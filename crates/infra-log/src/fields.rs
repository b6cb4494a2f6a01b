//! The fields of one event or span as typed values, their texts in one shared buffer.

use std::ops::Range;

/// A value as it was recorded. Texts are ranges into the buffer of their [`Fields`].
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    /// A declared field without a value, or `None`.
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Text(Range<usize>),
    /// An error: its message, its type where known, and a range of [`Fields::parts`] that holds
    /// the messages of its sources.
    Error {
        message: Range<usize>,
        kind: Option<&'static str>,
        chain: Range<usize>,
    },
    /// The value of a key on the deny list; it was never looked at.
    Redacted,
}

/// A value lent to a renderer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F64(f64),
    Text(&'a str),
}

/// The fields of one event or one span. Reused for event after event, so that recording scalar
/// values allocates nothing once the buffers have grown.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) message: Option<Stored>,
    entries: Vec<(&'static str, Stored)>,
    pub(crate) text: String,
    pub(crate) parts: Vec<Range<usize>>,
    compact_beyond: usize,
}

const MIN_COMPACT: usize = 1024;

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.message = None;
        self.entries.clear();
        self.text.clear();
        self.parts.clear();
    }

    pub(crate) fn entries(&self) -> &[(&'static str, Stored)] {
        &self.entries
    }

    pub(crate) fn push(&mut self, name: &'static str, value: Stored) {
        self.entries.push((name, value));
    }

    pub(crate) fn push_text(&mut self, name: &'static str, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.push(name, Stored::Text(start..self.text.len()));
    }

    /// True when `name` was recorded, as a field or as the message.
    pub(crate) fn has(&self, name: &str) -> bool {
        (name == "message" && self.message.is_some()) || self.entries.iter().any(|e| e.0 == name)
    }

    /// Takes over what was recorded later for the same span: newer values replace older ones.
    pub(crate) fn absorb(&mut self, newer: &Fields) {
        for (name, value) in &newer.entries {
            let value = self.adopt(newer, value);
            match self.entries.iter_mut().find(|e| e.0 == *name) {
                Some(entry) => entry.1 = value,
                None => self.entries.push((name, value)),
            }
        }
        if let Some(message) = &newer.message {
            self.message = Some(self.adopt(newer, message));
        }
        if self.text.len() + self.parts.len() > self.compact_beyond.max(MIN_COMPACT) {
            self.compact();
        }
    }

    /// Forgets the texts of replaced values: a span may live and record for ever.
    fn compact(&mut self) {
        let mut compact = Fields::default();
        for (name, value) in &self.entries {
            let value = compact.adopt(self, value);
            compact.entries.push((name, value));
        }
        let message = self.message.as_ref();
        compact.message = message.map(|m| compact.adopt(self, m));
        compact.compact_beyond = 2 * (compact.text.len() + compact.parts.len());
        *self = compact;
    }

    fn adopt(&mut self, from: &Fields, value: &Stored) -> Stored {
        match value {
            Stored::Text(range) => Stored::Text(self.adopt_text(from, range)),
            Stored::Error {
                message,
                kind,
                chain,
            } => {
                let message = self.adopt_text(from, message);
                let start = self.parts.len();
                for part in from.parts.get(chain.clone()).unwrap_or_default() {
                    let part = self.adopt_text(from, part);
                    self.parts.push(part);
                }
                Stored::Error {
                    message,
                    kind: *kind,
                    chain: start..self.parts.len(),
                }
            }
            scalar => scalar.clone(),
        }
    }

    fn adopt_text(&mut self, from: &Fields, range: &Range<usize>) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(from.str(range));
        start..self.text.len()
    }

    pub(crate) fn str(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// The messages of an error's sources, nearest first.
    pub(crate) fn chain(&self, chain: &Range<usize>) -> impl Iterator<Item = &str> + Clone {
        let parts = self.parts.get(chain.clone()).unwrap_or_default();
        parts.iter().map(|part| self.str(part))
    }

    /// The value, an error reduced to its message.
    pub(crate) fn value<'a>(&'a self, stored: &Stored) -> Value<'a> {
        match stored {
            Stored::Null => Value::Null,
            Stored::Bool(v) => Value::Bool(*v),
            Stored::I64(v) => Value::I64(*v),
            Stored::U64(v) => Value::U64(*v),
            Stored::I128(v) => Value::I128(*v),
            Stored::U128(v) => Value::U128(*v),
            Stored::F64(v) => Value::F64(*v),
            Stored::Text(range) | Stored::Error { message: range, .. } => {
                Value::Text(self.str(range))
            }
            Stored::Redacted => Value::Text(infra_core::secret::MASK),
        }
    }
}

impl<'a> From<&'a infra_core::context::Value> for Value<'a> {
    fn from(value: &'a infra_core::context::Value) -> Self {
        use infra_core::context::Value as Bound;
        match value {
            Bound::Str(v) => Value::Text(v),
            Bound::I64(v) => Value::I64(*v),
            Bound::U64(v) => Value::U64(*v),
            Bound::F64(v) => Value::F64(*v),
            Bound::Bool(v) => Value::Bool(*v),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_text(name: &'static str, text: &str) -> Fields {
        let mut fields = Fields::default();
        fields.text.push_str(text);
        fields.push(name, Stored::Text(0..text.len()));
        fields
    }

    #[test]
    fn a_span_that_records_for_ever_does_not_grow() {
        let mut span = with_text("kept", "first");
        for n in 0..10_000 {
            let mut newer = with_text("state", &format!("at step {n}"));
            newer.parts.push(0..2);
            newer.push(
                "error",
                Stored::Error {
                    message: 3..7,
                    kind: None,
                    chain: 0..1,
                },
            );
            span.absorb(&newer);
        }
        assert!(span.text.capacity() < 8192 && span.parts.capacity() < 1024);
        let texts: Vec<_> = span.entries().iter().map(|(_, v)| span.value(v)).collect();
        let expected = ["first", "at step 9999", "step"].map(Value::Text);
        assert_eq!(texts, expected);
    }
}
