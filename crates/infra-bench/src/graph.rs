//! One execution of a graph that does nothing, with all that surrounds it.

use std::time::Instant;

use infra_emergency::EmergencyController;
use infra_events::EventBus;
use infra_graph::{GraphRuntime, StrategyGraph, node_fn};
use infra_state::StateStore;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{Effort, Goal, Row};
use crate::load::must;

const AREA: &str = "graph";
const NODES: [&str; 5] = ["price", "signal", "risk", "order", "fill"];

/// Five no-op nodes in a chain on memory: gate, breaker, checkpoint, event and log of each included.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let executions = effort.operations(10_000);
    let micros: Vec<f64> = (0..effort.rounds())
        .map(|_| runtime.block_on(execute(executions)))
        .collect();
    vec![
        Row::own(
            AREA,
            "execution of 5 no-op nodes on memory",
            "µs",
            Goal::AtMost(50.0),
            &micros,
        )
        .note("checkpoints, events and JSON logs at INFO included; one execution at a time"),
    ]
}

async fn execute(executions: usize) -> f64 {
    let graph = NODES
        .iter()
        .fold(StrategyGraph::builder("bench"), |graph, name| {
            graph.node(*name, node_fn(|_| async { Ok(Value::Null) }))
        });
    let graph = must(graph.chain(NODES).build());
    let events = EventBus::memory();
    let runtime = GraphRuntime::builder(graph)
        .state(StateStore::memory())
        .events(events.clone())
        .emergency(EmergencyController::new())
        .bot("bot_001")
        .strategy("bench")
        .build();
    let runtime = must(runtime);
    let start = Instant::now();
    for _ in 0..executions {
        let execution = must(runtime.execute(json!({"close": 101.5})).await);
        let _ = must(execution.completed());
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / executions as f64;
    let _ = events.close().await;
    micros
}
