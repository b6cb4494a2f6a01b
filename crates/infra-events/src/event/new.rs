//! An event that is about to be published.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use infra_core::{Context, CorrelationId, TraceParent};
use serde::Serialize;

use super::{Attribute, Event, EventId, Inner, Rare, check_name, check_text};
use crate::error::{Error, ErrorKind, Result};

/// An event that is about to be published, with as much said about it as the publisher wants.
///
/// What is not said is filled in by [`EventBus::publish_event`](crate::EventBus::publish_event):
/// a new id, the time, the bus's source, the channel as type, and the correlation id, causation id
/// and trace parent of the current context.
///
/// ```
/// use infra_events::NewEvent;
///
/// # fn main() -> infra_events::Result<()> {
/// let event = NewEvent::json(&serde_json::json!({"symbol": "AAPL", "quantity": 10}))?
///     .ty("order.filled.v1")
///     .subject("order-17")
///     .partition_key("AAPL")
///     .extension("venue", "XNAS");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "an event does nothing until it is published"]
pub struct NewEvent {
    id: Option<EventId>,
    source: Option<Arc<str>>,
    ty: Option<Arc<str>>,
    time: Option<SystemTime>,
    content_type: Option<Arc<str>>,
    correlation_id: Option<CorrelationId>,
    causation_id: Option<CorrelationId>,
    traceparent: Option<TraceParent>,
    rare: Option<Box<Rare>>,
    data: Bytes,
}

impl NewEvent {
    /// An event whose data is this value as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when serde cannot turn it into JSON, for instance a map whose keys
    /// are not texts.
    pub fn json<T: Serialize + ?Sized>(payload: &T) -> Result<Self> {
        let data = serde_json::to_vec(payload)
            .map_err(|error| Error::new(ErrorKind::Encode, "make event").with_source(error))?;
        Ok(NewEvent {
            data: data.into(),
            ..NewEvent::default()
        })
    }

    /// An event whose data is JSON text already. Text that is no JSON arrives all the same, as
    /// the same bytes.
    pub fn encoded_json(data: impl Into<Bytes>) -> Self {
        NewEvent {
            data: data.into(),
            ..NewEvent::default()
        }
    }

    /// An event whose data is any bytes, for instance `application/octet-stream`.
    pub fn bytes(content_type: &str, data: impl Into<Bytes>) -> Self {
        NewEvent {
            content_type: Some(Arc::from(content_type)),
            data: data.into(),
            ..NewEvent::default()
        }
    }

    /// Sets the id, for a publisher that gives the same event the same id when it repeats it.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets who publishes, a URI reference.
    pub fn source(mut self, source: &str) -> Self {
        self.source = Some(Arc::from(source));
        self
    }

    /// Sets the type, by convention with a version: `order.filled.v1`.
    pub fn ty(mut self, ty: &str) -> Self {
        self.ty = Some(Arc::from(ty));
        self
    }

    /// Sets when it happened, if that is not now.
    pub fn time(mut self, time: SystemTime) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets what the event is about, within its source.
    pub fn subject(mut self, subject: &str) -> Self {
        self.rare().subject = Some(Arc::from(subject));
        self
    }

    /// Sets the key whose events belong in order.
    pub fn partition_key(mut self, key: &str) -> Self {
        self.rare().partition_key = Some(Arc::from(key));
        self
    }

    /// Sets the schema of the data, a URI.
    pub fn data_schema(mut self, uri: &str) -> Self {
        self.rare().data_schema = Some(Arc::from(uri));
        self
    }

    /// Sets the correlation id instead of the current context's.
    pub fn correlation_id(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// Sets the causation id instead of the current context's.
    pub fn causation_id(mut self, id: CorrelationId) -> Self {
        self.causation_id = Some(id);
        self
    }

    /// Sets the trace parent instead of the current context's.
    pub fn traceparent(mut self, traceparent: TraceParent) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// Sets an extension attribute; an older one of the same name is replaced. The name has 1 to
    /// 20 characters out of `a-z 0-9`; publishing refuses others.
    pub fn extension(mut self, name: &str, value: impl Into<Attribute>) -> Self {
        let extensions = &mut self.rare().extensions;
        extensions.retain(|(own, _)| **own != *name);
        extensions.push((Arc::from(name), value.into()));
        self
    }

    /// The size of the data in bytes.
    pub fn data_len(&self) -> usize {
        self.data.len()
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Refuses attributes that no codec can carry. Data and ids need no check.
    pub(crate) fn check(&self) -> Result<()> {
        let texts = [
            ("source", &self.source),
            ("type", &self.ty),
            ("datacontenttype", &self.content_type),
        ];
        check_all(texts)?;
        let Some(rare) = &self.rare else {
            return Ok(());
        };
        check_all([
            ("subject", &rare.subject),
            ("partitionkey", &rare.partition_key),
            ("dataschema", &rare.data_schema),
        ])?;
        for (name, value) in &rare.extensions {
            check_name(name)?;
            if let Attribute::Text(text) = value {
                check_text(name, text)?;
            }
        }
        Ok(())
    }

    /// The id that it will have, if that is decided already.
    pub(crate) fn take_id(&mut self) -> Option<EventId> {
        self.id.take()
    }

    /// Fills in what was not said.
    pub(crate) fn stamp(
        self,
        id: EventId,
        now: SystemTime,
        channel: Arc<str>,
        source: &Arc<str>,
        context: &Context,
    ) -> Event {
        Event::from_inner(Inner {
            id,
            channel,
            source: self.source.unwrap_or_else(|| source.clone()),
            ty: self.ty,
            time: self.time.unwrap_or(now),
            content_type: self.content_type,
            correlation_id: self
                .correlation_id
                .or_else(|| context.correlation_id().cloned()),
            causation_id: self
                .causation_id
                .or_else(|| context.causation_id().cloned()),
            traceparent: self.traceparent.or_else(|| context.traceparent().copied()),
            rare: self.rare,
            data: self.data,
        })
    }
}

fn check_all<const N: usize>(texts: [(&str, &Option<Arc<str>>); N]) -> Result<()> {
    for (name, text) in texts {
        if let Some(text) = text {
            check_text(name, text)?;
        }
    }
    Ok(())
}

/// The same event again, with its id and all attributes: for forwarding it to another channel.
impl From<&Event> for NewEvent {
    fn from(event: &Event) -> Self {
        let inner = event.inner();
        NewEvent {
            id: Some(inner.id.clone()),
            source: Some(inner.source.clone()),
            ty: Some(Arc::from(event.ty())),
            time: Some(inner.time),
            content_type: inner.content_type.clone(),
            correlation_id: inner.correlation_id.clone(),
            causation_id: inner.causation_id.clone(),
            traceparent: inner.traceparent,
            rare: inner.rare.clone(),
            data: inner.data.clone(),
        }
    }
}
