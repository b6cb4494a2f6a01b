//! What a handler returns, and handlers of typed events.

use std::fmt::Display;

use crate::event::Event;

/// What a handler may return: nothing, or a `Result<(), E>` whose error can be shown.
///
/// An error is counted, signalled and logged; the next event is handled all the same. On the
/// backends of this crate, which deliver at most once, a failed event is not delivered again.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "return `()`, or a `Result<(), E>` whose `E` can be shown",
    note = "end the handler with `Ok::<_, E>(())`, or without a value"
)]
pub trait IntoHandlerResult {
    /// The text of the error, if it is one.
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

/// An event together with its data as a `T`.
#[derive(Debug, Clone)]
pub struct Typed<T> {
    /// The data.
    pub data: T,
    /// The event that carried it.
    pub event: Event,
}
