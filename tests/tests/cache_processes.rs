//! The cache between real processes: this one reads, a child changes what it has read.
//!
//! The child is this very binary, told what to do on its standard input. After its work it writes a
//! mark that this process has in its cache: news come in order, so once the mark is seen all that
//! was written before it has been heard of. No time is waited for that.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use infra_cache::{CacheOptions, CachePolicy, CacheStore, Freshness};
use infra_core::context;
use infra_state::{StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};

/// Set for the child: the name of the cache, the server, and the client library.
const NAME: &str = "INFRA_TEST_CACHE_NAME";
const URL: &str = "INFRA_TEST_CACHE_URL";
const BACKEND: &str = "INFRA_TEST_CACHE_BACKEND";

const KEYS: usize = 500;
const AT_ONCE: usize = 64;
const LIMIT: Duration = Duration::from_secs(30);

/// One process's end: its cache, and the plain store that the values come from.
#[derive(Clone)]
struct Process {
    cache: CacheStore,
    source: StateStore,
    name: String,
}

impl Process {
    async fn connect(backend: &str, url: &str, name: &str) -> Process {
        let deadlines = StoreOptions::new()
            .read_timeout(LIMIT)
            .write_timeout(LIMIT)
            .bulk_timeout(LIMIT);
        let options = StateOptions::new()
            .url(url)
            .connect_timeout(LIMIT)
            .store(deadlines);
        let store = create_state_store(backend, options).await.unwrap();
        // Without chance; no end within a test.
        let policy = CachePolicy::new(Duration::from_secs(600))
            .jitter(0.0)
            .early_refresh(0.0);
        let options = CacheOptions::new()
            .name(name)
            .policy(policy)
            .shared_loads(true)
            .local_ttl(Duration::from_secs(600));
        let cache = CacheStore::over(store.clone(), options).await.unwrap();
        assert!(cache.is_tracking());
        Process {
            cache,
            source: store,
            name: name.to_owned(),
        }
    }

    fn source_key(&self, key: &str) -> String {
        format!("source of {}/{key}", self.name)
    }

    /// What the cache answers, loaded from the source where it has nothing.
    async fn ask(&self, key: &str) -> u64 {
        let (source, from) = (self.source.clone(), self.source_key(key));
        let load = move || async move {
            let value = source.get::<u64>(&from).await;
            value.map(Option::unwrap_or_default)
        };
        *self.cache.get_or_load(key, load).await.unwrap()
    }

    async fn get(&self, key: &str) -> Option<u64> {
        self.cache
            .get::<u64>(key)
            .await
            .unwrap()
            .map(|value| *value)
    }

    /// Changes one key in the way that the kind of race says.
    async fn change(&self, kind: &str, key: &str, value: u64) {
        if kind == "load" {
            let source = self.source_key(key);
            self.source.set(&source, &value).await.unwrap();
        }
        match kind {
            "load" => self.cache.invalidate(key).await.unwrap(),
            "put" => self.cache.put(key, value).await.unwrap(),
            // A program that knows nothing of the cache.
            "plain" => {
                let plain = self.source.namespaced(&self.name);
                until("a write", async || plain.set(key, &value).await.is_ok()).await;
            }
            other => panic!("{other}"),
        }
    }

    async fn read(&self, kind: &str, key: &str) -> Option<u64> {
        match kind {
            "load" => Some(self.ask(key).await),
            _ => self.get(key).await,
        }
    }
}

/// Does it for all keys, some at once.
async fn for_all<F: Future>(each: impl Fn(String) -> F) -> Vec<F::Output> {
    let all: Vec<_> = (0..KEYS).map(|n| each(format!("k{n}"))).collect();
    futures_util::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Not a test of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_does_what_it_is_told() {
    let Ok(name) = env::var(NAME) else { return };
    let (url, backend) = (env::var(URL).unwrap(), env::var(BACKEND).unwrap());
    let process = Process::connect(&backend, &url, &name).await;
    println!("ready");
    let plain = process.source.namespaced(&name);
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["all", kind, value] => {
                let value = value.parse().unwrap();
                let process = &process;
                for_all(|key| async move { process.change(kind, &key, value).await }).await;
                plain.set("mark", &value).await.unwrap();
            }
            ["one", kind, key, value] => {
                process.change(kind, key, value.parse().unwrap()).await;
            }
            ["ask", key] => println!("answer {}", process.ask(key).await),
            ["hang", key] => {
                let load = || async {
                    println!("loading");
                    std::future::pending::<io::Result<u64>>().await
                };
                let _ = process.cache.get_or_load(key, load).await;
            }
            _ => panic!("{line}"),
        }
        println!("done");
    }
}

/// The other process; killed when dropped.
struct Other {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(backend: &str, url: &str, name: &str) -> Other {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_does_what_it_is_told", "--nocapture"])
            .envs([(NAME, name), (URL, url), (BACKEND, backend)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut other = Other {
            child,
            orders,
            answers,
        };
        other.wait_for("ready");
        other
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn wait_for(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).unwrap();
            assert!(read > 0, "the other process ended before {start:?}");
            if line.starts_with(start) {
                return line.trim_end().to_owned();
            }
        }
    }

    fn tell(&mut self, order: &str) {
        self.order(order);
        self.wait_for("done");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition().await {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Rounds of one kind, in each of which every key is read while the other process changes it, and
/// read again when that was heard of; how many answers were old then.
async fn stale(process: &Process, other: &mut Other, kind: &'static str, rounds: u64) -> usize {
    let mut stale = 0;
    for round in 1..=rounds {
        // To hear of the mark this process must have it.
        process.get("mark").await;
        other.order(&format!("all {kind} {round}"));
        let reading = process.clone();
        let reading = context::spawn(async move {
            for_all(|key| {
                let process = reading.clone();
                async move { process.read(kind, &key).await }
            })
            .await
        });
        reading.await.unwrap();
        other.wait_for("done");
        until("the mark", async || {
            process.get("mark").await == Some(round)
        })
        .await;
        let answers = for_all(|key| async move { process.read(kind, &key).await }).await;
        stale += answers
            .iter()
            .filter(|answer| **answer != Some(round))
            .count();
    }
    println!("{kind}: {rounds} rounds of {KEYS} keys, {stale} stale");
    stale
}

async fn race(backend: &str, rounds: u64) {
    let (url, name) = (shared_redis_url(), unique_name("processes"));
    let process = Process::connect(backend, &url, &name).await;
    let mut other = Other::start(backend, &url, &name);
    for kind in ["load", "plain", "put"] {
        assert_eq!(stale(&process, &mut other, kind, rounds).await, 0, "{kind}");
        process.cache.clear().await.unwrap();
    }
    for key in (0..KEYS).map(|n| process.source_key(&format!("k{n}"))) {
        process.source.delete(&key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_nothing_is_stale_after_races_with_another_process() {
    race("redis", 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_nor_with_the_other_client_library_between_processes() {
    race("fred", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n01_two_processes_load_once() {
    let (url, name) = (shared_redis_url(), unique_name("once"));
    let process = Process::connect("redis", &url, &name).await;
    let mut other = Other::start("redis", &url, &name);
    let key = process.source_key("k");
    process.source.set(&key, &7).await.unwrap();
    let loading = process.clone();
    let (begun, began) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = tokio::sync::oneshot::channel();
    let call = context::spawn(async move {
        let load = move || async move {
            begun.send(()).unwrap();
            goes_on.await.unwrap();
            Ok::<u64, io::Error>(5)
        };
        *loading.cache.get_or_load("k", load).await.unwrap()
    });
    began.await.unwrap();
    // It finds the mark of the load here and waits for that, instead of loading a 7.
    other.order("ask k");
    tokio::time::sleep(Duration::from_millis(300)).await;
    go_on.send(()).unwrap();
    assert_eq!(call.await.unwrap(), 5);
    assert_eq!(other.wait_for("answer"), "answer 5");
    process.cache.clear().await.unwrap();
    process.source.delete(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n02_process_that_is_killed_while_it_loads_harms_nobody() {
    let (url, name) = (shared_redis_url(), unique_name("killed"));
    let process = Process::connect("redis", &url, &name).await;
    // Its mark is still there; whoever waits for it loads at last: at the end of its own time, or,
    // with more time than that, at the end of the mark.
    for (key, patience) in [("k", Duration::from_secs(1)), ("l", LIMIT)] {
        let mut other = Other::start("redis", &url, &name);
        other.order(&format!("hang {key}"));
        other.wait_for("loading");
        drop(other);
        let policy = CachePolicy::new(Duration::from_secs(600))
            .load_timeout(patience)
            .wait_timeout(2 * LIMIT);
        let killed = Instant::now();
        let load = || async { Ok::<u64, io::Error>(7) };
        let loaded = process.cache.get_or_load_with(key, &policy, load).await;
        assert_eq!(*loaded.unwrap(), 7);
        let took = killed.elapsed();
        assert!(took < LIMIT, "{key}: {took:?}");
        let stored = process.source.namespaced(&name);
        let stored = stored.get::<u64>(key).await;
        // While the mark is there nobody else may store a value.
        assert_eq!(stored.is_ok_and(|v| v == Some(7)), key == "l");
    }
    process.cache.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n09_n20_what_another_process_writes_is_seen_soon() {
    let (url, name) = (shared_redis_url(), unique_name("soon"));
    let process = Process::connect("redis", &url, &name).await;
    let mut other = Other::start("redis", &url, &name);
    for value in 1..=20 {
        let kind = ["put", "plain"][value as usize % 2];
        other.tell(&format!("one {kind} k {value}"));
        until("the new value", async || {
            process.get("k").await == Some(value)
        })
        .await;
        process.cache.put("k", value + 100).await.unwrap();
    }
    process.cache.clear().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n11_what_was_written_while_the_connection_was_cut_is_noticed() {
    let server = RedisServer::start(RedisConfig::new());
    let name = unique_name("cut");
    let process = Process::connect("redis", &server.url(), &name).await;
    let mut other = Other::start("redis", &server.url(), &name);
    for value in 1..=5 {
        process.get("k").await;
        let flushes = process.cache.stats().flushes;
        // Both are cut off; what is written between is news to nobody.
        let mut raw = server.client();
        raw.text(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        raw.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        raw.text(&["SET", &format!("{name}:k"), &format!("{}", value * 10)]);
        until("the flush", async || {
            process.cache.stats().flushes > flushes
        })
        .await;
        let read = process.cache.get::<u64>("k").await.unwrap().unwrap();
        assert_eq!((*read, read.freshness()), (value * 10, Freshness::Fresh));
        other.tell(&format!("one plain k {value}"));
        until("the other's value", async || {
            process.get("k").await == Some(value)
        })
        .await;
    }
}
