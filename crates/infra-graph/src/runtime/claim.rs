//! Which executions this process is running, so that none runs twice at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use infra_core::CorrelationId;

/// The claimed ids; as many as there are calls in progress.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashSet<CorrelationId>>);

impl Claims {
    /// Claims `id` until the claim is dropped; `None` when it is taken.
    pub(super) fn take(claims: &Arc<Claims>, id: &CorrelationId) -> Option<Claim> {
        let mut taken = claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(id.clone()).then(|| Claim {
            claims: claims.clone(),
            id: id.clone(),
        })
    }
}

pub(super) struct Claim {
    claims: Arc<Claims>,
    id: CorrelationId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.id);
    }
}
