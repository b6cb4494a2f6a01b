//! The layer: records, renders and writes, with nothing borrowed while foreign code runs.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use infra_core::context;
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::capture::{self, CapturedEvent};
use crate::collect::{Collector, Rules};
use crate::fields::{Fields, Stored};
use crate::format::{Head, Key, Shape, Walk};
use crate::lines::Lines;
use crate::time::Timestamp;

/// Writes every event that reaches it as one line.
#[derive(Debug)]
pub(crate) struct LogLayer {
    pub(crate) shape: Arc<Shape>,
    pub(crate) destination: Destination,
    #[cfg(feature = "otel")]
    pub(crate) telemetry: Option<Arc<crate::otel::Telemetry>>,
}

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A line.
    Lines(Arc<Lines>),
    /// A value for the test that caused it.
    Captures,
}

/// Several layers can record the same span, each by its own rules.
pub(crate) struct SpanData {
    layer: u64,
    pub(crate) fields: Fields,
    /// The context in which the span was made: that of events which name it as their parent.
    pub(crate) context: infra_core::Context,
    #[cfg(feature = "otel")]
    pub(crate) trace: Option<crate::otel::SpanTrace>,
}

/// All layers' data of one span; nearly always there is one.
pub(crate) struct SpanStore {
    first: SpanData,
    others: Vec<SpanData>,
}

impl SpanStore {
    pub(crate) fn of(&self, layer: u64) -> Option<&SpanData> {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.into_iter().find(|data| data.layer == layer)
    }

    pub(crate) fn of_mut(&mut self, layer: u64) -> Option<&mut SpanData> {
        let all = std::iter::once(&mut self.first).chain(&mut self.others);
        all.into_iter().find(|data| data.layer == layer)
    }
}

/// The buffers of one thread. Taken while in use, so that an event from inside of a `Debug` finds
/// none and makes its own.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) fields: Fields,
    pub(crate) line: Vec<u8>,
    pub(crate) seen: Vec<Key<'static>>,
}

/// Buffers that grew beyond this are given back to the allocator.
const KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    fn take() -> Box<Self> {
        let kept = SCRATCH.try_with(Cell::take).ok().flatten();
        kept.unwrap_or_default()
    }

    fn give_back(mut self: Box<Self>) {
        if self.line.capacity().max(self.fields.text.capacity()) > KEPT_BYTES {
            return;
        }
        self.fields.clear();
        self.line.clear();
        self.seen.clear();
        let _ = SCRATCH.try_with(|slot| slot.set(Some(self)));
    }
}

/// A new number for a layer; see [`Shape::id`].
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut collector(&mut fields, &self.shape.rules));
        let Some(span) = ctx.span(id) else { return };
        let data = SpanData {
            layer: self.shape.id,
            fields,
            context: context::current(),
            #[cfg(feature = "otel")]
            trace: self.begin_span(attributes, &span, &ctx),
        };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<SpanStore>() {
            Some(store) => store.others.push(data),
            None => extensions.insert(SpanStore {
                first: data,
                others: Vec::new(),
            }),
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let mut newer = Fields::default();
        values.record(&mut collector(&mut newer, &self.shape.rules));
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        let Some(store) = extensions.get_mut::<SpanStore>() else {
            return;
        };
        if let Some(data) = store.of_mut(self.shape.id) {
            data.fields.absorb(&newer);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let bridged = bridged(event);
        let metadata = bridged.as_ref().unwrap_or_else(|| event.metadata());
        let admitted = match &self.destination {
            Destination::Lines(lines) => lines.admit(metadata, bridged.is_some()),
            Destination::Captures => context::observer().map(|_| 0),
        };
        let Some(suppressed) = admitted else { return };
        let time = Timestamp::now();
        let mut scratch = Scratch::take();
        let rules = &self.shape.rules;
        record_event(&mut scratch.fields, event, rules, bridged.is_some());
        let head = Head {
            time,
            level: *metadata.level(),
            target: metadata.target(),
        };
        let around = Around {
            layer: self.shape.id,
            explicit_parent: event.parent().is_some(),
            scope: ctx.event_scope(event),
        };
        match &self.destination {
            Destination::Lines(lines) => {
                render(&self.shape, &mut scratch, &head, around, suppressed);
                lines.sink.write(head.level, &scratch.line);
                #[cfg(feature = "otel")]
                self.send_event(&mut scratch, &head, event, &ctx, suppressed);
            }
            Destination::Captures => capture::deliver(|| {
                let mut captured = CapturedEvent::new(&head, &scratch.fields, &self.shape.reserved);
                let context = around.visit(|span| captured.add(span, &self.shape.reserved));
                captured.finish(&context, &self.shape.reserved)
            }),
        }
        scratch.give_back();
    }

    #[cfg(feature = "otel")]
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        self.end_span(&id, &ctx);
    }
}

/// Renders a line into the scratch's buffer, which is empty.
pub(crate) fn render<S>(
    shape: &Shape,
    scratch: &mut Scratch,
    head: &Head<'_>,
    around: Around<'_, S>,
    suppressed: u64,
) where
    S: for<'a> LookupSpan<'a>,
{
    let Scratch { fields, line, seen } = scratch;
    let mut walk = Walk::start(shape, line, seen, head, fields);
    let context = around.visit(|span| walk.span(span));
    walk.finish(&context, fields, suppressed);
}

/// The spans around an event.
pub(crate) struct Around<'a, S> {
    pub(crate) layer: u64,
    pub(crate) explicit_parent: bool,
    pub(crate) scope: Option<Scope<'a, S>>,
}

impl<S: for<'l> LookupSpan<'l>> Around<'_, S> {
    /// Shows the spans' fields, innermost first, and returns the context of the event. An event
    /// that names its parent belongs to the parent's work, not to the work in hand.
    fn visit(self, mut show: impl FnMut(&Fields)) -> infra_core::Context {
        let mut context = (!self.explicit_parent).then(context::current);
        for span in self.scope.into_iter().flatten() {
            let extensions = span.extensions();
            let store = extensions.get::<SpanStore>();
            if let Some(data) = store.and_then(|s| s.of(self.layer)) {
                show(&data.fields);
                context.get_or_insert_with(|| data.context.clone());
            }
        }
        context.unwrap_or_else(context::current)
    }
}

fn collector<'a>(fields: &'a mut Fields, rules: &'a Rules) -> Collector<'a> {
    Collector {
        fields,
        rules,
        from_log: false,
    }
}

/// Records an event; declared fields that got no value (`None`) are null.
fn record_event(fields: &mut Fields, event: &Event<'_>, rules: &Rules, from_log: bool) {
    event.record(&mut Collector {
        fields,
        rules,
        from_log,
    });
    let declared = event.metadata().fields();
    let recorded = fields.entries().len() + usize::from(fields.message.is_some());
    if from_log || recorded >= declared.len() {
        return;
    }
    for field in declared {
        if !fields.has(field.name()) {
            fields.push(field.name(), Stored::Null);
        }
    }
}

/// What a record of the `log` crate says of itself; its event is the same for all of them.
#[cfg(feature = "log")]
fn bridged<'a>(event: &'a Event<'_>) -> Option<Metadata<'a>> {
    use tracing_log::NormalizeEvent;
    event.normalized_metadata()
}

#[cfg(not(feature = "log"))]
fn bridged<'a>(_: &'a Event<'_>) -> Option<Metadata<'a>> {
    None
}
