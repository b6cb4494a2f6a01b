//! A state store behind the shared pieces of `infra-resilience`: overrides of breakers and rate
//! limits of a whole fleet.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use infra_resilience::shared::{
    SharedChanges, SharedStore, SharedStoreError, SharedValue, SharedVersion, StoreResult,
};

use crate::capabilities::Requirement;
use crate::error::{Error, ErrorKind};
use crate::store::StateStore;
use crate::ttl::Ttl;
use crate::version::Version;
use crate::watch::ChangeStream;

/// On every backend with versions. The values are JSON under plain keys of this store's namespace,
/// and are watched where the backend can.
impl SharedStore for StateStore {
    fn unfit(&self) -> Option<String> {
        let error = self.require(Requirement::Versions).err()?;
        Some(error.to_string())
    }

    fn read<'a>(&'a self, key: &'a str) -> StoreResult<'a, SharedValue> {
        Box::pin(async move {
            let read = self.get_versioned_bytes(key).await.map_err(fault)?;
            Ok(SharedValue {
                bytes: read.value.map(Vec::from),
                version: SharedVersion::new(read.version),
            })
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a str,
        version: &'a SharedVersion,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, Option<SharedVersion>> {
        Box::pin(async move {
            let Some(expected) = version.token::<Version>() else {
                return Ok(None);
            };
            let swap = self.compare_and_swap_bytes(key, expected, value, Ttl::from(ttl));
            match swap.await {
                Ok(version) => Ok(Some(SharedVersion::new(version))),
                Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
                Err(error) => Err(fault(error)),
            }
        })
    }

    fn changes<'a>(&'a self, key: &'a str) -> StoreResult<'a, Option<Box<dyn SharedChanges>>> {
        Box::pin(async move {
            if !self.capabilities().watch {
                return Ok(None);
            }
            let changes = StateStore::changes(self, key).await.map_err(fault)?;
            let changes: Box<dyn SharedChanges> = Box::new(changes);
            Ok(Some(changes))
        })
    }
}

/// Changes of keys that only begin alike are reported too: reading once more is harmless.
impl SharedChanges for ChangeStream {
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        Pin::new(self).poll_next(cx).map(|change| change.is_some())
    }
}

fn fault(error: Error) -> SharedStoreError {
    SharedStoreError::of(&error).closed(error.kind() == ErrorKind::Closed)
}
