//! What the pieces tell the `metrics` facade, where the feature of that name is on.
//!
//! A handle of the facade is asked for when a piece first has something to tell, and kept: the name
//! is shared, not copied, and from then on nothing is built. Without a recorder the handle is one
//! that does nothing. Without the feature there is no handle.

use std::fmt;
use std::sync::Arc;

use crate::call_error::Rejection;

/// Calls that a piece refused.
const REJECTED: &str = "resilience_rejected_total";

/// A counter that is registered when it first counts.
pub(crate) struct Count {
    #[cfg(feature = "metrics")]
    counter: std::sync::OnceLock<metrics::Counter>,
}

/// A gauge that is registered when it is first set.
pub(crate) struct Gauge {
    #[cfg(feature = "metrics")]
    gauge: std::sync::OnceLock<metrics::Gauge>,
}

impl Count {
    pub(crate) const fn new() -> Self {
        Count {
            #[cfg(feature = "metrics")]
            counter: std::sync::OnceLock::new(),
        }
    }

    /// Counts one under the label `label` of the value `name`.
    #[cfg(feature = "metrics")]
    pub(crate) fn add(&self, metric: &'static str, label: &'static str, name: &Arc<str>) {
        self.counter
            .get_or_init(|| metrics::counter!(metric, label => shared(name)))
            .increment(1);
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn add(&self, _metric: &'static str, _label: &'static str, _name: &Arc<str>) {}

    /// Counts a refused call, and says so to whoever debugs.
    pub(crate) fn rejection(&self, rejection: &Rejection) {
        tracing::debug!(
            by = rejection.by.as_str(),
            name = &*rejection.name,
            reason = rejection.reason.as_str(),
            "call_rejected"
        );
        self.rejected(rejection.by.as_str(), &rejection.name);
    }

    /// Counts a refused call.
    #[cfg(feature = "metrics")]
    pub(crate) fn rejected(&self, by: &'static str, name: &Arc<str>) {
        self.counter
            .get_or_init(|| metrics::counter!(REJECTED, "by" => by, "name" => shared(name)))
            .increment(1);
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn rejected(&self, _by: &'static str, _name: &Arc<str>) {
        let _ = REJECTED;
    }
}

impl Gauge {
    pub(crate) const fn new() -> Self {
        Gauge {
            #[cfg(feature = "metrics")]
            gauge: std::sync::OnceLock::new(),
        }
    }

    /// Sets it under the label `label` of the value `name`.
    #[cfg(feature = "metrics")]
    pub(crate) fn set(
        &self,
        metric: &'static str,
        label: &'static str,
        name: &Arc<str>,
        value: u32,
    ) {
        self.gauge
            .get_or_init(|| metrics::gauge!(metric, label => shared(name)))
            .set(f64::from(value));
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn set(
        &self,
        _metric: &'static str,
        _label: &'static str,
        _name: &Arc<str>,
        _value: u32,
    ) {
    }
}

#[cfg(feature = "metrics")]
fn shared(name: &Arc<str>) -> metrics::SharedString {
    metrics::SharedString::from_shared(name.clone())
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Count")
    }
}
