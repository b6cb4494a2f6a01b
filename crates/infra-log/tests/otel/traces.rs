//! Spans, and the W3C trace context that comes from and goes to other processes.

use infra_core::TraceParent;
use infra_core::context::{self, Context};
use infra_log::{LogSettings, trace_parent, traced};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tracing::{debug_span, error, info, info_span, warn};

use super::receiver::{Receiver, SOON, attribute, text};
use super::{collector, json, logged, received};

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parent() -> TraceParent {
    HEADER.parse().unwrap()
}

fn span<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

#[test]
fn a_span_has_name_ids_times_fields_context_kind_and_status() {
    let receiver = received(json(), || {
        context::bind("bot", "a").sync_scope(|| {
            let outer = info_span!("execution", run = "run-1", otel.kind = "server", n = 1);
            outer.record("n", 2);
            let _outer = outer.entered();
            info_span!("good", otel.status_code = "ok").in_scope(|| info!("inside"));
            info_span!("bad").in_scope(|| error!("failed"));
            let _below_the_level = debug_span!("hidden").entered();
            info_span!("named", otel.name = "other").in_scope(|| warn!("w"));
        });
    });
    let spans = receiver.spans();
    assert_eq!(spans.len(), 4);
    let outer = span(&spans, "execution");
    assert_eq!((outer.kind, outer.parent_span_id.len()), (2, 0));
    assert_eq!(attribute(&outer.attributes, "run"), text("run-1"));
    assert_eq!(attribute(&outer.attributes, "n"), Some(Value::IntValue(2)));
    assert_eq!(attribute(&outer.attributes, "bot"), text("a"));
    assert!(outer.end_time_unix_nano >= outer.start_time_unix_nano);
    assert!(outer.start_time_unix_nano > 1_700_000_000_000_000_000);
    for name in ["good", "bad", "other"] {
        let inner = span(&spans, name);
        assert_eq!(inner.parent_span_id, outer.span_id, "{name}");
        assert_eq!((&inner.trace_id, inner.kind), (&outer.trace_id, 1));
    }
    let status = |name| span(&spans, name).status.clone().map(|status| status.code);
    assert_eq!((status("good"), status("bad")), (Some(1), Some(2)));
    assert_eq!((status("other"), status("execution")), (None, None));
    let logs = receiver.logs();
    let (_, inside) = logs
        .iter()
        .find(|(_, r)| super::receiver::body(r) == "inside")
        .unwrap();
    assert_eq!(inside.span_id, span(&spans, "good").span_id);
    assert_eq!(inside.trace_id, outer.trace_id);
}

#[test]
fn a_foreign_trace_parent_is_the_parent_of_the_spans_under_it() {
    let receiver = received(json(), || {
        let _serving = info_span!("serving").entered();
        Context::empty().with_traceparent(parent()).sync_scope(|| {
            let _request = info_span!("request").entered();
            info_span!("step").in_scope(|| {});
            info_span!(parent: None, "root").in_scope(|| {});
        });
        info_span!("next").in_scope(|| {});
    });
    let spans = receiver.spans();
    let trace_id = parent().trace_id.to_be_bytes();
    let parent_id = parent().parent_id.to_be_bytes();
    let request = span(&spans, "request");
    assert_eq!(
        (&request.trace_id[..], &request.parent_span_id[..]),
        (&trace_id[..], &parent_id[..])
    );
    assert_eq!(span(&spans, "step").parent_span_id, request.span_id);
    assert_eq!(span(&spans, "root").parent_span_id, parent_id);
    let serving = span(&spans, "serving");
    assert_ne!(serving.trace_id, trace_id);
    assert_eq!(span(&spans, "next").parent_span_id, serving.span_id);
}

#[test]
fn trap_12_an_explicit_parent_decides_the_trace() {
    let receiver = received(json(), || {
        let theirs = Context::empty()
            .with_traceparent(parent())
            .sync_scope(|| info_span!("theirs"));
        let _mine = info_span!("mine").entered();
        info_span!(parent: &theirs, "below").in_scope(|| {});
        info!(parent: &theirs, "line");
    });
    let spans = receiver.spans();
    let theirs = span(&spans, "theirs");
    assert_eq!(span(&spans, "below").parent_span_id, theirs.span_id);
    assert_eq!(receiver.logs()[0].1.span_id, theirs.span_id);
    assert_ne!(span(&spans, "mine").trace_id, theirs.trace_id);
}

#[test]
fn traced_work_hands_its_span_to_other_processes_and_tasks() {
    let mut header = None;
    let receiver = received(json(), || {
        runtime().block_on(traced(info_span!("order"), async {
            header = context::current().traceparent().copied();
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let task = async move {
                let _in = tracing::dispatcher::set_default(&dispatch);
                info_span!("task").in_scope(|| {});
            };
            context::spawn(task).await.unwrap();
            tokio::task::yield_now().await;
            info_span!("step").in_scope(|| {});
        }));
        // Another process gets the text of the header.
        let header: TraceParent = header.unwrap().to_string().parse().unwrap();
        Context::new().with_traceparent(header).sync_scope(|| {
            info_span!("consumed").in_scope(|| {});
        });
    });
    let spans = receiver.spans();
    let order = span(&spans, "order");
    for name in ["task", "step", "consumed"] {
        let below = span(&spans, name);
        assert_eq!(below.parent_span_id, order.span_id, "{name}");
        assert_eq!(below.trace_id, order.trace_id, "{name}");
    }
    let header = header.unwrap();
    assert_eq!(order.trace_id, header.trace_id.to_be_bytes());
    assert_eq!((order.flags, header.flags), (1, 1));
}

#[test]
fn a_decision_not_to_sample_is_followed_and_passed_on_and_logs_are_sent_all_the_same() {
    let receiver = received(json(), || {
        let unsampled = TraceParent {
            flags: 0,
            ..parent()
        };
        Context::empty().with_traceparent(unsampled).sync_scope(|| {
            let span = info_span!("request");
            assert_eq!(trace_parent(&span).unwrap().flags, 0);
            span.in_scope(|| info!("line"));
        });
    });
    assert_eq!((receiver.spans().len(), receiver.logs().len()), (0, 1));
    let settings = |receiver: &Receiver| collector(&receiver.url()).sampled(0.0);
    let receiver = Receiver::start();
    logged(json(), settings(&receiver), |handle| {
        info_span!("new").in_scope(|| info!("line"));
        Context::empty().with_traceparent(parent()).sync_scope(|| {
            info_span!("sampled elsewhere").in_scope(|| {});
        });
        handle.flush(SOON).unwrap();
    });
    assert_eq!((receiver.spans().len(), receiver.logs().len()), (1, 1));
}

#[test]
fn each_signal_can_be_switched_off() {
    for (logs, spans) in [(true, false), (false, true)] {
        let receiver = Receiver::start();
        let settings = collector(&receiver.url()).logs(logs).spans(spans);
        logged(json(), settings, |handle| {
            info_span!("span").in_scope(|| info!("line"));
            handle.flush(SOON).unwrap();
        });
        let came = (receiver.logs().len(), receiver.spans().len());
        assert_eq!(came, (usize::from(logs), usize::from(spans)));
    }
}

#[test]
fn without_a_collector_traced_keeps_the_trace_parent_as_it_is() {
    use tracing_subscriber::layer::SubscriberExt;
    let (layer, _handle) = LogSettings::new().build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let context = Context::empty().with_traceparent(parent());
        let work = traced(info_span!("order"), async { context::current() });
        assert_eq!(trace_parent(&info_span!("other")), None);
        drop(work);
        let seen = context.sync_scope(|| {
            let work = traced(info_span!("order"), async { context::current() });
            runtime().block_on(work)
        });
        assert_eq!(seen.traceparent(), Some(&parent()));
    });
}
