//! Commands for one key, and what their answers must look like: the same over one server and over
//! a cluster.

use std::time::Duration;

use bytes::Bytes;
use infra_redis::{Decimal, Effect, Value};

use super::transact::Link;
use crate::driver::{DriverEntry, DriverError, Expiry, TtlMillis};
use crate::redis_common::reply;
use crate::ttl::TtlState;
use crate::version::VersionToken;

/// As current as `effect` asks for.
pub(crate) async fn get(
    link: &impl Link,
    effect: Effect,
    key: &str,
    limit: Duration,
) -> Result<Option<Bytes>, DriverError> {
    let parts = [&b"GET"[..], key.as_bytes()];
    reply::bytes(link.send(&parts, effect, limit).await?)
}

pub(crate) async fn get_entry(
    link: &impl Link,
    key: &str,
    limit: Duration,
) -> Result<Option<DriverEntry>, DriverError> {
    reply::entry(link.read_both(["GET", "PTTL"], key, limit).await?)
}

pub(crate) async fn get_versioned(
    link: &impl Link,
    key: &str,
    limit: Duration,
) -> Result<(Option<Bytes>, VersionToken), DriverError> {
    let parts = [&b"GET"[..], key.as_bytes()];
    reply::versioned(link.send(&parts, Effect::Read, limit).await?)
}

/// The decimal text of a time to live.
pub(crate) fn millis(expiry: Expiry) -> Decimal {
    match expiry {
        Expiry::After(ttl) => Decimal::from(ttl.get()),
        _ => Decimal::from(0_u64),
    }
}

/// The parts of a `SET`, the first so many of the array; `millis` is that of the expiry.
pub(crate) fn set_parts<'a>(
    key: &'a str,
    value: &'a [u8],
    expiry: Expiry,
    millis: &'a Decimal,
) -> ([&'a [u8]; 5], usize) {
    let set = |word: &'a [u8], last| [&b"SET"[..], key.as_bytes(), value, word, last];
    match expiry {
        Expiry::Clear => (set(b"", b""), 3),
        Expiry::Keep => (set(b"KEEPTTL", b""), 4),
        Expiry::After(_) => (set(b"PX", millis.as_bytes()), 5),
    }
}

pub(crate) async fn set(
    link: &impl Link,
    key: &str,
    value: &[u8],
    expiry: Expiry,
    limit: Duration,
) -> Result<(), DriverError> {
    let millis = millis(expiry);
    let (parts, count) = set_parts(key, value, expiry, &millis);
    let parts = parts.get(..count).unwrap_or(&parts);
    link.send(parts, Effect::Write, limit).await?;
    Ok(())
}

pub(crate) async fn set_if_absent(
    link: &impl Link,
    key: &str,
    value: &[u8],
    expiry: Expiry,
    limit: Duration,
) -> Result<bool, DriverError> {
    let millis = millis(expiry);
    let parts = [
        b"SET",
        key.as_bytes(),
        value,
        b"NX",
        b"PX",
        millis.as_bytes(),
    ];
    // There is nothing whose expiry could be kept.
    let parts = match expiry {
        Expiry::After(_) => &parts[..],
        Expiry::Keep | Expiry::Clear => parts.get(..4).unwrap_or(&parts),
    };
    Ok(link.send(parts, Effect::Write, limit).await? != Value::Nil)
}

pub(crate) async fn exists(
    link: &impl Link,
    key: &str,
    limit: Duration,
) -> Result<bool, DriverError> {
    let parts = [&b"EXISTS"[..], key.as_bytes()];
    reply::flag(&link.send(&parts, Effect::StaleRead, limit).await?)
}

pub(crate) async fn increment(
    link: &impl Link,
    key: &str,
    delta: i64,
    limit: Duration,
) -> Result<i64, DriverError> {
    let delta = Decimal::from(delta);
    let parts = [&b"INCRBY"[..], key.as_bytes(), delta.as_bytes()];
    reply::integer(&link.send(&parts, Effect::Write, limit).await?)
}

pub(crate) async fn expire(
    link: &impl Link,
    key: &str,
    ttl: TtlMillis,
    limit: Duration,
) -> Result<bool, DriverError> {
    let ttl = Decimal::from(ttl.get());
    let parts = [&b"PEXPIRE"[..], key.as_bytes(), ttl.as_bytes()];
    reply::flag(&link.send(&parts, Effect::Write, limit).await?)
}

pub(crate) async fn persist(
    link: &impl Link,
    key: &str,
    limit: Duration,
) -> Result<bool, DriverError> {
    let parts = [&b"PERSIST"[..], key.as_bytes()];
    reply::flag(&link.send(&parts, Effect::Write, limit).await?)
}

pub(crate) async fn ttl(
    link: &impl Link,
    key: &str,
    limit: Duration,
) -> Result<TtlState, DriverError> {
    let parts = [&b"PTTL"[..], key.as_bytes()];
    reply::ttl(&link.send(&parts, Effect::StaleRead, limit).await?)
}
