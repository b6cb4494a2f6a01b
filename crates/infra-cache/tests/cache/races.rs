//! N12: invalidations against loads and reads, a hundred thousand times.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use infra_cache::{CacheOptions, CachePolicy, CacheStore};
use infra_core::context;
use infra_state::StateStore;

const KEYS: usize = 1000;
const BATCHES: u64 = 50;

/// Without chance and without expiry within the test.
fn options(tracking: bool) -> CacheOptions {
    let policy = CachePolicy::new(Duration::from_secs(600));
    let options = CacheOptions::new().policy(policy).tracking(tracking);
    options.local_ttl(Duration::from_secs(600))
}

/// The last thing that is changed: news come in order, so whoever hears of it has heard all.
const END: &str = "end";

async fn hears_of_the_end(reader: &CacheStore, batch: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while reader.get::<u64>(END).await.unwrap().as_deref() != Some(&batch) {
        assert!(Instant::now() < deadline, "no news of batch {batch}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One task reads through `reader` while another writes the source and invalidates through
/// `writer`, 50,000 times; whatever is left, once all is heard of nothing old is.
async fn load_against_invalidation(reader: CacheStore, writer: CacheStore) {
    let source: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let ask = |cache: &CacheStore, key: usize| {
        let (cache, source) = (cache.clone(), source.clone());
        async move {
            let load = move || async move {
                let value = source[key].load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<u64, io::Error>(value)
            };
            *cache.get_or_load(&format!("k{key}"), load).await.unwrap()
        }
    };
    let mut stale = 0;
    writer.put(END, 0_u64).await.unwrap();
    hears_of_the_end(&reader, 0).await;
    for batch in 1..=BATCHES {
        let reading = {
            let asks: Vec<_> = (0..KEYS).map(|key| ask(&reader, key)).collect();
            context::spawn(async move {
                for ask in asks {
                    ask.await;
                }
            })
        };
        for (key, value) in source.iter().enumerate() {
            value.store(batch, Ordering::SeqCst);
            writer.invalidate(&format!("k{key}")).await.unwrap();
        }
        reading.await.unwrap();
        writer.put(END, batch).await.unwrap();
        hears_of_the_end(&reader, batch).await;
        for key in 0..KEYS {
            stale += u32::from(ask(&reader, key).await != batch);
            stale += u32::from(ask(&writer, key).await != batch);
        }
    }
    assert_eq!(stale, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_no_load_survives_an_invalidation_in_one_process() {
    let cache = CacheStore::memory_with(options(false));
    load_against_invalidation(cache.clone(), cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_no_load_survives_an_invalidation_by_another_cache() {
    let store = StateStore::memory();
    let reader = CacheStore::over(store.clone(), options(true))
        .await
        .unwrap();
    let writer = CacheStore::over(store, options(true)).await.unwrap();
    load_against_invalidation(reader, writer).await;
}

/// Reads against plain writes of a program that knows nothing of the cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n12_no_read_survives_a_foreign_write() {
    let store = StateStore::memory();
    let reader = CacheStore::over(store.clone(), options(true))
        .await
        .unwrap();
    let space = store.namespaced("cache");
    let mut stale = 0;
    space.set(END, &0).await.unwrap();
    hears_of_the_end(&reader, 0).await;
    for batch in 1..=BATCHES {
        let reading = {
            let reader = reader.clone();
            context::spawn(async move {
                for key in 0..KEYS {
                    let _ = reader.get::<u64>(&format!("k{key}")).await.unwrap();
                }
            })
        };
        for key in 0..KEYS {
            space.set(&format!("k{key}"), &batch).await.unwrap();
        }
        reading.await.unwrap();
        space.set(END, &batch).await.unwrap();
        hears_of_the_end(&reader, batch).await;
        for key in 0..KEYS {
            let read = reader.get::<u64>(&format!("k{key}")).await.unwrap();
            stale += u32::from(read.is_none_or(|value| *value != batch));
        }
    }
    assert_eq!(stale, 0);
}
