//! How an execution ended.

use std::sync::Arc;
use std::time::Duration;

use infra_core::CorrelationId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Status};
use crate::error::{Error, ErrorKind, Result};

/// An execution that has completed or was halted.
#[derive(Debug)]
#[must_use = "an execution may have been halted: look at its status, or call `completed`"]
pub struct Execution {
    id: CorrelationId,
    status: Status,
    outputs: Vec<(Arc<str>, Arc<Value>)>,
    duration: Duration,
    events_lost: u32,
    stopped: Option<Error>,
}

impl Execution {
    pub(crate) fn new(
        id: CorrelationId,
        status: Status,
        outputs: Vec<(Arc<str>, Arc<Value>)>,
        duration: Duration,
        events_lost: u32,
        stopped: Option<Error>,
    ) -> Self {
        Execution {
            id,
            status,
            outputs,
            duration,
            events_lost,
            stopped,
        }
    }

    pub(crate) fn from_checkpoint(id: CorrelationId, stored: Checkpoint) -> Self {
        let outputs = stored.outputs.into_iter();
        let outputs = outputs.map(|(node, output)| (node.into(), Arc::new(output)));
        Execution::new(
            id,
            stored.status,
            outputs.collect(),
            Duration::ZERO,
            0,
            None,
        )
    }

    /// The execution's id.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// [`Status::Completed`] or [`Status::Halted`].
    pub fn status(&self) -> Status {
        self.status
    }

    /// The execution, unless it was halted.
    ///
    /// # Errors
    /// [`ErrorKind::Halted`] with the node and the hold that stopped it.
    pub fn completed(self) -> Result<Execution> {
        match self.stopped {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// At which node and why it was halted.
    pub fn halted_by(&self) -> Option<&Error> {
        self.stopped.as_ref()
    }

    /// The output of a completed node as it is.
    pub fn output_value(&self, node: &str) -> Option<&Value> {
        let mut outputs = self.outputs.iter();
        outputs.find(|(id, _)| **id == *node).map(|(_, v)| &**v)
    }

    /// The output of a completed node.
    ///
    /// # Errors
    /// [`ErrorKind::NodeFailed`] when the node has not completed, or its output is no `T`.
    pub fn output<T: DeserializeOwned>(&self, node: &str) -> Result<T> {
        let error = || Error::new(ErrorKind::NodeFailed, self.id()).at_node(node);
        let value = self.output_value(node).ok_or_else(error)?;
        T::deserialize(value).map_err(|e| error().caused_by(e))
    }

    /// The nodes that have completed.
    pub fn nodes_completed(&self) -> impl ExactSizeIterator<Item = &str> {
        self.outputs.iter().map(|(id, _)| &**id)
    }

    /// How long this call worked on it; zero when it had completed before.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// How many of its events could not be published by this call.
    pub fn events_lost(&self) -> u32 {
        self.events_lost
    }
}
