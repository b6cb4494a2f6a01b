//! What all handles, flights and listeners of one cache share.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::{MonoTime, SharedClock};
use infra_state::StateStore;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::coarse::Coarse;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::{Answer, Flights, Found};
use crate::freshness::{Age, Freshness, Times};
use crate::generations::Ticket;
use crate::invalidation::{Invalidation, Link};
use crate::near::{Entry, Near, Slot};
use crate::policy::CachePolicy;
use crate::random::Random;
use crate::stats::{CacheStats, Counters};
use crate::store::CacheOptions;
use crate::waiters::Waiters;

pub(crate) struct Core {
    pub(crate) name: String,
    pub(crate) policy: CachePolicy,
    pub(crate) near: Near,
    pub(crate) flights: Arc<Flights>,
    /// None where this process is all there is.
    pub(crate) backend: Option<Backend>,
    /// Checks keys, encodes and decodes. With a backend its store, else one that holds nothing.
    pub(crate) codec: StateStore,
    pub(crate) clock: SharedClock,
    coarse: Coarse,
    pub(crate) random: Random,
    pub(crate) counters: Counters,
    pub(crate) shared_loads: bool,
    pub(crate) links: Mutex<Vec<Arc<Link>>>,
    /// Whether the backend is telling what others change.
    pub(crate) tracking: AtomicBool,
    local_ttl: Duration,
    /// The usual time of a load in nanoseconds, for values that somebody else loaded.
    load_time: AtomicU64,
    closing: watch::Sender<bool>,
}

/// What the near cache knows of a key.
pub(crate) enum Look<T> {
    /// To be served.
    Fresh(Arc<T>),
    /// To be served, and renewed if `renew`.
    Due {
        value: Arc<T>,
        freshness: Freshness,
        renew: Option<MonoTime>,
    },
    /// The source has none.
    Nothing,
    /// The backend has none.
    Missing,
    /// Not known; the value is for when nothing better can be had.
    Unknown(Option<Arc<T>>),
}

impl Core {
    pub(crate) fn new(
        options: &CacheOptions,
        codec: StateStore,
        backend: Option<StateStore>,
    ) -> Self {
        let random = Random::new(options.seed);
        // Two caches with one seed are still two.
        let instance = Random::new(None).number();
        Core {
            name: options.name.clone(),
            policy: options.policy,
            near: Near::new(options.max_bytes),
            flights: Flights::new(options.max_loads),
            backend: backend.map(|store| Backend::new(store, instance)),
            codec,
            clock: options.clock.clone(),
            coarse: Coarse::of(&options.clock),
            random,
            counters: Counters::default(),
            shared_loads: options.shared_loads,
            links: Mutex::default(),
            tracking: AtomicBool::new(false),
            local_ttl: options.local_ttl,
            load_time: AtomicU64::new(0),
            closing: watch::Sender::new(false),
        }
    }

    pub(crate) fn look<T: Send + Sync + 'static>(&self, key: &str) -> Look<T> {
        let Some(entry) = self.near.get(key) else {
            return Look::Unknown(None);
        };
        if self.coarse.is_surely_before(entry.times.calm_until)
            && self.near.trusts(&entry)
            && let Slot::Value(value) = entry.slot
        {
            return match value.downcast::<T>() {
                Ok(value) => Look::Fresh(value),
                Err(_) => Look::Unknown(None),
            };
        }
        self.look_closer(entry)
    }

    #[inline(never)]
    fn look_closer<T: Send + Sync + 'static>(&self, entry: Entry) -> Look<T> {
        let now = self.clock.now();
        let age = match self.near.trusts(&entry) {
            true => entry.times.age(now, || self.random.unit()),
            false => entry.times.leftover(now),
        };
        let value = match (entry.slot, age) {
            (_, Age::Gone) | (Slot::Nothing | Slot::Missing, Age::Expired) => {
                return Look::Unknown(None);
            }
            (Slot::Nothing, _) => return Look::Nothing,
            (Slot::Missing, _) => return Look::Missing,
            (Slot::Value(value), _) => value.downcast::<T>(),
        };
        let (Ok(value), due) = (value, now >= entry.quiet_until) else {
            return Look::Unknown(None);
        };
        let renew = due.then_some(entry.times.expires);
        match age {
            Age::Early => Look::Due {
                value,
                freshness: Freshness::Fresh,
                renew,
            },
            Age::Stale => Look::Due {
                value,
                freshness: Freshness::Stale,
                renew,
            },
            Age::Expired => Look::Unknown(Some(value)),
            Age::Fresh | Age::Gone => Look::Fresh(value),
        }
    }

    /// The points in the life of a value of this key that the backend keeps for `left`.
    pub(crate) fn times(
        &self,
        key: &str,
        left: Option<Duration>,
        policy: &CachePolicy,
        load_time: Option<Duration>,
    ) -> Times {
        let usual = || Duration::from_nanos(self.load_time.load(Ordering::Relaxed));
        // Nobody else can change what only this process has.
        let local = self.backend.is_some().then_some(self.local_ttl);
        let load_time = load_time.unwrap_or_else(usual);
        let whole = policy.life_of(key);
        Times::new(self.clock.now(), left, whole, policy, local, load_time)
    }

    /// Keeps "there is none", where the policy says so.
    pub(crate) fn remember_nothing(
        &self,
        key: &Arc<str>,
        slot: Slot,
        policy: &CachePolicy,
        ticket: &Ticket,
    ) {
        if let Some(ttl) = policy.negative_ttl {
            let times = Times::only(self.clock.now(), ttl);
            self.near
                .insert(key, Entry::new(key, slot, 0, times), ticket);
        }
    }

    /// Lets the usual time of a load follow the last ones.
    pub(crate) fn note_load_time(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let moved = |usual: u64| match usual {
            0 => took,
            usual => usual - usual / 8 + took / 8,
        };
        let _ = self
            .load_time
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |usual| {
                Some(moved(usual))
            });
    }

    /// Waits for a flight, at most for `limit`.
    pub(crate) async fn wait(
        &self,
        operation: &'static str,
        key: &Arc<str>,
        waiters: Arc<Waiters>,
        limit: Duration,
    ) -> Answer {
        let Some(answer) = waiters.wait(&self.clock, limit).await else {
            let message = format!("no answer within {limit:?}; the load goes on");
            return Err(Error::of_key(ErrorKind::Timeout, operation, key, message));
        };
        answer.unwrap_or_else(|| Err(panicked(operation, key)))
    }

    /// Refuses keys that the store would refuse, and everything after `close`.
    pub(crate) fn check(&self, operation: &'static str, key: &str) -> Result<()> {
        self.check_open(operation)?;
        let checked = self.codec.absent_version(key);
        checked
            .map(drop)
            .map_err(|error| Error::store(operation, error))
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        match *self.closing.borrow() {
            true => Err(closed(operation)),
            false => Ok(()),
        }
    }

    /// Completes when the cache is closed or its last handle dropped.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender is part of `self`.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// Ends all tasks; whether this was the first call.
    pub(crate) fn shut(&self) -> bool {
        let first = !self.closing.send_replace(true);
        if first {
            self.near.forget_prefix("");
            let links = std::mem::take(&mut *self.links());
            drop(links);
        }
        first
    }

    /// Takes note of an invalidation that was made or heard of.
    pub(crate) fn invalidated(&self, what: &Invalidation) {
        self.counters.invalidations.add();
        match what {
            Invalidation::Key(key) => drop(self.near.forget(key)),
            Invalidation::Prefix(prefix) => drop(self.near.forget_prefix(prefix)),
            Invalidation::All => drop(self.near.forget_prefix("")),
        }
    }

    /// An invalidation may have been missed.
    pub(crate) fn distrust(&self) {
        self.counters.flushes.add();
        self.near.distrust();
    }

    pub(crate) fn links(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats = self.counters.snapshot();
        stats.evictions = self.near.evictions();
        stats.bypassed = self.near.bypassed();
        stats.entries = self.near.len();
        stats.weight = self.near.weight();
        stats.max_weight = self.near.capacity();
        stats
    }
}

impl Found {
    pub(crate) fn value(value: Arc<dyn Any + Send + Sync>, freshness: Freshness) -> Self {
        Found {
            slot: Slot::Value(value),
            freshness,
        }
    }

    pub(crate) fn none(slot: Slot) -> Self {
        Found {
            slot,
            freshness: Freshness::Fresh,
        }
    }
}

pub(crate) fn panicked(operation: &'static str, key: &Arc<str>) -> Error {
    Error::of_key(
        ErrorKind::LoadPanicked,
        operation,
        key,
        "the loader panicked",
    )
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the cache was closed".into())
}
