//! Why an execution did not complete.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in which execution, at which node. Never holds an input or an output.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    class: Class,
    outcome: Outcome,
    retry_after: Option<Duration>,
    execution_id: String,
    node_id: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The cause of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The execution id cannot be one: 1 to 128 characters of `A-Z a-z 0-9 - _ . : / @ + =`.
    InvalidExecutionId,
    /// There is a checkpoint with this id already: resume it, or choose another id.
    AlreadyExists,
    /// This process is running the execution at this moment.
    AlreadyRunning,
    /// Another process has gone on with the execution since this one read or wrote its checkpoint.
    Superseded,
    /// There is no checkpoint with this id: never started, or older than the checkpoint's TTL.
    NotFound,
    /// The checkpoint was written by another graph, or by another version of this one.
    GraphMismatch,
    /// The checkpoint cannot be read.
    CorruptCheckpoint,
    /// The state store refused or did not answer; the execution can be resumed.
    Checkpoint,
    /// The node returned an error.
    NodeFailed,
    /// The node did not answer within its time limit.
    NodeTimeout,
    /// The node panicked.
    NodePanicked,
    /// The node's circuit breaker is open; nothing was called.
    BreakerOpen,
    /// The node is not idempotent, it was started, and nobody knows whether it had its effect.
    /// Find out, say so with [`GraphRuntime::resolve`](crate::GraphRuntime::resolve), then resume.
    OutcomeUnknown,
    /// The emergency level does not allow the node. Only from
    /// [`Execution::completed`](crate::Execution::completed).
    Halted,
    /// [`GraphRuntime::resolve`](crate::GraphRuntime::resolve) named a node whose outcome is known.
    NothingToResolve,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            ErrorKind::InvalidExecutionId => "the id is not usable",
            ErrorKind::AlreadyExists => "an execution with this id exists: resume it",
            ErrorKind::AlreadyRunning => "it is being run by this process",
            ErrorKind::Superseded => "another process has gone on with it",
            ErrorKind::NotFound => "there is no checkpoint: never started, or expired",
            ErrorKind::GraphMismatch => "its checkpoint belongs to another graph or version",
            ErrorKind::CorruptCheckpoint => "its checkpoint cannot be read",
            ErrorKind::Checkpoint => "its checkpoint could not be stored or read",
            ErrorKind::NodeFailed => "the node failed",
            ErrorKind::NodeTimeout => "the node did not answer in time",
            ErrorKind::NodePanicked => "the node panicked",
            ErrorKind::BreakerOpen => "the circuit breaker of the node is open",
            ErrorKind::OutcomeUnknown => {
                "the node is not idempotent and nobody knows whether it had its effect: \
                 resolve it, then resume"
            }
            ErrorKind::Halted => "halted by the emergency level",
            ErrorKind::NothingToResolve => "the outcome of the node is known",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, execution_id: &str) -> Self {
        Error {
            kind,
            class: Class::Permanent,
            outcome: Outcome::NotApplied,
            retry_after: None,
            execution_id: execution_id.to_owned(),
            node_id: None,
            source: None,
        }
    }

    pub(crate) fn at_node(mut self, node_id: &str) -> Self {
        self.node_id = Some(node_id.to_owned());
        self
    }

    /// Takes over what `cause` means for the caller.
    pub(crate) fn classified(mut self, cause: &dyn Classify) -> Self {
        self.class = cause.class();
        self.outcome = cause.outcome();
        self.retry_after = cause.retry_after();
        self
    }

    pub(crate) fn outcome_unknown(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The execution; as it was given when it is no valid id.
    pub fn execution_id(&self) -> &str {
        &self.execution_id
    }

    /// The node, where one is concerned.
    pub fn node_id(&self) -> Option<&str> {
        self.node_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "execution '{}'", self.execution_id.escape_debug())?;
        if let Some(node) = &self.node_id {
            write!(f, ", node '{node}'")?;
        }
        write!(f, ": {}", self.kind.describe())?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl Classify for Error {
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
