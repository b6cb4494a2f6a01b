//! One node of one execution: what is logged, stored and published around it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use infra_core::{Classify, Outcome};

use super::attempt::AttemptError;
use super::run::{Run, Stop};
use super::{Guard, Inner};
use crate::checkpoint::Status;
use crate::error::{Error, ErrorKind};
use crate::graph::Entry;
use crate::node::NodeContext;

/// What is published on `node_execution:<strategy_id>`.
#[derive(Serialize)]
struct NodeEvent<'a> {
    execution_id: &'a str,
    graph_id: &'a str,
    node_id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    attempts: u32,
    duration_ms: f64,
}

/// What a series of attempts took.
struct Effort {
    attempts: u32,
    took: Duration,
}

impl Run<'_> {
    /// Runs node `number` and records how it effort.
    pub(super) async fn step(&self, number: usize) -> Result<usize, Stop> {
        let (entry, guard) = self.node(number)?;
        if let Some(gate) = &self.runtime.gate
            && !gate.admits(entry.options.action)
            && let Err(denied) = gate.enter(entry.options.action)
        {
            return Err(self.stop(entry, AttemptError::Denied(denied)));
        }
        if !entry.options.idempotent {
            self.draft.lock().await.start(&entry.id);
            self.save(Status::Running).await?;
        }
        tracing::info!(node_id = &*entry.id, "node_execution_started");
        let context = self.node_context(entry);
        let (result, effort) = self.runtime.attempts(entry, guard, &context).await;
        match result {
            Ok(output) => {
                let raw = to_raw_value(&output).map_err(|e| self.unencodable(entry, e))?;
                self.completed(entry, &raw, effort).await?;
                self.keep_output(number, output);
                Ok(number)
            }
            Err(error) => Err(self.failed(entry, error, effort).await),
        }
    }

    async fn completed(
        &self,
        entry: &Entry,
        output: &RawValue,
        effort: Effort,
    ) -> Result<(), Stop> {
        let total = self.runtime.graph.node_count();
        let text = {
            let mut draft = self.draft.lock().await;
            draft.complete(&entry.id, output);
            let last = draft.completed_count() == total;
            let status = if last {
                Status::Completed
            } else {
                Status::Running
            };
            // Stored under the lock: a checkpoint never overtakes a later one.
            self.store(draft.render(status, None)).await
        };
        text?;
        let event = self.event(entry, Status::Completed.as_str(), &effort);
        self.publish(NodeEvent {
            outputs: Some(output),
            ..event
        })
        .await;
        tracing::info!(
            node_id = &*entry.id,
            status = Status::Completed.as_str(),
            attempts = effort.attempts,
            duration_ms = millis(effort.took),
            "node_execution_completed"
        );
        Ok(())
    }

    async fn failed(&self, entry: &Entry, error: AttemptError, effort: Effort) -> Stop {
        let halted = matches!(error, AttemptError::Denied(_));
        let status = if halted {
            Status::Halted
        } else {
            Status::Failed
        };
        let text = error.to_string();
        if error.outcome() == Outcome::NotApplied {
            self.draft.lock().await.withdraw(&entry.id);
        }
        let event = self.event(entry, status.as_str(), &effort);
        self.publish(NodeEvent {
            error: Some(&text),
            ..event
        })
        .await;
        tracing::warn!(
            node_id = &*entry.id,
            status = status.as_str(),
            attempts = effort.attempts,
            duration_ms = millis(effort.took),
            error = %text,
            "node_execution_failed"
        );
        self.stop(entry, error)
    }

    fn stop(&self, entry: &Entry, error: AttemptError) -> Stop {
        let halted = matches!(error, AttemptError::Denied(_));
        Stop {
            node: Some(entry.id.clone()),
            halted,
            error: error.into_error(self.id().as_str(), &entry.id),
        }
    }

    fn unencodable(&self, entry: &Entry, error: serde_json::Error) -> Stop {
        let kind = ErrorKind::NodeFailed;
        let error = Error::new(kind, self.id().as_str()).caused_by(error);
        Stop {
            node: Some(entry.id.clone()),
            halted: false,
            error: error.at_node(&entry.id).outcome_unknown(),
        }
    }

    fn event<'a>(
        &'a self,
        entry: &'a Entry,
        status: &'static str,
        effort: &Effort,
    ) -> NodeEvent<'a> {
        NodeEvent {
            execution_id: self.id().as_str(),
            graph_id: self.runtime.graph.id(),
            node_id: &entry.id,
            status,
            outputs: None,
            error: None,
            attempts: effort.attempts,
            duration_ms: millis(effort.took),
        }
    }

    /// Events inform; the checkpoint is what counts. One that cannot be published is counted in
    /// the result and fails nothing.
    async fn publish(&self, event: NodeEvent<'_>) {
        let Some(bus) = &self.runtime.events else {
            return;
        };
        if let Err(error) = bus.publish(&self.runtime.channel, &event).await {
            self.events_lost.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(node_id = event.node_id, error = %error, "node_event_lost");
        }
    }
}

impl Inner {
    /// Attempts until one succeeds or the policy ends the series.
    async fn attempts(
        &self,
        entry: &Entry,
        guard: &Guard,
        context: &NodeContext,
    ) -> (Result<Value, AttemptError>, Effort) {
        let began = self.clock.now();
        let count = AtomicU32::new(0);
        let once = || {
            let attempt = count.fetch_add(1, Ordering::Relaxed) + 1;
            let context = context.with_attempt(attempt);
            async move { self.attempt(entry, guard, &context).await }
        };
        let result = match &guard.retry {
            None => once().await,
            Some(retry) => retry.run(once).await.map_err(|ended| {
                let text = ended.to_string();
                ended.into_inner().unwrap_or(AttemptError::Deadline(text))
            }),
        };
        let effort = Effort {
            attempts: count.into_inner(),
            took: self.clock.now().since(began),
        };
        (result, effort)
    }
}

fn millis(took: Duration) -> f64 {
    took.as_nanos() as f64 / 1e6
}
