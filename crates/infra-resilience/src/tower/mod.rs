//! The same pieces as [tower](https://docs.rs/tower) layers, on `tower-service` and `tower-layer`
//! only.
//!
//! A stack has one flat error, [`CallError`](crate::CallError): [`FlatErrorLayer`] goes around the
//! innermost service and turns its error `E` into `CallError<E>`; the other layers keep that type.
//! Layers hold the handle of their piece, so that the state is shared however often a layer is
//! applied or a service cloned. Rejections come from `call`, never from `poll_ready`. Futures are
//! named types; nothing is boxed.
//!
//! ```
//! use std::time::Duration;
//! use infra_resilience::tower::{BreakerLayer, FlatErrorLayer, RetryLayer, TimeoutLayer};
//! use infra_resilience::{CircuitBreaker, Retry, SystemClock};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut service = ServiceBuilder::new()
//!     .layer(RetryLayer::new(Retry::exponential().build()?))
//!     .layer(BreakerLayer::new(CircuitBreaker::builder("api").build()?))
//!     .layer(TimeoutLayer::new(SystemClock::shared(), Duration::from_secs(1)))
//!     .layer(FlatErrorLayer)
//!     .service(service_fn(|n: u32| async move { Ok::<_, std::io::Error>(n + 1) }));
//! assert_eq!(service.ready().await?.call(41).await?, 42);
//! # Ok(()) }
//! ```

mod adaptive;
mod attempt;
mod breaker;
mod bulkhead;
mod chaos;
mod coalesce;
mod detached;
mod fallback;
mod flat;
mod hedge;
mod limit;
mod own_side;
#[cfg(feature = "tower-retry")]
mod policy;
mod queued;
mod retry;
#[cfg(feature = "shared")]
mod shared_limit;
mod throttle;
mod timeout;

pub use adaptive::{AdaptiveFuture, AdaptiveLayer, AdaptiveService};
pub use breaker::{BreakerFuture, BreakerLayer, BreakerService};
pub use bulkhead::{BulkheadFuture, BulkheadLayer, BulkheadService};
pub use chaos::{ChaosFuture, ChaosLayer, ChaosService};
pub use coalesce::{CoalesceFuture, CoalesceLayer, CoalesceService};
pub use detached::{DetachedTimeoutFuture, DetachedTimeoutLayer, DetachedTimeoutService};
pub use fallback::{FallbackFuture, FallbackLayer, FallbackService};
pub use flat::{FlatErrorFuture, FlatErrorLayer, FlatErrorService};
pub use hedge::{EveryRequest, HedgeFuture, HedgeLayer, HedgeService, MayHedge};
pub use limit::{RateLimitFuture, RateLimitLayer, RateLimitService};
#[cfg(feature = "tower-retry")]
pub use policy::{BudgetAdapter, PolicySleep, RetryPolicy};
pub use retry::{RetryFuture, RetryLayer, RetryService};
#[cfg(feature = "shared")]
pub use shared_limit::{SharedRateLimitFuture, SharedRateLimitLayer, SharedRateLimitService};
pub use throttle::{ThrottleFuture, ThrottleLayer, ThrottleService};
pub use timeout::{CallTime, LimitsTime, TimeoutFuture, TimeoutLayer, TimeoutService};
