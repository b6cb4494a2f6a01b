//! Runs graphs: checkpointed, guarded, resumable.

mod attempt;
mod builder;
mod claim;
mod run;
mod saved;
mod step;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Context, CorrelationId, SharedClock, context};
use infra_emergency::Gate;
use infra_events::EventBus;
use infra_resilience::{CircuitBreaker, Retry};
use infra_state::{StateStore, Ttl};
use serde_json::Value;
use serde_json::value::RawValue;

pub use builder::{BuildError, RuntimeBuilder};

use crate::checkpoint::{Beginning, Checkpoint, Draft, Status, version_text};
use crate::error::{Error, ErrorKind, Result};
use crate::execution::Execution;
use crate::graph::StrategyGraph;
use claim::{Claim, Claims};
use run::Run;
use saved::Saved;

/// Runs one [`StrategyGraph`] for one bot. Cheap to clone; clones share breakers and claims.
///
/// See the [crate's documentation](crate) for an example and for what is stored and published.
#[derive(Clone)]
pub struct GraphRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    graph: StrategyGraph,
    state: StateStore,
    events: Option<EventBus>,
    gate: Option<Gate>,
    clock: SharedClock,
    checkpoint_ttl: Duration,
    checkpoint_retry: Retry,
    concurrency: usize,
    bot_id: Option<Arc<str>>,
    strategy_id: Option<Arc<str>>,
    channel: String,
    /// Carries graph, bot and strategy; each execution adds its id.
    context: Context,
    /// One per node of the graph, in its order.
    guards: Vec<Guard>,
    claims: Arc<Claims>,
}

/// What protects one node, settled when the runtime is built.
struct Guard {
    timeout: Duration,
    retry: Option<Retry>,
    breaker: Option<CircuitBreaker>,
}

/// What was found out about a node whose outcome was not known.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Resolution {
    /// It had its effect, and this is its output. It will not run again.
    Applied(Value),
    /// It had no effect. It runs when the execution is resumed.
    NotApplied,
}

impl GraphRuntime {
    /// Starts a runtime for `graph`.
    pub fn builder(graph: StrategyGraph) -> RuntimeBuilder {
        RuntimeBuilder::new(graph)
    }

    /// The graph that is run.
    pub fn graph(&self) -> &StrategyGraph {
        &self.inner.graph
    }

    /// The breaker that guards `node`, to watch it or to isolate it. `None` for an unknown node
    /// and for one without a breaker.
    pub fn breaker(&self, node: &str) -> Option<&CircuitBreaker> {
        let entries = self.inner.graph.entries().iter();
        let mut guarded = entries.zip(&self.inner.guards);
        let found = guarded.find(|(entry, _)| *entry.id == *node);
        found.and_then(|(_, guard)| guard.breaker.as_ref())
    }

    /// Runs the graph under a fresh execution id (a UUID version 7).
    ///
    /// # Errors
    /// As for [`execute_with_id`](Self::execute_with_id).
    pub async fn execute(&self, inputs: Value) -> Result<Execution> {
        let id = CorrelationId::generate();
        let _claim = self.claim(&id)?;
        let saved = self.inner.unsaved(&id)?;
        let run = Run::new(&self.inner, id, Arc::new(inputs), saved)?;
        run.save_as(Status::Running).await?;
        run.finish().await
    }

    /// Runs the graph under an id of the caller's choice: 1 to 128 characters of
    /// `A-Z a-z 0-9 - _ . : / @ + =`. The id is the correlation id of everything below it.
    ///
    /// A halt is no error: see [`Execution::status`].
    ///
    /// Cancel safe in the sense that the execution can be [resumed](Self::resume): the checkpoint
    /// then says `running`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when there is a checkpoint with this id; else the error of the
    /// first node that failed, or of the state store. The execution can be resumed after both.
    pub async fn execute_with_id(&self, id: &str, inputs: Value) -> Result<Execution> {
        let id = parse(id)?;
        let _claim = self.claim(&id)?;
        match self.begin(&id, inputs).await? {
            Some(run) => run.finish().await,
            None => Err(Error::new(ErrorKind::AlreadyExists, id.as_str())),
        }
    }

    /// Goes on with an execution after its last completed node. One that has completed is
    /// returned as it is stored, and nothing runs.
    ///
    /// Within a process an id runs once at a time. When another process resumes it too, whichever
    /// writes its next checkpoint later fails as [`ErrorKind::Superseded`], on state stores that
    /// have versions; a node in progress at that moment may then have run in both.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::GraphMismatch`], [`ErrorKind::CorruptCheckpoint`];
    /// [`ErrorKind::OutcomeUnknown`] where a node that is not idempotent was started and nobody
    /// knows whether it had its effect; else as for [`execute_with_id`](Self::execute_with_id).
    pub async fn resume(&self, id: &str) -> Result<Execution> {
        let id = parse(id)?;
        let _claim = self.claim(&id)?;
        self.go_on(&id).await
    }

    /// [`execute_with_id`](Self::execute_with_id) when there is no checkpoint, else
    /// [`resume`](Self::resume): what a loop calls that may have been killed at any point.
    ///
    /// # Errors
    /// Those of the two.
    pub async fn execute_or_resume(&self, id: &str, inputs: Value) -> Result<Execution> {
        let id = parse(id)?;
        let _claim = self.claim(&id)?;
        match self.begin(&id, inputs).await? {
            Some(run) => run.finish().await,
            None => self.go_on(&id).await,
        }
    }

    /// What is stored about an execution; `None` when there is nothing (any more).
    ///
    /// # Errors
    /// [`ErrorKind::CorruptCheckpoint`], or that of the state store.
    pub async fn checkpoint(&self, id: &str) -> Result<Option<Checkpoint>> {
        let id = parse(id)?;
        self.load(&id).await
    }

    /// Writes down what was found out about a node after [`ErrorKind::OutcomeUnknown`]. Nothing
    /// runs before the next [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`ErrorKind::NothingToResolve`] when the node's outcome is known; those of the store.
    pub async fn resolve(&self, id: &str, node: &str, found: Resolution) -> Result<()> {
        let id = parse(id)?;
        let _claim = self.claim(&id)?;
        let (stored, saved) = self.existing(&id).await?;
        let run = Run::restore(&self.inner, id, stored, saved)?;
        run.resolve(node, found).await?;
        run.save_as(Status::Failed).await
    }

    /// Writes the first checkpoint. `None` when there is one already.
    async fn begin(&self, id: &CorrelationId, inputs: Value) -> Result<Option<Run<'_>>> {
        let saved = self.inner.unsaved(id)?;
        let run = Run::new(&self.inner, id.clone(), Arc::new(inputs), saved)?;
        if self.inner.has_versions() {
            return match run.save_as(Status::Running).await {
                Ok(()) => Ok(Some(run)),
                Err(error) if error.kind() == ErrorKind::Superseded => Ok(None),
                Err(error) => Err(error),
            };
        }
        let text = run.checkpoint_text(Status::Running).await;
        let unusable = |e| Error::new(ErrorKind::Checkpoint, id.as_str()).caused_by(e);
        let raw = RawValue::from_string(text).map_err(unusable)?;
        let ttl = Ttl::After(self.inner.checkpoint_ttl);
        let created = self.inner.state.set_if_absent(&key(id), &*raw, ttl).await;
        let created = created.map_err(|e| store_error(id, e))?;
        Ok(created.then_some(run))
    }

    async fn go_on(&self, id: &CorrelationId) -> Result<Execution> {
        let (stored, saved) = self.existing(id).await?;
        if stored.status == Status::Completed {
            return Ok(Execution::from_checkpoint(id.clone(), stored));
        }
        let run = Run::restore(&self.inner, id.clone(), stored, saved)?;
        run.resume().await
    }

    async fn existing(&self, id: &CorrelationId) -> Result<(Checkpoint, Saved)> {
        let missing = || Error::new(ErrorKind::NotFound, id.as_str());
        let (stored, saved) = if self.inner.has_versions() {
            let read = self.inner.state.get_versioned::<Checkpoint>(&key(id)).await;
            let read = read.map_err(|e| unreadable(id, e))?;
            (read.value, Saved::new(Some(read.version)))
        } else {
            (self.load(id).await?, Saved::default())
        };
        let stored = stored.ok_or_else(missing)?;
        let version = version_text(self.inner.graph.fingerprint());
        if stored.graph_id != self.inner.graph.id() || stored.graph_version != version {
            return Err(Error::new(ErrorKind::GraphMismatch, id.as_str()));
        }
        Ok((stored, saved))
    }

    async fn load(&self, id: &CorrelationId) -> Result<Option<Checkpoint>> {
        let stored = self.inner.state.get::<Checkpoint>(&key(id)).await;
        stored.map_err(|e| unreadable(id, e))
    }

    fn claim(&self, id: &CorrelationId) -> Result<Claim> {
        let busy = || Error::new(ErrorKind::AlreadyRunning, id.as_str());
        Claims::take(&self.inner.claims, id).ok_or_else(busy)
    }
}

impl Inner {
    fn beginning<'a>(&'a self, id: &'a CorrelationId, inputs: &'a Value) -> Beginning<'a> {
        let graph = &self.graph;
        let mut beginning = Beginning::now(graph.id(), graph.fingerprint(), id.as_str());
        beginning.bot_id = self.bot_id.as_deref();
        beginning.strategy_id = self.strategy_id.as_deref();
        beginning.inputs = inputs;
        beginning
    }

    fn draft(&self, beginning: &Beginning<'_>) -> Result<Draft> {
        Draft::new(beginning)
            .map_err(|e| Error::new(ErrorKind::Checkpoint, beginning.execution_id).caused_by(e))
    }

    /// The context of one execution: the caller's fields, the graph's, and the id. What caused the
    /// execution stays visible as the causation id.
    fn context_of(&self, id: &CorrelationId) -> Context {
        let outer = context::current();
        let mut scope = if outer.is_empty() {
            self.context.clone()
        } else {
            let fields = self.context.fields();
            fields.fold(outer.clone(), |scope, (k, v)| {
                scope.bind(k.to_owned(), v.clone())
            })
        };
        if let Some(cause) = outer.correlation_id().filter(|cause| *cause != id) {
            scope = scope.with_causation_id(cause.clone());
        }
        scope
            .with_correlation_id(id.clone())
            .bind("execution_id", id.as_str())
    }
}

fn parse(id: &str) -> Result<CorrelationId> {
    CorrelationId::parse(id).map_err(|e| {
        let shown: String = id.chars().take(CorrelationId::MAX_LEN).collect();
        Error::new(ErrorKind::InvalidExecutionId, &shown).caused_by(e)
    })
}

fn key(id: &CorrelationId) -> String {
    format!("execution:{id}")
}

fn unreadable(id: &CorrelationId, error: infra_state::Error) -> Error {
    match error.kind() {
        infra_state::ErrorKind::Decode | infra_state::ErrorKind::WrongType => {
            Error::new(ErrorKind::CorruptCheckpoint, id.as_str()).caused_by(error)
        }
        _ => store_error(id, error),
    }
}

fn store_error(id: &CorrelationId, error: infra_state::Error) -> Error {
    Error::new(ErrorKind::Checkpoint, id.as_str())
        .classified(&error)
        .caused_by(error)
}

impl fmt::Debug for GraphRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphRuntime")
            .field("graph", &self.inner.graph)
            .field("bot_id", &self.inner.bot_id)
            .field("strategy_id", &self.inner.strategy_id)
            .finish_non_exhaustive()
    }
}
