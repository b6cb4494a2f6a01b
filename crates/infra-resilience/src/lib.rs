//! Retry, circuit breaker and time limits as state machines without I/O, with thin asynchronous
//! shells over them.

pub mod breaker;
mod budget;
mod config_error;
pub mod retry;
mod timeout;

pub use breaker::{
    BreakerBuilder, BreakerConfig, BreakerError, BreakerEvent, BreakerRegistry, CircuitBreaker,
    Permit, Rejected, Verdict,
};
pub use budget::{BudgetedCall, RetryBudget};
pub use config_error::ConfigError;
pub use retry::{Retry, RetryAttempt, RetryBuilder, RetryError};
pub use timeout::{TimedOut, Timeout, timeout, timeout_at};
