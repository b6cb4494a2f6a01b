//! Calls that compare before they write.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Effect, StateStore};
use crate::capabilities::Requirement;
use crate::driver::DriverError;
use crate::error::Result;
use crate::step::{Action, Expect, Step};
use crate::ttl::{Ttl, TtlState};
use crate::version::{Entry, Version, VersionToken, Versioned};

/// # Versions
///
/// On a backend without versions these calls fail as
/// [`Unsupported`](crate::ErrorKind::Unsupported). What a version compares is in
/// [`Capabilities::versions`](crate::Capabilities::versions): a count of writes, or the stored
/// bytes. Either way every writer is seen, also a program that knows nothing of versions. A change
/// of the expiry alone is no new version.
impl StateStore {
    /// The value under `key` with its version.
    ///
    /// ```
    /// use infra_state::{ErrorKind, StateStore, Ttl};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_state::Error> {
    /// let store = StateStore::memory();
    /// let read = store.get_versioned::<i64>("limit").await?;
    /// assert_eq!(read.value, None);
    /// let version = store.compare_and_swap("limit", &read.version, &100, Ttl::Clear).await?;
    /// store.compare_and_swap("limit", &version, &200, Ttl::Clear).await?;
    /// let late = store.compare_and_swap("limit", &version, &300, Ttl::Clear).await;
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`StateStore::get`].
    pub async fn get_versioned<T: DeserializeOwned>(&self, key: &str) -> Result<Versioned<T>> {
        let read = self.get_versioned_bytes(key).await?;
        let value = (read
            .value
            .as_ref()
            .map(|bytes| self.encoding().decode(bytes)))
        .transpose()
        .map_err(|cause| self.shared.error("get_versioned", Some(key), cause))?;
        Ok(Versioned {
            value,
            version: read.version,
        })
    }

    /// The version of a key that holds nothing, without asking whether it does.
    ///
    /// # Errors
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey).
    pub fn absent_version(&self, key: &str) -> Result<Version> {
        let backend_key = self.key("get_versioned", key)?;
        Ok(Version::new(&backend_key, VersionToken::Absent))
    }

    /// The bytes under `key` as they are stored, with their version.
    ///
    /// # Errors
    /// As [`StateStore::get_bytes`].
    pub async fn get_versioned_bytes(&self, key: &str) -> Result<Versioned<Bytes>> {
        const OPERATION: &str = "get_versioned";
        self.able(OPERATION, Requirement::Versions)?;
        let backend_key = self.key(OPERATION, key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.get_versioned(&backend_key, limit);
        let limit = shared.options.read_timeout;
        let (value, token) = shared
            .run(OPERATION, Some(key), Effect::Read, limit, call)
            .await?;
        Ok(Versioned {
            value,
            version: Version::new(&backend_key, token),
        })
    }

    /// The bytes under `key` with their version, where the backend has versions, and the rest of
    /// their life: what a cache in front of this store has to know. Works on every backend, in one
    /// round trip where it can.
    ///
    /// # Errors
    /// As [`StateStore::get_bytes`].
    pub async fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        const OPERATION: &str = "get_entry";
        let backend_key = self.key(OPERATION, key)?;
        let shared = &self.shared;
        let call = |limit| shared.driver.get_entry(&backend_key, limit);
        let limit = shared.options.read_timeout;
        let found = shared
            .run(OPERATION, Some(key), Effect::Read, limit, call)
            .await?;
        Ok(found.map(|entry| Entry {
            value: entry.value,
            version: (entry.version).map(|token| Version::new(&backend_key, token)),
            ttl: match entry.ttl {
                TtlState::Remaining(left) => Some(left),
                TtlState::Absent | TtlState::NoExpiry => None,
            },
        }))
    }

    /// The version of a key that holds nothing.
    pub(crate) fn version_of_nothing(&self, key: &str) -> Result<Version> {
        let backend_key = self.key("version", key)?;
        Ok(Version::new(&backend_key, VersionToken::Absent))
    }

    /// Stores `value` where the key still has this version, and returns the new version. With the
    /// version of a key that held nothing it only creates.
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) where the key has another version: nothing was
    /// changed. After [`Timeout`](crate::ErrorKind::Timeout) the outcome is unknown: read again
    /// before repeating. Otherwise as [`StateStore::set_with`].
    pub async fn compare_and_swap<T: Serialize + ?Sized>(
        &self,
        key: &str,
        version: &Version,
        value: &T,
        ttl: impl Into<Ttl>,
    ) -> Result<Version> {
        let bytes = self.encoded("compare_and_swap", key, value)?;
        self.swap_bytes(key, version, &bytes, ttl.into()).await
    }

    /// [`StateStore::compare_and_swap`] of bytes as they are.
    ///
    /// # Errors
    /// As [`StateStore::compare_and_swap`].
    pub async fn compare_and_swap_bytes(
        &self,
        key: &str,
        version: &Version,
        value: impl Into<Bytes>,
        ttl: impl Into<Ttl>,
    ) -> Result<Version> {
        let value = value.into();
        self.check_size("compare_and_swap", key, value.len())?;
        self.swap_bytes(key, version, &value, ttl.into()).await
    }

    /// Removes the value under `key` where it still has this version. With the version of a key
    /// that held nothing it only checks that there is still nothing.
    ///
    /// # Errors
    /// As [`StateStore::compare_and_swap`].
    pub async fn compare_and_delete(&self, key: &str, version: &Version) -> Result<()> {
        let step = self.one_step("compare_and_delete", key, version, Action::Delete);
        step.await.map(|_| ())
    }

    async fn swap_bytes(
        &self,
        key: &str,
        version: &Version,
        value: &Bytes,
        ttl: Ttl,
    ) -> Result<Version> {
        const OPERATION: &str = "compare_and_swap";
        let expiry =
            (ttl.checked()).map_err(|cause| self.shared.error(OPERATION, Some(key), cause))?;
        let action = Action::Put { value, expiry };
        self.one_step(OPERATION, key, version, action).await
    }

    async fn one_step(
        &self,
        operation: &'static str,
        key: &str,
        version: &Version,
        action: Action<'_>,
    ) -> Result<Version> {
        self.able(operation, Requirement::Versions)?;
        let backend_key = self.key(operation, key)?;
        let shared = &self.shared;
        shared.check_open(operation, Some(key))?;
        let Some(expected) = version.token_for(&backend_key) else {
            return Err(shared.error(operation, Some(key), DriverError::conflict(0)));
        };
        let steps = [Step {
            key: &backend_key,
            expect: Expect::Version(expected),
            action,
        }];
        let call = |limit| shared.driver.transact(&steps, limit);
        let limit = shared.options.write_timeout;
        let tokens = shared
            .run(operation, Some(key), Effect::Write, limit, call)
            .await?;
        let token = tokens.into_iter().next().unwrap_or(VersionToken::Absent);
        Ok(version.followed_by(token))
    }
}
