//! What the answers of the commands must look like.

use std::time::Duration;

use bytes::Bytes;
use infra_redis::{FredReply, RedisFault};

use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::redis_common::is_marker;
use crate::ttl::TtlState;

pub(super) fn bytes(reply: FredReply) -> Result<Option<Bytes>, DriverError> {
    match reply {
        FredReply::Nil => Ok(None),
        FredReply::Bytes(bytes) => Ok(Some(bytes)),
        _ => Err(unexpected("a string or nothing")),
    }
}

pub(super) fn integer(reply: &FredReply) -> Result<i64, DriverError> {
    match reply {
        FredReply::Integer(number) => Ok(*number),
        _ => Err(unexpected("an integer")),
    }
}

/// The answer of `PTTL`.
pub(super) fn ttl(reply: &FredReply) -> Result<TtlState, DriverError> {
    Ok(match integer(reply)? {
        -2 => TtlState::Absent,
        -1 => TtlState::NoExpiry,
        millis => TtlState::Remaining(Duration::from_millis(millis.unsigned_abs())),
    })
}

pub(super) fn flag(reply: &FredReply) -> Result<bool, DriverError> {
    integer(reply).map(|number| number != 0)
}

pub(super) fn list(reply: FredReply) -> Result<Vec<FredReply>, DriverError> {
    match reply {
        FredReply::List(values) => Ok(values),
        _ => Err(unexpected("a list")),
    }
}

/// A page of `SCAN`. Keys that are not UTF-8 have no name here and are left out, as is the driver's
/// own.
pub(super) fn page(answer: FredReply) -> Result<ScanPage, DriverError> {
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

pub(super) fn unexpected(wanted: &str) -> DriverError {
    RedisFault::protocol(format!("the server did not answer with {wanted}")).into()
}
