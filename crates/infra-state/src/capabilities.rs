//! What a backend can do.

use std::time::Duration;

/// What a backend can do, known at start-up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What readers and crashes can see of a `set_many`.
    pub set_many: Atomicity,
    /// Whether other processes see the same data.
    pub shared: bool,
    /// The unit to which times to live are rounded up.
    pub ttl_resolution: Duration,
    /// The backend's own limit for one value in bytes; the store's option may be lower.
    pub max_value_bytes: usize,
}

impl Capabilities {
    /// A backend within one process: atomic, not shared, milliseconds, no limit.
    pub const fn new() -> Self {
        Capabilities {
            set_many: Atomicity::Atomic,
            shared: false,
            ttl_resolution: Duration::from_millis(1),
            max_value_bytes: usize::MAX,
        }
    }

    /// Sets [`Capabilities::set_many`].
    #[must_use]
    pub const fn with_set_many(mut self, atomicity: Atomicity) -> Self {
        self.set_many = atomicity;
        self
    }

    /// Sets [`Capabilities::shared`].
    #[must_use]
    pub const fn with_shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Sets [`Capabilities::max_value_bytes`].
    #[must_use]
    pub const fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities::new()
    }
}

/// What can be seen of a call that writes several keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Atomicity {
    /// All or nothing, and nobody sees a part of it.
    Atomic,
    /// Each key by itself: others may see a part, and a failure may leave one.
    PerKey,
}
