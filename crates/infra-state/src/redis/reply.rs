//! What the answers of the commands must look like.

use std::time::Duration;

use bytes::Bytes;
use infra_redis::{RedisFault, Value};

use crate::driver::DriverError;
use crate::ttl::TtlState;

pub(crate) fn bytes(reply: Value) -> Result<Option<Bytes>, DriverError> {
    match reply {
        Value::Nil => Ok(None),
        Value::Bytes(bytes) => Ok(Some(Bytes::from(bytes))),
        _ => Err(unexpected("a string or nothing")),
    }
}

pub(crate) fn integer(reply: &Value) -> Result<i64, DriverError> {
    match reply {
        Value::Int(number) => Ok(*number),
        _ => Err(unexpected("an integer")),
    }
}

/// The answer of `PTTL`.
pub(crate) fn ttl(reply: &Value) -> Result<TtlState, DriverError> {
    Ok(match integer(reply)? {
        -2 => TtlState::Absent,
        -1 => TtlState::NoExpiry,
        millis => TtlState::Remaining(Duration::from_millis(millis.unsigned_abs())),
    })
}

pub(crate) fn flag(reply: &Value) -> Result<bool, DriverError> {
    integer(reply).map(|number| number != 0)
}

pub(crate) fn list(reply: Value) -> Result<Vec<Value>, DriverError> {
    match reply {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected("a list")),
    }
}

pub(crate) fn unexpected(wanted: &str) -> DriverError {
    RedisFault::protocol(format!("the server did not answer with {wanted}")).into()
}
