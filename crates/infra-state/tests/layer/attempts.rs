//! Repetition, breaker, timeouts and faults on purpose.

use super::*;

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
