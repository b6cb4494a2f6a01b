//! What a component says about itself.

use std::fmt;
use std::time::Duration;

use crate::BoxFuture;

/// How well a component works; later variants are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthStatus {
    /// Works.
    Up,
    /// Not known, for instance not asked yet.
    Unknown,
    /// Works with less than it should have.
    Degraded,
    /// Does not work.
    Down,
}

impl HealthStatus {
    /// The word used in reports: `up`, `unknown`, `degraded`, `down`.
    pub const fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Up => "up",
            HealthStatus::Unknown => "unknown",
            HealthStatus::Degraded => "degraded",
            HealthStatus::Down => "down",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One answer of one component. Never holds a secret or a stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// How well it works.
    pub status: HealthStatus,
    /// One line for a person, where there is something to say.
    pub detail: Option<String>,
    /// How long the component took to answer, where it was asked.
    pub latency: Option<Duration>,
}

impl Health {
    /// An answer with `status` alone.
    pub const fn new(status: HealthStatus) -> Self {
        Health {
            status,
            detail: None,
            latency: None,
        }
    }

    /// The component works.
    pub const fn up() -> Self {
        Health::new(HealthStatus::Up)
    }

    /// The component does not work, and why.
    pub fn down(detail: impl Into<String>) -> Self {
        Health::new(HealthStatus::Down).detail(detail)
    }

    /// The component works with less than it should have, and why.
    pub fn degraded(detail: impl Into<String>) -> Self {
        Health::new(HealthStatus::Degraded).detail(detail)
    }

    /// Adds a line for a person.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds how long the answer took.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }
}

/// Something that can be asked whether it works.
pub trait HealthCheck: Send + Sync {
    /// The name under which the answer is reported; unique within a process.
    fn name(&self) -> &str;

    /// Asks. Must be cancel safe: callers bound the time.
    fn check(&self) -> BoxFuture<'_, Health>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_states_compare_greater() {
        use HealthStatus::*;
        assert!(Up < Unknown && Unknown < Degraded && Degraded < Down);
        assert_eq!([Up, Down, Degraded].into_iter().max(), Some(Down));
    }
}
