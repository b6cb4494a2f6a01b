//! One attempt of a call, at one node.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::batch::{ASKING, Batch};
use super::layout::ClusterMap;
use super::node::Node;
use super::route::Terms;
use super::trip::MapIs;
use crate::acked::Acked;
use crate::encode;
use crate::fault::RedisFault;
use crate::link::LinkStatus;
use crate::mux::{Answered, Answers, Mux, Request};
use crate::supervised::Effect;
use crate::together;
use crate::value::Value;

/// How long a node that is down is waited for before the map is looked at again.
const PATIENCE: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) async fn one(
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
        Ok(last(self.attempt(map, node, request, terms).await?))
    }

    /// One answer for each place of the batch.
    pub(super) async fn many(
        &self,
        map: &ClusterMap,
        batch: &Batch,
        terms: Terms,
    ) -> Vec<Result<Value, RedisFault>> {
        let each = if batch.asking { 2 } else { 1 };
        let count = batch.places.len();
        if terms.effect == Effect::Write && batch.node.acked().is_some() {
            // Each for itself: what is refused says nothing about the others' confirmation. They
            // share a batch all the same.
            let sent = batch.parts().map(|bytes| async move {
                let request = Request::Packed(bytes, Answers::Many(each));
                let answered = self.attempt(map, &batch.node, request, terms).await?;
                Ok(last(answered))
            });
            return together::all(sent).await;
        }
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
        let Terms { effect, limit, .. } = terms;
        if effect == Effect::Write
            && let Some(acked) = node.acked()
        {
            return self.acknowledged(map, acked, request, terms).await;
        }
        let connection = node.connection();
        if connection.status() != LinkStatus::Up {
            let ready = |patience| connection.ready(patience);
            self.wait_for(map, connection.status(), ready, terms.deadline)
                .await?;
        }
        connection
            .attempt(request, effect, terms.deadline, limit)
            .await
    }

    /// One attempt to write what has to be confirmed. It is left for the new map while it waits to
    /// be sent.
    async fn acknowledged(
        &self,
        map: &ClusterMap,
        acked: &Acked<Mux>,
        request: Request<'_>,
        terms: Terms,
    ) -> Result<Answered, RedisFault> {
        if let Some(first) = acked.first().filter(|link| link.status() != LinkStatus::Up) {
            let ready = |patience| first.ready(patience);
            self.wait_for(map, first.status(), ready, terms.deadline)
                .await?;
        }
        let left = terms.deadline.saturating_duration_since(Instant::now());
        let leave = self.another_map(map);
        acked.call_unless(request.into_packed(), left, leave).await
    }

    /// Until the node is there, or the map says something else, or patience is at its end.
    async fn wait_for<F>(
        &self,
        map: &ClusterMap,
        status: LinkStatus,
        ready: impl FnOnce(Instant) -> F,
        deadline: Instant,
    ) -> Result<(), RedisFault>
    where
        F: Future<Output = Result<(), RedisFault>>,
    {
        if let LinkStatus::Down { .. } = status {
            self.note(MapIs::Doubtful);
        }
        let patience = deadline.min(Instant::now() + PATIENCE);
        tokio::select! {
            ready = ready(patience) => ready,
            () = self.another_map(map) => Err(RedisFault::unavailable(None)),
        }
    }

    /// Returns when there is another map than this one.
    fn another_map(&self, map: &ClusterMap) -> impl Future<Output = ()> + use<> {
        let (mut maps, before) = (self.map.subscribe(), map.version());
        async move {
            let _ = maps.wait_for(|map| map.version() != before).await;
        }
    }
}

/// The answer to a command, which follows the one to `ASKING` where that was sent.
fn last(answered: Answered) -> Value {
    match answered {
        Answered::One(answer) => answer,
        Answered::Many(mut answers) => answers.pop().unwrap_or(Value::Nil),
    }
}
