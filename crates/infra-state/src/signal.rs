//! What a backend tells about itself, unasked.

use tokio::sync::broadcast;

/// Signals that wait for one reader; a slower one misses the oldest.
const CAPACITY: usize = 64;

/// Something happened to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateSignal {
    /// The connection is gone and is being made again. Comes once for each outage.
    Lost {
        /// Why, for a person.
        reason: String,
    },
    /// The connection is back.
    Restored,
    /// The server came back without its data: restarted without a copy on disk, or replaced. All
    /// that was stored before is gone.
    Reset {
        /// How it was noticed, for a person.
        reason: String,
    },
}

/// The signals from now on, from [`StateStore::signals`](crate::StateStore::signals).
#[derive(Debug)]
pub struct StateSignals(Option<broadcast::Receiver<StateSignal>>);

impl StateSignals {
    /// Signals of a backend that has nothing to tell.
    pub(crate) fn none() -> Self {
        StateSignals(None)
    }

    /// The next signal; `None` when there will be none, because the store was closed or its
    /// backend has nothing to tell. Cancel safe.
    pub async fn next(&mut self) -> Option<StateSignal> {
        let receiver = self.0.as_mut()?;
        loop {
            match receiver.recv().await {
                Ok(signal) => return Some(signal),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// A driver's end of its signals.
#[derive(Debug, Clone)]
pub struct SignalSender(broadcast::Sender<StateSignal>);

impl SignalSender {
    /// Nobody listens yet.
    pub fn new() -> Self {
        SignalSender(broadcast::Sender::new(CAPACITY))
    }

    /// Tells all who listen.
    pub fn send(&self, signal: StateSignal) {
        // Nobody listening is fine.
        let _ = self.0.send(signal);
    }

    /// The signals from now on; they end with the last sender.
    pub fn subscribe(&self) -> StateSignals {
        StateSignals(Some(self.0.subscribe()))
    }
}

impl Default for SignalSender {
    fn default() -> Self {
        SignalSender::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_misses_the_oldest_and_the_end_comes_with_the_sender() {
        let sender = SignalSender::new();
        let mut signals = sender.subscribe();
        for _ in 0..CAPACITY * 2 {
            sender.send(StateSignal::Restored);
        }
        drop(sender);
        let mut count = 0;
        while signals.next().await.is_some() {
            count += 1;
        }
        assert_eq!(count, CAPACITY);
        assert_eq!(StateSignals::none().next().await, None);
    }
}
