//! Writing checkpoints so that two processes cannot both go on with one execution.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use infra_core::CorrelationId;
use infra_state::{Requirement, Ttl, Version, Versioned};

use super::{Inner, key, store_error};
use crate::error::{Error, ErrorKind, Result};

/// The checkpoint as this execution last read or wrote it; nothing on a backend without versions.
///
/// Each write replaces just that one. When another process has resumed the execution meanwhile,
/// the next write here fails, and so does whatever was going to follow it.
#[derive(Default)]
pub(super) struct Saved(Mutex<Option<Version>>);

impl Saved {
    pub(super) fn new(version: Option<Version>) -> Self {
        Saved(Mutex::new(version))
    }

    fn version(&self) -> Option<Version> {
        let version = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone()
    }

    fn replace(&self, version: Version) {
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *saved = Some(version);
    }
}

impl Inner {
    /// What a checkpoint that does not exist yet is compared with.
    pub(super) fn unsaved(&self, id: &CorrelationId) -> Result<Saved> {
        if !self.has_versions() {
            return Ok(Saved::default());
        }
        let absent = self.state.absent_version(&key(id));
        Ok(Saved::new(Some(absent.map_err(|e| store_error(id, e))?)))
    }

    pub(super) fn has_versions(&self) -> bool {
        self.state.capabilities().can(Requirement::Versions)
    }

    /// One atomic write, repeated a few times: writing the same text twice is harmless.
    pub(super) async fn store_checkpoint(
        &self,
        id: &CorrelationId,
        text: String,
        saved: &Saved,
    ) -> Result<()> {
        let key = key(id);
        let bytes = Bytes::from(text);
        let write = async || match saved.version() {
            Some(version) => self.replace(&key, &version, &bytes).await.map(Some),
            None => {
                let ttl = Ttl::After(self.checkpoint_ttl);
                let set = self.state.set_bytes_with(&key, bytes.clone(), ttl);
                set.await.map(|()| None)
            }
        };
        match self.checkpoint_retry.run(write).await {
            Ok(version) => {
                version
                    .into_iter()
                    .for_each(|version| saved.replace(version));
                Ok(())
            }
            Err(error) => Err(match error.into_inner() {
                Some(error) if error.kind() == infra_state::ErrorKind::Conflict => {
                    Error::new(ErrorKind::Superseded, id.as_str())
                }
                Some(error) => store_error(id, error),
                None => Error::new(ErrorKind::Checkpoint, id.as_str()),
            }),
        }
    }

    async fn replace(
        &self,
        key: &str,
        version: &Version,
        bytes: &Bytes,
    ) -> infra_state::Result<Version> {
        let ttl = Ttl::After(self.checkpoint_ttl);
        let swap = |version| (self.state).compare_and_swap_bytes(key, version, bytes.clone(), ttl);
        let conflict = match swap(version).await {
            Err(error) if error.kind() == infra_state::ErrorKind::Conflict => error,
            result => return result,
        };
        let Versioned { value, version } = self.state.get_versioned_bytes(key).await?;
        match value {
            // An earlier attempt was applied after all.
            Some(stored) if stored == *bytes => Ok(version),
            Some(_) => Err(conflict),
            // Older than its time to live, while a node took its time.
            None => swap(&version).await,
        }
    }
}
