//! What the portable handle does by itself: deadlines, bounds, choice of the backend, health.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use infra_core::{BoxFuture, Class, Classify, HealthCheck, HealthStatus, ManualClock, Outcome};
use infra_state::{
    Capabilities, DriverResult, ErrorKind, Expiry, ScanCursor, ScanPage, StateDriver, StateOptions,
    StateStore, StoreOptions, TtlMillis, TtlState, create_state_store,
};
use support::PlainDriver;
use tokio::time::Instant;

/// Answers nothing, and counts how often it was asked.
#[derive(Default)]
struct Silent(AtomicUsize);

impl Silent {
    fn never<'a, T: Send + 'a>(&self) -> DriverResult<'a, T> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(pending())
    }
}

impl StateDriver for Silent {
    fn backend(&self) -> &'static str {
        "silent"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }
    fn get<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        self.never()
    }
    fn get_many<'a>(
        &'a self,
        _: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        self.never()
    }
    fn set<'a>(&'a self, _: &'a str, _: Bytes, _: Expiry, _: Duration) -> DriverResult<'a, ()> {
        self.never()
    }
    fn set_many<'a>(
        &'a self,
        _: &'a [(&'a str, Bytes)],
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        self.never()
    }
    fn set_if_absent<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        self.never()
    }
    fn delete<'a>(&'a self, _: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        self.never()
    }
    fn exists<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        self.never()
    }
    fn increment<'a>(&'a self, _: &'a str, _: i64, _: Duration) -> DriverResult<'a, i64> {
        self.never()
    }
    fn expire<'a>(&'a self, _: &'a str, _: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        self.never()
    }
    fn persist<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        self.never()
    }
    fn ttl<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        self.never()
    }
    fn scan<'a>(
        &'a self,
        _: &'a str,
        _: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        self.never()
    }
    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        self.never()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn silent() -> (Arc<Silent>, StateStore) {
    let driver = Arc::new(Silent::default());
    let options = StoreOptions::new()
        .read_timeout(Duration::from_millis(100))
        .write_timeout(Duration::from_millis(200))
        .bulk_timeout(Duration::from_millis(300));
    (driver.clone(), StateStore::from_driver(driver, options))
}

#[tokio::test(start_paused = true)]
async fn s54_every_call_ends_at_the_deadline_of_its_class() {
    let (_, s) = silent();
    let started = Instant::now();
    let mut checked = started;
    let mut check = |error: infra_state::Error, millis: u64, outcome: Outcome| {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(
            (error.class(), error.outcome()),
            (Class::Transient, outcome)
        );
        let took = checked.elapsed();
        let limit = Duration::from_millis(millis);
        assert!(
            took >= limit && took < limit + Duration::from_millis(5),
            "{error}: {took:?}"
        );
        checked = Instant::now();
    };
    let (read, write) = (Outcome::NotApplied, Outcome::Unknown);
    check(s.get::<i64>("k").await.unwrap_err(), 100, read);
    check(s.exists("k").await.unwrap_err(), 100, read);
    check(s.ttl("k").await.unwrap_err(), 100, read);
    check(s.ping().await.unwrap_err(), 100, read);
    check(s.set("k", &1).await.unwrap_err(), 200, write);
    check(
        s.set_if_absent("k", &1, None).await.unwrap_err(),
        200,
        write,
    );
    check(s.delete("k").await.unwrap_err(), 200, write);
    check(
        s.expire("k", Duration::from_secs(1)).await.unwrap_err(),
        200,
        write,
    );
    check(s.persist("k").await.unwrap_err(), 200, write);
    check(s.increment("k", 1).await.unwrap_err(), 200, write);
    check(s.get_many::<i64>(&["k"]).await.unwrap_err(), 300, read);
    check(s.set_many(&[("k", 1)]).await.unwrap_err(), 300, write);
    check(s.delete_many(&["k"]).await.unwrap_err(), 300, write);
    check(s.scan("").collect().await.unwrap_err(), 300, read);
}

#[tokio::test(start_paused = true)]
async fn s18_timed_out_increment_is_unknown_and_sent_once() {
    let (driver, store) = silent();
    let error = store.increment("k", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert!(!error.is_safe_to_repeat());
    assert!(
        error.to_string().contains("may have been applied"),
        "{error}"
    );
    assert_eq!(driver.0.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn s04_what_is_refused_never_reaches_the_driver() {
    let (driver, s) = silent();
    let small = StateStore::from_driver(driver.clone(), StoreOptions::new().max_value_bytes(4));
    s.get::<i64>("").await.unwrap_err();
    s.set("a\n", &1).await.unwrap_err();
    s.set("a", &f64::NAN).await.unwrap_err();
    s.set_with("a", &1, Duration::ZERO).await.unwrap_err();
    s.scan("\n").collect().await.unwrap_err();
    assert_eq!(s.get_many::<i64>(&[""; 0]).await.unwrap(), []);
    let nothing: [(&str, i64); 0] = [];
    s.set_many(&nothing).await.unwrap();
    assert_eq!(s.delete_many(&[""; 0]).await.unwrap(), 0);
    let error = small.set("a", "1234").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    s.close().await;
    s.get::<i64>("k").await.unwrap_err();
    assert_eq!(driver.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn s42_scan_beyond_its_bound_is_an_error() {
    let driver = Arc::new(PlainDriver::new(ManualClock::new().shared()));
    let store = StateStore::from_driver(driver, StoreOptions::new().max_scan_keys(10));
    let entries: Vec<_> = (0..11).map(|n| (format!("k{n:02}"), n)).collect();
    store.set_many(&entries).await.unwrap();
    let error = store.scan("").collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert!(!error.is_transient());
    assert_eq!(store.scan("k0").collect().await.unwrap().len(), 10);
}

#[tokio::test]
async fn unknown_backends_get_a_suggestion() {
    for (name, hint) in [
        ("rediss", "`redis`"),
        ("memroy", "`memory`"),
        ("oracle", "memory, file, redis"),
    ] {
        let error = create_state_store(name, StateOptions::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownBackend);
        assert!(error.to_string().contains(hint), "{error}");
    }
    let store = create_state_store(" Memory ", StateOptions::new())
        .await
        .unwrap();
    assert_eq!(store.backend(), "memory");
}

#[cfg(not(feature = "redis"))]
#[tokio::test]
async fn backend_that_is_not_compiled_in_names_its_feature() {
    let error = StateStore::connect("redis://u:canary@h").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotCompiled);
    assert!(error.to_string().contains("feature `redis`"), "{error}");
}

#[tokio::test]
async fn urls_choose_the_backend_and_are_masked_in_errors() {
    let store = StateStore::connect("memory://").await.unwrap();
    assert_eq!(store.backend(), "memory");
    for url in ["", "localhost", "mysql://u:canary@h/x", "u:canary@h"] {
        let error = StateStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl);
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("redis://") && !shown.contains("canary"),
            "{shown}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn health_is_up_or_says_why_not() {
    let store = StateStore::memory();
    assert_eq!(store.name(), "state");
    assert_eq!(store.check().await.status, HealthStatus::Up);
    store.close().await;
    let health = store.check().await;
    assert_eq!(health.status, HealthStatus::Down);
    assert!(health.detail.unwrap().contains("closed"));
    let (_, silent) = silent();
    let health = silent.check().await;
    assert_eq!(health.status, HealthStatus::Down);
    assert!(health.detail.unwrap().contains("no answer within 100ms"));
}

#[cfg(not(feature = "file"))]
#[tokio::test]
async fn file_backend_that_is_not_compiled_in_names_its_feature() {
    let error = StateStore::connect("file:///state.redb").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotCompiled);
    assert!(error.to_string().contains("feature `file`"), "{error}");
}
