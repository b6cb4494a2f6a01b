//! Becoming the holder.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};
use tracing::{debug, warn};

use super::guard::LeaseGuard;
use super::record::{Record, margin};
use super::{Attempt, Lease, Seen, Sent, millis};
use crate::capabilities::Requirement;
use crate::error::{Error, ErrorKind, Result};
use crate::ttl::Ttl;
use crate::version::{Version, Versioned};
use crate::watch::ChangeStream;

impl Lease {
    /// Acquires the lease if it is free, or if its holder has not renewed it for its whole time
    /// to live while this handle was looking; otherwise `None`. Must be called on a tokio runtime,
    /// where the renewals then run.
    ///
    /// Not cancel safe: a dropped call may hold the lease until its time to live is over. After one
    /// that fails with an unknown outcome nobody has the lease: this handle goes on with what it
    /// wrote at its next call, others wait for the time to live.
    ///
    /// # Errors
    /// As [`StateStore::compare_and_swap`](crate::StateStore::compare_and_swap).
    pub async fn try_acquire(&self) -> Result<Option<LeaseGuard>> {
        let read = self.store.get_versioned::<Record>(&self.key).await?;
        let Some(record) = read.value.as_ref().filter(|read| read.owner.is_some()) else {
            return self.take(read).await;
        };
        if let Some(ours) = self.take_unconfirmed(record) {
            return self
                .write(ours.record.renewed(), &read.version, Some(ours))
                .await;
        }
        match self.waits_for(record, &read.version) {
            Some(_) => Ok(None),
            None => self.take(read).await,
        }
    }

    /// Waits until it holds the lease. While the store cannot be reached it tries again.
    ///
    /// # Errors
    /// Those that repeating does not help against: a closed store, one without versions.
    pub async fn acquire(&self) -> Result<LeaseGuard> {
        let mut changes = self.changes().await;
        loop {
            match self.try_acquire().await {
                Ok(Some(guard)) => return Ok(guard),
                Ok(None) => {}
                Err(error) if worth_another_try(&error) => {
                    debug!(lease = %self.name, %error, "lease cannot be acquired yet");
                }
                Err(error) => return Err(error),
            }
            self.wait_for_change(&mut changes).await;
        }
    }

    /// How long the record must still stay as it is to be taken over; none when it did so long
    /// enough.
    fn waits_for(&self, record: &Record, version: &Version) -> Option<Duration> {
        // After the answer: the record is at least as old as this.
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match &*seen {
            Some(seen) if seen.version == *version => seen.since,
            _ => {
                *seen = Some(Seen {
                    version: version.clone(),
                    since: now,
                });
                now
            }
        };
        let patience = record.ttl() + margin(record.ttl());
        let left = patience.saturating_sub(now.since(since));
        (!left.is_zero()).then_some(left)
    }

    async fn take(&self, read: Versioned<Record>) -> Result<Option<LeaseGuard>> {
        let record = Record::acquired(read.value.as_ref(), &self.holder, self.ttl);
        if read.value.is_some_and(|before| before.owner.is_some()) {
            warn!(lease = %self.name, token = record.token, "lease taken over: not renewed in time");
        }
        match self.write(record, &read.version, None).await {
            Err(error) if error.outcome() == Outcome::Unknown => self.settle(error).await,
            written => written,
        }
    }

    /// Whether a write of unknown outcome made this the holder. That the record can be read does not
    /// tell whether the write is acknowledged at the level of the store, so another one has to be:
    /// after a failover others might hold the lease under the same token.
    async fn settle(&self, error: Error) -> Result<Option<LeaseGuard>> {
        let Ok(read) = self.store.get_versioned::<Record>(&self.key).await else {
            return Err(error);
        };
        let ours = read.value.and_then(|record| self.take_unconfirmed(&record));
        let Some(ours) = ours else {
            return Err(error);
        };
        match self
            .write(ours.record.renewed(), &read.version, Some(ours))
            .await
        {
            Ok(Some(guard)) => Ok(Some(guard)),
            _ => Err(error),
        }
    }

    /// Writes a record, in place of one that this handle wrote and is not sure of, if any.
    async fn write(
        &self,
        record: Record,
        version: &Version,
        before: Option<Attempt>,
    ) -> Result<Option<LeaseGuard>> {
        // Before the request is sent: whenever it is applied, that is later.
        let sent = self.now();
        let swap = (self.store)
            .compare_and_swap(&self.key, version, &record, Ttl::Clear)
            .await;
        let error = match swap {
            Ok(version) => {
                self.unconfirmed().clear();
                return Ok(Some(LeaseGuard::new(self.clone(), record, version, sent)));
            }
            Err(error) => error,
        };
        let after = (error.outcome() == Outcome::Unknown).then_some(Attempt { record, sent });
        if before.is_some() || after.is_some() {
            *self.unconfirmed() = before.into_iter().chain(after).collect();
        }
        match error.kind() {
            ErrorKind::Conflict => Ok(None),
            _ => Err(error),
        }
    }

    /// Takes the attempt that wrote this record, unless it was so long ago that another may have
    /// held the lease since, and a failover may have brought the record back. Only one call gets
    /// it.
    fn take_unconfirmed(&self, record: &Record) -> Option<Attempt> {
        let mut unconfirmed = self.unconfirmed();
        let ours = |attempt: &Attempt| {
            // A clone with another time to live is not meant.
            let same = attempt.record == *record && record.ttl_ms == millis(self.ttl);
            same && self.is_recent(attempt.sent)
        };
        let place = unconfirmed.iter().position(ours)?;
        let attempt = unconfirmed.swap_remove(place);
        unconfirmed.clear();
        Some(attempt)
    }

    fn is_recent(&self, (sent, wall): Sent) -> bool {
        let certain = self.certain();
        self.clock.now() < sent.plus(certain)
            && self.wall_millis() < wall.saturating_add(millis(certain))
    }

    fn unconfirmed(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.unconfirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of the record, where the backend reports them: a release is then seen at once.
    async fn changes(&self) -> Option<ChangeStream> {
        self.store.require(Requirement::Watch).ok()?;
        self.store.changes(&self.key).await.ok()
    }

    async fn wait_for_change(&self, changes: &mut Option<ChangeStream>) {
        // Spread, so that many who wait do not ask at the same time.
        let pause = (self.ttl / 4).mul_f64(0.5 + crate::random::fraction() / 2.0);
        let pause = self.clock.sleep(pause);
        let Some(stream) = changes else {
            return pause.await;
        };
        let ended = tokio::select! {
            () = pause => false,
            change = stream.next() => change.is_none(),
        };
        if ended {
            *changes = None;
        }
    }
}

/// Whether the store may come to another answer by itself.
pub(super) fn worth_another_try(error: &Error) -> bool {
    error.class() == Class::Transient || error.outcome() == Outcome::Unknown
}
