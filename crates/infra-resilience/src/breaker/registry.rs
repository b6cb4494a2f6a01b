//! One breaker per key, in bounded memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::DirectClock;

use super::{BreakerBuilder, CircuitBreaker};
use crate::config_error::{self as check, ConfigError};
use crate::keyed::{Keep, Keyed};

const DEFAULT_CAPACITY: u32 = 10_000;

/// Breakers by key, all with the same settings. Clones share one registry.
///
/// When it is full, a breaker that has not been asked for lately makes room. One that is open,
/// half-open, under an operator's mode or held by anybody is never removed; if all are, a new key
/// gets a breaker that the registry does not keep, counted in
/// [`overflowed`](BreakerRegistry::overflowed).
///
/// ```
/// use infra_resilience::{BreakerRegistry, CircuitBreaker};
///
/// # fn main() -> Result<(), infra_resilience::ConfigError> {
/// let settings = CircuitBreaker::builder("").consecutive_failures(5);
/// let breakers = BreakerRegistry::builder(settings).capacity(1_000).build()?;
/// assert_eq!(breakers.get("node-7").name(), "node-7");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BreakerRegistry {
    shared: Arc<RegistryShared>,
}

struct RegistryShared {
    template: BreakerBuilder,
    clock: DirectClock,
    keyed: Keyed<CircuitBreaker>,
}

impl Keep for CircuitBreaker {
    fn is_forgettable(&self) -> bool {
        self.is_alone_and_closed()
    }
}

/// The settings of a [`BreakerRegistry`].
#[derive(Debug, Clone)]
pub struct RegistryBuilder {
    template: BreakerBuilder,
    capacity: u32,
    idle_after: Option<Duration>,
}

impl RegistryBuilder {
    /// How many breakers are kept, 1 or more; 10,000 unless set.
    #[must_use]
    pub fn capacity(mut self, breakers: u32) -> Self {
        self.capacity = breakers;
        self
    }

    /// Also removes breakers that nobody has asked for in this time. Each request looks at four
    /// entries, so the work never comes in bursts.
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle_after = Some(idle);
        self
    }

    /// Checks the settings, those of the breakers as well.
    ///
    /// # Errors
    /// [`ConfigError`] where a setting cannot work.
    pub fn build(self) -> Result<BreakerRegistry, ConfigError> {
        check::count("capacity", self.capacity, u32::MAX)?;
        if let Some(idle) = self.idle_after {
            check::positive("idle_after", idle)?;
        }
        let mut template = self.template;
        template.config = template.config.checked()?;
        let clock = template.clock.clone().unwrap_or_else(DirectClock::system);
        Ok(BreakerRegistry {
            shared: Arc::new(RegistryShared {
                keyed: Keyed::new(clock.clone(), self.capacity, self.idle_after),
                template,
                clock,
            }),
        })
    }
}

impl BreakerRegistry {
    /// A registry whose breakers are built from `template`, each named by its key. The template's
    /// own name is not used.
    pub fn builder(template: BreakerBuilder) -> RegistryBuilder {
        RegistryBuilder {
            template,
            capacity: DEFAULT_CAPACITY,
            idle_after: None,
        }
    }

    /// The breaker of `key`, made if there is none. Two callers get the same one.
    pub fn get(&self, key: &str) -> CircuitBreaker {
        self.shared.keyed.get(key, |key| self.make(key))
    }

    /// How many breakers are kept.
    pub fn len(&self) -> usize {
        self.shared.keyed.counts().len
    }

    /// True when no breaker is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many breakers were removed to make room or for being idle.
    pub fn evicted(&self) -> u64 {
        self.shared.keyed.counts().evicted
    }

    /// How many breakers were handed out without being kept, because none could make room.
    pub fn overflowed(&self) -> u64 {
        self.shared.keyed.counts().overflowed
    }

    /// All breakers kept, in no particular order: for health, metrics and operators.
    pub fn breakers(&self) -> Vec<CircuitBreaker> {
        self.shared.keyed.values()
    }

    fn make(&self, key: &Arc<str>) -> CircuitBreaker {
        let template = &self.shared.template;
        CircuitBreaker::from_checked(
            key.clone(),
            template.config.clone(),
            self.shared.clock.clone(),
            template.listener.clone(),
        )
    }
}

impl fmt::Debug for BreakerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerRegistry")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
