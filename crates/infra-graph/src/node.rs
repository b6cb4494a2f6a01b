//! What runs at one place of a graph, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{BoxFuture, CorrelationId};
use infra_emergency::Action;
use infra_resilience::Retry;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::NodeError;

/// What a node returns: its output, or why there is none.
pub type NodeResult = Result<Value, NodeError>;

/// One step of a strategy. Implement it, or wrap a function with [`node_fn`].
pub trait Node: Send + Sync {
    /// Does the work. May be dropped at any await when the time limit passes; may run more than
    /// once for one execution where [`NodeOptions::idempotent`] allows it.
    fn execute<'a>(&'a self, context: &'a NodeContext) -> BoxFuture<'a, NodeResult>;
}

impl<N: Node + ?Sized> Node for Arc<N> {
    fn execute<'a>(&'a self, context: &'a NodeContext) -> BoxFuture<'a, NodeResult> {
        (**self).execute(context)
    }
}

/// An asynchronous function as a node.
///
/// ```
/// use infra_graph::node_fn;
/// let double = node_fn(|cx| async move { Ok((cx.input::<i64>("n")? * 2).into()) });
/// ```
pub fn node_fn<F, Fut>(function: F) -> impl Node + 'static
where
    F: Fn(NodeContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = NodeResult> + Send + 'static,
{
    NodeFn(function)
}

struct NodeFn<F>(F);

impl<F, Fut> Node for NodeFn<F>
where
    F: Fn(NodeContext) -> Fut + Send + Sync,
    Fut: Future<Output = NodeResult> + Send + 'static,
{
    fn execute<'a>(&'a self, context: &'a NodeContext) -> BoxFuture<'a, NodeResult> {
        Box::pin((self.0)(context.clone()))
    }
}

/// What a node may look at: the execution's inputs and the outputs of its predecessors.
/// A clone costs a reference count.
#[derive(Clone)]
pub struct NodeContext {
    inner: Arc<Facts>,
    attempt: u32,
}

struct Facts {
    execution_id: CorrelationId,
    node_id: Arc<str>,
    inputs: Arc<Value>,
    outputs: Vec<(Arc<str>, Arc<Value>)>,
}

impl NodeContext {
    pub(crate) fn new(
        execution_id: CorrelationId,
        node_id: Arc<str>,
        inputs: Arc<Value>,
        outputs: Vec<(Arc<str>, Arc<Value>)>,
    ) -> Self {
        let inner = Arc::new(Facts {
            execution_id,
            node_id,
            inputs,
            outputs,
        });
        NodeContext { inner, attempt: 1 }
    }

    pub(crate) fn with_attempt(&self, attempt: u32) -> Self {
        NodeContext {
            inner: self.inner.clone(),
            attempt,
        }
    }

    /// The id of the execution, the same in every attempt and after every resume. Good as an
    /// idempotency key for one call per execution; use [`idempotency_key`](Self::idempotency_key)
    /// where several nodes call the same service.
    pub fn execution_id(&self) -> &str {
        self.inner.execution_id.as_str()
    }

    /// The id of this node.
    pub fn node_id(&self) -> &str {
        &self.inner.node_id
    }

    /// Which attempt this is within this process, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// `<execution id>/<node id>`: the same for every attempt of this node in this execution.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.execution_id(), self.node_id())
    }

    /// The inputs of the execution as they were given.
    pub fn inputs(&self) -> &Value {
        &self.inner.inputs
    }

    /// The field `name` of the inputs.
    ///
    /// # Errors
    /// A permanent [`NodeError`] when there is no such field, or it is no `T`.
    pub fn input<T: DeserializeOwned>(&self, name: &str) -> Result<T, NodeError> {
        let value = self.inner.inputs.get(name);
        read(value, "input", name)
    }

    /// The output of the predecessor `node`, if it is one.
    pub fn output_value(&self, node: &str) -> Option<&Value> {
        let mut outputs = self.inner.outputs.iter();
        outputs.find(|(id, _)| **id == *node).map(|(_, v)| &**v)
    }

    /// The output of the predecessor `node`.
    ///
    /// # Errors
    /// A permanent [`NodeError`] when `node` is no direct predecessor, or its output is no `T`.
    pub fn output<T: DeserializeOwned>(&self, node: &str) -> Result<T, NodeError> {
        read(self.output_value(node), "output of node", node)
    }
}

fn read<T: DeserializeOwned>(
    value: Option<&Value>,
    what: &str,
    name: &str,
) -> Result<T, NodeError> {
    let value =
        value.ok_or_else(|| NodeError::permanent(format!("there is no {what} '{name}'")))?;
    T::deserialize(value).map_err(|e| {
        NodeError::permanent(format!("{what} '{name}' has another shape")).caused_by(e)
    })
}

impl fmt::Debug for NodeContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeContext")
            .field("execution_id", &self.inner.execution_id)
            .field("node_id", &self.inner.node_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// How one node is run. Everything has a default, so `NodeOptions::default()` is complete.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    pub(crate) action: Action,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    pub(crate) breaker: bool,
    pub(crate) idempotent: bool,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            action: Action::New,
            timeout: None,
            retry: None,
            breaker: true,
            idempotent: true,
        }
    }
}

impl NodeOptions {
    /// The defaults: action [`Action::New`], the runtime's time limit and retry policy, guarded by
    /// a circuit breaker, idempotent.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the node does, as far as the emergency gate is concerned. The default is the action
    /// that is refused first, so a node that nobody described is stopped by a halt; say
    /// [`Action::Query`] for a node that only reads.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// The time limit of one attempt, instead of the runtime's.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The retry policy, instead of the runtime's. Errors are repeated by [`infra_core::Classify`]:
    /// transient ones that were not applied, and for idempotent nodes also those of unknown outcome.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Whether a circuit breaker guards the node; on by default.
    #[must_use]
    pub fn breaker(mut self, on: bool) -> Self {
        self.breaker = on;
        self
    }

    /// Whether repeating the node is harmless; true by default, because most steps compute, and
    /// those that act should carry [`NodeContext::idempotency_key`].
    ///
    /// For a node that is not, the runtime writes down that it started before it runs. When the
    /// execution is resumed and nobody knows whether the node had its effect, that is reported as
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), never repeated.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }
}
