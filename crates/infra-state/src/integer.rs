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

/// [`text`], in the bytes of the former one where nobody else has them and they are as many.
pub(crate) fn replaced(former: Bytes, number: i64) -> Bytes {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    if former.len() == text.len()
        && let Ok(mut bytes) = former.try_into_mut()
    {
        bytes.copy_from_slice(text);
        return bytes.freeze();
    }
    Bytes::copy_from_slice(text)
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

    #[test]
    fn a_replaced_text_leaves_those_alone_who_have_the_former_one() {
        for (former, number, same) in [(1, 2, true), (9, 10, false), (-5, 55, true)] {
            let alone = text(former);
            let place = alone.as_ptr();
            let replaced = super::replaced(alone, number);
            assert_eq!(replaced, number.to_string());
            assert_eq!(replaced.as_ptr() == place, same, "{former} {number}");
            let shared = text(former);
            let replaced = super::replaced(shared.clone(), number);
            assert_eq!(replaced, number.to_string());
            assert_eq!(shared, former.to_string());
        }
    }
}
