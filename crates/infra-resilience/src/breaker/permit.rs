//! The right to make one call, which ends in exactly one verdict however it ends.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::core::Ticket;
use super::{Rejected, Shared, Verdict};

/// The right to make one call through a breaker.
///
/// Say how the call went by [`success`](Permit::success), [`failure`](Permit::failure),
/// [`ignore`](Permit::ignore) or [`record`](Permit::record). A permit that is dropped instead
/// counts by the breaker's [`on_cancel`](super::BreakerBuilder::on_cancel) rule, and as a failure
/// while its thread unwinds from a panic; in each case a probe's place is free again at once.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit(Guard<Arc<Shared>>);

impl Permit {
    pub(super) fn acquire(shared: &Arc<Shared>) -> Result<Self, Rejected> {
        Guard::acquire_shared(shared).map(Permit)
    }

    /// The call succeeded. It still counts as slow where it took too long.
    pub fn success(self) {
        self.0.end(Verdict::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.0.end(Verdict::Failure);
    }

    /// The call says nothing about the other side.
    pub fn ignore(self) {
        self.0.end(Verdict::Ignored);
    }

    /// The call ended with `verdict`.
    pub fn record(self, verdict: Verdict) {
        self.0.end(verdict);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// A permit over a borrowed or a shared breaker.
pub(crate) struct Guard<S: Borrow<Shared>> {
    shared: S,
    ticket: Option<Ticket>,
    /// The call waits on this side, so its end says nothing about the other one.
    waiting: bool,
}

impl<'a> Guard<&'a Shared> {
    #[inline]
    pub(crate) fn acquire(shared: &'a Shared) -> Result<Self, Rejected> {
        let ticket = shared.admit()?;
        Ok(Guard::new(shared, ticket))
    }
}

impl Guard<Arc<Shared>> {
    /// Counts one more holder of the breaker for an admitted call only.
    #[inline]
    pub(crate) fn acquire_shared(shared: &Arc<Shared>) -> Result<Self, Rejected> {
        let ticket = shared.admit()?;
        Ok(Guard::new(shared.clone(), ticket))
    }
}

impl<S: Borrow<Shared>> Guard<S> {
    #[inline]
    fn new(shared: S, ticket: Ticket) -> Self {
        Guard {
            shared,
            ticket: Some(ticket),
            waiting: false,
        }
    }

    /// The time that `wait` takes is none of the call's: being dropped in it counts for nothing, and
    /// the call begins after it.
    pub(crate) async fn while_waiting<T>(&mut self, wait: impl Future<Output = T>) -> T {
        self.waits();
        let result = wait.await;
        self.goes_on();
        result
    }

    /// The call waits on this side from here on.
    pub(crate) fn waits(&mut self) {
        self.waiting = true;
    }

    #[cfg(feature = "tower")]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// It may wait no more: where it did, it begins now.
    pub(crate) fn goes_on(&mut self) {
        if !std::mem::take(&mut self.waiting) {
            return;
        }
        let begins = self.ticket.filter(Ticket::needs_start);
        if let Some(ticket) = begins {
            self.ticket = Some(ticket.started_at(self.shared.borrow().clock.now()));
        }
    }

    pub(crate) fn end(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.borrow().record(ticket, verdict);
        }
    }
}

impl<S: Borrow<Shared>> Drop for Guard<S> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let shared = self.shared.borrow();
        if self.waiting {
            shared.record(ticket, Verdict::Ignored);
        } else if std::thread::panicking() {
            shared.core.count_panic();
            shared.record(ticket, Verdict::Failure);
        } else {
            shared.cancel(ticket);
        }
    }
}
