//! Several conditions and writes, all or none.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::{Effect, StateStore};
use crate::capabilities::Requirement;
use crate::driver::{DriverError, Expiry};
use crate::error::{Error, ErrorKind, Result};
use crate::step::{Action, Expect, Step};
use crate::ttl::Ttl;
use crate::version::{Version, VersionToken};

/// Conditions and writes on several keys that are done all or not at all, and that nobody sees a
/// part of. Made by [`StateStore::transaction`]; nothing is sent before
/// [`Transaction::commit`].
///
/// ```
/// use infra_state::{ErrorKind, StateStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let store = StateStore::memory();
/// let cash = store.get_versioned::<i64>("cash").await?;
/// let buy = || {
///     store
///         .transaction()
///         .set_if("cash", &cash.version, &(cash.value.unwrap_or(1_000) - 250))
///         .set("position:MSFT", &12)
/// };
/// buy().commit().await?;
/// let again = buy().commit().await.unwrap_err();
/// assert_eq!((again.kind(), again.key()), (ErrorKind::Conflict, Some("cash")));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is written before commit"]
pub struct Transaction {
    store: StateStore,
    steps: Vec<Planned>,
    /// The keys of the first steps; empty while there are few.
    known: HashSet<String>,
    refused: Option<Error>,
}

struct Planned {
    /// As the caller wrote it.
    key: String,
    backend_key: String,
    expect: Condition,
    action: Planning,
}

enum Condition {
    Anything,
    Present,
    Version(VersionToken),
    /// The version of another key.
    Never,
}

enum Planning {
    Check,
    Put(Bytes, Expiry),
    Delete,
}

const OPERATION: &str = "transaction";
/// So many keys are compared one by one sooner than by a set of them.
const FEW: usize = 16;

impl StateStore {
    /// An empty transaction.
    pub fn transaction(&self) -> Transaction {
        Transaction {
            store: self.clone(),
            steps: Vec::new(),
            known: HashSet::new(),
            refused: None,
        }
    }
}

/// Each key may come once; a step's condition and its write belong together. What is wrong with a
/// key or a value is reported by [`Transaction::commit`].
impl Transaction {
    /// Stores `value` for ever, whatever was there before.
    pub fn set<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        self.set_with(key, value, Ttl::Clear)
    }

    /// Stores `value` and says what becomes of the expiry.
    pub fn set_with<T: Serialize + ?Sized>(
        self,
        key: &str,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Self {
        self.put(key, Condition::Anything, value, ttl.into())
    }

    /// Stores bytes as they are, and says what becomes of the expiry.
    pub fn set_bytes(self, key: &str, value: impl Into<Bytes>, ttl: impl Into<Ttl>) -> Self {
        self.put_bytes(key, Condition::Anything, value.into(), ttl.into())
    }

    /// Stores `value` for ever if the key still has this version.
    pub fn set_if<T: Serialize + ?Sized>(self, key: &str, version: &Version, value: &T) -> Self {
        self.set_if_with(key, version, value, Ttl::Clear)
    }

    /// [`Transaction::set_if`] that says what becomes of the expiry.
    pub fn set_if_with<T: Serialize + ?Sized>(
        self,
        key: &str,
        version: &Version,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Self {
        let condition = self.version(key, version);
        self.put(key, condition, value, ttl.into())
    }

    /// Stores `value` for ever if there is none.
    pub fn create<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        let absent = Condition::Version(VersionToken::Absent);
        self.put(key, absent, value, Ttl::Clear)
    }

    /// Removes the value, if there is one.
    pub fn delete(self, key: &str) -> Self {
        self.plan(key, Condition::Anything, Planning::Delete)
    }

    /// Removes the value if the key still has this version.
    pub fn delete_if(self, key: &str, version: &Version) -> Self {
        let condition = self.version(key, version);
        self.plan(key, condition, Planning::Delete)
    }

    /// Goes on only if the key still has this version.
    pub fn check(self, key: &str, version: &Version) -> Self {
        let condition = self.version(key, version);
        self.plan(key, condition, Planning::Check)
    }

    /// Goes on only if there is a value.
    pub fn check_exists(self, key: &str) -> Self {
        self.plan(key, Condition::Present, Planning::Check)
    }

    /// Goes on only if there is no value.
    pub fn check_absent(self, key: &str) -> Self {
        let absent = Condition::Version(VersionToken::Absent);
        self.plan(key, absent, Planning::Check)
    }

    /// Does it all, and returns the version of each key in the order of the steps; without steps
    /// nothing is sent. Not cancel safe: a dropped call may have been applied.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) with [`Error::index`] and [`Error::key`] of the first
    /// step whose condition does not hold; [`InvalidKey`](ErrorKind::InvalidKey) also for a key
    /// that comes twice; [`Unsupported`](ErrorKind::Unsupported) on a backend without
    /// transactions; [`Capacity`](ErrorKind::Capacity) for more keys than it takes;
    /// [`CrossSlot`](ErrorKind::CrossSlot) for keys that it cannot write together. In all these
    /// cases nothing was changed. After [`Timeout`](ErrorKind::Timeout) the outcome is unknown.
    pub async fn commit(self) -> Result<Vec<Version>> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let shared = &self.store.shared;
        shared.check_open(OPERATION, None)?;
        if self.steps.is_empty() {
            return Ok(Vec::new());
        }
        self.check_size()?;
        if let Some(index) = self.steps.iter().position(Planned::cannot_hold) {
            return Err(self.named(DriverError::conflict(index)));
        }
        let steps: Vec<Step<'_>> = self.steps.iter().map(Planned::step).collect();
        let call = |limit| shared.driver.transact(&steps, limit);
        let limit = shared.options.bulk_timeout;
        let tokens = shared
            .attempt(Effect::Write, limit, call)
            .await
            .map_err(|cause| self.named(cause))?;
        let versions = self.steps.iter().zip(tokens);
        Ok(versions
            .map(|(step, token)| Version::new(&step.backend_key, token))
            .collect())
    }

    fn check_size(&self) -> Result<()> {
        let most = self.store.capabilities().max_transaction_ops;
        if self.steps.len() > 1 {
            self.store.able(OPERATION, Requirement::Transactions)?;
        } else {
            self.store.able(OPERATION, Requirement::Versions)?;
        }
        if self.steps.len() <= most {
            return Ok(());
        }
        let message = format!("{} keys, {most} are allowed", self.steps.len());
        let cause = DriverError::new(ErrorKind::Capacity, message);
        let cause = cause.with_class(infra_core::Class::Permanent);
        Err(self.store.shared.error(OPERATION, None, cause))
    }

    /// The error with the caller's name of the key that it is about.
    fn named(&self, cause: DriverError) -> Error {
        let step = cause.index().and_then(|index| self.steps.get(index));
        let key = step.map(|step| step.key.as_str());
        self.store.shared.error(OPERATION, key, cause)
    }

    fn version(&self, key: &str, version: &Version) -> Condition {
        let backend_key: Result<Cow<'_, str>, _> = self.store.namespace.key(key);
        match backend_key
            .ok()
            .and_then(|key| version.token_for(&key).cloned())
        {
            Some(token) => Condition::Version(token),
            None => Condition::Never,
        }
    }

    fn put<T: Serialize + ?Sized>(
        mut self,
        key: &str,
        condition: Condition,
        value: &T,
        ttl: Ttl,
    ) -> Self {
        match self.store.encoded(OPERATION, key, value) {
            Ok(bytes) => self.put_bytes(key, condition, bytes, ttl),
            Err(error) => {
                self.refused.get_or_insert(error);
                self
            }
        }
    }

    fn put_bytes(mut self, key: &str, condition: Condition, value: Bytes, ttl: Ttl) -> Self {
        let checked = (self.store.check_size(OPERATION, key, value.len())).and_then(|()| {
            let failed = |cause| self.store.shared.error(OPERATION, Some(key), cause);
            ttl.checked().map_err(failed)
        });
        match checked {
            Ok(expiry) => self.plan(key, condition, Planning::Put(value, expiry)),
            Err(error) => {
                self.refused.get_or_insert(error);
                self
            }
        }
    }

    fn plan(mut self, key: &str, expect: Condition, action: Planning) -> Self {
        match self.checked_key(key) {
            Ok(backend_key) => self.steps.push(Planned {
                key: key.to_owned(),
                backend_key,
                expect,
                action,
            }),
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
        self
    }

    fn checked_key(&mut self, key: &str) -> Result<String> {
        let backend_key = self.store.key(OPERATION, key)?.into_owned();
        if !self.is_planned(&backend_key) {
            return Ok(backend_key);
        }
        let message = "the key comes twice in one transaction: use set_if, not check and set";
        let cause = DriverError::new(ErrorKind::InvalidKey, message).with_index(self.steps.len());
        Err(self.store.shared.error(OPERATION, Some(key), cause))
    }
}

impl Transaction {
    fn is_planned(&mut self, backend_key: &str) -> bool {
        let mut keys = self.steps.iter().map(|step| &step.backend_key);
        if self.steps.len() < FEW {
            return keys.any(|key| key == backend_key);
        }
        self.known.extend(keys.skip(self.known.len()).cloned());
        self.known.contains(backend_key)
    }
}

impl Planned {
    fn cannot_hold(&self) -> bool {
        matches!(self.expect, Condition::Never)
    }

    fn step(&self) -> Step<'_> {
        Step {
            key: &self.backend_key,
            expect: match &self.expect {
                Condition::Anything | Condition::Never => Expect::Anything,
                Condition::Present => Expect::Present,
                Condition::Version(token) => Expect::Version(token),
            },
            action: match &self.action {
                Planning::Check => Action::Check,
                Planning::Put(value, expiry) => Action::Put {
                    value,
                    expiry: *expiry,
                },
                Planning::Delete => Action::Delete,
            },
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.steps.iter().map(|step| &*step.key).collect();
        f.debug_struct("Transaction").field("keys", &keys).finish()
    }
}
