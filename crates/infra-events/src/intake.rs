//! What a driver delivers into.

use std::sync::Arc;

use futures_util::future::join_all;
use infra_core::Outcome;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::reentry::{self, WaitsFor};
use crate::shared::{Life, Shared};
use crate::signal::Signal;
use crate::subscription::Core;

/// The bus's side towards its driver: takes arriving events and signals. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

impl Intake {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Intake { shared }
    }

    /// Hands an event to every subscription whose channel or pattern matches. For backends that
    /// leave the matching to us. Waits for room where a subscription blocks.
    ///
    /// # Errors
    /// [`ErrorKind::QueueFull`] when it is called from a handler for whose end the full queue
    /// itself is waiting.
    pub async fn deliver_matching(&self, event: &Event) -> Result<()> {
        let matching = self.shared.router.matching(event.channel());
        let crowded = fan_out(&self.shared, &matching.route, event).await?;
        give_way(crowded).await;
        Ok(())
    }

    /// Hands an event to the subscriptions made to exactly its channel. For backends that match
    /// themselves and say by which subscription an event came; see
    /// [`Intake::deliver_by_pattern`].
    ///
    /// # Errors
    /// As [`Intake::deliver_matching`].
    pub async fn deliver_by_channel(&self, event: &Event) -> Result<()> {
        let route = self.shared.router.of_channel(event.channel());
        let crowded = fan_out(&self.shared, &route, event).await?;
        give_way(crowded).await;
        Ok(())
    }

    /// Hands an event to the subscriptions made to exactly this pattern: once for every pattern
    /// that the backend found to match.
    ///
    /// # Errors
    /// As [`Intake::deliver_matching`].
    pub async fn deliver_by_pattern(&self, pattern: &str, event: &Event) -> Result<()> {
        let route = self.shared.router.of_pattern(pattern);
        let crowded = fan_out(&self.shared, &route, event).await?;
        give_way(crowded).await;
        Ok(())
    }

    /// Hands a signal to everyone who listens to signals.
    pub fn signal(&self, signal: Signal) {
        self.shared.signals.emit(signal);
    }

    /// True once the bus takes nothing any more.
    pub fn is_closed(&self) -> bool {
        self.shared.life() == Life::Closed
    }
}

/// Hands an event to these subscriptions, and waits for room where one of them blocks. True when
/// a queue is more than half full: see [`give_way`].
pub(crate) async fn fan_out(shared: &Shared, route: &[Arc<Core>], event: &Event) -> Result<bool> {
    let mut crowded = false;
    let mut full = Vec::new();
    for core in route {
        if core.offer(event.clone(), &mut crowded).is_some() {
            full.push(core);
        }
    }
    if full.is_empty() {
        return Ok(crowded);
    }
    // Everyone with room has the event already: the slow ones hold up the publisher alone.
    wait_for_room(shared, &full, route.len(), event).await?;
    Ok(false)
}

/// Lets handlers run that share this thread: a loop that publishes without ever waiting would
/// overflow their queues, however fast they are.
pub(crate) async fn give_way(crowded: bool) {
    if crowded {
        tokio::task::yield_now().await;
    }
}

async fn wait_for_room(
    shared: &Shared,
    full: &[&Arc<Core>],
    all: usize,
    event: &Event,
) -> Result<()> {
    let handler = reentry::current(shared);
    let mut waits = Vec::new();
    if let Some(me) = &handler {
        for core in full {
            match WaitsFor::enter(me, core) {
                Some(wait) => waits.push(wait),
                None => return Err(deadlock(core, all > full.len(), event)),
            }
        }
    }
    if let [core] = full {
        core.queue.offer_when_there_is_room(event.clone()).await;
    } else {
        let offers = full
            .iter()
            .map(|core| core.queue.offer_when_there_is_room(event.clone()));
        join_all(offers).await;
    }
    Ok(())
}

fn deadlock(core: &Core, others_have_it: bool, event: &Event) -> Error {
    Error::new(ErrorKind::QueueFull, "publish")
        .with_channel(event.channel())
        .with_outcome(if others_have_it {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        })
        .with_detail(format!(
            "subscription `{}` is full, and waits for the handler that is publishing",
            core.name
        ))
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Intake")
    }
}
