//! logfmt: `key=value` pairs separated by spaces.

use super::{Head, Key, write_scalar};
use crate::escape::{Quoting, is_unsafe, write_escaped};
use crate::fields::Value;

pub(super) fn head(out: &mut Vec<u8>, head: &Head<'_>, message: Value<'_>) {
    out.extend_from_slice(b"timestamp=");
    head.time.write(out);
    out.extend_from_slice(b" level=");
    out.extend_from_slice(head.level.as_str().as_bytes());
    out.extend_from_slice(b" target=");
    write_text(out, head.target);
    out.extend_from_slice(b" message=");
    write_value(out, message);
}

pub(super) fn field(out: &mut Vec<u8>, key: &Key<'_>, value: Value<'_>) {
    out.push(b' ');
    write_key(out, key);
    out.push(b'=');
    write_value(out, value);
}

/// The items joined as Rust programs print a chain of errors.
pub(super) fn list<'a>(out: &mut Vec<u8>, key: &Key<'_>, items: impl Iterator<Item = &'a str>) {
    out.push(b' ');
    write_key(out, key);
    out.extend_from_slice(b"=\"");
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.extend_from_slice(b": ");
        }
        write_escaped(out, item, Quoting::Quoted);
    }
    out.push(b'"');
}

/// A key with everything replaced by `_` that would end it.
pub(super) fn write_key(out: &mut Vec<u8>, key: &Key<'_>) {
    out.extend_from_slice(key.prefix.as_bytes());
    let ends = |c: char| c.is_whitespace() || c == '=' || c == '"' || is_unsafe(c);
    for (n, part) in key.name.split(ends).enumerate() {
        if n > 0 {
            out.push(b'_');
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(key.suffix.as_bytes());
}

pub(super) fn write_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) => write_text(out, text),
        scalar => write_scalar(out, scalar),
    }
}

/// Bare where a reader cannot mistake it, quoted otherwise.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let needs_quotes = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_unsafe(c);
    if !text.is_empty() && !text.contains(needs_quotes) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    write_escaped(out, text, Quoting::Quoted);
    out.push(b'"');
}
