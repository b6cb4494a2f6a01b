//! Values of extension attributes, and what names and values may be.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The value of an extension attribute: the types that CloudEvents has in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// Text without control characters.
    Text(Arc<str>),
    /// A whole number of 32 bits.
    Integer(i32),
    /// True or false.
    Boolean(bool),
}

impl Attribute {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Attribute::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::Text(Arc::from(text))
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Attribute::Text(Arc::from(text))
    }
}

impl From<i32> for Attribute {
    fn from(number: i32) -> Self {
        Attribute::Integer(number)
    }
}

impl From<bool> for Attribute {
    fn from(value: bool) -> Self {
        Attribute::Boolean(value)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Text(text) => f.write_str(text),
            Attribute::Integer(number) => number.fmt(f),
            Attribute::Boolean(value) => value.fmt(f),
        }
    }
}

/// Names that belong to the envelope itself and therefore to no extension.
pub(crate) const RESERVED: [&str; 13] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "datacontenttype",
    "dataschema",
    "data",
    "correlationid",
    "causationid",
    "traceparent",
    "partitionkey",
];

/// The longest name of an extension; CloudEvents 1.0 advises not to pass it.
const MAX_NAME: usize = 20;
/// The longest text of an attribute in bytes.
const MAX_TEXT: usize = 4096;

pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(Error::new(ErrorKind::InvalidAttribute, "make event")
            .with_detail("the name of an extension has 1 to 20 characters out of a-z 0-9"));
    }
    if RESERVED.contains(&name) {
        return Err(Error::new(ErrorKind::InvalidAttribute, "make event")
            .with_detail(format!("`{name}` is an attribute of the envelope")));
    }
    Ok(())
}

pub(crate) fn check_text(name: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(
            Error::new(ErrorKind::InvalidAttribute, "make event").with_detail(format!(
                "`{name}` has 1 to {MAX_TEXT} bytes and no control characters"
            )),
        );
    }
    Ok(())
}
