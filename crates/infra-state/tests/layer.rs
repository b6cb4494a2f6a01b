//! What each layer does that no driver does by itself.
#![cfg(all(
    feature = "resilience",
    feature = "encryption",
    feature = "compression",
    feature = "metrics",
    feature = "msgpack"
))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{Class, Classify, Outcome, TokioClock};
use infra_resilience::retry::Jitter;
use infra_resilience::{CircuitBreaker, Retry};
use infra_state::layer::{
    AttemptTimeouts, Compression, EncryptionKey, Faults, Forward, Keyring, Layers, SizeLimits,
};
use infra_state::{
    Capabilities, DriverError, DriverResult, Encoding, ErrorKind, Expiry, MemoryDriver,
    MemoryOptions, Requirement, StateDriver, StateOptions, StateStore, StoreOptions, TtlState,
    Versions, WatchEvent, create_state_store,
};
use tokio::time::Instant;

fn memory() -> Arc<dyn StateDriver> {
    Arc::new(MemoryDriver::new(MemoryOptions::new()))
}

fn layered(driver: &Arc<dyn StateDriver>, layers: Layers) -> StateStore {
    StateStore::layered(driver.clone(), &layers, StoreOptions::new()).unwrap()
}

fn plain(driver: &Arc<dyn StateDriver>) -> StateStore {
    layered(driver, Layers::new())
}

fn ring(byte: u8) -> Keyring {
    Keyring::new("k1", EncryptionKey::new([byte; 32])).unwrap()
}

// ---- order

fn refused(layers: Layers) -> String {
    let error = StateStore::layered(memory(), &layers, StoreOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLayers);
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Permanent, Outcome::NotApplied)
    );
    error.to_string()
}

#[test]
fn an_order_that_makes_no_sense_is_refused_and_says_why() {
    let new = Layers::new;
    let retry = Retry::exponential().build().unwrap();
    let breaker = CircuitBreaker::builder("b").build().unwrap();
    let compression = Compression::above(100);
    let shown = refused(new().encryption(ring(1)).compression(compression));
    assert!(
        shown.contains("`compression` has to come before `encryption`"),
        "{shown}"
    );
    let shown = refused(new().breaker(breaker.clone()).retry(&retry));
    assert!(
        shown.contains("`retry` has to come before `breaker`"),
        "{shown}"
    );
    let shown = refused(
        new()
            .tracing()
            .timeout(AttemptTimeouts::new(Duration::MAX))
            .tracing(),
    );
    assert!(shown.contains("`tracing`"), "{shown}");
    for layers in [
        new()
            .faults(Faults::seeded(1))
            .timeout(AttemptTimeouts::new(Duration::MAX)),
        new()
            .timeout(AttemptTimeouts::new(Duration::MAX))
            .breaker(breaker),
        new().metrics().tracing(),
        new().tracing().tenant("a"),
        new().tenant("a").size_limits(SizeLimits::new()),
        new().tenant("a").tenant("b"),
        new()
            .encryption(ring(1))
            .custom("c", |inner| inner)
            .compression(compression),
        new().tracing().custom("c", |inner| inner).tracing(),
    ] {
        refused(layers);
    }
    let twice = new()
        .custom("c", |inner| inner)
        .tracing()
        .custom("c", |inner| inner);
    assert!(StateStore::layered(memory(), &twice, StoreOptions::new()).is_ok());
    assert_eq!(format!("{twice:?}"), r#"["c", "tracing", "c"]"#);
}

#[tokio::test]
async fn stores_made_by_name_have_their_layers_too() {
    let options = StateOptions::new().layers(Layers::new().tenant("acme"));
    let store = create_state_store("memory", options).await.unwrap();
    assert_eq!(store.capabilities().max_key_bytes, 1024 - "acme:".len());
    let senseless = StateOptions::new().layers(Layers::new().tracing().tracing());
    let error = create_state_store("memory", senseless).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidLayers);
}

#[test]
fn requirements_hold_for_what_the_layers_leave() {
    struct Blind(Arc<dyn StateDriver>);
    impl Forward for Blind {
        fn inner(&self) -> &dyn StateDriver {
            &*self.0
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities().with_watch(false)
        }
    }
    let options = StoreOptions::new().requires(Requirement::Watch);
    let layers = Layers::new().custom("blind", |inner| Arc::new(Blind(inner)));
    let error = StateStore::layered(memory(), &layers, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

// ---- size limits

#[tokio::test]
async fn s05_what_is_too_large_is_refused_before_anything_is_done() {
    let driver = memory();
    let limits = SizeLimits::new()
        .value_bytes(10)
        .key_bytes(8)
        .bulk_keys(3)
        .bulk_bytes(15);
    let store = layered(&driver, Layers::new().size_limits(limits));
    let kind = |result: infra_state::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(
            (error.class(), error.outcome()),
            (Class::Permanent, Outcome::NotApplied)
        );
        error.kind()
    };
    store.set_bytes("k", "0123456789").await.unwrap();
    let error = store.set_bytes("k", "0123456789a").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::TooLarge, Some("k"))
    );
    assert_eq!(
        kind(store.set_bytes("too-long-a-key", "1").await),
        ErrorKind::InvalidKey
    );
    let many = ["a", "b", "c", "d"];
    assert_eq!(
        kind(store.get_many::<i64>(&many).await.map(drop)),
        ErrorKind::Capacity
    );
    assert_eq!(
        kind(store.delete_many(&many).await.map(drop)),
        ErrorKind::Capacity
    );
    let entries = many.map(|key| (key, 1));
    assert_eq!(kind(store.set_many(&entries).await), ErrorKind::Capacity);
    let entries = [("a", "12345678"), ("b", "12345678")];
    assert_eq!(kind(store.set_many(&entries).await), ErrorKind::TooLarge);
    assert_eq!(store.capabilities().max_transaction_ops, 3);
    let two = store
        .transaction()
        .set("a", "12345678")
        .set("b", "12345678");
    assert_eq!(kind(two.commit().await.map(drop)), ErrorKind::TooLarge);
    assert_eq!(plain(&driver).scan("").collect().await.unwrap(), ["k"]);
}

// ---- tenants

#[tokio::test]
async fn s44_tenants_never_see_each_other() {
    let driver = memory();
    let names = ["a", "a:b", "ab", "a/b", ""];
    let stores = names.map(|name| layered(&driver, Layers::new().tenant(name)));
    let mut watch = stores[0].watch("").await.unwrap();
    assert_eq!(watch.next().await, Some(WatchEvent::Ready));
    for (number, store) in stores.iter().enumerate() {
        store.set("b:c", &number).await.unwrap();
        store.namespaced("n").set("k", &number).await.unwrap();
    }
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.get::<usize>("b:c").await.unwrap(), Some(number));
        let keys = store.scan("").collect().await.unwrap();
        assert_eq!(
            BTreeSet::from_iter(keys),
            BTreeSet::from(["b:c".into(), "n:k".into()])
        );
        assert_eq!(
            store.namespaced("n").scan("").collect().await.unwrap(),
            ["k"]
        );
    }
    assert_eq!(
        plain(&driver).get::<usize>("a%3Ab:b:c").await.unwrap(),
        Some(1)
    );
    stores[4].set("last", &1).await.unwrap();
    stores[0].set("last", &1).await.unwrap();
    let mut seen = BTreeSet::new();
    while let Some(WatchEvent::Put { key, .. }) = watch.next().await {
        seen.insert(key.clone());
        if key == "last" {
            break;
        }
    }
    assert_eq!(
        seen,
        BTreeSet::from(["b:c", "n:k", "last"].map(str::to_owned))
    );
}

// ---- repetition, breaker, timeout

/// Fails as told, and counts what arrives.
struct Failing {
    inner: Arc<dyn StateDriver>,
    calls: AtomicU64,
    left: AtomicU64,
    outcome: Outcome,
}

impl Failing {
    fn layer(outcome: Outcome, failures: u64) -> (Arc<Failing>, Arc<dyn StateDriver>) {
        let failing = Arc::new(Failing {
            inner: memory(),
            calls: AtomicU64::new(0),
            left: AtomicU64::new(failures),
            outcome,
        });
        (failing.clone(), Arc::new(Shared(failing)))
    }

    fn next<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce() -> DriverResult<'a, T>,
    ) -> DriverResult<'a, T> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fails = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if fails.is_err() {
            return call();
        }
        let error = DriverError::new(ErrorKind::Unavailable, "told to").with_outcome(self.outcome);
        Box::pin(async { Err(error) })
    }

    fn calls(&self) -> u64 {
        self.calls.swap(0, Ordering::SeqCst)
    }

    fn fail(&self, times: u64) {
        self.left.store(times, Ordering::SeqCst);
    }
}

struct Shared(Arc<Failing>);

impl Forward for Shared {
    fn inner(&self) -> &dyn StateDriver {
        &*self.0.inner
    }
    fn get<'a>(&'a self, key: &'a str, limit: Duration) -> DriverResult<'a, Option<Bytes>> {
        self.0.next(|| self.0.inner.get(key, limit))
    }
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        expiry: Expiry,
        limit: Duration,
    ) -> DriverResult<'a, ()> {
        self.0.next(|| self.0.inner.set(key, value, expiry, limit))
    }
    fn delete<'a>(&'a self, keys: &'a [&'a str], limit: Duration) -> DriverResult<'a, u64> {
        self.0.next(|| self.0.inner.delete(keys, limit))
    }
    fn increment<'a>(&'a self, key: &'a str, delta: i64, limit: Duration) -> DriverResult<'a, i64> {
        self.0.next(|| self.0.inner.increment(key, delta, limit))
    }
    fn transact<'a>(
        &'a self,
        steps: &'a [infra_state::Step<'a>],
        limit: Duration,
    ) -> DriverResult<'a, Vec<infra_state::VersionToken>> {
        self.0.next(|| self.0.inner.transact(steps, limit))
    }
}

fn retry(attempts: u32) -> Retry {
    Retry::constant(Duration::from_millis(100))
        .max_attempts(attempts)
        .jitter(Jitter::None)
        .clock(TokioClock::shared())
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn s18_only_what_is_harmless_is_repeated_after_an_unknown_outcome() {
    let (failing, driver) = Failing::layer(Outcome::Unknown, 0);
    let store = layered(&driver, Layers::new().retry(&retry(3)));
    failing.fail(2);
    store.set("k", &1).await.unwrap();
    assert_eq!(failing.calls(), 3);
    failing.fail(2);
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
    assert_eq!(failing.calls(), 3);
    failing.fail(2);
    store.delete("k").await.unwrap();
    assert_eq!(failing.calls(), 3);

    failing.fail(1);
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!((error.outcome(), failing.calls()), (Outcome::Unknown, 1));
    failing.fail(1);
    let version = store.get_versioned::<i64>("k").await.unwrap().version;
    let error = store
        .compare_and_swap("k", &version, &1, None)
        .await
        .unwrap_err();
    assert_eq!((error.outcome(), failing.calls()), (Outcome::Unknown, 1));
}

#[tokio::test(start_paused = true)]
async fn what_changed_nothing_is_repeated_within_the_deadline() {
    let (failing, driver) = Failing::layer(Outcome::NotApplied, 2);
    let store = layered(&driver, Layers::new().retry(&retry(100)));
    assert_eq!(store.increment("k", 1).await.unwrap(), 1);
    assert_eq!(failing.calls(), 3);
    failing.fail(u64::MAX);
    let started = Instant::now();
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    // Writes have two seconds.
    assert!(
        started.elapsed() <= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(failing.calls() > 10);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_not_forgotten_by_a_later_attempt() {
    struct Once(Arc<dyn StateDriver>, AtomicU64);
    impl Forward for Once {
        fn inner(&self) -> &dyn StateDriver {
            &*self.0
        }
        fn set<'a>(&'a self, _: &'a str, _: Bytes, _: Expiry, _: Duration) -> DriverResult<'a, ()> {
            let outcome = match self.1.fetch_add(1, Ordering::SeqCst) {
                0 => Outcome::Unknown,
                _ => Outcome::NotApplied,
            };
            let error = DriverError::new(ErrorKind::Unavailable, "down").with_outcome(outcome);
            Box::pin(async { Err(error) })
        }
    }
    let layers = Layers::new()
        .retry(&retry(3))
        .custom("once", |inner| Arc::new(Once(inner, AtomicU64::new(0))));
    let error = layered(&memory(), layers).set("k", &1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_refuses_while_the_backend_is_down_and_lets_it_come_back() {
    let (failing, driver) = Failing::layer(Outcome::Unknown, u64::MAX);
    let breaker = CircuitBreaker::builder("state")
        .consecutive_failures(3)
        .open_wait(Duration::from_secs(30))
        .clock(TokioClock::shared())
        .build()
        .unwrap();
    let store = layered(&driver, Layers::new().breaker(breaker));
    for _ in 0..3 {
        store.get::<i64>("k").await.unwrap_err();
    }
    assert_eq!(failing.calls(), 3);
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        (error.class(), error.outcome()),
        (Class::Transient, Outcome::NotApplied)
    );
    assert!(error.retry_after().unwrap() <= Duration::from_secs(30));
    assert_eq!(failing.calls(), 0);
    failing.fail(0);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(store.increment("k", 1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn s54_an_attempt_that_hangs_leaves_time_for_another() {
    let faults = Faults::seeded(3).hang(1.0);
    let layers = Layers::new()
        .retry(&retry(3))
        .timeout(AttemptTimeouts::new(Duration::from_millis(400)).write(Duration::from_millis(300)))
        .faults(faults.clone());
    let store = layered(&memory(), layers);
    let started = Instant::now();
    let error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, Outcome::NotApplied)
    );
    assert_eq!(started.elapsed(), Duration::from_millis(3 * 400 + 2 * 100));
    let started = Instant::now();
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Timeout, Outcome::Unknown)
    );
    assert_eq!(started.elapsed(), Duration::from_millis(300));
    faults.switch(false);
    assert_eq!(store.increment("k", 1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn s54_without_the_timeout_layer_a_hang_ends_at_the_deadline_of_the_call() {
    let store = layered(&memory(), Layers::new().faults(Faults::seeded(3).hang(1.0)));
    let started = Instant::now();
    let error = store.get::<i64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

// ---- faults

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_faults() {
    async fn course(seed: u64) -> Vec<(Outcome, u128)> {
        let faults = Faults::seeded(seed)
            .latency(0.5, Duration::from_millis(1)..=Duration::from_millis(9))
            .fail_before(0.2)
            .fail_after(0.2);
        let store = layered(&memory(), Layers::new().faults(faults));
        let mut course = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            let result = store.increment("k", 1).await;
            let outcome = result.map_or_else(|error| error.outcome(), |_| Outcome::Applied);
            course.push((outcome, started.elapsed().as_millis()));
        }
        course
    }
    let first = course(7).await;
    assert_eq!(first, course(7).await);
    assert_ne!(first, course(8).await);
    for outcome in [Outcome::NotApplied, Outcome::Unknown] {
        let met = first.iter().filter(|(met, _)| *met == outcome).count();
        assert!((20..60).contains(&met), "{outcome:?} {met}");
    }
    assert!(first.iter().all(|(_, millis)| *millis <= 10));
}

#[tokio::test]
async fn faults_after_the_call_have_applied_it_and_faults_before_have_not() {
    let driver = memory();
    let after = layered(
        &driver,
        Layers::new().faults(Faults::seeded(1).fail_after(1.0)),
    );
    let error = after.increment("k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, Outcome::Unknown)
    );
    assert_eq!(plain(&driver).get::<i64>("k").await.unwrap(), Some(1));
    let before = layered(
        &driver,
        Layers::new().faults(Faults::seeded(1).fail_before(1.0)),
    );
    let error = before.increment("k", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(plain(&driver).get::<i64>("k").await.unwrap(), Some(1));
    let nothing = layered(&driver, Layers::new().faults(Faults::seeded(1)));
    for _ in 0..100 {
        nothing.increment("k", 1).await.unwrap();
    }
}

// ---- encryption

#[tokio::test]
async fn no_value_can_be_read_in_the_backend_and_each_fault_has_its_error() {
    let driver = memory();
    let store = layered(&driver, Layers::new().encryption(ring(1)));
    store.set("secret", "canary-4711").await.unwrap();
    store
        .set_many(&[("a", "canary-1"), ("b", "canary-2")])
        .await
        .unwrap();
    store.increment("count", 4711).await.unwrap();
    store
        .transaction()
        .set("t", "canary-3")
        .commit()
        .await
        .unwrap();
    let raw = plain(&driver);
    for key in ["secret", "a", "b", "count", "t"] {
        let stored = raw.get_bytes(key).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&stored);
        assert!(!text.contains("canary") && !text.contains("4711"), "{key}");
    }
    assert_eq!(store.get::<i64>("count").await.unwrap(), Some(4711));

    let fails = async |store: &StateStore, key: &str, kind: ErrorKind| {
        for error in [
            store.get::<String>(key).await.unwrap_err(),
            store.get_versioned_bytes(key).await.unwrap_err(),
            store.increment(key, 1).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.key()), (kind, Some(key)), "{error}");
            let class = (error.class(), error.outcome());
            assert_eq!(class, (Class::Permanent, Outcome::NotApplied));
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    };
    let wrong = layered(&driver, Layers::new().encryption(ring(2)));
    fails(&wrong, "secret", ErrorKind::WrongKey).await;
    let other = Keyring::new("k2", EncryptionKey::new([1; 32])).unwrap();
    let unknown = layered(&driver, Layers::new().encryption(other));
    fails(&unknown, "secret", ErrorKind::UnknownKeyId).await;
    let moved = raw.get_bytes("secret").await.unwrap().unwrap();
    raw.set_bytes("elsewhere", moved.clone()).await.unwrap();
    fails(&store, "elsewhere", ErrorKind::Tampered).await;
    let mut tampered = moved.to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    raw.set_bytes("secret", tampered).await.unwrap();
    fails(&store, "secret", ErrorKind::Tampered).await;
    raw.set("foreign", "plain").await.unwrap();
    fails(&store, "foreign", ErrorKind::NotEncrypted).await;
}

#[tokio::test]
async fn a_ciphertext_cannot_be_moved_to_another_tenant() {
    let driver = memory();
    let of = |name: &str| layered(&driver, Layers::new().tenant(name).encryption(ring(1)));
    of("a").set("k", "canary").await.unwrap();
    let raw = plain(&driver);
    let stored = raw.get_bytes("a:k").await.unwrap().unwrap();
    raw.set_bytes("b:k", stored).await.unwrap();
    assert_eq!(
        of("a").get::<String>("k").await.unwrap().as_deref(),
        Some("canary")
    );
    let error = of("b").get::<String>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
}

#[tokio::test]
async fn s19_values_that_cannot_be_opened_fail_alone() {
    let driver = memory();
    let store = layered(&driver, Layers::new().encryption(ring(1)));
    store.set_many(&[("a", 1), ("c", 3)]).await.unwrap();
    plain(&driver).set("b", &2).await.unwrap();
    let keys = ["a", "b", "none", "c", "b"];
    let error = store.get_many::<i64>(&keys).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEncrypted);
    let failed: Vec<usize> = error.failures().iter().map(|f| f.index).collect();
    assert_eq!(failed, [1, 4]);
    let each = store.get_many_each::<i64>(&keys).await.unwrap();
    let shown: Vec<_> = each
        .into_iter()
        .map(|value| value.map_err(|error| (error.kind(), error.key().unwrap().to_owned())))
        .collect();
    let failed = || Err((ErrorKind::NotEncrypted, "b".to_owned()));
    assert_eq!(
        shown,
        [Ok(Some(1)), failed(), Ok(None), Ok(Some(3)), failed()]
    );
}

#[tokio::test]
async fn keys_are_rotated_without_a_pause_and_times_to_live_stay() {
    let driver = memory();
    let raw = plain(&driver);
    let hour = Duration::from_secs(3600);
    raw.set("p:plain", "was never encrypted").await.unwrap();
    raw.set("q:other", "stays as it is").await.unwrap();
    let before = layered(&driver, Layers::new().encryption(ring(1)));
    for n in 0..100 {
        before.set_with(&format!("p:{n}"), &n, hour).await.unwrap();
    }
    let rotated = Keyring::new("k2", EncryptionKey::new([2; 32]))
        .and_then(|keys| keys.and_old("k1", EncryptionKey::new([1; 32])))
        .unwrap();
    let after = layered(&driver, Layers::new().encryption(rotated.clone()));
    after.set("p:0", &1000).await.unwrap();
    assert_eq!(after.get::<i64>("p:99").await.unwrap(), Some(99));
    let error = rotated.reencrypt(&raw, "p:").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::NotEncrypted, Some("p:plain"))
    );
    let done = (rotated.clone().accept_plain(true))
        .reencrypt(&raw, "p:")
        .await
        .unwrap();
    assert_eq!(done.rewritten + done.current, 101);
    assert!(done.current >= 1 && done.changed == 0, "{done:?}");
    let again = rotated.reencrypt(&raw, "p:").await.unwrap();
    assert_eq!((again.rewritten, again.current), (0, 101));

    let current = Keyring::new("k2", EncryptionKey::new([2; 32])).unwrap();
    let store = layered(&driver, Layers::new().encryption(current));
    assert_eq!(store.get::<i64>("p:0").await.unwrap(), Some(1000));
    for n in 1..100 {
        let key = format!("p:{n}");
        assert_eq!(store.get::<i64>(&key).await.unwrap(), Some(n));
        assert!(matches!(
            store.ttl(&key).await.unwrap(),
            TtlState::Remaining(_)
        ));
    }
    let was_plain = store.get::<String>("p:plain").await.unwrap();
    assert_eq!(was_plain.as_deref(), Some("was never encrypted"));
    let untouched = raw.get::<String>("q:other").await.unwrap();
    assert_eq!(untouched.as_deref(), Some("stays as it is"));
}

#[tokio::test]
async fn counters_need_versions_once_values_are_encrypted() {
    struct NoVersions(Arc<dyn StateDriver>);
    impl Forward for NoVersions {
        fn inner(&self) -> &dyn StateDriver {
            &*self.0
        }
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities().with_transactions(Versions::None, 0)
        }
        fn get_versioned<'a>(
            &'a self,
            _: &'a str,
            _: Duration,
        ) -> DriverResult<'a, (Option<Bytes>, infra_state::VersionToken)> {
            let error = DriverError::new(ErrorKind::Unsupported, "no versions");
            Box::pin(async { Err(error) })
        }
    }
    let layers = Layers::new()
        .encryption(ring(1))
        .custom("no versions", |inner| Arc::new(NoVersions(inner)));
    let store = layered(&memory(), layers);
    store.set("k", &1).await.unwrap();
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::Unsupported, Some("k"))
    );
    assert_eq!(store.get::<i64>("k").await.unwrap(), Some(1));
}

// ---- compression

#[tokio::test]
async fn large_values_are_small_in_the_backend_and_plain_ones_of_others_are_read() {
    let driver = memory();
    let store = layered(&driver, Layers::new().compression(Compression::above(200)));
    let raw = plain(&driver);
    let large = vec!["the same again"; 1000];
    store.set("large", &large).await.unwrap();
    store.set("small", &[1, 2, 3]).await.unwrap();
    let stored = raw.get_bytes("large").await.unwrap().unwrap();
    assert!(stored.len() < 1000, "{}", stored.len());
    assert_eq!(
        raw.get::<Vec<i64>>("small").await.unwrap(),
        Some(vec![1, 2, 3])
    );
    assert_eq!(
        raw.get::<Vec<String>>("large").await.unwrap_err().kind(),
        ErrorKind::Decode
    );
    raw.set("foreign", &large).await.unwrap();
    for key in ["large", "foreign"] {
        assert_eq!(store.get::<Vec<String>>(key).await.unwrap().unwrap(), large);
    }
    store.set("count", &1).await.unwrap();
    assert_eq!(store.increment("count", 1).await.unwrap(), 2);
    assert_eq!(raw.increment("count", 1).await.unwrap(), 3);
}

#[tokio::test]
async fn a_value_that_would_become_too_large_is_refused_when_read_and_when_written() {
    let driver = memory();
    let raw = plain(&driver);
    let writer = layered(&driver, Layers::new().compression(Compression::above(100)));
    writer
        .set_bytes("bomb", vec![b'x'; 1_000_000])
        .await
        .unwrap();
    assert!(raw.get_bytes("bomb").await.unwrap().unwrap().len() < 10_000);
    let bounded = Compression::above(100).max_value_bytes(500_000);
    let store = layered(&driver, Layers::new().compression(bounded));
    let error = store.get_bytes("bomb").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.key()),
        (ErrorKind::TooLarge, Some("bomb"))
    );
    let error = store.set_bytes("k", vec![b'x'; 500_001]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn what_is_compressed_and_encrypted_is_small() {
    let driver = memory();
    let layers = Layers::new()
        .compression(Compression::above(100))
        .encryption(ring(1));
    let store = layered(&driver, layers);
    store.set("k", &"x".repeat(10_000)).await.unwrap();
    let stored = plain(&driver).get_bytes("k").await.unwrap().unwrap();
    assert!(stored.len() < 300, "{}", stored.len());
}

// ---- MessagePack

#[tokio::test]
async fn s06_the_two_encodings_never_take_one_for_the_other() {
    let driver = memory();
    let options = StoreOptions::new().encoding(Encoding::MessagePack);
    let packed = StateStore::from_driver(driver.clone(), options);
    let json = plain(&driver);
    let values: BTreeMap<String, i64> = (0..60).map(|n| (n.to_string(), n)).collect();
    for (key, value) in &values {
        packed.set(key, value).await.unwrap();
        let error = json.get::<i64>(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::Decode, Some(&**key))
        );
        assert_eq!(packed.get::<i64>(key).await.unwrap(), Some(*value));
        json.set(key, value).await.unwrap();
        let error = packed.get::<i64>(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.key()),
            (ErrorKind::Decode, Some(&**key))
        );
        assert!(error.to_string().contains("i64"), "{error}");
    }
    assert_eq!(packed.encoding(), Encoding::MessagePack);
    let mut watch = packed.watch("only").await.unwrap();
    packed.set("only", &(1, "a")).await.unwrap();
    loop {
        if let WatchEvent::Put { key, value } = watch.next().await.unwrap() {
            let value: (i64, String) = packed.decode(&key, &value).unwrap();
            assert_eq!(value, (1, "a".to_owned()));
            break;
        }
    }
}

// ---- tracing and metrics

/// Keeps the fields of events.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

struct Fields<'f>(&'f mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("infra_state::layer")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn each_call_is_one_event_with_its_key_and_never_a_value() {
    let events = Events::default();
    let _guard = tracing::subscriber::set_default(events.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let faults = Faults::seeded(1).fail_after(1.0);
        let retry = Retry::constant(Duration::ZERO)
            .max_attempts(2)
            .build()
            .unwrap();
        let layers = Layers::new()
            .tenant("t")
            .tracing()
            .retry(&retry)
            .faults(faults.clone());
        let store = layered(&memory(), layers);
        store.set("k1", "canary").await.unwrap_err();
        faults.switch(false);
        store.get::<String>("k1").await.unwrap();
        store.get_many::<String>(&["k1", "k2"]).await.unwrap();
    });
    let events = events.0.lock().unwrap();
    let calls: Vec<&String> = events
        .iter()
        .filter(|line| line.contains("operation=\""))
        .collect();
    assert_eq!(calls.len(), 3, "{events:?}");
    for (line, wanted) in calls.iter().zip([
        [
            "operation=\"set\"",
            "key=\"t:k1\"",
            "outcome=\"unknown\"",
            "error=a fault on purpose",
        ],
        [
            "operation=\"get\"",
            "key=\"t:k1\"",
            "outcome=\"ok\"",
            "elapsed_us=",
        ],
        [
            "operation=\"get_many\"",
            "keys=2",
            "outcome=\"ok\"",
            "backend=\"memory\"",
        ],
    ]) {
        assert!(wanted.iter().all(|part| line.contains(part)), "{line}");
    }
    assert!(
        !events.iter().any(|line| line.contains("canary")),
        "{events:?}"
    );
}

/// Counts what is recorded under each name and labels.
#[derive(Default)]
struct Recorder(Mutex<BTreeMap<String, Arc<Tally>>>);

#[derive(Default)]
struct Tally(AtomicU64);

impl metrics::CounterFn for Tally {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }
    fn absolute(&self, _: u64) {}
}

impl metrics::HistogramFn for Tally {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Recorder {
    fn tally(&self, key: &metrics::Key) -> Arc<Tally> {
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        self.0.lock().unwrap().entry(name).or_default().clone()
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.tally(key))
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        key: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.tally(key))
    }
}

#[test]
fn calls_are_counted_and_timed_by_operation_and_outcome() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let faults = Faults::seeded(1).fail_after(1.0);
            let layers = Layers::new().metrics().faults(faults.clone());
            let store = layered(&memory(), layers);
            store.set("k", &1).await.unwrap_err();
            store.get::<i64>("k").await.unwrap_err();
            faults.switch(false);
            for _ in 0..3 {
                store.get::<i64>("k").await.unwrap();
            }
        });
    });
    let counts: BTreeMap<String, u64> = (recorder.0.lock().unwrap().iter())
        .map(|(name, tally)| (name.clone(), tally.0.load(Ordering::SeqCst)))
        .collect();
    for metric in ["state_calls_total", "state_call_seconds"] {
        for (operation, outcome, count) in [
            ("get", "ok", 3),
            ("get", "not_applied", 1),
            ("set", "unknown", 1),
        ] {
            let name = format!("{metric} backend=memory operation={operation} outcome={outcome}");
            assert_eq!(counts.get(&name), Some(&count), "{name}: {counts:?}");
        }
    }
    assert_eq!(counts.len(), 6, "{counts:?}");
}
