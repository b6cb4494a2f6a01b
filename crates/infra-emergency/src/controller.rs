//! The handle that everybody shares.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{BoxFuture, Health, HealthCheck, SharedClock};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::audit::AuditRecord;
use crate::builder::{Builder, Options};
use crate::drain::DrainReport;
use crate::error::Error;
use crate::gate::Gate;
use crate::handlers::Handler;
use crate::hold::{ActiveHold, Clear, Hold, HoldId, MAX_NAME, MAX_REASON, clean};
use crate::isolate::IntoHandlerResult;
use crate::level::Level;
use crate::procedure::{HaltReport, Hook};
use crate::scope::{Scope, Scopes};
use crate::shared::Shared;
use crate::signal::{Change, Signals};
use crate::transition;

/// How many signals wait for one listener unless said otherwise.
const SIGNAL_CAPACITY: usize = 1024;

/// Raises and clears holds, hands out gates, tells handlers. Cheap to clone; clones share all.
#[derive(Clone)]
pub struct EmergencyController {
    shared: Arc<Shared>,
}

/// How a [`raise_and_wait`](EmergencyController::raise_and_wait) ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RaiseReport {
    /// The hold in effect.
    pub id: HoldId,
    /// The level of the hold's scope.
    pub level: Level,
    /// What the halt hooks achieved, at level Halt and above.
    pub halt: Option<HaltReport>,
}

impl EmergencyController {
    /// A controller with default options, at level Normal.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A controller with options of one's own.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn from_parts(
        options: Options,
        clock: SharedClock,
        runtime: Option<Handle>,
    ) -> Self {
        EmergencyController {
            shared: Arc::new(Shared::new(options, clock, runtime)),
        }
    }

    /// The global level: one atomic load, no allocation.
    #[inline]
    pub fn level(&self) -> Level {
        self.shared.global.level()
    }

    /// The level of somebody. Takes a lock; who asks often holds a [`gate`](Self::gate).
    pub fn level_for(&self, scopes: &Scopes) -> Level {
        self.shared.level_of(scopes)
    }

    /// Whether the global level is at most `required`, compared as numbers: one atomic load.
    #[inline]
    pub fn is_allowed(&self, required: Level) -> bool {
        self.level() <= required
    }

    /// The gate of somebody. Gates of equal scopes share their level and their list of actions.
    pub fn gate(&self, scopes: Scopes) -> Gate {
        Gate::new(self.shared.clone(), self.shared.gate_cell(scopes))
    }

    /// Puts a hold into effect. It is in effect, in every gate, when this returns.
    ///
    /// Never fails, never waits, needs no runtime. Handlers, and at Halt and above the halt hooks,
    /// run afterwards in tasks; without any runtime they wait for [`attach`](Self::attach).
    /// Raising what is already raised (the same [`Hold::id`] and scope, at least as severe)
    /// changes nothing and returns the id in effect.
    pub fn raise(&self, hold: Hold) -> HoldId {
        let act = |holds: &mut _, at| transition::raise(holds, hold, at);
        let ((raised, _), changes) = self.shared.transact(None, act);
        self.shared.start(&changes);
        raised.id
    }

    /// [`raise`](Self::raise), then waits for the handlers and the halt hooks.
    ///
    /// At Halt and above the halt hooks run also where the level was reached before. They go on
    /// when this future is dropped. Each of them is bounded by the options of the builder.
    pub async fn raise_and_wait(&self, hold: Hold) -> RaiseReport {
        let (done, mut all_done) = mpsc::channel(1);
        let act = |holds: &mut _, at| transition::raise(holds, hold, at);
        let ((raised, change), changes) = self.shared.transact(Some(done), act);
        let mut procedures = self.shared.start(&changes);
        let level = change.after;
        if procedures.is_empty() && level >= Level::Halt && Handle::try_current().is_ok() {
            procedures.push(self.shared.start_procedure(Arc::new(change)));
        }
        let mut halt = None;
        for procedure in procedures {
            halt = procedure.await.ok();
        }
        if self.shared.handle().is_some() {
            // Nothing is ever sent: this ends when the last handler has dropped its sender.
            let _ = all_done.recv().await;
        }
        RaiseReport {
            id: raised.id,
            level,
            halt,
        }
    }

    /// Sets the level of the one global hold that belongs to this call, as the actor of the
    /// builder, and returns the global level.
    ///
    /// Holds raised by [`raise`](Self::raise) stay, so after `set_level(Normal, ..)` the level may
    /// still be Halt.
    ///
    /// # Errors
    /// When lowering without a reason. Raising never fails.
    pub fn set_level(&self, level: Level, reason: impl AsRef<str>) -> Result<Level, Error> {
        let actor = self.shared.options.actor.clone();
        self.set_level_as(level, actor, reason)
    }

    /// [`set_level`](Self::set_level) as somebody.
    ///
    /// # Errors
    /// When lowering without a reason or an actor. Raising never fails.
    pub fn set_level_as(
        &self,
        level: Level,
        actor: impl AsRef<str>,
        reason: impl AsRef<str>,
    ) -> Result<Level, Error> {
        let actor: Arc<str> = clean(actor.as_ref(), MAX_NAME).unwrap_or_default();
        let reason = clean(reason.as_ref(), MAX_REASON);
        let act = |holds: &mut _, at| transition::set_level(holds, level, &actor, reason, at);
        let (result, changes) = self.shared.transact(None, act);
        self.shared.start(&changes);
        result
    }

    /// Ends holds, all that are named or none, and returns them.
    ///
    /// A hold that was raised or escalated since the caller looked has another id and stays.
    ///
    /// # Errors
    /// Without ids, actor or reason, or with an id that is not in effect. The refusal is audited.
    pub fn clear(&self, clear: Clear) -> Result<Vec<ActiveHold>, Error> {
        let act = |holds: &mut _, at| transition::clear(holds, clear, at);
        let (result, changes) = self.shared.transact(None, act);
        self.shared.start(&changes);
        if let Err(error) = &result {
            tracing::warn!(%error, "emergency clear refused");
        }
        result
    }

    /// The holds in effect, ordered by id.
    pub fn holds(&self) -> Vec<ActiveHold> {
        self.shared.holds()
    }

    /// The latest audit records, the oldest first.
    pub fn audit(&self) -> Vec<AuditRecord> {
        self.shared.audit()
    }

    /// What happens from now on; up to 1024 signals wait for this listener.
    pub fn subscribe(&self) -> Signals {
        self.shared.hub.subscribe(SIGNAL_CAPACITY)
    }

    /// [`subscribe`](Self::subscribe) with another capacity (at least 1).
    pub fn subscribe_with_capacity(&self, capacity: usize) -> Signals {
        self.shared.hub.subscribe(capacity)
    }

    /// Registers a handler that is told of each change of the holds, in order.
    ///
    /// Each handler has its own queue and its own tasks: one that fails, panics or hangs (it is
    /// stopped after the hook timeout) does not concern the others, nor the level. Failures are
    /// logged, audited and signalled. A handler may raise and clear, but must not wait for itself
    /// by [`raise_and_wait`](Self::raise_and_wait).
    pub fn register_handler<F, Fut>(&self, name: impl AsRef<str>, handler: F)
    where
        F: Fn(Arc<Change>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        let call = move |change: Arc<Change>| -> BoxFuture<'static, Result<(), String>> {
            let future = handler(change);
            Box::pin(async move { future.await.into_handler_result() })
        };
        let handler = Arc::new(Handler::new(name.as_ref().into(), Box::new(call)));
        self.keep_runtime();
        self.shared.registry().handlers.push(handler);
    }

    /// Registers a hook that cancels what is open after a halt. It must be idempotent.
    ///
    /// Runs when a scope reaches Halt or Shutdown, after the drain: all cancel hooks beside each
    /// other, then the [verify hooks](Self::on_halt_verify), and again while anything is left. A
    /// hook that fails, panics or hangs is run again with backoff; each failure is signalled; the
    /// level stays, whatever happens.
    pub fn on_halt_cancel<F, Fut>(&self, name: impl AsRef<str>, hook: F)
    where
        F: Fn(Arc<Change>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoHandlerResult> + Send + 'static,
    {
        let call = move |change: Arc<Change>| -> BoxFuture<'static, Result<(), String>> {
            let future = hook(change);
            Box::pin(async move { future.await.into_handler_result() })
        };
        self.keep_runtime();
        self.shared.registry().cancels.push(Arc::new(Hook {
            name: name.as_ref().into(),
            call: Box::new(call),
        }));
    }

    /// Registers a hook that counts what is still open after the cancel hooks. Above zero, or on
    /// failure, another round of cancel and verify is made, up to the limit of the builder.
    pub fn on_halt_verify<F, Fut, E>(&self, name: impl AsRef<str>, hook: F)
    where
        F: Fn(Arc<Change>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<usize, E>> + Send + 'static,
        E: fmt::Display,
    {
        let call = move |change: Arc<Change>| -> BoxFuture<'static, Result<usize, String>> {
            let future = hook(change);
            Box::pin(async move { future.await.map_err(|error| error.to_string()) })
        };
        self.keep_runtime();
        self.shared.registry().verifies.push(Arc::new(Hook {
            name: name.as_ref().into(),
            call: Box::new(call),
        }));
    }

    /// Removes every handler and hook registered under `name`; says whether there was one.
    pub fn unregister(&self, name: &str) -> bool {
        let mut registry = self.shared.registry();
        let count =
            |r: &crate::shared::Registry| r.handlers.len() + r.cancels.len() + r.verifies.len();
        let before = count(&registry);
        registry.handlers.retain(|handler| &*handler.name != name);
        registry.cancels.retain(|hook| &*hook.name != name);
        registry.verifies.retain(|hook| &*hook.name != name);
        count(&registry) < before
    }

    /// Waits until nothing is running that the level no longer admits, at most `timeout`.
    ///
    /// Actions that the level admits, such as cancels at Halt, are not waited for. Cancel safe.
    pub async fn drain(&self, timeout: Duration) -> DrainReport {
        self.shared.drain(&Scope::Global, timeout).await
    }

    /// [`drain`](Self::drain) of those whom `scope` concerns.
    pub async fn drain_scope(&self, scope: &Scope, timeout: Duration) -> DrainReport {
        self.shared.drain(scope, timeout).await
    }

    /// Gives the controller a runtime for calls from threads outside of any, if it has none, and
    /// starts the handlers and halt hooks that wait for one.
    pub fn attach(&self, runtime: Handle) {
        self.shared.keep_runtime(runtime);
        self.shared.start(&[]);
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn keep_runtime(&self) {
        if let Ok(handle) = Handle::try_current() {
            self.shared.keep_runtime(handle);
        }
    }
}

impl Default for EmergencyController {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EmergencyController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmergencyController")
            .field("level", &self.level())
            .field("holds", &self.holds().len())
            .finish_non_exhaustive()
    }
}

/// Named `emergency`: up at Normal, degraded above, with the decisive hold.
impl HealthCheck for EmergencyController {
    fn name(&self) -> &str {
        "emergency"
    }

    fn check(&self) -> BoxFuture<'_, Health> {
        let health = match self.shared.decisive(&Scopes::global()) {
            Some(hold) if hold.level > Level::Normal => Health::degraded(hold.to_string()),
            _ => Health::up(),
        };
        Box::pin(std::future::ready(health))
    }
}
