//! The conformance suite on a real server, through all layers together.
#![cfg(feature = "redis")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[allow(dead_code, reason = "others run on memory and on a file")]
#[path = "../../crates/infra-state/tests/support/layers.rs"]
mod layers;

use std::time::Duration;

use infra_state::conformance::Fixture;
use infra_state::layer::Layers;
use infra_state::{StateOptions, StateStore, StoreOptions, create_state_store};
use infra_tests::servers::{shared_redis_url, unique_name};

async fn connect(layers: &Layers) -> StateStore {
    let limit = Duration::from_secs(20);
    let store = StoreOptions::new().max_value_bytes(2 * 1024 * 1024);
    let options = StateOptions::new()
        .url(shared_redis_url())
        .connect_timeout(limit)
        .store(store.read_timeout(limit).write_timeout(limit))
        .layers(layers.clone());
    create_state_store("redis", options).await.unwrap()
}

async fn over_redis(layers: Layers, taken: usize) -> Fixture {
    let name = unique_name("layers");
    let store = connect(&layers).await.namespaced(&name);
    let other = connect(&layers).await.namespaced(&name);
    Fixture::new(store, other).namespace_bytes(taken + name.len() + 1)
}

layers::layer_suites! { crate::over_redis => all_together_on_disk_or_network }
