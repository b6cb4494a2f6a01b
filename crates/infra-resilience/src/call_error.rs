//! One flat error for calls through any number of layers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

use crate::breaker::{BreakerError, Rejected};
use crate::timeout::TimedOut;

/// Why a call has no result. However many layers a call went through, this is one level deep, and
/// `source()` leads to the application's own error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// A layer refused the call: nothing was sent.
    Rejected(Rejection),
    /// A time limit cut the call off.
    Timeout(TimedOut),
    /// The call panicked in a task of its own.
    Panicked(String),
    /// The call was made and failed.
    Inner(E),
}

/// A layer refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The kind of the layer.
    pub by: RejectedBy,
    /// The layer's name.
    pub name: Arc<str>,
    /// Why.
    pub reason: RejectReason,
    /// When a call can be admitted, where that is known.
    pub retry_after: Option<Duration>,
}

/// The kind of the layer that refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectedBy {
    /// A circuit breaker.
    Breaker,
    /// A bulkhead.
    Bulkhead,
    /// A rate limiter.
    RateLimiter,
    /// A throttle that answers to the share of refused calls.
    Throttle,
    /// An adaptive limit on concurrent calls.
    AdaptiveLimiter,
    /// A call that too many wait for already.
    Coalesce,
}

/// Why a layer refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectReason {
    /// The breaker is open, or all its probes are taken.
    Open,
    /// An operator isolates the breaker.
    Isolated,
    /// No capacity, and the queue is full or there is none.
    QueueFull,
    /// No capacity within the time that the call could wait.
    WaitTooLong,
    /// The call weighs more than the limit can ever admit.
    TooHeavy,
    /// Shed to lower the load.
    Shed,
}

impl RejectedBy {
    /// The words used in messages, such as `rate limiter`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RejectedBy::Breaker => "circuit breaker",
            RejectedBy::Bulkhead => "bulkhead",
            RejectedBy::RateLimiter => "rate limiter",
            RejectedBy::Throttle => "throttle",
            RejectedBy::AdaptiveLimiter => "adaptive limiter",
            RejectedBy::Coalesce => "coalesced call",
        }
    }
}

impl RejectReason {
    /// The words used in messages, such as `the queue is full`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RejectReason::Open => "it is open",
            RejectReason::Isolated => "an operator isolated it",
            RejectReason::QueueFull => "there is no room and the queue is full",
            RejectReason::WaitTooLong => "there was no room within the time to wait",
            RejectReason::TooHeavy => "the call weighs more than it can ever admit",
            RejectReason::Shed => "it sheds load",
        }
    }
}

impl Rejection {
    pub(crate) fn new(by: RejectedBy, name: &Arc<str>, reason: RejectReason) -> Self {
        Rejection {
            by,
            name: name.clone(),
            reason,
            retry_after: None,
        }
    }
}

impl<E> CallError<E> {
    /// The rejection, if a layer refused the call.
    pub fn rejected(&self) -> Option<&Rejection> {
        match self {
            CallError::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// The kind of the layer that refused the call.
    pub fn rejected_by(&self) -> Option<RejectedBy> {
        self.rejected().map(|rejection| rejection.by)
    }

    /// The call's own error, if it was made and failed.
    pub fn into_inner(self) -> Option<E> {
        match self {
            CallError::Inner(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, reason) = (self.by.as_str(), self.reason.as_str());
        write!(f, "{by} '{}' refused the call: {reason}", self.name)?;
        match self.retry_after {
            Some(wait) => write!(f, "; possible again in {wait:?}"),
            None => Ok(()),
        }
    }
}

impl Error for Rejection {}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Rejected(rejection) => rejection.fmt(f),
            CallError::Timeout(timed_out) => timed_out.fmt(f),
            CallError::Panicked(message) => write!(f, "the call panicked: {message}"),
            CallError::Inner(error) => write!(f, "the call failed: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Inner(error) => Some(error),
            _ => None,
        }
    }
}

/// Transient and never applied; permanent where waiting cannot help.
impl Classify for Rejection {
    fn class(&self) -> Class {
        match self.reason {
            RejectReason::Isolated | RejectReason::TooHeavy => Class::Permanent,
            _ => Class::Transient,
        }
    }
    fn outcome(&self) -> Outcome {
        Outcome::NotApplied
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl<E: Classify> Classify for CallError<E> {
    fn class(&self) -> Class {
        match self {
            CallError::Rejected(rejection) => rejection.class(),
            CallError::Timeout(timed_out) => timed_out.class(),
            CallError::Panicked(_) => Class::Permanent,
            CallError::Inner(error) => error.class(),
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            CallError::Rejected(rejection) => rejection.outcome(),
            CallError::Timeout(_) | CallError::Panicked(_) => Outcome::Unknown,
            CallError::Inner(error) => error.outcome(),
        }
    }
    fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Rejected(rejection) => rejection.retry_after,
            CallError::Inner(error) => error.retry_after(),
            _ => None,
        }
    }
    /// What the other side said; a rejection on this side is none.
    fn is_throttled(&self) -> bool {
        matches!(self, CallError::Inner(error) if error.is_throttled())
    }
}

impl<E> From<Rejection> for CallError<E> {
    fn from(rejection: Rejection) -> Self {
        CallError::Rejected(rejection)
    }
}

impl<E> From<TimedOut> for CallError<E> {
    fn from(timed_out: TimedOut) -> Self {
        CallError::Timeout(timed_out)
    }
}

impl From<Rejected> for Rejection {
    fn from(rejected: Rejected) -> Self {
        Rejection {
            by: RejectedBy::Breaker,
            reason: if rejected.isolated {
                RejectReason::Isolated
            } else {
                RejectReason::Open
            },
            name: rejected.name,
            retry_after: rejected.retry_after,
        }
    }
}

impl<E> From<BreakerError<E>> for CallError<E> {
    fn from(error: BreakerError<E>) -> Self {
        match error {
            BreakerError::Rejected(rejected) => CallError::Rejected(rejected.into()),
            BreakerError::Inner(error) => CallError::Inner(error),
        }
    }
}
