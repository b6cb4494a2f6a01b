//! JSON: one flat object a line.

use super::schema::Names;
use super::{Head, Key, write_scalar};
use crate::escape::{Quoting, write_escaped};
use crate::fields::Value;

pub(super) fn head(out: &mut Vec<u8>, names: &Names, head: &Head<'_>, message: Value<'_>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(names.timestamp.as_bytes());
    out.extend_from_slice(b"\":\"");
    head.time.write(out);
    out.push(b'"');
    own(out, names.level);
    write_text(out, names.level_word(head.level));
    if let Some(number) = names.severity_number {
        own(out, number);
        write_scalar(out, Value::U64(Names::severity(head.level)));
    }
    own(out, names.message);
    write_value(out, message);
    if let Some((name, version)) = names.version {
        own(out, name);
        write_text(out, version);
    }
    own(out, names.target);
    write_text(out, head.target);
}

/// A key of the library's own, which needs no escape.
fn own(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(super) fn field(out: &mut Vec<u8>, key: &Key<'_>, value: Value<'_>) {
    write_key(out, key);
    write_value(out, value);
}

pub(super) fn list<'a>(out: &mut Vec<u8>, key: &Key<'_>, items: impl Iterator<Item = &'a str>) {
    write_key(out, key);
    out.push(b'[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_text(out, item);
    }
    out.push(b']');
}

fn write_key(out: &mut Vec<u8>, key: &Key<'_>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.prefix.as_bytes());
    write_escaped(out, key.name, Quoting::Json);
    out.extend_from_slice(key.suffix.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => write_text(out, text),
        // Readers hold numbers as 64 bit; floats that are no numbers have no JSON.
        Value::I128(v) if i64::try_from(v).is_err() => quoted(out, value),
        Value::U128(v) if u64::try_from(v).is_err() => quoted(out, value),
        Value::F64(v) if !v.is_finite() => quoted(out, value),
        scalar => write_scalar(out, scalar),
    }
}

fn quoted(out: &mut Vec<u8>, value: Value<'_>) {
    out.push(b'"');
    write_scalar(out, value);
    out.push(b'"');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text, Quoting::Json);
    out.push(b'"');
}
