//! From a driver that sees changes to one reader: bounded, without losing track.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a driver says about the keys under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The value under this key is no longer what it was.
    Key(Arc<str>),
    /// Changes may have been missed, for this reason: all that is known of the keys is outdated.
    Gap(&'static str),
}

/// Makes the two ends of a feed for the keys that begin with `prefix`. It holds at most
/// `capacity` different keys; a reader that is slower than that gets a [`Change::Gap`].
pub fn watch_feed(prefix: impl Into<String>, capacity: usize) -> (WatchSink, WatchFeed) {
    let shared = Arc::new(Shared {
        prefix: prefix.into(),
        capacity: capacity.max(1),
        state: Mutex::new(State::default()),
    });
    let sink = WatchSink {
        shared: shared.clone(),
    };
    let hidden = String::new();
    (sink, WatchFeed { shared, hidden })
}

/// The driver's end of a feed. The reader's stream ends when it is dropped.
pub struct WatchSink {
    shared: Arc<Shared>,
}

/// The reader's end of a feed. Dropping it tells the driver to stop.
pub struct WatchFeed {
    shared: Arc<Shared>,
    /// What the reader does not want to see before the keys.
    hidden: String,
}

struct Shared {
    prefix: String,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    gap: Option<&'static str>,
    /// In the order in which they changed, each once.
    changed: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
    ended: bool,
    dropped: bool,
    reader: Option<Waker>,
    driver: Option<Waker>,
}

impl WatchSink {
    /// What the reported keys begin with.
    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Reports a key. One that the reader has not taken yet is not reported twice, and one
    /// outside of the prefix is not reported at all.
    pub fn changed(&self, key: &str) {
        if !key.starts_with(&self.shared.prefix) {
            return;
        }
        let mut state = self.shared.lock();
        if state.known.contains(key) || state.dropped {
            return;
        }
        if state.changed.len() >= self.shared.capacity {
            state.forget("the reader was slower than the changes");
        } else {
            let key: Arc<str> = key.into();
            state.known.insert(key.clone());
            state.changed.push_back(key);
        }
        wake(state);
    }

    /// Reports that changes may have been missed.
    pub fn gap(&self, reason: &'static str) {
        let mut state = self.shared.lock();
        state.forget(reason);
        wake(state);
    }

    /// True when nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().dropped
    }

    /// Returns when nobody reads any more. Cancel safe; for one task at a time.
    pub async fn closed(&self) {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.dropped {
                return Poll::Ready(());
            }
            state.driver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl State {
    /// What waits is part of what the reader has to read anew.
    fn forget(&mut self, reason: &'static str) {
        self.changed.clear();
        self.known.clear();
        self.gap = Some(reason);
    }
}

impl Drop for WatchSink {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        wake(state);
    }
}

impl WatchFeed {
    /// The same changes, of keys without what they all begin with; others are left out. For
    /// layers that put something before every key.
    #[must_use]
    pub fn without_prefix(mut self, prefix: &str) -> Self {
        self.hidden.push_str(prefix);
        self
    }

    /// The next change; `None` when the driver has ended the feed and all was taken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let mut state = self.shared.lock();
        if let Some(reason) = state.gap.take() {
            return Poll::Ready(Some(Change::Gap(reason)));
        }
        while let Some(key) = state.changed.pop_front() {
            state.known.remove(&key);
            if self.hidden.is_empty() {
                return Poll::Ready(Some(Change::Key(key)));
            }
            if let Some(key) = key.strip_prefix(&*self.hidden) {
                return Poll::Ready(Some(Change::Key(key.into())));
            }
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// [`WatchFeed::poll_next`] as a future. Cancel safe.
    pub async fn next(&mut self) -> Option<Change> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for WatchFeed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.dropped = true;
        state.changed.clear();
        state.known.clear();
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not under the lock: a waker is foreign code.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl fmt::Debug for WatchSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchSink")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchFeed")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(feed: &mut WatchFeed) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        while let Poll::Ready(change) = feed.poll_next(&mut cx) {
            match change {
                Some(Change::Key(key)) => taken.push(key.to_string()),
                Some(Change::Gap(_)) => taken.push("gap".into()),
                None => {
                    taken.push("end".into());
                    break;
                }
            }
        }
        taken
    }

    #[test]
    fn s45_a_key_waits_once_and_in_order() {
        let (sink, mut feed) = watch_feed("a", 10);
        for key in ["a2", "a1", "b", "a2"] {
            sink.changed(key);
        }
        assert_eq!(taken(&mut feed), ["a2", "a1"]);
        sink.changed("a2");
        assert_eq!(taken(&mut feed), ["a2"]);
        drop(sink);
        assert_eq!(taken(&mut feed), ["end"]);
    }

    #[test]
    fn s45_a_slow_reader_gets_a_gap_and_memory_stays_bounded() {
        let (sink, mut feed) = watch_feed("", 10);
        for n in 0..1000 {
            sink.changed(&n.to_string());
            assert!(feed.shared.lock().changed.len() <= 10);
        }
        let all = taken(&mut feed);
        assert_eq!(all.first().map(String::as_str), Some("gap"));
        assert_eq!(all.last().map(String::as_str), Some("999"));
    }

    #[test]
    fn s45_a_hidden_prefix_is_not_seen() {
        let (sink, feed) = watch_feed("t", 10);
        let mut feed = feed.without_prefix("t:").without_prefix("u:");
        for key in ["t:u:a", "t:v", "tu", "t:u:"] {
            sink.changed(key);
        }
        assert_eq!(taken(&mut feed), ["a", ""]);
    }

    #[test]
    fn s47_a_dropped_feed_is_closed() {
        let (sink, feed) = watch_feed("", 10);
        assert!(!sink.is_closed());
        drop(feed);
        assert!(sink.is_closed());
        sink.changed("a");
        assert!(sink.shared.lock().changed.is_empty());
    }
}
