//! A limit for each attempt.

use std::time::Duration;

use super::around::Around;
use super::calls::{Call, Nature};
use crate::driver::DriverResult;

/// The time that one attempt may take, by class of call. The deadline of the call as a whole
/// ([`StoreOptions`](crate::StoreOptions)) holds beside it: this one leaves time for another
/// attempt.
#[derive(Debug, Clone, Copy)]
pub struct AttemptTimeouts {
    read: Duration,
    write: Duration,
    bulk: Duration,
}

impl AttemptTimeouts {
    /// The same limit for every class.
    pub const fn new(limit: Duration) -> Self {
        AttemptTimeouts {
            read: limit,
            write: limit,
            bulk: limit,
        }
    }

    /// For calls that read one key.
    #[must_use]
    pub const fn read(mut self, limit: Duration) -> Self {
        self.read = limit;
        self
    }

    /// For calls that write one key.
    #[must_use]
    pub const fn write(mut self, limit: Duration) -> Self {
        self.write = limit;
        self
    }

    /// For calls over many keys, pages of scans, and the beginning of a watch.
    #[must_use]
    pub const fn bulk(mut self, limit: Duration) -> Self {
        self.bulk = limit;
        self
    }

    fn of(&self, call: &Call<'_>) -> Duration {
        match call.nature {
            _ if call.is_bulk() => self.bulk,
            Nature::Read => self.read,
            Nature::Harmless | Nature::Write => self.write,
        }
    }
}

pub(super) struct Timed {
    pub(super) timeouts: AttemptTimeouts,
    /// Whether the driver inside sees to it by itself.
    pub(super) kept_inside: bool,
}

impl Around for Timed {
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        let limit = limit.min(self.timeouts.of(&call));
        if self.kept_inside {
            return attempt(limit);
        }
        Box::pin(async move {
            let answer = tokio::time::timeout(limit, attempt(limit)).await;
            answer.unwrap_or_else(|_| Err(call.timed_out(limit)))
        })
    }

    fn keeps_deadlines(&self, _: bool) -> bool {
        true
    }
}
