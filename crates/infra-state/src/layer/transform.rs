//! Layers that store values in another form: compression, encryption.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infra_core::Outcome;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::forward::Forward;
use crate::capabilities::Capabilities;
use crate::driver::{DriverEntry, DriverError, DriverResult, Expiry, KeyFailure, StateDriver};
use crate::error::ErrorKind;
use crate::integer;
use crate::step::{Action, Expect, Step};
use crate::version::VersionToken;

/// The first byte of what these layers store: JSON text cannot begin with it, and MessagePack
/// never uses it.
pub(super) const FRAME: u8 = 0xC1;

/// Another form of values.
pub(super) trait Transform: Send + Sync + 'static {
    /// The form in which a value is stored under a key.
    fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, DriverError>;

    /// The value of a stored form.
    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, DriverError>;

    /// What the driver inside can do, seen through this layer.
    fn capabilities(&self, inside: Capabilities) -> Capabilities;

    /// Whether integers are stored as their plain text, so that the backend can count by itself.
    fn keeps_integers(&self) -> bool;
}

/// Counters that share a turn; more would save little, since it is one key that many count on.
const TURNS: usize = 32;

pub(super) struct Transformed<T> {
    transform: T,
    inner: Arc<dyn StateDriver>,
    turns: [Mutex<()>; TURNS],
    hasher: RandomState,
}

impl<T: Transform> Transformed<T> {
    pub(super) fn driver(inner: Arc<dyn StateDriver>, transform: T) -> Arc<dyn StateDriver> {
        Arc::new(Transformed {
            transform,
            inner,
            turns: [const { Mutex::const_new(()) }; TURNS],
            hasher: RandomState::new(),
        })
    }

    fn open(&self, key: &str, stored: Option<Bytes>) -> Result<Option<Bytes>, DriverError> {
        stored
            .map(|stored| self.transform.open(key, stored))
            .transpose()
    }

    fn open_all(
        &self,
        keys: &[&str],
        stored: Vec<Option<Bytes>>,
    ) -> Result<Vec<Option<Bytes>>, DriverError> {
        let mut values = Vec::with_capacity(stored.len());
        let mut failures = Vec::new();
        let mut first = None;
        for (index, (key, stored)) in keys.iter().zip(stored).enumerate() {
            match self.open(key, stored) {
                Ok(value) => values.push(value),
                Err(error) => {
                    failures.push(KeyFailure::new(index, &error));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            None => Ok(values),
            Some(error) => Err(error.with_failures(failures)),
        }
    }

    /// Adds by compare-and-swap, until the time is up. Callers of this handle take turns: racing
    /// each other, of `n` of them one would get on with each round and the rest begin anew.
    async fn add(&self, key: &str, delta: i64, limit: Duration) -> Result<i64, DriverError> {
        let deadline = Instant::now() + limit;
        let contended = || {
            let message = format!("others were faster for {limit:?}");
            DriverError::new(ErrorKind::Contended, message)
        };
        let group = self.hasher.hash_one(key) as usize % TURNS;
        let Some(turn) = self.turns.get(group) else {
            return Err(contended());
        };
        let Ok(_turn) = timeout_at(deadline, turn.lock()).await else {
            return Err(contended());
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(contended());
            }
            match self.add_once(key, delta, left).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    tokio::task::yield_now().await;
                }
                result => return result,
            }
        }
    }

    async fn add_once(&self, key: &str, delta: i64, limit: Duration) -> Result<i64, DriverError> {
        let read = self.inner.get_versioned(key, limit).await;
        let (stored, version) = read.map_err(|error| error.with_outcome(Outcome::NotApplied))?;
        let sum = match self.open(key, stored)? {
            None => delta,
            Some(value) => integer::add(&value, delta)?,
        };
        let value = self.transform.seal(key, integer::text(sum))?;
        let steps = [Step {
            key,
            expect: Expect::Version(&version),
            action: Action::Put {
                value: &value,
                expiry: Expiry::Keep,
            },
        }];
        self.inner.transact(&steps, limit).await?;
        Ok(sum)
    }
}

impl<T: Transform> Forward for Transformed<T> {
    fn inner(&self) -> &dyn StateDriver {
        &*self.inner
    }

    fn capabilities(&self) -> Capabilities {
        self.transform.capabilities(self.inner.capabilities())
    }

    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        Box::pin(async move { self.open(key, self.inner.get(key, limit).await?) })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        limit: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        Box::pin(async move { self.open_all(keys, self.inner.get_many(keys, limit).await?) })
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let stored = self.transform.seal(key, value)?;
            self.inner.set(key, stored, expiry, limit).await
        })
    }

    fn set_many<'a>(
        &'a self,
        entries: &'a [(&'a str, Bytes)],
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        Box::pin(async move {
            let mut sealed = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                sealed.push((*key, self.transform.seal(key, value.clone())?));
            }
            self.inner.set_many(&sealed, expiry, limit).await
        })
    }

    fn set_if_absent<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, bool> {
        Box::pin(async move {
            let stored = self.transform.seal(key, value)?;
            self.inner.set_if_absent(key, stored, expiry, limit).await
        })
    }

    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        if self.transform.keeps_integers() {
            return self.inner.increment(key, delta, limit);
        }
        Box::pin(self.add(key, delta, limit))
    }

    fn get_versioned<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, (Option<Bytes>, VersionToken)> {
        Box::pin(async move {
            let (stored, version) = self.inner.get_versioned(key, limit).await?;
            Ok((self.open(key, stored)?, version))
        })
    }

    fn get_entry<'a>(
        &'a self,
        key: &'a str,
        limit: Duration,
    ) -> DriverResult<'a, Option<DriverEntry>> {
        Box::pin(async move {
            let Some(mut entry) = self.inner.get_entry(key, limit).await? else {
                return Ok(None);
            };
            entry.value = self.transform.open(key, entry.value)?;
            Ok(Some(entry))
        })
    }

    fn transact<'a>(
        &'a self,
        steps: &'a [Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<VersionToken>> {
        Box::pin(async move {
            let mut sealed = Vec::with_capacity(steps.len());
            for step in steps {
                sealed.push(match step.action {
                    Action::Put { value, .. } => self.transform.seal(step.key, value.clone())?,
                    Action::Check | Action::Delete => Bytes::new(),
                });
            }
            let with_sealed = |(step, stored)| sealed_step(step, stored);
            let steps: Vec<Step<'_>> = steps.iter().zip(&sealed).map(with_sealed).collect();
            self.inner.transact(&steps, limit).await
        })
    }
}

fn sealed_step<'s>(step: &Step<'s>, stored: &'s Bytes) -> Step<'s> {
    let action = match step.action {
        Action::Put { expiry, .. } => Action::Put {
            value: stored,
            expiry,
        },
        other => other,
    };
    Step { action, ..*step }
}
