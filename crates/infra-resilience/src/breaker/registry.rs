//! One breaker per key, in bounded memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{MonoTime, SharedClock, SystemClock};

use super::{BreakerBuilder, CircuitBreaker};
use crate::config_error::{self as check, ConfigError};

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
    clock: SharedClock,
    capacity: usize,
    idle_after: Option<Duration>,
    slots: Mutex<Slots>,
}

/// Entries in a ring that a hand goes round (the CLOCK algorithm), and where each key is.
#[derive(Default)]
struct Slots {
    ring: Vec<Entry>,
    index: HashMap<Arc<str>, usize>,
    hand: usize,
    evicted: u64,
    overflowed: u64,
}

struct Entry {
    key: Arc<str>,
    breaker: CircuitBreaker,
    used: bool,
    last_used: MonoTime,
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

    /// Also removes breakers that nobody has asked for in this time. Each request looks at two
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
        let clock = template.clock.clone().unwrap_or_else(SystemClock::shared);
        Ok(BreakerRegistry {
            shared: Arc::new(RegistryShared {
                template,
                clock,
                capacity: self.capacity as usize,
                idle_after: self.idle_after,
                slots: Mutex::default(),
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
        let now = self.shared.clock.now();
        let mut slots = self.lock();
        if let Some(idle) = self.shared.idle_after {
            slots.evict_idle(now, idle, 2);
        }
        if let Some(breaker) = slots.find(key, now) {
            return breaker;
        }
        let key: Arc<str> = key.into();
        let breaker = self.make(&key);
        if slots.ring.len() >= self.shared.capacity && !slots.evict_one() {
            slots.overflowed += 1;
            return breaker;
        }
        slots.insert(key, breaker.clone(), now);
        breaker
    }

    /// How many breakers are kept.
    pub fn len(&self) -> usize {
        self.lock().ring.len()
    }

    /// True when no breaker is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many breakers were removed to make room or for being idle.
    pub fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    /// How many breakers were handed out without being kept, because none could make room.
    pub fn overflowed(&self) -> u64 {
        self.lock().overflowed
    }

    /// All breakers kept, in no particular order: for health, metrics and operators.
    pub fn breakers(&self) -> Vec<CircuitBreaker> {
        let slots = self.lock();
        slots.ring.iter().map(|e| e.breaker.clone()).collect()
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

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.shared
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn find(&mut self, key: &str, now: MonoTime) -> Option<CircuitBreaker> {
        let index = *self.index.get(key)?;
        let entry = self.ring.get_mut(index)?;
        (entry.used, entry.last_used) = (true, now);
        Some(entry.breaker.clone())
    }

    fn insert(&mut self, key: Arc<str>, breaker: CircuitBreaker, now: MonoTime) {
        self.index.insert(key.clone(), self.ring.len());
        self.ring.push(Entry {
            key,
            breaker,
            used: false,
            last_used: now,
        });
    }

    /// Removes the first entry that was not used since the hand last passed. Two rounds suffice:
    /// the first clears every mark.
    fn evict_one(&mut self) -> bool {
        for _ in 0..self.ring.len() * 2 {
            let hand = self.advance();
            let Some(entry) = self.ring.get_mut(hand) else {
                return false;
            };
            let used = std::mem::take(&mut entry.used);
            if !used && entry.breaker.is_forgettable() {
                self.remove(hand);
                return true;
            }
        }
        false
    }

    fn evict_idle(&mut self, now: MonoTime, idle: Duration, looks: usize) {
        for _ in 0..looks.min(self.ring.len()) {
            let hand = self.advance();
            let idle = self
                .ring
                .get(hand)
                .is_some_and(|e| now.since(e.last_used) >= idle && e.breaker.is_forgettable());
            if idle {
                self.remove(hand);
            }
        }
    }

    fn advance(&mut self) -> usize {
        let hand = if self.hand < self.ring.len() {
            self.hand
        } else {
            0
        };
        self.hand = hand + 1;
        hand
    }

    fn remove(&mut self, at: usize) {
        let gone = self.ring.swap_remove(at);
        self.index.remove(&gone.key);
        if let Some(moved) = self.ring.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
        self.evicted += 1;
    }
}

impl fmt::Debug for BreakerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerRegistry")
            .field("len", &self.len())
            .field("capacity", &self.shared.capacity)
            .finish_non_exhaustive()
    }
}
