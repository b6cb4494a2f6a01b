//! The error of a run that did not succeed.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

use super::StopReason;

/// A run ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryError<E> {
    pub(super) error: Option<E>,
    pub(super) lost: Option<E>,
    pub(super) attempts: u32,
    pub(super) reason: StopReason,
    pub(super) cut_off: bool,
    pub(super) maybe_applied: bool,
}

impl<E> RetryError<E> {
    /// How many attempts were started. 0 if the deadline had passed before the first.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Why no further attempt was made.
    pub fn reason(&self) -> StopReason {
        self.reason
    }

    /// The error of the last attempt that ended. `None` only if the deadline cut off the first
    /// attempt, or passed before it.
    pub fn last_error(&self) -> Option<&E> {
        self.error.as_ref()
    }

    /// The error of the latest attempt that may have taken effect, where that was not the last one:
    /// an order that got no answer, after which a breaker refused the repetition.
    pub fn lost_error(&self) -> Option<&E> {
        self.lost.as_ref()
    }

    /// The error that says most about what was done: that of an attempt that may have taken effect
    /// before that of a later one that did not.
    pub(crate) fn into_worst(self) -> Option<E> {
        self.lost.or(self.error)
    }

    /// The error of the last attempt that ended, unchanged. See [`last_error`](Self::last_error).
    pub fn into_inner(self) -> Option<E> {
        self.error
    }

    /// True if the last attempt was cut off at the deadline: nobody knows whether it took effect.
    pub fn was_cut_off(&self) -> bool {
        self.cut_off
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.attempts;
        match self.reason {
            StopReason::NotRetryable if attempts == 1 => {}
            StopReason::NotRetryable => write!(f, "not repeatable after {attempts} attempts: ")?,
            StopReason::Exhausted => write!(f, "{attempts} attempts failed: ")?,
            StopReason::DeadlineExceeded => {
                write!(f, "deadline reached in attempt {attempts}")?;
                if self.error.is_some() {
                    f.write_str(", last error: ")?;
                }
            }
            StopReason::BudgetExhausted => {
                write!(f, "retry budget exhausted after attempt {attempts}: ")?;
            }
            StopReason::Cancelled => {
                write!(f, "cancelled in attempt {attempts}")?;
                if self.error.is_some() {
                    f.write_str(", last error: ")?;
                }
            }
            StopReason::WaitTooLong => {
                write!(f, "asked to wait too long after attempt {attempts}: ")?;
            }
        }
        match &self.error {
            Some(error) => error.fmt(f),
            None => Ok(()),
        }
    }
}

/// Transparent: the last error's `source()` is passed on, as its text is.
impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref()?.source()
    }
}

/// The class of the last error. The outcome is that of all attempts together: unknown if any of
/// them may have taken effect.
impl<E: Classify> Classify for RetryError<E> {
    fn class(&self) -> Class {
        match &self.error {
            Some(error) if !self.cut_off => error.class(),
            _ => Class::Transient,
        }
    }
    fn outcome(&self) -> Outcome {
        if self.maybe_applied {
            return Outcome::Unknown;
        }
        self.error
            .as_ref()
            .map_or(Outcome::NotApplied, Classify::outcome)
    }
    fn retry_after(&self) -> Option<Duration> {
        self.error.as_ref().and_then(Classify::retry_after)
    }
    fn is_throttled(&self) -> bool {
        !self.cut_off && self.error.as_ref().is_some_and(Classify::is_throttled)
    }
}
