//! The breaker: admitted, rejecting, on two threads, over windows of many calls.

use std::convert::Infallible;
use std::future::ready;
use std::hint::black_box;
use std::time::{Duration, Instant};

use failsafe::{backoff, failure_policy};
use futures_util::FutureExt;
use infra_core::{DirectClock, SharedClock, SystemClock};
use infra_resilience::tower::{BreakerLayer, BreakerService, FlatErrorLayer, FlatErrorService};
use infra_resilience::{BreakerBuilder, CircuitBreaker, Verdict};
use recloser::{AsyncRecloser, Recloser};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use super::{AREA, CALLS, Echo, TOWER_RESILIENCE, echo_service, repeat, serve, unexpected};
use crate::harness::{Effort, Goal, Row, allocations_per_call, nanos_per_call, turns};
use crate::load::must;

const HOUR: Duration = Duration::from_secs(3_600);

/// What calls through a breaker cost.
pub(super) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut rows = clock(effort);
    rows.extend(admitted(effort));
    rows.extend(admitted_async(runtime, effort));
    rows.extend(on_two_threads(runtime, effort));
    rows.extend(rejecting(runtime, effort));
    rows.extend(windows(runtime, effort));
    rows
}

fn built(builder: BreakerBuilder) -> CircuitBreaker {
    must(builder.build())
}

fn in_a_row() -> CircuitBreaker {
    built(CircuitBreaker::builder("bench").consecutive_failures(5))
}

fn over_100_calls() -> CircuitBreaker {
    built(CircuitBreaker::builder("bench").count_window(100))
}

fn over_10_seconds() -> CircuitBreaker {
    let window = Duration::from_secs(10);
    built(CircuitBreaker::builder("bench").time_window(window))
}

fn recloser() -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(100).build()
}

/// failsafe's state machine, opening after failures in a row.
type Failsafe = failsafe::StateMachine<failure_policy::ConsecutiveFailures<backoff::Constant>, ()>;

fn failsafe() -> Failsafe {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(HOUR));
    failsafe::Config::new().failure_policy(policy).build()
}

fn tower_resilience() -> CircuitBreakerLayer {
    let builder = CircuitBreakerLayer::builder();
    let builder = builder.failure_rate_threshold(0.5).sliding_window_size(100);
    must(builder.wait_duration_in_open(HOUR).build())
}

/// One call as its users write it where they report the result themselves.
fn permitted(breaker: &CircuitBreaker) {
    match breaker.try_acquire() {
        Ok(permit) => permit.success(),
        Err(_) => unexpected("the closed breaker rejected a call"),
    }
}

/// One call as its users write it where it is made on the spot.
fn blocking(breaker: &CircuitBreaker) {
    if breaker.call_blocking(|| Ok::<_, Infallible>(())).is_err() {
        unexpected("the closed breaker rejected a call");
    }
}

fn refused(breaker: &CircuitBreaker) {
    if black_box(breaker.try_acquire()).is_ok() {
        unexpected("the open breaker admitted a call");
    }
}

fn read(clock: &SharedClock) {
    black_box(clock.now());
}

fn clock(effort: Effort) -> Vec<Row> {
    let (shared, direct) = (SystemClock::shared(), DirectClock::system());
    let instant = |calls| {
        repeat(calls, || {
            black_box(Instant::now());
        });
    };
    let reads = |calls| {
        repeat(calls, || {
            black_box(direct.now());
        });
    };
    vec![
        Row::pair(AREA, "clock read alone, as the pieces do", "ns")
            .against("std Instant")
            .measured(effort, CALLS, reads, instant),
        Row::pair(AREA, "clock read alone, through `dyn Clock`", "ns")
            .against("std Instant")
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || read(&shared)),
                instant,
            ),
    ]
}

/// One thread, permits taken and returned.
fn admitted(effort: Effort) -> Vec<Row> {
    let kinds = [
        ("breaker, permit, failures in a row", in_a_row(), 1.0),
        (
            "breaker, permit, window of 100 calls",
            over_100_calls(),
            1.0,
        ),
        ("breaker, permit, window of 10 s", over_10_seconds(), 2.0),
    ];
    let clock = DirectClock::system();
    let mut rows = Vec::new();
    for (what, breaker, reads) in kinds {
        let turns = turns(
            effort,
            || nanos_per_call(CALLS, || permitted(&breaker)),
            || {
                nanos_per_call(CALLS, || {
                    black_box(clock.now());
                })
            },
        );
        let beyond: Vec<f64> = turns
            .iter()
            .map(|(ours, read)| ours - reads * read)
            .collect();
        let counted = allocations_per_call(&mut |n| repeat(n, || permitted(&breaker)));
        let what = format!("{what}, beyond its clock reads");
        let note = if reads == 1.0 {
            "one read"
        } else {
            "two reads"
        };
        let row = Row::own(AREA, what, "ns", Goal::AtMost(60.0), &beyond);
        rows.push(row.note(note).allocations(counted, None));
    }
    let (ours, peer) = (over_100_calls(), recloser());
    rows.push(
        Row::pair(AREA, "breaker, window of 100 calls, synchronous", "ns")
            .against("recloser, which reads no clock")
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || blocking(&ours)),
                |calls| repeat(calls, || drop(peer.call(|| Ok::<_, Infallible>(())))),
            ),
    );
    let (ours, peer) = (in_a_row(), failsafe());
    rows.push(
        Row::pair(AREA, "breaker, failures in a row, synchronous", "ns")
            .against("failsafe")
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || blocking(&ours)),
                |calls| {
                    repeat(calls, || {
                        drop(failsafe::CircuitBreaker::call(&peer, || {
                            Ok::<_, Infallible>(())
                        }));
                    });
                },
            ),
    );
    rows
}

async fn call(breaker: &CircuitBreaker, calls: usize) {
    for n in 0..calls {
        let call = breaker.call(|| ready(Ok::<_, Infallible>(black_box(n))));
        if call.await.is_err() {
            unexpected("the closed breaker rejected a call");
        }
    }
}

async fn call_recloser(breaker: &AsyncRecloser, calls: usize) {
    for n in 0..calls {
        let _ = black_box(breaker.call(ready(Ok::<_, Infallible>(black_box(n)))).await);
    }
}

async fn call_failsafe(breaker: &Failsafe, calls: usize) {
    for n in 0..calls {
        let call = ready(Ok::<_, Infallible>(black_box(n)));
        let _ = black_box(failsafe::futures::CircuitBreaker::call(breaker, call).await);
    }
}

/// Our breaker around the innermost service.
fn layered(breaker: CircuitBreaker) -> BreakerService<FlatErrorService<Echo>> {
    BreakerLayer::new(breaker).layer(FlatErrorLayer.layer(echo_service()))
}

/// One thread, calls awaited.
fn admitted_async(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let (window, row) = (over_100_calls(), in_a_row());
    let (recloser, failsafe) = (AsyncRecloser::from(recloser()), failsafe());
    let mut ours = layered(over_100_calls());
    let mut theirs = tower_resilience().layer(echo_service());
    vec![
        Row::pair(AREA, "breaker, window of 100 calls, awaited", "ns")
            .against("recloser, which reads no clock")
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(call(&window, calls)),
                |calls| runtime.block_on(call_recloser(&recloser, calls)),
            ),
        Row::pair(AREA, "breaker, failures in a row, awaited", "ns")
            .against("failsafe")
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(call(&row, calls)),
                |calls| runtime.block_on(call_failsafe(&failsafe, calls)),
            ),
        Row::pair(AREA, "breaker, window of 100 calls, tower", "ns")
            .against(TOWER_RESILIENCE)
            .measured(
                effort,
                CALLS,
                |calls| runtime.block_on(serve(&mut ours, calls)),
                |calls| runtime.block_on(serve(&mut theirs, calls)),
            ),
    ]
}

/// Two threads on one breaker.
fn on_two_threads(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let (window, row) = (over_100_calls(), in_a_row());
    let (recloser, failsafe) = (recloser(), failsafe());
    let ours = layered(over_100_calls());
    let theirs = must(tower_resilience_shared()).layer(echo_service());
    vec![
        Row::pair(AREA, "breaker, window of 100 calls, two threads", "ns")
            .against("recloser")
            .goal(Goal::AtMost(1.0))
            .note("per call and thread")
            .contended(
                effort,
                CALLS,
                |calls| repeat(calls, || blocking(&window)),
                |calls| repeat(calls, || drop(recloser.call(|| Ok::<_, Infallible>(())))),
            ),
        Row::pair(
            AREA,
            "breaker, permit, window of 100 calls, two threads",
            "ns",
        )
        .against("recloser")
        .note("per call and thread; a permit of ours may be sent elsewhere")
        .contended(
            effort,
            CALLS,
            |calls| repeat(calls, || permitted(&window)),
            |calls| repeat(calls, || drop(recloser.call(|| Ok::<_, Infallible>(())))),
        ),
        Row::pair(AREA, "breaker, failures in a row, two threads", "ns")
            .against("failsafe")
            .note("per call and thread")
            .contended(
                effort,
                CALLS,
                |calls| repeat(calls, || blocking(&row)),
                |calls| {
                    repeat(calls, || {
                        drop(failsafe::CircuitBreaker::call(&failsafe, || {
                            Ok::<_, Infallible>(())
                        }));
                    });
                },
            ),
        Row::pair(
            AREA,
            "breaker, window of 100 calls, tower, two threads",
            "ns",
        )
        .against(TOWER_RESILIENCE)
        .note("per call and thread")
        .contended(
            effort,
            CALLS / 5,
            |calls| runtime.block_on(serve(&mut ours.clone(), calls)),
            |calls| runtime.block_on(serve(&mut theirs.clone(), calls)),
        ),
    ]
}

/// A layer whose services share one breaker: without a handle each service has its own.
fn tower_resilience_shared()
-> Result<CircuitBreakerLayer, tower_resilience_circuitbreaker::CircuitBreakerConfigError> {
    let builder = CircuitBreakerLayer::builder();
    let builder = builder.failure_rate_threshold(0.5).sliding_window_size(100);
    let (layer, _handle) = builder.wait_duration_in_open(HOUR).build_with_handle()?;
    Ok(layer)
}

/// One thread, an open breaker.
fn rejecting(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let opened = || {
        let builder = CircuitBreaker::builder("bench").consecutive_failures(1);
        let breaker = built(builder.open_wait(HOUR));
        if let Ok(permit) = breaker.try_acquire() {
            permit.record(Verdict::Failure);
        }
        breaker
    };
    let recloser = Recloser::custom().closed_len(1).open_wait(HOUR).build();
    repeat(3, || drop(recloser.call(|| Err::<(), _>(()))));
    let failsafe = failsafe();
    repeat(5, || {
        drop(failsafe::CircuitBreaker::call(&failsafe, || {
            Err::<(), _>(())
        }))
    });
    let mut theirs = tower_resilience().layer(service_fn(|_: u32| ready(Err::<u32, _>(()))));
    let fail = |n| once(&mut theirs, n).now_or_never();
    (0..200).map(fail).for_each(drop);
    let mut ours = layered(opened());
    let breaker = opened();
    vec![
        Row::pair(AREA, "breaker rejecting, its one clock read included", "ns")
            .against("recloser")
            .own_goal(Goal::AtMost(60.0))
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || refused(&breaker)),
                |calls| repeat(calls, || drop(black_box(recloser.call(|| Ok::<_, ()>(()))))),
            ),
        Row::pair(AREA, "breaker rejecting, synchronous", "ns")
            .against("failsafe")
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || refused(&breaker)),
                |calls| {
                    repeat(calls, || {
                        let call = failsafe::CircuitBreaker::call(&failsafe, || Ok::<_, ()>(()));
                        drop(black_box(call));
                    });
                },
            ),
        Row::pair(AREA, "breaker rejecting, tower", "ns")
            .against(TOWER_RESILIENCE)
            .measured(
                effort,
                CALLS,
                |calls| {
                    runtime.block_on(async {
                        for n in 0..calls {
                            once(&mut ours, n as u32).await;
                        }
                    })
                },
                |calls| {
                    runtime.block_on(async {
                        for n in 0..calls {
                            once(&mut theirs, n as u32).await;
                        }
                    })
                },
            ),
    ]
}

/// One call of a service whatever its result.
async fn once<S: Service<u32>>(service: &mut S, n: u32) {
    if let Ok(ready) = service.ready().await {
        let _ = ready.call(n).await;
    }
}

/// Windows that hold few and many calls.
fn windows(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let full = |size| {
        let breaker = built(CircuitBreaker::builder("bench").count_window(size));
        repeat(size as usize, || permitted(&breaker));
        breaker
    };
    let (many, few) = (full(50_000), full(10));
    let breaker = built(CircuitBreaker::builder("bench").time_window(HOUR));
    repeat(50_000, || permitted(&breaker));
    let mut ours = layered(breaker);
    let builder = CircuitBreakerLayer::builder().sliding_window_type(SlidingWindowType::TimeBased);
    let builder = builder
        .sliding_window_duration(HOUR)
        .wait_duration_in_open(HOUR);
    let mut theirs = must(builder.build()).layer(echo_service());
    runtime.block_on(serve(&mut theirs, effort.operations(50_000)));
    vec![
        Row::pair(AREA, "breaker, full window of 50,000 calls", "ns")
            .against("ours, full window of 10 calls")
            .goal(Goal::AtMost(1.1))
            .measured(
                effort,
                CALLS,
                |calls| repeat(calls, || permitted(&many)),
                |calls| repeat(calls, || permitted(&few)),
            ),
        Row::pair(
            AREA,
            "breaker, time window that holds 50,000 calls, tower",
            "ns",
        )
        .against(TOWER_RESILIENCE)
        .measured(
            effort,
            200,
            |calls| runtime.block_on(serve(&mut ours, calls)),
            |calls| runtime.block_on(serve(&mut theirs, calls)),
        ),
    ]
}
