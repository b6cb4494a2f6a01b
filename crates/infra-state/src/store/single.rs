//! Calls on one key.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Effect, StateStore};
use crate::driver::DriverError;
use crate::error::{ErrorKind, Result};
use crate::ttl::{self, Ttl, TtlState};

/// # One key
///
/// Errors that every call may return: [`InvalidKey`](crate::ErrorKind::InvalidKey) and
/// [`Closed`](crate::ErrorKind::Closed) before anything is sent,
/// [`Timeout`](crate::ErrorKind::Timeout) and [`Unavailable`](crate::ErrorKind::Unavailable), and
/// what the server refuses.
impl StateStore {
    /// The value under `key`; `None` where there is none. A stored `null` is a value: read it as
    /// `Option<T>` or `()`.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode) where the value is not a `T`, naming the key and `T`,
    /// never the value.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_bytes(key).await? else {
            return Ok(None);
        };
        (self.encoding().decode(&bytes).map(Some))
            .map_err(|cause| self.shared.error("get", Some(key), cause))
    }

    /// The bytes under `key` as they are stored.
    ///
    /// # Errors
    /// See [above](#one-key).
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Bytes>> {
        let backend_key = self.key("get", key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.get(&backend_key, limit);
        let limit = shared.options.read_timeout;
        shared
            .run("get", Some(key), Effect::Read, limit, call)
            .await
    }

    /// Stores `value` as JSON text, or as [`StoreOptions::encoding`](crate::StoreOptions::encoding)
    /// says, for ever: an earlier expiry is removed.
    ///
    /// # Errors
    /// [`Encode`](crate::ErrorKind::Encode) for what JSON cannot hold, such as NaN;
    /// [`TooLarge`](crate::ErrorKind::TooLarge). In both cases nothing is changed.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.set_with(key, value, Ttl::Clear).await
    }

    /// [`StateStore::set`] that says what becomes of the expiry; a [`Duration`] works too.
    ///
    /// # Errors
    /// As [`StateStore::set`], and [`InvalidTtl`](crate::ErrorKind::InvalidTtl) for zero.
    pub async fn set_with<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Result<()> {
        let bytes = self.encoded("set", key, value)?;
        self.store(key, bytes, ttl.into()).await
    }

    /// Stores bytes as they are, for ever. What is not JSON text can only be read as bytes.
    ///
    /// # Errors
    /// [`TooLarge`](crate::ErrorKind::TooLarge).
    pub async fn set_bytes(&self, key: &str, value: impl Into<Bytes>) -> Result<()> {
        self.set_bytes_with(key, value, Ttl::Clear).await
    }

    /// [`StateStore::set_bytes`] that says what becomes of the expiry.
    ///
    /// # Errors
    /// As [`StateStore::set_bytes`], and [`InvalidTtl`](crate::ErrorKind::InvalidTtl) for zero.
    pub async fn set_bytes_with(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        ttl: impl Into<Ttl>,
    ) -> Result<()> {
        let value = value.into();
        self.check_size("set", key, value.len())?;
        self.store(key, value, ttl.into()).await
    }

    /// Stores `value` where there is none, in one step with its expiry; false, and nothing
    /// changed, where there is one. Of many callers exactly one is told true.
    ///
    /// # Errors
    /// As [`StateStore::set_with`].
    pub async fn set_if_absent<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Result<bool> {
        const OPERATION: &str = "set_if_absent";
        let bytes = self.encoded(OPERATION, key, value)?;
        let backend_key = self.key(OPERATION, key)?;
        let expiry = (ttl.into().checked())
            .map_err(|cause| self.shared.error(OPERATION, Some(key), cause))?;
        let shared = &self.shared;
        let call = |limit| {
            shared
                .driver
                .set_if_absent(&backend_key, bytes, expiry, limit)
        };
        let limit = shared.options.write_timeout;
        shared
            .run(OPERATION, Some(key), Effect::Write, limit, call)
            .await
    }

    /// Removes the value under `key`; false where there was none.
    ///
    /// # Errors
    /// See [above](#one-key).
    pub async fn delete(&self, key: &str) -> Result<bool> {
        let backend_key = self.key("delete", key)?;
        let keys = [backend_key.as_ref()];
        let shared = &self.shared;
        let call = |limit| shared.driver.delete(&keys, limit);
        let limit = shared.options.write_timeout;
        let deleted = shared
            .run("delete", Some(key), Effect::Write, limit, call)
            .await?;
        Ok(deleted > 0)
    }

    /// Whether there is a value under `key`; a stored `null` is one.
    ///
    /// # Errors
    /// See [above](#one-key).
    pub async fn exists(&self, key: &str) -> Result<bool> {
        let backend_key = self.key("exists", key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.exists(&backend_key, limit);
        let limit = shared.options.read_timeout;
        shared
            .run("exists", Some(key), Effect::Read, limit, call)
            .await
    }

    /// Adds `delta` to the integer under `key` in one step, across processes, and returns the
    /// sum. Begins at 0 where there is no value. The expiry stays as it is.
    ///
    /// # Errors
    /// [`NotAnInteger`](crate::ErrorKind::NotAnInteger) and
    /// [`Overflow`](crate::ErrorKind::Overflow) change nothing. A
    /// [`Timeout`](crate::ErrorKind::Timeout) leaves the outcome unknown: repeating may count
    /// twice, so nothing here repeats it. [`Unsupported`](crate::ErrorKind::Unsupported) in a store
    /// whose values are no text, see [`Encoding`](crate::Encoding).
    pub async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        let backend_key = self.key("increment", key)?;
        self.can_count(key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.increment(&backend_key, delta, limit);
        let limit = shared.options.write_timeout;
        shared
            .run("increment", Some(key), Effect::Write, limit, call)
            .await
    }

    /// Lets the value under `key` expire after `ttl`; false where there is none. Rounded as
    /// [`Ttl`] says.
    ///
    /// # Errors
    /// [`InvalidTtl`](crate::ErrorKind::InvalidTtl) for zero.
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let backend_key = self.key("expire", key)?;
        let ttl =
            ttl::checked(ttl).map_err(|cause| self.shared.error("expire", Some(key), cause))?;
        let shared = &self.shared;
        let call = |limit| shared.driver.expire(&backend_key, ttl, limit);
        let limit = shared.options.write_timeout;
        shared
            .run("expire", Some(key), Effect::Write, limit, call)
            .await
    }

    /// Keeps the value under `key` for ever; false where there is none or it does so already.
    ///
    /// # Errors
    /// See [above](#one-key).
    pub async fn persist(&self, key: &str) -> Result<bool> {
        let backend_key = self.key("persist", key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.persist(&backend_key, limit);
        let limit = shared.options.write_timeout;
        shared
            .run("persist", Some(key), Effect::Write, limit, call)
            .await
    }

    /// How long the value under `key` still lives.
    ///
    /// # Errors
    /// See [above](#one-key).
    pub async fn ttl(&self, key: &str) -> Result<TtlState> {
        let backend_key = self.key("ttl", key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.ttl(&backend_key, limit);
        let limit = shared.options.read_timeout;
        shared
            .run("ttl", Some(key), Effect::Read, limit, call)
            .await
    }

    async fn store(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<()> {
        let backend_key = self.key("set", key)?;
        let expiry = (ttl.checked()).map_err(|cause| self.shared.error("set", Some(key), cause))?;
        let shared = &self.shared;
        let call = |limit| shared.driver.set(&backend_key, value, expiry, limit);
        let limit = shared.options.write_timeout;
        shared
            .run("set", Some(key), Effect::Write, limit, call)
            .await
    }

    fn can_count(&self, key: &str) -> Result<()> {
        self.shared.check_open("increment", Some(key))?;
        if self.encoding().counts() {
            return Ok(());
        }
        let message = "counters are decimal text: use a store with values in JSON";
        let cause = DriverError::new(ErrorKind::Unsupported, message);
        Err(self.shared.error("increment", Some(key), cause))
    }

    pub(crate) fn encoded<T: Serialize + ?Sized>(
        &self,
        operation: &'static str,
        key: &str,
        value: &T,
    ) -> Result<Bytes> {
        let bytes = (self.encoding().encode(value))
            .map_err(|cause| self.shared.error(operation, Some(key), cause))?;
        self.check_size(operation, key, bytes.len())?;
        Ok(bytes)
    }
}
