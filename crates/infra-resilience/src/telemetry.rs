//! What the pieces tell the `metrics` facade, where the feature of that name is on.
//!
//! A handle of the facade is asked for when a piece first has something to tell, and kept: the name
//! is shared, not copied, and from then on nothing is built. Without a recorder the handle is one
//! that does nothing. Without the feature there is no handle.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::call_error::Rejection;
use crate::timeout::{TimeLimit, TimedOut};

/// Calls that a piece refused.
const REJECTED: &str = "resilience_rejected_total";
/// Calls that were cut off at their time limit.
const TIMEOUTS: &str = "resilience_timeouts_total";

/// What a piece without a name goes by.
pub(crate) fn unnamed() -> &'static Arc<str> {
    static UNNAMED: OnceLock<Arc<str>> = OnceLock::new();
    UNNAMED.get_or_init(|| "unnamed".into())
}

/// Counts a call that was cut off, and says so to whoever debugs. A time limit is a future and not
/// a piece that lasts, so the handle is looked up each time: such a call was slow anyway.
pub(crate) fn timed_out(name: Option<&Arc<str>>, timed_out: TimedOut) {
    let name = name.unwrap_or(unnamed());
    let which = match timed_out.which {
        TimeLimit::Plain => "plain",
        TimeLimit::Attempt => "attempt",
        TimeLimit::Total => "total",
    };
    tracing::debug!(name = &**name, which, limit = ?timed_out.limit, "call_timed_out");
    count_timeout(name, which);
}

#[cfg(feature = "metrics")]
fn count_timeout(name: &Arc<str>, which: &'static str) {
    metrics::counter!(TIMEOUTS, "name" => shared(name), "which" => which).increment(1);
}

#[cfg(not(feature = "metrics"))]
fn count_timeout(_name: &Arc<str>, _which: &'static str) {
    let _ = TIMEOUTS;
}

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The texts of the sources below `folder`.
    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    /// The first text in what follows that looks like a name.
    fn event(call: &str) -> Option<&str> {
        let is_name = |text: &&str| {
            text.contains('_') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        call.split('"').skip(1).step_by(2).find(is_name)
    }

    #[test]
    fn every_event_is_named_on_the_root_page() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let page = std::fs::read_to_string(folder.join("lib.rs")).unwrap();
        let mut texts = Vec::new();
        sources(&folder, &mut texts);
        let mut events = Vec::new();
        for level in ["warn!(", "info!(", "debug!("] {
            let mark = ["tracing::", level].concat();
            let calls = texts.iter().flat_map(|text| text.split(&mark).skip(1));
            events.extend(calls.map(|call| event(call).expect(call)));
        }
        assert!(events.len() > 15, "{events:?}");
        for event in events {
            assert!(page.contains(&format!("`{event}`")), "{event}");
        }
    }
}
