//! Commands as servers read them.

/// Appends the command of these parts, its name first.
pub(crate) fn write_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(encoded_len(parts));
    write_count(out, parts.len());
    parts.iter().for_each(|part| write_part(out, part));
}

/// Appends the beginning of a command of so many parts.
pub(crate) fn write_count(out: &mut Vec<u8>, parts: usize) {
    header(out, b'*', parts);
}

/// Appends one part of a command.
pub(crate) fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    header(out, b'$', part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// At least the bytes that [`write_parts`] appends.
pub(crate) fn encoded_len(parts: &[&[u8]]) -> usize {
    const HEADER: usize = 24;
    let bytes: usize = parts.iter().map(|part| part.len() + HEADER).sum();
    bytes + HEADER
}

fn header(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    out.extend_from_slice(Decimal::new(number as u64, false).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The decimal text of a number, without an allocation, as a part of a command.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; Self::LONGEST],
    start: usize,
}

impl Decimal {
    const LONGEST: usize = 20;

    fn new(mut magnitude: u64, negative: bool) -> Self {
        let mut digits = [b'0'; Self::LONGEST];
        let mut start = Self::LONGEST;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (magnitude % 10) as u8;
            magnitude /= 10;
            start -= 1;
            if magnitude == 0 {
                break;
            }
        }
        if negative && let Some(place) = digits.get_mut(start.wrapping_sub(1)) {
            *place = b'-';
            start -= 1;
        }
        Decimal { digits, start }
    }

    /// The digits, with a sign where the number is negative.
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        Decimal::new(number, false)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Decimal::new(number.unsigned_abs(), number < 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_an_array_of_texts() {
        let mut out = Vec::new();
        write_parts(&mut out, &[b"SET", b"k", b"", b"a\r\nb"]);
        assert_eq!(
            out,
            b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$4\r\na\r\nb\r\n"
        );
        assert!(out.len() <= encoded_len(&[b"SET", b"k", b"", b"a\r\nb"]));
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_written_as_rust_prints_them(signed: i64, unsigned: u64) {
            let same = Decimal::from(signed).as_bytes() == signed.to_string().as_bytes();
            proptest::prop_assert!(same);
            let same = Decimal::from(unsigned).as_bytes() == unsigned.to_string().as_bytes();
            proptest::prop_assert!(same);
        }
    }

    #[test]
    fn the_edges_of_numbers_fit() {
        for number in [0, 1, -1, 9, 10, i64::MIN, i64::MAX] {
            assert_eq!(
                Decimal::from(number).as_bytes(),
                number.to_string().as_bytes()
            );
        }
        let largest = u64::MAX;
        assert_eq!(
            Decimal::from(largest).as_bytes(),
            largest.to_string().as_bytes()
        );
    }
}
