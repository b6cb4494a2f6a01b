//! The driver over the client library `fred` beside that library, beside the other library, and
//! beside the other driver.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::Builder;
use fred::types::config::{Config, TcpConfig};
use infra_state::StateStore;
use tokio::runtime::Runtime;

use crate::harness::{Effort, Row, per_second, turns};
use crate::load::{in_tasks, must};
use crate::state::{Position, bare, key, ours, raw};

const AREA: &str = "state";

/// All comparisons, on the server at `url`.
pub(crate) fn run(runtime: &Runtime, effort: Effort, url: &str) -> Vec<Row> {
    let store = must(runtime.block_on(StateStore::connect(&format!("fred+{url}"))));
    let other = must(runtime.block_on(StateStore::connect(url)));
    let library = runtime.block_on(library(url));
    let other_library = runtime.block_on(raw(url, false));
    let mut rows = Vec::new();
    for (callers, operations) in [(1, 10_000), (16, 40_000), (64, 60_000), (256, 80_000)] {
        let operations = effort.operations(operations);
        let plural = if callers == 1 { "" } else { "s" };
        let row = |peer, figures: Vec<(f64, f64)>| {
            let what = format!("fred driver, get and set in turn, {callers} caller{plural}");
            Row::pair(AREA, what, "op/s")
                .against(peer)
                .note("JSON of 200 bytes; ours with deadline and TCP_NODELAY")
                .of(&figures)
        };
        let driver = || per_second(operations, || ours(runtime, &store, callers, operations));
        let beside_library = turns(effort, driver, || {
            per_second(operations, || fred(runtime, &library, callers, operations))
        });
        rows.push(row("raw fred, TCP_NODELAY", beside_library));
        let beside_redis = turns(effort, driver, || {
            per_second(operations, || {
                bare(runtime, &other_library, callers, operations);
            })
        });
        rows.push(row("raw redis multiplexed, as it comes", beside_redis));
        let beside_driver = turns(effort, driver, || {
            per_second(operations, || ours(runtime, &other, callers, operations))
        });
        rows.push(row("our redis driver", beside_driver));
    }
    rows
}

/// The library as somebody would use it who wants no answer cut off.
async fn library(url: &str) -> Client {
    let mut builder = Builder::from_config(must(Config::from_url(url)));
    builder.with_connection_config(|config| {
        config.tcp = TcpConfig {
            nodelay: Some(true),
            ..TcpConfig::default()
        };
        config.connection_timeout = Duration::from_secs(5);
    });
    let client = must(builder.build());
    must(client.init().await);
    client
}

fn fred(runtime: &Runtime, client: &Client, callers: usize, operations: usize) {
    let (client, value) = (client.clone(), Position::example());
    in_tasks(runtime, callers, operations, move |task, n| {
        let (client, value) = (client.clone(), value.clone());
        async move {
            let key = key(task, n);
            if n % 2 == 0 {
                let bytes = serde_json::to_vec(&value).unwrap_or_default();
                let set = client.set::<(), _, _>(key, &bytes[..], None, None, false);
                set.await.is_ok()
            } else {
                let bytes: Option<Vec<u8>> = client.get(key).await.unwrap_or_default();
                bytes.is_none_or(|b| serde_json::from_slice::<Position>(&b).is_ok())
            }
        }
    });
}
