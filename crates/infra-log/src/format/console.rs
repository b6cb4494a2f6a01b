//! For people: aligned, the level coloured, what stands around the event dimmed.

use tracing_core::Level;

use super::logfmt::{write_key, write_value};
use super::{Head, Key, Origin, write_scalar};
use crate::escape::{Quoting, write_escaped};
use crate::fields::Value;

/// Fields start in the same column below shorter messages.
const MESSAGE_WIDTH: usize = 32;
const DIM: &[u8] = b"\x1b[2m";
const BOLD: &[u8] = b"\x1b[1m";
const RESET: &[u8] = b"\x1b[0m";

pub(super) fn head(out: &mut Vec<u8>, head: &Head<'_>, message: Value<'_>, colors: bool) {
    styled(out, colors, DIM, |out| head.time.write(out));
    out.push(b' ');
    styled(out, colors, color(head.level), |out| {
        pad(out, 5, |out| {
            out.extend_from_slice(head.level.as_str().as_bytes());
        });
    });
    out.push(b' ');
    styled(out, colors, DIM, |out| {
        write_escaped(out, head.target, Quoting::Plain);
        out.push(b':');
    });
    out.push(b' ');
    styled(out, colors, BOLD, |out| {
        pad(out, MESSAGE_WIDTH, |out| match message {
            Value::Text(text) => write_escaped(out, text, Quoting::Plain),
            scalar => write_scalar(out, scalar),
        });
    });
}

pub(super) fn field(
    out: &mut Vec<u8>,
    key: &Key<'_>,
    value: Value<'_>,
    origin: Origin,
    colors: bool,
) {
    out.push(b' ');
    // An error's sources stand below the line, so its message needs no longer name.
    let key = Key {
        suffix: if key.suffix == ".message" {
            ""
        } else {
            key.suffix
        },
        ..*key
    };
    let dimmed = origin == Origin::Around;
    let write_all = |out: &mut Vec<u8>| {
        styled(out, colors && !dimmed, b"\x1b[36m", |out| {
            write_key(out, &key)
        });
        out.push(b'=');
        write_value(out, value);
    };
    styled(out, colors && dimmed, DIM, write_all);
}

/// The sources of an error, each on an indented line that no text of a value could begin.
pub(super) fn causes<'a>(out: &mut Vec<u8>, causes: impl Iterator<Item = &'a str>) {
    for cause in causes {
        out.extend_from_slice(b"    caused by: ");
        write_escaped(out, cause, Quoting::Plain);
        out.push(b'\n');
    }
}

fn color(level: Level) -> &'static [u8] {
    match level {
        Level::ERROR => b"\x1b[31m",
        Level::WARN => b"\x1b[33m",
        Level::INFO => b"\x1b[32m",
        Level::DEBUG => b"\x1b[34m",
        Level::TRACE => b"\x1b[35m",
    }
}

fn styled(out: &mut Vec<u8>, colors: bool, style: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
    if !colors {
        return write(out);
    }
    out.extend_from_slice(style);
    write(out);
    out.extend_from_slice(RESET);
}

/// Pads by characters, which is close enough to columns for a log.
fn pad(out: &mut Vec<u8>, width: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let written = out.get(start..).unwrap_or_default();
    let characters = written.iter().filter(|b| **b & 0xc0 != 0x80).count();
    out.extend(std::iter::repeat_n(b' ', width.saturating_sub(characters)));
}
