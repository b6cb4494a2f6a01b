//! One event as a test sees it.

use infra_core::context::{Context, Value as Bound};
use tracing_core::Level;

use crate::fields::{Fields, Stored, Value};
use crate::format::{Head, Key, Reserved};

/// The value of a field with the type it was recorded with. Compares with numbers, truth values
/// and texts, so that `assert_eq!(event.field("n").unwrap(), 3)` works.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldValue {
    /// `None`, or a declared field without a value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number of up to 128 bits; what is beyond `i128` is a text.
    Int(i128),
    /// A floating point number.
    F64(f64),
    /// A text, or what `Debug` or `Display` made of a value.
    Text(String),
    /// An error and the messages of its sources, nearest first.
    Error {
        /// The error's own message.
        message: String,
        /// The messages of its sources.
        chain: Vec<String>,
    },
}

/// One event as a line of the log would have it. See [`capture`](super::capture).
#[derive(Debug, Clone)]
pub struct CapturedEvent {
    level: Level,
    target: String,
    message: String,
    context: Context,
    fields: Vec<(String, FieldValue)>,
}

impl CapturedEvent {
    /// The level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The target: the module path unless the macro said otherwise.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The message; empty when there is none.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The context, with the correlation id.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The value under this key, be it from the event, a span around it or the context.
    pub fn field(&self, key: &str) -> Option<&FieldValue> {
        let found = self.fields.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value)
    }

    /// All fields in the order of precedence, keys unique.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &FieldValue)> {
        self.fields.iter().map(|(k, v)| (k.as_str(), v))
    }

    pub(crate) fn new(head: &Head<'_>, event: &Fields, reserved: &Reserved) -> Self {
        let message = event.message.as_ref().map(|m| typed(event, m));
        let mut captured = CapturedEvent {
            level: head.level,
            target: head.target.to_owned(),
            message: match message {
                None => String::new(),
                Some(FieldValue::Text(text)) => text,
                Some(other) => format!("{other:?}"),
            },
            context: Context::empty(),
            fields: Vec::new(),
        };
        captured.add(event, reserved);
        captured
    }

    /// Adds the fields of an event or span whose keys are still free.
    pub(crate) fn add(&mut self, fields: &Fields, reserved: &Reserved) {
        for (name, stored) in fields.entries() {
            self.put(Key::of(reserved, name, ""), || typed(fields, stored));
        }
    }

    pub(crate) fn finish(mut self, context: &Context, reserved: &Reserved) -> Self {
        for (name, value) in context.fields() {
            self.put(Key::of(reserved, name, ""), || match value {
                Bound::Str(text) => FieldValue::Text(text.to_string()),
                other => scalar(Value::from(other)),
            });
        }
        self.context = context.clone();
        self
    }

    fn put(&mut self, key: Key<'_>, value: impl FnOnce() -> FieldValue) {
        let key = key.to_string();
        if self.field(&key).is_none() {
            self.fields.push((key, value()));
        }
    }
}

fn typed(fields: &Fields, stored: &Stored) -> FieldValue {
    match stored {
        Stored::Error { message, chain, .. } => FieldValue::Error {
            message: fields.str(message).to_owned(),
            chain: fields.chain(chain).map(str::to_owned).collect(),
        },
        other => scalar(fields.value(other)),
    }
}

fn scalar(value: Value<'_>) -> FieldValue {
    match value {
        Value::Null => FieldValue::Null,
        Value::Bool(v) => FieldValue::Bool(v),
        Value::I64(v) => FieldValue::Int(v.into()),
        Value::U64(v) => FieldValue::Int(v.into()),
        Value::I128(v) => FieldValue::Int(v),
        Value::U128(v) => {
            i128::try_from(v).map_or_else(|_| FieldValue::Text(v.to_string()), FieldValue::Int)
        }
        Value::F64(v) => FieldValue::F64(v),
        Value::Text(v) => FieldValue::Text(v.to_owned()),
    }
}

macro_rules! compares {
    ($($with:ty => |$value:ident, $other:ident| $same:expr;)*) => {$(
        impl PartialEq<$with> for FieldValue {
            fn eq(&self, $other: &$with) -> bool {
                let $value = self;
                $same
            }
        }
        impl PartialEq<$with> for &FieldValue {
            fn eq(&self, other: &$with) -> bool {
                **self == *other
            }
        }
    )*};
}
compares! {
    bool => |value, other| matches!(value, FieldValue::Bool(v) if v == other);
    i32 => |value, other| matches!(value, FieldValue::Int(v) if *v == i128::from(*other));
    i64 => |value, other| matches!(value, FieldValue::Int(v) if *v == i128::from(*other));
    u64 => |value, other| matches!(value, FieldValue::Int(v) if *v == i128::from(*other));
    f64 => |value, other| matches!(value, FieldValue::F64(v) if v == other);
}

impl PartialEq<str> for FieldValue {
    fn eq(&self, other: &str) -> bool {
        match self {
            FieldValue::Text(text) | FieldValue::Error { message: text, .. } => text == other,
            _ => false,
        }
    }
}

impl PartialEq<&str> for FieldValue {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}
