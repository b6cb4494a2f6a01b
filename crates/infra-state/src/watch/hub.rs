//! From one driver to all who watch.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::feed::{WatchFeed, WatchSink, watch_feed};

/// Different keys that may wait for one reader.
const CAPACITY: usize = 16 * 1024;

/// The feeds of a driver. Telling it of a change costs one atomic load while nobody watches.
pub struct WatchHub {
    sinks: Mutex<Option<Vec<WatchSink>>>,
    watchers: AtomicUsize,
}

impl Default for WatchHub {
    fn default() -> Self {
        WatchHub::new()
    }
}

impl WatchHub {
    /// A hub that nobody watches.
    pub const fn new() -> Self {
        WatchHub {
            sinks: Mutex::new(Some(Vec::new())),
            watchers: AtomicUsize::new(0),
        }
    }

    /// A feed of the keys that begin with `prefix`; one that has ended when the hub is closed.
    /// Whatever is reported after this call reaches it.
    pub fn subscribe(&self, prefix: &str) -> WatchFeed {
        let (sink, feed) = watch_feed(prefix, CAPACITY);
        let mut sinks = self.lock();
        if let Some(sinks) = sinks.as_mut() {
            sinks.push(sink);
            self.watchers.store(sinks.len(), Ordering::SeqCst);
        }
        feed
    }

    /// Whether anybody may be watching. Feeds that were dropped are noticed at the next change.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// Reports a key to those whom it concerns.
    pub fn changed(&self, key: &str) {
        if self.is_watched() {
            self.each(|sink| sink.changed(key));
        }
    }

    /// Tells all that changes may have been missed.
    pub fn gap(&self, reason: &'static str) {
        if self.is_watched() {
            self.each(|sink| sink.gap(reason));
        }
    }

    /// The prefixes that are watched; dropped feeds are forgotten first.
    pub fn prefixes(&self) -> Vec<String> {
        let mut prefixes = Vec::new();
        self.each(|sink| prefixes.push(sink.prefix().to_owned()));
        prefixes
    }

    /// Ends all feeds, also later ones.
    pub fn close(&self) {
        let sinks = self.lock().take();
        self.watchers.store(0, Ordering::SeqCst);
        drop(sinks);
    }

    fn each(&self, mut tell: impl FnMut(&WatchSink)) {
        let mut sinks = self.lock();
        if let Some(sinks) = sinks.as_mut() {
            sinks.retain(|sink| !sink.is_closed());
            self.watchers.store(sinks.len(), Ordering::SeqCst);
            sinks.iter().for_each(&mut tell);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<WatchSink>>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WatchHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchHub")
            .field("watchers", &self.watchers)
            .finish_non_exhaustive()
    }
}
