//! What can be chosen about the memory driver.

use std::time::Duration;

use infra_core::{SharedClock, SystemClock};

/// Options of the memory driver.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    pub(crate) clock: SharedClock,
    pub(crate) sweep_interval: Duration,
}

impl MemoryOptions {
    /// The system's clock, a sweep every 100 ms.
    pub fn new() -> Self {
        MemoryOptions {
            clock: SystemClock::shared(),
            sweep_interval: Duration::from_millis(100),
        }
    }

    /// The clock that decides what has expired; a manual one in tests.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// How often the background task looks for expired values, at least 10 ms. Expired values are
    /// invisible whatever this is, and calls remove some in passing.
    #[must_use]
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval.max(Duration::from_millis(10));
        self
    }
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions::new()
    }
}
