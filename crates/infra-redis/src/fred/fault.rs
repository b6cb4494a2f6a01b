//! Errors of the client library `fred`.

use fred::error::{Error, ErrorKind};

use crate::connect_error::{ConnectError, LoginCause, LoginFailure};
use crate::dial::Attempt;
use crate::fault::{FaultKind, RedisFault, line_fault, without_arguments};
use crate::options::RedisOptions;

/// What an error of a call means. The library has one type for what the server answers and for
/// what happens to the connection; only the text tells them apart.
pub(super) fn of_call(error: &Error) -> RedisFault {
    match error.kind() {
        ErrorKind::Backpressure => {
            RedisFault::new(FaultKind::Unavailable, "too many calls wait already")
        }
        _ if is_reply(error) => {
            let fault = line_fault(error.details());
            match fault.kind() {
                // Told to every call on its way, also to those that were carried out.
                FaultKind::NotSettled => fault.of_unknown_outcome(),
                _ => fault,
            }
        }
        _ => lost(),
    }
}

pub(super) fn lost() -> RedisFault {
    let message = "the connection broke before the answer came";
    RedisFault::new(FaultKind::ConnectionLost, message)
}

/// Why an attempt to connect failed. What the library says about name lookup, TCP and TLS is the
/// debug form of errors below it; so these steps are taken again to see for ourselves.
pub(super) async fn of_dial(options: &RedisOptions, error: &Error) -> ConnectError {
    let (url, tls) = (options.url(), options.url().is_tls());
    let text = without_arguments(error.details()).to_owned();
    if is_reply(error) || *error.kind() == ErrorKind::Auth {
        let cause = LoginCause::Answer;
        return ConnectError::login(url, tls, LoginFailure { cause, text });
    }
    match Attempt::new(options).open().await {
        Err(cause) => cause,
        Ok(_) => broken(options),
    }
}

/// The other end hung up, or answered with something else than the protocol.
pub(super) fn broken(options: &RedisOptions) -> ConnectError {
    let failure = LoginFailure {
        cause: LoginCause::Broken,
        text: "the connection broke during the login".to_owned(),
    };
    ConnectError::login(options.url(), options.url().is_tls(), failure)
}

/// Answers of a server begin with a code in capitals.
fn is_reply(error: &Error) -> bool {
    let details = error.details();
    let code = details.split(' ').next().unwrap_or_default();
    *error.kind() != ErrorKind::IO
        && code.len() > 2
        && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use infra_core::{Classify, Outcome};

    use super::*;

    #[test]
    fn s58_answers_have_the_kind_of_their_code() {
        for (line, kind) in [
            ("WRONGTYPE Operation against a key", FaultKind::WrongType),
            ("OOM command not allowed", FaultKind::OutOfMemory),
            ("BUSY Redis is busy", FaultKind::Busy),
            ("NOAUTH Authentication required.", FaultKind::Auth),
            ("READONLY You can't write", FaultKind::Readonly),
            ("ERR value is not an integer", FaultKind::NotAnInteger),
        ] {
            let fault = of_call(&Error::new(ErrorKind::Unknown, line));
            assert_eq!(fault.kind(), kind, "{line}");
            assert_eq!(fault.outcome(), Outcome::NotApplied, "{line}");
        }
    }

    #[test]
    fn all_that_is_no_answer_leaves_the_outcome_unknown() {
        for (kind, text) in [
            (ErrorKind::IO, "Connection closed."),
            (ErrorKind::IO, "Os { code: 104 }"),
            (ErrorKind::Canceled, "Canceled."),
            (ErrorKind::Unknown, "channel closed"),
            (ErrorKind::Unknown, "Client is not initialized."),
            (ErrorKind::Protocol, "Decode Error"),
            (ErrorKind::Cluster, "CLUSTERDOWN The cluster is down"),
        ] {
            let fault = of_call(&Error::new(kind, text));
            assert_eq!(fault.outcome(), Outcome::Unknown, "{text}");
            assert_eq!(fault.of_read().outcome(), Outcome::NotApplied);
        }
    }

    #[test]
    fn a_full_queue_is_not_applied() {
        let fault = of_call(&Error::new(ErrorKind::Backpressure, "full"));
        assert_eq!(fault.outcome(), Outcome::NotApplied);
        assert_eq!(fault.kind(), FaultKind::Unavailable);
    }
}
