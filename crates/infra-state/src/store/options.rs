//! Options of a store, and of the factory that makes one by name.

use std::path::PathBuf;
use std::time::Duration;

use infra_core::Secret;

use crate::capabilities::{Acknowledged, Requirement};
use crate::codec::Encoding;
#[cfg(feature = "file")]
use crate::file::FileOptions;
use crate::layer::Layers;
use crate::memory::MemoryOptions;

/// What the portable handle adds to a driver: deadlines and bounds.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) bulk_timeout: Duration,
    pub(crate) max_value_bytes: usize,
    pub(crate) max_scan_keys: usize,
    pub(crate) update_attempts: u32,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) encoding: Encoding,
}

impl StoreOptions {
    /// 2 s for a read or a write, 10 s for calls over many keys and a page of a scan, values up
    /// to 16 MiB, scans up to 10 million keys, 100 attempts of an update, nothing required.
    pub const fn new() -> Self {
        StoreOptions {
            read_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(2),
            bulk_timeout: Duration::from_secs(10),
            max_value_bytes: 16 * 1024 * 1024,
            max_scan_keys: 10_000_000,
            update_attempts: 100,
            requirements: Vec::new(),
            encoding: Encoding::Json,
        }
    }

    /// The deadline of `get`, `exists`, `ttl` and `ping`. From 1 ms to a day.
    #[must_use]
    pub const fn read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = bounded(limit);
        self
    }

    /// The deadline of calls that write one key. From 1 ms to a day.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = bounded(limit);
        self
    }

    /// The deadline of calls over many keys, and of each page of a scan. From 1 ms to a day.
    #[must_use]
    pub const fn bulk_timeout(mut self, limit: Duration) -> Self {
        self.bulk_timeout = bounded(limit);
        self
    }

    /// The largest encoded value in bytes. One large value holds up every caller of a shared
    /// connection.
    #[must_use]
    pub const fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The most keys one scan returns where repetitions must be found; it costs 8 bytes a key.
    /// Beyond that the scan fails.
    #[must_use]
    pub const fn max_scan_keys(mut self, keys: usize) -> Self {
        self.max_scan_keys = keys;
        self
    }

    /// How often [`StateStore::update`](crate::StateStore::update) tries before it fails as
    /// [`ErrorKind::Contended`](crate::ErrorKind::Contended). At least 1; default 100.
    #[must_use]
    pub const fn update_attempts(mut self, attempts: u32) -> Self {
        self.update_attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// The form of typed values. Default JSON.
    #[must_use]
    pub const fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What the program cannot do without. A backend that cannot do it is an error when the store
    /// is made, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), not at the first call
    /// that needs it.
    #[must_use]
    pub fn requires(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions::new()
    }
}

/// From 1 ms to a day: a call without an end is what deadlines are there to prevent.
const fn bounded(limit: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    if limit.as_nanos() < 1_000_000 {
        Duration::from_millis(1)
    } else if limit.as_nanos() > DAY.as_nanos() {
        DAY
    } else {
        limit
    }
}

/// What [`create_state_store`](crate::create_state_store) needs; each backend reads what concerns
/// it.
#[derive(Debug, Clone)]
pub struct StateOptions {
    pub(crate) url: Option<Secret>,
    pub(crate) store: StoreOptions,
    pub(crate) layers: Layers,
    pub(crate) memory: MemoryOptions,
    pub(crate) path: Option<PathBuf>,
    #[cfg(feature = "file")]
    pub(crate) file: FileOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) lazy: bool,
    pub(crate) client_name: Option<String>,
    pub(crate) acknowledge: Option<Acknowledged>,
    pub(crate) read_from_replicas: bool,
}

impl StateOptions {
    /// The defaults: `redis://localhost:6379` for Redis, connected at once, within 5 s.
    pub fn new() -> Self {
        StateOptions {
            url: None,
            store: StoreOptions::new(),
            layers: Layers::new(),
            memory: MemoryOptions::new(),
            path: None,
            #[cfg(feature = "file")]
            file: FileOptions::new(),
            connect_timeout: Duration::from_secs(5),
            lazy: false,
            client_name: None,
            acknowledge: None,
            read_from_replicas: false,
        }
    }

    /// The server, for backends that have one.
    #[must_use]
    pub fn url(mut self, url: impl Into<Secret>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Deadlines and bounds.
    #[must_use]
    pub fn store(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// Layers around the driver, whichever it is: limits, tracing, retry, encryption and others.
    /// None by default.
    #[must_use]
    pub fn layers(mut self, layers: Layers) -> Self {
        self.layers = layers;
        self
    }

    /// Options of the memory driver.
    #[must_use]
    pub fn memory(mut self, options: MemoryOptions) -> Self {
        self.memory = options;
        self
    }

    /// The file of the file driver, which needs one; created where there is none.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Options of the file driver.
    #[cfg(feature = "file")]
    #[must_use]
    pub fn file(mut self, options: FileOptions) -> Self {
        self.file = options;
        self
    }

    /// The limit for one attempt to connect. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Connect at the first call instead of at once; then an unreachable server is no error at
    /// the start. Default false.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// What a write must have reached before it is acknowledged; on Redis also `ack=` in the URL.
    /// Default: what the URL says, else what the backend does by itself. A backend that cannot do
    /// it is an error when the store is made, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported);
    /// a write that misses the level in time one of
    /// [`ErrorKind::Unacknowledged`](crate::ErrorKind::Unacknowledged), which says what was reached.
    ///
    /// On Redis such writes have connections of their own, and share the confirmations: many
    /// callers at once cost about as many of them as one.
    #[must_use]
    pub fn acknowledge(mut self, level: Acknowledged) -> Self {
        self.acknowledge = Some(level);
        self.store = self.store.requires(Requirement::Acknowledged(level));
        self
    }

    /// Lets replicas of the Redis server answer `get`, `get_many`, `exists` and `ttl`. What they
    /// answer may be older than the last write, also one of this process; see
    /// [`Capabilities::stale_reads`](crate::Capabilities::stale_reads). Where no replica is in touch
    /// with its primary, that is asked. The replicas are those that the primary, or the cluster,
    /// names; where their names lead nowhere from here, use `map=` in the URL, or of one server
    /// `read=host:port,host:port`. Default false.
    #[must_use]
    pub fn read_from_replicas(mut self, read: bool) -> Self {
        self.read_from_replicas = read;
        self
    }

    /// The name under which the server lists the connection.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }
}

impl Default for StateOptions {
    fn default() -> Self {
        StateOptions::new()
    }
}
