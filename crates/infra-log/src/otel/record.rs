//! From events and spans to OTLP records, in the layer.

use infra_core::{Context, TraceParent, context};
use tracing_core::span::{Attributes, Id};
use tracing_core::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::queue::Signal;
use super::span::{SpanTrace, now};
use super::{Telemetry, is_muted, wire};
use crate::fields::{Fields, Value};
use crate::format::{Head, Walk};
use crate::layer::{Around, LogLayer, Scratch, SpanData, SpanStore, render};
use crate::time::Timestamp;

impl LogLayer {
    fn telemetry(&self) -> Option<&Telemetry> {
        self.telemetry.as_deref().filter(|_| !is_muted())
    }

    /// What is known of a span when it begins.
    pub(crate) fn begin_span<'a, S>(
        &self,
        attributes: &Attributes<'_>,
        span: &SpanRef<'a, S>,
        ctx: &'a LayerContext<'a, S>,
    ) -> Option<SpanTrace>
    where
        S: Subscriber + for<'l> LookupSpan<'l>,
    {
        let telemetry = self.telemetry()?;
        let explicit = attributes.parent().and_then(|id| ctx.span(id));
        let bound = explicit.is_none().then(context::current);
        let parent = match attributes.is_root() {
            true => None,
            false => explicit.or_else(|| span.parent()),
        };
        let above = self.trace_of(parent.as_ref(), bound.as_ref());
        Some(SpanTrace::begin(above, telemetry.threshold))
    }

    /// What work in this span and context belongs to; an explicit parent brings its own context.
    fn trace_of<S>(
        &self,
        span: Option<&SpanRef<'_, S>>,
        bound: Option<&Context>,
    ) -> Option<TraceParent>
    where
        S: for<'l> LookupSpan<'l>,
    {
        let extensions = span.map(SpanRef::extensions);
        let store = extensions.as_ref().and_then(|e| e.get::<SpanStore>());
        let data = store.and_then(|store| store.of(self.shape.id));
        innermost(data, bound)
    }

    /// Sends what was just written as a line. `scratch` has the fields of the event still.
    pub(crate) fn send_event<S>(
        &self,
        scratch: &mut Scratch,
        head: &Head<'_>,
        event: &Event<'_>,
        ctx: &LayerContext<'_, S>,
        suppressed: u64,
    ) where
        S: Subscriber + for<'l> LookupSpan<'l>,
    {
        let Some(telemetry) = self.telemetry() else {
            return;
        };
        let span = ctx.event_span(event);
        if head.level == Level::ERROR
            && let Some(span) = &span
        {
            self.mark_failed(span);
        }
        if !telemetry.logs {
            return;
        }
        let explicit_parent = event.parent().is_some();
        let bound = (!explicit_parent).then(context::current);
        let trace = self.trace_of(span.as_ref(), bound.as_ref());
        scratch.line.clear();
        scratch.seen.clear();
        let around = Around {
            layer: self.shape.id,
            explicit_parent,
            scope: ctx.event_scope(event),
        };
        render(&telemetry.log, scratch, head, around, suppressed);
        if let Some(trace) = trace {
            wire::fixed_32(&mut scratch.line, 8, trace.flags.into());
            wire::bytes(&mut scratch.line, 9, &trace.trace_id.to_be_bytes());
            wire::bytes(&mut scratch.line, 10, &trace.parent_id.to_be_bytes());
        }
        telemetry.push(Signal::Logs, head.target, scratch.line.clone());
    }

    fn mark_failed<S: for<'l> LookupSpan<'l>>(&self, span: &SpanRef<'_, S>) {
        let mut extensions = span.extensions_mut();
        let store = extensions.get_mut::<SpanStore>();
        let data = store.and_then(|store| store.of_mut(self.shape.id));
        if let Some(trace) = data.and_then(|data| data.trace.as_mut()) {
            trace.failed = true;
        }
    }

    /// Sends a span that has ended.
    pub(crate) fn end_span<S>(&self, id: &Id, ctx: &LayerContext<'_, S>)
    where
        S: Subscriber + for<'l> LookupSpan<'l>,
    {
        let Some(telemetry) = self.telemetry().filter(|telemetry| telemetry.spans) else {
            return;
        };
        let Some(span) = ctx.span(id) else { return };
        let extensions = span.extensions();
        let store = extensions.get::<SpanStore>();
        let Some(data) = store.and_then(|store| store.of(self.shape.id)) else {
            return;
        };
        if let Some(trace) = data.trace.as_ref().filter(|trace| trace.is_sampled()) {
            let record = telemetry.span_record(span.metadata(), data, trace);
            telemetry.push(Signal::Spans, span.metadata().target(), record);
        }
    }

    /// The span as the parent of others.
    pub(crate) fn trace_parent<S>(&self, span: &SpanRef<'_, S>) -> Option<TraceParent>
    where
        S: for<'l> LookupSpan<'l>,
    {
        let extensions = span.extensions();
        let data = extensions.get::<SpanStore>()?.of(self.shape.id)?;
        data.trace.as_ref().map(|trace| trace.own)
    }
}

/// The span, unless a trace parent was bound inside of it: that one is nearer then. Without a
/// bound context the span's own counts.
fn innermost(span: Option<&SpanData>, bound: Option<&Context>) -> Option<TraceParent> {
    let inside = bound.and_then(Context::traceparent);
    let Some(data) = span else {
        return inside.copied();
    };
    match inside {
        Some(inside) if data.context.traceparent() != Some(inside) => Some(*inside),
        _ => match &data.trace {
            Some(trace) => Some(trace.own),
            None => data.context.traceparent().copied(),
        },
    }
}

impl Telemetry {
    /// A `Span`.
    fn span_record(&self, metadata: &Metadata<'_>, data: &SpanData, trace: &SpanTrace) -> Vec<u8> {
        let (mut out, mut seen) = (Vec::new(), Vec::new());
        let (head, none) = (nothing(metadata), Fields::default());
        let mut walk = Walk::start(&self.span, &mut out, &mut seen, &head, &none);
        walk.span(&data.fields);
        walk.finish(&data.context, &none, 0);

        let said = |key: &str| text(&data.fields, key);
        wire::bytes(&mut out, 1, &trace.own.trace_id.to_be_bytes());
        wire::bytes(&mut out, 2, &trace.own.parent_id.to_be_bytes());
        if let Some(parent) = trace.parent {
            wire::bytes(&mut out, 4, &parent.to_be_bytes());
        }
        let name = said("otel.name").unwrap_or(metadata.name());
        wire::bytes(&mut out, 5, name.as_bytes());
        wire::number(&mut out, 6, kind(said("otel.kind").unwrap_or_default()));
        wire::fixed_64(&mut out, 7, trace.start);
        wire::fixed_64(&mut out, 8, now().max(trace.start));
        let status = match said("otel.status_code").unwrap_or_default() {
            status if status.eq_ignore_ascii_case("ok") => 1,
            status if status.eq_ignore_ascii_case("error") || trace.failed => 2,
            _ => 0,
        };
        if status > 0 {
            wire::nested(&mut out, 15, |out| wire::number(out, 3, status));
        }
        wire::fixed_32(&mut out, 16, trace.own.flags.into());
        out
    }
}

/// A span has no head.
fn nothing<'a>(metadata: &'a Metadata<'_>) -> Head<'a> {
    Head {
        time: Timestamp(0),
        level: *metadata.level(),
        target: metadata.target(),
    }
}

fn text<'a>(fields: &'a Fields, key: &str) -> Option<&'a str> {
    let (_, stored) = fields.entries().iter().find(|(name, _)| *name == key)?;
    match fields.value(stored) {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A `SpanKind`; internal unless the field `otel.kind` says otherwise.
fn kind(word: &str) -> u64 {
    let kinds = ["internal", "server", "client", "producer", "consumer"];
    let known = kinds.iter().position(|k| k.eq_ignore_ascii_case(word));
    known.map_or(1, |at| at as u64 + 1)
}
