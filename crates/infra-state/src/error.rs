//! The error of every call of this crate.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use infra_core::{Class, Classify, Outcome};

use crate::driver::{DriverError, KeyFailure};

/// The result of every call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key is empty, longer than 1,024 bytes or holds a control character.
    InvalidKey,
    /// The time to live is zero.
    InvalidTtl,
    /// The value is larger than the limit.
    TooLarge,
    /// The value has no JSON form: NaN, infinity, a map with keys that are no text.
    Encode,
    /// The stored bytes are not a value of the wanted type.
    Decode,
    /// The key holds something that is no plain value, for instance a Redis list.
    WrongType,
    /// The stored value is not a 64-bit integer in plain decimal digits.
    NotAnInteger,
    /// The sum leaves the range of a 64-bit integer.
    Overflow,
    /// No answer within the deadline; a write may have been applied.
    Timeout,
    /// The backend has the write, but it did not reach the level that was asked for in time: too few
    /// replicas, or no disk. It stays where it is; a failover may take it back.
    Unacknowledged,
    /// The backend cannot be reached, or the connection broke on the way.
    Unavailable,
    /// User or password is wrong or missing.
    Auth,
    /// The user may not do this.
    Permission,
    /// The server does not take writes at the moment: a replica, after a failover.
    Readonly,
    /// No room left: the server's memory, the disk, or a bound of this crate.
    Capacity,
    /// The server is occupied: a long script, loading its data.
    Busy,
    /// The store was closed.
    Closed,
    /// No backend of this name.
    UnknownBackend,
    /// The backend exists, but this program was built without it.
    NotCompiled,
    /// The URL cannot be used.
    InvalidUrl,
    /// The backend cannot do this.
    Unsupported,
    /// The file is open already, by this or another process.
    AlreadyOpen,
    /// The file is damaged; it was left as it is.
    Corrupted,
    /// The path leads to no file, or to one that is no state file.
    InvalidPath,
    /// The version is not the expected one, or a condition of a transaction does not hold.
    Conflict,
    /// Others were faster at every attempt of an update.
    Contended,
    /// The lease that the write depends on is not held any more.
    LeaseLost,
    /// The keys of one step lie on different nodes of the backend.
    CrossSlot,
    /// The layers around the driver are in an order that makes no sense, or one cannot be made.
    InvalidLayers,
    /// The stored value should be encrypted and is not.
    NotEncrypted,
    /// The stored value was encrypted with a key that is not known here.
    UnknownKeyId,
    /// The key of this id is another one than the stored value was encrypted with.
    WrongKey,
    /// The stored value was changed after it was encrypted, or moved to another key.
    Tampered,
    /// Any other error of the backend.
    Backend,
}

impl ErrorKind {
    /// Whether it says something about a stored value, and nothing about its store.
    pub(crate) fn concerns_one_value(self) -> bool {
        use ErrorKind::{Decode, NotEncrypted, Tampered, TooLarge, UnknownKeyId, WrongKey};
        matches!(
            self,
            Decode | TooLarge | NotEncrypted | UnknownKeyId | WrongKey | Tampered
        )
    }
}

/// A failed call: what was being done, on which key, by which backend, why, and what became of it.
///
/// Never holds a value or a secret. Read it through [`infra_core::Classify`] to decide whether to
/// repeat.
pub struct Error(Box<Parts>);

struct Parts {
    operation: &'static str,
    key: Option<String>,
    backend: &'static str,
    cause: DriverError,
}

impl Error {
    /// The cause.
    pub fn kind(&self) -> ErrorKind {
        self.0.cause.kind()
    }

    /// The call that failed, as in `get`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key as the caller gave it; none where the call concerns several or no keys.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The backend, as in `redis`.
    pub fn backend(&self) -> &'static str {
        self.0.backend
    }

    /// The place of the step that failed in its transaction, from 0.
    pub fn index(&self) -> Option<usize> {
        self.0.cause.index()
    }

    /// What failed of a call over many keys that failed in part; empty when all of it failed. A
    /// key that is not listed succeeded.
    pub fn failures(&self) -> &[KeyFailure] {
        self.0.cause.failures()
    }

    pub(crate) fn new(
        operation: &'static str,
        key: Option<&str>,
        backend: &'static str,
        cause: DriverError,
    ) -> Self {
        Error(Box::new(Parts {
            operation,
            key: key.map(str::to_owned),
            backend,
            cause,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}", self.0.operation)?;
        if let Some(key) = &self.0.key {
            write!(f, " of `{}`", printable(key))?;
        }
        write!(f, " on {} failed: {}", self.0.backend, self.0.cause)?;
        match self.outcome() {
            Outcome::Unknown => f.write_str(" (it may have been applied: read before repeating)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind())
            .field("outcome", &self.outcome())
            .field("message", &format_args!("{self}"))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.source()
    }
}

impl Classify for Error {
    fn class(&self) -> Class {
        self.0.cause.class()
    }

    fn outcome(&self) -> Outcome {
        self.0.cause.outcome()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.0.cause.retry_after()
    }
}

/// A key as it can be shown on one line: control characters escaped, long ones cut.
fn printable(key: &str) -> String {
    const SHOWN: usize = 120;
    let mut shown: String = key
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if key.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}
