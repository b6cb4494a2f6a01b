//! A log line beside those of the peers: same fields, same spans, no output.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use infra_core::context::{self, Context};
use infra_log::{Format, LogSettings, Output};
use tokio::runtime::Builder;
use tracing::{Dispatch, debug, dispatcher, info, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

use crate::harness::{Effort, Goal, Row, nanos_per_call, per_second, turns};
use peers::{Logforth, fmt_json, fmt_text, json_subscriber, logfmt};

mod peers;

const AREA: &str = "log";
const FMT_JSON: &str = "tracing-subscriber, JSON flattened";
const JSON_SUBSCRIBER: &str = "json-subscriber, flattened";

/// What a line, a span, a context and a writer cost.
pub(crate) fn run(effort: Effort) -> Vec<Row> {
    let mut rows = lines(effort);
    rows.extend(logfmt_lines(effort));
    rows.push(beside_logforth(effort));
    rows.push(spans(effort));
    rows.push(disabled(effort));
    rows.extend(contexts(effort));
    rows.push(writers(effort));
    rows
}

fn ours(settings: LogSettings) -> Option<(Dispatch, infra_log::LogHandle)> {
    let (layer, handle) = settings.build().ok()?;
    Some((Dispatch::new(registry().with(layer)), handle))
}

fn ours_to_nowhere(format: Format) -> Dispatch {
    let settings = LogSettings::new()
        .format(format)
        .output(Output::Custom(Box::new(io::sink())));
    ours(settings).map_or_else(Dispatch::none, |(dispatch, _)| dispatch)
}

fn event() {
    info!(
        price = black_box(101.25),
        qty = black_box(3u64),
        side = black_box("buy"),
        "order sent"
    );
}

/// An event of 3 fields in so many spans of 2 fields each.
fn in_spans(dispatch: &Dispatch, spans: usize, calls: usize) -> f64 {
    dispatcher::with_default(dispatch, || {
        let outer = (spans > 0).then(|| info_span!("execution", run = "run-1", node = 4).entered());
        let inner = (spans > 1).then(|| info_span!("node", name = "risk", attempt = 1).entered());
        let nanos = nanos_per_call(calls, event);
        drop((inner, outer));
        nanos
    })
}

fn context_of_two() -> Context {
    Context::empty()
        .bind("bot_id", "bot_001")
        .bind("strategy", "arb")
}

/// Ours has two context keys on top, which the peers cannot have.
fn lines(effort: Effort) -> Vec<Row> {
    let calls = effort.operations(50_000);
    let ours = ours_to_nowhere(Format::Json);
    let context = context_of_two();
    let mut rows = Vec::new();
    for (peer, name, goal) in [
        (fmt_json(), FMT_JSON, 0.25),
        (json_subscriber(), JSON_SUBSCRIBER, 0.5),
    ] {
        for spans in [1, 2] {
            let our_turn = || context.clone().sync_scope(|| in_spans(&ours, spans, calls));
            let measured = turns(effort, our_turn, || in_spans(&peer, spans, calls));
            let what = format!("JSON line of 3 fields, {spans} span(s) of 2, context of 2");
            let row = Row::pair(AREA, what, "ns").against(name);
            rows.push(row.goal(Goal::AtMost(goal)).of(&measured));
        }
    }
    rows
}

/// Ours has two context keys on top here too.
fn logfmt_lines(effort: Effort) -> Vec<Row> {
    let calls = effort.operations(50_000);
    let (ours, peer) = (ours_to_nowhere(Format::Logfmt), logfmt());
    let context = context_of_two();
    let row = |spans| {
        let our_turn = || context.clone().sync_scope(|| in_spans(&ours, spans, calls));
        let measured = turns(effort, our_turn, || in_spans(&peer, spans, calls));
        let what = format!("logfmt line of 3 fields, {spans} span(s) of 2, context of 2");
        let row = Row::pair(AREA, what, "ns").against("tracing-logfmt");
        row.goal(Goal::Report).of(&measured)
    };
    [1, 2].map(row).into()
}

/// The peer knows no spans; its context is a set of diagnostics that is fixed when it starts.
fn beside_logforth(effort: Effort) -> Row {
    let calls = effort.operations(50_000);
    let (ours, peer) = (ours_to_nowhere(Format::Json), Logforth::new());
    let context = context_of_two();
    let our_turn = || context.clone().sync_scope(|| in_spans(&ours, 0, calls));
    let measured = turns(effort, our_turn, || {
        nanos_per_call(calls, || peer.event(101.25, 3, "buy"))
    });
    Row::pair(AREA, "JSON line of 3 fields, no span, context of 2", "ns")
        .against("logforth, JSON")
        .goal(Goal::Report)
        .note("logforth has no spans, and nests fields and context instead of flattening them")
        .of(&measured)
}

fn spans(effort: Effort) -> Row {
    let calls = effort.operations(50_000);
    let (ours, peer) = (ours_to_nowhere(Format::Json), fmt_text());
    let open_and_close = |dispatch: &Dispatch| {
        dispatcher::with_default(dispatch, || {
            nanos_per_call(calls, || {
                let _in = info_span!("execution", run = black_box("run-1"), node = 4).entered();
            })
        })
    };
    let measured = turns(effort, || open_and_close(&ours), || open_and_close(&peer));
    Row::pair(AREA, "span of 2 fields opened and closed", "ns")
        .against("tracing-subscriber, text")
        .goal(Goal::AtMost(1.0))
        .of(&measured)
}

fn disabled(effort: Effort) -> Row {
    let calls = effort.operations(5_000_000);
    let code = || nanos_per_call(calls, || debug!(price = black_box(1.5), "disabled"));
    let measured: Vec<f64> = (0..effort.rounds()).map(|_| code()).collect();
    Row::own(AREA, "disabled event", "ns", Goal::AtMost(1.5), &measured)
        .note("tracing without a subscriber takes 0.3 to 0.5 ns")
}

fn contexts(effort: Effort) -> Vec<Row> {
    // One thread: what waking another one costs would hide the difference.
    let Ok(runtime) = Builder::new_current_thread().build() else {
        return Vec::new();
    };
    let calls = effort.operations(1_000_000);
    let context = Context::new().bind("bot_id", "bot_001");
    let bind = || {
        nanos_per_call(calls, || {
            context.bind("day", 3).sync_scope(|| black_box(()));
        })
    };
    let bound: Vec<f64> = (0..effort.rounds()).map(|_| bind()).collect();
    let tasks = effort.operations(100_000);
    let spawned = turns(
        effort,
        || runtime.block_on(context.clone().scope(spawn_ours(tasks))),
        || runtime.block_on(spawn_bare(tasks)),
    );
    let over: Vec<f64> = spawned.iter().map(|(ours, bare)| ours - bare).collect();
    let goal = Goal::AtMost;
    vec![
        Row::own(
            AREA,
            "bind a field and enter the scope",
            "ns",
            goal(150.0),
            &bound,
        ),
        Row::own(
            AREA,
            "spawn with context beyond tokio::spawn",
            "ns",
            goal(60.0),
            &over,
        ),
    ]
}

async fn spawn_ours(tasks: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..tasks {
        let _ = context::spawn(async { black_box(()) }).await;
    }
    start.elapsed().as_nanos() as f64 / tasks as f64
}

#[expect(clippy::disallowed_methods, reason = "this is the peer")]
async fn spawn_bare(tasks: usize) -> f64 {
    let start = Instant::now();
    for _ in 0..tasks {
        let _ = tokio::spawn(async { black_box(()) }).await;
    }
    start.elapsed().as_nanos() as f64 / tasks as f64
}

const THREADS: usize = 8;

fn writers(effort: Effort) -> Row {
    let lines = effort.operations(20_000);
    let measured = turns(
        effort,
        || through_file(lines, true),
        || through_file(lines, false),
    );
    Row::pair(AREA, "8 threads through the queue", "lines/s")
        .against("the direct writer")
        .goal(Goal::AtLeast(1.0))
        .note("to the null device; the queue holds all lines, none is dropped")
        .of(&measured)
}

/// Lines per second that were written, of so many lines a thread.
fn through_file(lines: usize, queued: bool) -> f64 {
    let Ok(null) = File::options().write(true).open("/dev/null") else {
        return f64::NAN;
    };
    let settings = LogSettings::new().format(Format::Json);
    let settings = settings.output(Output::Custom(Box::new(null)));
    let settings = match queued {
        true => settings.queue_bytes(THREADS * lines * 256),
        false => settings,
    };
    let Some((dispatch, handle)) = ours(settings) else {
        return f64::NAN;
    };
    let done = per_second(THREADS * lines, || {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let dispatch = dispatch.clone();
                let log = move || (0..lines).for_each(|_| event());
                scope.spawn(move || dispatcher::with_default(&dispatch, log));
            }
        });
        let _ = handle.flush(Duration::from_secs(60));
    });
    match handle.dropped() {
        0 => done,
        _ => f64::NAN,
    }
}
