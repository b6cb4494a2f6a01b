//! The rows of the conformance table that are about tower stacks.
#![cfg(feature = "tower")]
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

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use infra_core::context::spawn;
use infra_core::{Classify, Clock, ManualClock};
use infra_resilience::retry::Jitter;
use infra_resilience::tower::{
    BreakerLayer, BulkheadLayer, FlatErrorLayer, RateLimitLayer, RetryLayer, TimeoutLayer,
};
use infra_resilience::{
    Bulkhead, CallError, CircuitBreaker, Quota, RateLimiter, RejectedBy, Retry, TimeLimit,
};
use support::{Fault, millis, ms, poll_once, secs, settle};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// Counts what is asked of it; fails so often before it succeeds.
#[derive(Clone, Default)]
struct Probe {
    ready: Arc<AtomicU32>,
    calls: Arc<AtomicU32>,
    failures: u32,
    readiness_fails_at: Option<u32>,
}

impl Service<()> for Probe {
    type Response = u32;
    type Error = Fault;
    type Future = Ready<Result<u32, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let asked = self.ready.fetch_add(1, Ordering::SeqCst) + 1;
        if self.readiness_fails_at == Some(asked) {
            return Poll::Ready(Err(Fault::Lost));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        ready(if call > self.failures {
            Ok(call)
        } else {
            Err(Fault::Down)
        })
    }
}

impl Probe {
    fn failing(failures: u32) -> Self {
        Probe {
            failures,
            ..Probe::default()
        }
    }

    fn counts(&self) -> (u32, u32) {
        let load = |n: &AtomicU32| n.load(Ordering::SeqCst);
        (load(&self.ready), load(&self.calls))
    }
}

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let builder = CircuitBreaker::builder("b").consecutive_failures(1);
    builder.clock(clock.shared()).build().unwrap()
}

fn retry(clock: &ManualClock) -> Retry {
    let builder = Retry::constant(ms(100))
        .jitter(Jitter::None)
        .clock(clock.shared());
    builder.build().unwrap()
}

#[tokio::test]
async fn b23_rejection_comes_from_call_and_inner_readiness_is_not_asked_while_open() {
    let clock = ManualClock::new();
    let (breaker, probe) = (breaker(&clock), Probe::failing(1));
    let stack = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker.clone()))
        .layer(FlatErrorLayer);
    let mut service = stack.service(probe.clone());
    service.ready().await.unwrap().call(()).await.unwrap_err();
    assert_eq!(probe.counts(), (1, 1));
    for _ in 0..10 {
        let error = service.ready().await.unwrap().call(()).await.unwrap_err();
        assert_eq!(error.rejected_by(), Some(RejectedBy::Breaker));
        assert_eq!(error.retry_after(), Some(secs(30)));
    }
    assert_eq!(probe.counts(), (1, 1));

    // The wait ends between readiness and call: the inner service was not asked, so no call.
    service.ready().await.unwrap();
    clock.advance(secs(30));
    let early = service.call(()).await.unwrap_err();
    assert_eq!(early.retry_after(), Some(secs(0)));
    assert_eq!(probe.counts(), (1, 1));
    assert_eq!(service.ready().await.unwrap().call(()).await, Ok(2));
}

#[tokio::test]
async fn b23_clones_and_layers_applied_again_share_one_state() {
    let clock = ManualClock::new();
    let layer = BreakerLayer::new(breaker(&clock));
    let apply = |probe: &Probe| {
        let stack = ServiceBuilder::new()
            .layer(layer.clone())
            .layer(FlatErrorLayer);
        stack.service(probe.clone())
    };
    let probe = Probe::failing(1);
    let mut first = apply(&probe);
    let mut clone = first.clone();
    first.ready().await.unwrap().call(()).await.unwrap_err();
    let mut again = apply(&probe);
    for service in [&mut clone, &mut again] {
        let error = service.ready().await.unwrap().call(()).await.unwrap_err();
        assert_eq!(error.rejected_by(), Some(RejectedBy::Breaker));
    }
}

#[tokio::test]
async fn r14_readiness_is_asked_before_every_attempt_and_its_error_is_final() {
    let clock = ManualClock::new();
    for (fails_at, expected) in [(None, Ok(3)), (Some(2), Err(CallError::Inner(Fault::Lost)))] {
        let mut probe = Probe::failing(2);
        probe.readiness_fails_at = fails_at;
        let counted = probe.clone();
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(retry(&clock)))
            .layer(FlatErrorLayer);
        let mut service = stack.service(probe);
        let task = spawn(async move { service.ready().await?.call(()).await });
        settle().await;
        while !task.is_finished() {
            clock.advance(ms(100));
            settle().await;
        }
        assert_eq!(task.await.unwrap(), expected);
        let (ready, calls) = counted.counts();
        assert_eq!(ready, if fails_at.is_some() { calls + 1 } else { calls });
    }
}

#[tokio::test]
async fn r01_r06_retry_layer_counts_waits_and_keeps_the_deadline() {
    let clock = ManualClock::new();
    let limited = retry(&clock)
        .to_builder()
        .deadline(secs(1))
        .build()
        .unwrap();
    let begin = millis(&clock);
    let hangs = service_fn(|(): ()| std::future::pending::<Result<u32, Fault>>());
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(limited))
        .layer(FlatErrorLayer);
    let mut service = stack.service(hangs);
    let mut call = Box::pin(async { service.ready().await?.call(()).await });
    assert!(poll_once(&mut call).is_pending());
    clock.advance(secs(1));
    let Poll::Ready(Err(CallError::Timeout(cut))) = poll_once(&mut call) else {
        panic!("not cut off at the deadline");
    };
    assert_eq!((cut.which, cut.limit), (TimeLimit::Total, secs(1)));
    assert_eq!(millis(&clock) - begin, 1_000);

    let probe = Probe::failing(9);
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(retry(&clock)))
        .layer(FlatErrorLayer);
    let mut service = stack.service(probe.clone());
    let task = spawn(async move { service.ready().await?.call(()).await });
    settle().await;
    let begin = millis(&clock);
    while !task.is_finished() {
        clock.advance(ms(1));
        settle().await;
    }
    assert_eq!(task.await.unwrap(), Err(CallError::Inner(Fault::Down)));
    assert_eq!((probe.counts(), millis(&clock) - begin), ((3, 3), 200));
}

#[tokio::test]
async fn t01_k01_l08_the_other_layers_limit_time_places_and_rate() {
    let clock = ManualClock::new();
    let bulkhead = Bulkhead::builder("k")
        .max_concurrent(1)
        .clock(clock.shared());
    let bulkhead = bulkhead.build().unwrap();
    let limiter = RateLimiter::builder("l").quota(Quota::strict(2, secs(60)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter.clone()))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .layer(TimeoutLayer::new(clock.shared(), secs(1)).named(TimeLimit::Attempt))
        .layer(FlatErrorLayer)
        .service(service_fn(|(): ()| {
            std::future::pending::<Result<u32, Fault>>()
        }));
    let call = || Box::pin(service.clone().oneshot(()));
    let mut first = call();
    assert!(poll_once(&mut first).is_pending());
    let full = call().await.unwrap_err();
    assert_eq!(full.rejected_by(), Some(RejectedBy::Bulkhead));
    let mut limited = call();
    assert!(poll_once(&mut limited).is_pending());
    assert_eq!((limiter.queued(), bulkhead.in_flight()), (1, 1));
    drop(limited);
    assert_eq!(limiter.queued(), 0);
    clock.advance(secs(1));
    let Poll::Ready(Err(CallError::Timeout(timed_out))) = poll_once(&mut first) else {
        panic!("no timeout");
    };
    assert_eq!(timed_out.which, TimeLimit::Attempt);
    assert_eq!(bulkhead.in_flight(), 0);
    assert!(clock.now().as_nanos() > 0);
}
