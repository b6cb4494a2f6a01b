//! Calls on several keys.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Effect, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::ttl::Ttl;

/// # Several keys
///
/// All keys and values are checked before anything is sent: one that is refused refuses the call.
/// Without keys nothing is sent at all. A call holds up the other callers of a shared connection:
/// some thousands of keys are fine, for more make several calls.
impl StateStore {
    /// The values under `keys`, in the order of the keys, a `None` where there is none. The same
    /// key may come more than once.
    ///
    /// On Redis more than 512 keys are asked for in several steps, so the answer as a whole is no
    /// snapshot, and a key of another type (a list) reads as absent.
    ///
    /// # Errors
    /// As [`StateStore::get`]; the first value that is not a `T` fails the call.
    pub async fn get_many<T: DeserializeOwned>(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Option<T>>> {
        const OPERATION: &str = "get_many";
        let values = self.get_many_bytes(keys).await?;
        let shared = &self.shared;
        let decoded = values.iter().zip(keys).map(|(value, key)| {
            value
                .as_ref()
                .map(|bytes| self.encoding().decode(bytes))
                .transpose()
                .map_err(|cause| shared.error(OPERATION, Some(key.as_ref()), cause))
        });
        decoded.collect()
    }

    /// [`StateStore::get_many`] with an answer for each key: a value that is not a `T`, or that a
    /// layer cannot read, fails alone.
    ///
    /// # Errors
    /// As [`StateStore::get_many`] for the call as a whole.
    pub async fn get_many_each<T: DeserializeOwned>(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Result<Option<T>>>> {
        let read = self.read_each(keys).await?;
        let decoded = read.into_iter().zip(keys).map(|(value, key)| {
            let Some(bytes) = value? else { return Ok(None) };
            (self.encoding().decode(&bytes).map(Some))
                .map_err(|cause| self.shared.error("get_many", Some(key.as_ref()), cause))
        });
        Ok(decoded.collect())
    }

    /// The bytes of each key. Where some cannot be read, the others are read once more.
    async fn read_each(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Result<Option<Bytes>>>> {
        let error = match self.get_many_bytes(keys).await {
            Ok(values) => return Ok(values.into_iter().map(Ok).collect()),
            Err(error) if error.failures().is_empty() => return Err(error),
            Err(error) => error,
        };
        let mut failed: Vec<Option<Error>> = keys.iter().map(|_| None).collect();
        for failure in error.failures() {
            let (slot, key) = (failed.get_mut(failure.index), keys.get(failure.index));
            if let (Some(slot), Some(key)) = (slot, key) {
                let cause = failure.to_error();
                *slot = Some(self.shared.error("get_many", Some(key.as_ref()), cause));
            }
        }
        let fine = keys.iter().zip(&failed);
        let fine: Vec<&str> = (fine.filter(|(_, failed)| failed.is_none()))
            .map(|(key, _)| key.as_ref())
            .collect();
        let mut values = self.get_many_bytes(&fine).await?.into_iter();
        let each = failed.into_iter().map(|failed| match failed {
            Some(error) => Err(error),
            None => Ok(values.next().flatten()),
        });
        Ok(each.collect())
    }

    /// The bytes under `keys` as they are stored, as [`StateStore::get_many`] reads values.
    ///
    /// # Errors
    /// As [`StateStore::get_bytes`].
    pub async fn get_many_bytes(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<Bytes>>> {
        const OPERATION: &str = "get_many";
        let backend_keys = self.keys(OPERATION, keys.iter().map(AsRef::as_ref))?;
        if backend_keys.is_empty() {
            self.shared.check_open(OPERATION, None)?;
            return Ok(Vec::new());
        }
        let names: Vec<&str> = backend_keys.iter().map(AsRef::as_ref).collect();
        let shared = &self.shared;
        let call = |limit| shared.driver.get_many(&names, limit);
        let limit = shared.options.bulk_timeout;
        shared.run(OPERATION, None, Effect::Read, limit, call).await
    }

    /// [`StateStore::get_many_bytes`] that never answers from a replica, at the price of a round
    /// trip for each key where others do.
    pub(crate) async fn get_many_latest(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Option<Bytes>>> {
        if !self.capabilities().stale_reads {
            return self.get_many_bytes(keys).await;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(match self.get_entry(key.as_ref()).await {
                Ok(entry) => entry.map(|entry| entry.value),
                Err(error) if error.kind() == ErrorKind::WrongType => None,
                Err(error) => return Err(error),
            });
        }
        Ok(values)
    }

    /// [`StateStore::get_many_latest`] with an error of its own for each value that cannot be
    /// read.
    pub(crate) async fn get_each_latest(
        &self,
        keys: &[impl AsRef<str>],
    ) -> Result<Vec<Result<Option<Bytes>>>> {
        if !self.capabilities().stale_reads {
            return self.read_each(keys).await;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let key = std::slice::from_ref(key);
            values.push(match self.get_many_latest(key).await {
                Ok(mut values) => Ok(values.pop().flatten()),
                Err(error) if error.kind().concerns_one_value() => Err(error),
                Err(error) => return Err(error),
            });
        }
        Ok(values)
    }

    /// Stores several values for ever; of two under one key the later wins. Whether others can
    /// see a part of it is in [`Capabilities::set_many`](crate::Capabilities::set_many).
    ///
    /// # Errors
    /// As [`StateStore::set`]. Where some keys were stored and others not, which is only possible
    /// with [`Atomicity::PerKey`](crate::Atomicity::PerKey), [`Error::failures`] lists the others.
    pub async fn set_many(&self, entries: &[(impl AsRef<str>, impl Serialize)]) -> Result<()> {
        self.set_many_with(entries, Ttl::Clear).await
    }

    /// [`StateStore::set_many`] that says what becomes of the expiries.
    ///
    /// # Errors
    /// As [`StateStore::set_with`].
    pub async fn set_many_with(
        &self,
        entries: &[(impl AsRef<str>, impl Serialize)],
        ttl: impl Into<Ttl>,
    ) -> Result<()> {
        const OPERATION: &str = "set_many";
        let shared = &self.shared;
        let expiry =
            (ttl.into().checked()).map_err(|cause| shared.error(OPERATION, None, cause))?;
        let backend_keys = self.keys(OPERATION, entries.iter().map(|(key, _)| key.as_ref()))?;
        let mut encoded: Vec<(&str, Bytes)> = Vec::with_capacity(entries.len());
        for ((key, value), backend_key) in entries.iter().zip(&backend_keys) {
            encoded.push((backend_key, self.encoded(OPERATION, key.as_ref(), value)?));
        }
        if encoded.is_empty() {
            return shared.check_open(OPERATION, None);
        }
        let call = |limit| shared.driver.set_many(&encoded, expiry, limit);
        let limit = shared.options.bulk_timeout;
        shared
            .run(OPERATION, None, Effect::Write, limit, call)
            .await
    }

    /// Removes the values under `keys` and returns how many there were.
    ///
    /// # Errors
    /// As [`StateStore::delete`]; on Redis, where more than 512 keys are removed in several
    /// steps, some may then be gone already. [`Error::failures`] lists those that are not, where
    /// the backend can tell.
    pub async fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<u64> {
        const OPERATION: &str = "delete_many";
        let backend_keys = self.keys(OPERATION, keys.iter().map(AsRef::as_ref))?;
        if backend_keys.is_empty() {
            self.shared.check_open(OPERATION, None)?;
            return Ok(0);
        }
        let names: Vec<&str> = backend_keys.iter().map(AsRef::as_ref).collect();
        let shared = &self.shared;
        let call = |limit| shared.driver.delete(&names, limit);
        let limit = shared.options.bulk_timeout;
        shared
            .run(OPERATION, None, Effect::Write, limit, call)
            .await
    }
}
