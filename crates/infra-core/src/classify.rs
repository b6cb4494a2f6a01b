//! What an error means for the caller: may the call be repeated, and what happened to its effect.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Whether repeating the same call later can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The cause passes by itself: a refused connection, a full queue, a throttled request.
    Transient,
    /// The same call will fail again: bad input, missing permission, wrong type.
    Permanent,
}

/// What happened to the effect of a failed call.
///
/// A timeout, a cut connection or a cancelled write is [`Outcome::Unknown`], never "failed": the
/// other side may have applied it. Repeating such a call is safe only where it is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing was changed.
    NotApplied,
    /// The effect took place although the call reported an error.
    Applied,
    /// Nobody here can tell.
    Unknown,
}

/// Read by retries, breakers and health checks; implement it for your own errors to join in.
///
/// ```
/// use infra_core::{Class, Classify, Outcome};
///
/// #[derive(Debug)]
/// enum OrderError { Rejected, Timeout }
///
/// impl Classify for OrderError {
///     fn class(&self) -> Class {
///         match self {
///             OrderError::Rejected => Class::Permanent,
///             OrderError::Timeout => Class::Transient,
///         }
///     }
///     fn outcome(&self) -> Outcome {
///         match self {
///             OrderError::Rejected => Outcome::NotApplied,
///             OrderError::Timeout => Outcome::Unknown,
///         }
///     }
/// }
/// assert!(!OrderError::Timeout.is_safe_to_repeat());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what its errors mean for a repetition",
    label = "implement `Classify` for it",
    note = "an error of another crate is wrapped in one of your own, or judged at the call: `Retry::run_if`, \
            `CircuitBreaker::call_if`"
)]
pub trait Classify {
    /// Whether the same call can succeed later.
    fn class(&self) -> Class;

    /// What happened to the effect; [`Outcome::NotApplied`] unless the error says otherwise.
    fn outcome(&self) -> Outcome {
        Outcome::NotApplied
    }

    /// How long the other side asked to be left alone, where it said so.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// True where the other side works, and refuses because it was asked too often (HTTP 429):
    /// such an answer is a reason to ask less, and none to hold the other side for broken.
    fn is_throttled(&self) -> bool {
        false
    }

    /// True for [`Class::Transient`].
    fn is_transient(&self) -> bool {
        self.class() == Class::Transient
    }

    /// True when a repetition can neither fail for certain nor do the work twice: transient, and
    /// known not to have been applied.
    fn is_safe_to_repeat(&self) -> bool {
        self.is_transient() && self.outcome() == Outcome::NotApplied
    }
}

macro_rules! classify_through_pointer {
    ($($pointer:ty),*) => {$(
        impl<E: Classify + ?Sized> Classify for $pointer {
            fn class(&self) -> Class { (**self).class() }
            fn outcome(&self) -> Outcome { (**self).outcome() }
            fn retry_after(&self) -> Option<Duration> { (**self).retry_after() }
            fn is_throttled(&self) -> bool { (**self).is_throttled() }
        }
    )*};
}
classify_through_pointer!(&E, Box<E>, Arc<E>);

impl Classify for Infallible {
    fn class(&self) -> Class {
        match *self {}
    }
}

/// Kinds that say the request never left are `NotApplied`; a connection that broke is `Unknown`.
impl Classify for io::Error {
    fn class(&self) -> Class {
        use io::ErrorKind::*;
        match self.kind() {
            ConnectionRefused | ConnectionReset | ConnectionAborted | NotConnected | BrokenPipe
            | TimedOut | Interrupted | WouldBlock | UnexpectedEof | HostUnreachable
            | NetworkUnreachable | NetworkDown | AddrNotAvailable | ResourceBusy | StorageFull => {
                Class::Transient
            }
            _ => Class::Permanent,
        }
    }

    fn outcome(&self) -> Outcome {
        use io::ErrorKind::*;
        match self.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe | TimedOut | UnexpectedEof
            | Interrupted => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connection_is_safe_to_repeat_and_a_reset_one_is_not() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(refused.is_safe_to_repeat());
        assert!(reset.is_transient() && !reset.is_safe_to_repeat());
        assert_eq!(reset.outcome(), Outcome::Unknown);
    }

    #[test]
    fn throttling_is_said_by_the_error_alone_and_reaches_through_pointers() {
        struct Busy;
        impl Classify for Busy {
            fn class(&self) -> Class {
                Class::Transient
            }
            fn is_throttled(&self) -> bool {
                true
            }
        }
        let errors: [Box<dyn Classify>; 2] = [
            Box::new(Busy),
            Box::new(io::Error::from(io::ErrorKind::WouldBlock)),
        ];
        assert_eq!(errors.map(|error| error.is_throttled()), [true, false]);
    }

    #[test]
    fn classification_reaches_through_pointers() {
        let boxed: Box<dyn Classify> = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(boxed.class(), Class::Transient);
        assert_eq!(boxed.outcome(), Outcome::Unknown);
    }
}
