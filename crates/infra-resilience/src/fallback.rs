//! A second source for when the first has failed.

use std::error::Error;
use std::fmt;

use infra_core::{Class, Classify, Outcome};

/// Waits for `call`; if it fails, `instead` sees its error and runs once.
///
/// Cancel safe: dropping the future drops whichever of the two runs; a dropped call is no failure
/// and starts no fallback.
///
/// # Errors
/// [`FallbackError`] with both errors, when both have failed.
///
/// ```
/// use infra_resilience::with_fallback;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let live = async { Err::<f64, _>("venue is down") };
/// let price = with_fallback(live, |_| async { Ok::<_, &str>(101.5) }).await;
/// assert_eq!(price.unwrap(), 101.5);
/// # }
/// ```
pub async fn with_fallback<T, E, F, Fut>(
    call: impl Future<Output = Result<T, E>>,
    instead: impl FnOnce(&E) -> Fut,
) -> Result<T, FallbackError<E, F>>
where
    Fut: Future<Output = Result<T, F>>,
{
    let primary = match call.await {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match instead(&primary).await {
        Ok(value) => Ok(value),
        Err(fallback) => Err(FallbackError { primary, fallback }),
    }
}

/// A call and its fallback have both failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackError<E, F> {
    /// Why the call failed.
    pub primary: E,
    /// Why the fallback failed.
    pub fallback: F,
}

impl<E: fmt::Display, F: fmt::Display> fmt::Display for FallbackError<E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; the fallback failed too: {}",
            self.primary, self.fallback
        )
    }
}

impl<E: Error + 'static, F: Error> Error for FallbackError<E, F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.primary)
    }
}

/// As the call's own error.
impl<E: Classify, F> Classify for FallbackError<E, F> {
    fn class(&self) -> Class {
        self.primary.class()
    }
    fn outcome(&self) -> Outcome {
        self.primary.outcome()
    }
    fn retry_after(&self) -> Option<std::time::Duration> {
        self.primary.retry_after()
    }
    fn is_throttled(&self) -> bool {
        self.primary.is_throttled()
    }
}
