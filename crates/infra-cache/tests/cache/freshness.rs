//! Fresh, stale, gone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use infra_cache::{CachePolicy, CacheStore, Cached, ErrorKind, Freshness};
use infra_core::{Classify, Outcome};

use crate::support::{World, secs, settle};

/// A source whose value counts up, and that fails on demand.
#[derive(Clone, Default)]
struct Source {
    value: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Source {
    async fn load(self) -> Result<u64, io::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.broken.load(Ordering::SeqCst) {
            true => Err(io::Error::other("broken on purpose")),
            false => Ok(self.value.fetch_add(1, Ordering::SeqCst) + 1),
        }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn ask(cache: &CacheStore, source: &Source) -> infra_cache::Result<Cached<u64>> {
    let source = source.clone();
    cache.get_or_load("k", || source.load()).await
}

/// Without chance: exactly 60 s.
fn minute() -> CachePolicy {
    CachePolicy::new(secs(60)).jitter(0.0).early_refresh(0.0)
}

#[tokio::test]
async fn n14_nothing_outlives_the_store() {
    let world = World::new();
    let cache = world.cache(world.options().policy(minute())).await;
    world.space().set_with("k", &7_u64, secs(5)).await.unwrap();
    assert!(cache.get::<u64>("k").await.unwrap().is_some());
    world.clock.advance(secs(4));
    assert!(cache.get::<u64>("k").await.unwrap().is_some());
    assert_eq!(world.reads(), 1);
    world.clock.advance(secs(1));
    assert!(cache.get::<u64>("k").await.unwrap().is_none());
    assert!(cache.peek::<u64>("k").is_none());
    // And what never expires there is asked for again after the local time to live.
    world.space().set("for_ever", &7_u64).await.unwrap();
    cache.get::<u64>("for_ever").await.unwrap();
    world.space().set("for_ever", &8_u64).await.unwrap();
    world.clock.advance(secs(29));
    assert_eq!(*cache.get::<u64>("for_ever").await.unwrap().unwrap(), 7);
    world.clock.advance(secs(1));
    assert_eq!(*cache.get::<u64>("for_ever").await.unwrap().unwrap(), 8);
}

#[tokio::test]
async fn n15_stale_is_served_without_waiting_while_one_load_renews() {
    let world = World::new();
    let policy = minute().soft_ttl(secs(10));
    for cache in [
        CacheStore::memory_with(world.options().policy(policy)),
        world.cache(world.options().policy(policy)).await,
    ] {
        let source = Source::default();
        assert_eq!(*ask(&cache, &source).await.unwrap(), 1);
        world.clock.advance(secs(9));
        assert_eq!(
            ask(&cache, &source).await.unwrap().freshness(),
            Freshness::Fresh
        );
        world.clock.advance(secs(1));
        for _ in 0..5 {
            let stale = ask(&cache, &source).await.unwrap();
            assert_eq!((*stale, stale.freshness()), (1, Freshness::Stale));
        }
        settle().await;
        let renewed = ask(&cache, &source).await.unwrap();
        assert_eq!((*renewed, renewed.freshness()), (2, Freshness::Fresh));
        assert_eq!(source.calls(), 2);
        let stats = cache.stats();
        assert_eq!(
            (stats.stale_served, stats.refreshes, stats.loads),
            (5, 1, 2)
        );
        cache.clear().await.unwrap();
    }
}

#[tokio::test]
async fn n15_a_soft_end_early_in_a_life_that_varies_comes_when_it_should() {
    let world = World::new();
    // A tenth of the life is three times the soft time to live.
    let policy = CachePolicy::new(secs(300))
        .soft_ttl(secs(10))
        .early_refresh(0.0);
    let one = world.cache(world.options().policy(policy)).await;
    let two = world.cache(world.options().policy(policy)).await;
    let keys: Vec<String> = (0..50).map(|n| format!("quote:{n}")).collect();
    for key in &keys {
        one.put(key, 7_u64).await.unwrap();
    }
    let millis = std::time::Duration::from_millis;
    for (advance, freshness) in [
        (0, Freshness::Fresh),
        (8_900, Freshness::Fresh),
        (2_200, Freshness::Stale),
    ] {
        world.clock.advance(millis(advance));
        for (key, cache) in keys.iter().flat_map(|key| [(key, &one), (key, &two)]) {
            let found = cache.get::<u64>(key).await.unwrap().unwrap();
            assert_eq!(
                found.freshness(),
                freshness,
                "{key} after {advance} ms more"
            );
        }
    }
}

#[tokio::test]
async fn n19_the_last_resort_is_served_when_too_many_loads_run() {
    let world = World::new();
    let policy = minute().stale_if_error(secs(600));
    let cache = CacheStore::memory_with(world.options().policy(policy).max_loads(1));
    let source = Source::default();
    assert_eq!(*ask(&cache, &source).await.unwrap(), 1);
    world.clock.advance(secs(60));
    let hangs = infra_core::context::spawn({
        let cache = cache.clone();
        let hang = std::future::pending::<Result<u64, io::Error>>;
        async move { cache.get_or_load("other", hang).await }
    });
    settle().await;
    let found = ask(&cache, &source).await.unwrap();
    assert_eq!((*found, found.freshness()), (1, Freshness::StaleOnError));
    let found = cache.get::<u64>("k").await.unwrap().unwrap();
    assert_eq!(found.freshness(), Freshness::StaleOnError);
    hangs.abort();
}

#[tokio::test]
async fn n15_what_another_process_renewed_is_not_loaded_again() {
    let world = World::new();
    let policy = minute().soft_ttl(secs(10));
    let one = world.cache(world.options().policy(policy)).await;
    let two = world.cache(world.options().policy(policy)).await;
    let source = Source::default();
    ask(&one, &source).await.unwrap();
    assert_eq!(*ask(&two, &source).await.unwrap(), 1);
    world.clock.advance(secs(12));
    ask(&one, &source).await.unwrap();
    settle().await;
    assert_eq!(*ask(&two, &source).await.unwrap(), 1);
    settle().await;
    assert_eq!(*ask(&two, &source).await.unwrap(), 2);
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn n15_a_stale_value_of_the_store_is_served_and_renewed() {
    let world = World::new();
    let policy = minute().soft_ttl(secs(10));
    let cache = world.cache(world.options().policy(policy)).await;
    let source = Source::default();
    world.space().set_with("k", &0_u64, secs(20)).await.unwrap();
    let stale = ask(&cache, &source).await.unwrap();
    assert_eq!((*stale, stale.freshness()), (0, Freshness::Stale));
    settle().await;
    assert_eq!(*ask(&cache, &source).await.unwrap(), 1);
    assert_eq!(world.space().get::<u64>("k").await.unwrap(), Some(1));
}

#[tokio::test]
async fn n16_a_failed_renewal_keeps_the_old_value_until_its_end() {
    let world = World::new();
    let policy = minute().soft_ttl(secs(10));
    let cache = CacheStore::memory_with(world.options().policy(policy));
    let source = Source::default();
    ask(&cache, &source).await.unwrap();
    source.broken.store(true, Ordering::SeqCst);
    world.clock.advance(secs(10));
    for second in 10..60 {
        let stale = ask(&cache, &source).await.unwrap();
        assert_eq!(
            (*stale, stale.freshness()),
            (1, Freshness::Stale),
            "{second}"
        );
        settle().await;
        world.clock.advance(secs(1));
    }
    let error = ask(&cache, &source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    let stats = cache.stats();
    // At most one renewal a second, and the last call's own load.
    assert_eq!((stats.refreshes, stats.load_errors), (50, 51));
    assert_eq!((stats.stale_served, stats.loads), (50, 52));
    source.broken.store(false, Ordering::SeqCst);
    assert_eq!(*ask(&cache, &source).await.unwrap(), 2);
}

#[tokio::test]
async fn n16_failed_renewals_do_not_storm_the_source() {
    let world = World::new();
    let policy = minute().soft_ttl(secs(10));
    let cache = CacheStore::memory_with(world.options().policy(policy));
    let source = Source::default();
    ask(&cache, &source).await.unwrap();
    source.broken.store(true, Ordering::SeqCst);
    world.clock.advance(secs(10));
    for _ in 0..100 {
        assert!(ask(&cache, &source).await.unwrap().is_stale());
        settle().await;
    }
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn n17_nothing_is_remembered_for_its_own_time() {
    let world = World::new();
    let policy = minute().negative_ttl(secs(5));
    for (cache, store) in [
        (
            CacheStore::memory_with(world.options().policy(policy)),
            false,
        ),
        (world.cache(world.options().policy(policy)).await, true),
    ] {
        let calls = Arc::new(AtomicU64::new(0));
        let find = async || {
            let calls = calls.clone();
            let load = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                Ok::<Option<u64>, io::Error>(None)
            };
            cache
                .find_or_load("k", load)
                .await
                .unwrap()
                .map(|value| *value)
        };
        let before = world.reads();
        for _ in 0..10 {
            assert_eq!(find().await, None);
            assert!(cache.get::<u64>("k").await.unwrap().is_none());
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(world.reads() - before, u64::from(store));
        world.clock.advance(secs(5));
        assert_eq!(find().await, None);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        cache.invalidate("k").await.unwrap();
        assert_eq!(find().await, None);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        cache.put("k", 7_u64).await.unwrap();
        assert_eq!(find().await, Some(7));
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        // A call that needs a value does not take nothing for an answer.
        cache.invalidate("k").await.unwrap();
        assert_eq!(find().await, None);
        let load = || async { Ok::<u64, io::Error>(8) };
        assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 8);
        cache.clear().await.unwrap();
    }
}

#[tokio::test]
async fn n17_nothing_is_shared_and_ends_with_a_foreign_write() {
    let world = World::new();
    let policy = minute().negative_ttl(secs(5));
    let one = world.cache(world.options().policy(policy)).await;
    let two = world.cache(world.options().policy(policy)).await;
    let none = || async { Ok::<Option<u64>, io::Error>(None) };
    assert!(one.find_or_load("k", none).await.unwrap().is_none());
    assert!(two.find_or_load("k", none).await.unwrap().is_none());
    assert_eq!((one.stats().loads, two.stats().loads), (1, 0));
    // Whoever only gets, and does not load, sees nothing either.
    assert!(two.get::<u64>("k").await.unwrap().is_none());
    world.space().set("k", &3_u64).await.unwrap();
    world.clock.advance(secs(5));
    assert_eq!(*two.find_or_load("k", none).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn without_a_negative_time_to_live_nothing_is_remembered() {
    let world = World::new();
    let cache = world.cache(world.options().policy(minute())).await;
    for _ in 0..3 {
        let none = || async { Ok::<Option<u64>, io::Error>(None) };
        assert!(cache.find_or_load("k", none).await.unwrap().is_none());
    }
    assert_eq!(cache.stats().loads, 3);
    assert!(!world.space().exists("k").await.unwrap());
}

/// Eight processes, each asked ten times a second for a value whose load takes 200 ms: without
/// early renewal all of them would load at the moment of expiry, or hit the wall of it.
#[tokio::test]
async fn n18_early_renewals_stay_few_over_eight_processes() {
    let world = World::new();
    let mut caches = Vec::new();
    for seed in 0..8 {
        let policy = CachePolicy::new(secs(60));
        let options = world.options().policy(policy).seed(seed);
        caches.push(world.cache(options.local_ttl(secs(3600))).await);
    }
    let loads = Arc::new(AtomicU64::new(0));
    let step = secs(1) / 10;
    let ten_lives = 10 * 600;
    for _ in 0..ten_lives {
        for cache in &caches {
            let (clock, loads) = (world.clock.clone(), loads.clone());
            let load = move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                clock.advance(secs(1) / 5);
                Ok::<u64, io::Error>(1)
            };
            cache.get_or_load("k", load).await.unwrap();
        }
        settle().await;
        world.clock.advance(step);
    }
    let loads = loads.load(Ordering::SeqCst);
    assert!((10..=30).contains(&loads), "{loads} loads in 10 lives");
    let early: u64 = caches.iter().map(|cache| cache.stats().refreshes).sum();
    assert!(early >= 5, "{early} early");
}

#[tokio::test]
async fn n19_when_the_store_is_down_old_values_are_served_and_marked() {
    let world = World::new();
    let policy = minute().stale_if_error(secs(100));
    let cache = world.cache(world.options().policy(policy)).await;
    cache.put("k", 7_u64).await.unwrap();
    world.set_down(true);
    // Within the local time to live nobody notices.
    assert!(!cache.get::<u64>("k").await.unwrap().unwrap().is_stale());
    world.clock.advance(secs(31));
    let old = cache.get::<u64>("k").await.unwrap().unwrap();
    assert_eq!((*old, old.freshness()), (7, Freshness::StaleOnError));
    let source = Source::default();
    source.broken.store(true, Ordering::SeqCst);
    let old = ask(&cache, &source).await.unwrap();
    assert_eq!((*old, old.freshness()), (7, Freshness::StaleOnError));
    let error = cache.put("k", 8_u64).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(cache.invalidate("other").await.is_err());
    assert_eq!(cache.stats().stale_served, 2);
    // A source that works is better than an old value.
    source.broken.store(false, Ordering::SeqCst);
    assert_eq!(*ask(&cache, &source).await.unwrap(), 1);
    world.clock.advance(secs(200));
    assert!(cache.get::<u64>("k").await.is_err());
    world.set_down(false);
    assert!(cache.get::<u64>("k").await.unwrap().is_none());
}

#[tokio::test]
async fn n19_loads_do_not_ask_a_store_that_is_down_each_time() {
    let world = World::new();
    let cache = world.cache(world.options().policy(minute())).await;
    world.set_down(true);
    let before = world.reads();
    for n in 0..10_u64 {
        let load = move || async move { Ok::<u64, io::Error>(n) };
        let value = cache.get_or_load(&format!("k{n}"), load).await.unwrap();
        assert_eq!(*value, n);
    }
    assert_eq!(world.reads() - before, 1);
    assert_eq!(*cache.get::<u64>("k3").await.unwrap().unwrap(), 3);
    world.set_down(false);
    world.clock.advance(secs(1));
    let load = || async { Ok::<u64, io::Error>(11) };
    cache.get_or_load("again", load).await.unwrap();
    assert_eq!(world.space().get::<u64>("again").await.unwrap(), Some(11));
}
