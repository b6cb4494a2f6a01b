//! What the pieces tell the `metrics` facade.
#![cfg(feature = "metrics")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub,
    reason = "test code"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_core::{BoxFuture, ManualClock};
use infra_resilience::breaker::Mode;
use infra_resilience::{
    AdaptiveLimiter, Algorithm, Bulkhead, CircuitBreaker, Pipeline, Quota, RateLimiter, Retry,
    RetryBudget, timeout,
};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit, with_local_recorder,
};
use support::{Fault, ms, poll_once, secs};

/// Keeps the value of each metric by its name and labels.
#[derive(Default)]
struct Board {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
    registrations: Mutex<u32>,
}

struct Cell {
    key: String,
    values: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Cell {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(
            self.values
                .lock()
                .unwrap()
                .entry(self.key.clone())
                .or_default(),
        );
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.change(|sum| *sum += value as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|sum| *sum = value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.change(|sum| *sum += value);
    }
    fn decrement(&self, value: f64) {
        self.change(|sum| *sum -= value);
    }
    fn set(&self, value: f64) {
        self.change(|sum| *sum = value);
    }
}

impl Board {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        *self.registrations.lock().unwrap() += 1;
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        Arc::new(Cell {
            key: format!("{}{{{}}}", key.name(), labels.join(",")),
            values: self.values.clone(),
        })
    }

    fn value(&self, key: &str) -> Option<f64> {
        self.values.lock().unwrap().get(key).copied()
    }

    fn registrations(&self) -> u32 {
        *self.registrations.lock().unwrap()
    }
}

impl Recorder for Board {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn one_gauge_says_the_state_of_a_breaker_and_counters_what_happened() {
    let board = Board::default();
    with_local_recorder(&board, || {
        let clock = ManualClock::new();
        let builder = CircuitBreaker::builder("venue").consecutive_failures(1);
        let breaker = builder.clock(clock.shared()).build().unwrap();
        let state = || board.value("resilience_breaker_state{breaker=venue}");
        assert_eq!(state(), Some(0.0), "known before anything happens");
        let late = breaker.try_acquire().unwrap();
        breaker.try_acquire().unwrap().failure();
        assert_eq!(state(), Some(2.0));
        late.success();
        breaker.try_acquire().unwrap_err();
        clock.advance(secs(30));
        let hung = breaker.try_acquire().unwrap();
        assert_eq!(state(), Some(1.0));
        clock.advance(secs(10));
        breaker.state();
        drop(hung);
        for (mode, number) in [
            (Mode::Isolated, 3.0),
            (Mode::Disabled, 4.0),
            (Mode::MetricsOnly, 5.0),
            (Mode::Auto, 0.0),
        ] {
            breaker.set_mode(mode);
            assert_eq!(state(), Some(number));
        }
    });
    for (metric, expected) in [
        ("resilience_breaker_opened_total{breaker=venue}", 2.0),
        ("resilience_breaker_late_results_total{breaker=venue}", 2.0),
        (
            "resilience_breaker_probe_lease_expired_total{breaker=venue}",
            1.0,
        ),
        (
            "resilience_rejected_total{by=circuit breaker,name=venue}",
            1.0,
        ),
    ] {
        assert_eq!(board.value(metric), Some(expected), "{metric}");
    }
    // One gauge, and no label for the state that would have to be cleared.
    let gauges = board.values.lock().unwrap();
    let states = gauges.keys().filter(|key| key.contains("state"));
    assert_eq!(states.count(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn retries_and_exhausted_budgets_are_counted_by_operation() {
    let board = Board::default();
    let _guard = metrics::set_default_local_recorder(&board);
    let budget = RetryBudget::windowed(1.0, secs(10), 0).unwrap();
    let named = Retry::constant(Duration::ZERO)
        .name("orders")
        .max_attempts(9);
    let down = || std::future::ready(Err::<(), _>(Fault::Down));
    named
        .budget(budget)
        .build()
        .unwrap()
        .run(down)
        .await
        .unwrap_err();
    Retry::constant(Duration::ZERO)
        .build()
        .unwrap()
        .run(down)
        .await
        .unwrap_err();
    for (metric, expected) in [
        ("resilience_retries_total{operation=orders}", 1.0),
        ("resilience_budget_exhausted_total{operation=orders}", 1.0),
        ("resilience_retries_total{operation=unnamed}", 2.0),
    ] {
        assert_eq!(board.value(metric), Some(expected), "{metric}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn refusals_and_adaptive_limits_are_reported() {
    let board = Board::default();
    let _guard = metrics::set_default_local_recorder(&board);
    let bulkhead = Bulkhead::builder("k").max_concurrent(1).build().unwrap();
    let _place = bulkhead.try_acquire().unwrap();
    let limiter = RateLimiter::builder("l").quota(Quota::smooth(1, secs(1)));
    let limiter = limiter.build().unwrap();
    limiter.try_acquire(1).unwrap();
    for _ in 0..3 {
        bulkhead.try_acquire().unwrap_err();
        limiter.try_acquire(1).unwrap_err();
    }
    let adaptive = AdaptiveLimiter::builder("a").initial(10);
    let adaptive = adaptive.algorithm(Algorithm::Aimd { backoff: 0.5 });
    let adaptive = adaptive.build().unwrap();
    let down = || std::future::ready(Err::<(), _>(Fault::Down));
    adaptive.call(down).await.unwrap_err();
    for (metric, expected) in [
        ("resilience_rejected_total{by=bulkhead,name=k}", 3.0),
        ("resilience_rejected_total{by=rate limiter,name=l}", 3.0),
        ("resilience_concurrency_limit{name=a}", 5.0),
    ] {
        assert_eq!(board.value(metric), Some(expected), "{metric}");
    }
    assert_eq!(board.registrations(), 3, "a handle is asked for once");
}

#[tokio::test(flavor = "current_thread")]
async fn calls_that_are_cut_off_are_counted_by_name_and_limit() {
    let board = Board::default();
    let _guard = metrics::set_default_local_recorder(&board);
    let clock = ManualClock::new();
    let time = clock.shared();
    let hangs = || std::future::pending::<Result<(), Fault>>();
    let mut calls: Vec<BoxFuture<'_, bool>> = Vec::new();
    for name in [None, Some("venue"), Some("venue")] {
        let limited = timeout(&time, secs(1), hangs());
        let limited = match name {
            Some(name) => limited.of(name),
            None => limited,
        };
        calls.push(Box::pin(async move { limited.await.is_err() }));
    }
    let orders = Retry::exponential().name("orders").deadline(secs(1));
    let orders = orders.clock(time.clone()).build().unwrap();
    calls.push(Box::pin(async move { orders.run(hangs).await.is_err() }));
    let slow = Pipeline::builder("desk")
        .attempt_timeout(secs(1))
        .clock(time.clone());
    let slow = slow.build().unwrap();
    calls.push(Box::pin(async move { slow.call(hangs).await.is_err() }));
    // Told once, by the pipeline, although the retry inside of it ends at the same moment.
    let both = Retry::exponential()
        .name("inside")
        .clock(time.clone())
        .build()
        .unwrap();
    let both = Pipeline::builder("whole")
        .total_timeout(secs(1))
        .retry(both)
        .clock(time.clone());
    let both = both.build().unwrap();
    calls.push(Box::pin(async move { both.call(hangs).await.is_err() }));
    // One that is given up by its caller, and one that is in time, are no timeouts.
    let mut given_up = Box::pin(timeout(&time, secs(1), hangs()).of("given up"));
    assert!(poll_once(&mut given_up).is_pending());
    drop(given_up);
    timeout(&time, secs(1), std::future::ready(()))
        .of("in time")
        .await
        .unwrap();

    calls.retain_mut(|call| poll_once(call).is_pending());
    assert_eq!(board.registrations(), 0);
    clock.advance(secs(1));
    for call in &mut calls {
        assert_eq!(poll_once(call), std::task::Poll::Ready(true));
    }
    let values = board.values.lock().unwrap();
    let told: Vec<_> = values
        .iter()
        .map(|(key, value)| (key.as_str(), *value))
        .collect();
    let expected = [
        ("resilience_timeouts_total{name=desk,which=attempt}", 1.0),
        ("resilience_timeouts_total{name=orders,which=total}", 1.0),
        ("resilience_timeouts_total{name=unnamed,which=plain}", 1.0),
        ("resilience_timeouts_total{name=venue,which=plain}", 2.0),
        ("resilience_timeouts_total{name=whole,which=total}", 1.0),
    ];
    assert_eq!(told, expected);
}

#[cfg(feature = "tower")]
#[tokio::test(flavor = "current_thread")]
async fn layers_count_the_calls_that_they_cut_off() {
    use infra_resilience::tower::{FlatErrorLayer, RetryLayer, TimeoutLayer};
    use tower::{Layer, ServiceExt, service_fn};

    let board = Board::default();
    let _guard = metrics::set_default_local_recorder(&board);
    let clock = ManualClock::new();
    let hangs = service_fn(|(): ()| std::future::pending::<Result<(), Fault>>());
    let hangs = FlatErrorLayer.layer(hangs);
    let timeout = TimeoutLayer::new(clock.shared(), secs(1)).of("venue");
    let retry = Retry::exponential().name("orders").deadline(secs(1));
    let retry = RetryLayer::new(retry.clock(clock.shared()).build().unwrap());
    let mut calls = [
        Box::pin(timeout.layer(hangs.clone()).oneshot(())) as BoxFuture<'_, _>,
        Box::pin(retry.layer(hangs).oneshot(())),
    ];
    for call in &mut calls {
        assert!(poll_once(call).is_pending());
    }
    clock.advance(secs(1));
    for call in &mut calls {
        assert!(poll_once(call).is_ready());
    }
    for key in [
        "resilience_timeouts_total{name=venue,which=plain}",
        "resilience_timeouts_total{name=orders,which=total}",
    ] {
        assert_eq!(board.value(key), Some(1.0), "{key}");
    }
}

/// The table on the crate's root page is true.
#[test]
fn every_metric_is_in_the_documented_table() {
    let manual = include_str!("../src/lib.rs");
    let sources = [
        include_str!("../src/adaptive/mod.rs"),
        include_str!("../src/breaker/telemetry.rs"),
        include_str!("../src/retry/telemetry.rs"),
        include_str!("../src/telemetry.rs"),
    ];
    let names = sources.iter().flat_map(|text| text.split('"'));
    let names: Vec<_> = names
        .filter(|text| text.starts_with("resilience_"))
        .collect();
    for name in &names {
        assert!(
            manual.contains(&format!("| `{name}` |")),
            "{name} is not in the table"
        );
    }
    let rows = manual
        .lines()
        .filter(|line| line.starts_with("//! | `resilience_"));
    assert_eq!(rows.count(), names.len());
}

#[test]
fn a_quiet_piece_registers_nothing() {
    let board = Board::default();
    with_local_recorder(&board, || {
        let bulkhead = Bulkhead::builder("k").build().unwrap();
        let limiter = RateLimiter::builder("l").quota(Quota::strict(5, ms(10)));
        let limiter = limiter.build().unwrap();
        drop(bulkhead.try_acquire().unwrap());
        limiter.try_acquire(1).unwrap();
        Retry::exponential().name("r").build().unwrap();
    });
    assert_eq!(board.registrations(), 0);
}
