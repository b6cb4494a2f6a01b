//! What can go wrong when logging is set up or flushed.

use std::io;

use infra_core::{Class, Classify, Outcome};

/// A failure of setting up, changing or flushing the log. Writing a line never fails visibly: it
/// is counted, see [`LogHandle::stats`](crate::LogHandle::stats).
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {detail}")]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    detail: String,
    #[source]
    source: Option<io::Error>,
}

/// The cause of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A level, format or other word that is not in the valid set.
    InvalidSetting,
    /// This process already has a global subscriber.
    AlreadyInitialized,
    /// The writer thread could not be started.
    Thread,
    /// Not every line was written by the deadline.
    FlushTimeout,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        Error {
            kind,
            operation,
            detail: detail.into(),
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// The cause.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self.kind {
            ErrorKind::Thread | ErrorKind::FlushTimeout => Class::Transient,
            _ => Class::Permanent,
        }
    }

    fn outcome(&self) -> Outcome {
        match self.kind {
            ErrorKind::FlushTimeout => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}
