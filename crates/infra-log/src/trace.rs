//! Spans as trace parents of what other processes do.

use infra_core::{TraceParent, context};
use tracing::{Instrument, Span};

/// Runs a future in a span, with the span as the trace parent in the
/// [context](infra_core::context): events that are published from inside carry it to other
/// processes, and lines show it.
///
/// Where no collector was set up (see `LogSettings::otel`), the trace parent stays as it is.
///
/// ```
/// use infra_core::context;
/// use tracing::info_span;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// infra_log::traced(info_span!("order", symbol = "BTC"), async {
///     let header = context::current().traceparent().map(ToString::to_string);
///     // Send the order, with the header `traceparent` if there is one.
/// })
/// .await;
/// # }
/// ```
pub fn traced<F: Future>(span: Span, future: F) -> impl Future<Output = F::Output> {
    let mut context = context::current();
    if let Some(parent) = trace_parent(&span) {
        context = context.with_traceparent(parent);
    }
    context.scope(future.instrument(span))
}

/// The span as the W3C trace parent of others, to be sent along with a request.
///
/// `None` for a span that is disabled, where no collector was set up, and for a subscriber that is
/// not built on [`tracing_subscriber::registry()`].
pub fn trace_parent(span: &Span) -> Option<TraceParent> {
    span.with_subscriber(|(id, dispatch)| ids(id, dispatch))?
}

#[cfg(feature = "otel")]
fn ids(id: &tracing::Id, dispatch: &tracing::Dispatch) -> Option<TraceParent> {
    use tracing_subscriber::registry::{LookupSpan, Registry};
    let layer = dispatch.downcast_ref::<crate::layer::LogLayer>()?;
    let registry = dispatch.downcast_ref::<Registry>()?;
    layer.trace_parent(&registry.span(id)?)
}

#[cfg(not(feature = "otel"))]
fn ids(_: &tracing::Id, _: &tracing::Dispatch) -> Option<TraceParent> {
    None
}
