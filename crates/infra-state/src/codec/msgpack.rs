//! Values as MessagePack.
//!
//! Whatever is JSON text must not be read as a value. Of all JSON texts only a single digit is
//! valid MessagePack as a whole, the byte `30` to `39` for the integers 48 to 57; so these integers
//! are written with two bytes, and the single bytes are refused.

use std::any::type_name;

use rmp_serde::decode::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finite;
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// The marker of an unsigned integer in one byte of its own.
const UINT8: u8 = 0xCC;
/// How deep a value may be nested, as JSON text may: the library's own bound, 1,024, is more than
/// the stack of a thread holds.
const MAX_DEPTH: usize = 128;
const FLOAT32: u8 = 0xCA;
const FLOAT64: u8 = 0xCB;

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, DriverError> {
    let failed = |reason: String| {
        let message = format!(
            "cannot write a {} as MessagePack: {reason}",
            type_name::<T>()
        );
        DriverError::new(ErrorKind::Encode, message)
    };
    let mut bytes = rmp_serde::to_vec_named(value).map_err(|error| failed(error.to_string()))?;
    // Only bytes with the marker of a float in them need the second look.
    if memchr::memchr2(FLOAT32, FLOAT64, &bytes).is_some() {
        finite::check(value).map_err(|error| failed(error.to_string()))?;
    }
    if is_a_digit(&bytes) {
        bytes.insert(0, UINT8);
    }
    Ok(bytes)
}

/// The reason says what kind of thing, never what: serde's own message would repeat the value.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DriverError> {
    let failed = |reason: &str| {
        let (wanted, length) = (type_name::<T>(), bytes.len());
        let message = format!("not a {wanted}: {reason} ({length} bytes)");
        DriverError::new(ErrorKind::Decode, message)
    };
    if is_a_digit(bytes) {
        return Err(failed("JSON text, not MessagePack"));
    }
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut reader).map_err(|error| failed(reason(&error)))?;
    if !reader.get_ref().is_empty() {
        return Err(failed("no MessagePack, or more than one value"));
    }
    Ok(value)
}

fn is_a_digit(bytes: &[u8]) -> bool {
    matches!(bytes, [byte] if byte.is_ascii_digit())
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
            "MessagePack that ends too early"
        }
        Error::Utf8Error(_) => "text that is no UTF-8",
        Error::DepthLimitExceeded => "nested too deep",
        _ => "MessagePack of another shape",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn integers_that_look_like_json_digits_come_back() {
        for number in -200..300_i64 {
            let bytes = encode(&number).unwrap();
            assert_eq!(decode::<i64>(&bytes).unwrap(), number);
            assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err());
        }
        assert_eq!(encode(&53_u8).unwrap(), [UINT8, 53]);
    }

    #[test]
    fn s06_json_is_never_taken_for_messagepack() {
        for text in [
            "5",
            "0",
            "9",
            "12",
            "-1",
            "null",
            "true",
            "\"canary\"",
            "[1]",
            "{\"a\":1}",
            " 5",
            "[]",
        ] {
            for shown in [
                decode::<i64>(text.as_bytes()).unwrap_err(),
                decode::<serde_json::Value>(text.as_bytes()).unwrap_err(),
                decode::<Option<u8>>(text.as_bytes()).unwrap_err(),
            ] {
                assert_eq!(shown.kind(), ErrorKind::Decode, "{text}");
                assert!(!shown.to_string().contains("canary"), "{shown}");
            }
        }
    }

    #[test]
    fn s06_the_reason_names_the_type_and_never_repeats_the_value() {
        let bytes = encode("canary").unwrap();
        for error in [
            decode::<i64>(&bytes).unwrap_err(),
            decode::<String>(&bytes[..3]).unwrap_err(),
            decode::<Vec<i64>>(&bytes).unwrap_err(),
            decode::<i64>(b"").unwrap_err(),
        ] {
            let shown = format!("{error} {error:?}");
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(!shown.contains("canary"), "{shown}");
        }
        let error = decode::<BTreeMap<String, u8>>(&bytes).unwrap_err();
        assert!(error.to_string().contains("u8"), "{error}");
    }

    #[test]
    fn s03_what_is_not_finite_is_refused() {
        assert!(encode(&f64::NAN).is_err());
        assert!(encode(&vec![Some(f32::INFINITY)]).is_err());
        assert_eq!(decode::<f64>(&encode(&1.5).unwrap()).unwrap(), 1.5);
        // The marker of a float within text.
        assert!(encode(&"\u{2ca}").is_ok());
    }

    #[test]
    fn structs_keep_the_names_of_their_fields() {
        #[derive(Serialize)]
        struct Old {
            b: i64,
            a: i64,
        }
        #[derive(serde::Deserialize, PartialEq, Debug)]
        struct New {
            a: i64,
            #[serde(default)]
            c: i64,
        }
        let bytes = encode(&Old { b: 1, a: 2 }).unwrap();
        assert_eq!(decode::<New>(&bytes).unwrap(), New { a: 2, c: 0 });
    }
    #[test]
    fn a_value_nested_too_deep_is_an_error_on_the_stack_of_a_runtimes_thread() {
        let decoding = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let decoding = decoding.spawn(|| {
            for marker in [0x91_u8, 0x81] {
                let mut bytes = vec![marker; 2000];
                bytes.push(0xC0);
                let error = decode::<serde_json::Value>(&bytes).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
            }
            let mut bytes = vec![0x91; 100];
            bytes.push(0xC0);
            decode::<serde_json::Value>(&bytes).map(|_| ()).unwrap();
        });
        decoding.unwrap().join().unwrap();
    }
}
