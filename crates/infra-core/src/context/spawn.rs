//! Starting tasks and threads that know what they belong to.

#![expect(
    clippy::disallowed_methods,
    reason = "these are the wrappers that the others must use"
)]

use tokio::task::JoinHandle;

use super::scope::carry;
use super::{Context, current};

/// `tokio::spawn` that carries the current context into the task.
///
/// # Panics
/// When called outside of a tokio runtime, as `tokio::spawn` does.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(current().scope(future))
}

/// `tokio::spawn` with an empty context, for tasks that outlive the work that started them: a
/// connection's reader would otherwise carry the id of the first request for ever.
///
/// # Panics
/// When called outside of a tokio runtime, as `tokio::spawn` does.
pub fn spawn_detached<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Context::empty().scope(future))
}

/// `tokio::task::spawn_blocking` that carries the current context into the thread.
///
/// # Panics
/// When called outside of a tokio runtime, as tokio's does.
pub fn spawn_blocking<F, T>(code: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(carry(code))
}
