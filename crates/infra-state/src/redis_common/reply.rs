//! What the answers of the commands must look like, whichever client library read them.

use std::time::Duration;

use bytes::Bytes;
use infra_redis::RedisFault;

use super::is_marker;
use crate::driver::{DriverEntry, DriverError, ScanCursor, ScanPage};
use crate::ttl::TtlState;
use crate::version::VersionToken;

/// An answer as a client library gives it. Each method is `None` for one of another shape.
pub(crate) trait Reply: Sized {
    /// A string, or nothing.
    fn into_string(self) -> Option<Option<Bytes>>;
    fn to_integer(&self) -> Option<i64>;
    fn into_list(self) -> Option<Vec<Self>>;
}

#[cfg(feature = "redis")]
impl Reply for infra_redis::Value {
    fn into_string(self) -> Option<Option<Bytes>> {
        match self {
            Self::Nil => Some(None),
            Self::Bytes(bytes) => Some(Some(Bytes::from(bytes))),
            _ => None,
        }
    }

    fn to_integer(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn into_list(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(feature = "fred")]
impl Reply for infra_redis::FredReply {
    fn into_string(self) -> Option<Option<Bytes>> {
        match self {
            Self::Nil => Some(None),
            Self::Bytes(bytes) => Some(Some(bytes)),
            _ => None,
        }
    }

    fn to_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn into_list(self) -> Option<Vec<Self>> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }
}

pub(crate) fn bytes(reply: impl Reply) -> Result<Option<Bytes>, DriverError> {
    let string = reply.into_string();
    string.ok_or_else(|| unexpected("a string or nothing"))
}

pub(crate) fn integer(reply: &impl Reply) -> Result<i64, DriverError> {
    let number = reply.to_integer();
    number.ok_or_else(|| unexpected("an integer"))
}

/// The answer of `PTTL`.
pub(crate) fn ttl(reply: &impl Reply) -> Result<TtlState, DriverError> {
    Ok(match integer(reply)? {
        -2 => TtlState::Absent,
        -1 => TtlState::NoExpiry,
        millis => TtlState::Remaining(Duration::from_millis(millis.unsigned_abs())),
    })
}

pub(crate) fn flag(reply: &impl Reply) -> Result<bool, DriverError> {
    integer(reply).map(|number| number != 0)
}

pub(crate) fn list<R: Reply>(reply: R) -> Result<Vec<R>, DriverError> {
    let list = reply.into_list();
    list.ok_or_else(|| unexpected("a list"))
}

/// The answers of `GET` and `PTTL`.
pub(crate) fn entry<R: Reply>(replies: Vec<R>) -> Result<Option<DriverEntry>, DriverError> {
    let [value, remaining] =
        <[R; 2]>::try_from(replies).map_err(|_| unexpected("a value and its time to live"))?;
    let (Some(value), ttl) = (bytes(value)?, ttl(&remaining)?) else {
        return Ok(None);
    };
    let entry = DriverEntry {
        version: Some(VersionToken::Content(value.clone())),
        value,
        ttl,
    };
    Ok((ttl != TtlState::Absent).then_some(entry))
}

/// The answer of `GET`, with its version.
pub(crate) fn versioned(reply: impl Reply) -> Result<(Option<Bytes>, VersionToken), DriverError> {
    let value = bytes(reply)?;
    let version = match &value {
        Some(value) => VersionToken::Content(value.clone()),
        None => VersionToken::Absent,
    };
    Ok((value, version))
}

/// A page of `SCAN`. Keys that are not UTF-8 have no name here and are left out, as is the
/// driver's own.
pub(crate) fn page(answer: impl Reply) -> Result<ScanPage, DriverError> {
    let mut parts = list(answer)?.into_iter();
    let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
        return Err(unexpected("a cursor and keys"));
    };
    let cursor = bytes(cursor)?.unwrap_or_default();
    let mut names = Vec::new();
    for key in list(keys)? {
        let key = bytes(key)?.unwrap_or_default();
        match String::from_utf8(key.into()) {
            Ok(name) if !is_marker(&name) => names.push(name),
            _ => {}
        }
    }
    let next = match &cursor[..] {
        b"0" | b"" => None,
        text => Some(ScanCursor::new(String::from_utf8_lossy(text))),
    };
    Ok(ScanPage { keys: names, next })
}

pub(crate) fn unexpected(wanted: &str) -> DriverError {
    RedisFault::protocol(format!("the server did not answer with {wanted}")).into()
}
