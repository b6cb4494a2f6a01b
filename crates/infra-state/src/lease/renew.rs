//! Staying the holder.

use std::sync::Arc;

use tracing::{debug, error};

use super::guard::Held;
use crate::error::{ErrorKind, Result};
use crate::ttl::Ttl;

/// Renews until the lease is lost. Aborted when the guard is dropped.
pub(super) async fn for_ever(held: Arc<Held>) {
    let lease = &held.lease;
    let mut pause = lease.ttl / 3;
    loop {
        let wake = lease.clock.now().plus(pause).min(held.until());
        tokio::select! {
            () = lease.clock.sleep_until(wake) => {}
            () = held.is_lost() => return,
        }
        if !held.is_valid() {
            break;
        }
        // The signal must not wait for the answer of a store that does not answer.
        let renewed = tokio::select! {
            renewed = renew(&held) => renewed,
            () = lease.clock.sleep_until(held.until()) => break,
            () = held.is_lost() => break,
        };
        pause = match renewed {
            Ok(true) => lease.ttl / 3,
            Ok(false) => lease.ttl / 20,
            Err(error) => {
                debug!(lease = %lease.name, %error, "lease not renewed, trying again");
                lease.ttl / 20
            }
        };
    }
    held.lose();
    error!(lease = %lease.name, token = held.token, "lease lost");
}

/// False when the record had to be read first: then it is still to be renewed.
async fn renew(held: &Held) -> Result<bool> {
    let lease = &held.lease;
    let current = held.current();
    let record = current.record.renewed();
    let sent = lease.now();
    let swap = lease
        .store
        .compare_and_swap(&lease.key, &current.version, &record, Ttl::Clear);
    match swap.await {
        Ok(version) => {
            held.replace(record, version);
            held.extend(sent);
            Ok(true)
        }
        // Another holder, or a renewal of ours whose answer was lost.
        Err(error) if error.kind() == ErrorKind::Conflict => {
            held.look_again().await.map(|()| false)
        }
        Err(error) => Err(error),
    }
}
