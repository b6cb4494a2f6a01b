//! What all clones of a controller share, and how a change reaches everybody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use infra_core::{Context, SharedClock, context};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::audit::{Audit, AuditKind, AuditRecord};
use crate::builder::Options;
use crate::gate::GateCell;
use crate::handlers::{Handler, Job};
use crate::hold::ActiveHold;
use crate::holds::{HoldSet, Stamp};
use crate::level::Level;
use crate::procedure::{self, HaltReport, Hook};
use crate::scope::{Scope, Scopes};
use crate::signal::{Change, HookFailure, Hub, Signal, Wakers};
use crate::transition::Step;

/// The most halts whose hooks wait for a runtime.
const MAX_DEFERRED: usize = 64;

/// The fewest cells at which it is worth looking for dead ones.
const MIN_PRUNE: usize = 64;

pub(crate) struct Shared {
    pub(crate) clock: SharedClock,
    pub(crate) options: Options,
    pub(crate) hub: Hub,
    /// Notified after each change of the holds.
    pub(crate) changed: Notify,
    /// Notified whenever an action leaves a gate.
    pub(crate) left: Notify,
    /// The cell of the global level, also the first in `State::cells`.
    pub(crate) global: Arc<GateCell>,
    state: Mutex<State>,
    registry: Mutex<Registry>,
    runtime: Mutex<Runtime>,
}

struct State {
    holds: HoldSet,
    audit: Audit,
    cells: HashMap<Scopes, Weak<GateCell>>,
    /// At how many cells those that nobody holds any more are looked for.
    prune_at: usize,
    changes: u64,
}

#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) handlers: Vec<Arc<Handler>>,
    pub(crate) cancels: Vec<Arc<Hook<()>>>,
    pub(crate) verifies: Vec<Arc<Hook<usize>>>,
}

#[derive(Default)]
struct Runtime {
    /// The one of the builder.
    given: Option<Handle>,
    /// The one in which a handler was registered last, or that was attached.
    kept: Option<Handle>,
    deferred: VecDeque<(Arc<Change>, Context)>,
}

impl Shared {
    pub(crate) fn new(options: Options, clock: SharedClock, given: Option<Handle>) -> Self {
        let global = Arc::new(GateCell::new(Scopes::global(), Level::Normal));
        let cells = HashMap::from([(Scopes::global(), Arc::downgrade(&global))]);
        Shared {
            state: Mutex::new(State {
                holds: HoldSet::new(options.max_holds),
                audit: Audit::new(options.audit_capacity),
                cells,
                prune_at: MIN_PRUNE,
                changes: 0,
            }),
            clock,
            options,
            hub: Hub::default(),
            changed: Notify::new(),
            left: Notify::new(),
            global,
            registry: Mutex::default(),
            runtime: Mutex::new(Runtime {
                given,
                ..Runtime::default()
            }),
        }
    }

    /// Changes the holds, sets every gate, and only then records and tells.
    ///
    /// Nothing of others runs while the lock is held: signals and jobs are put into queues.
    pub(crate) fn transact<T>(
        &self,
        done: Option<mpsc::Sender<()>>,
        act: impl FnOnce(&mut HoldSet, Stamp) -> (T, Step),
    ) -> (T, Vec<Arc<Change>>) {
        let stamp = Stamp {
            mono: self.clock.now(),
            wall: SystemTime::now(),
        };
        let context = context::current();
        let mut wakers = Vec::new();
        let mut changes = Vec::new();
        let mut dropped = Vec::new();
        let value = {
            let mut state = self.lock();
            let (value, step) = act(&mut state.holds, stamp);
            state.set_gates();
            step.records
                .into_iter()
                .for_each(|record| state.audit.write(record));
            for mut change in step.changes {
                state.changes += 1;
                change.sequence = state.changes;
                let change = Arc::new(change);
                wakers.push(self.hub.push(&Signal::Changed(change.clone())));
                for handler in &self.registry().handlers {
                    let job = Job::new(change.clone(), context.clone(), done.clone());
                    dropped.extend(handler.enqueue(job));
                }
                changes.push(change);
            }
            value
        };
        self.changed.notify_waiters();
        wakers.into_iter().for_each(Wakers::wake);
        changes.iter().for_each(|change| log(change));
        dropped.iter().for_each(Job::log_dropped);
        (value, changes)
    }

    /// Starts the handlers, and the halt hooks for those of `changes` that reached a halt.
    pub(crate) fn start(self: &Arc<Self>, changes: &[Arc<Change>]) -> Vec<JoinHandle<HaltReport>> {
        let halts = changes
            .iter()
            .filter(|change| change.after > change.before && change.after >= Level::Halt);
        let Some(runtime) = self.handle() else {
            halts.for_each(|change| self.defer(change));
            return Vec::new();
        };
        let _inside = runtime.enter();
        for (change, context) in self.take_deferred() {
            drop(context::spawn(
                context.scope(procedure::run(self.clone(), change)),
            ));
        }
        let started = halts
            .map(|change| self.start_procedure(change.clone()))
            .collect();
        let handlers = self.registry().handlers.clone();
        for handler in handlers {
            if let Some(claim) = handler.claim() {
                drop(context::spawn_detached(claim.run(self.clone())));
            }
        }
        started
    }

    /// Runs the halt hooks in a task. Only inside of a runtime.
    pub(crate) fn start_procedure(self: &Arc<Self>, change: Arc<Change>) -> JoinHandle<HaltReport> {
        context::spawn(procedure::run(self.clone(), change))
    }

    fn defer(&self, change: &Arc<Change>) {
        tracing::error!(
            scope = %change.scope,
            "no runtime: the gates are closed, the halt hooks wait until one is attached"
        );
        let mut runtime = self.runtime();
        if runtime.deferred.len() < MAX_DEFERRED {
            let deferred = (change.clone(), context::current());
            runtime.deferred.push_back(deferred);
        }
    }

    fn take_deferred(&self) -> VecDeque<(Arc<Change>, Context)> {
        std::mem::take(&mut self.runtime().deferred)
    }

    /// The runtime for handlers and hooks: the one given, else the caller's, else the one kept.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let runtime = self.runtime();
        let given = runtime.given.clone();
        given
            .or_else(|| Handle::try_current().ok())
            .or_else(|| runtime.kept.clone())
    }

    /// Keeps a runtime for calls from outside of any.
    pub(crate) fn keep_runtime(&self, handle: Handle) {
        self.runtime().kept = Some(handle);
    }

    pub(crate) fn gate_cell(&self, scopes: Scopes) -> Arc<GateCell> {
        let mut state = self.lock();
        if let Some(cell) = state.cells.get(&scopes).and_then(Weak::upgrade) {
            return cell;
        }
        if state.cells.len() >= state.prune_at {
            state.cells.retain(|_, cell| cell.strong_count() > 0);
            state.prune_at = MIN_PRUNE.max(state.cells.len() * 2);
        }
        let level = state.holds.level(&scopes);
        let cell = Arc::new(GateCell::new(scopes.clone(), level));
        state.cells.insert(scopes, Arc::downgrade(&cell));
        cell
    }

    pub(crate) fn cells_of(&self, scope: &Scope) -> Vec<Arc<GateCell>> {
        let state = self.lock();
        let concerned = state
            .cells
            .iter()
            .filter(|(scopes, _)| scope.concerns(scopes));
        concerned.filter_map(|(_, cell)| cell.upgrade()).collect()
    }

    pub(crate) fn level_of(&self, scopes: &Scopes) -> Level {
        self.lock().holds.level(scopes)
    }

    pub(crate) fn decisive(&self, scopes: &Scopes) -> Option<ActiveHold> {
        self.lock().holds.decisive(scopes).cloned()
    }

    pub(crate) fn holds(&self) -> Vec<ActiveHold> {
        self.lock().holds.iter().cloned().collect()
    }

    pub(crate) fn audit(&self) -> Vec<AuditRecord> {
        self.lock().audit.records()
    }

    pub(crate) fn cancel_hooks(&self) -> Vec<Arc<Hook<()>>> {
        self.registry().cancels.clone()
    }

    pub(crate) fn verify_hooks(&self) -> Vec<Arc<Hook<usize>>> {
        self.registry().verifies.clone()
    }

    /// Tells of a failed attempt. The level stays.
    pub(crate) fn hook_failed(&self, failure: HookFailure) {
        tracing::error!(
            hook = %failure.hook,
            attempt = failure.attempt,
            error = %failure.failure,
            retry_in = ?failure.retry_in,
            "emergency hook failed"
        );
        let reason = format!("attempt {}: {}", failure.attempt, failure.failure);
        self.note(AuditKind::HookFailed, &Scope::Global, &failure.hook, reason);
        self.hub.push(&Signal::HookFailed(failure)).wake();
    }

    /// Tells that the halt hooks have run to their end.
    pub(crate) fn swept(&self, change: &Change, report: Arc<HaltReport>) {
        let clean = report.is_clean();
        let (sweeps, left) = (report.sweeps, report.remaining.len());
        if clean {
            tracing::warn!(scope = %change.scope, sweeps, "halt procedure finished");
        } else {
            let (failures, stragglers) = (report.failures.len(), report.drain.stragglers.len());
            tracing::error!(
                scope = %change.scope, sweeps, left, failures, stragglers,
                interrupted = report.interrupted, "halt procedure finished with leftovers"
            );
        }
        let reason = format!(
            "{sweeps} sweeps, {}",
            if clean { "clean" } else { "leftovers" }
        );
        self.note(AuditKind::Swept, &change.scope, &change.actor, reason);
        self.hub.push(&Signal::Swept(report)).wake();
    }

    fn note(&self, what: AuditKind, scope: &Scope, actor: &Arc<str>, reason: String) {
        let mut state = self.lock();
        let level = state.holds.level(&Scopes::from(scope));
        state.audit.write(AuditRecord {
            sequence: 0,
            at: SystemTime::now(),
            what,
            holds: Vec::new(),
            scope: scope.clone(),
            actor: actor.clone(),
            reason: reason.into(),
            before: level,
            after: level,
        });
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self) -> MutexGuard<'_, Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives every gate its level, and forgets the gates that nobody holds any more.
    fn set_gates(&mut self) {
        let holds = &self.holds;
        self.cells.retain(|scopes, cell| {
            let Some(cell) = cell.upgrade() else {
                return false;
            };
            cell.cell.set_level(holds.level(scopes) as u8);
            true
        });
    }
}

fn log(change: &Change) {
    let holds: Vec<String> = change.holds.iter().map(ToString::to_string).collect();
    tracing::warn!(
        old_level = change.before.as_str(),
        new_level = change.after.as_str(),
        scope = %change.scope,
        holds = holds.join(","),
        actor = %change.actor,
        reason = %change.reason,
        "emergency_level_changed"
    );
}

#[cfg(test)]
mod tests {
    use crate::{EmergencyController, Hold, Level, Scopes};

    #[test]
    fn gates_that_nobody_holds_are_forgotten() {
        let emergency = EmergencyController::new();
        let kept: Vec<_> = (0..100)
            .map(|bot| emergency.gate(Scopes::bot(format!("kept{bot}"))))
            .collect();
        for bot in 0..10_000 {
            drop(emergency.gate(Scopes::bot(format!("b{bot}"))));
        }
        assert!(emergency.shared().lock().cells.len() <= 2 * (kept.len() + 1));
        emergency.raise(Hold::new(Level::Halt));
        assert_eq!(emergency.shared().lock().cells.len(), kept.len() + 1);
        assert!(kept.iter().all(|gate| gate.level() == Level::Halt));
    }
}
