//! Holds: who stopped what, and why.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use infra_core::MonoTime;
use serde::{Serialize, Serializer};

use crate::level::Level;
use crate::scope::Scope;

/// The longest name, actor or group that is kept, in characters.
pub(crate) const MAX_NAME: usize = 128;
/// The longest reason that is kept, in characters.
pub(crate) const MAX_REASON: usize = 1024;

/// Names one raise of one hold: `<name>#<number>`.
///
/// The number differs for each raise, so whoever clears an id clears exactly what they have seen:
/// the same name raised again in the meantime is another id and survives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId {
    name: Arc<str>,
    number: u64,
}

impl HoldId {
    pub(crate) fn new(name: Arc<str>, number: u64) -> Self {
        HoldId { name, number }
    }

    /// The name that was given with [`Hold::id`], or `hold`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.number)
    }
}

/// Text that is no [`HoldId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hold id; `<name>#<number>` is expected, as listed by `holds()`")]
pub struct InvalidHoldId;

impl FromStr for HoldId {
    type Err = InvalidHoldId;

    fn from_str(text: &str) -> Result<Self, InvalidHoldId> {
        let (name, number) = text.trim().rsplit_once('#').ok_or(InvalidHoldId)?;
        let number = number.parse().map_err(|_| InvalidHoldId)?;
        if name.is_empty() {
            return Err(InvalidHoldId);
        }
        Ok(HoldId::new(name.into(), number))
    }
}

impl Serialize for HoldId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A wish to stop something, given to [`raise`](crate::EmergencyController::raise).
///
/// Nothing in it can make a raise fail: a missing actor or reason is recorded as such, an overlong
/// one is cut, control characters are replaced.
#[derive(Debug, Clone)]
#[must_use = "a hold does nothing until it is raised"]
pub struct Hold {
    pub(crate) level: Level,
    pub(crate) scope: Scope,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) actor: Option<Arc<str>>,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) origin: Origin,
}

/// Which call made a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// `raise`.
    Raise,
    /// `set_level`, which may also lower it again.
    SetLevel,
}

impl Hold {
    /// A global hold.
    pub fn new(level: Level) -> Self {
        Hold {
            level,
            scope: Scope::Global,
            name: None,
            actor: None,
            reason: None,
            origin: Origin::Raise,
        }
    }

    /// Whom it concerns; everybody by default.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// A name of one's own, so that raising again what is already raised changes nothing.
    pub fn id(mut self, name: impl AsRef<str>) -> Self {
        // '#' separates the number in the printed form.
        self.name = clean(&name.as_ref().replace('#', "_"), MAX_NAME);
        self
    }

    /// Who raises it: a person, or the component that saw the danger.
    pub fn actor(mut self, actor: impl AsRef<str>) -> Self {
        self.actor = clean(actor.as_ref(), MAX_NAME);
        self
    }

    /// Why.
    pub fn reason(mut self, reason: impl AsRef<str>) -> Self {
        self.reason = clean(reason.as_ref(), MAX_REASON);
        self
    }

    pub(crate) fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

/// A hold in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ActiveHold {
    /// Needed to clear it.
    pub id: HoldId,
    /// Whom it concerns.
    pub scope: Scope,
    /// How severe.
    pub level: Level,
    /// Who raised it.
    pub actor: Arc<str>,
    /// Why.
    pub reason: Arc<str>,
    /// Which call made it.
    pub origin: Origin,
    /// When, on this process's monotonic clock.
    #[serde(skip)]
    pub since: MonoTime,
    /// When, on the wall clock: for people, never for decisions. Milliseconds since 1970 in JSON.
    #[serde(serialize_with = "unix_millis")]
    pub raised_at: SystemTime,
}

impl fmt::Display for ActiveHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ActiveHold {
            id, scope, level, ..
        } = self;
        write!(
            f,
            "{id} {level} on {scope} by {}: {}",
            self.actor, self.reason
        )
    }
}

/// A wish to end holds, given to [`clear`](crate::EmergencyController::clear).
///
/// Needs the ids of the holds it has seen, an actor and a reason.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is cleared until this is given to `clear`"]
pub struct Clear {
    pub(crate) ids: Vec<HoldId>,
    pub(crate) actor: Option<Arc<str>>,
    pub(crate) reason: Option<Arc<str>>,
}

impl Clear {
    /// Clears these holds, and no other.
    pub fn ids(ids: impl IntoIterator<Item = HoldId>) -> Self {
        Clear {
            ids: ids.into_iter().collect(),
            ..Clear::default()
        }
    }

    /// Clears one hold.
    pub fn id(id: HoldId) -> Self {
        Clear::ids([id])
    }

    /// Who clears.
    pub fn actor(mut self, actor: impl AsRef<str>) -> Self {
        self.actor = clean(actor.as_ref(), MAX_NAME);
        self
    }

    /// Why it is safe to go on.
    pub fn reason(mut self, reason: impl AsRef<str>) -> Self {
        self.reason = clean(reason.as_ref(), MAX_REASON);
        self
    }
}

/// The text without surrounding blanks, control characters replaced, cut at `limit` characters;
/// `None` when nothing is left.
pub(crate) fn clean(text: &str, limit: usize) -> Option<Arc<str>> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let mut kept: String = text
        .chars()
        .take(limit)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(limit).is_some() {
        kept.push('…');
    }
    Some(kept.into())
}

/// Serialises a wall-clock time as milliseconds since 1970.
pub(crate) fn unix_millis<S: Serializer>(
    at: &SystemTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_ids_survive_the_way_through_text() {
        let id = HoldId::new("loss-limit".into(), 7);
        assert_eq!(id.to_string(), "loss-limit#7");
        assert_eq!("loss-limit#7".parse(), Ok(id));
        for wrong in ["", "loss-limit", "#7", "x#", "x#-1"] {
            assert_eq!(wrong.parse::<HoldId>(), Err(InvalidHoldId), "{wrong:?}");
        }
    }

    #[test]
    fn texts_are_cleaned_and_cut() {
        assert_eq!(clean(" \n ", 9), None);
        assert_eq!(clean("a\nb", 9).as_deref(), Some("a b"));
        assert_eq!(clean("abcdef", 3).as_deref(), Some("abc…"));
        let named = Hold::new(Level::Halt).id("a#1");
        assert_eq!(named.name.as_deref(), Some("a_1"));
    }
}
