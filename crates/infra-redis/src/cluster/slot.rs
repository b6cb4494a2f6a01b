//! Which slot a key lies in.

/// How many slots the keys of every cluster are spread over.
pub(crate) const SLOTS: usize = 16_384;

/// The part of a cluster's keys that moves as one; 0 to 16,383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of `key`. Where the key holds a hash tag, a `{` and at least one byte before the
    /// next `}`, only what is between the first such pair counts.
    ///
    /// ```
    /// use infra_redis::Slot;
    ///
    /// assert_eq!(Slot::of(b"foo").get(), 12_182);
    /// assert_eq!(Slot::of(b"{desk}:a"), Slot::of(b"{desk}:b"));
    /// ```
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(tag(key)) % SLOTS as u16)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// `None` past the last slot.
    pub(crate) fn new(number: i64) -> Option<Slot> {
        let number = u16::try_from(number).ok()?;
        (usize::from(number) < SLOTS).then_some(Slot(number))
    }

    /// A short text that lies in this slot, for use as a hash tag.
    pub fn tag(self) -> String {
        let mut number = 0_u64;
        loop {
            let text = number.to_string();
            if Slot::of(text.as_bytes()) == self {
                return text;
            }
            number += 1;
        }
    }
}

/// What of a key decides about its slot.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else {
        return key;
    };
    let inner = key.get(open + 1..).unwrap_or_default();
    match memchr::memchr(b'}', inner) {
        Some(length) if length > 0 => inner.get(..length).unwrap_or(key),
        _ => key,
    }
}

/// CRC-16/XMODEM, the sum that the cluster specification names.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        let place = usize::from((sum >> 8) as u8 ^ byte);
        (sum << 8) ^ TABLE.get(place).copied().unwrap_or_default()
    })
}

const TABLE: [u16; 256] = table();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which checks"
)]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum << 1) ^ (0x1021 * (sum >> 15));
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
        assert_eq!(Slot::of(b"somekey").get(), 11_058);
    }

    #[test]
    fn only_the_first_hash_tag_that_holds_something_counts() {
        for (key, tagged) in [
            ("{user1000}.following", "user1000"),
            ("foo{bar}{zap}", "bar"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{bar", "foo{bar"),
            ("foo}bar{", "foo}bar{"),
            ("", ""),
        ] {
            assert_eq!(tag(key.as_bytes()), tagged.as_bytes(), "{key}");
        }
    }

    #[test]
    fn every_slot_has_a_tag() {
        for number in [0, 1, 5000, 16_383] {
            let slot = Slot::new(number).unwrap();
            let key = format!("x{{{}}}y", slot.tag());
            assert_eq!(Slot::of(key.as_bytes()), slot);
        }
        assert!(Slot::new(16_384).is_none() && Slot::new(-1).is_none());
    }
}
