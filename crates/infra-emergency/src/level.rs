//! How severe it is, and what may still be done.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How severe the situation is. Ordered as numbers: `Normal < Alert < Halt < Shutdown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Level {
    /// Everything is allowed.
    #[default]
    Normal = 0,
    /// Everything is allowed and announced: watch closely.
    Alert = 1,
    /// No new exposure: open positions may be reduced, orders cancelled.
    Halt = 2,
    /// Nothing but cancelling and looking.
    Shutdown = 3,
}

impl Level {
    /// All levels, the least severe first.
    pub const ALL: [Level; 4] = [Level::Normal, Level::Alert, Level::Halt, Level::Shutdown];

    /// The word used in settings, logs and events: `normal`, `alert`, `halt`, `shutdown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Normal => "normal",
            Level::Alert => "alert",
            Level::Halt => "halt",
            Level::Shutdown => "shutdown",
        }
    }

    /// Reads a level as the safe side does: text that is no level means [`Level::Halt`].
    ///
    /// For text that comes from a store or another process. For an operator's input use
    /// [`FromStr`], which tells them about the mistake.
    pub fn parse_or_halt(text: &str) -> Level {
        text.parse().unwrap_or(Level::Halt)
    }

    /// Whether `action` may be started at this level.
    ///
    /// | level | new | increase | reduce | cancel | query |
    /// |---|---|---|---|---|---|
    /// | normal, alert | yes | yes | yes | yes | yes |
    /// | halt | no | no | yes | yes | yes |
    /// | shutdown | no | no | no | yes | yes |
    #[inline]
    pub const fn admits(self, action: Action) -> bool {
        match action {
            Action::New | Action::Increase => (self as u8) < Level::Halt as u8,
            Action::Reduce => (self as u8) < Level::Shutdown as u8,
            Action::Cancel | Action::Query => true,
        }
    }

    /// The level stored as `number`; a number that is no level reads as [`Level::Halt`].
    #[inline]
    pub(crate) const fn from_number(number: u8) -> Level {
        match number {
            0 => Level::Normal,
            1 => Level::Alert,
            3 => Level::Shutdown,
            _ => Level::Halt,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Text that names no [`Level`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an emergency level; one of normal, alert, halt, shutdown is expected")]
pub struct UnknownLevel;

/// Accepts the four words in any case, with blanks around them.
impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let word = text.trim();
        Level::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(word))
            .ok_or(UnknownLevel)
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Unknown text reads as [`Level::Halt`]: a message that cannot be understood must not open a gate.
impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Level::parse_or_halt(&text))
    }
}

/// What somebody wants to do to the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Open a position, send a new order.
    New,
    /// Add to a position.
    Increase,
    /// Make a position smaller, never larger or reversed.
    Reduce,
    /// Cancel an order.
    Cancel,
    /// Look without changing anything.
    Query,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 5] = [
        Action::New,
        Action::Increase,
        Action::Reduce,
        Action::Cancel,
        Action::Query,
    ];

    /// The word used in logs and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::New => "new",
            Action::Increase => "increase",
            Action::Reduce => "reduce",
            Action::Cancel => "cancel",
            Action::Query => "query",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e01_levels_are_ordered_as_numbers_and_not_as_words() {
        use Level::*;
        assert!(Normal < Alert && Alert < Halt && Halt < Shutdown);
        assert!("halt" < "normal", "words sort the other way round");
        assert!(Halt > Normal);
    }

    #[test]
    fn e01_unknown_level_text_reads_as_halt() {
        for (text, level) in [
            ("normal", Level::Normal),
            (" ALERT\n", Level::Alert),
            ("Shutdown", Level::Shutdown),
            ("", Level::Halt),
            ("nromal", Level::Halt),
            ("0", Level::Halt),
        ] {
            assert_eq!(Level::parse_or_halt(text), level, "{text:?}");
        }
        assert_eq!("none".parse::<Level>(), Err(UnknownLevel));
        let read: Level = serde_json::from_str(r#""whatever""#).unwrap();
        assert_eq!(read, Level::Halt);
        assert_eq!(Level::from_number(77), Level::Halt);
    }

    #[test]
    fn e04_each_level_admits_its_actions() {
        let table = [
            (Level::Normal, [true, true, true, true, true]),
            (Level::Alert, [true, true, true, true, true]),
            (Level::Halt, [false, false, true, true, true]),
            (Level::Shutdown, [false, false, false, true, true]),
        ];
        for (level, expected) in table {
            let admitted = Action::ALL.map(|action| level.admits(action));
            assert_eq!(admitted, expected, "{level}");
        }
    }

    #[test]
    fn numbers_survive_the_way_through_an_atomic() {
        for level in Level::ALL {
            assert_eq!(Level::from_number(level as u8), level);
        }
    }
}
