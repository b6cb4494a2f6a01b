//! The end of the way of a line: sampled, then written; and the lines that the log writes of
//! itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use infra_core::Context;
use tracing_core::{Level, Metadata};

use crate::fields::{Fields, Stored};
use crate::format::{Head, Shape, Walk};
use crate::sampling::Limiter;
use crate::time::Timestamp;
use crate::writer::{DropNote, Sink};

/// What the layer and its handle share.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) shape: Arc<Shape>,
    pub(crate) sink: Sink,
    pub(crate) limiter: Option<Limiter>,
    pub(crate) started: Instant,
}

impl Lines {
    /// `None` when the event is not written, otherwise how many were not written before it.
    pub(crate) fn admit(&self, metadata: &Metadata<'_>, bridged: bool) -> Option<u64> {
        match &self.limiter {
            None => Some(0),
            Some(limiter) => limiter.admit(metadata, bridged, self.started.elapsed()),
        }
    }

    /// Tells of what was suppressed, then waits until everything is written.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        for untold in self.limiter.iter().flat_map(Limiter::take_untold) {
            let mut fields = message("log lines suppressed");
            fields.push_text("of_target", &untold.target);
            if let Some(source) = untold.line {
                fields.push("of_line", Stored::U64(source.into()));
            }
            self.tell(Level::INFO, &fields, untold.suppressed);
        }
        self.sink.flush(within)
    }

    /// Writes a line of the log's own.
    pub(crate) fn tell(&self, level: Level, fields: &Fields, suppressed: u64) {
        let mut line = Vec::new();
        write(&self.shape, &mut line, level, fields, suppressed);
        self.sink.write(level, &line);
    }
}

/// Drops are told in the log itself, in its own format.
pub(crate) fn drop_note(shape: &Arc<Shape>) -> DropNote {
    let shape = Arc::clone(shape);
    Box::new(move |out, dropped| {
        let mut fields = message("log lines dropped");
        fields.push("dropped", Stored::U64(dropped));
        let mut line = Vec::new();
        write(&shape, &mut line, Level::WARN, &fields, 0);
        out.extend_from_slice(&line);
    })
}

/// The fields of a line with this message.
pub(crate) fn message(text: &str) -> Fields {
    let mut fields = Fields::default();
    fields.text.push_str(text);
    fields.message = Some(Stored::Text(0..text.len()));
    fields
}

fn write(shape: &Shape, line: &mut Vec<u8>, level: Level, fields: &Fields, suppressed: u64) {
    let head = Head {
        time: Timestamp::now(),
        level,
        target: "infra_log",
    };
    let mut seen = Vec::new();
    Walk::start(shape, line, &mut seen, &head, fields).finish(
        &Context::empty(),
        fields,
        suppressed,
    );
}
