//! Strategy graphs: run step by step, checkpointed, guarded and resumable.
//!
//! ```
//! use infra_graph::{GraphRuntime, StrategyGraph, node_fn};
//! use infra_state::StateStore;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = StrategyGraph::builder("momentum")
//!     .node("price", node_fn(|cx| async move { Ok(json!(cx.input::<f64>("close")?)) }))
//!     .node("signal", node_fn(|cx| async move { Ok(json!(cx.output::<f64>("price")? > 100.0)) }))
//!     .edge("price", "signal")
//!     .build()?;
//! let runtime = GraphRuntime::builder(graph)
//!     .state(StateStore::memory())
//!     .bot("bot_001")
//!     .strategy("momentum_btc")
//!     .build()?;
//!
//! let execution = runtime.execute(json!({"close": 101.5})).await?.completed()?;
//! assert!(execution.output::<bool>("signal")?);
//!
//! // What is stored survives the process, and is all that a resume needs.
//! let stored = runtime.checkpoint(execution.id()).await?.ok_or("expired")?;
//! assert_eq!(stored.nodes_completed, ["price", "signal"]);
//! # Ok(()) }
//! ```
//!
//! # What happens in an execution
//! One execution id is the correlation id of everything below it; the context also carries
//! `execution_id`, `graph_id`, `bot_id` and `strategy_id`, so every log line and event has them.
//! For each node, in a deterministic order and side by side where the edges allow it:
//!
//! 1. **Gate**: each attempt passes the [emergency gate](infra_emergency::Gate) with the node's
//!    [action](NodeOptions::action). Denied: the execution ends as [`Status::Halted`].
//! 2. **Mark**: for a node that is [not idempotent](NodeOptions::idempotent), that it started is
//!    stored before it runs.
//! 3. **Attempts**: circuit breaker, time limit and retry policy of the node. A panic is a failure.
//! 4. **Checkpoint**: one atomic write to `execution:<id>`, with a TTL of one hour.
//! 5. **Event** on `node_execution:<strategy_id>`: `execution_id, graph_id, node_id, status,
//!    outputs, attempts, duration_ms`. Events inform and may be lost; the checkpoint is what counts.
//!
//! Logged, by these names: `graph_execution_started`, `graph_execution_resumed`,
//! `node_execution_started`, `node_execution_completed`, `node_execution_failed`,
//! `graph_execution_completed`, `graph_execution_halted`, `graph_execution_failed`.
//!
//! # After a crash
//! [`GraphRuntime::resume`] goes on after the last completed node. A node that was cut off runs
//! again if it is idempotent. If it is not, the resume returns [`ErrorKind::OutcomeUnknown`]:
//! nobody knows whether the order was sent, so somebody has to look, and say what they found by
//! [`GraphRuntime::resolve`].
//!
//! # Layout
//! - [`StrategyGraph`]: nodes, edges, checks, order. [`Node`], [`node_fn`], [`NodeOptions`].
//! - [`GraphRuntime`]: runs and resumes. [`Execution`]: how it ended. [`Checkpoint`]: what is stored.

mod checkpoint;
mod error;
mod execution;
mod graph;
mod node;
mod node_error;
mod order;
mod runtime;
mod timestamp;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{
    self, BoxFuture, Class, Classify, Context, CorrelationId, Outcome, SharedClock,
};

pub use checkpoint::{Checkpoint, Status};
pub use error::{Error, ErrorKind, Result};
pub use execution::Execution;
pub use graph::{GraphBuilder, GraphError, GraphProblem, StrategyGraph};
pub use node::{Node, NodeContext, NodeOptions, NodeResult, node_fn};
pub use node_error::NodeError;
pub use runtime::{BuildError, GraphRuntime, Resolution, RuntimeBuilder};
