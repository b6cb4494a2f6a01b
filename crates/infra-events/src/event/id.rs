//! The id of an event.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The id of one event: a UUID version 7 for ours, any text for those of other producers.
///
/// Ids made later in one process sort later, as far as the wall clock is not set back.
#[derive(Clone)]
pub struct EventId(Repr);

#[derive(Clone)]
enum Repr {
    // A UUID in its usual text form is by far the most common: no allocation for it.
    Inline([u8; 36]),
    Text(Arc<str>),
}

impl EventId {
    /// The longest id in bytes that is taken from another producer.
    pub const MAX_LEN: usize = 256;

    /// A new id for an event of this moment.
    pub fn generate() -> Self {
        Self::at(SystemTime::now())
    }

    /// A new id for an event of the given moment: RFC 9562 version 7, where the twelve bits after
    /// the milliseconds hold the fraction of the millisecond (its section 6.2, method 3).
    pub(crate) fn at(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let millis = since_epoch.as_millis() as u64;
        let fraction = u64::from(since_epoch.subsec_nanos() % 1_000_000) * 4096 / 1_000_000;
        let high = (millis << 16) | 0x7000 | fraction;
        let low = (fastrand::u64(..) >> 2) | (1 << 63);
        let mut text = [0; 36];
        uuid::Uuid::from_u64_pair(high, low)
            .hyphenated()
            .encode_lower(&mut text);
        EventId(Repr::Inline(text))
    }

    /// Takes an id from elsewhere; `None` when it is empty or longer than [`EventId::MAX_LEN`].
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return None;
        }
        let repr = match <[u8; 36]>::try_from(text.as_bytes()) {
            Ok(bytes) => Repr::Inline(bytes),
            Err(_) => Repr::Text(Arc::from(text)),
        };
        Some(EventId(repr))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // Always text: both constructors copy it from a `str`.
            Repr::Inline(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
            Repr::Text(text) => text,
        }
    }
}

impl PartialEq for EventId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for EventId {}

impl std::hash::Hash for EventId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for EventId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl AsRef<str> for EventId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_that_sort_by_time() {
        let early = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_000);
        let ids = [
            EventId::at(early),
            EventId::at(early + Duration::from_micros(1)),
            EventId::at(early + Duration::from_millis(1)),
            EventId::generate(),
        ];
        assert!(ids.is_sorted_by(|a, b| a.as_str() < b.as_str()), "{ids:?}");
        for id in &ids {
            let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        }
        assert_ne!(EventId::at(early), EventId::at(early));
    }

    #[test]
    fn foreign_ids_are_any_text_of_bounded_length() {
        for text in ["1", "é".repeat(18).as_str(), "x".repeat(256).as_str()] {
            assert_eq!(EventId::parse(text).unwrap().as_str(), text);
        }
        assert!(EventId::parse("").is_none());
        assert!(EventId::parse(&"x".repeat(257)).is_none());
    }
}
