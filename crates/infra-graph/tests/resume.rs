//! What is stored, and what happens with it after a crash.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use infra_core::{Classify, Outcome};
use infra_graph::{
    ErrorKind, GraphRuntime, Node, NodeError, NodeOptions, Resolution, Status, StrategyGraph,
    node_fn,
};
use infra_state::{StateStore, TtlState};
use serde_json::{Value, json};

/// `price -> order -> fill`, where `order` waits for ever while `hangs` is set: a crash is the
/// dropped future of an execution.
struct World {
    state: StateStore,
    hangs: Arc<AtomicBool>,
    calls: Arc<[AtomicU32; 3]>,
    order: NodeOptions,
}

impl World {
    fn new(order: NodeOptions) -> Self {
        World {
            state: StateStore::memory(),
            hangs: Arc::new(AtomicBool::new(false)),
            calls: Arc::default(),
            order,
        }
    }

    /// A runtime as a new process would build it, over the same state.
    fn process(&self) -> GraphRuntime {
        let step = |number: usize, hangs: Arc<AtomicBool>| {
            let calls = self.calls.clone();
            node_fn(move |_| {
                let (calls, hangs) = (calls.clone(), hangs.clone());
                async move {
                    calls[number].fetch_add(1, Ordering::Relaxed);
                    if hangs.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    Ok(json!({"step": number}))
                }
            })
        };
        let graph = StrategyGraph::builder("day")
            .node("price", step(0, Arc::default()))
            .node_with("order", step(1, self.hangs.clone()), self.order.clone())
            .node("fill", step(2, Arc::default()))
            .chain(["price", "order", "fill"])
            .build()
            .unwrap();
        let runtime = GraphRuntime::builder(graph).state(self.state.clone());
        runtime.bot("b1").strategy("s1").build().unwrap()
    }

    /// An execution that is killed while `order` is in progress.
    async fn crash_in_order(&self, id: &str) {
        self.hangs.store(true, Ordering::Relaxed);
        let process = self.process();
        let execution = process.execute_with_id(id, json!({"day": 1}));
        let cut = tokio::time::timeout(Duration::from_secs(1), execution).await;
        assert!(cut.is_err(), "the execution must hang in `order`");
        self.hangs.store(false, Ordering::Relaxed);
    }

    fn calls(&self) -> [u32; 3] {
        std::array::from_fn(|n| self.calls[n].load(Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn resume_goes_on_after_the_last_completed_node() {
    let world = World::new(NodeOptions::new());
    world.crash_in_order("e1").await;
    let before = world.process().checkpoint("e1").await.unwrap().unwrap();
    assert_eq!(
        (before.status, &*before.nodes_completed),
        (Status::Running, &["price".to_owned()][..])
    );

    let execution = world.process().resume("e1").await.unwrap();
    assert_eq!(execution.status(), Status::Completed);
    assert_eq!(world.calls(), [1, 2, 1]);

    let after = world.process().checkpoint("e1").await.unwrap().unwrap();
    assert_eq!(after.status, Status::Completed);
    assert_eq!(after.nodes_completed, ["price", "order", "fill"]);
    assert_eq!(
        (after.started_at, after.inputs),
        (before.started_at, json!({"day": 1}))
    );
}

#[tokio::test(start_paused = true)]
async fn a_completed_execution_is_returned_and_not_run_again() {
    let world = World::new(NodeOptions::new());
    let first = world
        .process()
        .execute_with_id("e1", Value::Null)
        .await
        .unwrap();
    let again = world
        .process()
        .execute_or_resume("e1", Value::Null)
        .await
        .unwrap();
    assert_eq!(again.status(), Status::Completed);
    assert_eq!(first.output_value("fill"), again.output_value("fill"));
    assert_eq!(world.calls(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_idempotent_is_reported_and_never_repeated() {
    let world = World::new(NodeOptions::new().idempotent(false));
    world.crash_in_order("e1").await;
    for _ in 0..2 {
        let error = world.process().resume("e1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(
            (error.node_id(), error.outcome()),
            (Some("order"), Outcome::Unknown)
        );
    }
    let stored = world.process().checkpoint("e1").await.unwrap().unwrap();
    assert_eq!(
        (stored.status, stored.started),
        (Status::Failed, vec!["order".to_owned()])
    );
    assert_eq!(world.calls(), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_out_about_an_unknown_outcome_decides_how_to_go_on() {
    let world = World::new(NodeOptions::new().idempotent(false));
    world.crash_in_order("applied").await;
    world
        .crash_in_order("not applied".replace(' ', "-").as_str())
        .await;
    let process = world.process();
    let applied = Resolution::Applied(json!({"order": 4711}));
    process.resolve("applied", "order", applied).await.unwrap();
    process
        .resolve("not-applied", "order", Resolution::NotApplied)
        .await
        .unwrap();

    let execution = process.resume("applied").await.unwrap();
    assert_eq!(
        execution.output_value("order"),
        Some(&json!({"order": 4711}))
    );
    assert_eq!(world.calls(), [2, 2, 1]);
    assert_eq!(
        process.resume("not-applied").await.unwrap().status(),
        Status::Completed
    );
    assert_eq!(world.calls(), [2, 3, 2]);

    let error = process
        .resolve("applied", "order", Resolution::NotApplied)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NothingToResolve);
}

#[tokio::test]
async fn a_failure_without_effect_may_be_resumed_even_if_not_idempotent() {
    let fails = Arc::new(AtomicBool::new(true));
    let flag = fails.clone();
    let node = node_fn(move |_| {
        let fails = flag.load(Ordering::Relaxed);
        async move {
            if fails {
                Err(NodeError::permanent("no funds"))
            } else {
                Ok(Value::Null)
            }
        }
    });
    let graph =
        StrategyGraph::builder("g").node_with("n", node, NodeOptions::new().idempotent(false));
    let runtime = GraphRuntime::builder(graph.build().unwrap())
        .build()
        .unwrap();
    let error = runtime.execute_with_id("e", Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NodeFailed);
    let stored = runtime.checkpoint("e").await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Failed);
    assert!(stored.error.unwrap().contains("no funds"));
    fails.store(false, Ordering::Relaxed);
    assert_eq!(
        runtime.resume("e").await.unwrap().status(),
        Status::Completed
    );
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_keeps_its_time_to_live() {
    let world = World::new(NodeOptions::new());
    let _done = world
        .process()
        .execute_with_id("e1", Value::Null)
        .await
        .unwrap();
    let ttl = world.state.ttl("execution:e1").await.unwrap();
    let TtlState::Remaining(left) = ttl else {
        panic!("no TTL: {ttl:?}")
    };
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn ids_are_checked_claimed_and_not_taken_twice() {
    let world = World::new(NodeOptions::new());
    let process = world.process();
    let kind =
        |result: Result<infra_graph::Execution, infra_graph::Error>| result.unwrap_err().kind();
    assert_eq!(
        kind(process.execute_with_id("no spaces", Value::Null).await),
        ErrorKind::InvalidExecutionId
    );
    assert_eq!(kind(process.resume("never").await), ErrorKind::NotFound);
    let _done = process.execute_with_id("e1", Value::Null).await.unwrap();
    assert_eq!(
        kind(process.execute_with_id("e1", Value::Null).await),
        ErrorKind::AlreadyExists
    );

    world.hangs.store(true, Ordering::Relaxed);
    let hanging = tokio::time::timeout(Duration::from_secs(1), async {
        let first = process.execute_or_resume("e3", Value::Null);
        let second = async {
            tokio::task::yield_now().await;
            kind(process.execute_or_resume("e3", Value::Null).await)
        };
        tokio::select! { _ = first => panic!("must hang"), kind = second => kind }
    });
    assert_eq!(hanging.await.unwrap(), ErrorKind::AlreadyRunning);
}

#[tokio::test]
async fn another_graph_or_garbage_is_refused() {
    let world = World::new(NodeOptions::new());
    let _done = world
        .process()
        .execute_with_id("e1", Value::Null)
        .await
        .unwrap();
    let other = StrategyGraph::builder("day").node("other", node_fn(|_| async { Ok(Value::Null) }));
    let other = GraphRuntime::builder(other.build().unwrap()).state(world.state.clone());
    let error = other.build().unwrap().resume("e1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GraphMismatch);

    world
        .state
        .set("execution:e2", "SECRET garbage")
        .await
        .unwrap();
    let error = world.process().resume("e2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptCheckpoint);
    assert!(!error.to_string().contains("SECRET"));
}

#[tokio::test]
async fn a_closed_store_fails_the_execution_with_its_reason() {
    let world = World::new(NodeOptions::new());
    world.state.close().await;
    let error = world.process().execute(Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert_eq!(world.calls(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_with_one_execution_the_former_is_stopped() {
    let world = World::new(NodeOptions::new());
    let gate = Arc::new(tokio::sync::Notify::new());
    let slow = {
        let gate = gate.clone();
        node_fn(move |_| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                Ok(json!("late"))
            }
        })
    };
    fn graph(order: impl Node + 'static) -> StrategyGraph {
        let builder = StrategyGraph::builder("day").node("order", order);
        let graph = builder.node("fill", node_fn(|_| async { Ok(json!(1)) }));
        graph.edge("order", "fill").build().unwrap()
    }
    let quick = node_fn(|_| async { Ok(json!("quick")) });
    let process = |graph| {
        let runtime = GraphRuntime::builder(graph).state(world.state.clone());
        runtime.build().unwrap()
    };
    let (first, second) = (process(graph(slow)), process(graph(quick)));
    let former =
        infra_core::context::spawn(async move { first.execute_with_id("e1", json!({})).await });
    while world.process().checkpoint("e1").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let taken_over = second.resume("e1").await.unwrap();
    assert_eq!(taken_over.status(), Status::Completed);
    gate.notify_one();
    let error = former.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Superseded, "{error}");
    let stored = second.checkpoint("e1").await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Completed);
    assert_eq!(stored.outputs["order"], json!("quick"));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_expired_while_a_node_ran_is_written_again() {
    let state = StateStore::memory();
    let forget = {
        let state = state.clone();
        node_fn(move |_| {
            let state = state.clone();
            async move {
                assert!(state.delete("execution:e1").await.unwrap());
                Ok(json!(1))
            }
        })
    };
    let graph = StrategyGraph::builder("day").node("forget", forget);
    let runtime = GraphRuntime::builder(graph.build().unwrap()).state(state.clone());
    let runtime = runtime.build().unwrap();
    let done = runtime.execute_with_id("e1", json!({})).await.unwrap();
    assert_eq!(done.status(), Status::Completed);
    let stored = runtime.checkpoint("e1").await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Completed);
    assert!(matches!(
        state.ttl("execution:e1").await.unwrap(),
        TtlState::Remaining(_)
    ));
}
