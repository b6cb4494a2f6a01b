//! What can go wrong, and what it means for the caller.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use infra_core::{Class, Classify, Outcome};

/// The result of every call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The channel or the pattern is empty, too long, or holds control characters.
    InvalidChannel,
    /// An option is out of its range.
    InvalidOptions,
    /// An attribute or an extension of the event has a forbidden name or value.
    InvalidAttribute,
    /// The data is larger than the bus allows.
    TooLarge,
    /// The payload could not be turned into JSON.
    Encode,
    /// The data is not what the reader asked for.
    Decode,
    /// A subscription of this name exists already on this bus.
    DuplicateName,
    /// The queue of a subscription with [`Overflow::Block`](crate::Overflow::Block) is full, and
    /// waiting for it would never end.
    QueueFull,
    /// The call did not finish in its time.
    Timeout,
    /// The backend cannot be reached.
    Unavailable,
    /// The backend refused the credentials.
    Auth,
    /// The credentials do not allow this.
    Permission,
    /// The bus, or the subscription, has been closed.
    Closed,
    /// There is no backend of this name.
    UnknownBackend,
    /// The backend exists but its cargo feature is off.
    NotCompiled,
    /// The URL cannot be read.
    InvalidUrl,
    /// The backend cannot do this; see [`Capabilities`](crate::Capabilities).
    Unsupported,
    /// Anything else that the backend reported.
    Backend,
}

impl ErrorKind {
    const fn text(self) -> &'static str {
        match self {
            ErrorKind::InvalidChannel => "the channel is not valid",
            ErrorKind::InvalidOptions => "an option is not valid",
            ErrorKind::InvalidAttribute => "an attribute is not valid",
            ErrorKind::TooLarge => "the data is too large",
            ErrorKind::Encode => "the payload cannot be encoded",
            ErrorKind::Decode => "the data cannot be decoded",
            ErrorKind::DuplicateName => "the subscription's name is taken",
            ErrorKind::QueueFull => "a subscription's queue is full",
            ErrorKind::Timeout => "no answer in time",
            ErrorKind::Unavailable => "the backend cannot be reached",
            ErrorKind::Auth => "the backend refused the credentials",
            ErrorKind::Permission => "the credentials do not allow this",
            ErrorKind::Closed => "the bus is closed",
            ErrorKind::UnknownBackend => "there is no such backend",
            ErrorKind::NotCompiled => "the backend is not compiled in",
            ErrorKind::InvalidUrl => "the URL is not valid",
            ErrorKind::Unsupported => "the backend cannot do this",
            ErrorKind::Backend => "the backend reported an error",
        }
    }
}

/// Why a call failed. Prints as one line, without payloads and without secrets.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    operation: &'static str,
    channel: Option<Arc<str>>,
    backend: Option<&'static str>,
    detail: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` while doing `operation` ("publish", "subscribe"). The outcome is
    /// [`Outcome::Unknown`] for a timeout and [`Outcome::NotApplied`] for all others until
    /// [`Error::with_outcome`] says otherwise.
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        let outcome = match kind {
            ErrorKind::Timeout => Outcome::Unknown,
            _ => Outcome::NotApplied,
        };
        Error(Box::new(Inner {
            kind,
            outcome,
            operation,
            channel: None,
            backend: None,
            detail: None,
            source: None,
        }))
    }

    /// Says what happened to the effect.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// Names the channel or the pattern.
    #[must_use]
    pub fn with_channel(mut self, channel: &str) -> Self {
        self.0.channel = Some(Arc::from(channel));
        self
    }

    /// Names the backend.
    #[must_use]
    pub fn with_backend(mut self, backend: &'static str) -> Self {
        self.0.backend = Some(backend);
        self
    }

    /// Adds what the reader can do, or what exactly was wrong. Never a payload or a secret.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done: `publish`, `subscribe`, ...
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The channel or pattern, where one was involved.
    pub fn channel(&self) -> Option<&str> {
        self.0.channel.as_deref()
    }

    /// The backend, where one was involved.
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// True when the bus or the subscription has been closed.
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self.0.kind {
            ErrorKind::QueueFull | ErrorKind::Timeout | ErrorKind::Unavailable => Class::Transient,
            _ => Class::Permanent,
        }
    }

    fn outcome(&self) -> Outcome {
        self.0.outcome
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.operation)?;
        if let Some(channel) = &self.0.channel {
            write!(f, " `{}`", channel.escape_debug())?;
        }
        if let Some(backend) = self.0.backend {
            write!(f, " on the {backend} event bus")?;
        }
        write!(f, ": {}", self.0.kind.text())?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        if self.0.outcome == Outcome::Unknown {
            f.write_str(" (it may have taken effect)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("outcome", &self.0.outcome)
            .field("operation", &self.0.operation)
            .field("channel", &self.0.channel)
            .field("backend", &self.0.backend)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_that_names_what_was_done_where() {
        let error = Error::new(ErrorKind::Timeout, "publish")
            .with_channel("orders\n.new")
            .with_backend("redis");
        assert_eq!(
            error.to_string(),
            "publish `orders\\n.new` on the redis event bus: no answer in time (it may have taken \
             effect)"
        );
        assert!(error.is_transient() && !error.is_safe_to_repeat());
    }
}
