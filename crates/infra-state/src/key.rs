//! Keys and namespaces.
//!
//! The key that a backend sees is `name/name:key`: the names of the namespaces joined by `/`, a
//! `:`, and the key untouched. In a name the characters `:`, `/` and `%`, and control characters,
//! are written as `%3A` and so on, so the first `:` always ends the names: no two pairs of
//! namespace and key ever meet in one backend key, and `redis-cli` shows readable ones. Without a
//! namespace the backend key is the key itself.

use std::borrow::Cow;

use crate::driver::DriverError;
use crate::error::ErrorKind;

/// The longest key in bytes, its namespace included.
pub const MAX_KEY_BYTES: usize = 1024;

/// The part of a backend key that comes from namespaces; empty without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    prefix: String,
    /// The longest backend key in bytes.
    longest: usize,
}

impl Default for Namespace {
    fn default() -> Self {
        Namespace::root(MAX_KEY_BYTES)
    }
}

impl Namespace {
    /// No namespace, for keys of up to so many bytes.
    pub(crate) fn root(longest: usize) -> Self {
        Namespace {
            prefix: String::new(),
            longest: longest.min(MAX_KEY_BYTES),
        }
    }

    /// What the backend keys begin with.
    pub(crate) fn as_str(&self) -> &str {
        &self.prefix
    }

    /// The namespace `name` inside of this one.
    pub(crate) fn within(&self, name: &str) -> Namespace {
        let mut prefix = self
            .prefix
            .strip_suffix(':')
            .map_or_else(String::new, |outer| {
                let mut outer = outer.to_owned();
                outer.push('/');
                outer
            });
        for character in name.chars() {
            if matches!(character, ':' | '/' | '%') || character.is_control() {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    prefix.push_str(&format!("%{byte:02X}"));
                }
            } else {
                prefix.push(character);
            }
        }
        prefix.push(':');
        Namespace {
            prefix,
            longest: self.longest,
        }
    }

    /// The backend key of `key`, checked.
    pub(crate) fn key<'a>(&self, key: &'a str) -> Result<Cow<'a, str>, DriverError> {
        if key.is_empty() {
            return Err(invalid("the key is empty".to_owned()));
        }
        self.join(key)
    }

    /// What the backend keys of all keys with this prefix begin with, checked; `prefix` may be
    /// empty.
    pub(crate) fn prefix<'a>(&self, prefix: &'a str) -> Result<Cow<'a, str>, DriverError> {
        self.join(prefix)
    }

    /// The key of a backend key of this namespace.
    pub(crate) fn strip<'a>(&self, backend_key: &'a str) -> Option<&'a str> {
        backend_key.strip_prefix(self.prefix.as_str())
    }

    pub(crate) fn is_root(&self) -> bool {
        self.prefix.is_empty()
    }

    fn join<'a>(&self, key: &'a str) -> Result<Cow<'a, str>, DriverError> {
        let length = self.prefix.len() + key.len();
        let longest = self.longest;
        if length > longest {
            return Err(invalid(format!(
                "the key has {length} bytes with its namespace, {longest} are allowed"
            )));
        }
        if has_control(key) {
            return Err(invalid("the key holds a control character".to_owned()));
        }
        if self.is_root() {
            return Ok(Cow::Borrowed(key));
        }
        let mut joined = String::with_capacity(length);
        joined.push_str(&self.prefix);
        joined.push_str(key);
        Ok(Cow::Owned(joined))
    }
}

/// Most keys are plain ASCII, for which a look at the bytes is enough.
fn has_control(key: &str) -> bool {
    let plain = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    !plain && key.chars().any(char::is_control)
}

fn invalid(message: String) -> DriverError {
    DriverError::new(ErrorKind::InvalidKey, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend_key(names: &[&str], key: &str) -> String {
        let mut namespace = Namespace::default();
        for name in names {
            namespace = namespace.within(name);
        }
        namespace.key(key).unwrap().into_owned()
    }

    #[test]
    fn s44_no_two_pairs_of_namespace_and_key_meet() {
        let pairs: &[(&[&str], &str)] = &[
            (&["a"], "b:c"),
            (&["a:b"], "c"),
            (&["a", "b"], "c"),
            (&["a/b"], "c"),
            (&["a%2Fb"], "c"),
            (&["a"], "/b:c"),
            (&[""], "a:c"),
            (&["", "a"], "c"),
            (&["a", ""], "c"),
            (&["a"], "c"),
            (&["a\n"], "c"),
        ];
        let keys: std::collections::BTreeSet<_> = pairs
            .iter()
            .map(|(names, key)| backend_key(names, key))
            .collect();
        assert_eq!(keys.len(), pairs.len(), "{keys:?}");
        assert_eq!(backend_key(&["bots", "alpha"], "pos:1"), "bots/alpha:pos:1");
        assert_eq!(backend_key(&["a:b"], "c"), "a%3Ab:c");
    }

    #[test]
    fn s04_bad_keys_are_refused() {
        let root = Namespace::default();
        for key in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(1025)] {
            assert_eq!(root.key(key).unwrap_err().kind(), ErrorKind::InvalidKey);
        }
        assert!(root.key(&"x".repeat(1024)).is_ok());
        assert!(root.within("n").key(&"x".repeat(1023)).is_err());
        assert!(root.prefix("").is_ok());
    }
}
