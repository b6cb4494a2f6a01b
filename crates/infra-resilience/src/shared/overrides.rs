//! Operators' decisions on breakers, in every process of a fleet.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use infra_core::{MonoTime, SharedClock, SystemClock};

use super::document::{Document, FleetOverride, MAX_OVERRIDES};
use super::error::FleetError;
use super::event::{FleetEvent, FleetStatus, Listener};
use super::store::{SharedChanges, SharedStore, SharedStoreError, SharedValue};
use crate::breaker::{BreakerRegistry, CircuitBreaker, Mode};
use crate::config_error::{self as check, ConfigError};

/// All decisions lie under this one key, so that reading them is one call.
const KEY: &str = "breaker-overrides";
/// How often a decision is written again because another operator was faster.
const ATTEMPTS: u32 = 64;
/// The most breakers and registries that one process registers.
const MAX_REGISTERED: usize = 10_000;

/// Lets operators isolate, disable or release a breaker in all processes at once. Clones share one
/// state.
///
/// Breakers are known by their names; their statistics and automatic states stay their own. The
/// decisions are one JSON object under the key `breaker-overrides`, which each process reads every
/// [`poll_interval`](FleetOverridesBuilder::poll_interval) and, where the store can be watched, as
/// soon as it changes. So a decision is in force everywhere within the interval and the time of
/// one read.
///
/// - A decision outranks what is set in one process: what was changed there is changed back.
/// - A release gives the breaker back to its automatic state. A breaker on which nobody decided is
///   left alone, also where its own process has isolated it.
/// - While the store is away, the last decision that was read stays. So does it when the key is
///   gone: losing data is no release.
#[derive(Clone)]
pub struct FleetOverrides {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn SharedStore>,
    poll_interval: Duration,
    clock: SharedClock,
    listener: Option<Listener>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breakers: Vec<CircuitBreaker>,
    registries: Vec<BreakerRegistry>,
    known: BTreeMap<Arc<str>, FleetOverride>,
    last_read: Option<MonoTime>,
    failures: u64,
    away: bool,
}

/// The settings of [`FleetOverrides`].
#[derive(Clone)]
pub struct FleetOverridesBuilder {
    store: Arc<dyn SharedStore>,
    poll_interval: Duration,
    clock: SharedClock,
    listener: Option<Listener>,
}

impl FleetOverridesBuilder {
    /// How often the decisions are read at the least; 1 s unless set.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// The clock to wait on; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Calls `listener` for every event, outside of any lock. A panic in it is contained.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&FleetEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Checks the settings. The store is not asked yet.
    ///
    /// # Errors
    /// [`ConfigError`] for an interval of zero, or for a store without compare-and-swap.
    pub fn build(self) -> Result<FleetOverrides, ConfigError> {
        check::positive("poll_interval", self.poll_interval)?;
        if let Some(why) = self.store.unfit() {
            return Err(ConfigError::new("store", why));
        }
        Ok(FleetOverrides {
            shared: Arc::new(Shared {
                store: self.store,
                poll_interval: self.poll_interval,
                clock: self.clock,
                listener: self.listener,
                state: Mutex::default(),
            }),
        })
    }
}

impl FleetOverrides {
    /// Starts the settings. Processes that share a store, or a namespace of one, are a fleet.
    pub fn builder(store: impl SharedStore) -> FleetOverridesBuilder {
        FleetOverridesBuilder {
            store: Arc::new(store),
            poll_interval: Duration::from_secs(1),
            clock: SystemClock::shared(),
            listener: None,
        }
    }

    /// Lets the breaker follow the decisions on its name, those included that were read before.
    ///
    /// # Errors
    /// [`ConfigError`] for more than 10,000 breakers and registries.
    pub fn register(&self, breaker: &CircuitBreaker) -> Result<(), ConfigError> {
        let decision = {
            let mut state = self.shared.state();
            state.check_room()?;
            state.breakers.push(breaker.clone());
            state.known.get(breaker.name()).cloned()
        };
        if let Some(decision) = decision.filter(|decision| decision.mode != Mode::Auto) {
            breaker.set_mode(decision.mode);
        }
        Ok(())
    }

    /// Lets the breakers of a registry follow, also those that it makes later: from the next read
    /// on.
    ///
    /// # Errors
    /// [`ConfigError`] for more than 10,000 breakers and registries.
    pub fn register_all(&self, registry: &BreakerRegistry) -> Result<(), ConfigError> {
        let mut state = self.shared.state();
        state.check_room()?;
        state.registries.push(registry.clone());
        Ok(())
    }

    /// Lets nothing pass the breakers of this name, in any process, until they are released.
    ///
    /// # Errors
    /// As [`set_mode`](Self::set_mode).
    pub async fn isolate(&self, name: &str, actor: &str, why: &str) -> Result<(), FleetError> {
        self.set_mode(name, Mode::Isolated, actor, why).await
    }

    /// Gives the breakers of this name back to their automatic states, in every process.
    ///
    /// # Errors
    /// As [`set_mode`](Self::set_mode).
    pub async fn release(&self, name: &str, actor: &str, why: &str) -> Result<(), FleetError> {
        self.set_mode(name, Mode::Auto, actor, why).await
    }

    /// Writes a decision down for all processes, and applies it in this one. Of two decisions on
    /// one breaker the later counts.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] without a name, an actor or a reason, and for more than 1,000
    /// breakers; [`FleetError::Store`] where it could not be written. After a timeout its outcome
    /// is unknown, and repeating the decision is harmless. Nothing is applied then.
    pub async fn set_mode(
        &self,
        name: &str,
        mode: Mode,
        actor: &str,
        why: &str,
    ) -> Result<(), FleetError> {
        for (what, text) in [("breaker", name), ("actor", actor), ("reason", why)] {
            if text.trim().is_empty() {
                return Err(FleetError::Invalid(format!("the {what} is empty")));
            }
        }
        let decision = FleetOverride {
            mode,
            actor: actor.to_owned(),
            reason: why.to_owned(),
            at: SystemTime::now(),
        };
        self.shared.write(name, &decision).await?;
        self.shared.apply(name, &decision);
        Ok(())
    }

    /// Reads the decisions once and applies what is new.
    ///
    /// # Errors
    /// Where they cannot be read: the last ones stay in force.
    pub async fn refresh(&self) -> Result<(), SharedStoreError> {
        let shared = &*self.shared;
        let read = shared.read().await;
        shared.note(read.as_ref().err());
        let (document, _) = read?;
        for (name, decision) in document.decisions() {
            match decision {
                Some(decision) => shared.apply(name, &decision),
                None => shared.tell(&FleetEvent::Unreadable { breaker: name }),
            }
        }
        Ok(())
    }

    /// Follows the decisions until the store is closed. Spawn it once in each process; dropping it
    /// ends the following and changes no breaker.
    pub async fn run(self) {
        let shared = &*self.shared;
        let mut changes = None;
        loop {
            // Before reading, so that nothing is missed in between.
            if changes.is_none() {
                changes = shared.store.changes(KEY).await.ok().flatten();
            }
            if let Err(error) = self.refresh().await
                && error.is_closed()
            {
                return;
            }
            if !shared.wait(changes.as_deref_mut()).await {
                changes = None;
            }
        }
    }

    /// The decisions that are in force in this process, by the name of their breaker.
    pub fn decisions(&self) -> Vec<(Arc<str>, FleetOverride)> {
        let state = self.shared.state();
        let known = state.known.iter();
        known
            .map(|(name, decision)| (name.clone(), decision.clone()))
            .collect()
    }

    /// How well this process follows.
    pub fn status(&self) -> FleetStatus {
        let now = self.shared.clock.now();
        let state = self.shared.state();
        let in_force = state.known.values().filter(|d| d.mode != Mode::Auto);
        FleetStatus {
            store_reachable: !state.away,
            age: state.last_read.map(|at| now.since(at)),
            failures: state.failures,
            in_force: in_force.count(),
        }
    }
}

impl Shared {
    /// All decisions, and what they were read from.
    async fn read(&self) -> Result<(Document, SharedValue), SharedStoreError> {
        let value = self.store.read(KEY).await?;
        let document = match &value.bytes {
            None => Document::default(),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|_| SharedStoreError::permanent("what is stored are no decisions"))?,
        };
        Ok((document, value))
    }

    /// Adds a decision to those of the others.
    async fn write(&self, name: &str, decision: &FleetOverride) -> Result<(), FleetError> {
        for _ in 0..ATTEMPTS {
            let (mut document, read) = self.read().await.map_err(FleetError::Store)?;
            if !document.decide(name, decision) {
                let message = format!("{MAX_OVERRIDES} breakers have a decision already");
                return Err(FleetError::Invalid(message));
            }
            let value = serde_json::to_vec(&document)
                .map_err(|error| FleetError::Invalid(error.to_string()))?;
            let swap = self.store.swap(KEY, &read.version, value, None);
            if swap.await.map_err(FleetError::Store)?.is_some() {
                return Ok(());
            }
        }
        Err(FleetError::Contended)
    }

    /// Waits for the next poll or for a change, whichever is first. False where no change will be
    /// reported any more.
    async fn wait(&self, changes: Option<&mut (dyn SharedChanges + 'static)>) -> bool {
        let mut poll = pin!(self.clock.sleep(self.poll_interval));
        let Some(changes) = changes else {
            poll.await;
            return false;
        };
        let reported = poll_fn(|cx| match changes.poll_change(cx) {
            Poll::Ready(reported) => Poll::Ready(reported),
            Poll::Pending => poll.as_mut().poll(cx).map(|()| true),
        })
        .await;
        if !reported {
            poll.await;
        }
        reported
    }

    /// Notes whether the decisions could be read, and tells when that changes.
    fn note(&self, error: Option<&SharedStoreError>) {
        let now = self.clock.now();
        let changed = {
            let mut state = self.state();
            match error {
                None => state.last_read = Some(now),
                Some(_) => state.failures += 1,
            }
            std::mem::replace(&mut state.away, error.is_some()) != error.is_some()
        };
        match error {
            _ if !changed => {}
            None => self.tell(&FleetEvent::StoreBack),
            Some(error) => self.tell(&FleetEvent::StoreLost {
                cause: &error.to_string(),
            }),
        }
    }

    /// Puts a decision in force: once where it is a release, and again and again where it is not.
    fn apply(&self, name: &str, decision: &FleetOverride) {
        let (known, breakers) = {
            let mut state = self.state();
            let known = state.known.insert(name.into(), decision.clone());
            (known, state.named(name))
        };
        let is_new = known.as_ref() != Some(decision);
        let released = decision.mode == Mode::Auto;
        let was_held = known.is_some_and(|known| known.mode != Mode::Auto);
        for breaker in &breakers {
            let due = if released { is_new && was_held } else { true };
            if due && breaker.mode() != decision.mode {
                breaker.set_mode(decision.mode);
            }
        }
        if is_new {
            let breaker = name;
            self.tell(&FleetEvent::Applied { breaker, decision });
        }
    }

    fn tell(&self, event: &FleetEvent<'_>) {
        event.log();
        if let Some(listener) = &self.listener {
            // A listener that panics harms nobody else; there is nobody to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_room(&self) -> Result<(), ConfigError> {
        if self.breakers.len() + self.registries.len() < MAX_REGISTERED {
            return Ok(());
        }
        let message = format!("{MAX_REGISTERED} breakers and registries are registered already");
        Err(ConfigError::new("register", message))
    }

    /// The breakers of this name.
    fn named(&self, name: &str) -> Vec<CircuitBreaker> {
        let made = self.registries.iter().flat_map(BreakerRegistry::breakers);
        let all = self.breakers.iter().cloned().chain(made);
        all.filter(|breaker| breaker.name() == name).collect()
    }
}

impl fmt::Debug for FleetOverridesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetOverridesBuilder")
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FleetOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetOverrides")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
