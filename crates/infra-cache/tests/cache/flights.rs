//! One load for all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infra_cache::{CacheOptions, CachePolicy, CacheStore, Cached, ErrorKind};
use infra_core::{Class, Classify, TokioClock, context};
use infra_state::{MemoryOptions, StateStore};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::support::{World, secs, settle};

/// Counts the loads, each of which waits for a permit.
#[derive(Clone)]
struct Source {
    loads: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

impl Source {
    fn new() -> Self {
        Source {
            loads: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    async fn load(self) -> Result<u64, io::Error> {
        let number = self.loads.fetch_add(1, Ordering::SeqCst) + 1;
        self.gate.acquire().await.unwrap().forget();
        Ok(number)
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

type Call = JoinHandle<infra_cache::Result<Cached<u64>>>;

fn ask(cache: &CacheStore, source: &Source) -> Call {
    let (cache, source) = (cache.clone(), source.clone());
    context::spawn(async move { cache.get_or_load("k", || source.load()).await })
}

#[tokio::test]
async fn n01_a_hit_asks_nobody_and_a_miss_asks_once() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    world.space().set("k", &7_u64).await.unwrap();
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 7);
    assert_eq!(world.reads(), 1);
    for _ in 0..10 {
        assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 7);
    }
    assert_eq!(world.reads(), 1);

    world.space().set("other", &8_u64).await.unwrap();
    let asking: Vec<_> = (0..1000)
        .map(|_| {
            let cache = cache.clone();
            context::spawn(async move { cache.get::<u64>("other").await })
        })
        .collect();
    for asked in asking {
        assert_eq!(*asked.await.unwrap().unwrap().unwrap(), 8);
    }
    assert_eq!(world.reads(), 2);
}

#[tokio::test]
async fn n01_a_thousand_concurrent_misses_load_once() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        let source = Source::new();
        let asking: Vec<Call> = (0..1000).map(|_| ask(&cache, &source)).collect();
        settle().await;
        source.gate.add_permits(1);
        for asked in asking {
            assert_eq!(*asked.await.unwrap().unwrap(), 1);
        }
        assert_eq!(source.loads(), 1);
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.loads, stats.hits), (1000, 1, 0));
    }
}

#[tokio::test]
async fn n02_the_first_caller_may_leave() {
    let cache = CacheStore::memory();
    let source = Source::new();
    let first = ask(&cache, &source);
    settle().await;
    let second = ask(&cache, &source);
    settle().await;
    first.abort();
    settle().await;
    source.gate.add_permits(1);
    assert_eq!(*second.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn n02_a_load_that_nobody_waits_for_still_fills() {
    let cache = CacheStore::memory();
    let source = Source::new();
    let only = ask(&cache, &source);
    settle().await;
    only.abort();
    source.gate.add_permits(1);
    settle().await;
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn n03_an_error_goes_to_those_who_wait_and_to_nobody_else() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        let go = Arc::new(Notify::new());
        let fail = || {
            let (cache, go) = (cache.clone(), go.clone());
            context::spawn(async move {
                let load = || async move {
                    go.notified().await;
                    Err::<u64, _>(io::Error::from(io::ErrorKind::PermissionDenied))
                };
                cache.get_or_load("k", load).await
            })
        };
        let calls = [fail(), fail(), fail()];
        settle().await;
        go.notify_one();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::Load, Some("k")));
            let cause = error.load_error::<io::Error>().unwrap();
            assert_eq!(cause.kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(error.class(), Class::Permanent);
        }
        let load = || async { Ok::<u64, io::Error>(5) };
        assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 5);
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.load_errors), (2, 1));
    }
}

#[tokio::test]
async fn n04_a_panic_is_an_error_and_the_key_stays_usable() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        async fn broken() -> Result<u64, io::Error> {
            panic!("as planned")
        }
        let error = cache.get_or_load("k", broken).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoadPanicked);
        let load = || async { Ok::<u64, io::Error>(5) };
        assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 5);
        assert_eq!(cache.stats().load_errors, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn n05_each_waiter_has_its_own_deadline_and_the_load_goes_on() {
    let cache = CacheStore::memory_with(CacheOptions::new().clock(TokioClock::shared()));
    let ask = |limit: u64| {
        let cache = cache.clone();
        context::spawn(async move {
            let policy = CachePolicy::default().wait_timeout(Duration::from_millis(limit));
            let load = || async {
                tokio::time::sleep(secs(1)).await;
                Ok::<u64, io::Error>(5)
            };
            let begun = tokio::time::Instant::now();
            let answer = cache.get_or_load_with("k", &policy, load).await;
            (answer.map(|value| *value), begun.elapsed())
        })
    };
    let calls = [ask(100), ask(300), ask(2000)];
    for (call, limit) in calls.into_iter().zip([100, 300, 1000]) {
        let (answer, took) = call.await.unwrap();
        let limit = Duration::from_millis(limit);
        assert!(
            took >= limit && took < limit + Duration::from_millis(50),
            "{took:?}"
        );
        match answer {
            Ok(value) => assert_eq!((value, limit), (5, secs(1))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
        }
    }
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 5);
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test(start_paused = true)]
async fn n05_a_hanging_load_is_dropped_in_the_end() {
    let cache = CacheStore::memory_with(CacheOptions::new().clock(TokioClock::shared()));
    let policy = CachePolicy::default()
        .load_timeout(secs(3))
        .wait_timeout(secs(60));
    let hang = || std::future::pending::<Result<u64, io::Error>>();
    let error = cache
        .get_or_load_with("k", &policy, hang)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoadTimeout);
    let load = || async { Ok::<u64, io::Error>(5) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 5);
}

#[tokio::test]
async fn loads_are_bounded() {
    let cache = CacheStore::memory_with(CacheOptions::new().max_loads(1));
    let source = Source::new();
    let running = ask(&cache, &source);
    settle().await;
    let load = || async { Ok::<u64, io::Error>(5) };
    let error = cache.get_or_load("other", load).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.is_safe_to_repeat());
    source.gate.add_permits(1);
    running.await.unwrap().unwrap();
    settle().await;
    let load = || async { Ok::<u64, io::Error>(5) };
    cache.get_or_load("other", load).await.unwrap();
}

#[tokio::test]
async fn a_load_runs_in_the_context_of_who_came_first() {
    let cache = CacheStore::memory();
    let bot = context::bind("bot", "alpha")
        .scope(cache.get_or_load("k", || async {
            let bot = context::current().get("bot").map(ToString::to_string);
            Ok::<String, io::Error>(bot.unwrap_or_default())
        }))
        .await;
    assert_eq!(*bot.unwrap(), "alpha");
}

#[tokio::test(start_paused = true)]
async fn shared_loads_load_once_for_all_processes() {
    let world = World::new();
    let options = || {
        let clock = TokioClock::shared();
        world.options().clock(clock).shared_loads(true)
    };
    let (one, two) = (world.cache(options()).await, world.cache(options()).await);
    let source = Source::new();
    let calls = [ask(&one, &source), ask(&two, &source), ask(&two, &source)];
    tokio::time::sleep(secs(1)).await;
    assert_eq!(source.loads(), 1);
    source.gate.add_permits(1);
    for call in calls {
        assert_eq!(*call.await.unwrap().unwrap(), 1);
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shared_load_whose_process_died_is_taken_over() {
    let world = World::new();
    let policy = CachePolicy::default().load_timeout(secs(2));
    let options = || {
        let clock = TokioClock::shared();
        world
            .options()
            .clock(clock)
            .policy(policy)
            .shared_loads(true)
    };
    let (dead, alive) = (world.cache(options()).await, world.cache(options()).await);
    let never = Source::new();
    let lost = ask(&dead, &never);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(never.loads(), 1);
    lost.abort();
    drop(dead); // its mark stays, as after kill -9
    let load = || async { Ok::<u64, io::Error>(9) };
    assert_eq!(*alive.get_or_load("k", load).await.unwrap(), 9);
}

/// With the default policy a load may take longer than its callers wait.
#[tokio::test(start_paused = true)]
async fn a_shared_load_whose_process_died_is_taken_over_while_callers_wait() {
    let clock = TokioClock::shared();
    let store = StateStore::memory_with(MemoryOptions::new().clock(clock.clone()));
    let options = || {
        let options = CacheOptions::new().clock(clock.clone()).seed(1);
        options.shared_loads(true)
    };
    let dead = CacheStore::over(store.clone(), options()).await.unwrap();
    let alive = CacheStore::over(store.clone(), options()).await.unwrap();
    let never = Source::new();
    let lost = ask(&dead, &never);
    // Long enough that the mark has to have been renewed.
    tokio::time::sleep(secs(20)).await;
    assert_eq!(never.loads(), 1);
    let third = CacheStore::over(store.clone(), options()).await.unwrap();
    let waits = ask(&third, &never);
    tokio::time::sleep(secs(8)).await;
    assert_eq!(never.loads(), 1, "nobody else loads while the load goes on");
    lost.abort();
    waits.abort();
    third.close().await;
    drop(dead); // its mark stays, as after kill -9
    let began = tokio::time::Instant::now();
    let load = || async { Ok::<u64, io::Error>(9) };
    assert_eq!(*alive.get_or_load("k", load).await.unwrap(), 9);
    assert!(began.elapsed() < secs(7), "{:?}", began.elapsed());
    assert_eq!(alive.stats().loads, 1);
    let stored = store.namespaced("cache").get::<u64>("k").await.unwrap();
    assert_eq!(stored, Some(9), "and it is there for others");
}

#[tokio::test(start_paused = true)]
async fn the_value_of_a_long_load_is_stored() {
    let clock = TokioClock::shared();
    let store = StateStore::memory_with(MemoryOptions::new().clock(clock.clone()));
    let options = CacheOptions::new().clock(clock);
    let cache = CacheStore::over(store.clone(), options).await.unwrap();
    let source = Source::new();
    let call = ask(&cache, &source);
    tokio::time::sleep(secs(9)).await;
    source.gate.add_permits(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    let stored = store.namespaced("cache").get::<u64>("k").await.unwrap();
    assert_eq!(stored, Some(1));
}

#[tokio::test]
async fn two_types_under_one_key_do_not_mix() {
    let cache = CacheStore::memory();
    cache.put("k", 5_u64).await.unwrap();
    assert!(cache.peek::<String>("k").is_none());
    let load = || async { Ok::<String, io::Error>("five".into()) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), "five");
    assert!(cache.peek::<u64>("k").is_none());
}

#[tokio::test]
async fn what_cannot_be_read_is_loaded_anew() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    world.space().set("k", "text").await.unwrap();
    let error = cache.get::<u64>("k").await.unwrap_err();
    let cause = error.store_error().unwrap();
    assert_eq!(cause.kind(), infra_state::ErrorKind::Decode);
    let load = || async { Ok::<u64, io::Error>(5) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 5);
    assert_eq!(world.space().get::<u64>("k").await.unwrap(), Some(5));
}

#[tokio::test]
async fn warm_fills_what_it_can_and_names_the_rest() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let load = |key: String| async move {
        match key.parse::<u64>() {
            Ok(13) => Err(io::Error::other("unlucky")),
            Ok(number) => Ok(number),
            Err(error) => Err(io::Error::other(error)),
        }
    };
    let report = cache.warm(keys, 8, load).await;
    assert_eq!(report.ready, 99);
    assert_eq!(report.failed[0].0, "13");
    assert_eq!(*cache.peek::<u64>("99").unwrap(), 99);
    assert_eq!(world.space().get::<u64>("42").await.unwrap(), Some(42));
}

#[tokio::test]
async fn bad_keys_and_values_are_refused_alike_with_and_without_a_store() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        for key in ["", "a\nb", &"x".repeat(1025)] {
            let load = || async { Ok::<u64, io::Error>(5) };
            let error = cache.get_or_load(key, load).await.unwrap_err();
            let cause = error.store_error().unwrap();
            assert_eq!(cause.kind(), infra_state::ErrorKind::InvalidKey);
            assert!(cache.put(key, 5_u64).await.is_err());
            assert!(cache.invalidate(key).await.is_err());
            assert!(cache.get::<u64>(key).await.is_err());
        }
        let error = cache.put("k", f64::NAN).await.unwrap_err();
        let cause = error.store_error().unwrap();
        assert_eq!(cause.kind(), infra_state::ErrorKind::Encode);
        let load = || async { Ok::<f64, io::Error>(f64::NAN) };
        assert!(cache.get_or_load("k", load).await.is_err());
        assert!(cache.get::<f64>("k").await.unwrap().is_none());
    }
}
