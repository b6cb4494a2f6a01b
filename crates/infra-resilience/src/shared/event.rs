//! What a process tells of the decisions that it follows.

use std::sync::Arc;
use std::time::Duration;

use super::document::FleetOverride;

pub(super) type Listener = Arc<dyn Fn(&FleetEvent<'_>) + Send + Sync>;

/// What [`FleetOverrides`](super::FleetOverrides) tells its listener. Each is logged as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetEvent<'a> {
    /// A decision that is new to this process was applied to the breakers of this name.
    Applied {
        /// The breaker's name.
        breaker: &'a str,
        /// What was decided.
        decision: &'a FleetOverride,
    },
    /// The decision on a breaker is of a kind that this program does not know: the last one stays.
    Unreadable {
        /// The breaker's name.
        breaker: &'a str,
    },
    /// The decisions cannot be read: the last ones stay.
    StoreLost {
        /// What is wrong, for a person.
        cause: &'a str,
    },
    /// They can be read again.
    StoreBack,
}

/// How well a process follows the decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStatus {
    /// False while the decisions cannot be read.
    pub store_reachable: bool,
    /// How long ago they were read last; none before the first time.
    pub age: Option<Duration>,
    /// How often reading has failed.
    pub failures: u64,
    /// How many breakers a decision other than a release is in force for.
    pub in_force: usize,
}

impl FleetEvent<'_> {
    /// Writes one log line. The messages are the names under which it is searched.
    pub(super) fn log(&self) {
        match self {
            FleetEvent::Applied { breaker, decision } => tracing::warn!(
                breaker,
                mode = decision.mode.as_str(),
                actor = decision.actor,
                reason = decision.reason,
                "circuit_breaker_override_applied"
            ),
            FleetEvent::Unreadable { breaker } => {
                tracing::warn!(breaker, "circuit_breaker_override_unreadable");
            }
            FleetEvent::StoreLost { cause } => {
                tracing::warn!(cause, "circuit_breaker_overrides_lost");
            }
            FleetEvent::StoreBack => tracing::info!("circuit_breaker_overrides_back"),
        }
    }
}
