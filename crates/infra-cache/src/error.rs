//! The error of every call of this crate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

/// The result of every call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as a loader returns it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store behind the cache refused or failed: see [`Error::store_error`].
    Store,
    /// The loader returned an error: see [`Error::load_error`].
    Load,
    /// The loader panicked.
    LoadPanicked,
    /// The load took longer than it may and was dropped.
    LoadTimeout,
    /// This caller waited as long as it may; the load goes on.
    Timeout,
    /// More loads run already than may.
    Overloaded,
    /// The cache was closed.
    Closed,
    /// Others could not be told of changes, or cannot be heard.
    Channel,
    /// No backend of this name.
    UnknownBackend,
    /// The backend cannot be used with this URL.
    InvalidUrl,
}

/// A failed call: what was being done, on which key, why, and what became of it. Cheap to clone:
/// all who waited for one load get the same.
///
/// Never holds a value or a secret, though the text of a loader's error is the loader's own.
#[derive(Clone)]
pub struct Error(Arc<Parts>);

struct Parts {
    kind: ErrorKind,
    operation: &'static str,
    key: Option<Arc<str>>,
    message: String,
    cause: Cause,
}

enum Cause {
    None,
    Store(infra_state::Error),
    Load(BoxError),
}

impl Error {
    /// The cause.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The call that failed, as in `get_or_load`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key, where the call concerns one.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What the store behind the cache said, for [`ErrorKind::Store`].
    pub fn store_error(&self) -> Option<&infra_state::Error> {
        match &self.0.cause {
            Cause::Store(error) => Some(error),
            _ => None,
        }
    }

    /// The loader's own error, where it is an `E`.
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        match &self.0.cause {
            Cause::Load(error) => error.downcast_ref::<E>(),
            _ => None,
        }
    }

    pub(crate) fn new(kind: ErrorKind, operation: &'static str, message: String) -> Self {
        Error(Arc::new(Parts {
            kind,
            operation,
            key: None,
            message,
            cause: Cause::None,
        }))
    }

    pub(crate) fn of_key(
        kind: ErrorKind,
        operation: &'static str,
        key: &Arc<str>,
        message: impl Into<String>,
    ) -> Self {
        Error(Arc::new(Parts {
            kind,
            operation,
            key: Some(key.clone()),
            message: message.into(),
            cause: Cause::None,
        }))
    }

    pub(crate) fn store(operation: &'static str, error: infra_state::Error) -> Self {
        let kind = match error.kind() {
            infra_state::ErrorKind::Closed => ErrorKind::Closed,
            _ => ErrorKind::Store,
        };
        Error(Arc::new(Parts {
            kind,
            operation,
            key: error.key().map(Arc::from),
            message: error.to_string(),
            cause: Cause::Store(error),
        }))
    }

    pub(crate) fn load(operation: &'static str, key: &Arc<str>, error: BoxError) -> Self {
        Error(Arc::new(Parts {
            kind: ErrorKind::Load,
            operation,
            key: Some(key.clone()),
            message: "the loader failed".to_owned(),
            cause: Cause::Load(error),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache {}", self.0.operation)?;
        match (&self.0.cause, &self.0.key) {
            // Its own text names the key.
            (Cause::Store(_), _) | (_, None) => {}
            (_, Some(key)) => {
                let shown: String = key.chars().take(120).flat_map(char::escape_debug).collect();
                write!(f, " of `{shown}`")?;
            }
        }
        write!(f, " failed: {}", self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self}"))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Cause::None => None,
            Cause::Store(error) => error.source(),
            Cause::Load(error) => Some(&**error),
        }
    }
}

/// A loader only reads, so a load that failed may be repeated, unless its error is known to be
/// permanent: `std::io::Error` and the errors of the `infra` crates below this one are asked.
impl Classify for Error {
    fn class(&self) -> Class {
        match (&self.0.cause, self.0.kind) {
            (Cause::Store(error), _) => error.class(),
            (Cause::Load(error), _) => class_of_load(&**error),
            (_, ErrorKind::LoadTimeout | ErrorKind::Timeout) => Class::Transient,
            (_, ErrorKind::Overloaded | ErrorKind::Channel) => Class::Transient,
            _ => Class::Permanent,
        }
    }

    fn outcome(&self) -> Outcome {
        match &self.0.cause {
            Cause::Store(error) => error.outcome(),
            _ => Outcome::NotApplied,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match &self.0.cause {
            Cause::Store(error) => error.retry_after(),
            _ => None,
        }
    }
}

fn class_of_load(error: &(dyn StdError + Send + Sync + 'static)) -> Class {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        error.class()
    } else if let Some(error) = error.downcast_ref::<infra_state::Error>() {
        error.class()
    } else if let Some(error) = error.downcast_ref::<Error>() {
        error.class()
    } else {
        Class::Transient
    }
}
