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

use std::future::{Ready, pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use infra_core::context::spawn;
use infra_core::{Classify, Clock, ManualClock};
use infra_resilience::breaker::OnCancel;
use infra_resilience::retry::Jitter;
use infra_resilience::tower::{
    BreakerLayer, BulkheadLayer, FlatErrorLayer, HedgeLayer, RateLimitLayer, RetryLayer,
    TimeoutLayer,
};
use infra_resilience::{
    Bulkhead, CallError, CircuitBreaker, Hedge, Quota, RateLimiter, RejectedBy, Retry, TimeLimit,
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

/// A breaker that counts each dropped call, and how many of them failed and said nothing.
fn counting_drops(clock: &ManualClock) -> (CircuitBreaker, impl Fn() -> (u64, u64) + use<>) {
    let builder = CircuitBreaker::builder("b").on_cancel(OnCancel::Failure);
    let breaker = builder.clock(clock.shared()).build().unwrap();
    let counted = breaker.clone();
    let counts = move || {
        let counts = counted.snapshot().counts;
        (counts.failures, counts.ignored)
    };
    (breaker, counts)
}

fn one_place(clock: &ManualClock) -> Bulkhead {
    let bulkhead = Bulkhead::builder("k").max_concurrent(1).queue(9, secs(60));
    bulkhead.clock(clock.shared()).build().unwrap()
}

/// The inner service whose calls never end.
async fn never((): ()) -> Result<u32, Fault> {
    pending().await
}

#[tokio::test]
async fn a_call_under_a_breaker_begins_when_it_has_left_all_queues() {
    let clock = ManualClock::new();
    let ((breaker, counts), bulkhead) = (counting_drops(&clock), one_place(&clock));
    let limiter = RateLimiter::builder("l").quota(Quota::smooth(1, secs(9)));
    let limiter = limiter.clock(clock.shared()).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .layer(RateLimitLayer::new(limiter.clone()))
        .layer(FlatErrorLayer)
        .service(service_fn(never));
    limiter.try_acquire(1).unwrap();
    let held = bulkhead.try_acquire().unwrap();
    let mut call = Box::pin(stack.clone().oneshot(()));
    assert!(poll_once(&mut call).is_pending());
    drop(held);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!((bulkhead.in_flight(), limiter.queued()), (1, 1));
    drop(call);
    assert_eq!(counts(), (0, 1));

    let mut call = Box::pin(stack.oneshot(()));
    assert!(poll_once(&mut call).is_pending());
    clock.advance(secs(9));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(limiter.queued(), 0);
    drop(call);
    assert_eq!(counts(), (1, 1));
}

#[tokio::test]
async fn a_call_under_a_breaker_has_begun_when_one_of_its_attempts_has() {
    let clock = ManualClock::new();
    let ((breaker, counts), bulkhead) = (counting_drops(&clock), one_place(&clock));
    let hedge = Hedge::builder().delay(ms(50)).clock(clock.shared());
    let stack = ServiceBuilder::new()
        .layer(BreakerLayer::new(breaker))
        .layer(HedgeLayer::new(hedge.build().unwrap()))
        .layer(BulkheadLayer::new(bulkhead.clone()))
        .layer(FlatErrorLayer)
        .service(service_fn(never));
    let held = bulkhead.try_acquire().unwrap();
    let mut call = Box::pin(stack.oneshot(()));
    assert!(poll_once(&mut call).is_pending());
    clock.advance(ms(50));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(bulkhead.queued(), 2);
    drop(held);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!((bulkhead.in_flight(), bulkhead.queued()), (1, 1));
    drop(call);
    assert_eq!(counts(), (1, 0));
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

#[tokio::test]
async fn c06_the_chaos_layer_does_each_fault_to_the_call() {
    use infra_resilience::tower::ChaosLayer;
    use infra_resilience::{Chaos, ChaosBuilder};

    let clock = ManualClock::new();
    let service = |builder: ChaosBuilder| {
        let chaos = builder.enabled(true).clock(clock.shared()).build().unwrap();
        let probe = Probe::default();
        let stack = ServiceBuilder::new().layer(ChaosLayer::new(chaos, || Fault::Lost));
        (stack.service(probe.clone()), probe)
    };
    let (fails, probe) = service(Chaos::builder().errors(1.0));
    assert_eq!(fails.oneshot(()).await, Err(Fault::Lost));
    assert_eq!(probe.counts().1, 0, "an injected error calls nobody");
    let (panics, _) = service(Chaos::builder().panics(1.0));
    assert!(spawn(panics.oneshot(())).await.unwrap_err().is_panic());
    let (hangs, _) = service(Chaos::builder().hangs(1.0));
    let mut call = Box::pin(hangs.oneshot(()));
    clock.advance(secs(3_600));
    assert!(poll_once(&mut call).is_pending());
    let (late, probe) = service(Chaos::builder().latency(1.0, secs(1)));
    let mut call = Box::pin(late.oneshot(()));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(probe.counts().1, 0);
    clock.advance(secs(1));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
    let off = Chaos::builder().errors(1.0).build().unwrap();
    let off = ServiceBuilder::new().layer(ChaosLayer::new(off, || Fault::Lost));
    assert_eq!(off.service(Probe::default()).oneshot(()).await, Ok(1));
}

#[tokio::test]
async fn a_broken_service_falls_back_and_layers_of_two_priorities_share_a_bulkhead() {
    use infra_resilience::Priority;
    use infra_resilience::tower::FallbackLayer;

    let broken = Probe {
        readiness_fails_at: Some(1),
        ..Probe::default()
    };
    let second = |error: &Fault, (): ()| {
        ready(if *error == Fault::Lost {
            Ok(9)
        } else {
            Err(())
        })
    };
    let service = ServiceBuilder::new().layer(FallbackLayer::new(second));
    let mut service = service.service(broken.clone());
    // Whether the readiness error or the call's own result decides, an answer comes.
    assert!(service.ready().await.unwrap().call(()).await.is_ok());

    let bulkhead = Bulkhead::builder("k")
        .max_concurrent(2)
        .share(Priority::Low, 0.5);
    let layer = BulkheadLayer::new(bulkhead.build().unwrap());
    let hangs = service_fn(|(): ()| std::future::pending::<Result<u32, Fault>>());
    let stack = |priority| {
        let stack = ServiceBuilder::new().layer(layer.clone().priority(priority));
        stack.layer(FlatErrorLayer).service(hangs)
    };
    let mut first = Box::pin(stack(Priority::Low).oneshot(()));
    assert!(poll_once(&mut first).is_pending());
    let shed = stack(Priority::Low).oneshot(()).await.unwrap_err();
    assert_eq!(shed.rejected_by(), Some(RejectedBy::Bulkhead));
    assert!(poll_once(&mut Box::pin(stack(Priority::High).oneshot(()))).is_pending());
}

#[cfg(feature = "tower-retry")]
mod adapters {
    use infra_core::SystemClock;
    use infra_resilience::RetryBudget;
    use infra_resilience::tower::{BudgetAdapter, RetryPolicy};
    use tower::retry::budget::Budget;

    use super::*;

    /// Drives `calls` calls through tower's own middleware, one clone of the service each.
    async fn drive(clock: &ManualClock, retry: Retry, probe: Probe, calls: u32) -> Vec<bool> {
        let layer = tower::retry::RetryLayer::new(RetryPolicy::new(retry));
        let service = ServiceBuilder::new().layer(layer).service(probe);
        let mut ends = Vec::new();
        for _ in 0..calls {
            let mut service = service.clone();
            let task = spawn(async move { service.ready().await?.call(()).await });
            settle().await;
            while !task.is_finished() {
                clock.advance(ms(1));
                settle().await;
            }
            ends.push(task.await.unwrap().is_ok());
        }
        ends
    }

    #[tokio::test]
    async fn r01_towers_retry_follows_our_policy() {
        let clock = ManualClock::new();
        let probe = Probe::failing(2);
        assert_eq!(drive(&clock, retry(&clock), probe.clone(), 1).await, [true]);
        assert_eq!((probe.counts().1, millis(&clock)), (3, 200));
        let probe = Probe::failing(9);
        assert_eq!(
            drive(&clock, retry(&clock), probe.clone(), 1).await,
            [false]
        );
        assert_eq!((probe.counts().1, millis(&clock)), (3, 400));
    }

    #[tokio::test]
    async fn each_call_through_one_service_has_a_run_of_its_own() {
        let clock = ManualClock::new();
        let policy = RetryPolicy::new(retry(&clock));
        let layer = tower::retry::RetryLayer::new(policy);
        let probe = Probe::failing(4);
        let mut service = ServiceBuilder::new().layer(layer).service(probe.clone());
        // Two calls at once, through one service: four failures are two for each.
        let (first, second) = (
            spawn(service.ready().await.unwrap().call(())),
            spawn(service.ready().await.unwrap().call(())),
        );
        settle().await;
        while !(first.is_finished() && second.is_finished()) {
            clock.advance(ms(1));
            settle().await;
        }
        assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
        assert_eq!((probe.counts().1, millis(&clock)), (6, 200));
    }

    #[tokio::test]
    async fn r07_a_budget_is_exact_and_shared_through_towers_retry() {
        let clock = ManualClock::new();
        let budget = RetryBudget::windowed(0.5, secs(3_600), 0).unwrap();
        let retry = retry(&clock).to_builder().budget(budget.clone());
        let probe = Probe::failing(u32::MAX);
        drive(&clock, retry.build().unwrap(), probe.clone(), 10).await;
        assert_eq!(probe.counts().1, 15, "10 calls and 5 repetitions");
        let in_flight = RetryBudget::in_flight(1.0, 0).unwrap();
        let limited = retry_with(&clock, in_flight.clone());
        drive(&clock, limited, Probe::failing(1), 1).await;
        assert_eq!(in_flight.available(clock.now()), 0, "the call has ended");
    }

    fn retry_with(clock: &ManualClock, budget: RetryBudget) -> Retry {
        let builder = retry(clock).to_builder().budget(budget);
        builder.build().unwrap()
    }

    #[test]
    fn r07_the_budget_trait_is_exact_for_any_ratio() {
        let clock = ManualClock::new();
        for (ratio, expected) in [(0.6, 6), (1.0, 10), (0.1, 1), (2.5, 25)] {
            let budget = RetryBudget::windowed(ratio, secs(10), 0).unwrap();
            let adapter = BudgetAdapter::new(budget, clock.shared()).unwrap();
            for _ in 0..10 {
                adapter.deposit();
            }
            let granted = (0..100).filter(|_| adapter.withdraw()).count();
            assert_eq!(granted, expected, "{ratio}");
        }
        let in_flight = RetryBudget::in_flight(0.2, 3).unwrap();
        let refused = BudgetAdapter::new(in_flight, SystemClock::shared()).unwrap_err();
        assert!(refused.to_string().contains("calls in flight"), "{refused}");
    }
}
