//! What becomes of values that others change.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use infra_cache::{
    BoxError, CacheOptions, CachePolicy, CacheStore, Cached, ErrorKind, EventInvalidation,
    Invalidation, InvalidationChannel, InvalidationGuard, InvalidationSink,
};
use infra_core::{BoxFuture, Classify, Outcome, context};
use infra_events::EventBus;
use infra_state::StateStore;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::{World, secs, settle, until};

/// A load of `value` that ends when the gate opens.
fn slow_load(
    cache: &CacheStore,
    value: u64,
) -> (Arc<Semaphore>, JoinHandle<infra_cache::Result<Cached<u64>>>) {
    let gate = Arc::new(Semaphore::new(0));
    let (cache, opens) = (cache.clone(), gate.clone());
    let call = context::spawn(async move {
        let load = move || async move {
            opens.acquire().await.unwrap().forget();
            Ok::<u64, io::Error>(value)
        };
        cache.get_or_load("k", load).await
    });
    (gate, call)
}

#[tokio::test]
async fn n06_a_value_invalidated_during_its_load_is_not_kept() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        let (gate, call) = slow_load(&cache, 1);
        settle().await;
        cache.invalidate("k").await.unwrap();
        // Who comes now does not get the old load's value.
        let (next_gate, next) = slow_load(&cache, 2);
        settle().await;
        gate.add_permits(1);
        assert_eq!(*call.await.unwrap().unwrap(), 1);
        assert!(cache.peek::<u64>("k").is_none());
        next_gate.add_permits(1);
        assert_eq!(*next.await.unwrap().unwrap(), 2);
        assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
        assert_eq!(cache.stats().loads, 2);
        cache.clear().await.unwrap();
    }
}

/// Neither process hears of the other: the mark in the store does it.
#[tokio::test]
async fn n06_another_process_s_invalidation_during_a_load_is_seen() {
    let world = World::new();
    let (loading, other) = (
        world.cache(world.options()).await,
        world.cache(world.options()).await,
    );
    let (gate, call) = slow_load(&loading, 1);
    settle().await;
    other.invalidate("k").await.unwrap();
    gate.add_permits(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert!(loading.get::<u64>("k").await.unwrap().is_none());
    assert!(other.get::<u64>("k").await.unwrap().is_none());
    assert!(!world.space().exists("k").await.unwrap());
}

#[tokio::test]
async fn n07_a_value_written_during_a_load_wins() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        let (gate, call) = slow_load(&cache, 1);
        settle().await;
        cache.put("k", 2_u64).await.unwrap();
        gate.add_permits(1);
        assert_eq!(*call.await.unwrap().unwrap(), 1);
        assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
        cache.clear().await.unwrap();
    }
    // Also when it was written by a program that knows nothing of the cache.
    let cache = world.cache(world.options()).await;
    let (gate, call) = slow_load(&cache, 1);
    settle().await;
    world.space().set("k", &3_u64).await.unwrap();
    gate.add_permits(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn n07_without_versions_the_generation_alone_decides() {
    let world = World::new();
    world.spy.versions.store(false, Ordering::SeqCst);
    let cache = world.cache(world.options()).await;
    let (gate, call) = slow_load(&cache, 1);
    settle().await;
    cache.put("k", 2_u64).await.unwrap();
    gate.add_permits(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
    assert_eq!(world.space().get::<u64>("k").await.unwrap(), Some(2));
    let (gate, call) = slow_load(&cache, 7);
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    cache.invalidate("k").await.unwrap();
    let (gate, call) = slow_load(&cache, 8);
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    assert_eq!(world.space().get::<u64>("k").await.unwrap(), Some(8));
}

#[tokio::test]
async fn n08_a_prefix_and_everything_invalidate_loads_too() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        for all in [false, true] {
            cache.put("kept", 9_u64).await.unwrap();
            cache.put("k2", 9_u64).await.unwrap();
            let (gate, call) = slow_load(&cache, 1);
            settle().await;
            let removed = match all {
                true => cache.clear().await.unwrap(),
                false => {
                    cache.invalidate_prefix("k2").await.unwrap()
                        + cache.invalidate_prefix("k").await.unwrap()
                }
            };
            assert!(removed >= 2, "{removed}");
            gate.add_permits(1);
            assert_eq!(*call.await.unwrap().unwrap(), 1);
            for key in ["k", "k2", "kept"] {
                assert!(cache.get::<u64>(key).await.unwrap().is_none(), "{key}");
            }
        }
    }
}

#[tokio::test]
async fn n08_a_prefix_is_literal_and_leaves_others() {
    let world = World::new();
    for cache in [CacheStore::memory(), world.cache(world.options()).await] {
        for key in ["a*1", "a*2", "ab1", "b"] {
            cache.put(key, 1_u64).await.unwrap();
        }
        assert_eq!(cache.invalidate_prefix("a*").await.unwrap(), 2);
        assert!(cache.get::<u64>("a*1").await.unwrap().is_none());
        assert!(cache.get::<u64>("ab1").await.unwrap().is_some());
        assert!(cache.get::<u64>("b").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn n09_what_others_write_is_heard_of() {
    let store = StateStore::memory();
    let one = CacheStore::over(store.clone(), CacheOptions::new())
        .await
        .unwrap();
    let two = CacheStore::over(store.clone(), CacheOptions::new())
        .await
        .unwrap();
    assert!(one.is_tracking());
    one.put("k", 1_u64).await.unwrap();
    assert_eq!(*two.get::<u64>("k").await.unwrap().unwrap(), 1);
    until("one's own write came back", || {
        one.stats().invalidations > 0
    })
    .await;
    assert_eq!(*one.get::<u64>("k").await.unwrap().unwrap(), 1);
    two.put("k", 2_u64).await.unwrap();
    until("the new value", || {
        one.peek::<u64>("k").is_none_or(|v| *v == 2)
    })
    .await;
    assert_eq!(*one.get::<u64>("k").await.unwrap().unwrap(), 2);
    // A program that knows nothing of the cache.
    store.namespaced("cache").delete("k").await.unwrap();
    until("the end of the value", || one.peek::<u64>("k").is_none()).await;
    assert!(one.get::<u64>("k").await.unwrap().is_none());
}

#[tokio::test]
async fn n10_with_the_news_cut_off_the_local_time_to_live_bounds_staleness() {
    let world = World::tracking(); // whose news never come
    let deaf = world.cache(world.options()).await;
    let other = world.cache(world.options()).await;
    other.put("k", 1_u64).await.unwrap();
    assert_eq!(*deaf.get::<u64>("k").await.unwrap().unwrap(), 1);
    other.put("k", 2_u64).await.unwrap();
    world.clock.advance(secs(29));
    assert_eq!(*deaf.get::<u64>("k").await.unwrap().unwrap(), 1);
    world.clock.advance(secs(1));
    assert_eq!(*deaf.get::<u64>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn n11_after_a_gap_nothing_counts_as_fresh_before_it_was_asked_for() {
    let world = World::tracking();
    let cache = world.cache(world.options()).await;
    let space = world.space();
    space.set("k", &1_u64).await.unwrap();
    cache.get::<u64>("k").await.unwrap();
    space.set("k", &2_u64).await.unwrap();
    world.spy.sinks.lock().unwrap()[0].gap("lost on purpose");
    until("the flush", || cache.stats().flushes == 1).await;
    assert!(cache.peek::<u64>("k").is_none());
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
    // The news end altogether: again, and then it listens anew.
    space.set("k", &3_u64).await.unwrap();
    world.spy.sinks.lock().unwrap().clear();
    until("it listens again", || {
        cache.is_tracking() && world.spy.sinks.lock().unwrap().len() == 1
    })
    .await;
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 3);
    let key = "cache:k";
    space.set("k", &4_u64).await.unwrap();
    world.spy.sinks.lock().unwrap()[0].changed(key);
    until("the key", || cache.peek::<u64>("k").is_none()).await;
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn n11_what_was_being_read_during_a_gap_is_not_kept() {
    let world = World::tracking();
    let cache = world.cache(world.options()).await;
    let (gate, call) = slow_load(&cache, 1);
    settle().await;
    world.spy.sinks.lock().unwrap()[0].gap("lost on purpose");
    until("the flush", || cache.stats().flushes == 1).await;
    world.space().set("k", &2_u64).await.unwrap();
    gate.add_permits(1);
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn n11_a_store_that_is_down_at_first_is_listened_to_later() {
    let world = World::tracking();
    world.set_down(true);
    let cache = world.cache(world.options()).await;
    assert!(!cache.is_tracking());
    world.set_down(false);
    until("it listens", || cache.is_tracking()).await;
}

/// Connects all caches that listen to it; the test can lose messages.
#[derive(Clone, Default)]
struct Wire {
    sinks: Arc<Mutex<Vec<InvalidationSink>>>,
    cut: Arc<AtomicBool>,
    told: Arc<AtomicU64>,
}

impl InvalidationChannel for Wire {
    fn publish<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            if self.cut.load(Ordering::SeqCst) {
                return Err("cut on purpose".into());
            }
            self.told.fetch_add(1, Ordering::SeqCst);
            let sinks = self.sinks.lock().unwrap().clone();
            sinks.iter().for_each(|sink| sink.apply(what));
            Ok(())
        })
    }

    fn subscribe(
        &self,
        sink: InvalidationSink,
    ) -> BoxFuture<'_, Result<InvalidationGuard, BoxError>> {
        Box::pin(async move {
            if self.cut.load(Ordering::SeqCst) {
                return Err("cut on purpose".into());
            }
            self.sinks.lock().unwrap().push(sink);
            Ok(Box::new(()) as InvalidationGuard)
        })
    }
}

#[tokio::test]
async fn n09_a_channel_carries_keys_prefixes_and_all() {
    let world = World::new();
    let wire = Wire::default();
    let (one, two) = (
        world.cache(world.options()).await,
        world.cache(world.options()).await,
    );
    one.listen(wire.clone()).await.unwrap();
    two.listen(wire.clone()).await.unwrap();
    for (key, value) in [("a1", 1_u64), ("a2", 1), ("b", 1)] {
        one.put(key, value).await.unwrap();
        two.get::<u64>(key).await.unwrap();
    }
    one.put("a1", 2_u64).await.unwrap();
    assert_eq!(*two.get::<u64>("a1").await.unwrap().unwrap(), 2);
    one.invalidate_prefix("a").await.unwrap();
    assert!(two.peek::<u64>("a2").is_none() && two.peek::<u64>("b").is_some());
    one.clear().await.unwrap();
    assert!(two.get::<u64>("b").await.unwrap().is_none());
    assert!(wire.told.load(Ordering::SeqCst) >= 6);
    // Others that cannot be told are no reason for a write to fail.
    wire.cut.store(true, Ordering::SeqCst);
    one.put("b", 3_u64).await.unwrap();
    let error = one.listen(wire).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Channel);
}

#[tokio::test]
async fn n09_an_event_bus_carries_invalidations_and_says_when_it_lost_some() {
    let world = World::new();
    let bus = EventBus::memory();
    let (one, two) = (
        world.cache(world.options()).await,
        world.cache(world.options()).await,
    );
    for cache in [&one, &two] {
        let channel = EventInvalidation::new(bus.clone(), "cache.invalidations");
        cache.listen(channel).await.unwrap();
    }
    one.put("k", 1_u64).await.unwrap();
    until("two has applied it", || two.stats().invalidations == 1).await;
    assert_eq!(*two.get::<u64>("k").await.unwrap().unwrap(), 1);
    one.put("k", 2_u64).await.unwrap();
    until("two has applied it", || two.stats().invalidations == 2).await;
    assert_eq!(*two.get::<u64>("k").await.unwrap().unwrap(), 2);
    // One's own messages are no news to it.
    assert_eq!(one.stats().invalidations, 0);
    let flushes = two.stats().flushes;
    bus.publish("cache.invalidations", "no invalidation")
        .await
        .unwrap();
    until("two trusts nothing", || two.stats().flushes > flushes).await;
    let flushes = two.stats().flushes;
    bus.close().await.unwrap();
    until("two trusts nothing", || two.stats().flushes > flushes).await;
}

#[tokio::test]
async fn n20_the_store_is_written_first_and_an_unknown_outcome_is_forgotten() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    cache.put("k", 1_u64).await.unwrap();
    world.spy.mute.store(true, Ordering::SeqCst);
    let error = cache.put("k", 2_u64).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(cache.peek::<u64>("k").is_none());
    world.spy.mute.store(false, Ordering::SeqCst);
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
    // Not applied: what is kept is still right.
    world.set_down(true);
    let error = cache.put("k", 3_u64).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(*cache.peek::<u64>("k").unwrap(), 2);
    // A removal that may have happened is not ignored.
    assert!(cache.invalidate("k").await.is_err());
    assert!(cache.peek::<u64>("k").is_none());
}

#[tokio::test]
async fn n20_others_are_told_of_a_write_that_may_have_been_applied() {
    let world = World::new();
    let wire = Wire::default();
    let (one, two) = (
        world.cache(world.options()).await,
        world.cache(world.options()).await,
    );
    one.listen(wire.clone()).await.unwrap();
    two.listen(wire.clone()).await.unwrap();
    one.put("k", 1_u64).await.unwrap();
    assert_eq!(*two.get::<u64>("k").await.unwrap().unwrap(), 1);
    world.spy.mute.store(true, Ordering::SeqCst);
    let error = one.put("k", 2_u64).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(*two.get::<u64>("k").await.unwrap().unwrap(), 2);
    // What was not applied is no news.
    world.set_down(true);
    let told = wire.told.load(Ordering::SeqCst);
    assert!(one.put("k", 3_u64).await.is_err());
    assert_eq!(wire.told.load(Ordering::SeqCst), told);
}

#[tokio::test]
async fn n20_a_dropped_write_leaves_nothing_in_doubt() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    cache.put("k", 1_u64).await.unwrap();
    drop(cache.put("k", 2_u64)); // never polled: nothing happened
    assert!(cache.peek::<u64>("k").is_some());
    world.spy.hang.store(true, Ordering::SeqCst);
    let mut put = Box::pin(cache.put("k", 2_u64));
    assert!(!futures_poll(&mut put));
    drop(put);
    assert!(cache.peek::<u64>("k").is_none());
    assert_eq!(*cache.get::<u64>("k").await.unwrap().unwrap(), 2);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx).is_ready()
}

#[tokio::test]
async fn n20_two_writers_of_one_key_end_with_the_store_s_value() {
    let world = World::new();
    let cache = world.cache(world.options()).await;
    for round in 0..200_u64 {
        let (one, two) = tokio::join!(cache.put("k", round), cache.put("k", round + 1000));
        one.unwrap();
        two.unwrap();
        let stored = world.space().get::<u64>("k").await.unwrap();
        assert_eq!(cache.get::<u64>("k").await.unwrap().map(|v| *v), stored);
    }
}

#[tokio::test]
async fn n23_close_and_the_last_drop_end_all_tasks() {
    for close in [true, false] {
        let world = World::tracking();
        let cache = world.cache(world.options()).await;
        struct OnDrop(Arc<AtomicBool>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let (held, asking) = (OnDrop(dropped.clone()), cache.clone());
        let load = move || async move {
            let _held = held;
            std::future::pending::<Result<u64, io::Error>>().await
        };
        let mut call = Box::pin(async move { asking.get_or_load("k", load).await });
        assert!(!futures_poll(&mut call));
        settle().await;
        if close {
            let clone = cache.clone();
            cache.close().await;
            clone.close().await;
            let error = call.await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            let error = clone.get::<u64>("k").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert!(clone.put("k", 1_u64).await.is_err());
            assert!(clone.clear().await.is_err());
            // The store was given, so it stays open.
            world.store.ping().await.unwrap();
        } else {
            drop(call);
            drop(cache);
        }
        until("the load is gone", || dropped.load(Ordering::SeqCst)).await;
        until("nobody listens", || {
            world.spy.sinks.lock().unwrap()[0].is_closed()
        })
        .await;
    }
}

#[tokio::test]
async fn a_value_is_gone_after_close_also_where_it_was_kept() {
    let cache = CacheStore::memory_with(CacheOptions::new().policy(CachePolicy::new(secs(60))));
    cache.put("k", 1_u64).await.unwrap();
    cache.close().await;
    assert!(cache.peek::<u64>("k").is_none());
    assert!(cache.get::<u64>("k").await.is_err());
}
