//! The cache over a real server: two caches over connections of their own, a raw client that knows
//! nothing of them, and servers that go down.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use infra_cache::{
    CacheOptions, CachePolicy, CacheStore, ErrorKind, EventInvalidation, Freshness,
    create_cache_store,
};
use infra_core::{Classify, Outcome, context};
use infra_events::{EventBus, EventOptions};
use infra_state::{StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::raw::RawClient;
use infra_tests::servers::{RedisConfig, RedisServer, shared_redis_url, unique_name};
use tokio::sync::Semaphore;

/// Without chance; no end within a test.
fn policy() -> CachePolicy {
    CachePolicy::new(Duration::from_secs(600))
        .jitter(0.0)
        .early_refresh(0.0)
}

fn options(name: &str) -> CacheOptions {
    CacheOptions::new()
        .name(name)
        .policy(policy())
        .local_ttl(Duration::from_secs(600))
}

async fn store(backend: &str, url: &str) -> StateStore {
    let limit = Duration::from_secs(20);
    let deadlines = StoreOptions::new().read_timeout(limit).write_timeout(limit);
    let options = StateOptions::new()
        .url(url)
        .connect_timeout(limit)
        .store(deadlines.bulk_timeout(limit));
    create_state_store(backend, options).await.unwrap()
}

/// A cache with connections of its own, as in another process, that hears of others through the
/// store.
async fn process(backend: &str, url: &str, options: CacheOptions) -> CacheStore {
    let cache = CacheStore::over(store(backend, url).await, options)
        .await
        .unwrap();
    assert!(cache.is_tracking() && cache.is_shared());
    cache
}

/// One that hears of others through an event bus only.
async fn process_with_events(url: &str, options: CacheOptions) -> CacheStore {
    let options = options.tracking(false);
    let cache = CacheStore::over(store("redis", url).await, options)
        .await
        .unwrap();
    let bus = EventBus::connect_with(EventOptions::default().url(url))
        .await
        .unwrap();
    let channel = EventInvalidation::new(bus, format!("{}.invalidations", cache.name()));
    cache.listen(channel).await.unwrap();
    assert!(!cache.is_tracking());
    cache
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn get(cache: &CacheStore, key: &str) -> Option<u64> {
    cache.get::<u64>(key).await.unwrap().map(|value| *value)
}

fn load(value: u64) -> impl Future<Output = Result<u64, io::Error>> {
    std::future::ready(Ok(value))
}

#[tokio::test]
async fn values_are_plain_json_that_expires() {
    let url = shared_redis_url();
    let name = unique_name("plain");
    let cache = create_cache_store("redis", options(&name).url(url.clone()))
        .await
        .unwrap();
    let mut raw = RawClient::from_url(&url).unwrap();
    cache.put("k", vec![1_u64, 2]).await.unwrap();
    let key = format!("{name}:k");
    assert_eq!(raw.text(&["GET", &key]), "[1,2]");
    let left: u64 = raw.text(&["PTTL", &key]).parse().unwrap();
    assert!((500_000..=600_000).contains(&left), "{left}");
    cache.get_or_load("loaded", || load(7)).await.unwrap();
    assert_eq!(raw.text(&["GET", &format!("{name}:loaded")]), "7");
    assert_eq!(cache.clear().await.unwrap(), 2);
    assert_eq!(raw.text(&["EXISTS", &key]), "0");
    cache.close().await;
    let error = cache.put("k", 1_u64).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn n06_n07_whoever_changes_a_key_during_its_load_wins() {
    let url = shared_redis_url();
    let name = unique_name("during");
    let cache = process("redis", &url, options(&name)).await;
    let mut raw = RawClient::from_url(&url).unwrap();
    let key = format!("{name}:k");
    for set in [true, false] {
        let (begun, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (asking, begins, opens) = (cache.clone(), begun.clone(), gate.clone());
        let call = context::spawn(async move {
            let load = move || async move {
                begins.store(1, Ordering::SeqCst);
                opens.acquire().await.unwrap().forget();
                Ok::<u64, io::Error>(1)
            };
            asking.get_or_load("k", load).await
        });
        until("the load", async || begun.load(Ordering::SeqCst) == 1).await;
        let mark: u64 = raw.text(&["PTTL", &key]).parse().unwrap();
        assert!(mark <= 35_000, "{mark}");
        match set {
            true => raw.text(&["SET", &key, "2"]),
            false => raw.text(&["DEL", &key]),
        };
        gate.add_permits(1);
        assert_eq!(*call.await.unwrap().unwrap(), 1);
        assert_eq!(get(&cache, "k").await, set.then_some(2));
        cache.invalidate("k").await.unwrap();
    }
}

#[tokio::test]
async fn n09_what_another_process_writes_is_seen_soon() {
    let url = shared_redis_url();
    for hears_by in ["redis", "fred", "events"] {
        let name = unique_name("soon");
        let start = async || match hears_by {
            "events" => process_with_events(&url, options(&name)).await,
            backend => process(backend, &url, options(&name)).await,
        };
        let (one, two) = (start().await, start().await);
        for round in 0..20_u64 {
            one.put("k", round).await.unwrap();
            until("the new value", async || {
                get(&two, "k").await == Some(round)
            })
            .await;
            two.invalidate("k").await.unwrap();
            until("its end", async || get(&one, "k").await.is_none()).await;
        }
        one.put("a1", 1_u64).await.unwrap();
        until("a1", async || get(&two, "a1").await == Some(1)).await;
        assert_eq!(one.invalidate_prefix("a").await.unwrap(), 1);
        until("its end", async || get(&two, "a1").await.is_none()).await;
    }
}

#[tokio::test]
async fn n10_without_any_news_the_local_time_to_live_bounds_staleness() {
    let url = shared_redis_url();
    let name = unique_name("deaf");
    let local = Duration::from_millis(300);
    let deaf = options(&name).tracking(false).local_ttl(local);
    let deaf = CacheStore::over(store("redis", &url).await, deaf)
        .await
        .unwrap();
    let other = process("redis", &url, options(&name)).await;
    other.put("k", 1_u64).await.unwrap();
    assert_eq!(get(&deaf, "k").await, Some(1));
    other.put("k", 2_u64).await.unwrap();
    let begun = Instant::now();
    until("the new value", async || get(&deaf, "k").await == Some(2)).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn n11_a_lost_connection_flushes_and_what_was_missed_is_noticed() {
    let server = RedisServer::start(RedisConfig::new());
    for hears_by in ["redis", "fred", "events"] {
        let name = unique_name("cut");
        let start = async || match hears_by {
            "events" => process_with_events(&server.url(), options(&name)).await,
            backend => process(backend, &server.url(), options(&name)).await,
        };
        let cache = start().await;
        let mut raw = server.client();
        let key = format!("{name}:k");
        raw.text(&["SET", &key, "1"]);
        for value in 2..6_u64 {
            get(&cache, "k").await;
            let flushes = cache.stats().flushes;
            // The event bus does not know of this one, and then all connections go.
            raw.text(&["SET", &key, &value.to_string()]);
            raw.text(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            raw.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            until("the flush", async || cache.stats().flushes > flushes).await;
            let read = cache.get::<u64>("k").await.unwrap().unwrap();
            assert_eq!((*read, read.freshness()), (value, Freshness::Fresh));
        }
        until("it hears again", async || {
            let other = start().await;
            get(&cache, "again").await;
            other.put("again", 1_u64).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            cache.peek::<u64>("again").is_none_or(|value| *value == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn n14_nothing_outlives_the_server_s_own_expiry() {
    let url = shared_redis_url();
    let name = unique_name("expiry");
    let cache = process("redis", &url, options(&name)).await;
    let mut raw = RawClient::from_url(&url).unwrap();
    raw.text(&["SET", &format!("{name}:k"), "1", "PX", "300"]);
    assert_eq!(get(&cache, "k").await, Some(1));
    let begun = Instant::now();
    until("its end", async || get(&cache, "k").await.is_none()).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_after_a_hundred_thousand_races_nothing_is_stale() {
    race("redis", 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_nor_with_the_other_client_library() {
    race("fred", 5).await;
}

/// Two times 1,000 rounds a batch: each a load of what another process invalidates at the same
/// time, or a read of what another program overwrites. The client library's own cache kept 14 to
/// 45 % stale.
async fn race(backend: &str, batches: u64) {
    const KEYS: usize = 1000;
    let url = shared_redis_url();
    let name = unique_name("race");
    let reader = process(backend, &url, options(&name)).await;
    let writer = process(backend, &url, options(&name)).await;
    let plain = store(backend, &url).await.namespaced(&name);
    let source: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let ask = |key: usize| {
        let (cache, source) = (reader.clone(), source.clone());
        async move {
            let load = move || async move {
                let value = source[key].load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<u64, io::Error>(value)
            };
            *cache.get_or_load(&format!("k{key}"), load).await.unwrap()
        }
    };
    // The last thing that is changed: news come in order, so who hears of it has heard all.
    let all_is_heard = async |batch: u64| {
        plain.set("end", &batch).await.unwrap();
        until("news of the end", async || {
            get(&reader, "end").await == Some(batch)
        })
        .await;
    };
    let mut stale = 0;
    all_is_heard(0).await;
    for batch in 1..=batches {
        let asks: Vec<_> = (0..KEYS).map(ask).collect();
        let reading = futures_util::stream::iter(asks)
            .buffer_unordered(64)
            .for_each(|_| async {});
        let reading = context::spawn(reading);
        let invalidate = |key: usize| {
            source[key].store(batch, Ordering::SeqCst);
            let writer = writer.clone();
            async move { writer.invalidate(&format!("k{key}")).await.unwrap() }
        };
        futures_util::stream::iter((0..KEYS).map(invalidate))
            .buffer_unordered(64)
            .for_each(|()| async {})
            .await;
        reading.await.unwrap();
        all_is_heard(batch).await;
        let asked = futures_util::stream::iter((0..KEYS).map(ask)).buffer_unordered(64);
        let answers: Vec<u64> = asked.collect().await;
        stale += answers.iter().filter(|value| **value != batch).count();
    }
    assert_eq!(stale, 0, "after loads");
    all_is_heard(0).await;
    for batch in 1..=batches {
        let read = |key: usize| {
            let reader = reader.clone();
            async move { get(&reader, &format!("r{key}")).await }
        };
        let reads: Vec<_> = (0..KEYS).map(read).collect();
        let reading = futures_util::stream::iter(reads)
            .buffer_unordered(64)
            .for_each(|_| async {});
        let reading = context::spawn(reading);
        let write = |key: usize| {
            let plain = plain.clone();
            async move { plain.set(&format!("r{key}"), &batch).await.unwrap() }
        };
        futures_util::stream::iter((0..KEYS).map(write))
            .buffer_unordered(64)
            .for_each(|()| async {})
            .await;
        reading.await.unwrap();
        all_is_heard(batch).await;
        let read = futures_util::stream::iter((0..KEYS).map(read)).buffer_unordered(64);
        let values: Vec<Option<u64>> = read.collect().await;
        stale += values.iter().filter(|value| **value != Some(batch)).count();
    }
    assert_eq!(stale, 0, "after reads");
    writer.clear().await.unwrap();
}

#[tokio::test]
async fn n19_a_server_that_is_gone_leaves_marked_old_values_and_refused_writes() {
    let mut server = RedisServer::start(RedisConfig::new());
    let name = unique_name("gone");
    let limit = Duration::from_secs(2);
    let deadlines = StoreOptions::new().read_timeout(limit).write_timeout(limit);
    let options = options(&name)
        .policy(policy().stale_if_error(Duration::from_secs(600)))
        .local_ttl(Duration::from_millis(50))
        .store(deadlines)
        .url(server.url());
    let cache = create_cache_store("redis", options).await.unwrap();
    cache.put("k", 1_u64).await.unwrap();
    // It hears of its own write too, and asks for the value again then.
    until("news of its own write", async || {
        cache.stats().invalidations > 0
    })
    .await;
    until("the value kept here", async || {
        get(&cache, "k").await == Some(1) && cache.peek::<u64>("k").is_some()
    })
    .await;
    server.kill();
    until("the old value, marked", async || {
        let read = cache.get::<u64>("k").await;
        read.is_ok_and(|value| value.is_some_and(|v| v.freshness() == Freshness::StaleOnError))
    })
    .await;
    let error = cache.put("k", 2_u64).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.is_transient());
    // What can be loaded is loaded, without the server.
    assert_eq!(*cache.get_or_load("new", || load(5)).await.unwrap(), 5);
    assert!(cache.stats().backend_errors > 0);
    server.restart();
    until("the server", async || cache.put("k", 3_u64).await.is_ok()).await;
    until("the new value", async || get(&cache, "k").await == Some(3)).await;
}

#[tokio::test]
async fn n20_a_write_without_an_answer_is_unknown_and_not_kept() {
    let server = RedisServer::start(RedisConfig::new());
    let name = unique_name("mute");
    let deadlines = StoreOptions::new().write_timeout(Duration::from_secs(2));
    let options = options(&name).store(deadlines).url(server.url());
    let cache = create_cache_store("redis", options).await.unwrap();
    cache.put("k", 1_u64).await.unwrap();
    get(&cache, "k").await;
    let mut raw = server.client();
    raw.text(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let error = cache.put("k", 2_u64).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(cache.peek::<u64>("k").is_none());
    // The server applies it later, and that is what is read.
    raw.text(&["CLIENT", "UNPAUSE"]);
    until("the late write", async || get(&cache, "k").await == Some(2)).await;
}

#[tokio::test]
async fn elasticache_is_redis_with_tls_and_nothing_less() {
    let server = RedisServer::start(RedisConfig::new().tls());
    let refused = create_cache_store("elasticache", options("plain").url(server.url())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidUrl);
    let ca = server.certificates().ca.display();
    let url = format!("{}/?ca_file={ca}", server.tls_url());
    let cache = create_cache_store("elasticache", options("tls").url(url))
        .await
        .unwrap();
    cache.put("k", 7_u64).await.unwrap();
    assert_eq!(server.client().text(&["GET", "tls:k"]), "7");
    let refused = create_cache_store("memcached", CacheOptions::new()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::UnknownBackend);
}
