//! Running code of others so that it can neither hang, panic nor stop its neighbours.

use std::fmt::Display;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use infra_core::{SharedClock, context};
use tokio::task::JoinHandle;

use crate::signal::Failure;

/// What a handler may return: nothing, or a `Result` whose error can be printed.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "return `()`, or a `Result<(), E>` whose `E` can be shown",
    note = "end the handler with `Ok::<_, E>(())`, or without a value"
)]
pub trait IntoHandlerResult {
    /// The error as text.
    fn into_handler_result(self) -> Result<(), String>;
}

impl IntoHandlerResult for () {
    fn into_handler_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> IntoHandlerResult for Result<(), E> {
    fn into_handler_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Runs a future in a task of its own and waits for it at most `limit`; then it is aborted.
pub(crate) async fn isolated<T: Send + 'static>(
    clock: &SharedClock,
    limit: Duration,
    future: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, Failure> {
    let mut task = AbortOnDrop(context::spawn(future));
    match within(clock, limit, &mut task.0).await {
        None => Err(Failure::TimedOut),
        Some(Ok(Ok(value))) => Ok(value),
        Some(Ok(Err(text))) => Err(Failure::Error(text)),
        Some(Err(join)) if join.is_panic() => Err(Failure::Panic),
        Some(Err(_)) => Err(Failure::Cancelled),
    }
}

/// The future's output if it comes within `limit`. An output that is ready at the limit wins.
pub(crate) async fn within<F: Future + Unpin>(
    clock: &SharedClock,
    limit: Duration,
    mut future: F,
) -> Option<F::Output> {
    let mut sleep = clock.sleep(limit);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| None)
    })
    .await
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
