//! The composition rows of the conformance table.
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

mod options;
mod own_side;
#[path = "../support/mod.rs"]
mod support;

use std::future::{pending, ready};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use infra_core::context::spawn;
use infra_core::{Classify, Clock, ManualClock, Outcome};
use infra_resilience::retry::Jitter;
use infra_resilience::{
    Bulkhead, CallError, CircuitBreaker, Hedge, Pipeline, PipelineBuilder, PipelineRegistry, Quota,
    RateLimiter, RejectReason, RejectedBy, ResilienceSettings, Retry, RetryBudget, RetryBuilder,
    TimeLimit,
};
use support::{Fault, ms, poll_once, secs, settle};

fn retry(clock: &ManualClock) -> RetryBuilder {
    Retry::constant(ms(100))
        .jitter(Jitter::None)
        .clock(clock.shared())
}

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let builder = CircuitBreaker::builder("b")
        .consecutive_failures(3)
        .open_wait(secs(5));
    builder.clock(clock.shared()).build().unwrap()
}

fn pipeline(clock: &ManualClock) -> PipelineBuilder {
    Pipeline::builder("p").clock(clock.shared())
}

/// All layers on one clock.
fn full(clock: &ManualClock) -> (PipelineBuilder, CircuitBreaker, Bulkhead, RateLimiter) {
    let limiter = RateLimiter::builder("l").quota(Quota::strict(1_000, secs(1)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let bulkhead = Bulkhead::builder("k").max_concurrent(2).queue(1, secs(1));
    let bulkhead = bulkhead.clock(clock.shared()).build().unwrap();
    let hedge = Hedge::builder().delay(ms(500)).clock(clock.shared());
    let breaker = breaker(clock);
    let builder = pipeline(clock)
        .rate_limiter(limiter.clone())
        .total_timeout(secs(10))
        .retry(retry(clock).build().unwrap())
        .hedge(hedge.build().unwrap())
        .breaker(breaker.clone())
        .bulkhead(bulkhead.clone())
        .attempt_timeout(secs(2));
    (builder, breaker, bulkhead, limiter)
}

/// Drives the call by moving the clock.
async fn ends<T: Send + 'static>(
    clock: &ManualClock,
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    let task = spawn(call);
    settle().await;
    while !task.is_finished() {
        assert!(clock.sleepers() > 0, "hangs");
        clock.advance(ms(1));
        settle().await;
    }
    task.await.unwrap()
}

#[tokio::test]
async fn c01_the_order_of_retry_and_breaker_shows_in_the_counts() {
    let clock = ManualClock::new();
    let inner = breaker(&clock);
    let around = pipeline(&clock)
        .retry(retry(&clock).build().unwrap())
        .breaker(inner.clone())
        .build()
        .unwrap();
    let call = async move {
        let calls = AtomicU32::new(0);
        let work = || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            ready(if call < 2 { Err(Fault::Down) } else { Ok(()) })
        };
        around.call(work).await
    };
    ends(&clock, call).await.unwrap();
    let counts = inner.snapshot().counts;
    assert_eq!((counts.failures, counts.successes), (2, 1));

    let outer = breaker(&clock);
    let (retry, held) = (retry(&clock).build().unwrap(), outer.clone());
    let call = async move {
        let calls = AtomicU32::new(0);
        let work = || {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            ready(if call < 2 { Err(Fault::Down) } else { Ok(()) })
        };
        held.call(|| retry.run(work)).await
    };
    ends(&clock, call).await.unwrap();
    let counts = outer.snapshot().counts;
    assert_eq!((counts.failures, counts.successes), (0, 1));
}

#[test]
fn c02_parts_that_do_not_fit_are_refused_with_both_values() {
    let window = CircuitBreaker::builder("w")
        .time_window(secs(10))
        .build()
        .unwrap();
    let lease = CircuitBreaker::builder("b").probe_lease(secs(10));
    let lease = lease.build().unwrap();
    let plain = || Pipeline::builder("p");
    let cases = [
        (
            plain().breaker(lease).attempt_timeout(secs(11)),
            "`probe_lease` is 10s, shorter than `attempt_timeout` (11s)",
        ),
        (
            plain().attempt_timeout(secs(5)).total_timeout(secs(4)),
            "`total_timeout`: is 4s, shorter than `attempt_timeout` (5s)",
        ),
        (
            plain().breaker(window).attempt_timeout(secs(6)),
            "`time_window` is 10s, shorter than two attempts (`attempt_timeout` is 6s)",
        ),
        (
            plain().attempt_timeout(Duration::ZERO),
            "`attempt_timeout`: is 0 s",
        ),
        (
            plain().total_timeout(Duration::ZERO),
            "`total_timeout`: is 0 s",
        ),
    ];
    for (builder, expected) in cases {
        let message = builder.build().unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn c02_a_time_limit_outside_of_the_breaker_only_is_warned_about() {
    let breaker = || CircuitBreaker::builder("b").build().unwrap();
    let outside = Pipeline::builder("p")
        .breaker(breaker())
        .total_timeout(secs(1));
    assert!(outside.build().unwrap().warnings()[0].contains("attempt_timeout"));
    let inside = Pipeline::builder("p")
        .breaker(breaker())
        .attempt_timeout(secs(1));
    let inside = inside.build().unwrap();
    assert!(inside.warnings().is_empty());
    let outside = Pipeline::builder("p")
        .breaker(breaker())
        .total_timeout(secs(1));
    inside.replace(outside).unwrap();
    assert!(
        inside.warnings()[0].contains("attempt_timeout"),
        "of the layers in use"
    );
}

#[tokio::test]
async fn c03_one_flat_error_through_all_layers() {
    let clock = ManualClock::new();
    let (builder, breaker, _, _) = full(&clock);
    let pipeline = builder.build().unwrap();
    let invalid = pipeline
        .call(|| ready(Err::<(), _>(Fault::Invalid)))
        .await
        .unwrap_err();
    assert_eq!(invalid, CallError::Inner(Fault::Invalid));
    let source = std::error::Error::source(&invalid).unwrap();
    assert_eq!(source.downcast_ref::<Fault>(), Some(&Fault::Invalid));

    breaker.isolate();
    let isolated = pipeline
        .call(|| ready(Ok::<_, Fault>(())))
        .await
        .unwrap_err();
    assert_eq!(isolated.rejected_by(), Some(RejectedBy::Breaker));
    assert_eq!(isolated.rejected().unwrap().reason, RejectReason::Isolated);
    breaker.release();

    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    let mut patient = Box::pin(pipeline.call(|| ready(Ok::<_, Fault>(()))));
    assert!(
        poll_once(&mut patient).is_pending(),
        "waits for the breaker"
    );
    drop(patient);
    let single = retry(&clock).max_attempts(1).build().unwrap();
    pipeline
        .replace(full(&clock).0.retry(single).breaker(breaker))
        .unwrap();
    let open = pipeline
        .call(|| ready(Ok::<_, Fault>(())))
        .await
        .unwrap_err();
    assert_eq!(open.retry_after(), Some(secs(5)));
    assert_eq!(open.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn c03_timeouts_say_which_and_count_for_the_breaker() {
    let clock = ManualClock::new();
    let (builder, breaker, _, _) = full(&clock);
    let pipeline = builder.build().unwrap();
    let call = async move { pipeline.call(pending::<Result<(), Fault>>).await };
    let CallError::Timeout(attempt) = ends(&clock, call).await.unwrap_err() else {
        panic!("no timeout");
    };
    assert_eq!(
        (attempt.which, attempt.limit),
        (TimeLimit::Attempt, secs(2))
    );
    assert!(breaker.snapshot().counts.failures >= 1);

    let always = retry(&clock)
        .idempotent(true)
        .max_attempts(100)
        .build()
        .unwrap();
    let total = pipeline_of(&clock, always);
    let call = async move { total.call(pending::<Result<(), Fault>>).await };
    let before = clock.now();
    let error = ends(&clock, call).await.unwrap_err();
    let CallError::Timeout(total) = error else {
        panic!("no timeout");
    };
    assert_eq!((total.which, total.limit), (TimeLimit::Total, secs(5)));
    assert_eq!(clock.now().since(before), secs(5));
}

fn pipeline_of(clock: &ManualClock, retry: Retry) -> Pipeline {
    let builder = pipeline(clock)
        .total_timeout(secs(5))
        .attempt_timeout(secs(2));
    builder.retry(retry).build().unwrap()
}

#[tokio::test]
async fn no_wait_starts_that_would_reach_the_total_limit() {
    let clock = ManualClock::new();
    let pipeline = pipeline_of(&clock, retry(&clock).cap(secs(60)).build().unwrap());
    let call = async move {
        pipeline
            .call(|| ready(Err::<(), _>(Fault::DownFor(secs(5)))))
            .await
    };
    let error = ends(&clock, call).await.unwrap_err();
    assert_eq!(error, CallError::Inner(Fault::DownFor(secs(5))));
    assert_eq!(clock.now().as_nanos(), 0);
}

#[tokio::test]
async fn a_full_bulkhead_is_no_failure_of_the_other_side() {
    let clock = ManualClock::new();
    let (builder, breaker, bulkhead, _) = full(&clock);
    let one = retry(&clock).max_attempts(1).build().unwrap();
    let pipeline = builder.retry(one).build().unwrap();
    bulkhead.resize(1).unwrap();
    let _held = bulkhead.try_acquire().unwrap();
    for _ in 0..5 {
        let pipeline = pipeline.clone();
        let call = async move { pipeline.call(|| ready(Ok::<_, Fault>(()))).await };
        let error = ends(&clock, call).await.unwrap_err();
        assert_eq!(error.rejected_by(), Some(RejectedBy::Bulkhead));
    }
    let counts = breaker.snapshot().counts;
    assert_eq!(counts.failures, 0);
    assert!(counts.ignored >= 5);
}

#[tokio::test]
async fn every_repetition_takes_a_turn_at_the_rate_limiter() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder("l").quota(Quota::strict(2, secs(2)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let pipeline = pipeline(&clock)
        .rate_limiter(limiter)
        .retry(retry(&clock).build().unwrap())
        .build()
        .unwrap();
    let call = async move { pipeline.call(|| ready(Err::<(), _>(Fault::Down))).await };
    ends(&clock, call).await.unwrap_err();
    assert_eq!(
        clock.now().as_nanos(),
        secs(2).as_nanos() as u64,
        "the third attempt waited"
    );
}

#[tokio::test]
async fn a_rejected_attempt_gives_its_turn_back() {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder("l").quota(Quota::strict(1, secs(60)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let breaker = breaker(&clock);
    let builder = pipeline(&clock).rate_limiter(limiter.clone());
    let pipeline = builder.breaker(breaker.clone()).build().unwrap();
    breaker.isolate();
    pipeline
        .call(|| ready(Ok::<_, Fault>(())))
        .await
        .unwrap_err();
    limiter.try_acquire(1).unwrap();
}

#[tokio::test]
async fn a_budget_is_not_charged_for_rejections() {
    let clock = ManualClock::new();
    let budget = RetryBudget::windowed(1.0, secs(60), 5).unwrap();
    let policy = retry(&clock).budget(budget.clone()).build().unwrap();
    let breaker = breaker(&clock);
    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    let pipeline = pipeline(&clock)
        .retry(policy)
        .breaker(breaker)
        .build()
        .unwrap();
    let before = budget.available(clock.now());
    let call = async move { pipeline.call(|| ready(Ok::<_, Fault>(()))).await };
    ends(&clock, call).await.unwrap();
    assert_eq!(budget.available(clock.now()), before + 1);
    assert_eq!(clock.now().as_nanos(), secs(5).as_nanos() as u64);
}

#[tokio::test]
async fn calls_dropped_at_every_point_leave_nothing_behind() {
    for polls in 0..100 {
        let clock = ManualClock::new();
        let (builder, breaker, bulkhead, limiter) = full(&clock);
        let pipeline = builder.build().unwrap();
        let work = || {
            let (first, second) = (clock.sleep(ms(700)), clock.sleep(ms(50)));
            async move {
                second.await;
                tokio::task::yield_now().await;
                first.await;
                Err::<(), _>(Fault::Down)
            }
        };
        let mut call = Box::pin(pipeline.call(work));
        for _ in 0..polls {
            if poll_once(&mut call).is_ready() {
                break;
            }
            clock.advance(ms(25));
        }
        drop(call);
        assert_eq!(
            (bulkhead.in_flight(), bulkhead.queued()),
            (0, 0),
            "{polls} polls"
        );
        assert_eq!(
            (limiter.queued(), clock.sleepers()),
            (0, 0),
            "{polls} polls"
        );
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.probes, 0);
    }
}

#[tokio::test]
async fn a_registry_exchanges_layers_under_handles_in_use() {
    let registry = PipelineRegistry::new();
    let handle = registry.put(Pipeline::builder("api")).unwrap();
    let isolated = CircuitBreaker::builder("api").build().unwrap();
    isolated.isolate();
    registry
        .put(Pipeline::builder("api").breaker(isolated))
        .unwrap();
    let error = handle.call(|| ready(Ok::<_, Fault>(()))).await.unwrap_err();
    assert_eq!(error.rejected_by(), Some(RejectedBy::Breaker));
    let misfit = Pipeline::builder("api").total_timeout(Duration::ZERO);
    assert!(registry.put(misfit).is_err());
    assert!(registry.get("api").unwrap().breaker().is_some());
    assert_eq!(registry.names().len(), 1);
}

#[tokio::test]
async fn presets_work_and_take_the_operators_settings() {
    let settings = ResilienceSettings {
        retry_max_attempts: 1,
        circuit_breaker_threshold: 1,
        ..ResilienceSettings::default()
    };
    let standard = Pipeline::standard("svc", settings)
        .unwrap()
        .build()
        .unwrap();
    let calls = AtomicU32::new(0);
    let work = || {
        calls.fetch_add(1, Ordering::SeqCst);
        ready(Err::<(), _>(Fault::Down))
    };
    standard.call(work).await.unwrap_err();
    let rejected = standard.call(work).await.unwrap_err();
    assert_eq!(rejected.rejected_by(), Some(RejectedBy::Breaker));
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    let quotas = [Quota::strict(1_200, secs(60))];
    let exchange = Pipeline::exchange_api("x", ResilienceSettings::default(), &quotas).unwrap();
    let exchange = exchange.build().unwrap();
    assert!(matches!(
        exchange.call(|| ready(Err::<(), _>(Fault::Lost))).await,
        Err(CallError::Inner(Fault::Lost))
    ));
    assert!(Pipeline::exchange_api("x", settings, &[]).is_err());
    let zero = ResilienceSettings {
        retry_max_attempts: 0,
        ..settings
    };
    assert!(Pipeline::standard("svc", zero).is_err());
    let misfits = [
        (
            ResilienceSettings {
                retry_base_delay: secs(20),
                ..settings
            },
            "`cap`: is 10s, shorter than `base` (20s)",
        ),
        (
            ResilienceSettings {
                call_timeout: Some(secs(3)),
                ..settings
            },
            "`total_timeout`: is 3s, shorter than `attempt_timeout` (10s)",
        ),
        (
            ResilienceSettings {
                circuit_breaker_open_duration: Duration::ZERO,
                ..settings
            },
            "`open_wait`: is 0 s",
        ),
    ];
    for (settings, expected) in misfits {
        let built = Pipeline::standard("svc", settings).and_then(PipelineBuilder::build);
        let message = built.unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let patient = ResilienceSettings {
        call_timeout: Some(secs(60)),
        call_attempt_timeout: Some(secs(20)),
        ..settings
    };
    // A probe has as long as any other attempt.
    let built = Pipeline::standard("svc", patient).and_then(PipelineBuilder::build);
    built.unwrap();
    let mut poll = Box::pin(exchange.call(|| ready(Ok::<_, Fault>(7))));
    assert_eq!(poll_once(&mut poll), Poll::Ready(Ok(7)));
}
