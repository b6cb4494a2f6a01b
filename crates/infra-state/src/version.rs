//! Versions: what compare-and-swap compares.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;

/// The state of one key at the moment at which it was read, to be handed back to
/// [`StateStore::compare_and_swap`](crate::StateStore::compare_and_swap) and its like.
///
/// It belongs to its key: used on another it conflicts. What it compares is in
/// [`Capabilities::versions`](crate::Capabilities::versions). It is worth nothing after a restart
/// and cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    key: u64,
    token: VersionToken,
}

impl Version {
    pub(crate) fn new(backend_key: &str, token: VersionToken) -> Self {
        Version {
            key: fingerprint(backend_key),
            token,
        }
    }

    /// The version of the same key after a write of ours.
    pub(crate) fn followed_by(&self, token: VersionToken) -> Self {
        Version {
            key: self.key,
            token,
        }
    }

    /// True for the version of a key that held nothing.
    pub fn is_absent(&self) -> bool {
        self.token == VersionToken::Absent
    }

    /// What the driver is asked to compare; none for the version of another key.
    pub(crate) fn token_for(&self, backend_key: &str) -> Option<&VersionToken> {
        (self.key == fingerprint(backend_key)).then_some(&self.token)
    }
}

fn fingerprint(backend_key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    backend_key.hash(&mut hasher);
    hasher.finish()
}

/// A value and the version of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value; none where there is none.
    pub value: Option<T>,
    /// The version to compare with later; that of "nothing there" where there is no value.
    pub version: Version,
}

/// The stored bytes under a key, and all that is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value as it is stored; [`StateStore::decode`](crate::StateStore::decode) reads it.
    pub value: Bytes,
    /// Its version, where the backend has versions.
    pub version: Option<Version>,
    /// How long it still lives; `None` for ever.
    pub ttl: Option<Duration>,
}

/// What a driver knows of the state of a key. A change of the expiry alone does not change it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionToken {
    /// There is no value.
    Absent,
    /// The backend counts writes: `revision` is never used again for this key by the store that
    /// `origin` names.
    Revision {
        /// A random number of this store.
        origin: u64,
        /// Grows with every write of the value.
        revision: u64,
    },
    /// The stored bytes themselves, where other writers keep no count: a value that came back
    /// after having been another one looks unchanged.
    Content(Bytes),
    /// Anything else that only the driver understands.
    Opaque(Bytes),
}

/// Values do not belong into logs.
impl fmt::Debug for VersionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionToken::Absent => f.write_str("Absent"),
            VersionToken::Revision { revision, .. } => write!(f, "Revision({revision})"),
            VersionToken::Content(bytes) => write!(f, "Content({} bytes)", bytes.len()),
            VersionToken::Opaque(_) => f.write_str("Opaque"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s32_a_version_belongs_to_its_key() {
        let version = Version::new("a", VersionToken::Content("canary".into()));
        assert!(version.token_for("a").is_some());
        assert!(version.token_for("b").is_none());
        assert!(!format!("{version:?}").contains("canary"));
    }
}
