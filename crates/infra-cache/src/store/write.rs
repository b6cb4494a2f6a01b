//! Calls that write.

use std::sync::Arc;

use infra_core::{Classify, Outcome};

use super::{CacheStore, Cacheable};
use crate::error::{Error, Result};
use crate::freshness::Times;
use crate::generations::Ticket;
use crate::invalidation::Invalidation;
use crate::near::{Entry, Slot};
use crate::policy::CachePolicy;
use crate::shared::Core;

/// Keys that are removed from the backend in one call.
const CHUNK: usize = 500;

/// # Writing
///
/// A write goes to the backend first and then to this process. Afterwards others are told, where
/// the backend does not do so itself. When the outcome is unknown (a timeout, a dropped call), this
/// process forgets what it kept.
impl CacheStore {
    /// Stores `value` under `key`. It wins over every load that is under way.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store): the key or the value is refused, or the
    /// backend fails; [`Classify`] says what became of the write.
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub async fn put<T: Cacheable>(&self, key: &str, value: T) -> Result<()> {
        self.put_with(key, &self.core().policy, Arc::new(value))
            .await
    }

    /// [`CacheStore::put`] of a value that is shared already, with a policy of its own.
    ///
    /// # Errors
    /// As [`CacheStore::put`].
    pub async fn put_with<T: Cacheable>(
        &self,
        key: &str,
        policy: &CachePolicy,
        value: Arc<T>,
    ) -> Result<()> {
        const OPERATION: &str = "put";
        let core = self.core();
        core.check(OPERATION, key)?;
        let failed = |error| Error::store(OPERATION, error);
        let bytes = core.codec.encode(key, &*value).map_err(failed)?;
        let length = bytes.len();
        let ttl = policy.life_of(key);
        let writing = Writing::begin(core, key);
        // Before the write, so that this process never serves it longer than the backend.
        let times = core.times(key, Some(ttl), policy, None);
        if let Some(backend) = &core.backend {
            let set = backend.store.set_bytes_with(key, bytes, ttl).await;
            if let Err(error) = set {
                core.counters.backend_errors.add();
                if error.outcome() == Outcome::NotApplied {
                    writing.did_nothing();
                } else {
                    // It may have been applied: nobody may go on with the old value.
                    drop(writing);
                    core.tell(Invalidation::Key(key.to_owned())).await;
                }
                return Err(failed(error));
            }
        }
        writing.done(value, length, times);
        core.tell(Invalidation::Key(key.to_owned())).await;
        Ok(())
    }

    /// Removes the value under `key` here, in the backend and, as fast as the news travels, in all
    /// other processes. Loads that are under way still answer those who wait for them, but their
    /// values are not kept.
    ///
    /// # Errors
    /// As [`CacheStore::put`]; this process has forgotten the value in any case.
    pub async fn invalidate(&self, key: &str) -> Result<()> {
        const OPERATION: &str = "invalidate";
        let core = self.core();
        core.check(OPERATION, key)?;
        core.counters.invalidations.add();
        // Once now, and once more when it is dropped: what is read in between may be outdated.
        let forgetting = Forgetting::of_key(core, key);
        if let Some(backend) = &core.backend {
            let deleted = backend.store.delete(key).await;
            if let Err(error) = deleted {
                core.counters.backend_errors.add();
                core.tell(Invalidation::Key(key.to_owned())).await;
                return Err(Error::store(OPERATION, error));
            }
        }
        drop(forgetting);
        core.tell(Invalidation::Key(key.to_owned())).await;
        Ok(())
    }

    /// [`CacheStore::invalidate`] of all keys that begin with `prefix`, which is taken literally;
    /// how many there were in the backend, or in this process where there is none.
    ///
    /// # Errors
    /// As [`CacheStore::put`]; a part may be removed then.
    pub async fn invalidate_prefix(&self, prefix: &str) -> Result<u64> {
        let what = match prefix {
            "" => Invalidation::All,
            prefix => Invalidation::Prefix(prefix.to_owned()),
        };
        self.remove_all("invalidate_prefix", prefix, what).await
    }

    /// Removes everything: [`CacheStore::invalidate_prefix`] of nothing.
    ///
    /// # Errors
    /// As [`CacheStore::invalidate_prefix`].
    pub async fn clear(&self) -> Result<u64> {
        self.remove_all("clear", "", Invalidation::All).await
    }

    async fn remove_all(
        &self,
        operation: &'static str,
        prefix: &str,
        what: Invalidation,
    ) -> Result<u64> {
        let core = self.core();
        core.check_open(operation)?;
        core.counters.invalidations.add();
        let forgetting = Forgetting::of_prefix(core, prefix);
        let mut removed = forgetting.values;
        if core.backend.is_some() {
            let deleted = core.delete_prefix(prefix).await;
            if let Err(error) = deleted {
                core.counters.backend_errors.add();
                core.tell(what).await;
                return Err(Error::store(operation, error));
            }
            removed = deleted.unwrap_or_default();
        }
        drop(forgetting);
        core.tell(what).await;
        Ok(removed)
    }
}

impl Core {
    async fn delete_prefix(&self, prefix: &str) -> infra_state::Result<u64> {
        let store = &self.codec;
        let mut keys = store.scan(prefix);
        let mut chunk = Vec::new();
        let mut removed = 0;
        while let Some(key) = keys.next().await {
            chunk.push(key?);
            if chunk.len() == CHUNK {
                removed += store.delete_many(&chunk).await?;
                chunk.clear();
            }
        }
        Ok(removed + store.delete_many(&chunk).await?)
    }
}

/// A write of one key. Dropped before it is done, it leaves nothing of the key in this process.
struct Writing<'a> {
    core: &'a Core,
    key: Arc<str>,
    ticket: Ticket,
    open: bool,
}

impl<'a> Writing<'a> {
    fn begin(core: &'a Core, key: &str) -> Self {
        Writing {
            ticket: core.near.begin_write(key),
            core,
            key: key.into(),
            open: true,
        }
    }

    fn done<T: Cacheable>(mut self, value: Arc<T>, length: usize, times: Times) {
        self.open = false;
        let entry = Entry::new(&self.key, Slot::Value(value), length, times);
        self.core.near.end_write(&self.key, entry, &self.ticket);
    }

    /// The old value is still the right one.
    fn did_nothing(mut self) {
        self.open = false;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if self.open {
            self.core.near.forget(&self.key);
        }
    }
}

/// Forgets when it is made and once more when it is dropped.
struct Forgetting<'a> {
    core: &'a Core,
    what: &'a str,
    prefix: bool,
    values: u64,
}

impl<'a> Forgetting<'a> {
    fn of_key(core: &'a Core, key: &'a str) -> Self {
        core.near.forget(key);
        Forgetting {
            core,
            what: key,
            prefix: false,
            values: 0,
        }
    }

    fn of_prefix(core: &'a Core, prefix: &'a str) -> Self {
        Forgetting {
            values: core.near.forget_prefix(prefix),
            core,
            what: prefix,
            prefix: true,
        }
    }
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        match self.prefix {
            true => drop(self.core.near.forget_prefix(self.what)),
            false => drop(self.core.near.forget(self.what)),
        }
    }
}
