//! Calls that go wrong, handled: retry, circuit breaker, time limit, bulkhead, rate limit, hedge,
//! fallback and their kin, and a pipeline of them all.
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
//! | the fault | the piece |
//! |---|---|
//! | a call fails now and works a moment later | [`Retry`](#a-call-fails-now-and-works-a-moment-later) |
//! | retries of many callers drown a weak backend | [`RetryBudget`](#retries-of-many-callers-drown-a-weak-backend) |
//! | a backend is down, and each call finds out slowly | [`CircuitBreaker`](#a-backend-is-down-and-each-call-finds-out-slowly) |
//! | the same, for many backends or keys | [`BreakerRegistry`](#the-same-for-many-backends-or-keys) |
//! | an overloaded backend refuses more and more calls | [`Throttle`](#an-overloaded-backend-refuses-more-and-more-calls) |
//! | a call never answers | [`timeout`](#a-call-never-answers) |
//! | the call must not be dropped half-way | [`timeout_detached`](#the-call-must-not-be-dropped-half-way) |
//! | one slow backend takes all connections and memory | [`Bulkhead`](#one-slow-backend-takes-all-connections-and-memory) |
//! | there is not room for all, and not all matter alike | [`Priority`](#there-is-not-room-for-all-and-not-all-matter-alike) |
//! | nobody knows how much a backend can take | [`AdaptiveLimiter`](#nobody-knows-how-much-a-backend-can-take) |
//! | the other side bans who calls too often | [`RateLimiter`](#the-other-side-bans-who-calls-too-often) |
//! | most answers are quick, some very late | [`Hedge`](#most-answers-are-quick-some-very-late) |
//! | an old answer is better than none | [`with_fallback`](#an-old-answer-is-better-than-none) |
//! | everybody asks the same thing at once | [`Coalesce`](#everybody-asks-the-same-thing-at-once) |
//! | several of these | [`Pipeline`](#several-of-these) |
//! | nobody knows whether all this works | [`Chaos`](#nobody-knows-whether-all-this-works) |
//! | the processes of a fleet need one limit, or one operator's word | `shared` ([a feature](#features)) |
//! | the program is built of tower services | `tower` ([a feature](#features)) |
//!
//! ## A call fails now and works a moment later
//! [`Retry`] repeats it, with waits that spread callers out, up to a number of attempts or a deadline.
//! ```
//! use std::time::Duration;
//! use infra_resilience::Retry;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut calls = 0;
//! # let mut fetch = || { calls += 1; std::future::ready(if calls < 3 { Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) } else { Ok(101.5) }) };
//! let retry = Retry::exponential().base(Duration::from_millis(1)).max_attempts(3).build()?;
//! assert_eq!(retry.run(|| fetch()).await?, 101.5); // refused twice
//! # Ok(()) }
//! ```
//!
//! ## Retries of many callers drown a weak backend
//! [`RetryBudget`] grants repetitions as a share of the first attempts, to all who share it.
//! ```
//! use std::time::Duration;
//! use infra_resilience::{Retry, RetryBudget, retry::StopReason};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let budget = RetryBudget::windowed(0.2, Duration::from_secs(10), 0)?; // 20 % more load at most
//! let retry = Retry::constant(Duration::ZERO).max_attempts(100).budget(budget).build()?;
//! let down = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
//! let error = retry.run(down).await.unwrap_err();
//! assert_eq!((error.attempts(), error.reason()), (1, StopReason::BudgetExhausted));
//! # Ok(()) }
//! ```
//!
//! ## A backend is down, and each call finds out slowly
//! [`CircuitBreaker`] stops calling, then probes gently. Inside of it belongs the time limit of an
//! attempt, so that hung calls are failures.
//! ```
//! use infra_resilience::CircuitBreaker;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = CircuitBreaker::builder("exchange").consecutive_failures(1).build()?;
//! let down = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
//! assert!(breaker.call(down).await.unwrap_err().rejected().is_none());
//! let rejected = breaker.call(down).await.unwrap_err(); // not made at all
//! assert!(rejected.rejected().unwrap().retry_after.is_some());
//! # Ok(()) }
//! ```
//!
//! ## The same, for many backends or keys
//! [`BreakerRegistry`] keeps one breaker per key, in bounded memory.
//! ```
//! use infra_resilience::{BreakerRegistry, CircuitBreaker};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = CircuitBreaker::builder("").consecutive_failures(5);
//! let nodes = BreakerRegistry::builder(settings).capacity(1_000).build()?;
//! nodes.get("node-7").isolate(); // an operator takes one node out
//! assert!(nodes.get("node-7").try_acquire().is_err());
//! assert!(nodes.get("node-8").try_acquire().is_ok());
//! # Ok(()) }
//! ```
//!
//! ## An overloaded backend refuses more and more calls
//! [`Throttle`] sheds load here in proportion to what is refused there.
//! ```
//! use infra_resilience::Throttle;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let throttle = Throttle::builder("quotes").build()?;
//! let busy = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
//! for _ in 0..100 {
//!     throttle.call(busy).await.unwrap_err();
//! }
//! assert!(throttle.refusal() > 0.9); // nearly all calls are not made any more
//! # Ok(()) }
//! ```
//!
//! ## A call never answers
//! [`timeout`] drops it at its limit; [`timeout_at`] knows a deadline that several calls share. The
//! error says that nobody knows whether the call took effect.
//! ```
//! use std::time::Duration;
//! use infra_resilience::{Classify, Outcome, SystemClock, timeout};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let never = std::future::pending::<()>();
//! let limit = Duration::from_millis(5);
//! let error = timeout(&SystemClock::shared(), limit, never).await.unwrap_err();
//! assert_eq!(error.outcome(), Outcome::Unknown);
//! # Ok(()) }
//! ```
//!
//! ## The call must not be dropped half-way
//! [`timeout_detached`] stops waiting and lets the work finish in a task of its own.
//! ```
//! use std::time::Duration;
//! use infra_resilience::{SystemClock, timeout_detached};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let work = async { Ok::<_, std::io::Error>(7) };
//! let limit = Duration::from_secs(1);
//! assert_eq!(timeout_detached(&SystemClock::shared(), limit, work).await?, 7);
//! # Ok(()) }
//! ```
//!
//! ## One slow backend takes all connections and memory
//! [`Bulkhead`] limits how many calls run at once, and how many wait for how long.
//! ```
//! use std::time::Duration;
//! use infra_resilience::{Bulkhead, RejectedBy};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reports = Bulkhead::builder("reports").max_concurrent(1).build()?;
//! let running = reports.try_acquire()?;
//! let full = reports.call(|| async { Ok::<_, std::io::Error>(7) }).await.unwrap_err();
//! assert_eq!(full.rejected_by(), Some(RejectedBy::Bulkhead));
//! # drop(running);
//! # Ok(()) }
//! ```
//!
//! ## There is not room for all, and not all matter alike
//! [`Priority`]: less important calls may take a share of the places only, wait behind the others, and
//! lose their place in a full queue to them.
//! ```
//! use infra_resilience::{Bulkhead, Priority};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let venue = Bulkhead::builder("venue")
//!     .max_concurrent(2)
//!     .share(Priority::Low, 0.5)
//!     .build()?;
//! let refresh = venue.try_acquire_as(Priority::Low)?;
//! assert!(venue.try_acquire_as(Priority::Low).is_err());
//! let cancel_order = venue.try_acquire_as(Priority::Critical)?;
//! # drop((refresh, cancel_order));
//! # Ok(()) }
//! ```
//!
//! ## Nobody knows how much a backend can take
//! [`AdaptiveLimiter`] finds out: its limit grows while calls go well and shrinks when they are
//! refused, break or slow down.
//! ```
//! use infra_resilience::{AdaptiveLimiter, Algorithm};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = AdaptiveLimiter::builder("quotes")
//!     .algorithm(Algorithm::Gradient { tolerance: 1.5 })
//!     .initial(20)
//!     .bounds(1, 500)
//!     .build()?;
//! let busy = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) };
//! limiter.call(busy).await.unwrap_err();
//! assert_eq!(limiter.limit(), 18);
//! # Ok(()) }
//! ```
//!
//! ## The other side bans who calls too often
//! [`RateLimiter`] knows smooth and strict quotas, several at once, weights, and what the other side
//! says about them; calls wait their turn in order. A [`Reservation`] gives back what was not used, a
//! [`RateLimiterRegistry`] keeps one limiter per key.
//! ```
//! use std::time::Duration;
//! use infra_resilience::{Quota, RateLimiter};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exchange = RateLimiter::builder("exchange")
//!     .quota(Quota::strict(1_200, Duration::from_secs(60))) // weight in any minute
//!     .quota(Quota::strict(10, Duration::from_secs(1))) // orders in any second
//!     .build()?;
//! exchange.acquire(5).await?;
//! exchange.observe_in(Duration::from_secs(60), 700); // its `used-weight-1m` header
//! exchange.observe_status(429, Some(Duration::from_secs(3))); // too many requests
//! assert!(exchange.try_acquire(1).unwrap_err().retry_after.unwrap() > Duration::from_secs(2));
//! # Ok(()) }
//! ```
//!
//! ## Most answers are quick, some very late
//! [`Hedge`] asks again beside the late call and takes whichever answers first.
//! ```
//! use std::time::Duration;
//! use infra_resilience::Hedge;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hedge = Hedge::builder().delay(Duration::from_millis(5)).build()?;
//! # let mut calls = 0;
//! let answer = hedge.run(|| {
//!     # calls += 1;
//!     let first = calls == 1;
//!     async move {
//!         if first {
//!             std::future::pending::<()>().await; // the late one
//!         }
//!         Ok::<_, std::io::Error>(7)
//!     }
//! });
//! assert_eq!(answer.await?, 7);
//! # Ok(()) }
//! ```
//!
//! ## An old answer is better than none
//! [`with_fallback`] asks a second source, which sees why the first one failed.
//! ```
//! use infra_resilience::with_fallback;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let live = async { Err::<f64, _>("the venue is down") };
//! let price = with_fallback(live, |_| async { Ok::<_, &str>(101.5) }).await;
//! assert_eq!(price.unwrap(), 101.5);
//! # Ok(()) }
//! ```
//!
//! ## Everybody asks the same thing at once
//! [`Coalesce`] makes one call per key and gives its result to all who wait for it.
//! ```
//! use infra_resilience::Coalesce;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let quotes = Coalesce::<&str, f64, std::fmt::Error>::new("quotes");
//! let ask = || quotes.call("BTC", || async {
//!     tokio::task::yield_now().await;
//!     Ok(101.5)
//! });
//! let (first, second) = tokio::join!(ask(), ask()); // one call
//! assert_eq!((first?, second?), (101.5, 101.5));
//! # Ok(()) }
//! ```
//!
//! ## Several of these
//! [`Pipeline`] puts them around a call in the order that works, checks that they fit, and has one
//! flat error. [`Pipeline::standard`] and [`Pipeline::exchange_api`] are ready to use; what one call
//! weighs, how much it matters and whether it may be repeated is said by [`CallOptions`].
//! ```
//! use std::time::Duration;
//! use infra_resilience::{Pipeline, Quota, ResilienceSettings};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let quotas = [Quota::strict(1_200, Duration::from_secs(60))];
//! let settings = ResilienceSettings::default();
//! let exchange = Pipeline::exchange_api("exchange", settings, &quotas)?.build()?;
//! assert_eq!(exchange.call(|| async { Ok::<_, std::io::Error>(7) }).await?, 7);
//! # Ok(()) }
//! ```
//!
//! ## Nobody knows whether all this works
//! [`Chaos`] makes faults on purpose, repeatable by a seed, and off unless the program switches it on.
//! ```
//! use infra_resilience::Chaos;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let chaos = Chaos::builder().errors(1.0).enabled(true).build()?;
//! let result = chaos.call(|| "injected", || async { Ok(7) }).await;
//! assert_eq!(result, Err("injected"));
//! # Ok(()) }
//! ```
//!
//! # What may be repeated
//! The pieces read [`infra_core::Classify`]: implement it for your errors. A transient error whose
//! outcome is known to be *not applied* may be repeated. A timeout, a cut connection or a dropped
//! call is *unknown*: the order may have reached the exchange. It is repeated only where you say
//! [`idempotent`](RetryBuilder::idempotent). A permanent error is neither repeated nor counted by
//! a breaker: the other side worked well enough to refuse. Nor is one that says that it
//! [throttles](Classify::is_throttled) us; it fails a probe, and closes a pipeline's rate limiter.
//! Where one of several attempts is unknown, so is the whole call, and a pipeline reports that
//! attempt's error and not a later refusal. Errors that know no `Classify` go
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
//! State machines that take the time as an argument ([`breaker::core`], [`retry::schedule`],
//! [`adaptive::AdaptiveLimit`], the places of a bulkhead and the quotas of [`limit`]) under thin
//! asynchronous shells. The hot paths take no lock: a closed breaker, a bulkhead that nobody waits
//! for and a limiter with one smooth quota are one atomic word each. All time comes from an
//! [`infra_core::Clock`], so tests run on a manual clock or on tokio's paused one. No lock is held
//! while user code runs, no task is started (but by [`timeout_detached`]), no queue, map or window
//! is without a bound.
//!
//! # What is told
//! By `tracing`, once each: `circuit_breaker_opened`, `circuit_breaker_half_open`,
//! `circuit_breaker_closed`, `circuit_breaker_probe_lease_expired`,
//! `circuit_breaker_mode_changed`, `circuit_breaker_would_open`, `retry_scheduled`,
//! `pipeline_suspicious` for parts that fit and can hardly be meant; with the feature `shared`
//! `circuit_breaker_override_applied`, `circuit_breaker_override_unreadable`,
//! `circuit_breaker_overrides_lost` and `circuit_breaker_overrides_back`, `rate_limiter_degraded` and
//! `rate_limiter_restored`; at the level debug `retry_budget_exhausted`,
//! `circuit_breaker_late_result`, `call_rejected`, `call_timed_out`,
//! `rate_limiter_observation_unused`.
//!
//! With the feature `metrics`, by the facade of that name:
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `resilience_breaker_state` | `breaker` | gauge: 0 closed, 1 half-open, 2 open, 3 isolated, 4 disabled, 5 metrics only |
//! | `resilience_breaker_opened_total` | `breaker` | how often it opened |
//! | `resilience_breaker_late_results_total` | `breaker` | results that came too late to count |
//! | `resilience_breaker_probe_lease_expired_total` | `breaker` | probes that hung |
//! | `resilience_rejected_total` | `by`, `name` | calls that a piece refused |
//! | `resilience_timeouts_total` | `name`, `which` | calls that a time limit cut off: a `plain` one, that of an `attempt`, that of the `total` |
//! | `resilience_retries_total` | `operation` | repetitions |
//! | `resilience_budget_exhausted_total` | `operation` | runs that ended for want of budget |
//! | `resilience_concurrency_limit` | `name` | gauge: the limit of an adaptive limiter |
//!
//! A piece asks for a handle of the facade when it first has something to tell, and keeps it: so
//! install the recorder first. Names are shared, not copied, and a piece that has nothing to tell
//! costs nothing.
//!
//! # Layout
//! - [`breaker`], [`retry`], [`limit`], [`adaptive`], [`pipeline`], `bulkhead`: the pieces that
//!   need more than one file.
//! - `timeout`, `hedge`, `fallback`, `budget`, `throttle`, `coalesce`, `chaos`: the others.
//! - `call_error`: [`CallError`], the one flat error of calls through several pieces.
//! - `turnstile`: the queue of bulkhead and limiter, and the word that is lent out while nobody
//!   waits.
//! - `keyed`: the bounded map of the registries.
//! - `telemetry`: what goes to the `metrics` facade. `sync`: what loom takes the place of.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `shared` | no | operators' decisions and rate limits for a whole fleet |
//! | `tower` | no | layers on `tower-service` and `tower-layer` |
//! | `tower-retry` | no | policies and budgets for tower's own retry middleware; brings in `tower` |
//! | `metrics` | no | counters and gauges through the `metrics` facade |

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
#[cfg(feature = "shared")]
pub mod shared;
mod sync;
mod telemetry;
mod throttle;
mod timeout;
#[cfg(feature = "tower")]
pub mod tower;
mod turnstile;

// What of the shared words stands in this crate's signatures, so that nobody needs another dependency
// to read an error; and the crate itself, for the rest.
#[doc(no_inline)]
pub use infra_core::{
    self, Class, Classify, Clock, Deadline, ManualClock, MonoTime, Outcome, SharedClock,
    SystemClock,
};

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
pub use pipeline::{CallOptions, Pipeline, PipelineBuilder, PipelineRegistry, ResilienceSettings};
pub use priority::Priority;
pub use retry::{Retry, RetryAttempt, RetryBuilder, RetryError};
pub use throttle::{Throttle, ThrottleBuilder};
pub use timeout::{TimeLimit, TimedOut, Timeout, timeout, timeout_at, timeout_detached};
