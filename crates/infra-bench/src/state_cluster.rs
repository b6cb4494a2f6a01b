//! The state store on a cluster beside the client library's own cluster client.

use std::time::Duration;

use infra_state::StateStore;
use infra_tests::servers::RedisCluster;
use redis::AsyncCommands;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use tokio::runtime::Runtime;

use crate::harness::{Effort, Row, per_second, turns};
use crate::load::{in_tasks, must};
use crate::state::{Position, key, ours};

const AREA: &str = "state-cluster";
const PRIMARIES: usize = 3;
/// Nobody is taken for dead because the machine is busy.
const NODE_TIMEOUT_MS: u32 = 60_000;

/// All comparisons, on a cluster of their own.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let cluster = RedisCluster::start(PRIMARIES, 0, NODE_TIMEOUT_MS);
    let store = must(runtime.block_on(StateStore::connect(&cluster.url())));
    let peer = runtime.block_on(library(&cluster));
    let mut rows = Vec::new();
    for (callers, operations) in [(64, 40_000), (1024, 80_000)] {
        let operations = effort.operations(operations);
        let figures = turns(
            effort,
            || per_second(operations, || ours(runtime, &store, callers, operations)),
            || per_second(operations, || bare(runtime, &peer, callers, operations)),
        );
        let what = format!("Redis cluster of 3, get and set in turn, {callers} callers");
        let row = Row::pair(AREA, what, "op/s")
            .against("redis cluster_async, as it comes")
            .note("JSON of 200 bytes; ours with deadline and TCP_NODELAY");
        rows.push(row.of(&figures));
    }
    rows
}

/// The client as somebody would use it who wants no answer cut off.
async fn library(cluster: &RedisCluster) -> ClusterConnection {
    let nodes: Vec<_> = (0..PRIMARIES)
        .map(|place| format!("redis://127.0.0.1:{}", cluster.node(place).port()))
        .collect();
    let builder = ClusterClientBuilder::new(nodes).response_timeout(Duration::from_secs(60));
    let client = must(builder.build());
    must(client.get_async_connection().await)
}

fn bare(runtime: &Runtime, peer: &ClusterConnection, callers: usize, operations: usize) {
    let (peer, value) = (peer.clone(), Position::example());
    in_tasks(runtime, callers, operations, move |task, n| {
        let (mut peer, value) = (peer.clone(), value.clone());
        async move {
            let key = key(task, n);
            if n % 2 == 0 {
                let bytes = serde_json::to_vec(&value).unwrap_or_default();
                peer.set::<_, _, ()>(&key, bytes).await.is_ok()
            } else {
                let bytes: Option<Vec<u8>> = peer.get(&key).await.unwrap_or_default();
                bytes.is_none_or(|b| serde_json::from_slice::<Position>(&b).is_ok())
            }
        }
    });
}
