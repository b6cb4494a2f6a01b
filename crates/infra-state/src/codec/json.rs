//! Values as JSON text.

use std::any::type_name;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{buffer, finite};
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// Made once: making it costs more than a search.
static NULL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("null"));

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, DriverError> {
    let failed = |reason: String| {
        let message = format!("cannot write a {} as JSON: {reason}", type_name::<T>());
        DriverError::new(ErrorKind::Encode, message)
    };
    let text = buffer::written(|text| serde_json::to_writer(text, value));
    let text = text.map_err(|error| failed(error.to_string()))?;
    // JSON has no NaN; serde_json writes `null` for it. So only text with a `null` in it needs the
    // second look that tells the two apart.
    if NULL.find(&text).is_some() {
        finite::check(value).map_err(|error| failed(error.to_string()))?;
    }
    Ok(text)
}

/// The reason says where, never what: serde's own message would repeat the value.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DriverError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let reason = match error.classify() {
            Category::Data => "JSON of another shape",
            Category::Eof => "JSON that ends too early",
            Category::Syntax | Category::Io => "no JSON",
        };
        let (line, column) = (error.line(), error.column());
        let wanted = type_name::<T>();
        let message = format!(
            "not a {wanted}: {reason} at line {line} column {column} ({} bytes)",
            bytes.len()
        );
        DriverError::new(ErrorKind::Decode, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s03_what_is_not_finite_is_refused_wherever_it_hides() {
        #[derive(Serialize)]
        enum Deep {
            Point { x: Option<f32> },
        }
        assert!(encode(&f64::NAN).is_err());
        assert!(encode(&[1.0, f64::INFINITY]).is_err());
        assert!(encode(&(1, "null", Some(f64::NEG_INFINITY))).is_err());
        assert!(encode(&Deep::Point { x: Some(f32::NAN) }).is_err());
        assert_eq!(
            encode(&Deep::Point { x: None }).unwrap(),
            &br#"{"Point":{"x":null}}"#[..]
        );
        assert_eq!(
            encode(&(None::<f64>, "null", 1.5)).unwrap(),
            &br#"[null,"null",1.5]"#[..]
        );
        assert_eq!(encode(&()).unwrap(), &b"null"[..]);
    }

    #[test]
    fn s06_the_reason_never_repeats_the_value() {
        for text in ["\"canary\"", "canary", "{\"canary\":", "[\"canary\"]"] {
            let error = decode::<i64>(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("canary") && shown.contains("i64"),
                "{shown}"
            );
        }
    }
}
