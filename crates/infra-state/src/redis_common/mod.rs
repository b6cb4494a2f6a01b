//! What the drivers over Redis share, whichever client library they use: options, errors,
//! patterns, the shapes of answers, the script of transactions, watches, and the eye on the server.

mod config;
mod error;
mod monitor;
mod pattern;
pub(crate) mod reply;
mod risks;
mod script;
mod watch;

pub(crate) use config::{capabilities, connection_options};
pub(crate) use monitor::{MARKER, Monitor, Observed};
pub(crate) use pattern::{SCAN_COUNT, pattern};
pub(crate) use script::{MAX_STEPS, Part, TRANSACTION, TRANSACTION_SHA1, parts, versions_after};
#[cfg(feature = "redis")]
pub(crate) use script::{SWAP, SWAP_SHA1, SWAPS};
pub(crate) use watch::Watches;
#[cfg(feature = "redis")]
pub(crate) use watch::{CAPACITY, first, follow, follow_from_outage};

/// Whether a key is one by which a driver knows servers again: nobody's data.
pub(crate) fn is_marker(key: &str) -> bool {
    let rest = key.strip_prefix(MARKER);
    // In a cluster there is one for each primary, with a hash tag.
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('{') && rest.ends_with('}')))
}

/// Keys of one `MGET` or `DEL`: enough to pay, few enough not to hold up other callers.
pub(crate) const CHUNK: usize = 512;
/// The server's own limit (`proto-max-bulk-len`).
pub(crate) const MAX_VALUE_BYTES: usize = 512 * 1024 * 1024;
