//! Retry, timeout and bulkhead around calls that succeed at once.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use infra_core::SystemClock;
use infra_resilience::tower::{BulkheadLayer, FlatErrorLayer, RetryLayer, TimeoutLayer};
use infra_resilience::{Bulkhead, Retry, timeout};
use tokio::runtime::Runtime;
use tower::Layer;
use tower::limit::ConcurrencyLimitLayer;
use tower::retry::{self, Policy};
use tower_resilience_bulkhead::BulkheadLayer as TheirBulkhead;
use tower_resilience_retry::RetryLayer as TheirRetry;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::{AREA, CALLS, TOWER_RESILIENCE, echo_service, serve, unexpected};
use crate::harness::{Effort, Goal, Row};
use crate::load::must;

const SECOND: Duration = Duration::from_secs(1);
const GOAL: Goal = Goal::AtMost(100.0);

/// What each piece costs around a call.
pub(super) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut rows = retries(runtime, effort);
    rows.extend(timeouts(runtime, effort));
    rows.extend(bulkheads(runtime, effort));
    rows
}

/// tower's own retry, which brings no policy: at most two repetitions of failed calls.
#[derive(Clone)]
struct Twice(u32);

impl Policy<u32, u32, Infallible> for Twice {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, Infallible>) -> Option<Ready<()>> {
        let again = result.is_err() && self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        again.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

fn work() -> Ready<Result<u32, Infallible>> {
    ready(Ok(black_box(1)))
}

fn retries(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let retry = must(Retry::exponential().build());
    let layer = RetryLayer::new(retry.clone());
    let mut ours = layer.layer(FlatErrorLayer.layer(echo_service()));
    let mut towers = retry::RetryLayer::new(Twice(2)).layer(echo_service());
    let builder = TheirRetry::<u32, u32, Infallible>::builder().max_attempts(3);
    let builder = builder.exponential_backoff(Duration::from_millis(100));
    let mut theirs = builder.build().layer(echo_service());
    let backoff = ExponentialBuilder::default().with_jitter();
    vec![
        Row::pair(AREA, "retry, first attempt succeeds", "ns")
            .against("backon")
            .own_goal(GOAL)
            .measured(
                effort,
                CALLS,
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let _ = black_box(retry.run(work).await);
                        }
                    });
                },
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let _ = black_box(work.retry(backoff).await);
                        }
                    });
                },
            ),
        Row::pair(AREA, "retry, first attempt succeeds, tower", "ns")
            .against("tower, a policy without backoff")
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut towers, calls)),
            ),
        Row::pair(AREA, "retry, first attempt succeeds, tower", "ns")
            .against(TOWER_RESILIENCE)
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut theirs, calls)),
            ),
    ]
}

fn timeouts(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let clock = SystemClock::shared();
    let layer = TimeoutLayer::new(clock.clone(), SECOND);
    let mut ours = layer.layer(FlatErrorLayer.layer(echo_service()));
    let mut towers = tower::timeout::TimeoutLayer::new(SECOND).layer(echo_service());
    let builder = TimeLimiterLayer::builder().timeout_duration(SECOND);
    let mut theirs = builder.build().layer(echo_service());
    vec![
        Row::pair(AREA, "timeout", "ns")
            .against("tokio::time::timeout")
            .own_goal(GOAL)
            .measured(
                effort,
                CALLS,
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let _ = black_box(timeout(&clock, SECOND, work()).await);
                        }
                    });
                },
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let _ = black_box(tokio::time::timeout(SECOND, work()).await);
                        }
                    });
                },
            ),
        Row::pair(AREA, "timeout, tower", "ns")
            .against("tower")
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut towers, calls)),
            ),
        Row::pair(AREA, "timeout, tower", "ns")
            .against(TOWER_RESILIENCE)
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut theirs, calls)),
            ),
    ]
}

fn bulkheads(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let bulkhead = must(Bulkhead::builder("bench").max_concurrent(25).build());
    let layer = BulkheadLayer::new(bulkhead.clone());
    let mut ours = layer.layer(FlatErrorLayer.layer(echo_service()));
    let mut towers = ConcurrencyLimitLayer::new(25).layer(echo_service());
    let builder = TheirBulkhead::builder().max_concurrent_calls(25);
    let mut theirs = must(builder.build()).layer(echo_service());
    let semaphore = tokio::sync::Semaphore::new(25);
    vec![
        Row::pair(AREA, "bulkhead", "ns")
            .against("tokio's semaphore")
            .own_goal(GOAL)
            .measured(
                effort,
                CALLS,
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            if bulkhead.call(work).await.is_err() {
                                unexpected("a place was free and a call was refused");
                            }
                        }
                    });
                },
                |calls| {
                    runtime.block_on(async {
                        for _ in 0..calls {
                            let _place = semaphore.acquire().await;
                            let _ = black_box(work().await);
                        }
                    });
                },
            ),
        Row::pair(AREA, "bulkhead, tower", "ns")
            .against("tower, ConcurrencyLimit")
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut towers, calls)),
            ),
        Row::pair(AREA, "bulkhead, tower", "ns")
            .against(TOWER_RESILIENCE)
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut theirs, calls)),
            ),
    ]
}
