//! Why a node has no output.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

/// The error of a node. Any error that implements [`Classify`] becomes one by `?`.
///
/// Like `anyhow::Error` it does not implement [`std::error::Error`] itself, so that the conversion
/// can exist.
pub struct NodeError {
    class: Class,
    outcome: Outcome,
    retry_after: Option<Duration>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl NodeError {
    /// An error with everything said.
    pub fn new(class: Class, outcome: Outcome, message: impl Into<String>) -> Self {
        NodeError {
            class,
            outcome,
            retry_after: None,
            message: message.into(),
            source: None,
        }
    }

    /// The same call will fail again, and nothing was changed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(Class::Permanent, Outcome::NotApplied, message)
    }

    /// The call may succeed later, and nothing was changed.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, Outcome::NotApplied, message)
    }

    /// The call may succeed later, and nobody knows whether it already did.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Class::Transient, Outcome::Unknown, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The cause, where there is one.
    pub fn source(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// This error as one that can be a source. An error that came by `?` is its own text already.
    pub(crate) fn into_error(self) -> Box<dyn StdError + Send + Sync> {
        match self.source {
            Some(source) if source.to_string() == self.message => source,
            source => Box::new(Described {
                message: self.message,
                source,
            }),
        }
    }
}

impl<E> From<E> for NodeError
where
    E: StdError + Classify + Send + Sync + 'static,
{
    fn from(error: E) -> Self {
        NodeError {
            class: error.class(),
            outcome: error.outcome(),
            retry_after: error.retry_after(),
            message: error.to_string(),
            source: Some(Box::new(error)),
        }
    }
}

impl Classify for NodeError {
    fn class(&self) -> Class {
        self.class
    }
    fn outcome(&self) -> Outcome {
        self.outcome
    }
    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeError")
            .field("class", &self.class)
            .field("outcome", &self.outcome)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

/// A message with its cause.
#[derive(Debug)]
struct Described {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Described {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
