//! The cache: a hit beside the bare map that it stands on and beside moka, and a stampede.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infra_cache::{CacheOptions, CacheStore};
use infra_core::context;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::{Effort, Goal, Row, nanos_per_call, turns};
use crate::load::must;

const AREA: &str = "cache";
const KEYS: usize = 1_000;
const CALLERS: usize = 10_000;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const LOAD: Duration = Duration::from_millis(50);
/// As long as a caller of ours waits at most.
const WAIT: Duration = Duration::from_secs(10);

/// About 200 bytes of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Quote {
    symbol: String,
    venue: String,
    bid: f64,
    ask: f64,
    sizes: Vec<u32>,
    conditions: Vec<String>,
}

impl Quote {
    fn example() -> Self {
        Quote {
            symbol: "AAPL".into(),
            venue: "XNAS".into(),
            bid: 187.4375,
            ask: 187.4425,
            sizes: (100..120).collect(),
            conditions: vec!["regular".into(), "eligible".into(), "firm".into()],
        }
    }
}

/// Hits and a stampede.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("quote:{n}")).collect();
    let cache = runtime.block_on(filled(&keys));
    let mut rows = hits(runtime, effort, &cache, &keys);
    rows.extend(stampede(runtime, effort));
    rows
}

async fn filled(keys: &[String]) -> CacheStore {
    let cache = CacheStore::memory_with(CacheOptions::new().max_bytes(MAX_BYTES));
    for key in keys {
        must(cache.put(key, Quote::example()).await);
    }
    cache
}

/// What an entry of ours weighs.
#[derive(Clone)]
struct ByWeight(u64);

impl Weighter<Arc<str>, Arc<Quote>> for ByWeight {
    fn weight(&self, key: &Arc<str>, _: &Arc<Quote>) -> u64 {
        key.len() as u64 + self.0 + 160
    }
}

fn hits(runtime: &Runtime, effort: Effort, cache: &CacheStore, keys: &[String]) -> Vec<Row> {
    let rounds = effort.operations(2_000);
    let calls = rounds * KEYS;
    let value = Arc::new(Quote::example());
    let stored = serde_json::to_vec(&*value).map_or(0, |text| text.len() as u64);
    let bare = Cache::with_weighter(1 << 17, MAX_BYTES, ByWeight(stored));
    let moka = moka::sync::Cache::<Arc<str>, Arc<Quote>>::builder()
        .max_capacity(MAX_BYTES)
        .weigher(move |key, _| key.len() as u32 + stored as u32 + 160)
        .time_to_live(Duration::from_secs(300))
        .build();
    for key in keys {
        bare.insert(Arc::from(&**key), value.clone());
        moka.insert(Arc::from(&**key), value.clone());
    }
    let ours = || each(runtime, rounds, keys, cache);
    let quick = || {
        let mut next = keys.iter().cycle();
        nanos_per_call(calls, || {
            black_box(next.next().and_then(|key| bare.get(&**key)));
        })
    };
    let with_quick = turns(effort, ours, quick);
    let with_moka = turns(effort, ours, || {
        let mut next = keys.iter().cycle();
        nanos_per_call(calls, || {
            black_box(next.next().and_then(|key| moka.get(&**key)));
        })
    });
    let own: Vec<f64> = with_quick.iter().map(|(ours, _)| *ours).collect();
    vec![
        Row::pair(AREA, "near-cache hit", "ns")
            .against("bare quick_cache, same weigher")
            .goal(Goal::AtMost(2.0))
            .note("1,000 keys, one thread; ours with expiry, epoch, clock and counter")
            .of(&with_quick),
        Row::pair(AREA, "near-cache hit", "ns")
            .against("moka (sync) with a time to live")
            .note("1,000 keys, one thread")
            .of(&with_moka),
        Row::own(AREA, "near-cache hit", "ns", Goal::AtMost(200.0), &own)
            .note("that it allocates nothing is a test"),
    ]
}

/// Nanoseconds per `get_or_load` that hits.
fn each(runtime: &Runtime, rounds: usize, keys: &[String], cache: &CacheStore) -> f64 {
    runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..rounds {
            for key in keys {
                let load = || async { Err::<Quote, _>("a hit does not load") };
                black_box(must(cache.get_or_load(key, load).await));
            }
        }
        start.elapsed().as_nanos() as f64 / (rounds * keys.len()) as f64
    })
}

/// Ten thousand tasks that ask for one key that is not there.
fn stampede(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut loads = Vec::new();
    let mut ours = || {
        let started = Arc::new(AtomicUsize::new(0));
        let cache = CacheStore::memory();
        let beyond = beyond_the_load(runtime.block_on(storm(&cache, &started)));
        loads.push(started.load(Ordering::Relaxed) as f64);
        beyond
    };
    let beside_watch = turns(effort, &mut ours, || {
        beyond_the_load(runtime.block_on(bare_storm(None)))
    });
    let beside_timeouts = turns(effort, &mut ours, || {
        beyond_the_load(runtime.block_on(bare_storm(Some(WAIT))))
    });
    let loads = Row::own(
        AREA,
        "stampede of 10,000 callers on one cold key: loads",
        "loads",
        Goal::AtMost(1.0),
        &loads,
    );
    const P99: &str = "stampede of 10,000 callers on one cold key: p99 of the wait beyond the load";
    vec![
        loads,
        Row::pair(AREA, P99, "ms")
            .against("bare tokio watch, nobody with a deadline")
            .own_goal(Goal::AtMost(5.0))
            .note("a load of 50 ms; tasks on 2 threads, each of ours with its own deadline")
            .of(&beside_watch),
        Row::pair(AREA, P99, "ms")
            .against("bare tokio watch, each wait in tokio::time::timeout")
            .note("a load of 50 ms; tasks on 2 threads, each with its own deadline")
            .of(&beside_timeouts),
    ]
}

/// By how many milliseconds the 99th percentile of these waits is longer than the load.
fn beyond_the_load(mut waits: Vec<Duration>) -> f64 {
    waits.sort();
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(LOAD);
    p99.saturating_sub(LOAD).as_secs_f64() * 1e3
}

async fn storm(cache: &CacheStore, started: &Arc<AtomicUsize>) -> Vec<Duration> {
    each_of_the_callers(|| {
        let (cache, started) = (cache.clone(), started.clone());
        async move {
            let load = move || async move {
                started.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(LOAD).await;
                Ok::<Quote, std::io::Error>(Quote::example())
            };
            black_box(must(cache.get_or_load("cold", load).await));
        }
    })
    .await
}

/// The same with nothing but a channel: the first caller starts the load, all wait for it.
async fn bare_storm(limit: Option<Duration>) -> Vec<Duration> {
    let (sender, receiver) = watch::channel(None);
    let sender = Arc::new(Mutex::new(Some(sender)));
    each_of_the_callers(|| {
        let (sender, mut receiver) = (sender.clone(), receiver.clone());
        async move {
            let first = sender.lock().ok().and_then(|mut sender| sender.take());
            if let Some(sender) = first {
                context::spawn(async move {
                    tokio::time::sleep(LOAD).await;
                    sender.send_replace(Some(Arc::new(Quote::example())));
                });
            }
            let wait = receiver.wait_for(Option::is_some);
            let landed = match limit {
                Some(limit) => must(tokio::time::timeout(limit, wait).await),
                None => wait.await,
            };
            black_box(must(landed).clone());
        }
    })
    .await
}

/// How long each of the callers, a task each, takes for its call.
async fn each_of_the_callers<Fut>(mut call: impl FnMut() -> Fut) -> Vec<Duration>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let call = call();
            context::spawn(async move {
                let begun = Instant::now();
                call.await;
                begun.elapsed()
            })
        })
        .collect();
    let mut waits = Vec::with_capacity(CALLERS);
    for caller in callers {
        waits.push(must(caller.await));
    }
    waits
}
