//! The correlation id and the fields that belong to the work in hand.
//!
//! A [`Context`] is an immutable map. It lives outside of `tracing` spans, so no log level can lose
//! it, and its keys are chosen at run time. [`current`] reads it; [`bind`] makes a richer copy;
//! [`Context::scope`] runs a future under it, [`Context::enter`] a piece of synchronous code.
//!
//! ```
//! use infra_core::context;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! context::bind("bot_id", "bot_001")
//!     .scope(async {
//!         assert_eq!(context::current().get("bot_id").unwrap().to_string(), "bot_001");
//!         // Tasks started here carry the context; `spawn_detached` starts with an empty one.
//!         context::spawn(async { assert!(context::current().get("bot_id").is_some()) })
//!             .await
//!             .unwrap();
//!     })
//!     .await;
//! assert!(context::current().is_empty());
//! # }
//! ```
//!
//! Bare `tokio::spawn` starts with an empty context: tokio cannot inherit one. Inside this
//! workspace it is disallowed by clippy in favour of [`spawn`] and [`spawn_detached`].

mod ids;
mod scope;
mod spawn;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

pub use ids::{CorrelationId, InvalidId, TraceParent};
pub use scope::{EnterGuard, ObserveGuard, Scope, carry, current, observe, observer};
pub use spawn::{spawn, spawn_blocking, spawn_detached};
/// What [`spawn`] and its kin return.
pub use tokio::task::{JoinError, JoinHandle};
pub use value::Value;

/// The most fields one context holds. Binding more is ignored and counted in
/// [`Context::dropped_fields`], so that a loop that binds cannot grow without bound.
pub const MAX_FIELDS: usize = 64;

/// The key of a field: a literal, or text made at run time.
pub type Key = Cow<'static, str>;

/// What belongs to the work in hand. Immutable; a clone costs one reference count.
#[derive(Clone, Default)]
pub struct Context {
    inner: Option<Arc<Inner>>,
}

#[derive(Default)]
struct Inner {
    correlation_id: Option<CorrelationId>,
    causation_id: Option<CorrelationId>,
    traceparent: Option<TraceParent>,
    fields: Vec<(Key, Value)>,
    dropped: usize,
    rendered: OnceLock<(u64, Box<str>)>,
}

impl Inner {
    /// A copy with room for some more fields and without the rendering.
    fn copy(&self, more: usize) -> Self {
        let mut fields = Vec::with_capacity(self.fields.len() + more);
        fields.extend_from_slice(&self.fields);
        Inner {
            correlation_id: self.correlation_id.clone(),
            causation_id: self.causation_id.clone(),
            traceparent: self.traceparent,
            fields,
            dropped: self.dropped,
            rendered: OnceLock::new(),
        }
    }
}

/// The current context with one more field. Shorthand for `current().bind(key, value)`.
pub fn bind(key: impl Into<Key>, value: impl Into<Value>) -> Context {
    current().bind(key, value)
}

impl Context {
    /// A context without anything in it.
    pub const fn empty() -> Self {
        Context { inner: None }
    }

    /// A context with a fresh correlation id: the start of a new piece of work.
    pub fn new() -> Self {
        Context::of_ids(Some(CorrelationId::generate()), None, None)
    }

    /// A context with these ids alone: where work begins that something from elsewhere caused.
    pub fn of_ids(
        correlation_id: Option<CorrelationId>,
        causation_id: Option<CorrelationId>,
        traceparent: Option<TraceParent>,
    ) -> Self {
        if correlation_id.is_none() && causation_id.is_none() && traceparent.is_none() {
            return Context::empty();
        }
        Context {
            inner: Some(Arc::new(Inner {
                correlation_id,
                causation_id,
                traceparent,
                ..Inner::default()
            })),
        }
    }

    /// True when there is neither an id nor a field.
    pub fn is_empty(&self) -> bool {
        self.inner.is_none()
    }

    /// A copy with the field set; an older value of the same key is replaced.
    #[must_use = "a context is immutable: use the returned one, for example with `.scope(future)`"]
    pub fn bind(&self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.edit(1, |inner| {
            if let Some(slot) = inner.fields.iter_mut().find(|(k, _)| *k == key) {
                slot.1 = value;
            } else if inner.fields.len() < MAX_FIELDS {
                inner.fields.push((key, value));
            } else {
                inner.dropped += 1;
            }
        })
    }

    /// A copy without the field; an absent key changes nothing.
    #[must_use = "a context is immutable: use the returned one"]
    pub fn unbind(&self, key: &str) -> Self {
        if self.get(key).is_none() {
            return self.clone();
        }
        self.edit(0, |inner| inner.fields.retain(|(k, _)| k != key))
    }

    /// A copy with this correlation id.
    #[must_use = "a context is immutable: use the returned one"]
    pub fn with_correlation_id(&self, id: CorrelationId) -> Self {
        self.edit(0, |inner| inner.correlation_id = Some(id))
    }

    /// A copy with this causation id: the id of the event that led here.
    #[must_use = "a context is immutable: use the returned one"]
    pub fn with_causation_id(&self, id: CorrelationId) -> Self {
        self.edit(0, |inner| inner.causation_id = Some(id))
    }

    /// A copy with this W3C trace parent. It stands beside the correlation id and never replaces it.
    #[must_use = "a context is immutable: use the returned one"]
    pub fn with_traceparent(&self, traceparent: TraceParent) -> Self {
        self.edit(0, |inner| inner.traceparent = Some(traceparent))
    }

    /// The id shared by everything that belongs to one piece of work.
    pub fn correlation_id(&self) -> Option<&CorrelationId> {
        self.inner.as_ref()?.correlation_id.as_ref()
    }

    /// The id of the event that led here.
    pub fn causation_id(&self) -> Option<&CorrelationId> {
        self.inner.as_ref()?.causation_id.as_ref()
    }

    /// The W3C trace parent.
    pub fn traceparent(&self) -> Option<&TraceParent> {
        self.inner.as_ref()?.traceparent.as_ref()
    }

    /// The value bound to `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The bound fields in the order in which their keys were first bound, ids not included.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.inner
            .iter()
            .flat_map(|inner| inner.fields.iter())
            .map(|(k, v)| (k.as_ref(), v))
    }

    /// How many bound fields were ignored because of [`MAX_FIELDS`].
    pub fn dropped_fields(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.dropped)
    }

    /// A text made from this context once and kept with it: log lines repeat it often.
    ///
    /// `renderer` is a number of the caller's own. The first renderer to come has its text kept
    /// here and lent ever after; any other one gets `None` and renders for itself. Empty for an
    /// empty context.
    pub fn rendered(&self, renderer: u64, render: impl FnOnce(&Context) -> String) -> Option<&str> {
        let Some(inner) = &self.inner else {
            return Some("");
        };
        let (owner, text) = inner
            .rendered
            .get_or_init(|| (renderer, render(self).into_boxed_str()));
        (*owner == renderer).then_some(&**text)
    }

    /// A copy with a change that adds so many fields at most.
    fn edit(&self, more: usize, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match &self.inner {
            None => Inner::default(),
            Some(inner) => inner.copy(more),
        };
        change(&mut inner);
        Context {
            inner: Some(Arc::new(inner)),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        if let Some(id) = self.correlation_id() {
            map.entry(&"correlation_id", &id.as_str());
        }
        if let Some(id) = self.causation_id() {
            map.entry(&"causation_id", &id.as_str());
        }
        map.entries(self.fields()).finish()
    }
}

#[cfg(test)]
mod tests;
