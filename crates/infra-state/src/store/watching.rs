//! Calls that begin a watch.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Effect, StateStore};
use crate::capabilities::Requirement;
use crate::error::Result;
use crate::watch::{ChangeStream, WatchStream};

/// # Watching
impl StateStore {
    /// All values whose keys begin with `prefix`, then each that changes, by whomever.
    ///
    /// First comes what is there, ended by [`WatchEvent::Ready`](crate::WatchEvent::Ready), then
    /// what changes; nothing is missed in between, though a value may come twice. Of a key that
    /// changes faster than it is read only the last value comes. Expired values are reported when
    /// the backend removes them: within its sweep interval, on Redis when the server gets to it.
    ///
    /// ```
    /// use infra_state::{StateStore, WatchEvent};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), infra_state::Error> {
    /// let store = StateStore::memory();
    /// store.set("limit:MSFT", &100).await?;
    /// let mut limits = store.watch("limit:").await?;
    /// assert!(matches!(limits.next().await, Some(WatchEvent::Put { key, .. }) if key == "limit:MSFT"));
    /// assert_eq!(limits.next().await, Some(WatchEvent::Ready));
    /// store.set("limit:AAPL", &200).await?;
    /// let Some(WatchEvent::Put { key, value }) = limits.next().await else { panic!() };
    /// assert_eq!((&*key, store.decode::<i64>(&key, &value)?), ("limit:AAPL", 200));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) on a backend that cannot watch; what stands
    /// in the way of the watch.
    pub async fn watch(&self, prefix: &str) -> Result<WatchStream> {
        let changes = self.changes(prefix).await?;
        Ok(WatchStream::new(self.clone(), prefix, changes))
    }

    /// The keys with this prefix that change from now on, without their values: for caches.
    ///
    /// # Errors
    /// As [`StateStore::watch`].
    pub async fn changes(&self, prefix: &str) -> Result<ChangeStream> {
        const OPERATION: &str = "watch";
        self.able(OPERATION, Requirement::Watch)?;
        let shared = &self.shared;
        let backend_prefix = (self.namespace.prefix(prefix))
            .map_err(|cause| shared.error(OPERATION, Some(prefix), cause))?;
        let call = |limit| shared.driver.watch(&backend_prefix, limit);
        let limit = shared.options.bulk_timeout;
        let feed = shared
            .run(OPERATION, None, Effect::Read, limit, call)
            .await?;
        Ok(ChangeStream::new(feed, Arc::clone(&self.namespace)))
    }

    /// The bytes that [`StateStore::set`] would store; `key` is for the error. For those who need
    /// them more than once, and store them by [`StateStore::set_bytes`].
    ///
    /// # Errors
    /// As [`StateStore::set`].
    pub fn encode<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Bytes> {
        self.encoded("encode", key, value)
    }

    /// The value that stored bytes hold, as [`StateStore::get`] reads it; `key` is for the error.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode).
    pub fn decode<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<T> {
        (self.encoding().decode(bytes))
            .map_err(|cause| self.shared.error("decode", Some(key), cause))
    }
}
