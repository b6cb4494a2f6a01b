//! Subscriptions: what the user holds, and what delivers.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::task::AbortHandle;

use crate::bus::BusInner;
use crate::channel::Target;
use crate::error::Result;
use crate::event::Event;
use crate::options::Overflow;
use crate::queue::{Offer, Queue};
use crate::shared::Shared;
use crate::signal::{Failure, Signal};

/// The number of a subscription, unique within its bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(crate) u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counters of one subscription, taken at one moment:
/// `received = handled + failed + panicked + timed_out + dropped + abandoned + interrupted +
/// queued + running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Events that reached the subscription's queue.
    pub received: u64,
    /// Handled, or handed out by a stream.
    pub handled: u64,
    /// The handler returned an error.
    pub failed: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// The handler took longer than its timeout.
    pub timed_out: u64,
    /// Dropped by [`Overflow::DropOldest`].
    pub dropped: u64,
    /// Still queued when the subscription ended.
    pub abandoned: u64,
    /// In the middle of being handled when the deadline of a close passed.
    pub interrupted: u64,
    /// Waiting now.
    pub queued: u64,
    /// Being handled now: 0 or 1.
    pub running: u64,
}

impl SubscriptionStats {
    /// Everything that became of received events, added up; equals `received`.
    pub fn accounted(&self) -> u64 {
        self.handled
            + self.failed
            + self.panicked
            + self.timed_out
            + self.dropped
            + self.abandoned
            + self.interrupted
            + self.queued
            + self.running
    }

    pub(crate) fn add(&mut self, other: &SubscriptionStats) {
        self.received += other.received;
        self.handled += other.handled;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.timed_out += other.timed_out;
        self.dropped += other.dropped;
        self.abandoned += other.abandoned;
        self.interrupted += other.interrupted;
        self.queued += other.queued;
        self.running += other.running;
    }
}

/// The part of a subscription that the bus, its worker and the user's handle share.
pub(crate) struct Core {
    pub(crate) id: SubscriptionId,
    pub(crate) name: Arc<str>,
    pub(crate) target: Target,
    pub(crate) queue: Queue<Event>,
    pub(crate) handler_timeout: Option<Duration>,
    pub(crate) is_stream: bool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: Mutex<Option<AbortHandle>>,
    /// The subscription for whose room this one's handler is waiting.
    pub(crate) waits_for: Mutex<Option<SubscriptionId>>,
}

impl Core {
    /// Offers an event; makes losses known. `Some` when the event has to wait for room.
    pub(crate) fn offer(&self, event: Event, crowded: &mut bool) -> Option<Event> {
        match self.queue.offer(event) {
            Offer::Queued { crowded: c } => *crowded |= c,
            Offer::Replaced { report } => {
                *crowded = true;
                self.report_drops(report);
            }
            Offer::Full(event) => return Some(event),
            Offer::Closed => {}
        }
        None
    }

    pub(crate) fn report_drops(&self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        tracing::warn!(
            subscription = &*self.name,
            target = self.target.as_str(),
            dropped,
            "slow subscriber: events dropped"
        );
        self.shared.signals.emit(Signal::SlowSubscriber {
            subscription: self.id,
            name: self.name.clone(),
            dropped,
        });
    }

    pub(crate) fn report_failure(&self, event: &Event, failure: Failure) {
        event.context().sync_scope(|| {
            tracing::warn!(
                subscription = &*self.name,
                channel = event.channel(),
                event_id = event.id().as_str(),
                error = %failure,
                "event handler failed"
            );
        });
        self.shared.signals.emit(Signal::HandlerFailed {
            subscription: self.id,
            name: self.name.clone(),
            event: event.id().clone(),
            channel: event.channel().to_owned(),
            failure,
        });
    }

    pub(crate) fn abort(&self) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*worker {
            handle.abort();
        }
    }
}

/// Holds a subscription; dropping it unsubscribes.
///
/// [`Subscription::detach`] lets it live for as long as its bus.
#[must_use = "dropping a subscription unsubscribes: keep it, or `detach()` it"]
pub struct Subscription {
    pub(crate) core: Arc<Core>,
    pub(crate) bus: Arc<BusInner>,
    pub(crate) on_drop: bool,
}

impl Subscription {
    /// The number of this subscription, unique within its bus.
    pub fn id(&self) -> SubscriptionId {
        self.core.id
    }

    /// The name, see [`SubscribeOptions::name`](crate::SubscribeOptions::name).
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The channel or the pattern subscribed to.
    pub fn channel(&self) -> &str {
        self.core.target.as_str()
    }

    /// What happens when the queue is full.
    pub fn overflow(&self) -> Overflow {
        self.core.queue.overflow()
    }

    /// The counters at this moment.
    pub fn stats(&self) -> SubscriptionStats {
        self.core.queue.stats()
    }

    /// Ends the subscription. Once this returns, no handler starts any more; one that runs is left
    /// to finish, and what was queued counts as abandoned. A second call does nothing.
    ///
    /// Cancel safe: the subscription has ended here from the first poll on; only the wait for the
    /// server's confirmation is cut short.
    ///
    /// # Errors
    /// When the server did not confirm in time. The subscription has ended all the same.
    pub async fn unsubscribe(&self) -> Result<()> {
        self.bus.unsubscribe(&self.core).await
    }

    /// Lets the subscription live until its bus is closed or dropped.
    pub fn detach(mut self) {
        self.on_drop = false;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.on_drop {
            self.bus.end(&self.core);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id().0)
            .field("name", &self.name())
            .field("channel", &self.channel())
            .finish_non_exhaustive()
    }
}

/// A subscription whose events are pulled instead of handed to a handler. Dropping it
/// unsubscribes.
///
/// Ends after the bus was closed and everything queued was read.
#[must_use = "dropping a stream unsubscribes"]
pub struct EventStream {
    pub(crate) subscription: Subscription,
}

impl EventStream {
    /// The subscription behind the stream, for its counters and for unsubscribing.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// The next event, `None` after the end. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.subscription.core.queue.poll_receive(cx)).await
    }
}

impl Stream for EventStream {
    type Item = Event;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.subscription.core.queue.poll_receive(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("subscription", &self.subscription)
            .finish()
    }
}
