//! Reading a CloudEvents object in one pass, without copying the data.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use bytes::Bytes;
use infra_core::{CorrelationId, TraceParent};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BASE64, is_json_type, time};
use crate::event::{Attribute, Event, EventId, Inner, Rare, check_name, check_text};

/// How many extensions are kept.
const MAX_EXTENSIONS: usize = 64;

/// A CloudEvents 1.0 object as far as it was understood.
#[derive(Default)]
pub(super) struct Parsed<'a> {
    spec_version: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    ty: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    correlation_id: Option<Cow<'a, str>>,
    causation_id: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    rare: Option<Box<Rare>>,
    data: Option<&'a RawValue>,
    data_base64: Option<Cow<'a, str>>,
}

/// `None` when the text is no CloudEvents 1.0 object in structured JSON.
pub(super) fn parse(text: &[u8]) -> Option<Parsed<'_>> {
    // Most texts that are none are known at their first byte.
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return None;
    }
    let parsed: Parsed<'_> = serde_json::from_slice(text).ok()?;
    let required = [&parsed.id, &parsed.source, &parsed.ty];
    let complete = required
        .iter()
        .all(|value| value.as_ref().is_some_and(|text| !text.is_empty()));
    (parsed.spec_version.as_deref() == Some("1.0") && complete).then_some(parsed)
}

impl Parsed<'_> {
    pub(super) fn into_event(self, channel: &Arc<str>, text: &Bytes) -> Event {
        let now = SystemTime::now();
        let data = self.data(text);
        let id = self.id.as_deref().and_then(EventId::parse);
        let is_channel = |ty: &Cow<'_, str>| **ty == **channel;
        Event::from_inner(Inner {
            id: id.unwrap_or_else(|| {
                tracing::debug!(
                    channel = &**channel,
                    "event id too long: replaced by a new one"
                );
                EventId::at(now)
            }),
            channel: channel.clone(),
            source: self.source.map_or_else(|| Arc::from("unknown"), Arc::from),
            ty: self.ty.filter(|ty| !is_channel(ty)).map(Arc::from),
            time: self.time.and_then(|text| time::parse(&text)).unwrap_or(now),
            content_type: self
                .content_type
                .filter(|text| text != crate::event::JSON)
                .map(Arc::from),
            correlation_id: self.correlation_id.and_then(|id| foreign_id(channel, &id)),
            causation_id: self.causation_id.and_then(|id| foreign_id(channel, &id)),
            traceparent: self
                .traceparent
                .and_then(|text| TraceParent::parse(&text).ok()),
            rare: self.rare,
            data,
        })
    }

    fn data(&self, text: &Bytes) -> Bytes {
        if let Some(encoded) = &self.data_base64 {
            if let Ok(data) = BASE64.decode(encoded.as_bytes()) {
                return data.into();
            }
            tracing::debug!("data_base64 of an event is not base64: taken as text");
            return Bytes::copy_from_slice(encoded.as_bytes());
        }
        let Some(raw) = self.data else {
            return Bytes::new();
        };
        if !is_json_type(self.content_type.as_deref().unwrap_or(crate::event::JSON))
            && let Ok(content) = serde_json::from_str::<String>(raw.get())
        {
            return content.into();
        }
        text.slice_ref(raw.get().as_bytes())
    }
}

fn foreign_id(channel: &str, id: &str) -> Option<CorrelationId> {
    let parsed = CorrelationId::parse(id);
    if parsed.is_err() {
        tracing::debug!(channel, "event carries an id that cannot be taken: ignored");
    }
    parsed.ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Parsed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ParsedVisitor)
    }
}

struct ParsedVisitor;

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvents object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed<'de>, A::Error> {
        let mut parsed = Parsed::default();
        while let Some(Text(key)) = map.next_key()? {
            let slot = match &*key {
                "specversion" => &mut parsed.spec_version,
                "id" => &mut parsed.id,
                "source" => &mut parsed.source,
                "type" => &mut parsed.ty,
                "time" => &mut parsed.time,
                "datacontenttype" => &mut parsed.content_type,
                "correlationid" => &mut parsed.correlation_id,
                "causationid" => &mut parsed.causation_id,
                "traceparent" => &mut parsed.traceparent,
                "data_base64" => &mut parsed.data_base64,
                "data" => {
                    parsed.data = Some(map.next_value()?);
                    continue;
                }
                _ => {
                    let value: &RawValue = map.next_value()?;
                    parsed.set_rare(&key, value);
                    continue;
                }
            };
            *slot = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0);
        }
        Ok(parsed)
    }
}

impl Parsed<'_> {
    /// An attribute that few events have. What has a forbidden name or value is left out.
    fn set_rare(&mut self, name: &str, value: &RawValue) {
        let Ok(value) = serde_json::from_str::<Scalar<'_>>(value.get()) else {
            return;
        };
        let rare = self.rare.get_or_insert_default();
        let slot = match name {
            "subject" => &mut rare.subject,
            "partitionkey" => &mut rare.partition_key,
            "dataschema" => &mut rare.data_schema,
            _ => {
                let attribute = match value {
                    Scalar::Text(Text(text)) if check_text(name, &text).is_ok() => {
                        Attribute::Text(Arc::from(text))
                    }
                    Scalar::Integer(number) => Attribute::Integer(number),
                    Scalar::Boolean(value) => Attribute::Boolean(value),
                    Scalar::Text(_) => return,
                };
                if check_name(name).is_ok() && rare.extensions.len() < MAX_EXTENSIONS {
                    rare.extensions.push((Arc::from(name), attribute));
                }
                return;
            }
        };
        if let Scalar::Text(Text(text)) = value {
            *slot = Some(Arc::from(text));
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    #[serde(borrow)]
    Text(Text<'a>),
    Boolean(bool),
    Integer(i32),
}

/// A text that is borrowed where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}
