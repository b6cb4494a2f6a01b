//! Which layers, and in which order.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "resilience")]
use infra_resilience::{CircuitBreaker, Retry};

use super::around::Surrounded;
#[cfg(feature = "compression")]
use super::compression::Compression;
#[cfg(feature = "encryption")]
use super::encryption::Keyring;
use super::faults::Faults;
use super::limits::{Limited, SizeLimits};
#[cfg(feature = "metrics")]
use super::metering::Metered;
use super::prefix::Prefixed;
#[cfg(feature = "resilience")]
use super::retry::{Guarded, Retried};
use super::timeout::{AttemptTimeouts, Timed};
use super::trace::Traced;
use crate::driver::{DriverError, StateDriver};
use crate::error::{Error, ErrorKind, Result};

/// What makes one driver of another.
pub type Layer = dyn Fn(Arc<dyn StateDriver>) -> Arc<dyn StateDriver> + Send + Sync;

/// Layers around a driver, written from the outside in: a call passes the first one first.
///
/// The order is that of the [table](crate::layer#which-layer-for-what), and each may come once;
/// another order is refused when the store is made. [Custom](Layers::custom) ones may stand
/// anywhere. Clones share what their layers share: a breaker, the switch of the faults.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use infra_state::layer::{AttemptTimeouts, Layers, SizeLimits};
/// use infra_state::{ErrorKind, StateOptions, create_state_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), infra_state::Error> {
/// let layers = Layers::new()
///     .size_limits(SizeLimits::new().value_bytes(64 * 1024))
///     .tenant("acme")
///     .tracing()
///     .timeout(AttemptTimeouts::new(Duration::from_millis(200)));
/// let store = create_state_store("memory", StateOptions::new().layers(layers)).await?;
/// store.set("limit", &100).await?;
///
/// let senseless = Layers::new().tracing().tenant("acme");
/// let refused = create_state_store("memory", StateOptions::new().layers(senseless)).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidLayers);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Layers {
    /// From the outside in.
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    name: Cow<'static, str>,
    place: Option<Place>,
    make: Arc<Layer>,
}

/// From the outside in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    SizeLimits,
    Tenant,
    Tracing,
    #[cfg(feature = "metrics")]
    Metrics,
    #[cfg(feature = "resilience")]
    Retry,
    #[cfg(feature = "resilience")]
    Breaker,
    Timeout,
    #[cfg(feature = "compression")]
    Compression,
    #[cfg(feature = "encryption")]
    Encryption,
    Faults,
}

impl Layers {
    /// No layers.
    pub const fn new() -> Self {
        Layers {
            entries: Vec::new(),
        }
    }

    /// Refuses what is too large before anything else happens.
    #[must_use]
    pub fn size_limits(self, limits: SizeLimits) -> Self {
        self.with(Place::SizeLimits, "size limits", move |inner| {
            Limited::driver(inner, limits)
        })
    }

    /// Puts the tenant's name before every key, so that several tenants share one backend without
    /// ever seeing each other's keys. Backend keys are `tenant:key`, with a `:`, `/` or `%` of the
    /// name written as `%3A` and so on; whoever operates the backend finds them in the namespace
    /// of that name.
    #[must_use]
    pub fn tenant(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(Place::Tenant, "tenant", move |inner| {
            Prefixed::driver(inner, &name)
        })
    }

    /// A span and an event `state_call` for each call at level DEBUG: operation, backend, key or
    /// number of keys, outcome, and how long it took. Never a value.
    #[must_use]
    pub fn tracing(self) -> Self {
        self.with(Place::Tracing, "tracing", |inner| {
            let backend = inner.backend();
            Surrounded::driver(inner, Traced { backend })
        })
    }

    /// The counter `state_calls_total` and the histogram `state_call_seconds`, by backend,
    /// operation and outcome, for the recorder of the `metrics` facade. Install it before the
    /// first call: handles are asked for once and kept.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(self) -> Self {
        self.with(Place::Metrics, "metrics", |inner| {
            let metered = Metered::new(inner.backend());
            Surrounded::driver(inner, metered)
        })
    }

    /// Repeats calls by this policy, within the call's deadline, which replaces the policy's own.
    ///
    /// Transient errors that changed nothing are repeated. After an unknown outcome only calls are
    /// repeated where twice is the same as once: those that read, `set`, `set_many` and `delete`
    /// (which may then find nothing left to delete and answer so). Never `increment`,
    /// `set_if_absent`, compare-and-swap, transactions, `expire` and `persist`. What the policy
    /// says of [`idempotent`](infra_resilience::RetryBuilder::idempotent) does not count.
    #[cfg(feature = "resilience")]
    #[must_use]
    pub fn retry(self, policy: &Retry) -> Self {
        let policy = policy.clone();
        self.with(Place::Retry, "retry", move |inner| {
            Surrounded::driver(inner, Retried::new(&policy))
        })
    }

    /// Refuses calls as [`Unavailable`](ErrorKind::Unavailable) while the backend is down.
    /// Conflicts, refusals and other permanent errors are no failures.
    #[cfg(feature = "resilience")]
    #[must_use]
    pub fn breaker(self, breaker: CircuitBreaker) -> Self {
        self.with(Place::Breaker, "breaker", move |inner| {
            Surrounded::driver(inner, Guarded(breaker.clone()))
        })
    }

    /// A limit for each attempt.
    #[must_use]
    pub fn timeout(self, timeouts: AttemptTimeouts) -> Self {
        self.with(Place::Timeout, "timeout", move |inner| {
            let kept_inside = inner.keeps_deadlines();
            let timed = Timed {
                timeouts,
                kept_inside,
            };
            Surrounded::driver(inner, timed)
        })
    }

    /// Stores large values compressed.
    #[cfg(feature = "compression")]
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        self.with(Place::Compression, "compression", move |inner| {
            compression.driver(inner)
        })
    }

    /// Stores values encrypted, bound to their key. Keys are not encrypted. Counters are kept by
    /// compare-and-swap, so the backend needs [versions](crate::Requirement::Versions) for them.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encryption(self, keys: Keyring) -> Self {
        self.with(Place::Encryption, "encryption", move |inner| {
            keys.driver(inner)
        })
    }

    /// Makes calls fail on purpose, as if the backend did.
    #[must_use]
    pub fn faults(self, faults: Faults) -> Self {
        self.with(Place::Faults, "faults", move |inner| {
            Surrounded::driver(inner, faults.clone())
        })
    }

    /// A layer of one's own, at any place; see [`Forward`](crate::layer::Forward).
    #[must_use]
    pub fn custom(
        mut self,
        name: impl Into<Cow<'static, str>>,
        layer: impl Fn(Arc<dyn StateDriver>) -> Arc<dyn StateDriver> + Send + Sync + 'static,
    ) -> Self {
        self.entries.push(Entry {
            name: name.into(),
            place: None,
            make: Arc::new(layer),
        });
        self
    }

    /// The driver with all layers around it.
    ///
    /// # Errors
    /// [`InvalidLayers`](ErrorKind::InvalidLayers), naming the two layers whose order makes no
    /// sense, or the one that comes twice.
    pub fn wrap(&self, driver: Arc<dyn StateDriver>) -> Result<Arc<dyn StateDriver>> {
        let backend = driver.backend();
        (self.check()).map_err(|cause| Error::new("layers", None, backend, cause))?;
        let wrap = |inner, entry: &Entry| (entry.make)(inner);
        Ok(self.entries.iter().rev().fold(driver, wrap))
    }

    fn with(
        mut self,
        place: Place,
        name: &'static str,
        layer: impl Fn(Arc<dyn StateDriver>) -> Arc<dyn StateDriver> + Send + Sync + 'static,
    ) -> Self {
        self.entries.push(Entry {
            name: Cow::Borrowed(name),
            place: Some(place),
            make: Arc::new(layer),
        });
        self
    }

    fn check(&self) -> Result<(), DriverError> {
        let mut outer: Option<(&str, Place)> = None;
        for entry in &self.entries {
            let Some(place) = entry.place else { continue };
            let name: &str = &entry.name;
            let message = match outer {
                Some((_, before)) if before == place => format!("the layer `{name}` comes twice"),
                Some((other, before)) if before > place => {
                    format!(
                        "the layer `{name}` has to come before `{other}`: {}",
                        why(place)
                    )
                }
                _ => {
                    outer = Some((name, place));
                    continue;
                }
            };
            return Err(DriverError::new(ErrorKind::InvalidLayers, message));
        }
        Ok(())
    }
}

/// Why nothing that belongs further in may be further out.
fn why(place: Place) -> &'static str {
    match place {
        Place::SizeLimits => "what is refused must cost nothing",
        Place::Tenant => "all layers inside have to see the key that the backend sees",
        Place::Tracing => "one call is one event, however often it is tried",
        #[cfg(feature = "metrics")]
        Place::Metrics => "one call counts once, however often it is tried",
        #[cfg(feature = "resilience")]
        Place::Retry => "each attempt has to pass the breaker and have its own time",
        #[cfg(feature = "resilience")]
        Place::Breaker => "it has to see which attempts run out of time",
        Place::Timeout => "it has to limit all that is done for an attempt",
        #[cfg(feature = "compression")]
        Place::Compression => "what is encrypted cannot be compressed",
        #[cfg(feature = "encryption")]
        Place::Encryption => "faults stand for those of the backend",
        Place::Faults => "faults stand for those of the backend",
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.entries.iter().map(|entry| &entry.name);
        f.debug_list().entries(names).finish()
    }
}
