//! The suite through each layer, through all of them together, and with values in MessagePack.
#![cfg(all(
    feature = "resilience",
    feature = "encryption",
    feature = "compression",
    feature = "metrics",
    feature = "msgpack"
))]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use infra_core::ManualClock;
use infra_resilience::{CircuitBreaker, Retry};
use infra_state::conformance::{self, Fixture, Waits};
use infra_state::layer::{
    AttemptTimeouts, Compression, EncryptionKey, Faults, Forward, Keyring, Layers, SizeLimits,
};
use infra_state::{Encoding, MemoryDriver, MemoryOptions, StateDriver, StateStore, StoreOptions};

const TENANT: &str = "a tenant/with: 100%";
/// What the tenant's name takes up of a key.
const TENANT_BYTES: usize = "a tenant%2Fwith%3A 100%25:".len();

fn options() -> StoreOptions {
    StoreOptions::new().max_value_bytes(2 * 1024 * 1024)
}

fn fixture_with(layers: &Layers, options: StoreOptions, clock: ManualClock) -> Fixture {
    let memory = MemoryOptions::new().clock(clock.shared());
    let driver: Arc<dyn StateDriver> = Arc::new(MemoryDriver::new(memory));
    let handle = || StateStore::layered(driver.clone(), layers, options.clone()).unwrap();
    Fixture::new(handle(), handle()).wait_with(move |time| {
        clock.advance(time);
        async {}
    })
}

fn fixture(layers: Layers) -> Fixture {
    fixture_with(&layers, options(), ManualClock::new())
}

fn limits() -> SizeLimits {
    SizeLimits::new()
        .value_bytes(1024 * 1024 + 100)
        .key_bytes(1000)
        .bulk_keys(4_000)
        .bulk_bytes(4 * 1024 * 1024)
}

fn retry() -> Retry {
    Retry::constant(Duration::from_millis(1))
        .max_attempts(10)
        .build()
        .unwrap()
}

fn keys() -> Keyring {
    let old = EncryptionKey::new([2; 32]);
    Keyring::new("2026-11", EncryptionKey::new([1; 32]))
        .and_then(|ring| ring.and_old("2025", old))
        .unwrap()
}

fn breaker() -> CircuitBreaker {
    CircuitBreaker::builder("state").build().unwrap()
}

/// Fails often enough that nothing would pass without repetition.
fn all() -> Layers {
    Layers::new()
        .size_limits(limits())
        .tenant(TENANT)
        .tracing()
        .metrics()
        .custom("nothing", |inner| Arc::new(Nothing(inner)))
        .retry(&retry())
        .breaker(breaker())
        .timeout(AttemptTimeouts::new(Duration::from_secs(5)))
        .compression(Compression::above(64))
        .encryption(keys())
        .faults(Faults::seeded(42).fail_before(0.02))
}

/// Changes nothing.
struct Nothing(Arc<dyn StateDriver>);

impl Forward for Nothing {
    fn inner(&self) -> &dyn StateDriver {
        &*self.0
    }
}

macro_rules! suites {
    ($($name:ident: $fixture:expr;)*) => {$(
        mod $name {
            use super::*;

            async fn fixture() -> Fixture {
                $fixture
            }

            infra_state::conformance_tests!(fixture);
        }
    )*};
}

suites! {
    size_limits: super::fixture(Layers::new().size_limits(limits())).namespace_bytes(24);
    tenant: super::fixture(Layers::new().tenant(TENANT)).namespace_bytes(TENANT_BYTES);
    tracing_and_metrics: super::fixture(Layers::new().tracing().metrics());
    custom: super::fixture(Layers::new().custom("nothing", |inner| Arc::new(Nothing(inner))));
    retry_breaker_and_timeout: super::fixture(
        Layers::new()
            .retry(&super::retry())
            .breaker(super::breaker())
            .timeout(AttemptTimeouts::new(Duration::from_secs(5))),
    );
    compression: super::fixture(Layers::new().compression(Compression::above(64)));
    encryption: super::fixture(Layers::new().encryption(keys()));
    faults: super::fixture(Layers::new().faults(
        Faults::seeded(1).latency(0.001, Duration::ZERO..=Duration::from_millis(1)),
    ));
    all_together: super::fixture(all()).namespace_bytes(TENANT_BYTES);
    messagepack: fixture_with(
        &Layers::new(),
        options().encoding(Encoding::MessagePack),
        ManualClock::new(),
    );
}

#[test]
fn s65_all_layers_answer_like_none() {
    let clock = ManualClock::new();
    let layered = fixture_with(&all(), options(), clock.clone());
    let plain = fixture_with(&Layers::new(), options(), clock);
    conformance::run(
        async || layered,
        |left| async { conformance::same_answers(left, plain, Waits::Shared).await },
    );
}
