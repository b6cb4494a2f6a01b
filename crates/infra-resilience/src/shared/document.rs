//! What operators have decided, as it lies in the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::breaker::Mode;

/// How long the release of a breaker stays written down: processes that were away for longer
/// begin anew anyway.
const RELEASES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most breakers with a decision.
pub(super) const MAX_OVERRIDES: usize = 1_000;

/// What an operator decided for a breaker in all processes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetOverride {
    /// The mode; [`Mode::Auto`] after a release.
    pub mode: Mode,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, by the clock of the process that wrote it.
    pub at: SystemTime,
}

/// The value of the one key: decisions by the name of their breaker.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Document(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// As [`Mode::as_str`] writes it.
    mode: String,
    actor: String,
    reason: String,
    at_ms: u64,
}

impl Document {
    /// Adds a decision, and forgets releases of long ago. False where there are too many.
    pub(super) fn decide(&mut self, breaker: &str, decided: &FleetOverride) -> bool {
        let oldest = millis(decided.at).saturating_sub(RELEASES_KEPT.as_millis() as u64);
        let auto = Mode::Auto.as_str();
        self.0
            .retain(|_, entry| entry.mode != auto || entry.at_ms >= oldest);
        let entry = Entry {
            mode: decided.mode.as_str().to_owned(),
            actor: decided.actor.clone(),
            reason: decided.reason.clone(),
            at_ms: millis(decided.at),
        };
        self.0.insert(breaker.to_owned(), entry);
        self.0.len() <= MAX_OVERRIDES
    }

    /// All decisions; `None` for one of a mode that this version does not know.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (&str, Option<FleetOverride>)> {
        self.0.iter().map(|(name, entry)| (&**name, entry.read()))
    }
}

impl Entry {
    fn read(&self) -> Option<FleetOverride> {
        let modes = [
            Mode::Auto,
            Mode::Isolated,
            Mode::Disabled,
            Mode::MetricsOnly,
        ];
        let mode = modes.into_iter().find(|mode| mode.as_str() == self.mode)?;
        Some(FleetOverride {
            mode,
            actor: self.actor.clone(),
            reason: self.reason.clone(),
            at: UNIX_EPOCH.checked_add(Duration::from_millis(self.at_ms))?,
        })
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(mode: Mode, day: u64) -> FleetOverride {
        FleetOverride {
            mode,
            actor: "alice".into(),
            reason: "maintenance".into(),
            at: UNIX_EPOCH + Duration::from_secs(day * 24 * 60 * 60),
        }
    }

    #[test]
    fn every_mode_survives_the_store() {
        let mut document = Document::default();
        let modes = [
            Mode::Auto,
            Mode::Isolated,
            Mode::Disabled,
            Mode::MetricsOnly,
        ];
        for mode in modes {
            assert!(document.decide(mode.as_str(), &decided(mode, 20_000)));
        }
        let text = serde_json::to_string(&document).unwrap();
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(read.decisions().count(), modes.len());
        for (name, decision) in read.decisions() {
            let decision = decision.unwrap();
            assert_eq!(decision, decided(decision.mode, 20_000));
            assert_eq!(name, decision.mode.as_str());
        }
    }

    #[test]
    fn a_mode_of_a_later_version_is_no_decision() {
        let text = r#"{"b":{"mode":"sideways","actor":"a","reason":"r","at_ms":1}}"#;
        let read: Document = serde_json::from_str(text).unwrap();
        assert_eq!(read.decisions().next(), Some(("b", None)));
    }

    #[test]
    fn releases_are_forgotten_after_a_week_and_nothing_else_is() {
        let mut document = Document::default();
        document.decide("released", &decided(Mode::Auto, 1));
        document.decide("isolated", &decided(Mode::Isolated, 1));
        document.decide("other", &decided(Mode::Auto, 8));
        assert_eq!(document.decisions().count(), 3);
        document.decide("other", &decided(Mode::Auto, 9));
        let names: Vec<&str> = document.decisions().map(|(name, _)| name).collect();
        assert_eq!(names, ["isolated", "other"]);
    }

    #[test]
    fn there_is_a_bound() {
        let mut document = Document::default();
        for n in 0..MAX_OVERRIDES {
            assert!(document.decide(&n.to_string(), &decided(Mode::Isolated, 1)));
        }
        assert!(!document.decide("one more", &decided(Mode::Isolated, 1)));
    }
}
