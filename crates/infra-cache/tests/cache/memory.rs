//! What is kept in this process, and what is counted.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use infra_cache::{CacheOptions, CachePolicy, CacheStore};
use infra_core::context;

use crate::allocations;
use crate::support::{World, secs, settle};

/// Polls once what must be ready at once, and counts the allocations of that.
fn once<F: Future>(future: F) -> (u64, F::Output) {
    let before = allocations();
    let mut future = pin!(future);
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(output) = polled else {
        unreachable!("a hit is ready at once")
    };
    (allocations() - before, output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn n13_the_bound_holds_under_eight_threads() {
    const BOUND: u64 = 1 << 20;
    let cache = CacheStore::memory_with(CacheOptions::new().max_bytes(BOUND));
    let writers: Vec<_> = (0..8_usize)
        .map(|writer| {
            let cache = cache.clone();
            context::spawn(async move {
                for n in 0..4000 {
                    let value = "x".repeat((n * 37 + writer * 101) % 4000);
                    cache.put(&format!("{writer}-{n}"), value).await.unwrap();
                    let weight = cache.stats().weight;
                    assert!(weight <= BOUND + BOUND / 20, "{weight}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.weight > BOUND / 2, "{stats:?}");
    // Two writes at once of keys that share a generation are not kept.
    let accounted = stats.entries + stats.evictions;
    assert!(
        (8 * 4000 - 50..=8 * 4000).contains(&accounted),
        "{accounted}"
    );
}

#[tokio::test]
async fn n13_what_is_too_large_is_not_kept_here_but_in_the_store() {
    let world = World::new();
    let cache = world.cache(world.options().max_bytes(1 << 20)).await;
    cache.put("small", 1_u64).await.unwrap();
    let large = "x".repeat(70_000);
    cache.put("large", large.clone()).await.unwrap();
    assert!(cache.peek::<String>("large").is_none());
    assert!(cache.peek::<u64>("small").is_some());
    assert_eq!(*cache.get::<String>("large").await.unwrap().unwrap(), large);
    assert_eq!(cache.stats().bypassed, 2);
    // A value that has grown too large takes the small one along.
    cache.put("small", large.clone()).await.unwrap();
    assert!(cache.peek::<u64>("small").is_none());
    assert_eq!(cache.stats().entries, 0);
}

#[tokio::test]
async fn n21_a_hit_shares_the_value_and_allocates_nothing() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        cache.put("k", vec![1_u64; 1000]).await.unwrap();
        let first = cache.get::<Vec<u64>>("k").await.unwrap().unwrap();
        let (made, got) = once(cache.get::<Vec<u64>>("k"));
        assert!(Arc::ptr_eq(
            &first.into_inner(),
            &got.unwrap().unwrap().into_inner()
        ));
        assert_eq!(made, 0);
        let load = || async { Ok::<Vec<u64>, io::Error>(Vec::new()) };
        let (made, got) = once(cache.get_or_load("k", load));
        assert_eq!((made, got.unwrap().len()), (0, 1000));
        let load = || async { Ok::<Option<Vec<u64>>, io::Error>(None) };
        let (made, got) = once(cache.find_or_load("k", load));
        assert_eq!((made, got.unwrap().unwrap().len()), (0, 1000));
    }
    assert_eq!(once(async { Box::new(7) }).0, 1);
}

#[tokio::test]
async fn n22_every_counter_is_exact() {
    let world = World::new();
    let policy = CachePolicy::new(secs(60))
        .soft_ttl(secs(10))
        .stale_if_error(secs(60))
        .early_refresh(0.0)
        .jitter(0.0);
    let cache = world
        .cache(world.options().policy(policy).max_bytes(16 * 1024))
        .await;
    let load = |value: Result<u64, io::Error>| move || async move { value };
    let broken = || Err(io::Error::other("broken"));
    cache.get_or_load("k", load(Ok(1))).await.unwrap(); // miss, load
    cache.get_or_load("k", load(Ok(2))).await.unwrap(); // hit
    cache.get::<u64>("k").await.unwrap(); // hit
    cache.get::<u64>("absent").await.unwrap(); // miss
    cache.get_or_load("bad", load(broken())).await.unwrap_err(); // miss, load, load error
    world.space().set("foreign", &3_u64).await.unwrap();
    cache.get::<u64>("foreign").await.unwrap(); // miss, backend hit
    world.clock.advance(secs(10));
    cache.get_or_load("k", load(Ok(2))).await.unwrap(); // stale, load, refresh
    settle().await;
    cache.get_or_load("k", load(Ok(3))).await.unwrap(); // hit
    world.clock.advance(secs(61));
    world.set_down(true);
    cache.get_or_load("k", load(broken())).await.unwrap(); // miss, load and backend error, stale
    world.set_down(false);
    cache.invalidate("k").await.unwrap();
    cache.invalidate_prefix("k").await.unwrap();
    cache.clear().await.unwrap();
    cache.put("large", "x".repeat(2000)).await.unwrap(); // bypassed
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.backend_hits), (3, 5, 1));
    assert_eq!((stats.loads, stats.load_errors, stats.refreshes), (4, 2, 1));
    assert_eq!((stats.stale_served, stats.backend_errors), (2, 1));
    assert_eq!((stats.invalidations, stats.flushes), (3, 0));
    assert_eq!((stats.bypassed, stats.evictions), (1, 0));
    assert_eq!((stats.entries, stats.weight), (0, 0));
    assert_eq!(stats.max_weight, 16 * 1024);
    for n in 0..100 {
        cache.put(&format!("key-{n:02}"), n).await.unwrap();
    }
    let stats = cache.stats();
    assert!(stats.evictions > 0);
    assert_eq!(stats.entries + stats.evictions, 100);
    let per_entry = stats.weight as f64 / stats.entries as f64;
    assert!((160.0..200.0).contains(&per_entry), "{per_entry}");
}

/// A hundred keys are asked for again and again; meanwhile ten thousand others are read once.
#[tokio::test]
async fn n24_a_scan_of_cold_keys_does_not_push_out_the_hot_ones() {
    let cache = CacheStore::memory_with(CacheOptions::new().max_bytes(200 * 1024));
    let ask = async |key: String| {
        let load = || async { Ok::<u64, io::Error>(1) };
        cache.get_or_load(&key, load).await.unwrap();
    };
    let hot = async || {
        for n in 0..100 {
            ask(format!("hot-{n}")).await;
        }
    };
    for _ in 0..10 {
        hot().await;
    }
    let before = cache.stats();
    let mut hot_reads = 0;
    for n in 0..10_000 {
        ask(format!("cold-{n}")).await;
        if n % 100 == 99 {
            hot().await;
            hot_reads += 100;
        }
    }
    let hits = cache.stats().hits - before.hits;
    let ratio = hits as f64 / f64::from(hot_reads);
    assert!(ratio >= 0.9, "{ratio}");
    assert!(cache.stats().evictions > 8000);
}
