//! A cluster: one connection for each primary, and the way of each command to the right one.
//!
//! The map says which primary serves which slot. It is doubted when a node redirects a command
//! (`MOVED`), refuses it, is lost or falls silent; then it is asked for anew, once for all who
//! doubt, of any node that answers. A command that was not carried out goes again within its
//! deadline; one that may have been is never sent twice unless it only reads.
//!
//! - `slot`: from keys to slots; `layout`: from a node's answer to the map; `node`: a primary, its
//!   replicas, and the connections to them
//! - `trip`: what an answer means for a command, without I/O; `route`: the calls; `attempt`: one of
//!   their attempts; `batch`: what goes to one node at once
//! - `stale`: reads that a replica may answer; `refresh`: keeps the map

mod attempt;
mod batch;
mod layout;
mod node;
mod refresh;
mod route;
mod slot;
mod stale;
mod trip;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infra_core::context::spawn_detached;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

pub use layout::ClusterMap;
pub use node::Node;
pub use route::Command;
pub use slot::Slot;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::fault::{FaultKind, RedisFault};
use crate::link::LinkStatus;
use crate::options::RedisOptions;
use crate::replicas::ReadFrom;
use crate::together;
use crate::url::Address;
use layout::Layout;

/// How long the connection to a node is kept that the map no longer names: another answer may
/// name it again, until all nodes have heard of a change.
const KEPT: Duration = Duration::from_secs(5);

/// The primaries of a cluster, each over a [`Connection`](crate::Connection) that many callers
/// share.
///
/// **While a node is down** the calls for its slots wait until it is back, until another has taken
/// its place, or until their own deadlines; calls for other slots go on.
///
/// **Redirections** are followed, the first ones at once, at most 64 for a call. `TRYAGAIN` and
/// `CLUSTERDOWN` are waited out until the deadline, and are then the fault
/// [`NotSettled`](crate::FaultKind::NotSettled), not applied.
///
/// **Deadlines, and what is repeated**: as for a [`Connection`](crate::Connection).
///
/// **Writes of a level** above [`Acknowledge::Accepted`](crate::Acknowledge::Accepted) go over
/// connections of their own to each primary, and are confirmed by its replicas or its disk.
///
/// **Stale reads** ([`Effect::StaleRead`](crate::Effect::StaleRead)) go to replicas of the slot's
/// primary where the options say so, for half of their time. What a replica does not have is asked
/// of the primary too: while a slot is being moved, its replicas do not know which keys have left.
///
/// Clones share the connections. They are closed by [`Cluster::close`] or with the last clone.
#[derive(Clone)]
pub struct Cluster {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

struct Shared {
    options: RedisOptions,
    map: watch::Sender<Arc<ClusterMap>>,
    /// Somebody doubts the map.
    doubted: Notify,
    looks: watch::Sender<Looks>,
    /// Why nobody told about the cluster when it was last asked for.
    trouble: Mutex<Option<ConnectError>>,
    nodes: Mutex<Nodes>,
}

/// How often the map was asked for.
#[derive(Default)]
struct Looks {
    begun: u64,
    done: u64,
    answered: bool,
}

#[derive(Default)]
struct Nodes {
    known: HashMap<Address, Known>,
    replicas: Vec<Address>,
}

struct Known {
    node: Node,
    /// Since when the map does not name it.
    unnamed: Option<Instant>,
}

impl Cluster {
    /// Asks the nodes of the URL about the cluster, or with the lazy option waits with that for
    /// the first call. The primaries are dialled at their first calls.
    ///
    /// Must be called on a tokio runtime with I/O and time enabled; the connections live as long
    /// as that runtime.
    ///
    /// # Errors
    /// Why none of the nodes tells about the cluster, at the latest after the connect timeout; and
    /// [`ConnectFault::Unsupported`] where one of them says that it cannot confirm writes of the
    /// level in the options. Neither with the lazy option. [`ConnectFault::Config`] for
    /// [`ReadFrom::ReplicasAt`]: a cluster names the replicas of each slot itself.
    pub async fn connect(options: RedisOptions) -> Result<Self, ConnectError> {
        if let ReadFrom::ReplicasAt(_) = options.read_from {
            let message = "a cluster names its replicas itself: read from its replicas, and map \
                           the addresses that lead nowhere from here";
            let url = options.url();
            return Err(ConnectError::new(
                ConnectFault::Config,
                url,
                message.to_owned(),
            ));
        }
        let shared = Arc::new(Shared {
            options,
            map: watch::Sender::new(Arc::new(ClusterMap::unknown())),
            doubted: Notify::new(),
            looks: watch::Sender::default(),
            trouble: Mutex::default(),
            nodes: Mutex::default(),
        });
        if !shared.options.lazy {
            let limit = shared.options.connect_timeout;
            let late = |_| {
                let url = shared.options.url();
                ConnectError::timeout(url, "the question about the cluster", limit)
            };
            timeout(limit, refresh::look(&shared))
                .await
                .map_err(late)??;
            shared.check_levels().await?;
        }
        let keeper = spawn_detached(refresh::keep(shared.clone())).abort_handle();
        Ok(Cluster {
            handle: Arc::new(Handle { shared, keeper }),
        })
    }

    /// How the connections are made.
    pub fn options(&self) -> &RedisOptions {
        &self.handle.shared.options
    }

    /// Which primary serves which slot, as it was last heard.
    pub fn map(&self) -> Arc<ClusterMap> {
        self.handle.shared.map.borrow().clone()
    }

    /// Follows the changes of [`Cluster::map`]; only the latest is kept.
    pub fn maps(&self) -> MapWatch {
        MapWatch(self.handle.shared.map.subscribe())
    }

    /// Asks for the map now and waits for the answer, which [`Cluster::map`] then has; false when
    /// there was none within the limit.
    pub async fn refresh(&self, limit: Duration) -> bool {
        let shared = &self.handle.shared;
        let mut looks = shared.looks.subscribe();
        // One that is under way may have begun before what made the caller ask.
        let wanted = looks.borrow_and_update().begun + 1;
        shared.doubted.notify_one();
        let done = looks.wait_for(|looks| looks.done >= wanted);
        match timeout(limit, done).await {
            Ok(Ok(looks)) => looks.answered,
            _ => false,
        }
    }

    /// [`Cluster::refresh`], and then the map.
    ///
    /// # Errors
    /// Why no node tells about the cluster.
    pub async fn fresh_map(&self, limit: Duration) -> Result<Arc<ClusterMap>, RedisFault> {
        if self.refresh(limit).await {
            return Ok(self.map());
        }
        match &*self.handle.shared.trouble() {
            None => {
                let message = "no node of the cluster tells which primaries there are";
                Err(RedisFault::new(FaultKind::Unavailable, message))
            }
            trouble => Err(RedisFault::unavailable(trouble.as_ref())),
        }
    }

    /// Ends the connections: later calls fail as [`Closed`](crate::FaultKind::Closed), calls in
    /// flight may finish. Closing twice is fine.
    pub fn close(&self) {
        self.handle.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<ConnectError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node at this address, also one that the map does not name.
    fn node(&self, address: &Address) -> Node {
        let mut nodes = self.lock();
        let known = nodes.known.entry(address.clone()).or_insert_with(|| Known {
            node: Node::new(address.clone(), self.options.for_announced(address)),
            unnamed: Some(Instant::now()),
        });
        known.node.clone()
    }

    /// Asks every primary whether it can confirm writes. One that is not there says nothing about
    /// that; its calls wait for it, or for another.
    async fn check_levels(&self) -> Result<(), ConnectError> {
        let map = self.map.borrow().clone();
        let acked = map.primaries().iter().filter_map(Node::acked);
        let limit = self.options.connect_timeout;
        let checks = acked.map(|acked| timeout(limit, acked.check()));
        for checked in together::all(checks).await {
            match checked {
                Ok(Err(error)) if error.fault() == ConnectFault::Unsupported => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn replicas(&self) -> Vec<Address> {
        self.lock().replicas.clone()
    }

    fn has_node_down(&self) -> bool {
        let map = self.map.borrow().clone();
        let mut nodes = map.primaries().iter();
        nodes.any(|node| matches!(node.connection().status(), LinkStatus::Down { .. }))
    }

    /// The version of the new map where it says something new.
    fn put_into_use(&self, layout: Layout) -> Option<u64> {
        let before = self.map.borrow().clone();
        if before.is_closed() {
            return None;
        }
        let next = before.next(&layout, |address| self.node(address));
        let mut nodes = self.lock();
        let now = Instant::now();
        nodes.known.retain(|address, known| {
            if layout.primaries.contains(address) {
                known.unnamed = None;
                if self.options.read_from == ReadFrom::Replicas {
                    known.node.follow_replicas(layout.replicas_of(address));
                }
                return true;
            }
            let since = *known.unnamed.get_or_insert(now);
            let keep = now.duration_since(since) < KEPT;
            if !keep {
                known.node.close();
            }
            keep
        });
        nodes.replicas = layout.all_replicas();
        drop(nodes);
        let next = next?;
        let version = next.version();
        self.map.send_if_modified(|map| {
            let open = !map.is_closed();
            if open {
                *map = Arc::new(next);
            }
            open
        });
        Some(version)
    }

    fn close(&self) {
        self.map.send_modify(|map| *map = Arc::new(map.closed()));
        for (_, known) in self.lock().known.drain() {
            known.node.close();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.close();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("url", self.options().url())
            .field("primaries", &self.map().primaries())
            .finish()
    }
}

/// Follows the map of a cluster.
#[derive(Debug)]
pub struct MapWatch(watch::Receiver<Arc<ClusterMap>>);

impl MapWatch {
    /// The next map that says something new; `None` once the cluster is closed. Cancel safe.
    pub async fn changed(&mut self) -> Option<Arc<ClusterMap>> {
        self.0.changed().await.ok()?;
        let map = self.0.borrow_and_update().clone();
        (!map.is_closed()).then_some(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replicas_named_by_the_program_are_refused_also_where_it_is_lazy() {
        let replica = Address {
            host: "127.0.0.1".to_owned(),
            port: 7001,
        };
        let options = RedisOptions::parse("redis+cluster://127.0.0.1:7000").unwrap();
        let options = options.read_from(ReadFrom::ReplicasAt(vec![replica]));
        let error = Cluster::connect(options.lazy(true)).await.unwrap_err();
        assert_eq!(error.fault(), ConnectFault::Config);
        assert!(error.to_string().contains("names its replicas itself"));
    }
}
