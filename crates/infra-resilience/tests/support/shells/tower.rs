//! Calls through tower services.

use std::task::{Context, Poll};

use ::tower::{Layer, Service, ServiceBuilder, ServiceExt};
#[cfg(feature = "shared")]
use infra_resilience::tower::SharedRateLimitLayer;
use infra_resilience::tower::{
    AdaptiveLayer, BreakerLayer, BulkheadLayer, ChaosLayer, CoalesceLayer, DetachedTimeoutLayer,
    FallbackLayer, FlatErrorLayer, FlatErrorService, HedgeLayer, RateLimitLayer, RetryLayer,
    ThrottleLayer, TimeoutLayer,
};

use super::*;

/// Layers of tower stacks, applied anew for each call, as routers do.
pub struct Tower;

/// The innermost service.
#[derive(Clone)]
pub struct Innermost(Inner);

impl Service<()> for Innermost {
    type Response = u32;
    type Error = Fault;
    type Future = BoxFuture<'static, Result<u32, Fault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        (self.0)()
    }
}

type Flat = FlatErrorService<Innermost>;

fn flat(inner: &Inner) -> Flat {
    FlatErrorLayer.layer(Innermost(inner.clone()))
}

/// Calls the inner call through `layer`.
fn through<L>(layer: L, inner: Inner) -> Outer
where
    L: Layer<Flat> + Send + Sync + 'static,
    L::Service: Service<(), Response = u32, Error = CallError<Fault>> + Send + 'static,
    <L::Service as Service<()>>::Future: Send,
{
    outer(move || {
        let mut service = layer.layer(flat(&inner));
        Box::pin(async move { service.ready().await?.call(()).await })
    })
}

impl Shell for Tower {
    const TOWER: bool = true;

    fn retry(retry: Retry, inner: Inner) -> Outer {
        through(RetryLayer::new(retry), inner)
    }

    fn retry_through(retry: Retry, breaker: CircuitBreaker, inner: Inner) -> Outer {
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(retry))
            .layer(BreakerLayer::new(breaker));
        through(stack.into_inner(), inner)
    }

    fn breaker_around(breaker: CircuitBreaker, retry: Retry, inner: Inner) -> Outer {
        let stack = ServiceBuilder::new()
            .layer(BreakerLayer::new(breaker))
            .layer(RetryLayer::new(retry));
        through(stack.into_inner(), inner)
    }

    fn breaker(breaker: CircuitBreaker, inner: Inner) -> Outer {
        through(BreakerLayer::new(breaker), inner)
    }

    fn bulkhead(bulkhead: Bulkhead, inner: Inner) -> Outer {
        through(BulkheadLayer::new(bulkhead), inner)
    }

    fn bulkhead_within(
        clock: SharedClock,
        limit: Duration,
        bulkhead: Bulkhead,
        inner: Inner,
    ) -> Outer {
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(clock, limit))
            .layer(BulkheadLayer::new(bulkhead));
        through(stack.into_inner(), inner)
    }

    fn weighing(limiter: RateLimiter, weight: u32, inner: Inner) -> Outer {
        through(RateLimitLayer::new(limiter).weight(weight), inner)
    }

    #[cfg(feature = "shared")]
    fn shared_limiter(limiter: SharedRateLimiter, weight: u32, inner: Inner) -> Outer {
        through(SharedRateLimitLayer::new(limiter).weight(weight), inner)
    }

    fn adaptive(limiter: AdaptiveLimiter, inner: Inner) -> Outer {
        through(AdaptiveLayer::new(limiter), inner)
    }

    fn throttle(throttle: Throttle, inner: Inner) -> Outer {
        through(ThrottleLayer::new(throttle), inner)
    }

    fn timeout(clock: SharedClock, limit: Duration, inner: Inner) -> Outer {
        through(TimeoutLayer::new(clock, limit), inner)
    }

    fn nested_timeouts(clock: SharedClock, total: Duration, each: Duration, inner: Inner) -> Outer {
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(clock.clone(), total).named(TimeLimit::Total))
            .layer(TimeoutLayer::new(clock, each).named(TimeLimit::Attempt));
        through(stack.into_inner(), inner)
    }

    fn deadlines(clock: SharedClock, outer: Deadline, each: Deadline, inner: Inner) -> Outer {
        let total = TimeoutLayer::until(clock.clone(), move |(): &()| outer);
        let attempt = TimeoutLayer::until(clock, move |(): &()| each);
        let stack = ServiceBuilder::new()
            .layer(total.named(TimeLimit::Total))
            .layer(attempt.named(TimeLimit::Attempt));
        through(stack.into_inner(), inner)
    }

    fn detached(clock: SharedClock, limit: Duration, inner: Inner) -> Outer {
        through(DetachedTimeoutLayer::new(clock, limit), inner)
    }

    fn hedge_if(hedge: Hedge, eligible: bool, inner: Inner) -> Outer {
        let layer = HedgeLayer::new(hedge).only_if(move |(): &()| eligible);
        through(layer, inner)
    }

    fn coalesce(calls: Flights, inner: Inner) -> Outer {
        through(CoalesceLayer::new(calls, |(): &()| 0), inner)
    }

    fn chaos(chaos: Chaos, inner: Inner) -> Outer {
        let injected = || CallError::Inner(Fault::Lost);
        through(ChaosLayer::new(chaos, injected), inner)
    }

    fn five_layers(layers: Five, inner: Inner) -> Outer {
        let stack = ServiceBuilder::new()
            .layer(RateLimitLayer::new(layers.limiter))
            .layer(RetryLayer::new(layers.retry))
            .layer(BreakerLayer::new(layers.breaker))
            .layer(BulkheadLayer::new(layers.bulkhead))
            .layer(TimeoutLayer::new(layers.clock, layers.attempt).named(TimeLimit::Attempt));
        through(stack.into_inner(), inner)
    }

    fn fallback(instead: Instead, inner: Inner) -> Backed {
        let second = move |error: &CallError<Fault>, (): ()| std::future::ready(instead(error));
        let mut service = FallbackLayer::new(second).layer(flat(&inner));
        Box::pin(async move { service.ready().await?.call(()).await })
    }
}
