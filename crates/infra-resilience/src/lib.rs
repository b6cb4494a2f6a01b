//! Calls that go wrong, handled: retry, circuit breaker, time limit, bulkhead, rate limit, hedge,
//! fallback, and a pipeline of them all.
//!
//! ```
//! use infra_resilience::{Pipeline, ResilienceSettings};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn fetch_price() -> Result<f64, std::io::Error> { Ok(101.5) }
//! let exchange = Pipeline::standard("exchange", ResilienceSettings::default())?.build()?;
//! assert_eq!(exchange.call(fetch_price).await?, 101.5);
//! # Ok(()) }
//! ```
//!
//! # Which piece for which fault
//! | the fault | the piece | what it does |
//! |---|---|---|
//! | a call fails now and works a moment later | [`Retry`] | repeats it, with waits that spread callers out |
//! | retries of many callers drown a weak backend | [`RetryBudget`] | grants repetitions as a share of the first attempts |
//! | a backend is down, and each call finds out slowly | [`CircuitBreaker`] | stops calling, then probes gently |
//! | the same, for many backends or keys | [`BreakerRegistry`] | one breaker per key, in bounded memory |
//! | an overloaded backend refuses more and more calls | [`Throttle`] | sheds load here in proportion |
//! | a call never answers | [`timeout`] | drops it at its limit |
//! | the call must not be dropped half-way | [`timeout_detached`] | lets it finish in a task of its own |
//! | one slow backend takes all connections and memory | [`Bulkhead`] | limits how many calls run at once |
//! | the other side bans who calls too often | [`RateLimiter`] | smooth or strict quotas, waited for in order |
//! | most answers are quick, some very late | [`Hedge`] | asks again beside the late call |
//! | an old answer is better than none | [`with_fallback`] | asks a second source |
//! | several of these | [`Pipeline`] | puts them around a call in the order that works |
//! | nobody knows whether all this works | [`Chaos`] | makes faults on purpose, repeatable by a seed |
//! | the program is built of tower services | `tower` (a feature) | the same pieces as layers |
//!
//! Each type's page has a runnable example.
//!
//! # What may be repeated
//! The pieces read [`infra_core::Classify`]: implement it for your errors. A transient error whose
//! outcome is known to be *not applied* may be repeated. A timeout, a cut connection or a dropped
//! call is *unknown*: the order may have reached the exchange. It is repeated only where you say
//! [`idempotent`](RetryBuilder::idempotent). A permanent error is neither repeated nor counted by
//! a breaker: the other side worked well enough to refuse. Errors that know no `Classify` go
//! through [`Retry::run_if`] and [`CircuitBreaker::call_if`].
//!
//! # What the breaker promises
//! - A half-open breaker lets exactly the configured probes through, whatever the number of
//!   callers; a probe that hangs has failed at the end of its lease.
//! - A result counts for the state its call was admitted in, or not at all.
//! - A panic is a failure and goes on to the caller; a dropped call follows
//!   [`on_cancel`](BreakerBuilder::on_cancel).
//! - An operator's [`isolate`](CircuitBreaker::isolate) outlasts time and traffic.
//! - Memory and cost per call do not grow with traffic; a call without listeners allocates
//!   nothing.
//!
//! # How it is built
//! State machines that take the time as an argument ([`breaker::core`], [`retry::schedule`], and
//! the quotas of [`limit`]) under thin asynchronous shells. All time comes from an
//! [`infra_core::Clock`], so tests run on a manual clock or on tokio's paused one. No lock is held
//! while user code runs, no task is started (but by [`timeout_detached`]), no queue, map or window
//! is without a bound. Changes are logged once each by `tracing`: `circuit_breaker_opened`,
//! `circuit_breaker_half_open`, `circuit_breaker_closed`, `retry_scheduled`.
//!
//! # Layout
//! - [`breaker`], [`retry`], [`limit`], [`pipeline`]: the pieces that need more than one file.
//! - `timeout`, `bulkhead`, `hedge`, `fallback`, `budget`, `throttle`, `chaos`: the
//!   others.
//! - `call_error`: [`CallError`], the one flat error of calls through several pieces.
//! - `turnstile`: the queue, first come first served, of bulkhead and limiter.
//! - `keyed`: the bounded map of the registries.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `tower` | no | layers on `tower-service` and `tower-layer` |

pub mod adaptive;
pub mod breaker;
mod budget;
mod bulkhead;
mod call_error;
mod chaos;
mod coalesce;
mod config_error;
mod fallback;
mod hedge;
mod keyed;
pub mod limit;
pub mod pipeline;
mod priority;
pub mod retry;
mod sync;
mod telemetry;
mod throttle;
mod timeout;
#[cfg(feature = "tower")]
pub mod tower;
mod turnstile;

pub use adaptive::{AdaptiveBuilder, AdaptiveLimiter, AdaptivePermit, Algorithm};
pub use breaker::{
    BreakerBuilder, BreakerConfig, BreakerError, BreakerEvent, BreakerRegistry, CircuitBreaker,
    Permit, Rejected, Verdict,
};
pub use budget::{BudgetedCall, RetryBudget};
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadPermit};
pub use call_error::{CallError, RejectReason, RejectedBy, Rejection};
pub use chaos::{Chaos, ChaosBuilder, ChaosFault};
pub use coalesce::Coalesce;
pub use config_error::ConfigError;
pub use fallback::{FallbackError, with_fallback};
pub use hedge::{Hedge, HedgeBuilder};
pub use limit::{
    Quota, RateLimiter, RateLimiterBuilder, RateLimiterRegistry, RateLimiterRegistryBuilder,
    Reservation,
};
pub use pipeline::{Pipeline, PipelineBuilder, PipelineRegistry, ResilienceSettings};
pub use priority::Priority;
pub use retry::{Retry, RetryAttempt, RetryBuilder, RetryError};
pub use throttle::{Throttle, ThrottleBuilder};
pub use timeout::{TimeLimit, TimedOut, Timeout, timeout, timeout_at, timeout_detached};
