//! One attempt of one node: gate, breaker, time limit, panic boundary.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use infra_core::{Class, Classify, Outcome};
use infra_emergency::Denied;
use infra_resilience::{BreakerError, Rejected, TimedOut, timeout};
use serde_json::Value;

use super::{Guard, Inner};
use crate::error::{Error, ErrorKind};
use crate::graph::Entry;
use crate::node::NodeContext;
use crate::node_error::NodeError;

/// Why an attempt has no output.
pub(super) enum AttemptError {
    Denied(Denied),
    Rejected(Rejected),
    TimedOut(TimedOut),
    Panicked(String),
    Node(NodeError),
    /// The deadline of the retry policy passed before an attempt had ended.
    Deadline(String),
}

impl Inner {
    /// Runs the node once. A denied attempt never reaches the breaker: a halt is no failure.
    pub(super) async fn attempt(
        &self,
        entry: &Entry,
        guard: &Guard,
        context: &NodeContext,
    ) -> Result<Value, AttemptError> {
        // Held until the attempt has ended: a drain waits for it.
        let _inside = match &self.gate {
            Some(gate) => Some(
                gate.enter(entry.options.action)
                    .map_err(AttemptError::Denied)?,
            ),
            None => None,
        };
        let Some(breaker) = &guard.breaker else {
            return self.bounded(entry, guard.timeout, context).await;
        };
        let call = breaker.call(|| self.bounded(entry, guard.timeout, context));
        call.await.map_err(|e| match e {
            BreakerError::Rejected(rejected) => AttemptError::Rejected(rejected),
            BreakerError::Inner(error) => error,
        })
    }

    async fn bounded(
        &self,
        entry: &Entry,
        limit: Duration,
        context: &NodeContext,
    ) -> Result<Value, AttemptError> {
        // The call itself may panic before it returns a future.
        let work = AssertUnwindSafe(async { entry.node.execute(context).await }).catch_unwind();
        match timeout(&self.clock, limit, work).of(entry.id.clone()).await {
            Err(late) => Err(AttemptError::TimedOut(late)),
            Ok(Err(panic)) => Err(AttemptError::Panicked(panic_text(&*panic))),
            Ok(Ok(result)) => result.map_err(AttemptError::Node),
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = literal.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

impl AttemptError {
    /// This error as that of an execution.
    pub(super) fn into_error(self, execution_id: &str, node_id: &str) -> Error {
        let kind = match &self {
            AttemptError::Denied(_) => ErrorKind::Halted,
            AttemptError::Rejected(_) => ErrorKind::BreakerOpen,
            AttemptError::TimedOut(_) | AttemptError::Deadline(_) => ErrorKind::NodeTimeout,
            AttemptError::Panicked(_) => ErrorKind::NodePanicked,
            AttemptError::Node(_) => ErrorKind::NodeFailed,
        };
        let error = Error::new(kind, execution_id)
            .at_node(node_id)
            .classified(&self);
        match self {
            AttemptError::Denied(denied) => error.caused_by(denied),
            AttemptError::Rejected(rejected) => error.caused_by(rejected),
            AttemptError::TimedOut(late) => error.caused_by(late),
            AttemptError::Panicked(text) | AttemptError::Deadline(text) => error.caused_by(text),
            AttemptError::Node(node) => error.caused_by(node.into_error()),
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Denied(denied) => denied.fmt(f),
            AttemptError::Rejected(rejected) => rejected.fmt(f),
            AttemptError::TimedOut(late) => late.fmt(f),
            AttemptError::Panicked(text) => write!(f, "panicked: {text}"),
            AttemptError::Node(error) => error.fmt(f),
            AttemptError::Deadline(text) => f.write_str(text),
        }
    }
}

impl Classify for AttemptError {
    fn class(&self) -> Class {
        match self {
            AttemptError::Denied(_) | AttemptError::Panicked(_) => Class::Permanent,
            AttemptError::Rejected(rejected) => rejected.class(),
            AttemptError::TimedOut(_) | AttemptError::Deadline(_) => Class::Transient,
            AttemptError::Node(error) => error.class(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            AttemptError::Denied(_) | AttemptError::Rejected(_) => Outcome::NotApplied,
            AttemptError::TimedOut(_) | AttemptError::Panicked(_) => Outcome::Unknown,
            AttemptError::Deadline(_) => Outcome::Unknown,
            AttemptError::Node(error) => error.outcome(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            AttemptError::Rejected(rejected) => rejected.retry_after(),
            AttemptError::Node(error) => error.retry_after(),
            _ => None,
        }
    }
}
