//! Rows as they lie in the file.
//!
//! | bytes | of | |
//! |---|---|---|
//! | 8 | revision | big endian, as all numbers here |
//! | 8 | expiry | milliseconds since 1970 |
//! | 4 | CRC-32 of the value | verified whenever the value is read |
//! | 1 | place | 0: the value follows; 1: its length follows, and it lies in the other table |
//!
//! Version 1 had the value after the expiry, always, and no checksum.

use bytes::Bytes;

/// Longer values lie in a table of their own, so that neither opening the file nor a new expiry
/// has to touch them. Short enough for two rows in a page of 4 KiB.
pub(super) const LONGEST_HERE: usize = 2_000;
const HEADER: usize = 21;
const HERE: u8 = 0;
const APART: u8 = 1;

/// A row taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'r> {
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
    pub(super) place: Place<'r>,
    checksum: u32,
}

/// Where the value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'r> {
    Here(&'r [u8]),
    /// In the table of long values; its length.
    Apart(usize),
}

impl<'r> Row<'r> {
    /// `None` for what is no row.
    pub(super) fn decode(bytes: &'r [u8]) -> Option<Row<'r>> {
        let (revision, rest) = bytes.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let (place, rest) = rest.split_first()?;
        let place = match *place {
            HERE => Place::Here(rest),
            APART => Place::Apart(usize::try_from(u64::from_be_bytes(rest.try_into().ok()?)).ok()?),
            _ => return None,
        };
        Some(Row {
            revision: u64::from_be_bytes(*revision),
            expires: u64::from_be_bytes(*expires),
            place,
            checksum: u32::from_be_bytes(*checksum),
        })
    }

    /// Bytes of the value.
    pub(super) fn len(&self) -> usize {
        match self.place {
            Place::Here(value) => value.len(),
            Place::Apart(len) => len,
        }
    }

    /// Whether these are the bytes that were stored.
    pub(super) fn vouches_for(&self, value: &[u8]) -> bool {
        value.len() == self.len() && crc32fast::hash(value) == self.checksum
    }
}

/// Whether a row says that its value lies in the other table.
pub(super) fn is_apart(row: &[u8]) -> bool {
    row.get(HEADER - 1) == Some(&APART)
}

/// Writes the row of a value into `row`; true where the value itself belongs into the other table.
pub(super) fn encode(revision: u64, expires: u64, value: &[u8], row: &mut Vec<u8>) -> bool {
    let apart = value.len() > LONGEST_HERE;
    row.clear();
    row.extend_from_slice(&revision.to_be_bytes());
    row.extend_from_slice(&expires.to_be_bytes());
    row.extend_from_slice(&crc32fast::hash(value).to_be_bytes());
    row.push(if apart { APART } else { HERE });
    match apart {
        true => row.extend_from_slice(&(value.len() as u64).to_be_bytes()),
        false => row.extend_from_slice(value),
    }
    apart
}

/// Changes the expiry of a row and nothing else.
pub(super) fn set_expiry(row: &mut [u8], expires: u64) {
    if let Some(place) = row.get_mut(8..16) {
        place.copy_from_slice(&expires.to_be_bytes());
    }
}

/// Revision, expiry and value of a row of version 1.
pub(super) fn decode_v1(row: &[u8]) -> Option<(u64, u64, Bytes)> {
    let (revision, rest) = row.split_first_chunk::<8>()?;
    let (expires, value) = rest.split_first_chunk::<8>()?;
    let (revision, expires) = (u64::from_be_bytes(*revision), u64::from_be_bytes(*expires));
    Some((revision, expires, Bytes::copy_from_slice(value)))
}

/// What is written with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) time: u64,
    /// Whoever opens the file after a crash begins behind this revision, because those up to it may
    /// have been given away by writes that never became durable.
    pub(super) reserved: u64,
}

impl Progress {
    pub(super) fn row(self) -> [u8; 24] {
        let mut row = [0; 24];
        let numbers = [self.revision, self.time, self.reserved];
        for (place, number) in row.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        row
    }

    pub(super) fn from_row(row: &[u8]) -> Option<Progress> {
        let (revision, rest) = row.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let revision = u64::from_be_bytes(*revision);
        let reserved = match rest.is_empty() {
            true => revision,
            false => u64::from_be_bytes(rest.try_into().ok()?),
        };
        Some(Progress {
            revision,
            time: u64::from_be_bytes(*time),
            reserved,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_says_where_its_value_is_and_notices_another_one() {
        for len in [0, 1, LONGEST_HERE, LONGEST_HERE + 1, 100_000] {
            let (value, mut bytes) = (vec![7; len], Vec::new());
            let apart = encode(3, 9, &value, &mut bytes);
            assert_eq!(apart, len > LONGEST_HERE);
            assert_eq!(apart, is_apart(&bytes));
            set_expiry(&mut bytes, 11);
            let row = Row::decode(&bytes).unwrap();
            assert_eq!((row.revision, row.expires, row.len()), (3, 11, len));
            assert!(row.vouches_for(&value));
            assert!(!row.vouches_for(&vec![7; len + 1]));
            assert!(len == 0 || !row.vouches_for(&vec![8; len]));
        }
        assert!((0..HEADER).all(|len| Row::decode(&vec![1; len]).is_none()));
    }
}
