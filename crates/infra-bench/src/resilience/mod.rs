//! Breakers, limits, retries and stacks of them beside the peers.
//!
//! Both sides do the same work: calls that succeed at once, through the piece as its users call
//! it. Where a peer is a tower service, ours is the tower layer. No peer has its features for
//! metrics or tracing on; ours runs with its log on.
//!
//! # Layout
//! - `breaker`: admitted, rejecting, on two threads, over windows of many calls.
//! - `limits`: GCRA, plain and by key.
//! - `calls`: retry, timeout, bulkhead.
//! - `stacks`: five layers as a pipeline and as a tower stack; half-open under 500 callers.

mod breaker;
mod calls;
mod limits;
mod stacks;

use std::convert::Infallible;
use std::future::{Ready, ready};

use tokio::runtime::Runtime;
use tower::util::ServiceFn;
use tower::{Service, ServiceExt, service_fn};

use crate::harness::{Effort, Row};

const AREA: &str = "resilience";
const TOWER_RESILIENCE: &str = "tower-resilience";

/// How often each piece is called in one turn.
const CALLS: usize = 500_000;

/// All rows of this area.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let mut rows = breaker::run(runtime, effort);
    rows.extend(limits::run(runtime, effort));
    rows.extend(calls::run(runtime, effort));
    rows.extend(stacks::run(runtime, effort));
    rows
}

/// The innermost service of every tower stack.
type Echo = ServiceFn<fn(u32) -> Ready<Result<u32, Infallible>>>;

fn echo_service() -> Echo {
    service_fn(|n| ready(Ok(n)))
}

fn repeat(calls: usize, mut call: impl FnMut()) {
    (0..calls).for_each(|_| call());
}

/// Makes so many calls of a service, one after the other.
async fn serve<S: Service<u32>>(service: &mut S, calls: usize) {
    for n in 0..calls {
        let Ok(ready) = service.ready().await else {
            unexpected("a service was not ready");
        };
        if ready.call(n as u32).await.is_err() {
            unexpected("a call failed");
        }
    }
}

/// # Panics
/// Always: a figure over calls that did not do what they should would be worthless.
#[expect(clippy::panic, reason = "must not end in a figure")]
fn unexpected(what: &str) -> ! {
    panic!("not measured: {what}");
}
