//! Waiting for the actions that were admitted before the gate closed.

use std::pin::pin;
use std::time::Duration;

use crate::gate::Straggler;
use crate::isolate::within;
use crate::scope::Scope;
use crate::shared::Shared;

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// How many actions were inside at the start and have ended.
    pub settled: usize,
    /// The actions that had not ended at the timeout.
    pub stragglers: Vec<Straggler>,
    /// How long it took.
    pub took: Duration,
}

impl DrainReport {
    /// Nothing is inside any more.
    pub fn is_complete(&self) -> bool {
        self.stragglers.is_empty()
    }
}

impl Shared {
    /// Waits until no action is inside that the level no longer admits.
    pub(crate) async fn drain(&self, scope: &Scope, limit: Duration) -> DrainReport {
        let start = self.clock.now();
        let first = self.stragglers(scope).len();
        let empty = pin!(self.until_empty(scope));
        let emptied = within(&self.clock, limit, empty).await.is_some();
        let stragglers = if emptied {
            Vec::new()
        } else {
            self.stragglers(scope)
        };
        for straggler in &stragglers {
            tracing::error!(%straggler, %scope, "action still running after the drain");
        }
        DrainReport {
            settled: first.saturating_sub(stragglers.len()),
            stragglers,
            took: self.clock.now().since(start),
        }
    }

    async fn until_empty(&self, scope: &Scope) {
        loop {
            // Registered before the look, so that nobody leaves unseen.
            let left = self.left.notified();
            if self.stragglers(scope).is_empty() {
                return;
            }
            left.await;
        }
    }

    fn stragglers(&self, scope: &Scope) -> Vec<Straggler> {
        let now = self.clock.now();
        let cells = self.cells_of(scope);
        cells.iter().flat_map(|cell| cell.stragglers(now)).collect()
    }
}
