//! The suite through each layer and through all of them together, over memory and over a file, and
//! with values in MessagePack. `infra-tests` runs it over Redis.
#![cfg(all(
    feature = "resilience",
    feature = "encryption",
    feature = "compression",
    feature = "metrics",
    feature = "msgpack",
    feature = "file"
))]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support/layers.rs"]
mod layers;

use std::sync::Arc;
use std::time::Duration;

use infra_core::ManualClock;
use infra_state::conformance::{self, Fixture, Waits};
use infra_state::layer::Layers;
use infra_state::{
    Encoding, FileDriver, FileDurability, FileOptions, MemoryDriver, MemoryOptions, StateDriver,
    StateStore, StoreOptions,
};

use layers::all;
use tempfile::TempDir;

fn options() -> StoreOptions {
    StoreOptions::new().max_value_bytes(2 * 1024 * 1024)
}

fn memory(clock: &ManualClock) -> Arc<dyn StateDriver> {
    Arc::new(MemoryDriver::new(
        MemoryOptions::new().clock(clock.shared()),
    ))
}

/// A file that is gone with its folder.
async fn file(clock: &ManualClock) -> (Arc<FileDriver>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // How long a commit takes is no matter here.
    let within = Duration::from_millis(200);
    let options = FileOptions::new()
        .clock(clock.shared())
        .durability(FileDurability::Eventual { within });
    let path = folder.path().join("state.redb");
    let driver = FileDriver::open(path, options).await.unwrap();
    (Arc::new(driver), folder)
}

fn fixture(
    driver: &Arc<dyn StateDriver>,
    layers: &Layers,
    options: &StoreOptions,
    clock: ManualClock,
) -> Fixture {
    let handle = || StateStore::layered(driver.clone(), layers, options.clone()).unwrap();
    Fixture::new(handle(), handle()).wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

async fn over_memory(layers: Layers, taken: usize) -> Fixture {
    let clock = ManualClock::new();
    fixture(&memory(&clock), &layers, &options(), clock).namespace_bytes(taken)
}

async fn over_file(layers: Layers, taken: usize) -> Fixture {
    let clock = ManualClock::new();
    let (driver, folder) = file(&clock).await;
    let driver: Arc<dyn StateDriver> = driver;
    let fixture = fixture(&driver, &layers, &options(), clock);
    fixture.namespace_bytes(taken).keeping(folder)
}

/// Each layer alone in one test; all of them together in one for each row, which then says where to
/// look.
mod on_memory {
    crate::layers::layer_suites! { crate::over_memory => all_together }
    crate::layers::layer_suites_in_one_test_each! { crate::over_memory =>
        size_limits tenant tracing_and_metrics custom retry_breaker_and_timeout compression
        encryption faults
    }
}

/// Those that do other things where an answer takes its time have a test for each row.
mod on_file {
    crate::layers::layer_suites! { crate::over_file =>
        retry_breaker_and_timeout encryption all_together_on_disk_or_network
    }
    crate::layers::layer_suites_in_one_test_each! { crate::over_file =>
        size_limits tenant tracing_and_metrics custom compression faults
    }
}

mod messagepack {
    use super::*;

    async fn fixture() -> Fixture {
        let clock = ManualClock::new();
        let options = options().encoding(Encoding::MessagePack);
        super::fixture(&memory(&clock), &Layers::new(), &options, clock)
    }

    infra_state::conformance_tests!(fixture);
}

#[test]
fn s65_all_layers_answer_like_none() {
    let clock = ManualClock::new();
    let layered = fixture(&memory(&clock), &all(0.02), &options(), clock.clone());
    let plain = fixture(&memory(&clock), &Layers::new(), &options(), clock);
    conformance::run(
        async || layered,
        |left| async { conformance::same_answers(left, plain, Waits::Shared).await },
    );
}

#[tokio::test]
async fn every_layer_lends_the_driver_below() {
    let clock = ManualClock::new();
    let (driver, _folder) = file(&clock).await;
    let below: Arc<dyn StateDriver> = driver.clone();
    let is_ours = |store: &StateStore| {
        let lent = store.driver_as::<FileDriver>();
        lent.is_some_and(|lent| std::ptr::eq(lent, &*driver))
    };
    let store = StateStore::layered(below.clone(), &all(0.02), options()).unwrap();
    assert!(is_ours(&store) && is_ours(&store.namespaced("a")));
    assert!(store.driver_as::<MemoryDriver>().is_none());
    // What only files can do goes past the layers: the copy holds what is stored, not what was set.
    store.set("secret", "canary").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.redb");
    let limit = Duration::from_secs(60);
    let lent = store.driver_as::<FileDriver>().unwrap();
    lent.backup(&copy, limit).await.unwrap();
    let copied = FileDriver::open(&copy, FileOptions::new()).await.unwrap();
    let copied: Arc<dyn StateDriver> = Arc::new(copied);
    let plain = StateStore::from_driver(copied.clone(), options());
    assert_eq!(plain.scan("").collect().await.unwrap().len(), 1);
    assert!(plain.get::<String>("secret").await.unwrap().is_none());
    let store = StateStore::layered(copied, &all(0.02), options()).unwrap();
    let found = store.get::<String>("secret").await.unwrap();
    assert_eq!(found.as_deref(), Some("canary"));

    let store = StateStore::layered(memory(&clock), &all(0.02), options()).unwrap();
    assert!(store.driver_as::<MemoryDriver>().is_some());
    assert!(store.driver_as::<FileDriver>().is_none());
}
