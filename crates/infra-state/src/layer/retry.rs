//! Repetition and circuit breaker.

use std::time::Duration;

use infra_core::Classify;
use infra_resilience::{BreakerError, CircuitBreaker, ConfigError, Rejected, Retry, RetryError};
use tokio::time::Instant;

use super::around::Around;
use super::calls::{Call, Nature};
use crate::driver::{DriverError, DriverResult};
use crate::error::ErrorKind;

/// What may be repeated is not the policy's choice: transient errors that changed nothing, and
/// calls of unknown outcome where twice is the same as once.
pub(super) struct Retried {
    retry: Retry,
}

impl Retried {
    pub(super) fn new(retry: &Retry) -> Self {
        Retried {
            retry: retry.clone(),
        }
    }

    fn policy(&self, call: &Call<'_>, limit: Duration) -> Result<Retry, ConfigError> {
        let builder = self.retry.to_builder().deadline(limit);
        builder.idempotent(call.nature != Nature::Write).build()
    }
}

impl Around for Retried {
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        Box::pin(async move {
            let retry = self.policy(&call, limit).map_err(unusable)?;
            let started = Instant::now();
            let run = retry.run(|| attempt(limit.saturating_sub(started.elapsed())));
            run.await.map_err(|error| failed(error, &call, limit))
        })
    }

    /// The policy's deadline is that of the call.
    fn keeps_deadlines(&self, _: bool) -> bool {
        true
    }
}

/// The last error; but if an earlier attempt may have been applied, so may the call.
fn failed(error: RetryError<DriverError>, call: &Call<'_>, limit: Duration) -> DriverError {
    let outcome = error.outcome();
    let cut_off = error.was_cut_off();
    match error.into_inner() {
        Some(last) if !cut_off => last.with_outcome(outcome),
        _ => call.timed_out(limit),
    }
}

fn unusable(error: ConfigError) -> DriverError {
    DriverError::new(ErrorKind::InvalidLayers, "the retry policy cannot be used").with_source(error)
}

/// Refuses calls while the backend is down.
pub(super) struct Guarded(pub(super) CircuitBreaker);

impl Around for Guarded {
    fn around<'a, T: Send + 'a>(
        &'a self,
        _: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        Box::pin(async move {
            let result = self.0.call(|| attempt(limit)).await;
            result.map_err(|error| match error {
                BreakerError::Inner(error) => error,
                BreakerError::Rejected(rejected) => refused(&rejected),
            })
        })
    }
}

fn refused(rejected: &Rejected) -> DriverError {
    let error = DriverError::new(ErrorKind::Unavailable, rejected.to_string());
    let error = error.with_class(rejected.class());
    match rejected.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}
