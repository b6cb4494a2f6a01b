//! The settings of a shared rate limiter.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use infra_core::{SharedClock, SystemClock};

use super::cells::Cells;
use super::exchange::{Exchange, WallClock};
use super::ledger::Ledger;
use super::limiter::{Listener, Shared, SharedLimitSignal, SharedRateLimiter};
use super::store::SharedStore;
use crate::config_error::{self as check, ConfigError};
use crate::telemetry::Count;

const MAX_LIMIT: u32 = 1_000_000;

/// The settings of a [`SharedRateLimiter`]. [`rate`](Self::rate) and
/// [`expected_processes`](Self::expected_processes) must be set.
#[derive(Clone)]
pub struct SharedRateLimiterBuilder {
    name: Arc<str>,
    store: Arc<dyn SharedStore>,
    rate: Option<(u32, Duration)>,
    burst: u32,
    processes: Option<u32>,
    batch: u32,
    ask_again: Duration,
    store_timeout: Duration,
    queue: u32,
    clock: SharedClock,
    wall: WallClock,
    listener: Option<Listener>,
}

impl SharedRateLimiterBuilder {
    pub(super) fn new(name: Arc<str>, store: Arc<dyn SharedStore>) -> Self {
        SharedRateLimiterBuilder {
            name,
            store,
            rate: None,
            burst: 1,
            processes: None,
            batch: 16,
            ask_again: Duration::from_secs(1),
            store_timeout: Duration::from_millis(250),
            queue: 1_024,
            clock: SystemClock::shared(),
            wall: Arc::new(SystemTime::now),
            listener: None,
        }
    }

    /// `limit` units per `period`, by all processes together, evenly spread; 1 to 1,000,000.
    #[must_use]
    pub fn rate(mut self, limit: u32, period: Duration) -> Self {
        self.rate = Some((limit, period));
        self
    }

    /// How many units may pass at once after a pause, 1 to 1,000,000; 1 unless set. No call may
    /// weigh more.
    #[must_use]
    pub fn burst(mut self, units: u32) -> Self {
        self.burst = units;
        self
    }

    /// Among how many processes the rate is divided while the store is away. More processes than
    /// this then exceed the limit together.
    #[must_use]
    pub fn expected_processes(mut self, processes: u32) -> Self {
        self.processes = Some(processes);
        self
    }

    /// The most units that a process takes at a time, 1 or more, and no more than the burst; 16
    /// unless set. With 1 the store is asked for every call, and the order of calls between
    /// processes is exact.
    #[must_use]
    pub fn batch(mut self, units: u32) -> Self {
        self.batch = units;
        self
    }

    /// How long a process goes on with its share before it asks the store again; 1 s unless set.
    #[must_use]
    pub fn ask_again(mut self, wait: Duration) -> Self {
        self.ask_again = wait;
        self
    }

    /// How long one question to the store may take before the store counts as away; 250 ms unless
    /// set.
    #[must_use]
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit;
        self
    }

    /// How many calls may wait; 1,024 unless set.
    #[must_use]
    pub fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// The clock on which the processes agree; the system's unless set.
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall = Arc::new(now);
        self
    }

    /// Calls `listener` when the store goes away and when it is back. A panic in it is contained.
    #[must_use]
    pub fn on_signal(
        mut self,
        listener: impl Fn(&SharedLimitSignal<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Checks the settings and builds the limiter. The store is not asked yet.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that is missing or cannot work, or for a store without
    /// compare-and-swap.
    pub fn build(self) -> Result<SharedRateLimiter, ConfigError> {
        let missing = |setting| ConfigError::new(setting, "is not set");
        let (limit, period) = self.rate.ok_or_else(|| missing("rate"))?;
        let processes = self
            .processes
            .ok_or_else(|| missing("expected_processes"))?;
        check::count("rate", limit, MAX_LIMIT)?;
        check::positive("rate", period)?;
        check::count("burst", self.burst, MAX_LIMIT)?;
        check::count("expected_processes", processes, MAX_LIMIT)?;
        check::count("batch", self.batch, MAX_LIMIT)?;
        check::positive("ask_again", self.ask_again)?;
        check::positive("store_timeout", self.store_timeout)?;
        if let Some(why) = self.store.unfit() {
            return Err(ConfigError::new("store", why));
        }
        let cells = Cells::new(limit, period, self.burst);
        let shared = Shared {
            exchange: Exchange::new(self.store, &self.name, cells, self.wall),
            ledger: Mutex::new(Ledger::new(cells, processes, self.batch, self.ask_again)),
            name: self.name,
            cells,
            clock: self.clock,
            store_timeout: self.store_timeout,
            listener: self.listener,
            asking: tokio::sync::Mutex::new(None),
            first: tokio::sync::Mutex::new(()),
            waiting: AtomicU32::new(0),
            queue: self.queue,
            rejected: Count::new(),
        };
        Ok(SharedRateLimiter::over(shared))
    }
}

impl fmt::Debug for SharedRateLimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimiterBuilder")
            .field("name", &self.name)
            .field("rate", &self.rate)
            .field("burst", &self.burst)
            .field("expected_processes", &self.processes)
            .finish_non_exhaustive()
    }
}
