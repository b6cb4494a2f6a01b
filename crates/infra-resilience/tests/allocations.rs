//! B26 and C05: calls without listeners allocate nothing.
#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "test code; a counting allocator is an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use infra_core::{Class, Classify, ManualClock, SystemClock};
use infra_resilience::breaker::{BreakerError, State};
use infra_resilience::{
    Bulkhead, CircuitBreaker, Hedge, Pipeline, Quota, RateLimiter, Retry, timeout,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: forwards to the system's allocator; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Debug)]
struct Down;

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("down")
    }
}

impl Classify for Down {
    fn class(&self) -> Class {
        Class::Transient
    }
}

/// How many allocations `future` makes, polled once.
fn allocations<F: Future>(future: F) -> (u64, F::Output) {
    let before = ALLOCATIONS.with(Cell::get);
    let mut future = pin!(future);
    let Poll::Ready(output) = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        unreachable!("the calls of this file are ready at once")
    };
    (ALLOCATIONS.with(Cell::get) - before, output)
}

fn breakers() -> [CircuitBreaker; 3] {
    let second = Duration::from_secs(1);
    [
        CircuitBreaker::builder("row").consecutive_failures(3),
        CircuitBreaker::builder("count")
            .count_window(10)
            .minimum_calls(3),
        CircuitBreaker::builder("time")
            .time_window(10 * second)
            .minimum_calls(3)
            .slow_call(second, 0.5),
    ]
    .map(|builder| builder.build().unwrap())
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(async { Box::new(7) }).0, 1);
}

#[test]
fn b26_admitted_calls_allocate_nothing() {
    for breaker in breakers() {
        for _ in 0..100 {
            let (count, result) = allocations(breaker.call(|| ready(Ok::<_, Down>(1))));
            assert!(result.is_ok());
            assert_eq!(count, 0, "{}", breaker.name());
        }
        let (count, _) = allocations(breaker.call(|| ready(Err::<(), _>(Down))));
        assert_eq!(count, 0, "{}: a failure", breaker.name());
        let (count, ()) = allocations(async { breaker.try_acquire().unwrap().success() });
        assert_eq!(count, 0, "{}: a permit", breaker.name());
    }
}

#[test]
fn b04_a_million_calls_over_many_windows_take_no_memory() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder("b04")
        .time_window(Duration::from_secs(10))
        .failure_rate(1.0)
        .clock(clock.shared())
        .build()
        .unwrap();
    for call in 0..1_000_000 {
        clock.advance(Duration::from_millis(1));
        let result = if call % 3 == 0 { Err(Down) } else { Ok(()) };
        let (count, _) = allocations(breaker.call(|| ready(result)));
        assert_eq!(count, 0);
    }
    assert!(breaker.snapshot().window_calls <= 10_000);
}

#[test]
fn b26_rejected_calls_allocate_nothing() {
    for breaker in breakers() {
        while breaker.state() == State::Closed {
            allocations(breaker.call(|| ready(Err::<(), _>(Down))))
                .1
                .unwrap_err();
        }
        // With the feature `metrics` the first rejection registers its counter.
        allocations(breaker.call(|| ready(Ok::<_, Down>(1))))
            .1
            .unwrap_err();
        for _ in 0..100 {
            let (count, result) = allocations(breaker.call(|| ready(Ok::<_, Down>(1))));
            assert!(matches!(result, Err(BreakerError::Rejected(_))));
            assert_eq!(count, 0, "{}", breaker.name());
        }
    }
}

#[test]
fn retry_and_timeout_allocate_nothing_while_the_first_try_succeeds() {
    let clock = SystemClock::shared();
    let retry = Retry::exponential().build().unwrap();
    let limited = Retry::exponential()
        .deadline(Duration::from_secs(1))
        .build()
        .unwrap();
    for retry in [retry, limited] {
        assert_eq!(allocations(retry.run(|| ready(Ok::<_, Down>(1)))).0, 0);
    }
    let (count, result) = allocations(timeout(&clock, Duration::from_secs(1), ready(1)));
    assert_eq!((count, result), (0, Ok(1)));
}

#[test]
fn c05_the_happy_path_through_all_layers_allocates_nothing() {
    let second = Duration::from_secs(1);
    let limiter = RateLimiter::builder("l").quota(Quota::smooth(1_000_000, second).burst(1_000));
    let bulkhead = Bulkhead::builder("k").queue(10, second);
    let pipeline = Pipeline::builder("p")
        .rate_limiter(limiter.build().unwrap())
        .total_timeout(10 * second)
        .retry(Retry::exponential().build().unwrap())
        .hedge(Hedge::builder().build().unwrap())
        .breaker(
            CircuitBreaker::builder("b")
                .count_window(10)
                .build()
                .unwrap(),
        )
        .bulkhead(bulkhead.build().unwrap())
        .attempt_timeout(second)
        .build()
        .unwrap();
    for _ in 0..100 {
        let (count, result) = allocations(pipeline.call(|| ready(Ok::<_, Down>(1))));
        assert_eq!((count, result.unwrap()), (0, 1));
    }
}

#[cfg(feature = "tower")]
#[test]
fn b26_a_breaker_layer_allocates_nothing() {
    use infra_resilience::tower::{BreakerLayer, FlatErrorLayer};
    use tower::{Service, ServiceBuilder, service_fn};

    let mut cx = Context::from_waker(Waker::noop());
    for breaker in breakers() {
        let mut service = ServiceBuilder::new()
            .layer(BreakerLayer::new(breaker.clone()))
            .layer(FlatErrorLayer)
            .service(service_fn(|fails: bool| {
                ready(if fails { Err(Down) } else { Ok(7) })
            }));
        let mut call = |fails| {
            allocations(async {
                assert!(service.poll_ready(&mut cx).is_ready());
                service.call(fails).await
            })
        };
        for _ in 0..100 {
            assert_eq!(call(false).0, 0, "{}: admitted", breaker.name());
        }
        while breaker.state() == State::Closed {
            call(true).1.unwrap_err();
        }
        // With the feature `metrics` the first rejection registers its counter.
        call(false).1.unwrap_err();
        for _ in 0..100 {
            let (count, end) = call(false);
            assert!(end.unwrap_err().rejected().is_some());
            assert_eq!(count, 0, "{}: rejected", breaker.name());
        }
    }
}

#[cfg(feature = "tower")]
#[test]
fn c05_a_five_layer_tower_stack_allocates_nothing() {
    use infra_resilience::tower::{
        BreakerLayer, BulkheadLayer, FlatErrorLayer, RateLimitLayer, RetryLayer, TimeoutLayer,
    };
    use tower::{Service, ServiceBuilder, service_fn};

    let second = Duration::from_secs(1);
    let limiter = RateLimiter::builder("l").quota(Quota::smooth(1_000_000, second).burst(1_000));
    let mut service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter.build().unwrap()))
        .layer(RetryLayer::new(Retry::exponential().build().unwrap()))
        .layer(BreakerLayer::new(
            CircuitBreaker::builder("b").build().unwrap(),
        ))
        .layer(BulkheadLayer::new(Bulkhead::builder("k").build().unwrap()))
        .layer(TimeoutLayer::new(SystemClock::shared(), second))
        .layer(FlatErrorLayer)
        .service(service_fn(|n: u32| ready(Ok::<_, Down>(n))));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        let (count, result) = allocations(async {
            assert!(service.poll_ready(&mut cx).is_ready());
            service.call(7).await
        });
        assert_eq!((count, result.unwrap()), (0, 7));
    }
}
