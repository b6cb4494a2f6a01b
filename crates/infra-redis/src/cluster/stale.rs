//! Reads that a replica may answer.

use super::batch::Batch;
use super::layout::ClusterMap;
use super::node::Node;
use super::route::{Command, Journey, Terms};
use super::slot::Slot;
use super::trip::MapIs;
use super::{Cluster, Shared};
use crate::fault::{RedisFault, line_fault};
use crate::mux::{Answered, Answers, Mux, Request};
use crate::together;
use crate::value::Value;

impl Cluster {
    /// The answer of a replica to one command; `None` where the primary has to be asked.
    pub(super) async fn read_from_replica(
        &self,
        map: &ClusterMap,
        slot: Slot,
        parts: &[&[u8]],
        terms: Terms,
    ) -> Option<Value> {
        let shared = &self.handle.shared;
        let node = map.owner(slot)?;
        let answered = shared.ask_replica(node, Request::Parts(parts), terms).await;
        match answered? {
            Answered::One(answer) => shared.is_enough(&answer).then_some(answer),
            Answered::Many(_) => None,
        }
    }

    /// Settles those of the commands that replicas can answer.
    pub(super) async fn read_from_replicas(
        &self,
        map: &ClusterMap,
        journeys: &mut [Journey<'_>],
        terms: Terms,
    ) {
        let shared = &self.handle.shared;
        let mut batches: Vec<Batch> = Vec::new();
        for (place, journey) in journeys.iter().enumerate() {
            let Command { slot, bytes, .. } = journey.command;
            if let Some(node) = map.owner(*slot) {
                Batch::add(&mut batches, (node.clone(), false), place, bytes);
            }
        }
        let asked = batches.iter().map(|batch| async move {
            let request = Request::Packed(&batch.bytes, Answers::Many(batch.places.len()));
            shared.ask_replica(&batch.node, request, terms).await
        });
        let answers = together::all(asked).await;
        for (batch, answered) in batches.iter().zip(answers) {
            let Some(Answered::Many(answers)) = answered else {
                continue;
            };
            for (place, answer) in batch.places.iter().zip(answers) {
                if let Some(journey) = journeys.get_mut(*place)
                    && shared.is_enough(&answer)
                {
                    journey.result = Some(Ok(answer));
                }
            }
        }
    }
}

impl Shared {
    /// What one of the node's replicas answers within half of the time: the other half is for the
    /// primary.
    async fn ask_replica(
        &self,
        node: &Node,
        request: Request<'_>,
        terms: Terms,
    ) -> Option<Answered> {
        let member = node.replicas()?.next()?;
        let send = |connection: Mux, deadline| async move {
            match connection.send(request, deadline).await {
                Ok(answered) => match unfit(&answered) {
                    Some(fault) => Err(fault),
                    None => Ok(answered),
                },
                Err(unanswered) => Err(unanswered.fault()),
            }
        };
        member.attempt(terms.limit / 2, send).await.ok()
    }

    /// Whether nobody else has to be asked. What a replica does not have the primary may have: the
    /// key may have left with its slot, which the replica cannot know.
    fn is_enough(&self, answer: &Value) -> bool {
        match answer {
            Value::Error(line) => {
                if line.starts_with("MOVED") {
                    self.note(MapIs::Doubtful);
                }
                false
            }
            Value::Nil | Value::Int(0) => false,
            // The time to live of nothing.
            Value::Int(-2) => false,
            Value::Array(answers) => !answers.contains(&Value::Nil),
            _ => true,
        }
    }
}

/// Why the replica is to be left alone for a while. A slot that it does not serve and a value of
/// another type are no reason.
fn unfit(answered: &Answered) -> Option<RedisFault> {
    let answers = match answered {
        Answered::One(answer) => std::slice::from_ref(answer),
        Answered::Many(answers) => answers,
    };
    answers.iter().find_map(|answer| match answer {
        Value::Error(line) => {
            let fits = ["MOVED ", "ASK ", "WRONGTYPE "];
            let fits = fits.iter().any(|code| line.starts_with(code));
            (!fits).then(|| line_fault(line))
        }
        _ => None,
    })
}
