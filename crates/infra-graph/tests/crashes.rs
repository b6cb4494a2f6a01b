//! Any graph, cut off at any node, any number of times: a resume completes it, and what had
//! completed before is never run again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infra_graph::{Error, Execution, GraphRuntime, Status, StrategyGraph, node_fn};
use infra_state::StateStore;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A graph of `size` nodes whose edges all lead from a lower to a higher number.
#[derive(Debug, Clone)]
struct Plan {
    size: usize,
    edges: Vec<(usize, usize)>,
    concurrency: usize,
    /// At which calls of nodes, counted over all processes, the process dies.
    crashes: Vec<u32>,
}

fn plans() -> impl Strategy<Value = Plan> {
    (1usize..8).prop_flat_map(|size| {
        let edges = proptest::collection::vec((0..size, 0..size), 0..size * 2);
        let crashes = proptest::collection::vec(1u32..20, 0..4);
        (edges, 1usize..4, crashes).prop_map(move |(edges, concurrency, crashes)| Plan {
            size,
            edges: edges.into_iter().filter(|(from, to)| from < to).collect(),
            concurrency,
            crashes,
        })
    })
}

struct World {
    plan: Plan,
    state: StateStore,
    calls: Arc<AtomicU32>,
    per_node: Arc<Mutex<Vec<u32>>>,
}

impl World {
    fn process(&self) -> GraphRuntime {
        let mut graph = StrategyGraph::builder("any");
        for number in 0..self.plan.size {
            let (calls, per_node) = (self.calls.clone(), self.per_node.clone());
            let crashes = self.plan.crashes.clone();
            let node = node_fn(move |_| {
                per_node.lock().unwrap()[number] += 1;
                let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
                let crashes = crashes.contains(&call);
                async move {
                    if crashes {
                        std::future::pending::<()>().await;
                    }
                    tokio::task::yield_now().await;
                    Ok(json!(number))
                }
            });
            graph = graph.node(format!("n{number}"), node);
        }
        for (from, to) in &self.plan.edges {
            graph = graph.edge(format!("n{from}"), format!("n{to}"));
        }
        GraphRuntime::builder(graph.build().unwrap())
            .state(self.state.clone())
            .concurrency(self.plan.concurrency)
            .timeout(Duration::from_secs(3600))
            .build()
            .unwrap()
    }

    /// A process that runs until it is done or dies.
    async fn live(&self) -> Option<Result<Execution, Error>> {
        let process = self.process();
        let execution = process.execute_or_resume("e", Value::Null);
        tokio::time::timeout(Duration::from_secs(1), execution)
            .await
            .ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_graph_completes_after_any_crashes(plan in plans()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let deaths = plan.crashes.len();
            let world = World {
                state: StateStore::memory(),
                calls: Arc::default(),
                per_node: Arc::new(Mutex::new(vec![0; plan.size])),
                plan,
            };
            let mut done = None;
            for _ in 0..=deaths {
                let before = world.per_node.lock().unwrap().clone();
                let stored = world.process().checkpoint("e").await.unwrap();
                done = world.live().await;
                let after = world.per_node.lock().unwrap().clone();
                for node in stored.map(|s| s.nodes_completed).unwrap_or_default() {
                    let number: usize = node[1..].parse().unwrap();
                    assert_eq!(before[number], after[number], "{node} ran again");
                }
                if done.is_some() {
                    break;
                }
            }
            let execution = done.expect("must complete").unwrap();
            assert_eq!(execution.status(), Status::Completed);
            for number in 0..world.plan.size {
                assert_eq!(execution.output::<usize>(&format!("n{number}")).unwrap(), number);
            }
        });
    }
}
