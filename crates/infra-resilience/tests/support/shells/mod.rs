//! The two shells of every piece, the plain wrapper and the tower layer, behind one trait: what the
//! conformance suite calls "a way to call".

#![allow(unused_imports, unused_macros)]

mod plain;
#[cfg(feature = "tower")]
mod tower;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use infra_core::{BoxFuture, Deadline, SharedClock};
#[cfg(feature = "shared")]
use infra_resilience::shared::SharedRateLimiter;
use infra_resilience::{
    AdaptiveLimiter, Bulkhead, CallError, Chaos, CircuitBreaker, Coalesce, FallbackError, Hedge,
    Pipeline, RateLimiter, RejectReason, Retry, RetryError, Throttle, TimeLimit, timeout_at,
    timeout_detached, with_fallback,
};

use super::{Fault, poll_once};

pub use plain::Plain;
#[cfg(feature = "tower")]
pub use tower::Tower;

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
    fn bulkhead_within(
        clock: SharedClock,
        limit: Duration,
        bulkhead: Bulkhead,
        inner: Inner,
    ) -> Outer;
    fn limiter(limiter: RateLimiter, inner: Inner) -> Outer {
        Self::weighing(limiter, 1, inner)
    }
    /// Calls that take so much from the limiter.
    fn weighing(limiter: RateLimiter, weight: u32, inner: Inner) -> Outer;
    /// Calls that take so much from the limiter of a fleet.
    #[cfg(feature = "shared")]
    fn shared_limiter(limiter: SharedRateLimiter, weight: u32, inner: Inner) -> Outer;
    fn adaptive(limiter: AdaptiveLimiter, inner: Inner) -> Outer;
    fn throttle(throttle: Throttle, inner: Inner) -> Outer;
    fn timeout(clock: SharedClock, limit: Duration, inner: Inner) -> Outer;
    fn nested_timeouts(clock: SharedClock, total: Duration, each: Duration, inner: Inner) -> Outer;
    fn deadlines(clock: SharedClock, outer: Deadline, each: Deadline, inner: Inner) -> Outer;
    fn detached(clock: SharedClock, limit: Duration, inner: Inner) -> Outer;
    fn hedge(hedge: Hedge, inner: Inner) -> Outer {
        Self::hedge_if(hedge, true, inner)
    }
    /// Calls that may be made twice, or may not.
    fn hedge_if(hedge: Hedge, eligible: bool, inner: Inner) -> Outer;
    /// Calls that all ask the same.
    fn coalesce(calls: Flights, inner: Inner) -> Outer;
    fn chaos(chaos: Chaos, inner: Inner) -> Outer;
    fn five_layers(layers: Five, inner: Inner) -> Outer;
    fn fallback(instead: Instead, inner: Inner) -> Backed;
}

/// Calls in flight by key; all calls of the suite have the same.
pub type Flights = Coalesce<u32, u32, CallError<Fault>>;

/// Five pieces around a call, outermost first.
#[derive(Clone)]
pub struct Five {
    pub clock: SharedClock,
    pub limiter: RateLimiter,
    pub retry: Retry,
    pub breaker: CircuitBreaker,
    pub bulkhead: Bulkhead,
    pub attempt: Duration,
}

/// An attempt that never ends.
pub fn hangs() -> Inner {
    Arc::new(|| Box::pin(std::future::pending()))
}

/// An attempt that ends with `result` at once.
pub fn answers(result: Result<u32, Fault>) -> Inner {
    Arc::new(move || Box::pin(std::future::ready(result)))
}

/// The call, which has to wait for something.
pub fn begun(mut call: Call) -> Call {
    assert!(poll_once(&mut call).is_pending());
    call
}

/// Why the call is rejected, and when another can be admitted.
pub fn refused(call: &mut Call) -> (RejectReason, Option<Duration>) {
    match poll_once(call) {
        Poll::Ready(Err(error)) => {
            let rejection = error.rejected().expect("rejected");
            (rejection.reason, rejection.retry_after)
        }
        other => panic!("{other:?}"),
    }
}

fn outer(call: impl Fn() -> Call + Send + Sync + 'static) -> Outer {
    Arc::new(call)
}

/// Calls on both shells of each row of a suite.
macro_rules! on_both_shells {
    (#[$test:meta] $($row:ident,)*) => {
        mod plain { $(#[$test] fn $row() { super::$row::<super::Plain>(); })* }
        #[cfg(feature = "tower")]
        mod tower { $(#[$test] fn $row() { super::$row::<super::Tower>(); })* }
    };
    ($($row:ident,)*) => {
        mod plain { $(#[tokio::test] async fn $row() { super::$row::<super::Plain>().await; })* }
        #[cfg(feature = "tower")]
        mod tower { $(#[tokio::test] async fn $row() { super::$row::<super::Tower>().await; })* }
    };
}
pub(crate) use on_both_shells;
