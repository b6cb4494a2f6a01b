//! Layers for the suite, each with what it takes up of the longest key.

use std::sync::Arc;
use std::time::Duration;

use infra_resilience::{CircuitBreaker, Retry};
use infra_state::StateDriver;
use infra_state::layer::{
    AttemptTimeouts, Compression, EncryptionKey, Faults, Forward, Keyring, Layers, SizeLimits,
};

const TENANT: &str = "a tenant/with: 100%";
const TENANT_BYTES: usize = "a tenant%2Fwith%3A 100%25:".len();
/// What the limits leave of the longest key is so much less.
const LIMITED_BYTES: usize = 24;

fn limits() -> SizeLimits {
    SizeLimits::new()
        .value_bytes(1024 * 1024 + 100)
        .key_bytes(1024 - LIMITED_BYTES)
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

fn timeout() -> AttemptTimeouts {
    AttemptTimeouts::new(Duration::from_secs(20))
}

pub(crate) fn size_limits() -> (Layers, usize) {
    (Layers::new().size_limits(limits()), LIMITED_BYTES)
}

pub(crate) fn tenant() -> (Layers, usize) {
    (Layers::new().tenant(TENANT), TENANT_BYTES)
}

pub(crate) fn tracing_and_metrics() -> (Layers, usize) {
    (Layers::new().tracing().metrics(), 0)
}

pub(crate) fn custom() -> (Layers, usize) {
    (Layers::new().custom("nothing", nothing), 0)
}

pub(crate) fn retry_breaker_and_timeout() -> (Layers, usize) {
    let layers = Layers::new().retry(&retry()).breaker(breaker());
    (layers.timeout(timeout()), 0)
}

pub(crate) fn compression() -> (Layers, usize) {
    (Layers::new().compression(Compression::above(64)), 0)
}

pub(crate) fn encryption() -> (Layers, usize) {
    (Layers::new().encryption(keys()), 0)
}

pub(crate) fn faults() -> (Layers, usize) {
    let faults = Faults::seeded(1).latency(0.001, Duration::ZERO..=Duration::from_millis(1));
    (Layers::new().faults(faults), 0)
}

/// Fails often enough that nothing would pass without repetition.
pub(crate) fn all_together() -> (Layers, usize) {
    (all(0.02), TENANT_BYTES.max(LIMITED_BYTES))
}

/// An encrypted counter that many add to is many calls where each takes its time, and one of them
/// that fails is a failed increment: so fewer fail.
pub(crate) fn all_together_on_disk_or_network() -> (Layers, usize) {
    (all(0.0005), TENANT_BYTES.max(LIMITED_BYTES))
}

/// All layers, where this share of the calls to the driver fails.
pub(crate) fn all(faulty: f64) -> Layers {
    Layers::new()
        .size_limits(limits())
        .tenant(TENANT)
        .tracing()
        .metrics()
        .custom("nothing", nothing)
        .retry(&retry())
        .breaker(breaker())
        .timeout(timeout())
        .compression(Compression::above(64))
        .encryption(keys())
        .faults(Faults::seeded(42).fail_before(faulty))
}

/// A layer of one's own, which changes nothing.
fn nothing(inner: Arc<dyn StateDriver>) -> Arc<dyn StateDriver> {
    Arc::new(Nothing(inner))
}

struct Nothing(Arc<dyn StateDriver>);

impl Forward for Nothing {
    fn inner(&self) -> &dyn StateDriver {
        &*self.0
    }
}

/// A module with the whole suite for each of the functions above that is named, on fixtures made
/// by the given `async fn(Layers, usize) -> Fixture`.
macro_rules! layer_suites {
    ($fixture:path => $($layers:ident)*) => {$(
        mod $layers {
            async fn fixture() -> infra_state::conformance::Fixture {
                let (layers, taken) = $crate::layers::$layers();
                $fixture(layers, taken).await
            }

            infra_state::conformance_tests!(fixture);
        }
    )*};
}
pub(crate) use layer_suites;

/// The same with one test for each layer, which costs one process instead of one for each row.
macro_rules! layer_suites_in_one_test_each {
    ($fixture:path => $($layers:ident)*) => {$(
        mod $layers {
            async fn fixture() -> infra_state::conformance::Fixture {
                let (layers, taken) = $crate::layers::$layers();
                $fixture(layers, taken).await
            }

            #[test]
            fn passes_the_suite() {
                infra_state::conformance_in_one_test!(fixture);
            }
        }
    )*};
}
pub(crate) use layer_suites_in_one_test_each;
