//! What the bus, its subscriptions and its driver have in common.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::channel::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::options::SubscribeOptions;
use crate::queue::Queue;
use crate::router::Router;
use crate::signal::Signals;
use crate::subscription::{Core, SubscriptionId, SubscriptionStats};

/// Where a bus is in its life. It only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Life {
    Open = 0,
    /// Handlers finish what is queued, and may publish; nobody else may do anything.
    Draining = 1,
    Closed = 2,
}

/// Holds no user code and no driver, so that nothing here can keep a bus alive.
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) signals: Signals,
    life: AtomicU8,
    registry: Mutex<Registry>,
}

struct Registry {
    /// Every subscription that is not finished: also those that have ended but whose last handler
    /// still runs.
    cores: HashMap<SubscriptionId, Arc<Core>>,
    names: HashSet<Arc<str>>,
    next_id: u64,
    paused: bool,
    /// The counters of all finished subscriptions.
    totals: SubscriptionStats,
}

impl Shared {
    pub(crate) fn new(listening: bool) -> Self {
        Shared {
            router: Router::default(),
            signals: Signals::default(),
            life: AtomicU8::new(Life::Open as u8),
            registry: Mutex::new(Registry {
                cores: HashMap::new(),
                names: HashSet::new(),
                next_id: 1,
                paused: !listening,
                totals: SubscriptionStats::default(),
            }),
        }
    }

    pub(crate) fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Open,
            1 => Life::Draining,
            _ => Life::Closed,
        }
    }

    pub(crate) fn advance(&self, life: Life) {
        self.life.fetch_max(life as u8, Ordering::AcqRel);
    }

    /// Makes a subscription and gives it events from now on.
    pub(crate) fn register(
        self: &Arc<Self>,
        target: Target,
        options: &SubscribeOptions,
        is_stream: bool,
    ) -> Result<Arc<Core>> {
        let refuse = |kind| Error::new(kind, "subscribe").with_channel(target.as_str());
        let mut registry = self.lock();
        if self.life() != Life::Open {
            return Err(refuse(ErrorKind::Closed));
        }
        let id = SubscriptionId(registry.next_id);
        let name = match &options.name {
            Some(name) => name.clone(),
            None => Arc::from(format!("{target}#{id}")),
        };
        if !registry.names.insert(name.clone()) {
            return Err(refuse(ErrorKind::DuplicateName).with_detail(format!("`{name}`")));
        }
        registry.next_id += 1;
        let core = Arc::new(Core {
            id,
            name,
            target,
            queue: Queue::new(options.capacity, options.overflow, registry.paused),
            handler_timeout: options.handler_timeout,
            is_stream,
            shared: self.clone(),
            worker: Mutex::new(None),
            waits_for: Mutex::new(None),
        });
        registry.cores.insert(id, core.clone());
        self.router.add(&core);
        Ok(core)
    }

    /// Nothing of this subscription runs any more: keeps only its counters.
    pub(crate) fn retire(&self, core: &Core) {
        let mut registry = self.lock();
        if registry.cores.remove(&core.id).is_some() {
            registry.names.remove(&core.name);
            registry.totals.add(&core.queue.stats());
        }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        let mut registry = self.lock();
        registry.paused = paused;
        for core in registry.cores.values() {
            core.queue.set_paused(paused);
        }
    }

    pub(crate) fn cores(&self) -> Vec<Arc<Core>> {
        self.lock().cores.values().cloned().collect()
    }

    pub(crate) fn core(&self, id: SubscriptionId) -> Option<Arc<Core>> {
        self.lock().cores.get(&id).cloned()
    }

    /// The counters of all subscriptions there ever were.
    pub(crate) fn totals(&self) -> SubscriptionStats {
        let registry = self.lock();
        let mut totals = registry.totals;
        for core in registry.cores.values() {
            totals.add(&core.queue.stats());
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
