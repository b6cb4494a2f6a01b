//! Why a connection could not be made.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Class, Classify};

/// The cause of a failed attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectFault {
    /// Nothing listens on that port.
    Refused,
    /// The host name has no address.
    Dns,
    /// No TLS session: untrusted certificate, wrong name, or no TLS at the other end.
    Tls,
    /// User or password is wrong or missing.
    Auth,
    /// No answer within the connect timeout.
    Timeout,
    /// The server is there and cannot serve yet: it loads its data or has no free client slot.
    NotReady,
    /// The other end closed the connection or does not speak this protocol.
    Protocol,
    /// The options cannot work: unreadable CA file, unknown database.
    Config,
    /// The server cannot do what the options ask for.
    Unsupported,
    /// Any other error of the network.
    Other,
}

/// A failed attempt to connect: the cause, and the URL with its password masked.
#[derive(Debug, Clone)]
pub struct ConnectError {
    fault: ConnectFault,
    url: String,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ConnectError {
    pub(crate) fn new(fault: ConnectFault, url: impl fmt::Display, message: String) -> Self {
        ConnectError {
            fault,
            url: url.to_string(),
            message,
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The cause.
    pub fn fault(&self) -> ConnectFault {
        self.fault
    }

    /// The server, with the password masked.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn timeout(url: impl fmt::Display, step: &str, limit: Duration) -> Self {
        let message = format!("no answer within {limit:?} during {step}");
        ConnectError::new(ConnectFault::Timeout, url, message)
    }

    pub(crate) fn tcp(url: impl fmt::Display, error: io::Error) -> Self {
        let (fault, message) = match error.kind() {
            io::ErrorKind::ConnectionRefused => (
                ConnectFault::Refused,
                "connection refused: is the server running on that port?".to_owned(),
            ),
            io::ErrorKind::TimedOut => (ConnectFault::Timeout, error.to_string()),
            _ => (ConnectFault::Other, error.to_string()),
        };
        ConnectError::new(fault, url, message).with_source(error)
    }

    pub(crate) fn tls(url: impl fmt::Display, error: io::Error) -> Self {
        let message = format!(
            "TLS handshake failed: {error}{}",
            tls_hint(&error.to_string())
        );
        ConnectError::new(ConnectFault::Tls, url, message).with_source(error)
    }

    /// What went wrong after the stream was there: login, database, first PING.
    pub(crate) fn login(url: impl fmt::Display, tls: bool, failure: LoginFailure) -> Self {
        let LoginFailure { cause, text } = failure;
        let code = text.split(' ').next().unwrap_or_default();
        let (fault, message) = match code {
            "NOAUTH" => (
                ConnectFault::Auth,
                "the server asks for a password: put user:password@ into the URL".to_owned(),
            ),
            "WRONGPASS" | "NOPERM" => (ConnectFault::Auth, text),
            _ if text.contains("CertificateRequired") => {
                let message = "the server asks for a certificate of the client, and there is none to \
                               give: set `tls-auth-clients no` there";
                (ConnectFault::Tls, message.to_owned())
            }
            "LOADING" | "MASTERDOWN" | "BUSY" => (ConnectFault::NotReady, text),
            _ if text.contains("max number of clients") => (ConnectFault::NotReady, text),
            _ if cause == LoginCause::Credentials || text.contains("AUTH") => {
                let message = format!("user or password refused: {text}");
                (ConnectFault::Auth, message)
            }
            _ if cause == LoginCause::Broken && !tls => (
                ConnectFault::Protocol,
                format!("{text}; if the server expects TLS use rediss://"),
            ),
            _ if text.contains("DB index") || text.contains("SELECT") => {
                (ConnectFault::Config, text)
            }
            _ => (ConnectFault::Protocol, text),
        };
        ConnectError::new(fault, url, message)
    }
}

/// What an operator can do about a failed handshake, by what the TLS library says of it.
fn tls_hint(error: &str) -> &'static str {
    let hints = [
        (
            "InvalidContentType",
            " (the server does not speak TLS on this port: use redis://)",
        ),
        (
            "UnknownIssuer",
            " (nobody whom this machine trusts has signed it: name the authority's file by \
             ?ca_file=/path)",
        ),
        (
            "xpired",
            " (renew it; or is the clock of this machine wrong?)",
        ),
        ("NotValidYet", " (is the clock of this machine wrong?)"),
        ("not valid yet", " (is the clock of this machine wrong?)"),
    ];
    let known = hints.iter().find(|(word, _)| error.contains(word));
    known.map_or("", |(_, hint)| hint)
}

/// What a login ended with.
#[derive(Debug)]
pub(crate) struct LoginFailure {
    pub(crate) cause: LoginCause,
    /// The server's line, or what the network or the client library says.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginCause {
    /// An error reply, or an answer that is none.
    Answer,
    /// User or password are known to be the cause.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    Credentials,
    /// The connection broke.
    Broken,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: {}", self.url, self.message)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Nothing was sent, so the outcome is always `NotApplied`. Login, TLS and option errors are
/// permanent: a person must act.
impl Classify for ConnectError {
    fn class(&self) -> Class {
        match self.fault {
            ConnectFault::Tls
            | ConnectFault::Auth
            | ConnectFault::Config
            | ConnectFault::Unsupported => Class::Permanent,
            _ => Class::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    /// By the library's own words, so that other words after an upgrade are noticed.
    #[test]
    fn a_failed_handshake_says_what_to_do() {
        let time = UnixTime::since_unix_epoch;
        let (now, then) = (
            time(std::time::Duration::from_secs(9)),
            time(std::time::Duration::from_secs(5)),
        );
        let expired = CertificateError::ExpiredContext {
            time: now,
            not_after: then,
        };
        let early = CertificateError::NotValidYetContext {
            time: then,
            not_before: now,
        };
        for (error, hint) in [
            (Error::from(CertificateError::UnknownIssuer), "?ca_file="),
            (CertificateError::Expired.into(), "renew it"),
            (expired.into(), "renew it"),
            (CertificateError::NotValidYet.into(), "clock"),
            (early.into(), "clock"),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "use redis://",
            ),
        ] {
            let error = ConnectError::tls("rediss://h", io::Error::other(error));
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn a_server_that_wants_a_certificate_of_the_client_is_named_as_such() {
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        let failure = LoginFailure {
            cause: LoginCause::Broken,
            text: alert.to_string(),
        };
        let error = ConnectError::login("rediss://h", true, failure);
        assert_eq!(error.fault(), ConnectFault::Tls);
        assert!(error.to_string().contains("tls-auth-clients"), "{error}");
    }
}
