//! Watching keys: every primary reports the changes of its own.
//!
//! A slot that moves between two primaries that both report needs no gap: what is written after
//! the move is reported by the new one, and the move itself as a change. A primary that is new, or
//! was lost, may have missed something: then there is a gap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use infra_core::context::spawn_detached;
use infra_redis::{Address, Cluster, ClusterMap, RedisOptions, Tracker};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::driver::DriverError;
use crate::redis_common::{CAPACITY, Watches, first, follow};
use crate::watch::{WatchFeed, WatchSink, watch_feed};

/// How often the cluster is asked for new primaries while somebody watches, whatever else is
/// called: one that nobody speaks to would report nothing.
const LOOK: Duration = Duration::from_secs(2);
const CHANGED: &str = "the primaries of the cluster changed";

/// Begins to report the keys under `prefix`, once every primary does.
pub(super) async fn start(
    cluster: &Cluster,
    watches: &Watches,
    prefix: &str,
    limit: Duration,
) -> Result<WatchFeed, DriverError> {
    let deadline = Instant::now() + limit;
    let mut trackers: HashMap<Address, (RedisOptions, Tracker)> = HashMap::new();
    let beginning = async {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let map = cluster.fresh_map(left).await?;
            trackers.retain(|address, _| names(&map, address));
            let new = |node: &&infra_redis::Node| !trackers.contains_key(node.address());
            let missing: Vec<_> = map.primaries().iter().filter(new).cloned().collect();
            if missing.is_empty() {
                return Ok(map);
            }
            for node in missing {
                let options = node.connection().options().clone();
                let tracker = first(&options, prefix, deadline).await?;
                trackers.insert(node.address().clone(), (options, tracker));
            }
        }
    };
    let map = watches.unless_closed(beginning).await?;
    let (sink, feed) = watch_feed(prefix, CAPACITY);
    let mut following = Following {
        cluster: cluster.clone(),
        sink: Arc::new(sink),
        reports: HashMap::new(),
    };
    for (address, (options, tracker)) in trackers {
        following.add(address, options, tracker);
    }
    let closed = watches.closed();
    spawn_detached(async move {
        let sink = following.sink.clone();
        tokio::select! {
            () = following.run(map) => {}
            () = sink.closed() => {}
            () = closed => {}
        }
    });
    Ok(feed)
}

fn names(map: &ClusterMap, address: &Address) -> bool {
    map.primaries().iter().any(|node| node.address() == address)
}

struct Following {
    cluster: Cluster,
    sink: Arc<WatchSink>,
    reports: HashMap<Address, Report>,
}

/// Ends the reports of one primary when it is dropped.
struct Report(AbortHandle);

impl Drop for Report {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Following {
    fn add(&mut self, address: Address, options: RedisOptions, tracker: Tracker) {
        let sink = self.sink.clone();
        let task = spawn_detached(async move { follow(&options, &sink, tracker).await });
        self.reports.insert(address, Report(task.abort_handle()));
    }

    /// Returns when the cluster is closed.
    async fn run(mut self, mut known: Arc<ClusterMap>) {
        let mut maps = self.cluster.maps();
        loop {
            tokio::select! {
                map = maps.changed() => match map {
                    Some(map) if map.has_same_primaries(&known) => known = map,
                    Some(map) => {
                        self.change(&map).await;
                        known = map;
                    }
                    None => return,
                },
                () = sleep(LOOK) => {
                    self.cluster.refresh(LOOK).await;
                }
            }
        }
    }

    /// At once, for those who must not trust what they know; and again when all report.
    async fn change(&mut self, map: &ClusterMap) {
        self.sink.gap(CHANGED);
        self.reports.retain(|address, _| names(map, address));
        for node in map.primaries() {
            if self.reports.contains_key(node.address()) {
                continue;
            }
            let options = node.connection().options().clone();
            let deadline = Instant::now() + LOOK;
            match first(&options, self.sink.prefix(), deadline).await {
                Ok(tracker) => self.add(node.address().clone(), options, tracker),
                Err(error) => {
                    // It is tried again by itself, and a gap tells of what was missed.
                    let sink = self.sink.clone();
                    info!(backend = "redis", node = %node.address(), %error, "no reports yet");
                    let task = spawn_detached(async move {
                        crate::redis_common::follow_from_outage(&options, &sink).await;
                    });
                    self.reports
                        .insert(node.address().clone(), Report(task.abort_handle()));
                }
            }
        }
        self.sink.gap(CHANGED);
    }
}
