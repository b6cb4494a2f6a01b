//! The two shells of every piece, the plain wrapper and the tower layer, behind one trait: what the
//! conformance suite calls "a way to call".

use std::sync::Arc;
use std::time::Duration;

use infra_core::{BoxFuture, SharedClock};
use infra_resilience::{
    AdaptiveLimiter, Bulkhead, CallError, CircuitBreaker, FallbackError, Hedge, RateLimiter, Retry,
    RetryError, Throttle, TimeLimit, with_fallback,
};

use super::Fault;

/// What is called: makes one attempt.
pub type Inner = Arc<dyn Fn() -> BoxFuture<'static, Result<u32, Fault>> + Send + Sync>;
/// A future of a call through a shell.
pub type Call = BoxFuture<'static, Result<u32, CallError<Fault>>>;
/// The inner call with a piece around it.
pub type Outer = Arc<dyn Fn() -> Call + Send + Sync>;
/// A call with a second source.
pub type Backed = BoxFuture<'static, Result<u32, FallbackError<CallError<Fault>, Fault>>>;
/// The second source.
pub type Instead = Arc<dyn Fn(&CallError<Fault>) -> Result<u32, Fault> + Send + Sync>;

/// A way to call.
pub trait Shell: Send + Sync + 'static {
    /// True where calls go through tower services.
    const TOWER: bool;
    fn retry(retry: Retry, inner: Inner) -> Outer;
    fn retry_through(retry: Retry, breaker: CircuitBreaker, inner: Inner) -> Outer;
    fn breaker_around(breaker: CircuitBreaker, retry: Retry, inner: Inner) -> Outer;
    fn breaker(breaker: CircuitBreaker, inner: Inner) -> Outer;
    fn bulkhead(bulkhead: Bulkhead, inner: Inner) -> Outer;
    fn limiter(limiter: RateLimiter, inner: Inner) -> Outer;
    fn adaptive(limiter: AdaptiveLimiter, inner: Inner) -> Outer;
    fn throttle(throttle: Throttle, inner: Inner) -> Outer;
    fn timeout(clock: SharedClock, limit: Duration, inner: Inner) -> Outer;
    fn nested_timeouts(clock: SharedClock, total: Duration, each: Duration, inner: Inner) -> Outer;
    fn hedge(hedge: Hedge, inner: Inner) -> Outer;
    fn fallback(instead: Instead, inner: Inner) -> Backed;
}

/// The plain asynchronous wrappers.
pub struct Plain;

fn outer(call: impl Fn() -> Call + Send + Sync + 'static) -> Outer {
    Arc::new(call)
}

/// The flat error that a stack would give.
fn flat(error: RetryError<CallError<Fault>>) -> CallError<Fault> {
    let cut_off = error.was_cut_off();
    match error.into_inner() {
        Some(last) if !cut_off => last,
        _ => cut(),
    }
}

/// The error of a run that its deadline cut off.
fn cut() -> CallError<Fault> {
    let clock = infra_core::ManualClock::new().shared();
    let never = infra_resilience::timeout(&clock, Duration::ZERO, std::future::pending::<()>());
    let mut never = Box::pin(never.named(TimeLimit::Total));
    match super::poll_once(&mut never) {
        std::task::Poll::Ready(Err(timed_out)) => CallError::Timeout(timed_out),
        _ => unreachable!("a limit of zero is over at once"),
    }
}

fn attempt(inner: &Inner) -> Call {
    let call = inner();
    Box::pin(async move { call.await.map_err(CallError::Inner) })
}

impl Shell for Plain {
    const TOWER: bool = false;

    fn retry(retry: Retry, inner: Inner) -> Outer {
        outer(move || {
            let (retry, inner) = (retry.clone(), inner.clone());
            Box::pin(async move { retry.run(|| attempt(&inner)).await.map_err(flat) })
        })
    }

    fn retry_through(retry: Retry, breaker: CircuitBreaker, inner: Inner) -> Outer {
        outer(move || {
            let (retry, breaker, inner) = (retry.clone(), breaker.clone(), inner.clone());
            Box::pin(async move {
                let end = retry.run_through(&breaker, || inner()).await;
                end.map_err(|error| match error.into_inner() {
                    Some(error) => error.into(),
                    None => cut(),
                })
            })
        })
    }

    fn breaker_around(breaker: CircuitBreaker, retry: Retry, inner: Inner) -> Outer {
        outer(move || {
            let (retry, breaker, inner) = (retry.clone(), breaker.clone(), inner.clone());
            Box::pin(async move {
                let end = breaker.call(|| retry.run(|| inner())).await;
                end.map_err(|error| match CallError::from(error) {
                    CallError::Inner(error) => CallError::Inner(error.into_inner().unwrap()),
                    CallError::Rejected(rejection) => rejection.into(),
                    other => panic!("{other:?}"),
                })
            })
        })
    }

    fn breaker(breaker: CircuitBreaker, inner: Inner) -> Outer {
        outer(move || {
            let (breaker, inner) = (breaker.clone(), inner.clone());
            Box::pin(async move { breaker.call(|| inner()).await.map_err(CallError::from) })
        })
    }

    fn bulkhead(bulkhead: Bulkhead, inner: Inner) -> Outer {
        outer(move || {
            let (bulkhead, inner) = (bulkhead.clone(), inner.clone());
            Box::pin(async move { bulkhead.call(|| inner()).await })
        })
    }

    fn limiter(limiter: RateLimiter, inner: Inner) -> Outer {
        outer(move || {
            let (limiter, inner) = (limiter.clone(), inner.clone());
            Box::pin(async move { limiter.call(|| inner()).await })
        })
    }

    fn adaptive(limiter: AdaptiveLimiter, inner: Inner) -> Outer {
        outer(move || {
            let (limiter, inner) = (limiter.clone(), inner.clone());
            Box::pin(async move { limiter.call(|| inner()).await })
        })
    }

    fn throttle(throttle: Throttle, inner: Inner) -> Outer {
        outer(move || {
            let (throttle, inner) = (throttle.clone(), inner.clone());
            Box::pin(async move { throttle.call(|| inner()).await })
        })
    }

    fn timeout(clock: SharedClock, limit: Duration, inner: Inner) -> Outer {
        outer(move || {
            let limited = infra_resilience::timeout(&clock, limit, attempt(&inner));
            Box::pin(async move { limited.await.unwrap_or_else(|error| Err(error.into())) })
        })
    }

    fn nested_timeouts(clock: SharedClock, total: Duration, each: Duration, inner: Inner) -> Outer {
        outer(move || {
            let one = infra_resilience::timeout(&clock, each, attempt(&inner));
            let one = one.named(TimeLimit::Attempt);
            let all = infra_resilience::timeout(&clock, total, one).named(TimeLimit::Total);
            Box::pin(async move {
                let inner = all.await.unwrap_or_else(|error| Ok(Err(error.into())));
                inner.unwrap_or_else(|error| Err(error.into()))
            })
        })
    }

    fn hedge(hedge: Hedge, inner: Inner) -> Outer {
        outer(move || {
            let (hedge, inner) = (hedge.clone(), inner.clone());
            Box::pin(async move { hedge.run(|| attempt(&inner)).await })
        })
    }

    fn fallback(instead: Instead, inner: Inner) -> Backed {
        Box::pin(async move {
            let second = |error: &CallError<Fault>| std::future::ready(instead(error));
            with_fallback(attempt(&inner), second).await
        })
    }
}

/// Layers of tower stacks, applied anew for each call, as routers do.
#[cfg(feature = "tower")]
pub struct Tower;

#[cfg(feature = "tower")]
mod stacks {
    use std::task::{Context, Poll};

    use infra_resilience::tower::{
        AdaptiveLayer, BreakerLayer, BulkheadLayer, FallbackLayer, FlatErrorLayer,
        FlatErrorService, HedgeLayer, RateLimitLayer, RetryLayer, ThrottleLayer, TimeoutLayer,
    };
    use tower::{Layer, Service, ServiceBuilder, ServiceExt};

    use super::*;

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

        fn limiter(limiter: RateLimiter, inner: Inner) -> Outer {
            through(RateLimitLayer::new(limiter), inner)
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

        fn nested_timeouts(
            clock: SharedClock,
            total: Duration,
            each: Duration,
            inner: Inner,
        ) -> Outer {
            let stack = ServiceBuilder::new()
                .layer(TimeoutLayer::new(clock.clone(), total).named(TimeLimit::Total))
                .layer(TimeoutLayer::new(clock, each).named(TimeLimit::Attempt));
            through(stack.into_inner(), inner)
        }

        fn hedge(hedge: Hedge, inner: Inner) -> Outer {
            through(HedgeLayer::new(hedge), inner)
        }

        fn fallback(instead: Instead, inner: Inner) -> Backed {
            let second = move |error: &CallError<Fault>, (): ()| std::future::ready(instead(error));
            let mut service = FallbackLayer::new(second).layer(flat(&inner));
            Box::pin(async move { service.ready().await?.call(()).await })
        }
    }
}
