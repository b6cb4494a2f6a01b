//! Integers as stored bytes.

use bytes::Bytes;

use crate::driver::DriverError;
use crate::error::ErrorKind;

/// The sum of the stored integer and `delta`.
pub(crate) fn add(stored: &[u8], delta: i64) -> Result<i64, DriverError> {
    let before = canonical(stored).ok_or_else(|| {
        let message = "the stored value is not a 64-bit integer";
        DriverError::new(ErrorKind::NotAnInteger, message)
    })?;
    before.checked_add(delta).ok_or_else(|| {
        let message = "the sum leaves the range of a 64-bit integer";
        DriverError::new(ErrorKind::Overflow, message)
    })
}

/// The text of an integer in one allocation of its own size: memory keeps these bytes.
pub(crate) fn text(number: i64) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes())
}

/// The integer that these bytes are the decimal text of: no sign but `-`, no leading zeros, no
/// spaces, as Redis has it.
fn canonical(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading_zero = digits.starts_with('0') && text != "0";
    if leading_zero || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s15_only_the_text_of_an_integer_is_one() {
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "00",
            "1.5",
            "1e3",
            "\"5\"",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(canonical(text.as_bytes()), None, "{text:?}");
        }
        for number in [0, 1, -1, 10, i64::MIN, i64::MAX] {
            let text = number.to_string();
            assert_eq!(canonical(text.as_bytes()), Some(number));
            assert_eq!(super::text(number), text);
        }
    }
}
