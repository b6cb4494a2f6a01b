//! CloudEvents 1.0 as structured JSON, for transports that carry one text per event.
//!
//! Drivers call [`encode`] and [`decode`]. What [`decode`] gets was written by anybody: a text
//! that is no CloudEvents object is the data itself.

mod parse;
mod time;

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Attribute, Event, EventId, Inner, JSON};
use crate::options::EnvelopeMode;

/// The event as one text: a CloudEvents 1.0 object in structured JSON, or the data alone.
pub fn encode(event: &Event, mode: EnvelopeMode) -> Bytes {
    if mode == EnvelopeMode::Plain {
        return event.data().clone();
    }
    let mut out = Vec::with_capacity(384 + event.data().len());
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    let mut field = |name: &str, value: &str| {
        open_field(&mut out, name);
        write_json(&mut out, value);
    };
    field("id", event.id().as_str());
    field("source", event.source());
    field("type", event.ty());
    field("time", &time::format(event.time()));
    field("datacontenttype", event.content_type());
    field("correlationid", event.correlation_id());
    let optional = [
        ("causationid", event.causation_id()),
        ("subject", event.subject()),
        ("partitionkey", event.partition_key()),
        ("dataschema", event.data_schema()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            field(name, value);
        }
    }
    if let Some(traceparent) = event.traceparent() {
        field("traceparent", &traceparent.to_string());
    }
    for (name, value) in event.extensions() {
        open_field(&mut out, name);
        match value {
            Attribute::Text(text) => write_json(&mut out, &**text),
            Attribute::Integer(number) => write_json(&mut out, number),
            Attribute::Boolean(value) => write_json(&mut out, value),
        }
    }
    write_data(&mut out, event);
    out.push(b'}');
    out.into()
}

/// The event in a text that arrived on a channel.
///
/// A CloudEvents 1.0 object in structured JSON becomes the event that it describes. Anything else
/// is data without an envelope, and gets a new id and the present time.
pub fn decode(channel: &Arc<str>, text: Bytes) -> Event {
    match parse::parse(&text) {
        Some(parsed) => parsed.into_event(channel, &text),
        None => plain(channel, text),
    }
}

fn plain(channel: &Arc<str>, data: Bytes) -> Event {
    let now = SystemTime::now();
    let content_type = if is_json(&data) {
        None
    } else if std::str::from_utf8(&data).is_ok() {
        Some(Arc::from("text/plain"))
    } else {
        Some(Arc::from("application/octet-stream"))
    };
    Event::from_inner(Inner {
        id: EventId::at(now),
        channel: channel.clone(),
        source: Arc::from("unknown"),
        ty: None,
        time: now,
        content_type,
        correlation_id: None,
        causation_id: None,
        traceparent: None,
        rare: None,
        data,
    })
}

/// The data under `data` where JSON can hold it as it is, else under `data_base64`: what arrives
/// is always byte for byte what was published.
fn write_data(out: &mut Vec<u8>, event: &Event) {
    let data = event.data();
    if data.is_empty() {
        return;
    }
    let bare = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_whitespace());
    if is_json_type(event.content_type()) {
        if bare(data.first()) && bare(data.last()) && is_json(data) {
            open_field(out, "data");
            out.extend_from_slice(data);
            return;
        }
    } else if event.content_type().starts_with("text/")
        && let Ok(text) = std::str::from_utf8(data)
    {
        open_field(out, "data");
        write_json(out, text);
        return;
    }
    open_field(out, "data_base64");
    write_json(out, &BASE64.encode(data));
}

/// `application/json`, `text/json`, `application/foo+json`, with or without parameters.
fn is_json_type(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case(JSON)
        || media.eq_ignore_ascii_case("text/json")
        || media.to_ascii_lowercase().ends_with("+json")
}

fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(data).is_ok()
}

fn open_field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Texts, numbers and booleans always are JSON, and a `Vec` takes all of it.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests;
