//! Counters and histograms for the `metrics` facade.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};

use super::around::Around;
use super::calls::{Call, Operation};
use super::trace::outcome;
use crate::driver::{DriverError, DriverResult};

/// Calls by backend, operation and outcome.
const CALLS: &str = "state_calls_total";
/// How long they took, in seconds.
const SECONDS: &str = "state_call_seconds";
const OUTCOMES: usize = 4;

/// A handle is asked for when there is first something to tell, and kept: from then on nothing is
/// built or looked up. Without a recorder the handle does nothing.
pub(super) struct Metered {
    backend: &'static str,
    handles: [[OnceLock<(Counter, Histogram)>; OUTCOMES]; Operation::COUNT],
}

impl Metered {
    pub(super) fn new(backend: &'static str) -> Self {
        Metered {
            backend,
            handles: [const { [const { OnceLock::new() }; OUTCOMES] }; Operation::COUNT],
        }
    }

    fn record(&self, call: &Call<'_>, error: Option<&DriverError>, elapsed: Duration) {
        let outcome = outcome(call, error);
        let of_operation = self.handles.get(call.operation as usize);
        let Some(handle) = of_operation.and_then(|handles| handles.get(place(outcome))) else {
            return;
        };
        let (count, seconds) = handle.get_or_init(|| {
            let name = call.operation.name();
            let backend = self.backend;
            (
                counter!(CALLS, "backend" => backend, "operation" => name, "outcome" => outcome),
                histogram!(SECONDS, "backend" => backend, "operation" => name, "outcome" => outcome),
            )
        });
        count.increment(1);
        seconds.record(elapsed.as_secs_f64());
    }
}

fn place(outcome: &str) -> usize {
    match outcome {
        "ok" => 0,
        "not_applied" => 1,
        "unknown" => 2,
        _ => 3,
    }
}

impl Around for Metered {
    fn around<'a, T: Send + 'a>(
        &'a self,
        call: Call<'a>,
        limit: Duration,
        attempt: impl Fn(Duration) -> DriverResult<'a, T> + Send + Sync + 'a,
    ) -> DriverResult<'a, T> {
        Box::pin(async move {
            let started = Instant::now();
            let result = attempt(limit).await;
            let error = result.as_ref().err();
            self.record(&call, error, started.elapsed());
            result
        })
    }
}
