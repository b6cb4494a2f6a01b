//! Load made of tasks that each do their share.

use std::fmt::Display;

use infra_core::context;
use tokio::runtime::Runtime;

/// Runs `operations` in `tasks` tasks and waits for all of them. `operation` gets the task's number
/// and the operation's number within it, and says whether it worked.
///
/// # Panics
/// When an operation did not work: a figure over failed calls would be worthless.
#[expect(
    clippy::panic,
    reason = "a benchmark over failed calls must not end in a figure"
)]
pub(crate) fn in_tasks<F, Fut>(runtime: &Runtime, tasks: usize, operations: usize, operation: F)
where
    F: Fn(usize, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = bool> + Send,
{
    let share = operations / tasks;
    runtime.block_on(async {
        let running: Vec<_> = (0..tasks)
            .map(|task| {
                let operation = operation.clone();
                context::spawn(async move {
                    let mut failed = 0_usize;
                    for n in 0..share {
                        if !operation(task, n).await {
                            failed += 1;
                        }
                    }
                    failed
                })
            })
            .collect();
        for task in running {
            match task.await {
                Ok(0) => {}
                Ok(failed) => panic!("{failed} operations failed"),
                Err(error) => panic!("a task ended early: {error}"),
            }
        }
    });
}

/// The value, or the end of the run: a figure over failed calls would be worthless.
///
/// # Panics
/// On an error.
#[expect(
    clippy::panic,
    reason = "a benchmark over failed calls must not end in a figure"
)]
pub(crate) fn must<T, E: Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("not measured: {error}"),
    }
}
