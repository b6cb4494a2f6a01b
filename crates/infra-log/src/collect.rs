//! Recording: from `tracing`'s visitor to typed [`Fields`].
//!
//! This is the only place where code of the application runs (`Debug` and `Display` of its
//! values). It may panic, fail, write without end, or log itself; nothing of ours is borrowed or
//! locked while it runs.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tracing_core::Field;
use tracing_core::field::Visit;

use crate::fields::{Fields, Stored};
use crate::redact::{DenyList, mask_urls};

/// Stands at the end of a text that was longer than allowed.
pub(crate) const CUT: &str = "…[cut]";
const PANICKED: &str = "<panicked while being formatted>";
const FAILED: &str = "<failed to be formatted>";
/// The most sources of an error that are listed; also ends a chain that bites its own tail.
const MAX_CHAIN: usize = 16;

/// What applies to every value that is recorded.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) deny: DenyList,
    /// The longest text of one value in bytes.
    pub(crate) max_value: usize,
}

/// Records the fields of one event or span.
pub(crate) struct Collector<'a> {
    pub(crate) fields: &'a mut Fields,
    pub(crate) rules: &'a Rules,
    /// True for records of the `log` crate, whose `log.*` fields are read elsewhere.
    pub(crate) from_log: bool,
}

impl Collector<'_> {
    fn put(&mut self, field: &Field, value: Stored) {
        if field.name() == "message" && self.fields.message.is_none() {
            self.fields.message = Some(value);
        } else {
            self.fields.push(field.name(), value);
        }
    }

    /// False when the value must not be looked at.
    fn may_look(&mut self, field: &Field) -> bool {
        if self.from_log && field.name().starts_with("log.") {
            return false;
        }
        let denied = self.rules.deny.denies(field.name());
        if denied {
            self.put(field, Stored::Redacted);
        }
        !denied
    }

    fn text(&mut self, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) -> Range<usize> {
        let start = self.fields.text.len();
        write_masked(&mut self.fields.text, self.rules.max_value, write);
        start..self.fields.text.len()
    }

    fn scalar(&mut self, field: &Field, value: Stored) {
        if self.may_look(field) {
            self.put(field, value);
        }
    }
}

impl Visit for Collector<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.may_look(field) {
            let range = self.text(|out| out.write_str(value));
            self.put(field, Stored::Text(range));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.may_look(field) {
            let range = self.text(|out| write!(out, "{value:?}"));
            let stored = match self.fields.str(&range) {
                _ if field.name() == "message" => Stored::Text(range),
                "None" => Stored::Null,
                text if text.starts_with("Some(") => some(text, range),
                _ => Stored::Text(range),
            };
            self.put(field, stored);
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn StdError + 'static)) {
        if !self.may_look(field) {
            return;
        }
        let message = self.text(|out| write!(out, "{error}"));
        let start = self.fields.parts.len();
        let mut source = next_source(error);
        while let Some(error) = source {
            if self.fields.parts.len() - start == MAX_CHAIN {
                let cut = self.text(|out| out.write_str(CUT));
                self.fields.parts.push(cut);
                break;
            }
            let part = self.text(|out| write!(out, "{error}"));
            self.fields.parts.push(part);
            source = next_source(error);
        }
        let chain = start..self.fields.parts.len();
        let kind = known_type(error);
        let stored = Stored::Error {
            message,
            kind,
            chain,
        };
        self.put(field, stored);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.scalar(field, Stored::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.scalar(field, Stored::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.scalar(field, Stored::U64(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.scalar(field, Stored::I128(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.scalar(field, Stored::U128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.scalar(field, Stored::F64(value));
    }
}

/// Appends what `write` writes, at most `limit` bytes and the mark of a cut, passwords of URLs
/// masked; a marker instead when it panics or fails.
pub(crate) fn write_masked(
    text: &mut String,
    limit: usize,
    write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
) {
    let start = text.len();
    let mut out = Bounded {
        left: limit,
        text,
        cut: false,
    };
    let result = isolated(|| write(&mut out));
    // After the cut our own writer refuses, which the code may take as it likes.
    let cut = out.cut;
    let marker = match result {
        _ if cut => None,
        Some(Ok(())) => None,
        Some(Err(fmt::Error)) => Some(FAILED),
        None => Some(PANICKED),
    };
    if let Some(marker) = marker {
        text.truncate(start);
        text.push_str(marker);
    }
    if let Cow::Owned(masked) = mask_urls(text.get(start..).unwrap_or_default(), cut) {
        text.truncate(start);
        text.push_str(&masked);
    }
    if cut {
        text.push_str(CUT);
    }
}

/// Runs code of the application; `None` when it panicked.
pub(crate) fn isolated<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Dropping a payload runs code of the application once more.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
            None
        }
    }
}

/// A text that takes a bounded number of bytes.
pub(crate) struct Bounded<'a> {
    text: &'a mut String,
    left: usize,
    cut: bool,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.cut {
            return Err(fmt::Error);
        }
        if part.len() <= self.left {
            self.text.push_str(part);
            self.left -= part.len();
            return Ok(());
        }
        let end = part.floor_char_boundary(self.left);
        self.text.push_str(part.get(..end).unwrap_or_default());
        self.cut = true;
        Err(fmt::Error)
    }
}

/// `Some(1)` is 1, `Some("a")` is a, anything else in `Some` is its text.
fn some(text: &str, range: Range<usize>) -> Stored {
    let whole = Stored::Text(range.clone());
    let Some(inner) = text.strip_prefix("Some(").and_then(|t| t.strip_suffix(')')) else {
        return whole;
    };
    let range = range.start + 5..range.end - 1;
    if let Ok(number) = inner.parse() {
        Stored::I64(number)
    } else if let Ok(number) = inner.parse() {
        Stored::U64(number)
    } else if let Ok(truth) = inner.parse() {
        Stored::Bool(truth)
    } else if inner.len() >= 2 && inner.starts_with('"') && inner.ends_with('"') {
        match inner.contains('\\') {
            true => Stored::Text(range),
            false => Stored::Text(range.start + 1..range.end - 1),
        }
    } else if let Some(number) = inner
        .parse()
        .ok()
        .filter(|n: &f64| format!("{n:?}") == inner)
    {
        // Only what reads the same: `1.10` stays as it is.
        Stored::F64(number)
    } else {
        Stored::Text(range)
    }
}

fn next_source<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    isolated(|| error.source()).flatten()
}

/// An error behind `dyn Error` does not tell its type; those of the standard library can be asked.
fn known_type(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    macro_rules! ask {
        ($($known:ty),*) => { $(if error.is::<$known>() { return Some(stringify!($known)); })* };
    }
    ask!(
        std::io::Error,
        std::fmt::Error,
        std::num::ParseIntError,
        std::num::ParseFloatError,
        std::str::Utf8Error,
        std::string::FromUtf8Error,
        std::net::AddrParseError,
        std::time::SystemTimeError
    );
    None
}
