//! Parts of the application that start and stop with the infrastructure.

use std::error::Error;

use infra_core::BoxFuture;

use super::Infrastructure;

/// Any error, as a component reports it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A part of the application with a name, a start and a stop.
///
/// Components start after the infrastructure, in the order in which they were registered, and
/// stop before it, in reverse. A component only stops if it was started.
pub trait Component: Send + Sync {
    /// The name in reports and logs; unique among the components.
    fn name(&self) -> &str;

    /// Starts. The rest of the infrastructure works already. May be cancelled at the time limit
    /// for starting; the default does nothing.
    fn start<'a>(&'a self, infra: &'a Infrastructure) -> BoxFuture<'a, Result<(), BoxError>> {
        let _ = infra;
        Box::pin(async { Ok(()) })
    }

    /// Takes no more work, finishes what is in progress, and lets go of what it holds. Is
    /// cancelled, and named in the report, when its share of the deadline has passed.
    fn stop(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
}
