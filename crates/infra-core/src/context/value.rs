//! The value of a bound field.

use std::fmt;
use std::sync::Arc;

/// A value with the types that a log line and an envelope can carry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    Str(Arc<str>),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A floating point number; NaN and infinities are rendered as text.
    F64(f64),
    /// True or false.
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Str(v) => f.write_str(v),
            Value::I64(v) => v.fmt(f),
            Value::U64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $value:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($v: $from) -> Self { $value }
        }
    )*};
}
value_from! {
    &str => |v| Value::Str(Arc::from(v));
    String => |v| Value::Str(Arc::from(v));
    &String => |v| Value::Str(Arc::from(v.as_str()));
    Arc<str> => |v| Value::Str(v);
    i64 => |v| Value::I64(v);
    i32 => |v| Value::I64(v.into());
    u64 => |v| Value::U64(v);
    u32 => |v| Value::U64(v.into());
    usize => |v| Value::U64(v as u64);
    f64 => |v| Value::F64(v);
    bool => |v| Value::Bool(v);
}
