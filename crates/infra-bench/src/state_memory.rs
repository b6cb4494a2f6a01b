//! The memory driver beside a bare map: calls, bytes per key, and what expires.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures_util::FutureExt;
use infra_state::layer::Layers;
use infra_state::{MemoryDriver, MemoryOptions, StateDriver, StateStore, StoreOptions};
use tokio::runtime::Runtime;

use crate::harness::{Effort, Goal, Row, per_second, turns};
use crate::load::{in_tasks, must};
use crate::recorder;
use crate::state::{Position, key};

const AREA: &str = "state";

type Map = DashMap<String, Vec<u8>>;

/// Calls on two threads, then a million keys with times to live.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    recorder::install();
    let mut rows = calls(runtime, effort);
    rows.extend(expiry(runtime, effort));
    rows
}

fn calls(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let operations = effort.operations(400_000);
    let layers = Layers::new().tracing().metrics();
    let driver: Arc<dyn StateDriver> =
        runtime.block_on(async { Arc::new(MemoryDriver::new(MemoryOptions::new())) });
    // Lent to all tasks for ever, so that no figure counts the cloning of a handle.
    let store = must(StateStore::layered(driver, &layers, StoreOptions::new()));
    let store: &'static StateStore = Box::leak(Box::new(store));
    let map: &'static Map = Box::leak(Box::default());
    let set = turns(
        effort,
        || per_second(operations, || sets(runtime, store, operations)),
        || per_second(operations, || bare_sets(runtime, map, operations)),
    );
    let get = turns(
        effort,
        || per_second(operations, || gets(runtime, store, operations)),
        || per_second(operations, || bare_gets(runtime, map, operations)),
    );
    let increment = turns(
        effort,
        || per_second(operations, || increments(runtime, store, operations)),
        || per_second(operations, || bare_increments(runtime, map, operations)),
    );
    let row = |what, note, figures: &[(f64, f64)]| {
        Row::pair(AREA, what, "op/s")
            .against("dashmap, same encoding")
            .goal(Goal::AtLeast(0.5))
            .note(note)
            .of(figures)
    };
    let values = "JSON of 200 bytes, 1,000 keys; ours with deadline, tracing and metrics";
    let counters = "decimal text, 1,000 keys; ours with deadline, tracing and metrics";
    vec![
        row("memory set, 2 threads", values, &set),
        row("memory get, 2 threads", values, &get),
        row("memory increment, 2 threads", counters, &increment),
    ]
}

fn sets(runtime: &Runtime, store: &'static StateStore, operations: usize) {
    let value = Position::example();
    in_tasks(runtime, 2, operations, move |task, n| {
        let value = value.clone();
        async move { store.set(&key(task, n), &value).await.is_ok() }
    });
}

fn bare_sets(runtime: &Runtime, map: &'static Map, operations: usize) {
    let value = Position::example();
    in_tasks(runtime, 2, operations, move |task, n| {
        let value = value.clone();
        async move {
            let bytes = serde_json::to_vec(&value).unwrap_or_default();
            map.insert(key(task, n), bytes);
            true
        }
    });
}

fn gets(runtime: &Runtime, store: &'static StateStore, operations: usize) {
    in_tasks(runtime, 2, operations, move |task, n| async move {
        let value = store.get::<Position>(&key(task, n)).await;
        value.is_ok_and(|value| value.is_some())
    });
}

fn bare_gets(runtime: &Runtime, map: &'static Map, operations: usize) {
    in_tasks(runtime, 2, operations, move |task, n| async move {
        map.get(&key(task, n))
            .and_then(|bytes| serde_json::from_slice::<Position>(&bytes).ok())
            .is_some()
    });
}

fn counter(task: usize, operation: usize) -> String {
    format!("count:{}", key(task, operation))
}

fn increments(runtime: &Runtime, store: &'static StateStore, operations: usize) {
    in_tasks(runtime, 2, operations, move |task, n| async move {
        store.increment(&counter(task, n), 1).await.is_ok()
    });
}

fn bare_increments(runtime: &Runtime, map: &'static Map, operations: usize) {
    in_tasks(runtime, 2, operations, move |task, n| async move {
        let mut entry = map.entry(counter(task, n)).or_insert_with(|| b"0".to_vec());
        let text = std::str::from_utf8(&entry).unwrap_or_default();
        let sum = text.parse::<i64>().ok().and_then(|sum| sum.checked_add(1));
        let Some(sum) = sum else { return false };
        *entry = sum.to_string().into_bytes();
        true
    });
}

// What a million keys with a time to live need.

fn expiry(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let keys = effort.operations(1_000_000);
    let bytes = [(ours_per_key(keys), bare_per_key(keys))];
    let rounds: Vec<Swept> = (0..3).map(|_| sweep(runtime, keys)).collect();
    let gone: Vec<f64> = rounds.iter().map(|round| round.seconds).collect();
    let pauses: Vec<(f64, f64)> = rounds.iter().map(|round| round.longest_ms).collect();
    let note = "values of 200 bytes, 1 million keys that expire in the same millisecond";
    vec![
        Row::pair(AREA, "memory, 1 million keys with TTL: bytes per key", "B")
            .against("dashmap with an Instant beside each value")
            .note("as asked of the allocator; value of 200 bytes and key of about 10 included")
            .of(&bytes),
        Row::own(
            AREA,
            "memory: 1 million values are gone after their expiry in",
            "s",
            Goal::AtMost(1.0),
            &gone,
        )
        .note(note),
        Row::pair(AREA, "memory: longest get while they are removed", "ms")
            .against("the same with nothing to remove")
            .own_goal(Goal::AtMost(1.0))
            .note(note)
            .of(&pauses),
    ]
}

fn value() -> Vec<u8> {
    vec![b'x'; 200]
}

/// Bytes that are still allocated after `fill`, for each of `keys`.
fn per_key<T>(keys: usize, fill: impl FnOnce() -> T) -> f64 {
    let mut kept = None;
    let counted = allocation_counter::measure(|| kept = Some(fill()));
    drop(kept);
    counted.bytes_current as f64 / keys as f64
}

fn ours_per_key(keys: usize) -> f64 {
    let ttl = Duration::from_secs(3600);
    per_key(keys, || {
        let store = StateStore::memory();
        for n in 0..keys {
            must(now(store.set_bytes_with(&format!("key:{n}"), value(), ttl)));
        }
        store
    })
}

fn bare_per_key(keys: usize) -> f64 {
    per_key(keys, || {
        let map = DashMap::new();
        let expires = Instant::now() + Duration::from_secs(3600);
        for n in 0..keys {
            map.insert(format!("key:{n}"), (value(), expires));
        }
        map
    })
}

/// A call on memory is answered at once.
fn now<T>(call: impl Future<Output = infra_state::Result<T>>) -> Result<T, String> {
    let answer = call.now_or_never().ok_or("memory had to wait")?;
    answer.map_err(|error| error.to_string())
}

struct Swept {
    /// From the expiry until all are gone.
    seconds: f64,
    /// The longest get in milliseconds, meanwhile and before.
    longest_ms: (f64, f64),
}

fn sweep(runtime: &Runtime, keys: usize) -> Swept {
    let driver = runtime.block_on(async { Arc::new(MemoryDriver::new(MemoryOptions::new())) });
    let store = StateStore::from_driver(driver.clone(), StoreOptions::new());
    must(now(store.set_bytes("stays", value())));
    let expires = Instant::now() + Duration::from_secs(6);
    for n in 0..keys {
        let left = expires.saturating_duration_since(Instant::now());
        must(now(store.set_bytes_with(
            &format!("key:{n}"),
            value(),
            left,
        )));
    }
    let quiet = longest_get(&store, || {
        Instant::now() + Duration::from_millis(200) < expires
    });
    while Instant::now() < expires {
        std::hint::spin_loop();
    }
    let busy = longest_get(&store, || driver.resident() > 1);
    let seconds = expires.elapsed().as_secs_f64();
    Swept {
        seconds,
        longest_ms: (busy, quiet),
    }
}

/// The longest of many calls of a thread that does nothing else, in milliseconds.
fn longest_get(store: &StateStore, goes_on: impl Fn() -> bool) -> f64 {
    let mut longest = Duration::ZERO;
    while goes_on() {
        for _ in 0..1_000 {
            let asked = Instant::now();
            must(now(store.get_bytes("stays")));
            longest = longest.max(asked.elapsed());
        }
    }
    longest.as_secs_f64() * 1e3
}
