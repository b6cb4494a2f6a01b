//! The state store beside the raw client.

mod swap;

use infra_state::layer::Layers;
use infra_state::{StateOptions, StateStore, create_state_store};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, IntoConnectionInfo};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::harness::{Effort, Goal, Row, per_second, turns};
use crate::load::{in_tasks, must};
use crate::recorder;

const AREA: &str = "state";
const KEYS: usize = 1_000;
const NOTE: &str =
    "JSON of 200 bytes; ours with deadline, layers for tracing and metrics, and TCP_NODELAY";

/// About 200 bytes of JSON, as a bot would store it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Position {
    bot_id: String,
    symbol: String,
    quantity: i64,
    average_price: f64,
    cash: f64,
    last_execution: String,
    open_orders: Vec<String>,
    updated_ms: u64,
}

impl Position {
    pub(crate) fn example() -> Self {
        Position {
            bot_id: "bot_001".into(),
            symbol: "AAPL".into(),
            quantity: 1_250,
            average_price: 187.4375,
            cash: 102_334.25,
            last_execution: "0190f3a2-7b1c-7c3e-9a55-0d5a3f1b2c4d".into(),
            open_orders: vec!["o-18a3".into(), "o-18a4".into()],
            updated_ms: 1_700_000_000_000,
        }
    }
}

/// On the server at `redis_url`.
pub(crate) fn run(runtime: &Runtime, effort: Effort, redis_url: &str) -> Vec<Row> {
    on_redis(runtime, effort, redis_url)
}

pub(crate) fn key(task: usize, operation: usize) -> String {
    format!("bench:{}", (task * 31 + operation) % KEYS)
}

fn on_redis(runtime: &Runtime, effort: Effort, url: &str) -> Vec<Row> {
    recorder::install();
    let store = must(runtime.block_on(observed(url)));
    let without_layers = must(runtime.block_on(StateStore::connect(url)));
    let peers = [
        (
            "raw redis multiplexed, as it comes",
            runtime.block_on(raw(url, false)),
        ),
        (
            "raw redis multiplexed, TCP_NODELAY",
            runtime.block_on(raw(url, true)),
        ),
    ];
    let mut rows = Vec::new();
    for (callers, operations, goal) in [
        (1, 10_000, 0.95),
        (16, 40_000, 0.95),
        (64, 80_000, 1.5),
        (256, 120_000, 2.0),
        (1024, 160_000, 2.5),
    ] {
        let operations = effort.operations(operations);
        let plural = if callers == 1 { "" } else { "s" };
        let what = format!("Redis get and set in turn, {callers} caller{plural}");
        let row = || Row::pair(AREA, what.clone(), "op/s").note(NOTE);
        let rate = |store| per_second(operations, || ours(runtime, store, callers, operations));
        for (name, peer) in &peers {
            let figures = turns(
                effort,
                || rate(&store),
                || per_second(operations, || bare(runtime, peer, callers, operations)),
            );
            let row = row().against(name).goal(Goal::AtLeast(goal));
            rows.push(row.of(&figures));
        }
        let figures = turns(effort, || rate(&store), || rate(&without_layers));
        rows.push(row().against("ours without the layers").of(&figures));
    }
    rows.extend(swap::share(runtime, effort, url, &store));
    rows.extend(swap::run(runtime, effort, url, &store, &peers[1].1));
    rows
}

/// The store as a service would run it: each call is counted and timed, and traced at DEBUG.
async fn observed(url: &str) -> infra_state::Result<StateStore> {
    let layers = Layers::new().tracing().metrics();
    create_state_store("redis", StateOptions::new().url(url).layers(layers)).await
}

/// The client as somebody would use it who wants no answer cut off. It leaves Nagle's algorithm on
/// unless told otherwise, which on loopback gathers the writes of many callers, and on a network
/// delays them by up to a round trip.
pub(crate) async fn raw(url: &str, no_delay: bool) -> MultiplexedConnection {
    let info = must(url.into_connection_info());
    let settings = info.tcp_settings().clone().set_nodelay(no_delay);
    let client = must(redis::Client::open(info.set_tcp_settings(settings)));
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    must(
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await,
    )
}

pub(crate) fn ours(runtime: &Runtime, store: &StateStore, callers: usize, operations: usize) {
    let (store, value) = (store.clone(), Position::example());
    in_tasks(runtime, callers, operations, move |task, n| {
        let (store, value) = (store.clone(), value.clone());
        async move {
            let key = key(task, n);
            if n % 2 == 0 {
                store.set(&key, &value).await.is_ok()
            } else {
                store.get::<Position>(&key).await.is_ok()
            }
        }
    });
}

pub(crate) fn bare(
    runtime: &Runtime,
    raw: &MultiplexedConnection,
    callers: usize,
    operations: usize,
) {
    let (raw, value) = (raw.clone(), Position::example());
    in_tasks(runtime, callers, operations, move |task, n| {
        let (mut raw, value) = (raw.clone(), value.clone());
        async move {
            let key = key(task, n);
            if n % 2 == 0 {
                let bytes = serde_json::to_vec(&value).unwrap_or_default();
                raw.set::<_, _, ()>(&key, bytes).await.is_ok()
            } else {
                let bytes: Option<Vec<u8>> = raw.get(&key).await.unwrap_or_default();
                bytes.is_none_or(|b| serde_json::from_slice::<Position>(&b).is_ok())
            }
        }
    });
}
