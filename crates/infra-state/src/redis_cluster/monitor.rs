//! Watches over the primaries of a cluster: is each of them there, with its data, and can it lose
//! them?

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use infra_core::context::spawn_detached;
use infra_redis::{
    Address, Cluster, ClusterMap, Connection, Effect, LinkStatus, LinkWatch, Node, RedisFault,
    RedisOptions, Slot,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::redis_common::{MARKER, Monitor, Observed};
use crate::signal::{SignalSender, StateSignal, StateSignals};

/// Follows a cluster until it is dropped.
#[derive(Debug)]
pub(super) struct ClusterMonitor {
    found: Arc<Found>,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Found {
    signals: Mutex<Option<SignalSender>>,
    primaries: Mutex<HashMap<Address, Watched>>,
}

/// A primary and what watches over it.
#[derive(Debug)]
struct Watched {
    monitor: Monitor,
    slot: Slot,
    news: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.news.abort();
    }
}

impl ClusterMonitor {
    /// Follows nothing.
    pub(super) fn idle() -> Self {
        ClusterMonitor {
            found: Arc::default(),
            closing: watch::Sender::new(false),
        }
    }

    pub(super) fn start(cluster: &Cluster) -> Self {
        let monitor = ClusterMonitor::idle();
        let signals = SignalSender::new();
        *lock(&monitor.found.signals) = Some(signals.clone());
        let (sender, receiver) = unbounded_channel();
        let following = Following {
            cluster: cluster.clone(),
            found: monitor.found.clone(),
            signals,
            sender,
            missing: HashSet::new(),
            markers: HashMap::new(),
        };
        let mut closed = monitor.closing.subscribe();
        spawn_detached(async move {
            tokio::select! {
                () = following.run(receiver) => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
        monitor
    }

    pub(super) fn close(&self) {
        self.closing.send_replace(true);
        lock(&self.found.signals).take();
        lock(&self.found.primaries).clear();
    }

    pub(super) fn signals(&self) -> StateSignals {
        let signals = lock(&self.found.signals);
        signals
            .as_ref()
            .map_or_else(StateSignals::none, SignalSender::subscribe)
    }

    /// Each risk once, with the primaries that have it.
    pub(super) fn risks(&self) -> Vec<String> {
        let primaries = lock(&self.found.primaries);
        let mut risks: Vec<(String, Vec<String>)> = Vec::new();
        let mut sorted: Vec<_> = primaries.iter().collect();
        sorted.sort_by_key(|(address, _)| *address);
        for (address, watched) in sorted {
            for risk in watched.monitor.risks() {
                let address = address.to_string();
                match risks.iter_mut().find(|(known, _)| *known == risk) {
                    Some((_, addresses)) => addresses.push(address),
                    None => risks.push((risk, vec![address])),
                }
            }
        }
        let described = risks.into_iter().map(|(risk, addresses)| {
            let addresses = addresses.join(", ");
            format!("{risk} (primaries {addresses})")
        });
        described.collect()
    }
}

impl Drop for ClusterMonitor {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is heard of a primary.
enum News {
    Link(Address, LinkStatus),
    Reset(Address, String),
}

struct Following {
    cluster: Cluster,
    found: Arc<Found>,
    signals: SignalSender,
    sender: UnboundedSender<News>,
    /// The primaries that are not there; an outage lasts until there are none.
    missing: HashSet<Address>,
    /// The markers that were seen, by their slots.
    markers: HashMap<Slot, Bytes>,
}

impl Following {
    async fn run(mut self, mut news: UnboundedReceiver<News>) {
        let mut maps = self.cluster.maps();
        let map = self.cluster.map();
        self.change(&map);
        loop {
            tokio::select! {
                map = maps.changed() => match map {
                    Some(map) => self.change(&map),
                    None => return,
                },
                Some(news) = news.recv() => self.hear(news),
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Link(address, status) => {
                if !lock(&self.found.primaries).contains_key(&address) {
                    return;
                }
                match status {
                    LinkStatus::Up => self.is_there(&address),
                    LinkStatus::Down { reason } => self.is_missing(address, &reason),
                    _ => {}
                }
            }
            News::Reset(address, reason) => {
                let reason = format!("{address}: {reason}");
                self.signals.send(StateSignal::Reset { reason });
            }
        }
    }

    fn is_missing(&mut self, address: Address, reason: &str) {
        let outage = !self.missing.is_empty();
        let reason = format!("the primary {address} is lost: {reason}");
        self.missing.insert(address);
        if !outage {
            self.signals.send(StateSignal::Lost { reason });
        }
    }

    fn is_there(&mut self, address: &Address) {
        let was_missing = self.missing.remove(address);
        if was_missing && self.missing.is_empty() {
            self.signals.send(StateSignal::Restored);
        }
    }

    /// Watches over the primaries of this map and over no others.
    fn change(&mut self, map: &ClusterMap) {
        let found = self.found.clone();
        let mut primaries = lock(&found.primaries);
        for watched in primaries.values() {
            if let Some(marker) = watched.monitor.marker() {
                self.markers.insert(watched.slot, marker);
            }
        }
        let serves = |address: &Address, slot| {
            let owner = map.owner(slot);
            owner.is_some_and(|owner| owner.address() == address)
        };
        primaries.retain(|address, watched| serves(address, watched.slot));
        let outage = !self.missing.is_empty();
        for node in map.primaries() {
            if primaries.contains_key(node.address()) {
                continue;
            }
            // One that takes the place of another is known by the other's marker.
            let known = self.markers.keys().copied();
            let slots = map.slots_of(node);
            let slot = known.into_iter().find(|slot| slots.contains(slot));
            let Some(slot) = slot.or(slots.first().copied()) else {
                continue;
            };
            primaries.insert(node.address().clone(), self.watch_over(node, slot));
            if outage {
                self.missing.insert(node.address().clone());
            }
        }
        drop(primaries);
        // Nobody waits for one that is no primary any more.
        let left = |address: &Address| !map.primaries().iter().any(|n| n.address() == address);
        let gone: Vec<_> = self
            .missing
            .iter()
            .filter(|one| left(one))
            .cloned()
            .collect();
        for address in gone {
            self.is_there(&address);
        }
    }

    fn watch_over(&self, node: &Node, slot: Slot) -> Watched {
        let observed = Primary {
            connection: node.connection().clone(),
            marker: format!("{MARKER}{{{}}}", slot.tag()),
        };
        // Asking it dials.
        let connection = observed.connection.clone();
        let monitor = Monitor::start_knowing(observed, self.markers.get(&slot).cloned());
        let mut signals = monitor.signals();
        let (sender, address) = (self.sender.clone(), node.address().clone());
        let task = spawn_detached(async move {
            let mut link = connection.watch();
            let dialling = connection.clone();
            spawn_detached(async move {
                let _ = dialling.ping(Duration::from_secs(1)).await;
            });
            let _ = sender.send(News::Link(address.clone(), connection.status()));
            loop {
                let news = tokio::select! {
                    status = link.changed() => match status {
                        Some(status) => News::Link(address.clone(), status),
                        None => return,
                    },
                    signal = signals.next() => match signal {
                        Some(StateSignal::Reset { reason }) => News::Reset(address.clone(), reason),
                        Some(_) => continue,
                        None => return,
                    },
                };
                if sender.send(news).is_err() {
                    return;
                }
            }
        });
        Watched {
            monitor,
            slot,
            news: task.abort_handle(),
        }
    }
}

/// A primary under the eyes of a monitor.
struct Primary {
    connection: Connection,
    marker: String,
}

impl Observed for Primary {
    fn options(&self) -> &RedisOptions {
        Observed::options(&self.connection)
    }

    fn status(&self) -> LinkStatus {
        Observed::status(&self.connection)
    }

    fn follow(&self) -> LinkWatch {
        self.connection.follow()
    }

    fn marker_key(&self) -> &str {
        &self.marker
    }

    async fn ask(
        &self,
        name: &'static str,
        arguments: &[&str],
        effect: Effect,
        limit: Duration,
    ) -> Result<Option<Bytes>, RedisFault> {
        self.connection.ask(name, arguments, effect, limit).await
    }
}
