//! Whole lines, from the macro to the bytes.

mod any;
mod captures;
mod lines;
mod traps;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tracing_subscriber::layer::SubscriberExt;

use crate::{Format, LogHandle, LogSettings, Output};

/// An output that keeps everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `code` logs under these settings, on this thread.
pub(crate) fn logged(settings: LogSettings, code: impl FnOnce(&LogHandle)) -> String {
    let buffer = Buffer::default();
    let settings = settings.output(Output::Custom(Box::new(buffer.clone())));
    let (layer, handle) = settings.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || code(&handle));
    buffer.text()
}

pub(crate) fn json_settings() -> LogSettings {
    LogSettings::new().format(Format::Json)
}

/// The lines that `code` logs as JSON at level INFO, each checked by [`strict`].
pub(crate) fn json_lines(code: impl FnOnce()) -> Vec<Map<String, Value>> {
    let text = logged(json_settings(), |_| code());
    text.lines().map(strict).collect()
}

/// The one line that `code` logs as JSON.
pub(crate) fn json_line(code: impl FnOnce()) -> Map<String, Value> {
    let mut lines = json_lines(code);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// Parses a flat JSON object and fails on a key that occurs twice.
pub(crate) fn strict(line: &str) -> Map<String, Value> {
    struct Unique(Map<String, Value>);
    struct Keys;
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = Unique;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a flat object with unique keys")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
            let mut fields = Map::new();
            while let Some((key, value)) = map.next_entry::<String, Value>()? {
                if let Some(first) = fields.insert(key.clone(), value) {
                    let twice = format!("{key:?} is there twice, first as {first}");
                    return Err(serde::de::Error::custom(twice));
                }
            }
            Ok(Unique(fields))
        }
    }
    impl<'de> serde::Deserialize<'de> for Unique {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Keys)
        }
    }
    match serde_json::from_str::<Unique>(line) {
        Ok(fields) => fields.0,
        Err(error) => panic!("{error} in {line}"),
    }
}
