//! Calls through the plain asynchronous wrappers.

use super::*;

/// The plain asynchronous wrappers.
pub struct Plain;

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
    match poll_once(&mut never) {
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

    fn bulkhead_within(
        clock: SharedClock,
        limit: Duration,
        bulkhead: Bulkhead,
        inner: Inner,
    ) -> Outer {
        outer(move || {
            let (bulkhead, inner) = (bulkhead.clone(), inner.clone());
            let call = async move { bulkhead.call(|| inner()).await };
            let limited = infra_resilience::timeout(&clock, limit, call);
            Box::pin(async move { limited.await.unwrap_or_else(|error| Err(error.into())) })
        })
    }

    fn weighing(limiter: RateLimiter, weight: u32, inner: Inner) -> Outer {
        outer(move || {
            let (limiter, inner) = (limiter.clone(), inner.clone());
            Box::pin(async move {
                if weight == 1 {
                    return limiter.call(|| inner()).await;
                }
                limiter.acquire(weight).await?;
                attempt(&inner).await
            })
        })
    }

    #[cfg(feature = "shared")]
    fn shared_limiter(limiter: SharedRateLimiter, weight: u32, inner: Inner) -> Outer {
        outer(move || {
            let (limiter, inner) = (limiter.clone(), inner.clone());
            Box::pin(async move {
                if weight == 1 {
                    return limiter.call(|| inner()).await;
                }
                limiter.acquire(weight).await?;
                attempt(&inner).await
            })
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

    fn deadlines(clock: SharedClock, outer_limit: Deadline, each: Deadline, inner: Inner) -> Outer {
        outer(move || {
            let one = timeout_at(&clock, each, attempt(&inner));
            let all = timeout_at(&clock, outer_limit, one.named(TimeLimit::Attempt));
            let all = all.named(TimeLimit::Total);
            Box::pin(async move {
                let inner = all.await.unwrap_or_else(|error| Ok(Err(error.into())));
                inner.unwrap_or_else(|error| Err(error.into()))
            })
        })
    }

    fn detached(clock: SharedClock, limit: Duration, inner: Inner) -> Outer {
        outer(move || {
            let (clock, inner) = (clock.clone(), inner.clone());
            Box::pin(async move { timeout_detached(&clock, limit, inner()).await })
        })
    }

    fn hedge_if(hedge: Hedge, eligible: bool, inner: Inner) -> Outer {
        outer(move || {
            let (hedge, inner) = (hedge.clone(), inner.clone());
            Box::pin(async move { hedge.run_if(eligible, || attempt(&inner)).await })
        })
    }

    fn coalesce(calls: Flights, inner: Inner) -> Outer {
        outer(move || {
            let (calls, inner) = (calls.clone(), inner.clone());
            Box::pin(async move {
                let end = calls.call(0, || attempt(&inner)).await;
                end.map_err(|error| match error {
                    CallError::Inner(error) => error,
                    CallError::Rejected(rejection) => rejection.into(),
                    other => panic!("{other:?}"),
                })
            })
        })
    }

    fn chaos(chaos: Chaos, inner: Inner) -> Outer {
        outer(move || {
            let (chaos, inner) = (chaos.clone(), inner.clone());
            Box::pin(async move {
                let injected = || CallError::Inner(Fault::Lost);
                chaos.call(injected, || attempt(&inner)).await
            })
        })
    }

    fn five_layers(layers: Five, inner: Inner) -> Outer {
        let pipeline = Pipeline::builder("five")
            .rate_limiter(layers.limiter)
            .retry(layers.retry)
            .breaker(layers.breaker)
            .bulkhead(layers.bulkhead)
            .attempt_timeout(layers.attempt)
            .clock(layers.clock);
        let pipeline = pipeline.build().unwrap();
        outer(move || {
            let (pipeline, inner) = (pipeline.clone(), inner.clone());
            Box::pin(async move { pipeline.call(|| inner()).await })
        })
    }

    fn fallback(instead: Instead, inner: Inner) -> Backed {
        Box::pin(async move {
            let second = |error: &CallError<Fault>| std::future::ready(instead(error));
            with_fallback(attempt(&inner), second).await
        })
    }
}
