//! From old keys to the current one.

use bytes::Bytes;

use super::Keyring;
use crate::error::{ErrorKind, Result};
use crate::layer::transform::Transform;
use crate::store::StateStore;
use crate::ttl::Ttl;

/// What [`Keyring::reencrypt`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reencrypted {
    /// Values that were stored anew with the current key.
    pub rewritten: u64,
    /// Values that had the current key already.
    pub current: u64,
    /// Values that others changed or removed meanwhile, which has the same effect.
    pub changed: u64,
}

impl Keyring {
    /// Stores all values whose keys begin with `prefix` anew with the current key; times to live
    /// stay. Values that are not encrypted become so where
    /// [`accept_plain`](Keyring::accept_plain) is set.
    ///
    /// `raw` sees the stored bytes: a store over the same backend without the encryption layer
    /// and those inside of it, and without a [tenant](crate::layer::Layers::tenant). Others may
    /// go on writing with the current key. Can be repeated, also after it was dropped half-way.
    ///
    /// # Errors
    /// The first value that cannot be opened, named, and what the store reports. Values before it
    /// are done.
    pub async fn reencrypt(&self, raw: &StateStore, prefix: &str) -> Result<Reencrypted> {
        let mut done = Reencrypted::default();
        let mut keys = raw.scan(prefix);
        while let Some(key) = keys.next().await {
            let key = key?;
            let read = raw.get_versioned_bytes(&key).await?;
            let Some(stored) = read.value else {
                done.changed += 1;
                continue;
            };
            let Some(renewed) = self.renewed(raw, &key, stored)? else {
                done.current += 1;
                continue;
            };
            let swap = raw.compare_and_swap_bytes(&key, &read.version, renewed, Ttl::Keep);
            match swap.await {
                Ok(_) => done.rewritten += 1,
                Err(error) if error.kind() == ErrorKind::Conflict => done.changed += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The value under the current key; none where it has that one already.
    fn renewed(&self, raw: &StateStore, key: &str, stored: Bytes) -> Result<Option<Bytes>> {
        let failed = |cause| raw.failed("reencrypt", key, cause);
        let entry = raw.backend_key(key).map_err(failed)?;
        match Self::key_id(&stored).map_err(failed)? {
            Some(id) if id == self.current_id().as_bytes() => return Ok(None),
            _ => {}
        }
        let value = self.open(&entry, stored).map_err(failed)?;
        self.seal(&entry, value).map(Some).map_err(failed)
    }
}
