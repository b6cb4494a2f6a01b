//! Leader election over a lease.

use std::time::Duration;

use tracing::info;

use super::Lease;
use super::guard::LeaseGuard;
use super::record::Record;
use crate::error::Result;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// Its name, as it gave it.
    pub holder: String,
    /// Its fencing token.
    pub token: u64,
}

impl Leader {
    pub(super) fn of(record: &Record) -> Option<Leader> {
        record.owner.as_ref().map(|_| Leader {
            holder: record.holder.clone(),
            token: record.token,
        })
    }
}

/// One of those who campaign under a name, from
/// [`StateStore::election`](crate::StateStore::election).
///
/// ```
/// use infra_state::StateStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let election = StateStore::memory().election("scheduler").candidate("bot-1");
/// let done = election.lead(async |leading| {
///     // Only one process is in here; this future is dropped when it no longer is.
///     leading.token()
/// });
/// assert_eq!(done.await?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Election {
    lease: Lease,
}

impl Election {
    pub(super) fn new(lease: Lease) -> Self {
        Election { lease }
    }

    /// The candidate's name, for people and for [`Election::leader`].
    #[must_use]
    pub fn candidate(mut self, name: impl Into<String>) -> Self {
        self.lease = self.lease.holder(name);
        self
    }

    /// How long the others wait for a leader that is gone. As [`Lease::ttl`].
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.lease = self.lease.ttl(ttl);
        self
    }

    /// The lease that it is about.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until this candidate is the leader.
    ///
    /// # Errors
    /// As [`Lease::acquire`].
    pub async fn campaign(&self) -> Result<LeaseGuard> {
        self.lease.acquire().await
    }

    /// The leader at the moment, if there is one. As [`Lease::holder_now`].
    ///
    /// # Errors
    /// As [`Lease::holder_now`].
    pub async fn leader(&self) -> Result<Option<Leader>> {
        self.lease.holder_now().await
    }

    /// Campaigns, and does `work` as the leader; when the leadership is lost in the middle of it,
    /// drops it and campaigns again. Returns what `work` returned, after releasing.
    ///
    /// # Errors
    /// As [`Lease::acquire`].
    pub async fn lead<T>(&self, work: impl AsyncFn(&LeaseGuard) -> T) -> Result<T> {
        loop {
            let leading = self.campaign().await?;
            info!(election = %self.lease.name(), token = leading.token(), "leading");
            let done = tokio::select! {
                biased;
                () = leading.lost() => None,
                done = work(&leading) => Some(done),
            };
            if let Some(done) = done {
                // What is left of the lease ends by itself.
                let _ = leading.release().await;
                return Ok(done);
            }
        }
    }
}
