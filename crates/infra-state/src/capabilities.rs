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
    /// What an acknowledged write has reached.
    pub acknowledged: Acknowledged,
    /// Whether `get`, `get_many`, `exists` and `ttl` may answer from before the last write,
    /// because a replica is asked. Reads with a version, `get_entry`, `scan`, watches and leases
    /// never do.
    pub stale_reads: bool,
}

impl Capabilities {
    /// A backend within one process: atomic, not shared, milliseconds, no limit, current reads,
    /// writes accepted into memory; without versions, transactions and watching.
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
            acknowledged: Acknowledged::Accepted,
            stale_reads: false,
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

    /// Sets [`Capabilities::acknowledged`].
    #[must_use]
    pub const fn with_acknowledged(mut self, level: Acknowledged) -> Self {
        self.acknowledged = level;
        self
    }

    /// Sets [`Capabilities::stale_reads`].
    #[must_use]
    pub const fn with_stale_reads(mut self, stale: bool) -> Self {
        self.stale_reads = stale;
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
            Requirement::Acknowledged(level) => self.acknowledged.includes(level),
            Requirement::CurrentReads => !self.stale_reads,
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

/// What a write has reached when it is acknowledged. Fewer failures take it back from one to the
/// next; no level makes a replicated server a consensus system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acknowledged {
    /// The memory of the backend: the process, or the primary server. Its crash may take the
    /// write back.
    Accepted,
    /// The memory of so many replicas too. A failover to one that was behind may take it back.
    Replicated(u8),
    /// The disk of the backend, synced: the write survives its crash, and a power cut if the disk
    /// keeps its word. A failover to a replica may still take it back.
    Fsynced,
}

impl Acknowledged {
    /// Whether what has reached this level has reached `wanted` too. A disk is no replica, nor the
    /// other way round.
    pub const fn includes(self, wanted: Acknowledged) -> bool {
        match (self, wanted) {
            (_, Acknowledged::Accepted) | (Acknowledged::Fsynced, Acknowledged::Fsynced) => true,
            (Acknowledged::Replicated(reached), Acknowledged::Replicated(wanted)) => {
                reached >= wanted
            }
            _ => false,
        }
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Acknowledged::Accepted => f.write_str("accepted into memory"),
            Acknowledged::Replicated(replicas) => write!(f, "in the memory of {replicas} replicas"),
            Acknowledged::Fsynced => f.write_str("synced to the disk"),
        }
    }
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
    /// Writes that are acknowledged only when they have reached this.
    Acknowledged(Acknowledged),
    /// Reads that see every write acknowledged before.
    CurrentReads,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Requirement::Acknowledged(level) => return write!(f, "writes that are {level}"),
            Requirement::CurrentReads => "reads that see every earlier write",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_includes_lower_ones_of_its_kind() {
        use Acknowledged::{Accepted, Fsynced, Replicated};
        for (reached, wanted) in [
            (Accepted, Accepted),
            (Replicated(1), Accepted),
            (Fsynced, Accepted),
            (Replicated(2), Replicated(1)),
            (Fsynced, Fsynced),
        ] {
            let can = Capabilities::new().with_acknowledged(reached);
            assert!(
                can.can(Requirement::Acknowledged(wanted)),
                "{reached} {wanted}"
            );
        }
        for (reached, wanted) in [
            (Accepted, Replicated(1)),
            (Replicated(1), Replicated(2)),
            (Fsynced, Replicated(1)),
            (Replicated(9), Fsynced),
        ] {
            let can = Capabilities::new().with_acknowledged(reached);
            assert!(
                !can.can(Requirement::Acknowledged(wanted)),
                "{reached} {wanted}"
            );
        }
        let stale = Capabilities::new().with_stale_reads(true);
        assert!(!stale.can(Requirement::CurrentReads));
    }
}
