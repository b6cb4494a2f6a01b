//! Retry at the end of a call instead of around it.

use std::fmt;

use infra_core::Classify;

use super::{Retry, RetryError};

/// Gives every closure that makes a fallible future a [`retry`](RetryExt::retry) method.
///
/// ```
/// use infra_resilience::{Retry, retry::RetryExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # async fn price() -> Result<f64, std::io::Error> { Ok(101.5) }
/// let policy = Retry::exponential().build()?;
/// assert_eq!((|| price()).retry(&policy).await?, 101.5);
/// # Ok(()) }
/// ```
pub trait RetryExt<T, E, Fut> {
    /// Runs this by `policy`, as [`Retry::run`] does.
    fn retry(self, policy: &Retry) -> impl Future<Output = Result<T, RetryError<E>>>;
}

impl<T, E, F, Fut> RetryExt<T, E, Fut> for F
where
    E: Classify + fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    fn retry(self, policy: &Retry) -> impl Future<Output = Result<T, RetryError<E>>> {
        policy.run(self)
    }
}
