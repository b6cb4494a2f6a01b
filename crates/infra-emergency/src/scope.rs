//! Whom a hold concerns, and to whom a gate belongs.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Whom a hold concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Scope {
    /// Everybody.
    #[default]
    Global,
    /// Every bot of one group: a desk, a venue, a strategy family.
    Group(Arc<str>),
    /// One bot.
    Bot(Arc<str>),
}

impl Scope {
    /// The scope of one group.
    pub fn group(name: impl AsRef<str>) -> Scope {
        Scope::Group(name.as_ref().into())
    }

    /// The scope of one bot.
    pub fn bot(name: impl AsRef<str>) -> Scope {
        Scope::Bot(name.as_ref().into())
    }

    /// Whether a hold on this scope concerns somebody who belongs to `scopes`.
    pub fn concerns(&self, scopes: &Scopes) -> bool {
        match self {
            Scope::Global => true,
            Scope::Group(name) => scopes.groups.contains(name),
            Scope::Bot(name) => scopes.bot.as_ref() == Some(name),
        }
    }
}

/// `global`, `group:<name>` or `bot:<name>`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("global"),
            Scope::Group(name) => write!(f, "group:{name}"),
            Scope::Bot(name) => write!(f, "bot:{name}"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// To whom a gate belongs: any number of groups and at most one bot; always to the whole.
///
/// ```
/// use infra_emergency::{Scope, Scopes};
///
/// let scopes = Scopes::bot("bot_001").in_group("equities");
/// assert!(Scope::Global.concerns(&scopes));
/// assert!(Scope::group("equities").concerns(&scopes));
/// assert!(!Scope::bot("bot_002").concerns(&scopes));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scopes {
    /// Sorted, without duplicates, so that equal memberships compare equal.
    groups: Vec<Arc<str>>,
    bot: Option<Arc<str>>,
}

impl Scopes {
    /// Concerned by global holds only.
    pub const fn global() -> Self {
        Scopes {
            groups: Vec::new(),
            bot: None,
        }
    }

    /// The scopes of one bot.
    pub fn bot(name: impl AsRef<str>) -> Self {
        Scopes {
            groups: Vec::new(),
            bot: Some(name.as_ref().into()),
        }
    }

    /// The scopes of one group, without a bot.
    pub fn group(name: impl AsRef<str>) -> Self {
        Scopes::global().in_group(name)
    }

    /// Adds membership of a group.
    #[must_use]
    pub fn in_group(mut self, name: impl AsRef<str>) -> Self {
        let name: Arc<str> = name.as_ref().into();
        if let Err(place) = self.groups.binary_search(&name) {
            self.groups.insert(place, name);
        }
        self
    }
}

/// `global`, or the memberships joined by `+`: `group:equities+bot:bot_001`.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.iter().map(|name| format!("group:{name}"));
        let bot = self.bot.iter().map(|name| format!("bot:{name}"));
        let all: Vec<String> = groups.chain(bot).collect();
        if all.is_empty() {
            return f.write_str("global");
        }
        f.write_str(&all.join("+"))
    }
}

impl From<&Scope> for Scopes {
    fn from(scope: &Scope) -> Self {
        match scope {
            Scope::Global => Scopes::global(),
            Scope::Group(name) => Scopes::group(name),
            Scope::Bot(name) => Scopes::bot(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_groups_does_not_matter() {
        let one = Scopes::bot("b").in_group("x").in_group("a").in_group("x");
        let two = Scopes::bot("b").in_group("a").in_group("x");
        assert_eq!(one, two);
        assert_eq!(one.to_string(), "group:a+group:x+bot:b");
        assert_eq!(Scopes::global().to_string(), "global");
    }

    #[test]
    fn a_group_and_a_bot_of_one_name_are_different() {
        assert!(!Scope::group("x").concerns(&Scopes::bot("x")));
        assert!(!Scope::bot("x").concerns(&Scopes::group("x")));
    }
}
