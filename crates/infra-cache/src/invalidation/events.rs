//! Invalidations as events.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use infra_core::{BoxFuture, context};
use infra_events::{EventBus, Signal, SignalStream, SubscribeOptions, SubscriptionId, Typed};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::{Invalidation, InvalidationChannel, InvalidationGuard, InvalidationSink};
use crate::error::BoxError;
use crate::random::Random;

/// Messages that may wait to be applied; what does not fit counts as a gap.
const CAPACITY: usize = 16 * 1024;

/// Invalidations over a channel of an event bus, for [`CacheStore::listen`]: for stores that do not
/// tell what changes.
///
/// ```
/// use infra_cache::{CacheOptions, CacheStore, EventInvalidation};
/// use infra_events::EventBus;
/// use infra_state::StateStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, bus) = (StateStore::memory(), EventBus::memory());
/// let cache = CacheStore::over(store, CacheOptions::new().tracking(false)).await?;
/// cache.listen(EventInvalidation::new(bus, "cache.invalidations")).await?;
/// # Ok(())
/// # }
/// ```
///
/// [`CacheStore::listen`]: crate::CacheStore::listen
#[derive(Debug)]
pub struct EventInvalidation {
    bus: EventBus,
    channel: String,
    origin: u64,
}

#[derive(Serialize, Deserialize)]
struct Message {
    /// Tells who sent it from all others.
    origin: u64,
    what: Invalidation,
}

impl EventInvalidation {
    /// Over this channel, which all caches of one name must share and nobody else may use.
    pub fn new(bus: EventBus, channel: impl Into<String>) -> Self {
        EventInvalidation {
            bus,
            channel: channel.into(),
            origin: Random::new(None).number(),
        }
    }
}

impl InvalidationChannel for EventInvalidation {
    fn publish<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let message = Message {
                origin: self.origin,
                what: what.clone(),
            };
            self.bus.publish(&self.channel, &message).await?;
            Ok(())
        })
    }

    fn subscribe(
        &self,
        sink: InvalidationSink,
    ) -> BoxFuture<'_, Result<InvalidationGuard, BoxError>> {
        Box::pin(async move {
            let signals = self.bus.signals();
            let (origin, to) = (self.origin, sink.clone());
            let options = SubscribeOptions::default().capacity(CAPACITY);
            let subscription = self
                .bus
                .subscribe_typed_with(&self.channel, options, move |message: Typed<Message>| {
                    if message.data.origin != origin {
                        to.apply(&message.data.what);
                    }
                    std::future::ready(())
                })
                .await?;
            let watching = watch(signals, subscription.id(), self.channel.clone(), sink);
            let task = AbortOnDrop(context::spawn_detached(watching));
            Ok(Box::new((subscription, task)) as InvalidationGuard)
        })
    }
}

/// Passes on that messages may have been missed.
async fn watch(
    mut signals: SignalStream,
    ours: SubscriptionId,
    channel: String,
    sink: InvalidationSink,
) {
    let mut missed = 0;
    while let Some(signal) = poll_fn(|cx| Pin::new(&mut signals).poll_next(cx)).await {
        let concerns_us = match &signal {
            Signal::Disconnected { .. } | Signal::Resubscribed { .. } => true,
            Signal::Gap { target, .. } => target.to_string() == channel,
            Signal::SlowSubscriber { subscription, .. } => *subscription == ours,
            Signal::HandlerFailed { subscription, .. } => *subscription == ours,
            _ => false,
        };
        // Signals themselves can be lost.
        let dropped = signals.dropped();
        if concerns_us || dropped != missed {
            missed = dropped;
            sink.gap();
        }
    }
    // The bus is closed: from here on nothing is heard.
    sink.gap();
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
