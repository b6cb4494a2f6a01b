//! What a backend can do.

use std::fmt;
use std::time::Duration;

use crate::key::MAX_KEY_BYTES;

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
    /// The longest backend key in bytes, its namespace included; 1,024 at most.
    pub max_key_bytes: usize,
    /// What compare-and-swap compares.
    pub versions: Versions,
    /// The most keys of one transaction; 0 where there are no transactions.
    pub max_transaction_ops: usize,
    /// Whether the keys of a transaction must lie in one slot of a cluster: those with the same
    /// hash tag do, the text between the first `{` and the next `}`.
    pub one_slot_transactions: bool,
    /// Whether changes of keys can be watched.
    pub watch: bool,
}

impl Capabilities {
    /// A backend within one process: atomic, not shared, milliseconds, no limit; without versions,
    /// transactions and watching.
    pub const fn new() -> Self {
        Capabilities {
            set_many: Atomicity::Atomic,
            shared: false,
            ttl_resolution: Duration::from_millis(1),
            max_value_bytes: usize::MAX,
            max_key_bytes: MAX_KEY_BYTES,
            versions: Versions::None,
            max_transaction_ops: 0,
            one_slot_transactions: false,
            watch: false,
        }
    }

    /// Sets [`Capabilities::versions`] and [`Capabilities::max_transaction_ops`].
    #[must_use]
    pub const fn with_transactions(mut self, versions: Versions, max_ops: usize) -> Self {
        self.versions = versions;
        self.max_transaction_ops = max_ops;
        self
    }

    /// Sets [`Capabilities::one_slot_transactions`].
    #[must_use]
    pub const fn with_one_slot_transactions(mut self, one_slot: bool) -> Self {
        self.one_slot_transactions = one_slot;
        self
    }

    /// Sets [`Capabilities::watch`].
    #[must_use]
    pub const fn with_watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Whether the backend can do this.
    pub fn can(&self, requirement: Requirement) -> bool {
        match requirement {
            Requirement::Shared => self.shared,
            Requirement::AtomicSetMany => self.set_many == Atomicity::Atomic,
            Requirement::Versions => self.versions != Versions::None,
            Requirement::Revisions => self.versions == Versions::Revision,
            Requirement::Transactions => self.max_transaction_ops > 1,
            Requirement::TransactionsOfAnyKeys => {
                self.max_transaction_ops > 1 && !self.one_slot_transactions
            }
            Requirement::Watch => self.watch,
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

    /// Sets [`Capabilities::max_key_bytes`].
    #[must_use]
    pub const fn with_max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
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

/// What compare-and-swap compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Versions {
    /// Nothing: there is no compare-and-swap.
    None,
    /// A count of writes: a value that was changed and changed back is another version.
    Revision,
    /// The stored bytes, so that writers of any kind are seen, also those that know nothing of
    /// versions; a value that was changed and changed back is the same version.
    Content,
}

/// What a program cannot do without, for [`StoreOptions::requires`](crate::StoreOptions::requires).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// Other processes see the same data.
    Shared,
    /// Nobody sees a part of a `set_many`.
    AtomicSetMany,
    /// Compare-and-swap.
    Versions,
    /// Compare-and-swap that notices a value that was changed and changed back.
    Revisions,
    /// Transactions over several keys; in a cluster those of one slot.
    Transactions,
    /// Transactions over several keys, whichever they are.
    TransactionsOfAnyKeys,
    /// Watching keys.
    Watch,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Requirement::Shared => "data that other processes see",
            Requirement::AtomicSetMany => "an atomic set_many",
            Requirement::Versions => "compare-and-swap",
            Requirement::Revisions => "compare-and-swap by revision",
            Requirement::Transactions => "transactions",
            Requirement::TransactionsOfAnyKeys => "transactions over any keys",
            Requirement::Watch => "watching keys",
        })
    }
}
