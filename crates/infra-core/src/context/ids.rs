//! Ids that travel between processes, and are therefore untrusted when they arrive.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// An id of 1 to 128 characters out of `A-Z a-z 0-9 - _ . : / @ + =`.
///
/// The limits keep a foreign id from breaking a log line, a header or a key.
#[derive(Clone)]
pub struct CorrelationId(Repr);

/// Inline up to here: a UUID with a word of two letters.
const INLINE: usize = 38;

#[derive(Clone)]
enum Repr {
    // Most ids are UUIDs, and every event that arrives brings two: no allocation for them.
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<str>),
}

/// Whether an id may have this byte.
fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'@' | b'+' | b'=')
}

impl CorrelationId {
    /// The longest id in bytes.
    pub const MAX_LEN: usize = 128;

    /// A new id, a UUID version 7: ids made later sort later.
    pub fn generate() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        Self::new(uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer))
    }

    /// Takes a foreign id, or says why it cannot be taken.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(InvalidId("an id has 1 to 128 characters"));
        }
        if !text.bytes().all(allowed) {
            return Err(InvalidId(
                "an id has only the characters A-Z a-z 0-9 - _ . : / @ + =",
            ));
        }
        Ok(Self::new(text))
    }

    /// Of text that is an id.
    fn new(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        CorrelationId(match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Repr::Inline {
                    len: text.len() as u8,
                    bytes,
                }
            }
            None => Repr::Shared(Arc::from(text)),
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Inline { len, bytes } => {
                let bytes = bytes.get(..usize::from(*len)).unwrap_or_default();
                // Always text: copied from a `str`.
                std::str::from_utf8(bytes).unwrap_or_default()
            }
            Repr::Shared(text) => text,
        }
    }
}

impl PartialEq for CorrelationId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CorrelationId {}

impl PartialOrd for CorrelationId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CorrelationId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for CorrelationId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl FromStr for CorrelationId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a foreign id was refused. Never holds the id itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId(&'static str);

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidId {}

/// A W3C trace context `traceparent` header, <https://www.w3.org/TR/trace-context/>.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The id of the whole trace; never zero.
    pub trace_id: u128,
    /// The id of the calling span; never zero.
    pub parent_id: u64,
    /// The flags; bit 0 says that the trace is sampled.
    pub flags: u8,
}

impl TraceParent {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; later versions may append more, as the standard says.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let malformed = InvalidId("a traceparent is 00-<32 hex>-<16 hex>-<2 hex>, ids not zero");
        let mut parts = text.split('-');
        let mut next = |len: usize| {
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            parts
                .next()
                .filter(|p| p.len() == len && p.bytes().all(lower_hex))
                .ok_or(malformed)
        };
        let version = next(2)?;
        let (trace, parent, flags) = (next(32)?, next(16)?, next(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(malformed);
        }
        let parsed = TraceParent {
            trace_id: u128::from_str_radix(trace, 16).map_err(|_| malformed)?,
            parent_id: u64::from_str_radix(parent, 16).map_err(|_| malformed)?,
            flags: u8::from_str_radix(flags, 16).map_err(|_| malformed)?,
        };
        if parsed.trace_id == 0 || parsed.parent_id == 0 {
            return Err(malformed);
        }
        Ok(parsed)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.parent_id, self.flags
        )
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
