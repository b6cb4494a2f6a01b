//! What the bus tells beside the data.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::channel::Target;
use crate::event::EventId;
use crate::options::Overflow;
use crate::queue::Queue;
use crate::subscription::SubscriptionId;

/// How many signals wait for one listener; older ones are dropped and counted.
const SIGNAL_CAPACITY: usize = 1024;

/// Something that happened to the bus or to a subscription.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Signal {
    /// The connection that receives events stands.
    Connected,
    /// The connection that receives events broke. It is being restored, for as long as it takes.
    Disconnected {
        /// What is known about the cause.
        reason: String,
    },
    /// After a break, the server has confirmed all subscriptions again.
    Resubscribed {
        /// How many channels and patterns.
        targets: usize,
    },
    /// Events may have been missed: read again whatever state you build from events.
    Gap {
        /// The channel or pattern.
        target: Target,
        /// How many, where that is known.
        lost: Option<u64>,
    },
    /// The queue of a subscription overflowed. At most one a second per subscription.
    SlowSubscriber {
        /// Which one.
        subscription: SubscriptionId,
        /// Its name.
        name: Arc<str>,
        /// How many events were dropped since the last signal of this kind.
        dropped: u64,
    },
    /// A handler did not handle an event.
    HandlerFailed {
        /// Whose handler.
        subscription: SubscriptionId,
        /// Its name.
        name: Arc<str>,
        /// Which event.
        event: EventId,
        /// The channel of the event.
        channel: String,
        /// In which way.
        failure: Failure,
    },
    /// The bus is closed; the last signal.
    Closed,
}

/// In which way a handler failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It returned this error.
    Error(String),
    /// It panicked with this message.
    Panic(String),
    /// It took longer than the subscription's `handler_timeout`.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(message) => f.write_str(message),
            Failure::Panic(message) => write!(f, "panicked: {message}"),
            Failure::Timeout => f.write_str("timed out"),
        }
    }
}

/// The signals from the moment of the call on. Ends after [`Signal::Closed`].
///
/// A listener that does not keep up loses the oldest signals; [`SignalStream::dropped`] counts
/// them.
pub struct SignalStream(Arc<Queue<Signal>>);

impl SignalStream {
    /// How many signals were lost because this listener did not keep up.
    pub fn dropped(&self) -> u64 {
        self.0.stats().dropped
    }
}

impl Stream for SignalStream {
    type Item = Signal;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        self.0.poll_receive(cx)
    }
}

impl fmt::Debug for SignalStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignalStream")
    }
}

/// All who listen to signals.
#[derive(Default)]
pub(crate) struct Signals {
    listeners: Mutex<Vec<Weak<Queue<Signal>>>>,
}

impl Signals {
    pub(crate) fn listen(&self, closed: bool) -> SignalStream {
        let queue = Arc::new(Queue::new(SIGNAL_CAPACITY, Overflow::DropOldest, false));
        if closed {
            queue.seal();
        } else {
            let mut listeners = self.lock();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.push(Arc::downgrade(&queue));
        }
        SignalStream(queue)
    }

    /// Hands the signal to every listener. Never waits.
    pub(crate) fn emit(&self, signal: Signal) {
        let live: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        for listener in live {
            listener.offer(signal.clone());
        }
    }

    pub(crate) fn close(&self) {
        self.emit(Signal::Closed);
        let listeners = std::mem::take(&mut *self.lock());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.seal();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Queue<Signal>>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
