//! The words of a breaker: its state, an operator's mode, the verdict on a call.

use std::time::Duration;

use infra_core::Classify;

use crate::call_error::CallError;

/// The automatic state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// All calls pass and are counted.
    Closed = 0,
    /// No call passes until the wait is over.
    Open = 1,
    /// A limited number of probes pass; their results decide.
    HalfOpen = 2,
}

impl State {
    /// The word used in reports: `closed`, `open`, `half_open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

/// What an operator decided. It outranks the automatic state, and only an operator changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The automatic state decides.
    Auto = 0,
    /// Nothing passes.
    Isolated = 1,
    /// Everything passes, nothing is recorded.
    Disabled = 2,
    /// Everything passes and is recorded; [`BreakerChange::WouldOpen`](super::BreakerChange::WouldOpen) says what would happen.
    MetricsOnly = 3,
}

impl Mode {
    /// The word used in reports: `auto`, `isolated`, `disabled`, `metrics_only`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Isolated => "isolated",
            Mode::Disabled => "disabled",
            Mode::MetricsOnly => "metrics_only",
        }
    }
}

/// What the result of a call says about the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It works.
    Success,
    /// It does not work.
    Failure,
    /// It does not work and asks to be left alone for so long. If this opens the breaker, the
    /// breaker stays open for at least that, an hour at most.
    FailureAfter(Duration),
    /// It works, but refuses us at the moment (HTTP 429). No failure while closed; a probe has failed,
    /// and the wait is at least as long as asked for.
    Throttled(Option<Duration>),
    /// Nothing: a call with bad arguments. A probe gives its place back and decides nothing.
    Ignored,
}

impl Verdict {
    /// The verdict by [`Classify`]: transient errors are failures, permanent ones are ignored,
    /// for the other side worked well enough to refuse, and so it did where it
    /// [throttles](Classify::is_throttled).
    pub fn of<T, E: Classify>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Verdict::Success,
            Err(error) if error.is_throttled() => Verdict::Throttled(error.retry_after()),
            Err(error) if !error.is_transient() => Verdict::Ignored,
            Err(error) => error
                .retry_after()
                .map_or(Verdict::Failure, Verdict::FailureAfter),
        }
    }

    /// As [`of`](Self::of) for a call through inner layers: a rejection by one of them says
    /// nothing about the other side.
    pub fn of_call<T, E: Classify>(result: &Result<T, CallError<E>>) -> Self {
        match result {
            Err(CallError::Rejected(_)) => Verdict::Ignored,
            result => Verdict::of(result),
        }
    }
}
