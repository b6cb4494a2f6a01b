//! The breaker beside its clock reads alone, and beside the fastest rival.

use std::convert::Infallible;
use std::hint::black_box;

use infra_core::SystemClock;
use infra_resilience::CircuitBreaker;
use tokio::runtime::Runtime;

use crate::harness::{Effort, Goal, Judged, Row, nanos_per_call, turns};

const AREA: &str = "resilience";

/// What one admitted call costs.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let calls = effort.operations(2_000_000);
    let Ok(breaker) = CircuitBreaker::builder("bench")
        .consecutive_failures(5)
        .build()
    else {
        return Vec::new();
    };
    let clock = SystemClock::shared();
    let admitted = turns(
        effort,
        || {
            nanos_per_call(calls, || match breaker.try_acquire() {
                Ok(permit) => permit.success(),
                Err(_) => unreachable_rejection(),
            })
        },
        || {
            nanos_per_call(calls, || {
                black_box(clock.now());
            })
        },
    );
    let beyond: Vec<f64> = admitted.iter().map(|(ours, clock)| ours - clock).collect();
    let asynchronous = turns(
        effort,
        || {
            runtime.block_on(async {
                let start = std::time::Instant::now();
                for n in 0..calls {
                    let call = breaker.call(|| async { Ok::<_, Infallible>(black_box(n)) });
                    let _ = black_box(call.await);
                }
                start.elapsed().as_nanos() as f64 / calls as f64
            })
        },
        || {
            let rival = recloser::Recloser::custom().build();
            nanos_per_call(calls, || {
                let _ = black_box(rival.call(|| Ok::<_, Infallible>(black_box(1))));
            })
        },
    );
    let mut over_clock = Row::pair(AREA, "breaker, permit taken and returned", "ns")
        .against("its one clock read alone")
        .of(&admitted);
    over_clock.judged = Judged::Own;
    vec![
        over_clock,
        Row::own(
            AREA,
            "breaker, admitted call beyond its clock read",
            "ns",
            Goal::AtMost(60.0),
            &beyond,
        )
        .note("consecutive failures, no listener; that it allocates nothing is a test"),
        Row::pair(AREA, "breaker, admitted async call", "ns")
            .against("recloser, synchronous call")
            .of(&asynchronous),
    ]
}

#[expect(
    clippy::panic,
    reason = "a closed breaker that rejects makes the figure worthless"
)]
fn unreachable_rejection() {
    panic!("the closed breaker rejected a call");
}
