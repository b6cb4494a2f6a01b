//! One execution from its first node to its last.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use infra_core::{CorrelationId, MonoTime};
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::saved::Saved;
use super::{Guard, Inner, Resolution};
use crate::checkpoint::{Checkpoint, Draft, Status};
use crate::error::{Error, ErrorKind, Result};
use crate::execution::Execution;
use crate::graph::Entry;
use crate::node::NodeContext;

/// An execution in progress.
pub(super) struct Run<'a> {
    pub(super) runtime: &'a Inner,
    id: CorrelationId,
    inputs: Arc<Value>,
    /// The outputs by node number; set once each.
    outputs: Mutex<Vec<Option<Arc<Value>>>>,
    /// Locked while a checkpoint is written, so that writes keep their order.
    pub(super) draft: tokio::sync::Mutex<Draft>,
    saved: Saved,
    /// Nodes that may have had an effect that nobody knows about.
    uncertain: Vec<String>,
    pub(super) events_lost: AtomicU32,
    began: MonoTime,
}

/// Why an execution stopped before its end.
pub(super) struct Stop {
    pub(super) node: Option<Arc<str>>,
    pub(super) halted: bool,
    pub(super) error: Error,
}

impl Stop {
    fn of_store(error: Error) -> Self {
        Stop {
            node: None,
            halted: false,
            error,
        }
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(
        runtime: &'a Inner,
        id: CorrelationId,
        inputs: Arc<Value>,
        saved: Saved,
    ) -> Result<Self> {
        let draft = runtime.draft(&runtime.beginning(&id, &inputs))?;
        Ok(Run {
            runtime,
            inputs,
            outputs: Mutex::new(vec![None; runtime.graph.node_count()]),
            draft: tokio::sync::Mutex::new(draft),
            saved,
            uncertain: Vec::new(),
            events_lost: AtomicU32::new(0),
            began: runtime.clock.now(),
            id,
        })
    }

    /// The execution as a checkpoint describes it.
    pub(super) fn restore(
        runtime: &'a Inner,
        id: CorrelationId,
        mut stored: Checkpoint,
        saved: Saved,
    ) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::CorruptCheckpoint, id.as_str());
        let mut beginning = runtime.beginning(&id, &stored.inputs);
        beginning.started_at = std::mem::take(&mut stored.started_at);
        let mut draft = runtime.draft(&beginning)?;
        let mut outputs = vec![None; runtime.graph.node_count()];
        for node in &stored.nodes_completed {
            let number = runtime.number_of(node).ok_or_else(corrupt)?;
            let value = stored.outputs.remove(node).ok_or_else(corrupt)?;
            let (entry, _) = runtime.node(number).ok_or_else(corrupt)?;
            let raw = to_raw_value(&value).map_err(|e| corrupt().caused_by(e))?;
            draft.complete(&entry.id, &raw);
            if let Some(slot) = outputs.get_mut(number) {
                *slot = Some(Arc::new(value));
            }
        }
        for node in &stored.started {
            let number = runtime.number_of(node).ok_or_else(corrupt)?;
            let (entry, _) = runtime.node(number).ok_or_else(corrupt)?;
            draft.start(&entry.id);
        }
        Ok(Run {
            runtime,
            inputs: Arc::new(stored.inputs),
            outputs: Mutex::new(outputs),
            draft: tokio::sync::Mutex::new(draft),
            saved,
            uncertain: stored.started,
            events_lost: AtomicU32::new(0),
            began: runtime.clock.now(),
            id,
        })
    }

    pub(super) fn id(&self) -> &CorrelationId {
        &self.id
    }

    /// Runs what is left, under the execution's context.
    pub(super) async fn finish(self) -> Result<Execution> {
        let context = self.runtime.context_of(&self.id);
        context.scope(self.logged("graph_execution_started")).await
    }

    /// Like [`finish`](Self::finish), for an execution that was begun before.
    pub(super) async fn resume(self) -> Result<Execution> {
        let context = self.runtime.context_of(&self.id);
        context.scope(self.logged("graph_execution_resumed")).await
    }

    async fn logged(self, beginning: &'static str) -> Result<Execution> {
        let nodes = self.runtime.graph.node_count();
        let done = self.draft.lock().await.completed_count();
        tracing::info!(node_count = nodes, nodes_completed = done, "{beginning}");
        match self.nodes().await {
            Ok(()) => Ok(self.ended()),
            Err(stop) => self.stopped(stop).await,
        }
    }

    /// Starts every node whose predecessors are done, up to the limit, lowest number first. After
    /// a stop nothing new starts; what runs is awaited, because it may have effects.
    async fn nodes(&self) -> Result<(), Stop> {
        if let Some(node) = self.uncertain.first() {
            return Err(self.unknown_outcome(node));
        }
        let mut waiting = self.waiting();
        let mut ready: BTreeSet<usize> = (0..waiting.len())
            .filter(|n| waiting.get(*n) == Some(&Some(0)))
            .collect();
        let mut running = FuturesUnordered::new();
        let mut stop = None;
        loop {
            while stop.is_none()
                && running.len() < self.runtime.concurrency
                && let Some(number) = ready.pop_first()
            {
                running.push(self.step(number));
            }
            match running.next().await {
                None => return stop.map_or(Ok(()), Err),
                Some(Ok(done)) => self.release(done, &mut waiting, &mut ready),
                Some(Err(error)) => stop = stop.or(Some(error)),
            }
        }
    }

    /// How many predecessors each node waits for; `None` for completed nodes.
    fn waiting(&self) -> Vec<Option<usize>> {
        let outputs = self.lock_outputs();
        let is_open = |n: &usize| outputs.get(*n).is_some_and(Option::is_none);
        let entries = self.runtime.graph.entries().iter().enumerate();
        entries
            .map(|(number, entry)| {
                let open = entry.predecessors.iter().filter(|n| is_open(n)).count();
                is_open(&number).then_some(open)
            })
            .collect()
    }

    fn release(&self, done: usize, waiting: &mut [Option<usize>], ready: &mut BTreeSet<usize>) {
        let entries = self.runtime.graph.entries().iter().enumerate();
        for (number, _) in entries.filter(|(_, e)| e.predecessors.contains(&done)) {
            if let Some(Some(open)) = waiting.get_mut(number) {
                *open -= 1;
                if *open == 0 {
                    ready.insert(number);
                }
            }
        }
    }

    fn ended(self) -> Execution {
        let execution = self.into_execution(Status::Completed, None);
        tracing::info!(
            status = Status::Completed.as_str(),
            duration_ms = execution.duration().as_nanos() as f64 / 1e6,
            "graph_execution_completed"
        );
        execution
    }

    /// Writes the last checkpoint of a failed or halted execution.
    ///
    /// When that write fails too, the earlier checkpoint still says `running`, from which a resume
    /// goes on just the same; the first error is the one to report.
    async fn stopped(self, stop: Stop) -> Result<Execution> {
        let status = if stop.halted {
            Status::Halted
        } else {
            Status::Failed
        };
        let text = stop.error.to_string();
        {
            let mut draft = self.draft.lock().await;
            if let Some(node) = &stop.node {
                draft.stopped_at(node);
            }
            let checkpoint = draft.render(status, Some(&text));
            let stored = (self.runtime).store_checkpoint(&self.id, checkpoint, &self.saved);
            if let Err(error) = stored.await {
                tracing::debug!(error = %error, "graph_checkpoint_failed");
            }
        }
        if stop.halted {
            // The emergency controls have warned already, once for all.
            tracing::info!(status = status.as_str(), error = %text, "graph_execution_halted");
            return Ok(self.into_execution(status, Some(stop.error)));
        }
        tracing::error!(status = status.as_str(), error = %text, "graph_execution_failed");
        Err(stop.error)
    }

    fn into_execution(self, status: Status, stopped: Option<Error>) -> Execution {
        let took = self.runtime.clock.now().since(self.began);
        let outputs = self.outputs.into_inner();
        let outputs = outputs.unwrap_or_else(PoisonError::into_inner);
        let named = self.runtime.graph.entries().iter().zip(outputs);
        Execution::new(
            self.id,
            status,
            named
                .filter_map(|(entry, output)| Some((entry.id.clone(), output?)))
                .collect(),
            took,
            self.events_lost.into_inner(),
            stopped,
        )
    }

    /// Applies what was found out about a node of unknown outcome.
    pub(super) async fn resolve(&self, node: &str, found: Resolution) -> Result<()> {
        let settled = || Error::new(ErrorKind::NothingToResolve, self.id.as_str()).at_node(node);
        if !self.uncertain.iter().any(|n| n == node) {
            return Err(settled());
        }
        let number = self.runtime.number_of(node).ok_or_else(settled)?;
        let (entry, _) = self.runtime.node(number).ok_or_else(settled)?;
        let mut draft = self.draft.lock().await;
        match found {
            Resolution::NotApplied => draft.withdraw(node),
            Resolution::Applied(output) => {
                let raw = to_raw_value(&output).map_err(|e| settled().caused_by(e))?;
                draft.complete(&entry.id, &raw);
            }
        }
        Ok(())
    }

    fn unknown_outcome(&self, node: &str) -> Stop {
        let error = Error::new(ErrorKind::OutcomeUnknown, self.id.as_str());
        Stop {
            node: Some(node.into()),
            halted: false,
            error: error.at_node(node).outcome_unknown(),
        }
    }

    pub(super) fn node(&self, number: usize) -> Result<(&'a Entry, &'a Guard), Stop> {
        let missing = || Stop {
            node: None,
            halted: false,
            error: Error::new(ErrorKind::GraphMismatch, self.id.as_str()),
        };
        self.runtime.node(number).ok_or_else(missing)
    }

    pub(super) fn node_context(&self, entry: &Entry) -> NodeContext {
        let outputs = self.lock_outputs();
        let entries = self.runtime.graph.entries();
        let predecessors = entry.predecessors.iter().filter_map(|&number| {
            let output = outputs.get(number)?.clone()?;
            Some((entries.get(number)?.id.clone(), output))
        });
        NodeContext::new(
            self.id.clone(),
            entry.id.clone(),
            self.inputs.clone(),
            predecessors.collect(),
        )
    }

    pub(super) fn keep_output(&self, number: usize, output: Value) {
        if let Some(slot) = self.lock_outputs().get_mut(number) {
            *slot = Some(Arc::new(output));
        }
    }

    pub(super) async fn checkpoint_text(&self, status: Status) -> String {
        self.draft.lock().await.render(status, None)
    }

    /// Stores the draft as it is.
    pub(super) async fn save(&self, status: Status) -> Result<(), Stop> {
        self.save_as(status).await.map_err(Stop::of_store)
    }

    pub(super) async fn save_as(&self, status: Status) -> Result<()> {
        let draft = self.draft.lock().await;
        let text = draft.render(status, None);
        self.runtime
            .store_checkpoint(&self.id, text, &self.saved)
            .await
    }

    /// Stores a draft that the caller holds locked.
    pub(super) async fn store(&self, checkpoint: String) -> Result<(), Stop> {
        let stored = self
            .runtime
            .store_checkpoint(&self.id, checkpoint, &self.saved);
        stored.await.map_err(Stop::of_store)
    }

    fn lock_outputs(&self) -> std::sync::MutexGuard<'_, Vec<Option<Arc<Value>>>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn node(&self, number: usize) -> Option<(&Entry, &Guard)> {
        let entry = self.graph.entries().get(number)?;
        Some((entry, self.guards.get(number)?))
    }

    fn number_of(&self, node: &str) -> Option<usize> {
        let mut entries = self.graph.entries().iter();
        entries.position(|entry| *entry.id == *node)
    }
}
