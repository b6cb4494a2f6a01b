//! Retry, circuit breaker and time limits as state machines without I/O, with thin asynchronous
//! shells over them.

pub mod breaker;
mod budget;
mod bulkhead;
mod call_error;
mod config_error;
mod fallback;
mod hedge;
mod keyed;
pub mod limit;
pub mod pipeline;
pub mod retry;
mod timeout;
#[cfg(feature = "tower")]
pub mod tower;
mod turnstile;

pub use breaker::{
    BreakerBuilder, BreakerConfig, BreakerError, BreakerEvent, BreakerRegistry, CircuitBreaker,
    Permit, Rejected, Verdict,
};
pub use budget::{BudgetedCall, RetryBudget};
pub use bulkhead::{Bulkhead, BulkheadBuilder, BulkheadPermit};
pub use call_error::{CallError, RejectReason, RejectedBy, Rejection};
pub use config_error::ConfigError;
pub use fallback::{FallbackError, with_fallback};
pub use hedge::{Hedge, HedgeBuilder};
pub use limit::{Quota, RateLimiter, RateLimiterBuilder, RateLimiterRegistry};
pub use pipeline::{Pipeline, PipelineBuilder, PipelineRegistry, ResilienceSettings};
pub use retry::{Retry, RetryAttempt, RetryBuilder, RetryError};
pub use timeout::{TimeLimit, TimedOut, Timeout, timeout, timeout_at, timeout_detached};
