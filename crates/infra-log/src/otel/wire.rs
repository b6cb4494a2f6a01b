//! The few messages of OTLP that are sent, in protobuf's wire format
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Field numbers are those of `opentelemetry/proto/{common,logs,trace,collector}/v1`, which are
//! stable. The tests read what is written here with the types that OpenTelemetry generates.

use crate::fields::Value;

/// Which message the attributes belong to: they have another number in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Resource,
    Log,
    Span,
}

impl Part {
    pub(crate) const fn attributes(self) -> u32 {
        match self {
            Part::Resource => 1,
            Part::Log => 6,
            Part::Span => 9,
        }
    }
}

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const BYTES: u32 = 2;
const FIXED_32: u32 = 5;

fn tag(out: &mut Vec<u8>, field: u32, kind: u32) {
    varint(out, u64::from(field << 3 | kind));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

pub(crate) fn fixed_64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED_64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn fixed_32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED_32);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A message inside of the message: its length stands before what `write` appends.
pub(crate) fn nested(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    let start = out.len();
    write(out);
    let mut length = Vec::with_capacity(5);
    varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

/// A `KeyValue`.
pub(crate) fn attribute(out: &mut Vec<u8>, field: u32, key: &[&str], value: Value<'_>) {
    nested(out, field, |out| {
        write_key(out, key);
        nested(out, 2, |out| any_value(out, value));
    });
}

/// A `KeyValue` whose value is a list of texts.
pub(crate) fn list<'a>(
    out: &mut Vec<u8>,
    field: u32,
    key: &[&str],
    items: impl Iterator<Item = &'a str>,
) {
    nested(out, field, |out| {
        write_key(out, key);
        nested(out, 2, |out| {
            nested(out, 5, |out| {
                for item in items {
                    nested(out, 1, |out| any_value(out, Value::Text(item)));
                }
            });
        });
    });
}

fn write_key(out: &mut Vec<u8>, parts: &[&str]) {
    nested(out, 1, |out| {
        for part in parts {
            out.extend_from_slice(part.as_bytes());
        }
    });
}

/// The fields of an `AnyValue`; what is null has none.
pub(crate) fn any_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Null => {}
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        Value::Bool(truth) => number(out, 2, truth.into()),
        Value::I64(v) => number(out, 3, v as u64),
        Value::U64(v) => integer(out, i64::try_from(v).ok(), v),
        Value::I128(v) => integer(out, i64::try_from(v).ok(), v),
        Value::U128(v) => integer(out, i64::try_from(v).ok(), v),
        Value::F64(v) => fixed_64(out, 4, v.to_bits()),
    }
}

/// What does not fit into 64 bits with a sign is a text.
fn integer(out: &mut Vec<u8>, fits: Option<i64>, value: impl std::fmt::Display) {
    match fits {
        Some(v) => number(out, 3, v as u64),
        None => bytes(out, 1, value.to_string().as_bytes()),
    }
}

/// What a server says of a request that it took only in part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

impl PartialSuccess {
    /// Reads an `Export...ServiceResponse`; what cannot be read counts as nothing rejected.
    pub(crate) fn read(response: &[u8]) -> Self {
        let mut partial = PartialSuccess::default();
        let inner = fields(response).find_map(|field| match field {
            Field::Bytes(1, inner) => Some(inner),
            _ => None,
        });
        for field in fields(inner.unwrap_or_default()) {
            match field {
                Field::Number(1, rejected) => partial.rejected = rejected,
                Field::Bytes(2, text) => {
                    let text = String::from_utf8_lossy(text);
                    partial.message = text.chars().take(256).collect();
                }
                _ => {}
            }
        }
        partial
    }
}

enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
    Other,
}

/// The fields of a message up to the first that cannot be read.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut rest)?;
        let field = tag >> 3;
        match (tag & 7) as u32 {
            VARINT => Some(Field::Number(field, read_varint(&mut rest)?)),
            BYTES => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                Some(Field::Bytes(field, rest.split_off(..length)?))
            }
            FIXED_64 => rest.split_off(..8).map(|_| Field::Other),
            FIXED_32 => rest.split_off(..4).map(|_| Field::Other),
            _ => None,
        }
    })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_is_read_and_nonsense_is_none() {
        let mut response = Vec::new();
        nested(&mut response, 1, |out| {
            number(out, 1, 300);
            bytes(out, 2, "quota".as_bytes());
        });
        let expected = PartialSuccess {
            rejected: 300,
            message: "quota".to_owned(),
        };
        assert_eq!(PartialSuccess::read(&response), expected);
        for end in 0..response.len() {
            PartialSuccess::read(response.get(..end).unwrap());
        }
        for nonsense in [
            &b""[..],
            b"\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert_eq!(PartialSuccess::read(nonsense), PartialSuccess::default());
        }
    }
}
