//! What a policy counts for the `metrics` facade.

use std::sync::Arc;

use crate::telemetry::{Count, unnamed};

const RETRIES: &str = "resilience_retries_total";
const BUDGET_EXHAUSTED: &str = "resilience_budget_exhausted_total";
const LABEL: &str = "operation";

/// The counters of one policy, under its name or as `unnamed`.
#[derive(Debug)]
pub(super) struct Telemetry {
    retries: Count,
    budget_exhausted: Count,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            retries: Count::new(),
            budget_exhausted: Count::new(),
        }
    }
}

impl Telemetry {
    pub(super) fn retry(&self, name: Option<&Arc<str>>) {
        self.retries.add(RETRIES, LABEL, name.unwrap_or(unnamed()));
    }

    pub(super) fn budget_exhausted(&self, name: Option<&Arc<str>>) {
        let name = name.unwrap_or(unnamed());
        self.budget_exhausted.add(BUDGET_EXHAUSTED, LABEL, name);
    }
}
