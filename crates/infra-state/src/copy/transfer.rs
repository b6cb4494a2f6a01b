//! One key.

use std::time::{Duration, Instant};

use bytes::Bytes;
use infra_core::Classify;
use tokio::time::sleep;

use super::OnConflict;
use crate::capabilities::Requirement;
use crate::error::{ErrorKind, Result};
use crate::store::StateStore;
use crate::ttl::Ttl;
use crate::version::{Entry, Version};

/// Times that a key is tried, where others write it or a store does not answer.
pub(super) const ATTEMPTS: u32 = 8;
/// Lives that differ by no more than this are the same: they were read moments apart.
pub(super) const SAME_LIFE: Duration = Duration::from_secs(2);

/// What became of a key.
#[derive(Debug)]
pub(super) enum Moved {
    Copied(Written),
    Unchanged,
    Kept,
    Refused,
    Vanished,
    Unsettled,
    Oversize(usize),
}

/// What was put under a key of the target.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) value: Bytes,
    /// None where the target has no versions.
    pub(super) version: Option<Version>,
}

/// How keys get from one store to the other.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) from: StateStore,
    pub(super) to: StateStore,
    pub(super) on_conflict: OnConflict,
    /// Also removes at the target what the source does not have.
    pub(super) removes: bool,
    /// Only finds out.
    pub(super) dry: bool,
    /// How often a store that does not answer is asked.
    pub(super) patience: u32,
}

impl Transfer {
    /// Brings one key over. The target is read first and written only if it is still the same, so
    /// whatever was written to both meanwhile wins.
    ///
    /// # Errors
    /// Permanent ones at once, transient ones after several attempts.
    pub(super) async fn bring(&self, key: &str) -> Result<Moved> {
        self.patiently(|| self.attempt(key)).await
    }

    async fn patiently<F>(&self, attempt: impl Fn() -> F) -> Result<Moved>
    where
        F: Future<Output = Result<Option<Moved>>>,
    {
        for tried in 1..=ATTEMPTS {
            match attempt().await {
                Ok(Some(moved)) => return Ok(moved),
                Ok(None) => {}
                Err(error) if error.is_transient() && tried < self.patience => {
                    sleep(pause(tried)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::Unsettled)
    }

    /// None where another writer came in between.
    async fn attempt(&self, key: &str) -> Result<Option<Moved>> {
        let found = self.to.get_entry(key).await?;
        let asked = Instant::now();
        let Some(entry) = self.from.get_entry(key).await? else {
            return self.remove(key, found).await;
        };
        let value = entry.value;
        if value.len() > self.to.capabilities().max_value_bytes {
            return Ok(Some(Moved::Oversize(value.len())));
        }
        let Some(life) = rest_of(entry.ttl, asked) else {
            return Ok(Some(Moved::Vanished));
        };
        self.put(key, found, value, life).await
    }

    /// Stores a value in place of what was found.
    pub(super) async fn put(
        &self,
        key: &str,
        found: Option<Entry>,
        value: Bytes,
        life: Option<Duration>,
    ) -> Result<Option<Moved>> {
        if let Some(found) = &found {
            let overwrite = self.on_conflict == OnConflict::Overwrite;
            match found.value == value {
                true if !overwrite || need_not_change(found.ttl, life) => {
                    return Ok(Some(Moved::Unchanged));
                }
                false if self.on_conflict == OnConflict::Skip => return Ok(Some(Moved::Kept)),
                false if !overwrite => return Ok(Some(Moved::Refused)),
                _ => {}
            }
        }
        if self.dry {
            let version = None;
            return Ok(Some(Moved::Copied(Written { value, version })));
        }
        let expected = self.expected(key, found.as_ref())?;
        match self.write(key, expected, &value, life).await {
            Ok(version) => Ok(Some(Moved::Copied(Written { value, version }))),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the target must still be when it is written.
    fn expected(&self, key: &str, found: Option<&Entry>) -> Result<Option<Version>> {
        if !self.to.capabilities().can(Requirement::Versions) {
            return Ok(None);
        }
        match found {
            Some(found) => Ok(found.version.clone()),
            None => self.to.version_of_nothing(key).map(Some),
        }
    }

    async fn write(
        &self,
        key: &str,
        expected: Option<Version>,
        value: &Bytes,
        life: Option<Duration>,
    ) -> Result<Option<Version>> {
        let ttl = Ttl::from(life);
        match expected {
            Some(version) => {
                let swap = self
                    .to
                    .compare_and_swap_bytes(key, &version, value.clone(), ttl);
                swap.await.map(Some)
            }
            None => {
                let set = self.to.set_bytes_with(key, value.clone(), ttl);
                set.await.map(|()| None)
            }
        }
    }

    async fn remove(&self, key: &str, found: Option<Entry>) -> Result<Option<Moved>> {
        if !self.removes || self.dry {
            return Ok(Some(Moved::Vanished));
        }
        let removed = match found {
            None => Ok(()),
            Some(Entry {
                version: Some(version),
                ..
            }) => self.to.compare_and_delete(key, &version).await,
            Some(_) => self.to.delete(key).await.map(|_| ()),
        };
        match removed {
            Ok(()) => Ok(Some(Moved::Vanished)),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows what became of a key at the source since it was written at the target, as long as
    /// nobody else has written it there.
    ///
    /// # Errors
    /// As [`Transfer::bring`].
    pub(super) async fn settle(&self, key: &str, mut written: Written) -> Result<Moved> {
        for tried in 1..=ATTEMPTS {
            match self.follow(key, &written).await {
                Ok(Followed::Same) => return Ok(Moved::Copied(written)),
                Ok(Followed::Gone) => return Ok(Moved::Vanished),
                Ok(Followed::Newer(newer)) => written = newer,
                // Somebody else wrote there: that is newer than anything here.
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    return Ok(Moved::Copied(written));
                }
                Err(error) if error.is_transient() && tried < ATTEMPTS => {
                    sleep(pause(tried)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::Unsettled)
    }

    async fn follow(&self, key: &str, written: &Written) -> Result<Followed> {
        let asked = Instant::now();
        let entry = self.from.get_entry(key).await?;
        let living = entry.and_then(|entry| {
            let life = rest_of(entry.ttl, asked)?;
            Some((entry.value, life))
        });
        match (living, &written.version) {
            (Some((value, _)), _) if value == written.value => Ok(Followed::Same),
            (Some((value, life)), version) => {
                let version = self.write(key, version.clone(), &value, life).await?;
                Ok(Followed::Newer(Written { value, version }))
            }
            (None, Some(version)) => {
                self.to.compare_and_delete(key, version).await?;
                Ok(Followed::Gone)
            }
            (None, None) => {
                self.to.delete(key).await?;
                Ok(Followed::Gone)
            }
        }
    }
}

enum Followed {
    Same,
    Newer(Written),
    Gone,
}

/// What is left of a life that was asked for at `asked`; none when it is over.
fn rest_of(ttl: Option<Duration>, asked: Instant) -> Option<Option<Duration>> {
    match ttl {
        None => Some(None),
        Some(left) => {
            let left = left.saturating_sub(asked.elapsed());
            (!left.is_zero()).then_some(Some(left))
        }
    }
}

/// For a comparison, which looks at two stores in use.
pub(super) fn same_life(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) <= SAME_LIFE,
        (one, other) => one == other,
    }
}

/// Whether a life at the target may stay as it is: it differs by what reading the two one after the
/// other makes of it, and by little for its length.
fn need_not_change(there: Option<Duration>, here: Option<Duration>) -> bool {
    match (there, here) {
        (Some(there), Some(here)) => there.abs_diff(here) <= (here / 20).min(SAME_LIFE),
        (there, here) => there == here,
    }
}

/// 50 ms, doubling up to 2 s.
pub(super) fn pause(tried: u32) -> Duration {
    let doubled = 50_u64.saturating_mul(1 << tried.saturating_sub(1).min(10));
    Duration::from_millis(doubled.min(2_000))
}
