//! Which handler, if any, the running code belongs to.
//!
//! Set whenever a handler is polled. Tasks that a handler spawns are not inside of it: they do not
//! hold up its subscription.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};

use crate::shared::Shared;
use crate::subscription::Core;

thread_local! {
    static HANDLING: RefCell<Option<Arc<Core>>> = const { RefCell::new(None) };
}

/// While it lives, the running code belongs to the handler of `core`.
pub(crate) struct Inside {
    outer: Option<Arc<Core>>,
}

impl Inside {
    pub(crate) fn enter(core: Arc<Core>) -> Self {
        let mut outer = Some(core);
        swap(&mut outer);
        Inside { outer }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        swap(&mut self.outer);
    }
}

fn swap(slot: &mut Option<Arc<Core>>) {
    // A thread that is being torn down runs no handler any more.
    let _ = HANDLING.try_with(|handling| std::mem::swap(&mut *handling.borrow_mut(), slot));
}

/// The subscription of this bus whose handler is running this code.
pub(crate) fn current(shared: &Shared) -> Option<Arc<Core>> {
    HANDLING
        .try_with(|handling| handling.borrow().clone())
        .ok()
        .flatten()
        .filter(|core| std::ptr::eq(Arc::as_ptr(&core.shared), shared))
}

/// A handler of `me` waits for room at `other`, for as long as this lives.
pub(crate) struct WaitsFor<'a>(&'a Core);

impl<'a> WaitsFor<'a> {
    /// `None` when `other` is waiting, through however many handlers, for `me`: nobody would ever
    /// make room.
    pub(crate) fn enter(me: &'a Core, other: &Core) -> Option<Self> {
        // Written before the others are read: of two that close a cycle at the same time, at
        // least one sees the other.
        *lock(me) = Some(other.id);
        let waits = WaitsFor(me);
        let mut next = Some(other.id);
        for _ in 0..1024 {
            match next {
                None => return Some(waits),
                Some(id) if id == me.id => return None,
                Some(id) => next = me.shared.core(id).and_then(|core| *lock(&core)),
            }
        }
        None
    }
}

impl Drop for WaitsFor<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

fn lock(core: &Core) -> std::sync::MutexGuard<'_, Option<crate::subscription::SubscriptionId>> {
    core.waits_for
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
