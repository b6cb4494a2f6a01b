//! The calls of a cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::batch::Batch;
use super::layout::ClusterMap;
use super::node::Node;
use super::slot::Slot;
use super::trip::{MapIs, Next, Target, Trip};
use super::{Cluster, Shared};
use crate::encode;
use crate::fault::{FaultKind, RedisFault};
use crate::supervised::{Effect, LONGEST_LIMIT};
use crate::together;
use crate::value::Value;

/// A command whose keys lie in one slot, ready to be sent.
#[derive(Debug, Clone)]
pub struct Command {
    pub(super) slot: Slot,
    pub(super) bytes: Vec<u8>,
    impatient: bool,
}

impl Command {
    /// The command of these parts, its name first, for the slot of its keys.
    pub fn new(slot: Slot, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        encode::write_parts(&mut bytes, parts);
        Command {
            slot,
            bytes,
            impatient: false,
        }
    }

    /// The same, where `TRYAGAIN` is an error at once: the keys lie on both sides of a move, and
    /// the caller knows another way.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.impatient = true;
        self
    }
}

/// The limits of a call.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) effect: Effect,
    pub(super) limit: Duration,
    pub(super) deadline: Instant,
}

impl Terms {
    fn new(effect: Effect, limit: Duration) -> Self {
        let deadline = Instant::now() + limit.min(LONGEST_LIMIT);
        Terms {
            effect,
            limit,
            deadline,
        }
    }

    /// Whatever replicas did not answer is a read like others.
    fn of_primary(self) -> Self {
        let effect = match self.effect {
            Effect::StaleRead => Effect::Read,
            effect => effect,
        };
        Terms { effect, ..self }
    }

    /// Waits, if that leaves time for another attempt.
    async fn pause(&self, pause: Duration) -> bool {
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        true
    }
}

impl Cluster {
    /// Sends one command, whose keys lie in `slot`, given by its parts, the name first; an error
    /// reply is an error here.
    ///
    /// Cancel safe for reads. A cancelled write may have been applied.
    ///
    /// # Errors
    /// See [`FaultKind`].
    pub async fn send(
        &self,
        slot: Slot,
        parts: &[&[u8]],
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let shared = &self.handle.shared;
        let terms = Terms::new(effect, limit);
        if terms.effect == Effect::StaleRead {
            let map = shared.open_map()?;
            if let Some(answer) = self.read_from_replica(&map, slot, parts, terms).await {
                return Ok(answer);
            }
        }
        let terms = terms.of_primary();
        let mut trip = Trip::default();
        loop {
            let map = shared.open_map()?;
            let (next, is) = match shared.way(&map, slot, trip.target.take()) {
                Some((node, asking)) => {
                    let answer = shared.one(&map, &node, (parts, asking), terms).await;
                    trip.judge(answer, terms.effect, node.address())
                }
                None => trip.nobody(shared.trouble().as_ref()),
            };
            shared.note(is);
            match next {
                Next::Done(answer) => return answer,
                Next::Again(pause) => {
                    if !terms.pause(pause).await {
                        return Err(trip.late(limit));
                    }
                }
            }
        }
    }

    /// Sends commands to the nodes of their slots, those for one node at once, and returns the
    /// answer to each, in order. They are carried out in any order.
    ///
    /// Cancel safety and errors of each as for [`Cluster::send`].
    pub async fn send_each(
        &self,
        commands: &[Command],
        effect: Effect,
        limit: Duration,
    ) -> Vec<Result<Value, RedisFault>> {
        let terms = Terms::new(effect, limit);
        let mut journeys: Vec<_> = commands.iter().map(Journey::new).collect();
        if terms.effect == Effect::StaleRead
            && let Ok(map) = self.handle.shared.open_map()
        {
            self.read_from_replicas(&map, &mut journeys, terms).await;
        }
        let terms = terms.of_primary();
        while journeys.iter().any(|journey| journey.result.is_none()) {
            let pause = self.round(&mut journeys, terms).await;
            if !terms.pause(pause).await {
                break;
            }
        }
        let results = journeys.into_iter().map(|mut journey| {
            let result = journey.result.take();
            result.unwrap_or_else(|| Err(journey.trip.late(limit)))
        });
        results.collect()
    }

    /// Asks every primary for a sign of life.
    ///
    /// # Errors
    /// That of the first primary without one; also where none is known.
    pub async fn ping(&self, limit: Duration) -> Result<(), RedisFault> {
        let shared = &self.handle.shared;
        let map = shared.open_map()?;
        if map.primaries().is_empty() && !self.refresh(limit).await {
            return Err(RedisFault::unavailable(shared.trouble().as_ref()));
        }
        let map = shared.open_map()?;
        let pings = map
            .primaries()
            .iter()
            .map(|node| node.connection().ping(limit));
        together::all(pings).await.into_iter().collect()
    }

    /// Sends all that has no result yet, and returns how long to wait before the next round.
    async fn round(&self, journeys: &mut [Journey<'_>], terms: Terms) -> Duration {
        let shared = &self.handle.shared;
        let map = match shared.open_map() {
            Ok(map) => map,
            Err(closed) => {
                let open = journeys
                    .iter_mut()
                    .filter(|journey| journey.result.is_none());
                open.for_each(|journey| journey.result = Some(Err(closed.clone())));
                return Duration::ZERO;
            }
        };
        let mut pause = Duration::ZERO;
        let mut batches: Vec<Batch> = Vec::new();
        for (place, journey) in journeys.iter_mut().enumerate() {
            if journey.result.is_some() {
                continue;
            }
            let slot = journey.command.slot;
            match shared.way(&map, slot, journey.trip.target.take()) {
                Some(way) => Batch::add(&mut batches, way, place, &journey.command.bytes),
                None => {
                    let (next, is) = journey.trip.nobody(shared.trouble().as_ref());
                    shared.note(is);
                    pause = pause.max(journey.settle(next));
                }
            }
        }
        let sent = batches.iter().map(|batch| shared.many(&map, batch, terms));
        let answers = together::all(sent).await;
        for (batch, answers) in batches.iter().zip(answers) {
            for (place, answer) in batch.places.iter().zip(answers) {
                let Some(journey) = journeys.get_mut(*place) else {
                    continue;
                };
                let asked = batch.node.address();
                let (next, is) = journey.trip.judge(answer, terms.effect, asked);
                shared.note(is);
                pause = pause.max(journey.settle(next));
            }
        }
        pause
    }
}

/// One of several commands, and what became of it.
pub(super) struct Journey<'a> {
    pub(super) command: &'a Command,
    trip: Trip,
    pub(super) result: Option<Result<Value, RedisFault>>,
}

impl<'a> Journey<'a> {
    fn new(command: &'a Command) -> Self {
        Journey {
            command,
            trip: Trip::new(command.impatient),
            result: None,
        }
    }

    fn settle(&mut self, next: Next) -> Duration {
        match next {
            Next::Done(result) => {
                self.result = Some(result);
                Duration::ZERO
            }
            Next::Again(pause) => pause,
        }
    }
}

impl Shared {
    /// The map, unless the cluster was closed.
    fn open_map(&self) -> Result<Arc<ClusterMap>, RedisFault> {
        let map = self.map.borrow().clone();
        match map.is_closed() {
            true => Err(RedisFault::new(
                FaultKind::Closed,
                "the connection was closed",
            )),
            false => Ok(map),
        }
    }

    /// Where a command goes, and whether it has to begin with `ASKING`.
    fn way(&self, map: &ClusterMap, slot: Slot, target: Option<Target>) -> Option<(Node, bool)> {
        match target {
            Some(target) => Some((self.node(&target.address), target.asking)),
            None => map.owner(slot).map(|node| (node.clone(), false)),
        }
    }

    pub(super) fn note(&self, is: MapIs) {
        if is == MapIs::Doubtful {
            self.doubted.notify_one();
        }
    }
}
