//! Gates: asked before each action, and the list of who is inside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::MonoTime;

use crate::cell::Cell;
use crate::error::Denied;
use crate::level::{Action, Level};
use crate::scope::Scopes;
use crate::shared::Shared;
use crate::signal::Signal;

/// The cell that all gates of equal scopes share.
pub(crate) struct GateCell {
    pub(crate) scopes: Arc<Scopes>,
    pub(crate) cell: Cell<Entry>,
}

/// Somebody who is inside.
pub(crate) struct Entry {
    action: Action,
    label: Option<Arc<str>>,
    since: MonoTime,
}

impl GateCell {
    pub(crate) fn new(scopes: Scopes, level: Level) -> Self {
        GateCell {
            scopes: Arc::new(scopes),
            cell: Cell::new(level as u8),
        }
    }

    #[inline]
    pub(crate) fn level(&self) -> Level {
        Level::from_number(self.cell.level())
    }

    /// Who is inside with an action that the level no longer admits.
    pub(crate) fn stragglers(&self, now: MonoTime) -> Vec<Straggler> {
        let level = self.level();
        self.cell.inside(|entry| {
            (!level.admits(entry.action)).then(|| Straggler {
                action: entry.action,
                label: entry.label.clone(),
                scopes: self.scopes.clone(),
                inside_for: now.since(entry.since),
            })
        })
    }
}

/// Asked before each action that touches the outside world. Cheap to clone.
///
/// The check is one atomic load; the level in it is set before
/// [`raise`](crate::EmergencyController::raise) returns.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
    cell: Arc<GateCell>,
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>, cell: Arc<GateCell>) -> Self {
        Gate { shared, cell }
    }

    /// The level of this gate's scopes: one atomic load, no allocation.
    #[inline]
    pub fn level(&self) -> Level {
        self.cell.level()
    }

    /// Whose gate this is.
    pub fn scopes(&self) -> &Scopes {
        &self.cell.scopes
    }

    /// Whether `action` may be started now: one atomic load. For a look ahead; an action is
    /// started by [`enter`](Gate::enter), which a drain can wait for.
    #[inline]
    pub fn admits(&self, action: Action) -> bool {
        self.level().admits(action)
    }

    /// Starts an action. Keep the guard until its effect is settled: a drain waits for it.
    ///
    /// # Errors
    /// [`Denied`] when the level does not admit the action.
    pub fn enter(&self, action: Action) -> Result<InFlight, Denied> {
        self.pass(action, None)
    }

    /// [`enter`](Gate::enter) with a label, such as the order's id, that a drain reports when the
    /// action does not end in time.
    ///
    /// # Errors
    /// [`Denied`] when the level does not admit the action.
    pub fn enter_labelled(
        &self,
        action: Action,
        label: impl AsRef<str>,
    ) -> Result<InFlight, Denied> {
        self.pass(action, Some(label.as_ref().into()))
    }

    /// Completes when `action` is admitted, at once if it is. Cancel safe.
    ///
    /// The level may change again before the caller acts: go through [`enter`](Gate::enter).
    pub async fn until_open(&self, action: Action) {
        self.until(|level| level.admits(action)).await;
    }

    /// Completes when `action` is no longer admitted, at once if it is not. Cancel safe.
    ///
    /// Lets long work, such as a slow calculation before an order, be dropped when it has become
    /// pointless.
    pub async fn until_closed(&self, action: Action) {
        self.until(|level| !level.admits(action)).await;
    }

    async fn until(&self, reached: impl Fn(Level) -> bool) {
        loop {
            // Registered before the look, so that no change in between is missed.
            let changed = self.shared.changed.notified();
            if reached(self.level()) {
                return;
            }
            changed.await;
        }
    }

    fn pass(&self, action: Action, label: Option<Arc<str>>) -> Result<InFlight, Denied> {
        let entry = Entry {
            action,
            label,
            since: self.shared.clock.now(),
        };
        let admits = |level| Level::from_number(level).admits(action);
        match self.cell.cell.enter(entry, admits) {
            Ok(key) => {
                if self.level() == Level::Alert {
                    self.announce(action);
                }
                Ok(InFlight {
                    gate: self.clone(),
                    action,
                    key,
                })
            }
            Err(level) => Err(self.denied(action, Level::from_number(level))),
        }
    }

    fn announce(&self, action: Action) {
        tracing::debug!(%action, scopes = %self.cell.scopes, "action under alert");
        if self.shared.hub.has_listeners() {
            let scopes = self.cell.scopes.clone();
            self.shared
                .hub
                .push(&Signal::EnteredUnderAlert { action, scopes })
                .wake();
        }
    }

    #[cold]
    fn denied(&self, action: Action, level: Level) -> Denied {
        let hold = self.shared.decisive(&self.cell.scopes);
        Denied {
            action,
            level,
            scopes: self.cell.scopes.clone(),
            hold: hold.map(Box::new),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({} at {})", self.cell.scopes, self.level())
    }
}

/// An action that has been started. Drop it when the action's effect is settled.
#[must_use = "the action counts as finished when this is dropped"]
pub struct InFlight {
    gate: Gate,
    action: Action,
    key: usize,
}

impl InFlight {
    /// What is being done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether the level still admits the action: one atomic load. Ask once more right before the
    /// bytes leave, where there is work between [`Gate::enter`] and that moment.
    pub fn still_admitted(&self) -> bool {
        self.gate.admits(self.action)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gate.cell.cell.leave(self.key);
        self.gate.shared.left.notify_waiters();
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InFlight({} of {})", self.action, self.gate.cell.scopes)
    }
}

/// An action that a drain waited for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Straggler {
    /// What is being done.
    pub action: Action,
    /// The label given to [`Gate::enter_labelled`].
    pub label: Option<Arc<str>>,
    /// Whose gate it passed.
    pub scopes: Arc<Scopes>,
    /// How long it has been inside.
    pub inside_for: Duration,
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = self.label.as_deref().unwrap_or("unlabelled");
        write!(
            f,
            "{} {label} of {} for {:?}",
            self.action, self.scopes, self.inside_for
        )
    }
}
