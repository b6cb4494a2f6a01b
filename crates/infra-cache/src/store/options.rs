//! What can be chosen about a cache.

use std::time::Duration;

use infra_core::{Secret, SharedClock, SystemClock};
use infra_state::StoreOptions;

use crate::policy::CachePolicy;

/// Options of a cache, and of the factory that makes one by name.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    pub(crate) name: String,
    pub(crate) policy: CachePolicy,
    pub(crate) max_bytes: u64,
    pub(crate) local_ttl: Duration,
    pub(crate) max_loads: usize,
    pub(crate) shared_loads: bool,
    pub(crate) tracking: bool,
    pub(crate) clock: SharedClock,
    pub(crate) seed: Option<u64>,
    pub(crate) url: Option<Secret>,
    pub(crate) store: StoreOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) lazy: bool,
}

impl CacheOptions {
    /// 64 MiB in this process, values that live for 5 minutes and are asked for again after 30 s,
    /// up to 10,000 loads at once; for a backend by name `redis://localhost:6379`, connected at
    /// once within 5 s, and 1 s for a call.
    pub fn new() -> Self {
        let limit = Duration::from_secs(1);
        CacheOptions {
            name: "cache".to_owned(),
            policy: CachePolicy::default(),
            max_bytes: 64 * 1024 * 1024,
            local_ttl: Duration::from_secs(30),
            max_loads: 10_000,
            shared_loads: false,
            tracking: true,
            clock: SystemClock::shared(),
            seed: None,
            url: None,
            store: StoreOptions::new().read_timeout(limit).write_timeout(limit),
            connect_timeout: Duration::from_secs(5),
            lazy: false,
        }
    }

    /// The cache's name: the namespace of its keys in the store, and what its metrics are labelled
    /// with. Caches of one name over one store share their values, in whatever processes they are.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long values live unless a call says otherwise.
    #[must_use]
    pub fn policy(mut self, policy: CachePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What the values in this process may weigh together, at least 16 KiB: each its key, its
    /// stored form, and 160 bytes. A value above a sixteenth of this is not kept in this process.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long this process serves a value without asking the backend again: what bounds the
    /// staleness when no invalidation gets through. From 1 ms to a day.
    #[must_use]
    pub fn local_ttl(mut self, ttl: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        self.local_ttl = ttl.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// How many loads and reads of the backend may be under way at once, at least 1. Beyond that
    /// calls fail as [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded).
    #[must_use]
    pub fn max_loads(mut self, loads: usize) -> Self {
        self.max_loads = loads.max(1);
        self
    }

    /// Lets one process load for all: the others wait for its value, and load themselves when it
    /// does not come within their load timeout, or when that process has died, which they know
    /// after 6 s. Needs a backend with versions. Default false: each
    /// process loads once.
    #[must_use]
    pub fn shared_loads(mut self, shared: bool) -> Self {
        self.shared_loads = shared;
        self
    }

    /// Whether to listen to the backend for keys that others change, where it can tell. Default
    /// true.
    #[must_use]
    pub fn tracking(mut self, tracking: bool) -> Self {
        self.tracking = tracking;
        self
    }

    /// The clock that decides what is stale; a manual one in tests.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes everything that is left to chance repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The server, for backends by name that have one.
    #[must_use]
    pub fn url(mut self, url: impl Into<Secret>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Deadlines and bounds of calls to a backend by name.
    #[must_use]
    pub fn store(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// The limit for one attempt to connect to a backend by name.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Connect at the first call instead of at once; then an unreachable server is no error at the
    /// start. Default false.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        CacheOptions::new()
    }
}
