//! The conformance suite on a real server, through each layer and through all of them together,
//! over both client libraries.
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

async fn connect(backend: &str, layers: &Layers) -> StateStore {
    let limit = Duration::from_secs(20);
    let store = StoreOptions::new().max_value_bytes(2 * 1024 * 1024);
    let options = StateOptions::new()
        .url(shared_redis_url())
        .connect_timeout(limit)
        .store(store.read_timeout(limit).write_timeout(limit))
        .layers(layers.clone());
    create_state_store(backend, options).await.unwrap()
}

async fn over(backend: &str, layers: Layers, taken: usize) -> Fixture {
    let name = unique_name("layers");
    let store = connect(backend, &layers).await.namespaced(&name);
    let other = connect(backend, &layers).await.namespaced(&name);
    Fixture::new(store, other).namespace_bytes(taken + name.len() + 1)
}

async fn over_redis(layers: Layers, taken: usize) -> Fixture {
    over("redis", layers, taken).await
}

async fn over_fred(layers: Layers, taken: usize) -> Fixture {
    over("fred", layers, taken).await
}

layers::layer_suites! { crate::over_redis => all_together_on_disk_or_network }

mod on_redis {
    crate::layers::layer_suites_in_one_test_each! { crate::over_redis =>
        size_limits tenant tracing_and_metrics custom retry_breaker_and_timeout compression
        encryption faults
    }
}

mod on_fred {
    crate::layers::layer_suites_in_one_test_each! { crate::over_fred =>
        size_limits tenant tracing_and_metrics custom retry_breaker_and_timeout compression
        encryption faults all_together_on_disk_or_network
    }
}
