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
use crate::watch::{Change, ChangeStream};

/// All who wait look at a record that has changed within so long.
const CHANGE_SPREAD: Duration = Duration::from_millis(20);
/// Who waits looks at the record after so long, whatever is reported.
const LONGEST_WATCHED: Duration = Duration::from_secs(30);
/// And where nothing is reported.
const LONGEST_UNWATCHED: Duration = Duration::from_secs(1);

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
        match self.attempt().await? {
            Attempted::Held(guard) => Ok(Some(*guard)),
            Attempted::Faster | Attempted::Taken(_) => Ok(None),
        }
    }

    /// Waits until it holds the lease. While the store cannot be reached it tries again.
    ///
    /// **After the holder was killed** this takes over when it has seen the record unchanged for
    /// its time to live and most of a margin, a tenth of that (at least half a second). So at the
    /// latest the time to live and the margin after the last renewal, which is up to a third of the
    /// time to live before the holder's end: 7.5 to 11 s after that at 10 s. How many wait makes no
    /// difference: each looks at a moment of its own, a fifth of the margin apart at most.
    ///
    /// **A release** is noticed within about 20 ms where the backend
    /// [watches](crate::StateStore::watch), as all of this crate do; otherwise, and where its reports
    /// are refused, within a tenth of the time to live, at most a second.
    ///
    /// **Calls** of one who waits: a read after each renewal, three for each time to live (0.3 a
    /// second at 10 s), where the backend watches; otherwise 10 to 20 for each time to live, from
    /// a time to live of 10 s on 1 to 2 a second. A release makes all who wait read once and write
    /// once, within 20 ms.
    ///
    /// # Errors
    /// Those that repeating does not help against: a closed store, one without versions.
    pub async fn acquire(&self) -> Result<LeaseGuard> {
        let mut changes = None;
        let mut watched = false;
        loop {
            let attempted = match self.attempt().await {
                Ok(Attempted::Held(guard)) => return Ok(*guard),
                Ok(attempted) => Some(attempted),
                Err(error) if worth_another_try(&error) => {
                    debug!(lease = %self.name, %error, "lease cannot be acquired yet");
                    None
                }
                Err(error) => return Err(error),
            };
            if attempted.is_some() && !std::mem::replace(&mut watched, true) {
                changes = self.changes().await;
                // A release before the watch began is seen now.
                if changes.is_some() {
                    continue;
                }
            }
            let pause = pause(attempted.as_ref(), self.ttl, changes.is_some());
            self.wait_for_change(pause, &mut changes).await;
        }
    }

    async fn attempt(&self) -> Result<Attempted> {
        let read = self.store.get_versioned::<Record>(&self.key).await?;
        let taken = match read.value.as_ref().filter(|read| read.owner.is_some()) {
            None => self.take(read).await?,
            Some(record) => match self.take_unconfirmed(record) {
                Some(ours) => {
                    let renewed = ours.record.renewed();
                    self.write(renewed, &read.version, Some(ours)).await?
                }
                None => match self.waits_for(record, &read.version) {
                    Some(left) => {
                        return Ok(Attempted::Taken(Taken {
                            left,
                            ttl: record.ttl(),
                        }));
                    }
                    None => self.take(read).await?,
                },
            },
        };
        Ok(match taken {
            Some(guard) => Attempted::Held(Box::new(guard)),
            None => Attempted::Faster,
        })
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
        let left = patience(record.ttl()).saturating_sub(now.since(since));
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

    /// Until the record changes, but not longer than `pause`.
    async fn wait_for_change(&self, pause: Duration, changes: &mut Option<ChangeStream>) {
        let pause = self.clock.sleep(pause);
        let Some(stream) = changes else {
            return pause.await;
        };
        tokio::select! {
            () = pause => return,
            watching = self.changed(stream) => if !watching {
                *changes = None;
            },
        }
        let moment = CHANGE_SPREAD.mul_f64(crate::random::fraction());
        self.clock.sleep(moment).await;
    }

    /// Completes when the record of this lease may have changed; false when nothing is reported any
    /// more.
    async fn changed(&self, stream: &mut ChangeStream) -> bool {
        loop {
            match stream.next().await {
                // A lease whose name begins with this one's.
                Some(Change::Key(key)) if *key != *self.key => {}
                change => return change.is_some(),
            }
        }
    }
}

/// What an attempt to acquire a lease found.
enum Attempted {
    Held(Box<LeaseGuard>),
    /// Another wrote the record in the same moment.
    Faster,
    Taken(Taken),
}

/// Another's record.
struct Taken {
    /// How long it must still stay as it is to be taken over.
    left: Duration,
    /// Its own time to live: its holder renews it after a third of that.
    ttl: Duration,
}

/// How long a record must be seen unchanged. What is left of the margin spreads those who wait, and
/// is for the calls.
fn patience(ttl: Duration) -> Duration {
    ttl + margin(ttl) - margin(ttl) / 4
}

/// Each of those who wait looks at a moment of its own in so long.
fn spread(ttl: Duration) -> Duration {
    margin(ttl) / 5
}

/// How long to wait before the next look, unless a change is reported.
fn pause(attempted: Option<&Attempted>, ttl: Duration, watching: bool) -> Duration {
    let part = crate::random::fraction();
    let (left, ttl) = match attempted {
        Some(Attempted::Faster | Attempted::Held(_)) => return CHANGE_SPREAD.mul_f64(part),
        Some(Attempted::Taken(taken)) => (taken.left, taken.ttl),
        // The store does not answer.
        None => (ttl, ttl),
    };
    let end = left + spread(ttl).mul_f64(part);
    let look = match watching && attempted.is_some() {
        // The next renewal is reported sooner; this is for reports that get lost.
        true => (ttl / 2).min(LONGEST_WATCHED),
        // Spread, so that many who wait do not ask at the same time.
        false => (ttl / 10).min(LONGEST_UNWATCHED).mul_f64(0.5 + part / 2.0),
    };
    end.min(look)
}

/// Whether the store may come to another answer by itself.
pub(super) fn worth_another_try(error: &Error) -> bool {
    error.class() == Class::Transient || error.outcome() == Outcome::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_at_the_end_of_the_record_and_not_later() {
        for seconds in [1, 2, 10, 60, 3600] {
            let ttl = Duration::from_secs(seconds);
            let latest = ttl + margin(ttl);
            assert!(patience(ttl) > ttl && patience(ttl) + spread(ttl) <= latest);
            let left = (ttl / 50).min(Duration::from_millis(100));
            let taken = Attempted::Taken(Taken { left, ttl });
            for watching in [true, false] {
                let next = pause(Some(&taken), ttl, watching);
                assert!(next >= left, "{next:?}, early");
                assert!(next <= left + spread(ttl), "{next:?}, late");
            }
        }
    }

    #[test]
    fn who_waits_long_looks_seldom_where_changes_are_reported_and_soon_where_not() {
        let ttl = Duration::from_secs(10);
        let left = patience(ttl);
        let taken = Attempted::Taken(Taken { left, ttl });
        for _ in 0..100 {
            // Later than the next renewal.
            assert!(pause(Some(&taken), ttl, true) > ttl / 3);
            let unwatched = pause(Some(&taken), ttl, false);
            assert!((ttl / 20..=ttl / 10).contains(&unwatched), "{unwatched:?}");
            assert!(pause(Some(&Attempted::Faster), ttl, false) <= CHANGE_SPREAD);
            assert!(pause(None, ttl, true) <= ttl / 10);
        }
    }
}
