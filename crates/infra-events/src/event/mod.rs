//! Events: what is published, and what arrives.

mod attribute;
mod id;
mod new;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use infra_core::{Context, CorrelationId, TraceParent};
use serde::de::DeserializeOwned;

pub use attribute::Attribute;
pub(crate) use attribute::{check_name, check_text};
pub use id::EventId;
pub use new::NewEvent;

use crate::error::{Error, ErrorKind, Result};

/// The content type of JSON, which is what events hold unless they say otherwise.
pub const JSON: &str = "application/json";

/// An event as a subscriber sees it: the data, and the attributes of CloudEvents 1.0.
///
/// Immutable; a clone costs one reference count, and all subscriptions share the data.
#[derive(Clone)]
pub struct Event(Arc<Inner>);

/// The parts of an event; for drivers and codecs.
#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) id: EventId,
    pub(crate) channel: Arc<str>,
    pub(crate) source: Arc<str>,
    pub(crate) ty: Option<Arc<str>>,
    pub(crate) time: SystemTime,
    pub(crate) content_type: Option<Arc<str>>,
    pub(crate) correlation_id: Option<CorrelationId>,
    pub(crate) causation_id: Option<CorrelationId>,
    pub(crate) traceparent: Option<TraceParent>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) data: Bytes,
}

/// Attributes that few events have.
#[derive(Clone, Default)]
pub(crate) struct Rare {
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) partition_key: Option<Arc<str>>,
    pub(crate) data_schema: Option<Arc<str>>,
    pub(crate) extensions: Vec<(Arc<str>, Attribute)>,
}

impl Event {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Event(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The id: unique together with the source.
    pub fn id(&self) -> &EventId {
        &self.0.id
    }

    /// The channel on which the event was published, also when a pattern found it.
    pub fn channel(&self) -> &str {
        &self.0.channel
    }

    /// Who published it, see [`EventOptions::source`](crate::EventOptions::source).
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The type of the event; the channel's name where the publisher named none.
    pub fn ty(&self) -> &str {
        self.0.ty.as_deref().unwrap_or(&self.0.channel)
    }

    /// When it was published by the publisher's wall clock; when it arrived, if that is not known.
    /// For people and records: no decision of the bus depends on it.
    pub fn time(&self) -> SystemTime {
        self.0.time
    }

    /// The content type of the data; [`JSON`] unless the publisher said otherwise.
    pub fn content_type(&self) -> &str {
        self.0.content_type.as_deref().unwrap_or(JSON)
    }

    /// The id shared by everything that belongs to one piece of work; the event's own id where
    /// the publisher was in none.
    pub fn correlation_id(&self) -> &str {
        match &self.0.correlation_id {
            Some(id) => id.as_str(),
            None => self.0.id.as_str(),
        }
    }

    /// The id of the event whose handler published this one.
    pub fn causation_id(&self) -> Option<&str> {
        self.0.causation_id.as_ref().map(CorrelationId::as_str)
    }

    /// The W3C trace parent of the publisher.
    pub fn traceparent(&self) -> Option<&TraceParent> {
        self.0.traceparent.as_ref()
    }

    /// What the event is about, within its source.
    pub fn subject(&self) -> Option<&str> {
        self.rare(|rare| &rare.subject)
    }

    /// The key whose events belong in order.
    pub fn partition_key(&self) -> Option<&str> {
        self.rare(|rare| &rare.partition_key)
    }

    /// The schema of the data, a URI.
    pub fn data_schema(&self) -> Option<&str> {
        self.rare(|rare| &rare.data_schema)
    }

    /// An extension attribute.
    pub fn extension(&self, name: &str) -> Option<&Attribute> {
        self.extensions()
            .find_map(|(own, value)| (own == name).then_some(value))
    }

    /// All extension attributes, in the order in which they were set.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0
            .rare
            .iter()
            .flat_map(|rare| &rare.extensions)
            .map(|(name, value)| (&**name, value))
    }

    /// The data as it was published.
    pub fn data(&self) -> &Bytes {
        &self.0.data
    }

    /// The data read as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is no JSON, or not the JSON of a `T`. Says where, not what.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0.data).map_err(|error| {
            Error::new(ErrorKind::Decode, "read event")
                .with_channel(self.channel())
                .with_detail(format!(
                    "not the JSON of a {} (line {}, column {})",
                    std::any::type_name::<T>(),
                    error.line(),
                    error.column(),
                ))
        })
    }

    /// The context under which handlers of this event run: its correlation id, its own id as
    /// causation id, and its trace parent.
    ///
    /// An id that [`CorrelationId`] refuses is replaced by a new one.
    pub fn context(&self) -> Context {
        let own = CorrelationId::parse(self.id().as_str()).ok();
        let given = || self.0.correlation_id.clone().or_else(|| own.clone());
        let correlation_id = given().unwrap_or_else(|| {
            tracing::debug!(
                channel = self.channel(),
                "event id cannot serve as correlation id"
            );
            CorrelationId::generate()
        });
        Context::of_ids(Some(correlation_id), own, self.0.traceparent)
    }

    fn rare<'a>(&'a self, pick: impl Fn(&'a Rare) -> &'a Option<Arc<str>>) -> Option<&'a str> {
        self.0
            .rare
            .as_deref()
            .and_then(|rare| pick(rare).as_deref())
    }
}

/// Shows the attributes and the size of the data, never the data.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id())
            .field("channel", &self.channel())
            .field("source", &self.source())
            .field("type", &self.ty())
            .field("correlation_id", &self.correlation_id())
            .field("data_len", &self.data().len())
            .finish_non_exhaustive()
    }
}
