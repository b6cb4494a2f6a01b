//! From settings to a breaker.

use std::fmt;
use std::sync::Arc;

use infra_core::{DirectClock, SharedClock};

use super::CircuitBreaker;
use super::config::BreakerConfig;
use super::core::BreakerCore;
use super::event::{BreakerEvent, Listener};
use crate::config_error::ConfigError;

/// The settings of one breaker: those of [`BreakerConfig`], its name, clock and listener.
#[derive(Clone)]
pub struct BreakerBuilder {
    pub(super) name: String,
    pub(super) config: BreakerConfig,
    pub(super) clock: Option<DirectClock>,
    pub(super) listener: Option<Listener>,
}

impl BreakerBuilder {
    pub(super) fn new(name: String) -> Self {
        BreakerBuilder {
            name,
            config: BreakerConfig::default(),
            clock: None,
            listener: None,
        }
    }

    /// Replaces all settings of [`BreakerConfig`] at once.
    #[must_use]
    pub fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// The clock to live by; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock.into());
        self
    }

    /// Calls `listener` for every event, in order, outside of any lock. It may call the breaker.
    /// A panic in it is contained and counted.
    #[must_use]
    pub fn on_event(
        mut self,
        listener: impl Fn(&BreakerEvent<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Checks the settings and builds the breaker, closed.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and its value where one cannot work.
    pub fn build(self) -> Result<CircuitBreaker, ConfigError> {
        let core = BreakerCore::new(self.config)?;
        let clock = self.clock.unwrap_or_else(DirectClock::system);
        Ok(CircuitBreaker::new(self.name, core, clock, self.listener).reported())
    }
}

impl fmt::Debug for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerBuilder")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
