//! Compare-and-swap on Redis beside a plain SET, and the store beside the server's own benchmark.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use infra_state::{StateStore, Version};
use infra_tests::servers::{self, RedisConfig, RedisServer};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;

use super::{AREA, Position, key, observed, ours, raw};
use crate::harness::{Effort, Goal, Row, RowOfPair, per_second, turns};
use crate::load::{in_tasks, must};

const CALLERS: usize = 64;
const OPERATIONS: usize = 40_000;
const NOTE: &str = "JSON of 200 bytes, a key for each caller";
const SCRIPT: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                      redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0";

/// One key for each caller, so that nobody conflicts.
fn own_key(task: usize) -> String {
    format!("bench:swap:{task}")
}

/// What each caller read or wrote last.
struct Last<T>(Arc<Vec<Mutex<T>>>);

impl<T> Clone for Last<T> {
    fn clone(&self) -> Self {
        Last(self.0.clone())
    }
}

impl<T: Clone> Last<T> {
    fn get(&self, task: usize) -> Option<T> {
        let last = self.0.get(task)?;
        Some(last.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn put(&self, task: usize, value: T) {
        if let Some(last) = self.0.get(task) {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = value;
        }
    }
}

pub(super) fn run(
    runtime: &Runtime,
    effort: Effort,
    url: &str,
    store: &StateStore,
    peer: &MultiplexedConnection,
) -> Vec<Row> {
    let operations = effort.operations(OPERATIONS);
    let last = versions(runtime, store);
    let swap = turns(
        effort,
        || per_second(operations, || swaps(runtime, store, &last, operations)),
        || per_second(operations, || sets(runtime, store, operations)),
    );
    let texts = bare_texts(runtime, peer);
    let script = turns(
        effort,
        || per_second(operations, || scripts(runtime, peer, &texts, operations)),
        || per_second(operations, || bare_sets(runtime, peer, operations)),
    );
    let connections = (0..CALLERS).map(|_| runtime.block_on(raw(url, true)));
    let connections = connections.collect::<Vec<_>>();
    let watched = turns(
        effort,
        || per_second(operations, || watches(runtime, &connections, operations)),
        || per_second(operations, || bare_sets(runtime, peer, operations)),
    );
    let mut rows = vec![
        row("Redis compare-and-swap")
            .against("our plain set")
            .goal(Goal::AtLeast(0.7))
            .note(NOTE)
            .of(&swap),
        row("bare EVALSHA that compares and sets")
            .against("bare SET")
            .note(NOTE)
            .of(&script),
        row("bare WATCH, GET, MULTI, SET, EXEC on a connection each")
            .against("bare SET, one connection")
            .note(NOTE)
            .of(&watched),
    ];
    rows.extend(on_valkey(runtime, effort));
    rows
}

fn row(what: &str) -> RowOfPair {
    Row::pair(AREA, format!("{what}, {CALLERS} callers"), "op/s")
}

/// The same on a server that compares by itself: Redis 7 needs a script, whose Lua reads every
/// byte of every value. Nothing where no Valkey is installed.
fn on_valkey(runtime: &Runtime, effort: Effort) -> Option<Row> {
    let Some(program) = servers::find_valkey_program() else {
        println!("not measured: compare-and-swap on Valkey, which is not installed");
        return None;
    };
    let server = must(RedisServer::try_start(RedisConfig::new().program(program)));
    let version = must(servers::version_at(&server.url()));
    let store = must(runtime.block_on(observed(&server.url())));
    let last = versions(runtime, &store);
    let operations = effort.operations(OPERATIONS);
    let figures = turns(
        effort,
        || per_second(operations, || swaps(runtime, &store, &last, operations)),
        || per_second(operations, || sets(runtime, &store, operations)),
    );
    let what = format!("{version} compare-and-swap (SET IFEQ)");
    let row = row(&what).against("our plain set, same server");
    Some(row.goal(Goal::AtLeast(0.7)).note(NOTE).of(&figures))
}

fn versions(runtime: &Runtime, store: &StateStore) -> Last<Option<Version>> {
    let value = Position::example();
    let versions = (0..CALLERS).map(|task| {
        runtime.block_on(async {
            let key = own_key(task);
            must(store.set(&key, &value).await);
            let found = must(store.get_versioned::<Position>(&key).await);
            Mutex::new(Some(found.version))
        })
    });
    Last(Arc::new(versions.collect()))
}

fn swaps(runtime: &Runtime, store: &StateStore, last: &Last<Option<Version>>, operations: usize) {
    let (store, last) = (store.clone(), last.clone());
    in_tasks(runtime, CALLERS, operations, move |task, n| {
        let (store, last) = (store.clone(), last.clone());
        async move {
            let mut value = Position::example();
            value.updated_ms += n as u64;
            let Some(Some(version)) = last.get(task) else {
                return false;
            };
            let key = own_key(task);
            match store.compare_and_swap(&key, &version, &value, None).await {
                Ok(version) => {
                    last.put(task, Some(version));
                    true
                }
                Err(_) => false,
            }
        }
    });
}

fn sets(runtime: &Runtime, store: &StateStore, operations: usize) {
    let store = store.clone();
    in_tasks(runtime, CALLERS, operations, move |task, n| {
        let store = store.clone();
        async move {
            let mut value = Position::example();
            value.updated_ms += n as u64;
            store.set(&key(task, n), &value).await.is_ok()
        }
    });
}

fn encoded(n: usize) -> Vec<u8> {
    let mut value = Position::example();
    value.updated_ms += n as u64;
    serde_json::to_vec(&value).unwrap_or_default()
}

fn bare_texts(runtime: &Runtime, peer: &MultiplexedConnection) -> Last<Vec<u8>> {
    let texts = (0..CALLERS).map(|task| {
        let mut peer = peer.clone();
        runtime.block_on(async {
            let mut set = redis::cmd("SET");
            set.arg(own_key(task)).arg(encoded(0));
            must(set.exec_async(&mut peer).await);
            Mutex::new(encoded(0))
        })
    });
    Last(Arc::new(texts.collect()))
}

fn scripts(
    runtime: &Runtime,
    peer: &MultiplexedConnection,
    texts: &Last<Vec<u8>>,
    operations: usize,
) {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(SCRIPT);
    let sha1: Arc<str> = runtime.block_on(async {
        let sha1: String = must(load.query_async(&mut peer.clone()).await);
        sha1.into()
    });
    let (peer, texts) = (peer.clone(), texts.clone());
    in_tasks(runtime, CALLERS, operations, move |task, n| {
        let (sha1, mut peer, texts) = (sha1.clone(), peer.clone(), texts.clone());
        async move {
            let (old, new) = (texts.get(task).unwrap_or_default(), encoded(n));
            let mut call = redis::cmd("EVALSHA");
            call.arg(&*sha1)
                .arg(1)
                .arg(own_key(task))
                .arg(old)
                .arg(&new);
            let swapped: i64 = call.query_async(&mut peer).await.unwrap_or_default();
            texts.put(task, new);
            swapped == 1
        }
    });
}

fn bare_sets(runtime: &Runtime, peer: &MultiplexedConnection, operations: usize) {
    let peer = peer.clone();
    in_tasks(runtime, CALLERS, operations, move |task, n| {
        let mut peer = peer.clone();
        async move {
            let mut set = redis::cmd("SET");
            set.arg(key(task, n)).arg(encoded(n));
            set.exec_async(&mut peer).await.is_ok()
        }
    });
}

fn watches(runtime: &Runtime, connections: &[MultiplexedConnection], operations: usize) {
    let connections = Arc::new(connections.to_vec());
    in_tasks(runtime, CALLERS, operations, move |task, n| {
        let connections = connections.clone();
        async move {
            let Some(connection) = connections.get(task) else {
                return false;
            };
            let mut connection = connection.clone();
            let key = own_key(task);
            let mut read = redis::pipe();
            read.cmd("WATCH").arg(&key).ignore().cmd("GET").arg(&key);
            let mut write = redis::pipe();
            write.atomic().cmd("SET").arg(&key).arg(encoded(n));
            let found: Result<(Vec<u8>,), _> = read.query_async(&mut connection).await;
            let stored: Result<Option<(String,)>, _> = write.query_async(&mut connection).await;
            found.is_ok() && stored.is_ok_and(|stored| stored.is_some())
        }
    });
}

/// The store with 1,024 callers beside the server's own benchmark, which encodes nothing, reads
/// no answer and has one connection for each of its clients. Nothing where it is not installed.
pub(super) fn share(
    runtime: &Runtime,
    effort: Effort,
    url: &str,
    store: &StateStore,
) -> Option<Row> {
    let port = url.rsplit(':').next()?.split('/').next()?.to_owned();
    let operations = effort.operations(160_000);
    if own_benchmark(&port, operations).is_none() {
        println!("not measured: the share of redis-benchmark, which is not installed");
        return None;
    }
    let figures = turns(
        effort,
        || per_second(operations, || ours(runtime, store, 1024, operations)),
        || own_benchmark(&port, operations).unwrap_or(f64::NAN),
    );
    let row = Row::pair(AREA, "Redis get and set in turn, 1024 callers", "op/s");
    let note = "16 clients that encode and decode nothing; the rest goes into JSON, memory, \
                waking tasks and our own client, in this order";
    Some(row.against("redis-benchmark -P 64").note(note).of(&figures))
}

/// Operations per second of as many gets as sets.
fn own_benchmark(port: &str, operations: usize) -> Option<f64> {
    let half = (operations / 2).to_string();
    let words = [
        "-p", port, "-t", "set,get", "-n", &half, "-d", "200", "-P", "64", "-c", "16", "-r",
        "1000", "--csv",
    ];
    let output = Command::new("redis-benchmark").args(words).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("\"{name}\"")))?;
        let rate = line.split(',').nth(1)?.trim_matches('"');
        rate.parse::<f64>().ok()
    };
    Some(2.0 / (1.0 / rate("SET")? + 1.0 / rate("GET")?))
}
