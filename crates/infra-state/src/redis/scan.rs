//! `SCAN` by literal prefix.

use infra_redis::redis::{Cmd, cmd};

use crate::driver::ScanCursor;
use crate::redis_common::{SCAN_COUNT, pattern};

pub(crate) fn command(prefix: &str, cursor: Option<&ScanCursor>) -> Cmd {
    let mut scan = cmd("SCAN");
    scan.arg(cursor.map_or("0", ScanCursor::as_str));
    if !prefix.is_empty() {
        scan.arg("MATCH").arg(pattern(prefix));
    }
    scan.arg("COUNT").arg(SCAN_COUNT);
    scan
}
