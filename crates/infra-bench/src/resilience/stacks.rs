//! Five layers at once, and a half-open breaker under many callers.

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::time::Duration;

use infra_core::SystemClock;
use infra_resilience::tower::{
    BreakerLayer, BulkheadLayer, FlatErrorLayer, RateLimitLayer, RetryLayer, TimeoutLayer,
};
use infra_resilience::{Bulkhead, CircuitBreaker, Pipeline, Quota, RateLimiter, Retry};
use tokio::runtime::Runtime;
use tower::{Service, ServiceBuilder};
use tower_resilience_bulkhead::BulkheadLayer as TheirBulkhead;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_resilience_ratelimiter::RateLimiterLayer;
use tower_resilience_retry::RetryLayer as TheirRetry;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{AREA, CALLS, TOWER_RESILIENCE, echo_service, serve, unexpected};
use crate::facts;
use crate::harness::{Effort, Goal, Row};
use crate::load::must;

const SECOND: Duration = Duration::from_secs(1);
const BURST: u32 = 1_000_000;
const GOAL: Goal = Goal::AtMost(600.0);

/// What stacks of all layers cost.
pub(super) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut rows = five_layers(runtime, effort);
    rows.push(half_open());
    rows
}

fn limiter() -> RateLimiter {
    let quota = Quota::smooth(BURST, Duration::from_millis(1)).burst(BURST);
    must(RateLimiter::builder("bench").quota(quota).build())
}

fn breaker() -> CircuitBreaker {
    must(CircuitBreaker::builder("bench").count_window(100).build())
}

fn bulkhead() -> Bulkhead {
    must(Bulkhead::builder("bench").max_concurrent(25).build())
}

fn retry() -> Retry {
    must(Retry::exponential().build())
}

fn pipeline() -> Pipeline {
    let builder = Pipeline::builder("bench").rate_limiter(limiter());
    let builder = builder.retry(retry()).breaker(breaker());
    must(builder.bulkhead(bulkhead()).attempt_timeout(SECOND).build())
}

fn ours() -> impl Service<u32> {
    ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter()))
        .layer(RetryLayer::new(retry()))
        .layer(BreakerLayer::new(breaker()))
        .layer(BulkheadLayer::new(bulkhead()))
        .layer(TimeoutLayer::new(SystemClock::shared(), SECOND))
        .layer(FlatErrorLayer)
        .service(echo_service())
}

fn theirs() -> impl Service<u32> {
    let limiter = RateLimiterLayer::builder().limit_for_period(BURST as usize);
    let limiter = limiter.refresh_period(Duration::from_millis(1));
    let limiter = limiter.burst_size(BURST as usize);
    let retry = TheirRetry::builder().max_attempts(3);
    let retry = retry.exponential_backoff(Duration::from_millis(100));
    let breaker = CircuitBreakerLayer::builder().failure_rate_threshold(0.5);
    let bulkhead = TheirBulkhead::builder().max_concurrent_calls(25);
    let timeout = TimeLimiterLayer::builder().timeout_duration(SECOND);
    ServiceBuilder::new()
        .layer(must(limiter.build()))
        .layer(retry.build())
        .layer(must(breaker.sliding_window_size(100).build()))
        .layer(must(bulkhead.build()))
        .layer(timeout.build())
        .service(echo_service())
}

/// Rate limiter, retry, breaker with a window of 100 calls, bulkhead, timeout of an attempt.
fn five_layers(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let pipeline = pipeline();
    let (mut ours, mut theirs) = (ours(), theirs());
    let mut through_pipeline = |calls| {
        runtime.block_on(async {
            for n in 0..calls {
                let call = pipeline.call(|| ready(Ok::<_, Infallible>(black_box(n))));
                if call.await.is_err() {
                    unexpected("a call failed");
                }
            }
        });
    };
    vec![
        Row::pair(AREA, "five layers, pipeline", "ns")
            .against("tower-resilience, tower stack")
            .own_goal(GOAL)
            .measured(effort, CALLS, &mut through_pipeline, |calls| {
                runtime.block_on(serve(&mut theirs, calls));
            }),
        Row::pair(AREA, "five layers, tower stack", "ns")
            .against(TOWER_RESILIENCE)
            .own_goal(GOAL)
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut theirs, calls)),
            ),
    ]
}

/// A count and no time: how many of 500 callers reach the backend of a half-open breaker.
fn half_open() -> Row {
    let reached = facts::stampedes();
    let of = |name: &str| {
        let found = reached.iter().find(|(library, _)| *library == name);
        found.map_or(f64::NAN, |(_, calls)| *calls as f64)
    };
    Row::pair(
        AREA,
        "half-open, 2 probes, calls of 500 that reach the backend",
        "calls",
    )
    .against("recloser")
    .own_goal(Goal::AtMost(2.0))
    .note("the other libraries are in the table of right and wrong")
    .of(&[(of("infra-resilience"), of("recloser"))])
}
