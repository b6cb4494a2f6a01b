//! A span and an event for each call.

use std::time::Duration;

use infra_core::{Classify, Outcome};
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span};

use super::around::Around;
use super::calls::{About, Call, Nature};
use crate::driver::{DriverError, DriverResult};

/// At level DEBUG; costs one comparison where nobody listens.
pub(super) struct Traced {
    pub(super) backend: &'static str,
}

impl Around for Traced {
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        let operation = call.operation.name();
        let span = debug_span!("state_call", operation, backend = self.backend);
        if span.is_disabled() {
            return attempt(limit);
        }
        let traced = async move {
            let started = Instant::now();
            let result = attempt(limit).await;
            self.tell(&call, result.as_ref().err(), started.elapsed());
            result
        };
        Box::pin(traced.instrument(span))
    }
}

impl Traced {
    fn tell(&self, call: &Call<'_>, error: Option<&DriverError>, elapsed: Duration) {
        let (key, prefix, keys) = match call.about {
            About::Key(key) => (Some(key), None, None),
            About::Prefix(prefix) => (None, Some(prefix), None),
            About::Keys(keys) => (None, None, Some(keys)),
            About::Nothing => (None, None, None),
        };
        debug!(
            operation = call.operation.name(),
            backend = self.backend,
            key,
            prefix,
            keys,
            outcome = outcome(call, error),
            elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            error = error.map(tracing::field::display),
            "state_call"
        );
    }
}

/// One of four words; a call that reads changes nothing, however it fails.
pub(super) fn outcome(call: &Call<'_>, error: Option<&DriverError>) -> &'static str {
    match error.map(DriverError::outcome) {
        None => "ok",
        Some(_) if call.nature == Nature::Read => "not_applied",
        Some(Outcome::NotApplied) => "not_applied",
        Some(Outcome::Unknown) => "unknown",
        Some(_) => "applied",
    }
}
