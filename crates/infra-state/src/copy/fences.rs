//! The counters of leases.

use infra_core::Classify;
use tokio::time::sleep;

use super::transfer::pause;
use crate::error::{ErrorKind, Result};
use crate::lease::carried_record;
use crate::store::StateStore;
use crate::ttl::Ttl;

const ATTEMPTS: u32 = 8;

/// Makes the lease under `key` free at the target, with a token above all that either side has
/// given out. False where the source's record is no lease.
///
/// # Errors
/// Permanent ones at once, transient ones after several attempts, and a conflict when the lease
/// is being fought for at the target.
pub(super) async fn carry(from: &StateStore, to: &StateStore, key: &str) -> Result<bool> {
    let mut tried = 1;
    loop {
        match attempt(from, to, key).await {
            Err(error) if tried < ATTEMPTS && may_pass(error.kind(), error.is_transient()) => {
                sleep(pause(tried)).await;
                tried += 1;
            }
            other => return other,
        }
    }
}

fn may_pass(kind: ErrorKind, transient: bool) -> bool {
    transient || kind == ErrorKind::Conflict
}

async fn attempt(from: &StateStore, to: &StateStore, key: &str) -> Result<bool> {
    let there = to.get_versioned_bytes(key).await?;
    let here = from.get_entry(key).await?.map(|entry| entry.value);
    let Some(record) = carried_record(here.as_deref(), there.value.as_deref()) else {
        return Ok(false);
    };
    to.compare_and_swap_bytes(key, &there.version, record, Ttl::Clear)
        .await?;
    Ok(true)
}
