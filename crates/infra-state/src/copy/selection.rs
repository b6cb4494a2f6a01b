//! Which keys are moved.

/// Keys that begin with this after their namespace belong to this crate.
const RESERVED: char = '~';
/// And these are its leases.
const LEASE: &str = "~lease:";

/// What is left out.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    caches: Vec<String>,
}

/// What a key is to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Data,
    Lease,
    LeftOut,
}

impl Default for Selection {
    fn default() -> Self {
        Selection::new(vec!["cache".to_owned()])
    }
}

impl Selection {
    pub(super) fn new(caches: Vec<String>) -> Self {
        Selection { caches }
    }

    pub(super) fn role(&self, key: &str) -> Role {
        let (namespace, rest) = match key.split_once(':') {
            Some((namespace, rest)) if !key.starts_with(RESERVED) => (Some(namespace), rest),
            _ => (None, key),
        };
        let innermost = namespace.map(|names| names.rsplit('/').next().unwrap_or(names));
        if rest.starts_with(LEASE) {
            Role::Lease
        } else if rest.starts_with(RESERVED) || innermost.is_some_and(|name| self.is_cache(name)) {
            Role::LeftOut
        } else {
            Role::Data
        }
    }

    fn is_cache(&self, name: &str) -> bool {
        self.caches.iter().any(|cache| cache == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_leases_reserved_keys_and_caches_are_told_apart() {
        let selection = Selection::default();
        for (key, role) in [
            ("position", Role::Data),
            ("bots/alpha:position", Role::Data),
            ("cached:x", Role::Data),
            ("bots:cache:x", Role::Data),
            ("~lease:leader", Role::Lease),
            ("bots/alpha:~lease:leader", Role::Lease),
            ("~other", Role::LeftOut),
            ("bots:~other:x", Role::LeftOut),
            ("cache:AAPL", Role::LeftOut),
            ("bots/cache:AAPL", Role::LeftOut),
        ] {
            assert_eq!(selection.role(key), role, "{key}");
        }
        let none = Selection::new(Vec::new());
        assert_eq!(none.role("cache:AAPL"), Role::Data);
    }
}
