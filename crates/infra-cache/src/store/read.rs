//! Calls that read.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use infra_core::{MonoTime, context};

use super::{CacheStore, Cacheable};
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::flight::{Answer, Joined, Landing, Purpose};
use crate::freshness::Freshness;
use crate::generations::Ticket;
use crate::load::Flight;
use crate::near::Slot;
use crate::policy::CachePolicy;
use crate::shared::{Core, Look};

/// A value out of the cache: shared with all who asked for it, never copied.
///
/// Use it like a `&T`, or take the [`Arc`] out of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Cached<T> {
    value: Arc<T>,
    freshness: Freshness,
}

impl<T> Cached<T> {
    /// The value.
    pub fn into_inner(self) -> Arc<T> {
        self.value
    }

    /// How good the value is.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Whether a newer value should be there.
    pub fn is_stale(&self) -> bool {
        self.freshness != Freshness::Fresh
    }

    fn new(value: Arc<T>, freshness: Freshness) -> Self {
        Cached { value, freshness }
    }
}

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Cached::new(self.value.clone(), self.freshness)
    }
}

impl<T> Deref for Cached<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Cached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// # Reading
///
/// A value that is in this process comes at once, without a call to the backend and without an
/// allocation. A key should be read as one type: this process keeps the last one only.
impl CacheStore {
    /// The value under `key`; `None` where there is none. Nothing is loaded.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: the key is refused, the stored bytes are no `T`, or the backend fails;
    /// [`ErrorKind::Timeout`]; [`ErrorKind::Overloaded`]; [`ErrorKind::Closed`].
    pub async fn get<T: Cacheable>(&self, key: &str) -> Result<Option<Cached<T>>> {
        let core = self.core();
        let last_resort = match core.look::<T>(key) {
            Look::Fresh(value) => return Ok(Some(core.hit(value))),
            Look::Due {
                value, freshness, ..
            } => return Ok(Some(core.served(value, freshness))),
            Look::Nothing | Look::Missing => {
                core.counters.hit();
                return Ok(None);
            }
            Look::Unknown(value) => value,
        };
        Box::pin(core.read(key, last_resort)).await
    }

    /// The value in this process, where it is fresh or stale but not expired; never waits, never
    /// asks the backend, counts nothing.
    pub fn peek<T: Cacheable>(&self, key: &str) -> Option<Cached<T>> {
        match self.core().look::<T>(key) {
            Look::Fresh(value) => Some(Cached::new(value, Freshness::Fresh)),
            Look::Due {
                value, freshness, ..
            } => Some(Cached::new(value, freshness)),
            _ => None,
        }
    }

    /// The value under `key`, loaded by `load` and stored where there is none.
    ///
    /// Of all who ask at the same time in this process one load runs, as a task of its own with the
    /// context of whoever came first. Each caller waits as long as the policy's wait timeout.
    ///
    /// ```
    /// use infra_cache::CacheStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_cache::Error> {
    /// let cache = CacheStore::memory();
    /// let quote = cache
    ///     .get_or_load("AAPL", || async { Ok::<_, std::io::Error>(187.5) })
    ///     .await?;
    /// assert_eq!(*quote, 187.5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The loader's: [`ErrorKind::Load`], [`ErrorKind::LoadPanicked`], [`ErrorKind::LoadTimeout`],
    /// the same for all who waited, and never kept. Otherwise as [`CacheStore::get`], though a
    /// backend that fails is none: then the value is loaded.
    pub async fn get_or_load<T, E, F, Fut>(&self, key: &str, load: F) -> Result<Cached<T>>
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.get_or_load_with(key, &self.core().policy, load).await
    }

    /// [`CacheStore::get_or_load`] with a policy of its own.
    ///
    /// # Errors
    /// As [`CacheStore::get_or_load`].
    pub async fn get_or_load_with<T, E, F, Fut>(
        &self,
        key: &str,
        policy: &CachePolicy,
        load: F,
    ) -> Result<Cached<T>>
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        const CALL: (&str, Purpose) = ("get_or_load", Purpose::Load);
        let core = self.core();
        let load = move || async move { load().await.map(Some).map_err(Into::into) };
        let last_resort = match core.look::<T>(key) {
            Look::Fresh(value) => return Ok(core.hit(value)),
            Look::Due {
                value,
                freshness,
                renew,
            } => {
                if let Some(end) = renew {
                    core.renew::<T, _, _>(CALL, key, policy, end, load);
                }
                return Ok(core.served(value, freshness));
            }
            Look::Nothing | Look::Missing => None,
            Look::Unknown(value) => value,
        };
        let found = Box::pin(core.load(CALL, key, policy, last_resort, load)).await?;
        // A loader that must return a value never finds nothing.
        found.ok_or_else(|| {
            let message = "the load ended without a value";
            Error::of_key(ErrorKind::Load, CALL.0, &key.into(), message)
        })
    }

    /// [`CacheStore::get_or_load`] of what may not exist: the loader returns an `Option`. That
    /// there is nothing is remembered for the policy's negative time to live.
    ///
    /// # Errors
    /// As [`CacheStore::get_or_load`].
    pub async fn find_or_load<T, E, F, Fut>(&self, key: &str, load: F) -> Result<Option<Cached<T>>>
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        self.find_or_load_with(key, &self.core().policy, load).await
    }

    /// [`CacheStore::find_or_load`] with a policy of its own.
    ///
    /// # Errors
    /// As [`CacheStore::get_or_load`].
    pub async fn find_or_load_with<T, E, F, Fut>(
        &self,
        key: &str,
        policy: &CachePolicy,
        load: F,
    ) -> Result<Option<Cached<T>>>
    where
        T: Cacheable,
        E: Into<BoxError>,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        const CALL: (&str, Purpose) = ("find_or_load", Purpose::Find);
        let core = self.core();
        let load = move || async move { load().await.map_err(Into::into) };
        let last_resort = match core.look::<T>(key) {
            Look::Fresh(value) => return Ok(Some(core.hit(value))),
            Look::Due {
                value,
                freshness,
                renew,
            } => {
                if let Some(end) = renew {
                    core.renew::<T, _, _>(CALL, key, policy, end, load);
                }
                return Ok(Some(core.served(value, freshness)));
            }
            Look::Nothing => {
                core.counters.hit();
                return Ok(None);
            }
            Look::Missing => None,
            Look::Unknown(value) => value,
        };
        Box::pin(core.load(CALL, key, policy, last_resort, load)).await
    }
}

impl Core {
    fn hit<T>(&self, value: Arc<T>) -> Cached<T> {
        self.counters.hit();
        Cached::new(value, Freshness::Fresh)
    }

    fn served<T>(&self, value: Arc<T>, freshness: Freshness) -> Cached<T> {
        match freshness {
            Freshness::Fresh => self.counters.hit(),
            _ => self.counters.stale_served.add(),
        }
        Cached::new(value, freshness)
    }

    async fn read<T: Cacheable>(
        self: &Arc<Self>,
        key: &str,
        last_resort: Option<Arc<T>>,
    ) -> Result<Option<Cached<T>>> {
        const OPERATION: &str = "get";
        self.check(OPERATION, key)?;
        self.counters.misses.add();
        let key: Arc<str> = key.into();
        let policy = self.policy;
        let ticket = self.near.ticket(&key);
        let waiting = match self.flights.join::<T>(&key, Purpose::Read, ticket) {
            Joined::Waiter(waiting) => waiting,
            Joined::Leader(landing, waiting) => {
                let call = (OPERATION, Purpose::Read);
                let flight = self.flight::<T>(call, &key, &policy, ticket, None);
                context::spawn(flight.read(landing));
                waiting
            }
            Joined::Full => return self.conclude(Err(overloaded(OPERATION, &key)), last_resort),
        };
        let answer = self.wait(OPERATION, &key, waiting, policy.wait_timeout);
        self.conclude(answer.await, last_resort)
    }

    async fn load<T, F, Fut>(
        self: &Arc<Self>,
        (operation, purpose): (&'static str, Purpose),
        key: &str,
        policy: &CachePolicy,
        last_resort: Option<Arc<T>>,
        load: F,
    ) -> Result<Option<Cached<T>>>
    where
        T: Cacheable,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, BoxError>> + Send + 'static,
    {
        self.check(operation, key)?;
        self.counters.misses.add();
        let key: Arc<str> = key.into();
        let ticket = self.near.ticket(&key);
        let waiting = match self.flights.join::<T>(&key, purpose, ticket) {
            Joined::Waiter(waiting) => waiting,
            Joined::Leader(landing, waiting) => {
                let call = (operation, purpose);
                self.start(call, &key, policy, ticket, None, landing, load);
                waiting
            }
            Joined::Full => return self.conclude(Err(overloaded(operation, &key)), last_resort),
        };
        let answer = self.wait(operation, &key, waiting, policy.wait_timeout);
        self.conclude(answer.await, last_resort)
    }

    /// Loads in the background, unless somebody does already.
    fn renew<T, F, Fut>(
        self: &Arc<Self>,
        (operation, purpose): (&'static str, Purpose),
        key: &str,
        policy: &CachePolicy,
        end: MonoTime,
        load: F,
    ) where
        T: Cacheable,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, BoxError>> + Send + 'static,
    {
        let key: Arc<str> = key.into();
        let ticket = self.near.ticket(&key);
        if let Joined::Leader(landing, _) = self.flights.join::<T>(&key, purpose, ticket) {
            let call = (operation, purpose);
            self.start(call, &key, policy, ticket, Some(end), landing, load);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a flight consists of")]
    fn start<T, F, Fut>(
        self: &Arc<Self>,
        call: (&'static str, Purpose),
        key: &Arc<str>,
        policy: &CachePolicy,
        ticket: Ticket,
        renews: Option<MonoTime>,
        landing: Landing,
        load: F,
    ) where
        T: Cacheable,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<T>, BoxError>> + Send + 'static,
    {
        let flight = self.flight::<T>(call, key, policy, ticket, renews);
        context::spawn(flight.load(landing, load));
    }

    fn flight<T>(
        self: &Arc<Self>,
        (operation, purpose): (&'static str, Purpose),
        key: &Arc<str>,
        policy: &CachePolicy,
        ticket: Ticket,
        renews: Option<MonoTime>,
    ) -> Flight<T> {
        Flight {
            core: self.clone(),
            operation,
            purpose,
            key: key.clone(),
            policy: *policy,
            ticket,
            renews,
            value: PhantomData,
        }
    }

    /// The answer to one caller; instead of an error the last resort.
    fn conclude<T: Cacheable>(
        &self,
        answer: Answer,
        last_resort: Option<Arc<T>>,
    ) -> Result<Option<Cached<T>>> {
        let found = match (answer, last_resort) {
            (Ok(found), _) => found,
            (Err(error), Some(value)) if error.kind() != ErrorKind::Closed => {
                self.counters.stale_served.add();
                return Ok(Some(Cached::new(value, Freshness::StaleOnError)));
            }
            (Err(error), _) => return Err(error),
        };
        if found.freshness != Freshness::Fresh {
            self.counters.stale_served.add();
        }
        let value = match found.slot {
            Slot::Value(value) => value.downcast::<T>().ok(),
            Slot::Nothing | Slot::Missing => None,
        };
        Ok(value.map(|value| Cached::new(value, found.freshness)))
    }
}

fn overloaded(operation: &'static str, key: &Arc<str>) -> Error {
    let message = "as many loads as may be are under way";
    Error::of_key(ErrorKind::Overloaded, operation, key, message)
}
