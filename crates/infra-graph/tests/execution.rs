//! What one execution does: order, inputs, retries, limits, breakers, gates, events.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use infra_core::{TokioClock, context};
use infra_emergency::{Action, Clear, EmergencyController, Hold, Level, Scope};
use infra_events::EventBus;
use infra_graph::{
    Error, ErrorKind, GraphRuntime, NodeError, NodeOptions, RuntimeBuilder, Status, StrategyGraph,
    node_fn,
};
use infra_resilience::{BreakerConfig, Retry};
use serde_json::{Value, json};

/// A node that fails `failures` times with an error of this kind before it succeeds.
fn flaky(failures: u32, error: fn() -> NodeError) -> (impl infra_graph::Node, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let node = node_fn(move |_| {
        let call = counted.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if call <= failures {
                Err(error())
            } else {
                Ok(json!(call))
            }
        }
    });
    (node, calls)
}

fn single(node: impl infra_graph::Node + 'static, options: NodeOptions) -> RuntimeBuilder {
    let graph = StrategyGraph::builder("g")
        .node_with("n", node, options)
        .build()
        .unwrap();
    GraphRuntime::builder(graph).clock(TokioClock::shared())
}

fn kind(result: Result<infra_graph::Execution, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn nodes_see_the_inputs_and_what_their_predecessors_returned() {
    let graph = StrategyGraph::builder("g")
        .node(
            "sum",
            node_fn(|cx| async move { Ok(json!(cx.output::<i64>("a")? + cx.output::<i64>("b")?)) }),
        )
        .node(
            "a",
            node_fn(|cx| async move { Ok(json!(cx.input::<i64>("n")? + 1)) }),
        )
        .node(
            "b",
            node_fn(|cx| async move { Ok(json!(cx.inputs()["n"].as_i64().unwrap() * 2)) }),
        )
        .edge("a", "sum")
        .edge("b", "sum")
        .build()
        .unwrap();
    let runtime = GraphRuntime::builder(graph).build().unwrap();
    let execution = runtime.execute(json!({"n": 10})).await.unwrap();
    assert_eq!(execution.status(), Status::Completed);
    assert_eq!(execution.output::<i64>("sum").unwrap(), 31);
}

#[tokio::test(start_paused = true)]
async fn independent_nodes_run_side_by_side_up_to_the_limit() {
    let build = |concurrency| {
        let slow = || {
            node_fn(|_| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(Value::Null)
            })
        };
        let graph = StrategyGraph::builder("g");
        let graph = graph
            .node("a", slow())
            .node("b", slow())
            .node("c", slow())
            .node("d", slow());
        let runtime = GraphRuntime::builder(graph.build().unwrap());
        runtime.concurrency(concurrency).build().unwrap()
    };
    for (limit, seconds) in [(1, 4), (2, 2), (16, 1)] {
        let began = tokio::time::Instant::now();
        let _done = build(limit).execute(Value::Null).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(seconds));
    }
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_retried_and_permanent_ones_are_not() {
    let retry = Retry::exponential().max_attempts(3).build().unwrap();
    let (node, calls) = flaky(2, || NodeError::transient("busy"));
    let runtime = single(node, NodeOptions::new().retry(retry.clone()))
        .build()
        .unwrap();
    assert_eq!(
        runtime
            .execute(Value::Null)
            .await
            .unwrap()
            .output::<u32>("n")
            .unwrap(),
        3
    );
    assert_eq!(calls.load(Ordering::Relaxed), 3);

    let (node, calls) = flaky(2, || NodeError::permanent("wrong"));
    let runtime = single(node, NodeOptions::new())
        .retry(retry)
        .build()
        .unwrap();
    assert_eq!(
        kind(runtime.execute(Value::Null).await),
        ErrorKind::NodeFailed
    );
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_repeated_only_where_that_is_harmless() {
    let retry = Retry::exponential().max_attempts(3).build().unwrap();
    for (idempotent, expected) in [(true, 2), (false, 1)] {
        let (node, calls) = flaky(1, || NodeError::unknown("no answer"));
        let options = NodeOptions::new()
            .retry(retry.clone())
            .idempotent(idempotent);
        let _ = single(node, options)
            .build()
            .unwrap()
            .execute(Value::Null)
            .await;
        assert_eq!(calls.load(Ordering::Relaxed), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_cut_off_at_its_limit() {
    let hangs = node_fn(|_| std::future::pending());
    let options = NodeOptions::new().timeout(Duration::from_secs(3));
    let runtime = single(hangs, options).build().unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(
        kind(runtime.execute(Value::Null).await),
        ErrorKind::NodeTimeout
    );
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_panic_fails_the_execution_and_nothing_else() {
    let panics = node_fn(|_| async { panic!("at the disco") });
    let runtime = single(panics, NodeOptions::new()).build().unwrap();
    let error = runtime.execute(Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NodePanicked);
    assert!(
        error
            .to_string()
            .ends_with("node 'n': the node panicked: at the disco"),
        "{error}"
    );
}

#[tokio::test]
async fn an_open_breaker_keeps_the_node_from_being_called() {
    let (node, calls) = flaky(99, || NodeError::transient("down"));
    let breaker = BreakerConfig::default().consecutive_failures(2);
    let runtime = single(node, NodeOptions::new())
        .breaker(breaker)
        .build()
        .unwrap();
    let kinds = [
        kind(runtime.execute(Value::Null).await),
        kind(runtime.execute(Value::Null).await),
        kind(runtime.execute(Value::Null).await),
    ];
    use ErrorKind::{BreakerOpen, NodeFailed};
    assert_eq!(kinds, [NodeFailed, NodeFailed, BreakerOpen]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(runtime.breaker("n").unwrap().name(), "node:g/n");
}

#[tokio::test]
async fn a_halt_stops_before_the_node_it_forbids_and_the_execution_can_go_on_later() {
    let emergency = EmergencyController::new();
    let (order, orders) = flaky(0, || NodeError::permanent("never"));
    let graph = StrategyGraph::builder("g")
        .node_with(
            "price",
            node_fn(|_| async { Ok(json!(7)) }),
            NodeOptions::new().action(Action::Query),
        )
        .node("order", order)
        .edge("price", "order")
        .build()
        .unwrap();
    let runtime = GraphRuntime::builder(graph)
        .emergency(emergency.clone())
        .bot("b1")
        .build()
        .unwrap();

    let hold = emergency.raise(
        Hold::new(Level::Halt)
            .scope(Scope::bot("b1"))
            .actor("risk")
            .reason("loss"),
    );
    let halted = runtime.execute_with_id("e1", Value::Null).await.unwrap();
    assert_eq!(halted.status(), Status::Halted);
    assert_eq!(halted.nodes_completed().collect::<Vec<_>>(), ["price"]);
    assert_eq!(halted.completed().unwrap_err().kind(), ErrorKind::Halted);
    assert_eq!(
        runtime.checkpoint("e1").await.unwrap().unwrap().status,
        Status::Halted
    );
    assert_eq!(orders.load(Ordering::Relaxed), 0);

    emergency
        .clear(Clear::ids([hold]).actor("operator").reason("seen"))
        .unwrap();
    assert_eq!(
        runtime.resume("e1").await.unwrap().status(),
        Status::Completed
    );
    assert_eq!(orders.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_halt_between_two_attempts_stops_the_second() {
    let emergency = EmergencyController::new();
    let raise = emergency.clone();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let node = node_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        raise.raise(Hold::new(Level::Halt).actor("risk").reason("loss"));
        async { Err(NodeError::transient("busy")) }
    });
    let retry = Retry::exponential().max_attempts(5).build().unwrap();
    let runtime = single(node, NodeOptions::new())
        .retry(retry)
        .emergency(emergency)
        .build()
        .unwrap();
    assert_eq!(
        runtime.execute(Value::Null).await.unwrap().status(),
        Status::Halted
    );
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn each_node_is_published_under_the_id_of_the_execution() {
    let bus = EventBus::memory();
    let mut events = bus.stream("node_execution:arb").await.unwrap();
    let node = node_fn(|_| async { Ok(json!({"side": "buy"})) });
    let runtime = single(node, NodeOptions::new())
        .events(bus.clone())
        .strategy("arb")
        .build()
        .unwrap();
    let _done = runtime.execute_with_id("run/1", Value::Null).await.unwrap();
    let event = events.next().await.unwrap();
    assert_eq!(event.correlation_id(), "run/1");
    let data: Value = event.json().unwrap();
    assert_eq!(data["node_id"], "n");
    assert_eq!(data["status"], "completed");
    assert_eq!(data["outputs"], json!({"side": "buy"}));
    assert_eq!(
        (&data["graph_id"], &data["attempts"]),
        (&json!("g"), &json!(1))
    );
    assert!(data["duration_ms"].is_f64());
}

#[tokio::test]
async fn a_lost_event_is_counted_and_fails_nothing() {
    let bus = EventBus::memory();
    bus.close().await.unwrap();
    let runtime = single(node_fn(|_| async { Ok(Value::Null) }), NodeOptions::new());
    let execution = runtime
        .events(bus)
        .build()
        .unwrap()
        .execute(Value::Null)
        .await
        .unwrap();
    assert_eq!(
        (execution.status(), execution.events_lost()),
        (Status::Completed, 1)
    );
}

#[tokio::test]
async fn the_context_names_execution_graph_bot_and_strategy_and_keeps_the_cause() {
    let seen = Arc::new(Mutex::new(context::Context::empty()));
    let slot = seen.clone();
    let node = node_fn(move |_| {
        let slot = slot.clone();
        async move {
            *slot.lock().unwrap() = context::current();
            Ok(Value::Null)
        }
    });
    let runtime = single(node, NodeOptions::new())
        .bot("b1")
        .strategy("s1")
        .build()
        .unwrap();
    let outer = context::Context::empty()
        .with_correlation_id("request-7".parse().unwrap())
        .bind("user", "ada");
    let _done = outer
        .scope(runtime.execute_with_id("e7", Value::Null))
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.correlation_id().unwrap().as_str(), "e7");
    assert_eq!(seen.causation_id().unwrap().as_str(), "request-7");
    for (key, value) in [
        ("execution_id", "e7"),
        ("graph_id", "g"),
        ("bot_id", "b1"),
        ("strategy_id", "s1"),
        ("user", "ada"),
    ] {
        assert_eq!(seen.get(key).unwrap().to_string(), value);
    }
    assert!(context::current().is_empty());
}
