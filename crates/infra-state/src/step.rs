//! The parts of a transaction, as a driver gets them.

use bytes::Bytes;

use crate::driver::Expiry;
use crate::version::VersionToken;

/// One key of a transaction: what must be true of it, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The backend key; each comes once in a transaction.
    pub key: &'a str,
    /// What must be true for anything to be written at all.
    pub expect: Expect<'a>,
    /// What becomes of the key.
    pub action: Action<'a>,
}

/// A condition on a key.
#[derive(Debug, Clone, Copy)]
pub enum Expect<'a> {
    /// None.
    Anything,
    /// There is a value.
    Present,
    /// The key has this version; [`VersionToken::Absent`]: there is no value.
    Version(&'a VersionToken),
}

/// What a transaction does to a key.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Nothing.
    Check,
    /// Stores a value.
    Put {
        /// The value.
        value: &'a Bytes,
        /// What becomes of the expiry.
        expiry: Expiry,
    },
    /// Removes the value; nothing to remove is fine.
    Delete,
}

impl Expect<'_> {
    /// Whether a key with this version fulfils the condition.
    pub fn holds(&self, found: &VersionToken) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Present => *found != VersionToken::Absent,
            Expect::Version(expected) => *expected == found,
        }
    }
}
