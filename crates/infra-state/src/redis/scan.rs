//! `SCAN` by literal prefix.

use infra_redis::Value;
use infra_redis::redis::{Cmd, cmd};

use super::reply;
use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::redis_common::{SCAN_COUNT, is_marker, pattern};

pub(crate) fn command(prefix: &str, cursor: Option<&ScanCursor>) -> Cmd {
    let mut scan = cmd("SCAN");
    scan.arg(cursor.map_or("0", ScanCursor::as_str));
    if !prefix.is_empty() {
        scan.arg("MATCH").arg(pattern(prefix));
    }
    scan.arg("COUNT").arg(SCAN_COUNT);
    scan
}

/// Keys that are not UTF-8 have no name here and are left out, as is the driver's own.
pub(crate) fn page(answer: Value) -> Result<ScanPage, DriverError> {
    let mut parts = reply::list(answer)?.into_iter();
    let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
        return Err(reply::unexpected("a cursor and keys"));
    };
    let cursor = reply::bytes(cursor)?.unwrap_or_default();
    let mut names = Vec::new();
    for key in reply::list(keys)? {
        let key = reply::bytes(key)?.unwrap_or_default();
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
