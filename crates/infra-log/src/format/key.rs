//! Keys, and which of them are the library's own.

use super::schema::Names;

const RENAMED: &str = "field.";

/// The keys that are the library's own. A user's field of the same key is renamed.
#[derive(Debug)]
pub(crate) struct Reserved {
    keys: Vec<&'static str>,
    /// Bit n: there is a key of n bytes. Most other keys are let through by this alone.
    lengths: u64,
}

impl Reserved {
    pub(super) fn new(names: &Names) -> Self {
        let keys: Vec<_> = names.keys().collect();
        let lengths = keys
            .iter()
            .fold(0, |bits, key| bits | 1 << (key.len() & 63));
        Reserved { keys, lengths }
    }

    fn has(&self, key: &str) -> bool {
        self.lengths & 1 << (key.len() & 63) != 0 && self.keys.contains(&key)
    }
}

/// A key in its parts, so that renaming costs no allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(super) prefix: &'static str,
    pub(super) name: &'a str,
    pub(super) suffix: &'static str,
}

impl<'a> Key<'a> {
    /// The key of a user's field.
    pub(crate) fn of(reserved: &Reserved, name: &'a str, suffix: &'static str) -> Self {
        let reserved = suffix.is_empty() && reserved.has(name);
        Key {
            prefix: if reserved { RENAMED } else { "" },
            name,
            suffix,
        }
    }

    /// A key of the library's own.
    pub(super) fn own(name: &'static str) -> Self {
        Key {
            prefix: "",
            name,
            suffix: "",
        }
    }

    pub(super) fn is_renamed(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// What the key is put together from.
    pub(super) fn parts(&self) -> [&'a str; 3] {
        [self.prefix, self.name, self.suffix]
    }

    fn is_plain(&self) -> bool {
        self.prefix.is_empty() && self.suffix.is_empty()
    }

    pub(super) fn same(&self, other: &Key<'_>) -> bool {
        if self.is_plain() && other.is_plain() {
            return self.name == other.name;
        }
        let mine = self.parts().into_iter().flat_map(str::bytes);
        mine.eq(other.parts().into_iter().flat_map(str::bytes))
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.prefix, self.name, self.suffix)
    }
}
