//! What the holder of a lease has in hand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use infra_core::{MonoTime, context};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::record::Record;
use super::{Lease, Sent, millis, renew};
use crate::driver::DriverError;
use crate::error::{ErrorKind, Result};
use crate::store::Transaction;
use crate::ttl::Ttl;
use crate::version::Version;

/// Attempts of a fenced write that meets renewals of the same lease.
const ATTEMPTS: u32 = 10;

/// A lease that is held, and renewed in the background until this is dropped.
///
/// Ask [`LeaseGuard::is_valid`] before each thing that only the holder may do, end what takes
/// longer on [`LeaseGuard::lost`], and write through [`LeaseGuard::set`] or
/// [`LeaseGuard::commit`]. Dropping it releases the lease in the background, as well as that goes.
#[must_use = "the lease is released when this is dropped"]
pub struct LeaseGuard {
    held: Arc<Held>,
    renewal: AbortHandle,
    released: bool,
}

pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) token: u64,
    current: Mutex<Current>,
    /// Nanoseconds of the lease's clock, milliseconds since 1970: valid before both.
    until: AtomicU64,
    wall_until: AtomicU64,
    lost: watch::Sender<bool>,
}

#[derive(Clone)]
pub(super) struct Current {
    pub(super) record: Record,
    pub(super) version: Version,
}

impl LeaseGuard {
    pub(super) fn new(lease: Lease, record: Record, version: Version, sent: Sent) -> Self {
        let held = Arc::new(Held {
            token: record.token,
            lease,
            current: Mutex::new(Current { record, version }),
            until: AtomicU64::new(0),
            wall_until: AtomicU64::new(0),
            lost: watch::Sender::new(false),
        });
        held.extend(sent);
        let renewal = context::spawn_detached(renew::for_ever(held.clone())).abort_handle();
        LeaseGuard {
            held,
            renewal,
            released: false,
        }
    }

    /// The fencing token: higher than that of every holder before.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// Whether the lease is held for certain, at this moment. Reads two clocks and nothing else.
    pub fn is_valid(&self) -> bool {
        self.held.is_valid()
    }

    /// Completes when the lease is no longer held for certain: another has it, or the store did
    /// not confirm a renewal in time. Comes before anybody else can have acquired it. Cancel safe.
    pub async fn lost(&self) {
        let mut lost = self.held.lost.subscribe();
        // The sender is part of the guard.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Stores `value` for ever, in one step with a check that the lease is still held.
    ///
    /// # Errors
    /// As [`LeaseGuard::commit`].
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Version> {
        let bytes: Bytes = self.held.lease.store.encoded("fenced_set", key, value)?;
        let plan = |transaction: Transaction| transaction.set_bytes(key, bytes.clone(), Ttl::Clear);
        let versions = self.commit(plan).await?;
        let missing = || self.held.lease_lost();
        versions.into_iter().next_back().ok_or_else(missing)
    }

    /// Does a transaction in one step with a check that the lease is still held. `plan` adds its
    /// steps to the transaction that it gets; it is called again when a renewal came in between.
    /// The returned versions begin with that of the lease's own key.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost): nothing was written. Otherwise as
    /// [`Transaction::commit`]; in a Redis cluster the keys must lie in one slot with the lease, as
    /// those of `store.namespaced("{desk}")` do.
    pub async fn commit(&self, plan: impl Fn(Transaction) -> Transaction) -> Result<Vec<Version>> {
        let held = &self.held;
        let lease = &held.lease;
        for _ in 0..ATTEMPTS {
            if !held.is_valid() {
                break;
            }
            let version = held.current().version;
            let fenced = lease.store.transaction().check(&lease.key, &version);
            match plan(fenced).commit().await {
                Err(error) if error.kind() == ErrorKind::Conflict && error.index() == Some(0) => {
                    held.look_again().await?;
                }
                result => return result,
            }
        }
        Err(held.lease_lost())
    }

    /// Releases the lease, so that others need not wait; true when it was still held. The token
    /// stays used.
    ///
    /// # Errors
    /// The lease then ends with its time to live. As
    /// [`StateStore::compare_and_swap`](crate::StateStore::compare_and_swap).
    pub async fn release(mut self) -> Result<bool> {
        self.released = true;
        self.renewal.abort();
        self.held.clone().release().await
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.renewal.abort();
        if self.released {
            return;
        }
        let held = self.held.clone();
        if tokio::runtime::Handle::try_current().is_ok() {
            context::spawn_detached(async move {
                // Without it the lease ends with its time to live.
                let _ = held.release().await;
            });
        } else {
            held.lose();
        }
    }
}

impl Held {
    pub(super) fn current(&self) -> Current {
        self.lock().clone()
    }

    pub(super) fn replace(&self, record: Record, version: Version) {
        *self.lock() = Current { record, version };
    }

    /// Counts the time to live from `sent` on.
    pub(super) fn extend(&self, sent: Sent) {
        let certain = self.lease.certain();
        let until = sent.0.plus(certain).as_nanos();
        self.until.store(until, Ordering::SeqCst);
        let wall = sent.1.saturating_add(millis(certain));
        self.wall_until.store(wall, Ordering::SeqCst);
    }

    pub(super) fn until(&self) -> MonoTime {
        MonoTime::from_nanos(self.until.load(Ordering::SeqCst))
    }

    pub(super) fn is_valid(&self) -> bool {
        let valid = !*self.lost.borrow()
            && self.lease.clock.now() < self.until()
            && self.lease.wall_millis() < self.wall_until.load(Ordering::SeqCst);
        if !valid {
            // Once lost, always lost, whatever the clocks do next.
            self.lose();
        }
        valid
    }

    pub(super) fn lose(&self) {
        self.lost
            .send_if_modified(|lost| !std::mem::replace(lost, true));
    }

    /// Completes when it is lost.
    pub(super) async fn is_lost(&self) {
        let mut lost = self.lost.subscribe();
        let _ = lost.wait_for(|lost| *lost).await;
    }

    pub(super) fn lease_lost(&self) -> crate::error::Error {
        let message = format!("lease `{}` is not held any more", self.lease.name);
        let cause = DriverError::new(ErrorKind::LeaseLost, message);
        self.lease.store.refused("fenced write", cause)
    }

    /// Takes over the version of a renewal of our own; anybody else's record loses the lease.
    pub(super) async fn look_again(&self) -> Result<()> {
        let lease = &self.lease;
        let read = lease.store.get_versioned::<Record>(&lease.key).await?;
        match read.value {
            Some(stored) if stored.same_holder(&self.current().record) => {
                self.replace(stored, read.version);
            }
            _ => self.lose(),
        }
        Ok(())
    }

    async fn release(self: Arc<Self>) -> Result<bool> {
        self.lose();
        let lease = &self.lease;
        for _ in 0..ATTEMPTS {
            let read = lease.store.get_versioned::<Record>(&lease.key).await?;
            let Some(stored) =
                (read.value).filter(|stored| stored.same_holder(&self.current().record))
            else {
                return Ok(false);
            };
            let free = stored.released();
            let swap = lease
                .store
                .compare_and_swap(&lease.key, &read.version, &free, Ttl::Clear);
            match swap.await {
                Ok(_) => return Ok(true),
                // A renewal that was still on its way.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGuard")
            .field("name", &self.held.lease.name)
            .field("token", &self.held.token)
            .finish_non_exhaustive()
    }
}
