//! From parts to a runtime.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Context, SharedClock, SystemClock};
use infra_emergency::{EmergencyController, Scopes};
use infra_events::EventBus;
use infra_resilience::{BreakerConfig, CircuitBreaker, ConfigError, Retry};
use infra_state::StateStore;

use super::{GraphRuntime, Guard, Inner};
use crate::graph::{Entry, StrategyGraph};

/// Collects what a [`GraphRuntime`] works with. Only the graph is required.
#[must_use = "a runtime is made by `build`"]
pub struct RuntimeBuilder {
    graph: StrategyGraph,
    state: Option<StateStore>,
    events: Option<EventBus>,
    emergency: Option<EmergencyController>,
    clock: Option<SharedClock>,
    bot_id: Option<Arc<str>>,
    group: Option<Arc<str>>,
    strategy_id: Option<Arc<str>>,
    retry: Option<Retry>,
    timeout: Duration,
    breaker: BreakerConfig,
    checkpoint_ttl: Duration,
    concurrency: usize,
}

/// Why a runtime cannot be built: a setting of a circuit breaker or a retry.
pub type BuildError = ConfigError;

impl RuntimeBuilder {
    pub(super) fn new(graph: StrategyGraph) -> Self {
        RuntimeBuilder {
            graph,
            state: None,
            events: None,
            emergency: None,
            clock: None,
            bot_id: None,
            group: None,
            strategy_id: None,
            retry: None,
            timeout: Duration::from_secs(30),
            breaker: BreakerConfig::default(),
            checkpoint_ttl: Duration::from_secs(3600),
            concurrency: 16,
        }
    }

    /// Where checkpoints are kept, under `execution:<id>`. Without it: in the memory of this
    /// process, gone with it.
    pub fn state(mut self, state: StateStore) -> Self {
        self.state = Some(state);
        self
    }

    /// Where an event per node is published. Without it: nowhere.
    pub fn events(mut self, events: EventBus) -> Self {
        self.events = Some(events);
        self
    }

    /// Whose level every attempt of every node must pass. Without it nothing is gated.
    pub fn emergency(mut self, emergency: EmergencyController) -> Self {
        self.emergency = Some(emergency);
        self
    }

    /// The bot that runs the graph: a field of every log line, and an emergency scope.
    pub fn bot(mut self, id: impl AsRef<str>) -> Self {
        self.bot_id = Some(id.as_ref().into());
        self
    }

    /// The group of bots that an emergency level may concern.
    pub fn group(mut self, name: impl AsRef<str>) -> Self {
        self.group = Some(name.as_ref().into());
        self
    }

    /// The strategy: a field of every log line, and the last part of the channel
    /// `node_execution:<strategy_id>`. Without it the graph's id is used.
    pub fn strategy(mut self, id: impl AsRef<str>) -> Self {
        self.strategy_id = Some(id.as_ref().into());
        self
    }

    /// The retry policy of nodes without one of their own. Without it a node is tried once.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// The time limit of one attempt of nodes without one of their own; 30 s unless set.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The settings of the nodes' circuit breakers; five consecutive failures unless set. There
    /// is one breaker per node of this runtime, named `node:<graph>/<node>`.
    pub fn breaker(mut self, config: BreakerConfig) -> Self {
        self.breaker = config;
        self
    }

    /// How long a checkpoint lives after its last write; 1 h unless set, above zero.
    pub fn checkpoint_ttl(mut self, ttl: Duration) -> Self {
        self.checkpoint_ttl = ttl;
        self
    }

    /// How many nodes that do not depend on each other may be in progress at once; 16 unless set,
    /// 1 runs the graph strictly in its order. They share the caller's task: a node that computes
    /// for long should use [`infra_core::context::spawn_blocking`].
    pub fn concurrency(mut self, nodes: usize) -> Self {
        self.concurrency = nodes.max(1);
        self
    }

    /// The clock of time limits and durations; the system's unless set.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    /// A setting of the circuit breakers that cannot work.
    pub fn build(self) -> Result<GraphRuntime, BuildError> {
        let clock = self.clock.clone().unwrap_or_else(SystemClock::shared);
        let guards = self.guards(&clock)?;
        let gate = self.emergency.as_ref().map(|e| e.gate(self.scopes()));
        let strategy = self.strategy_id.as_deref().unwrap_or(self.graph.id());
        let channel = format!("node_execution:{strategy}");
        Ok(GraphRuntime {
            inner: Arc::new(Inner {
                context: self.context(),
                state: self.state.unwrap_or_else(StateStore::memory),
                events: self.events,
                gate,
                checkpoint_ttl: self.checkpoint_ttl,
                checkpoint_retry: checkpoint_retry(&clock)?,
                clock,
                concurrency: self.concurrency,
                bot_id: self.bot_id,
                strategy_id: self.strategy_id,
                channel,
                guards,
                claims: Arc::default(),
                graph: self.graph,
            }),
        })
    }

    fn guards(&self, clock: &SharedClock) -> Result<Vec<Guard>, BuildError> {
        let entries = self.graph.entries().iter();
        entries.map(|entry| self.guard(entry, clock)).collect()
    }

    fn guard(&self, entry: &Entry, clock: &SharedClock) -> Result<Guard, BuildError> {
        let options = &entry.options;
        let name = format!("node:{}/{}", self.graph.id(), entry.id);
        let breaker = options.breaker.then(|| {
            let builder = CircuitBreaker::builder(&*name).config(self.breaker.clone());
            builder.clock(clock.clone()).build()
        });
        let policy = options.retry.as_ref().or(self.retry.as_ref());
        let retry = policy.map(|policy| {
            let policy = policy.to_builder().name(&*name);
            let policy = policy.idempotent(options.idempotent);
            policy.clock(clock.clone()).build()
        });
        Ok(Guard {
            timeout: options.timeout.unwrap_or(self.timeout),
            retry: retry.transpose()?,
            breaker: breaker.transpose()?,
        })
    }

    fn scopes(&self) -> Scopes {
        let scopes = match &self.bot_id {
            Some(bot) => Scopes::bot(bot),
            None => Scopes::global(),
        };
        match &self.group {
            Some(group) => scopes.in_group(group),
            None => scopes,
        }
    }

    fn context(&self) -> Context {
        let mut context = Context::empty().bind("graph_id", self.graph.shared_id());
        if let Some(bot) = &self.bot_id {
            context = context.bind("bot_id", bot.clone());
        }
        if let Some(strategy) = &self.strategy_id {
            context = context.bind("strategy_id", strategy.clone());
        }
        context
    }
}

/// Bridges a short disturbance of the store; a longer one fails the execution, which can resume.
fn checkpoint_retry(clock: &SharedClock) -> Result<Retry, BuildError> {
    Retry::exponential()
        .max_attempts(3)
        .base(Duration::from_millis(20))
        .cap(Duration::from_millis(500))
        .idempotent(true)
        .clock(clock.clone())
        .build()
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder")
            .field("graph", &self.graph)
            .finish_non_exhaustive()
    }
}
