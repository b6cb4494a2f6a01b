//! The calls of a cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::layout::{ClusterMap, Node};
use super::slot::Slot;
use super::trip::{MapIs, Next, Target, Trip};
use super::{Cluster, Shared};
use crate::encode;
use crate::fault::{FaultKind, RedisFault};
use crate::link::LinkStatus;
use crate::mux::{Answered, Answers, Request};
use crate::supervised::{Effect, LONGEST_LIMIT};
use crate::together;
use crate::value::Value;

const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// How long a node that is down is waited for before the map is looked at again.
const PATIENCE: Duration = Duration::from_millis(250);
/// Commands, and about as many bytes, that go to a node at once: enough to pay, few enough not to
/// hold up other callers.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;

/// A command whose keys lie in one slot, ready to be sent.
#[derive(Debug, Clone)]
pub struct Command {
    slot: Slot,
    bytes: Vec<u8>,
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
struct Terms {
    effect: Effect,
    limit: Duration,
    deadline: Instant,
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
        let mut trip = Trip::default();
        loop {
            let map = shared.open_map()?;
            let (next, is) = match shared.way(&map, slot, trip.target.take()) {
                Some((node, asking)) => {
                    let answer = shared.one(&map, &node, (parts, asking), terms).await;
                    trip.judge(answer, effect, node.address())
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
struct Journey<'a> {
    command: &'a Command,
    trip: Trip,
    result: Option<Result<Value, RedisFault>>,
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

/// What goes to one node in one request.
struct Batch {
    node: Node,
    asking: bool,
    places: Vec<usize>,
    bytes: Vec<u8>,
}

impl Batch {
    fn add(batches: &mut Vec<Batch>, (node, asking): (Node, bool), place: usize, bytes: &[u8]) {
        let fits = |batch: &&mut Batch| {
            batch.node.address() == node.address()
                && batch.asking == asking
                && batch.places.len() < BATCH
                && batch.bytes.len() + bytes.len() <= BATCH_BYTES
        };
        if let Some(batch) = batches.iter_mut().rev().find(fits) {
            return batch.push(place, bytes);
        }
        let mut batch = Batch {
            node,
            asking,
            places: Vec::new(),
            bytes: Vec::new(),
        };
        batch.push(place, bytes);
        batches.push(batch);
    }

    fn push(&mut self, place: usize, bytes: &[u8]) {
        if self.asking {
            self.bytes.extend_from_slice(ASKING);
        }
        self.bytes.extend_from_slice(bytes);
        self.places.push(place);
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

    fn note(&self, is: MapIs) {
        if is == MapIs::Doubtful {
            self.doubted.notify_one();
        }
    }

    async fn one(
        &self,
        map: &ClusterMap,
        node: &Node,
        (parts, asking): (&[&[u8]], bool),
        terms: Terms,
    ) -> Result<Value, RedisFault> {
        let mut bytes = Vec::new();
        let request = if asking {
            bytes.extend_from_slice(ASKING);
            encode::write_parts(&mut bytes, parts);
            Request::Packed(&bytes, Answers::Many(2))
        } else {
            Request::Parts(parts)
        };
        match self.attempt(map, node, request, terms).await? {
            Answered::One(answer) => Ok(answer),
            Answered::Many(mut answers) => Ok(answers.pop().unwrap_or(Value::Nil)),
        }
    }

    /// One answer for each place of the batch.
    async fn many(
        &self,
        map: &ClusterMap,
        batch: &Batch,
        terms: Terms,
    ) -> Vec<Result<Value, RedisFault>> {
        let each = if batch.asking { 2 } else { 1 };
        let count = batch.places.len();
        let request = Request::Packed(&batch.bytes, Answers::Many(count * each));
        let fault = match self.attempt(map, &batch.node, request, terms).await {
            Ok(Answered::Many(answers)) => {
                // Of each pair the first answers ASKING.
                let answers = answers.into_iter().skip(each - 1).step_by(each);
                return answers.map(Ok).collect();
            }
            Ok(Answered::One(_)) => RedisFault::protocol("one answer to several commands"),
            Err(fault) => fault,
        };
        vec![Err(fault); count]
    }

    /// One attempt over the connection to `node`, which is waited for a little.
    async fn attempt(
        &self,
        map: &ClusterMap,
        node: &Node,
        request: Request<'_>,
        terms: Terms,
    ) -> Result<Answered, RedisFault> {
        let connection = node.connection();
        if connection.status() != LinkStatus::Up {
            self.wait_for(map, node, terms.deadline).await?;
        }
        let Terms { effect, limit, .. } = terms;
        connection
            .attempt(request, effect, terms.deadline, limit)
            .await
    }

    /// Until the node is there, or the map says something else, or patience is at its end.
    async fn wait_for(
        &self,
        map: &ClusterMap,
        node: &Node,
        deadline: Instant,
    ) -> Result<(), RedisFault> {
        let mut maps = self.map.subscribe();
        let before = map.version();
        if let LinkStatus::Down { .. } = node.connection().status() {
            self.note(MapIs::Doubtful);
        }
        let patience = deadline.min(Instant::now() + PATIENCE);
        tokio::select! {
            ready = node.connection().ready(patience) => ready,
            _ = maps.wait_for(|map| map.version() != before) => {
                Err(RedisFault::unavailable(None))
            }
        }
    }
}
