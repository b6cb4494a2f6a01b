//! Errors of the client library `redis`.

use crate::fault::{FaultKind, RedisFault, reply_fault, without_arguments};

/// What an error of the client library means. Server errors are told apart by their code, because
/// the library leaves several of them (`OOM`, `BUSY`, `NOAUTH`) untyped.
pub fn classify(error: &redis::RedisError) -> RedisFault {
    if let Some(errors) = error.clone().into_server_errors()
        && let Some((_, first)) = errors.first()
    {
        return classify_reply(first);
    }
    match error.code() {
        Some(code) => reply_fault(code, error.detail().unwrap_or_default()),
        None => client_fault(error),
    }
}

/// What an error reply of the server means.
pub fn classify_reply(reply: &redis::ServerError) -> RedisFault {
    reply_fault(reply.code(), reply.details().unwrap_or_default())
}

fn client_fault(error: &redis::RedisError) -> RedisFault {
    let kind = match error.kind() {
        redis::ErrorKind::Io if error.is_timeout() => FaultKind::Timeout,
        redis::ErrorKind::Io => FaultKind::ConnectionLost,
        redis::ErrorKind::AuthenticationFailed => FaultKind::Auth,
        // A reply that could not be parsed ends the connection; the call may have been applied.
        redis::ErrorKind::Parse => FaultKind::ConnectionLost,
        _ => FaultKind::Protocol,
    };
    let message = match kind {
        FaultKind::ConnectionLost => "the connection broke before the answer came".to_owned(),
        _ => reply_text(error),
    };
    RedisFault::new(kind, message)
}

/// The text of an error without the arguments that the server may repeat in it.
pub(crate) fn reply_text(error: &redis::RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), detail) => {
            format!("{code} {}", without_arguments(detail.unwrap_or_default()))
        }
        (None, Some(detail)) => without_arguments(detail).to_owned(),
        (None, None) => without_arguments(&error.to_string()).to_owned(),
    }
}

/// The fault of an error that a driver got from the client library directly.
impl From<&redis::RedisError> for RedisFault {
    fn from(error: &redis::RedisError) -> Self {
        classify(error)
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{Classify, Outcome};

    use super::*;

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        let io = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let fault = classify(&redis::RedisError::from(io));
        assert_eq!(fault.kind(), FaultKind::ConnectionLost);
        assert_eq!(fault.outcome(), Outcome::Unknown);
        assert!(fault.is_transient());
        assert_eq!(fault.of_read().outcome(), Outcome::NotApplied);
    }

    #[test]
    fn s58_errors_that_the_library_leaves_untyped_have_their_kind() {
        for (code, kind) in [
            ("OOM", FaultKind::OutOfMemory),
            ("BUSY", FaultKind::Busy),
            ("NOAUTH", FaultKind::Auth),
        ] {
            let error = redis::make_extension_error(code.to_owned(), None);
            assert_eq!(classify(&error).kind(), kind, "{code}");
        }
    }
}
