//! Errors of calls through a breaker.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

/// The breaker did not admit the call: nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The breaker's name.
    pub name: Arc<str>,
    /// When the breaker admits a probe, counted from the rejection. `None` while all probes are
    /// taken and while an operator holds the breaker: nobody knows.
    pub retry_after: Option<Duration>,
    /// True while an operator isolates the breaker.
    pub isolated: bool,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (self.isolated, self.retry_after) {
            (true, _) => write!(
                f,
                "circuit breaker '{name}' was isolated by an operator; only a release lets calls pass"
            ),
            (false, Some(wait)) => write!(
                f,
                "circuit breaker '{name}' is open; the next try is possible in {wait:?}"
            ),
            (false, None) => write!(
                f,
                "circuit breaker '{name}' is half-open and all its probes are taken"
            ),
        }
    }
}

impl Error for Rejected {}

/// Transient and never applied; permanent while an operator isolates the breaker.
impl Classify for Rejected {
    fn class(&self) -> Class {
        if self.isolated {
            Class::Permanent
        } else {
            Class::Transient
        }
    }
    fn outcome(&self) -> Outcome {
        Outcome::NotApplied
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Why a call through a breaker has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerError<E> {
    /// The call was not made.
    Rejected(Rejected),
    /// The call was made and failed.
    Inner(E),
}

impl<E> BreakerError<E> {
    /// The rejection, if the breaker refused the call.
    pub fn rejected(&self) -> Option<&Rejected> {
        match self {
            BreakerError::Rejected(rejected) => Some(rejected),
            BreakerError::Inner(_) => None,
        }
    }

    /// The call's own error, if it was made.
    pub fn into_inner(self) -> Option<E> {
        match self {
            BreakerError::Rejected(_) => None,
            BreakerError::Inner(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BreakerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BreakerError::Rejected(rejected) => rejected.fmt(f),
            BreakerError::Inner(error) => error.fmt(f),
        }
    }
}

/// Transparent: an inner error's `source()` is passed on, as its text is.
impl<E: Error + 'static> Error for BreakerError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BreakerError::Rejected(_) => None,
            BreakerError::Inner(error) => error.source(),
        }
    }
}

impl<E: Classify> Classify for BreakerError<E> {
    fn class(&self) -> Class {
        match self {
            BreakerError::Rejected(rejected) => rejected.class(),
            BreakerError::Inner(error) => error.class(),
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            BreakerError::Rejected(rejected) => rejected.outcome(),
            BreakerError::Inner(error) => error.outcome(),
        }
    }
    fn retry_after(&self) -> Option<Duration> {
        match self {
            BreakerError::Rejected(rejected) => rejected.retry_after(),
            BreakerError::Inner(error) => error.retry_after(),
        }
    }
    fn is_throttled(&self) -> bool {
        matches!(self, BreakerError::Inner(error) if error.is_throttled())
    }
}

impl<E> From<Rejected> for BreakerError<E> {
    fn from(rejected: Rejected) -> Self {
        BreakerError::Rejected(rejected)
    }
}
