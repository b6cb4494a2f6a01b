//! What an error of a running connection means.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use infra_core::{Class, Classify, Outcome};

use crate::connect_error::{ConnectError, ConnectFault};

/// The cause of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// No connection within the deadline; nothing was sent.
    Unavailable,
    /// No answer within the deadline; a write may have been applied.
    Timeout,
    /// The connection broke while the call was on its way; a write may have been applied.
    ConnectionLost,
    /// The handle was closed.
    Closed,
    /// The key holds another type (`WRONGTYPE`).
    WrongType,
    /// `INCRBY` on a value that is no 64-bit integer.
    NotAnInteger,
    /// `INCRBY` past the range of a 64-bit integer.
    Overflow,
    /// User or password is wrong or missing (`NOAUTH`, `WRONGPASS`).
    Auth,
    /// The user may not do this (`NOPERM`).
    Permission,
    /// The server is a replica (`READONLY`); the connection is dialled anew.
    Readonly,
    /// The server has no memory left (`OOM`).
    OutOfMemory,
    /// The server runs a long script (`BUSY`).
    Busy,
    /// The server loads its data (`LOADING`).
    Loading,
    /// A cluster or a failover is not settled (`CLUSTERDOWN`, `MASTERDOWN`, `TRYAGAIN`, and
    /// `NOREPLICAS`, `MISCONF`).
    NotSettled,
    /// The primary has the write, but fewer replicas or disks than were asked for confirmed it in
    /// time. It stays on the primary; what a failover would make of it, nobody can tell.
    Unacknowledged,
    /// Keys of two slots in one call (`CROSSSLOT`).
    CrossSlot,
    /// The key lives on another node (`MOVED`, `ASK`): this URL names a cluster.
    Cluster,
    /// The answer has a shape that this command never has.
    Protocol,
    /// Any other error of the server.
    Server,
}

/// A failed call: kind, class, outcome and the server's error code where there is one.
///
/// Holds no argument of the call: where the server repeats arguments in its message, they are cut.
#[derive(Debug, Clone)]
pub struct RedisFault {
    kind: FaultKind,
    class: Class,
    outcome: Outcome,
    code: Option<String>,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl RedisFault {
    /// The cause.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The first word of the server's answer, as in `WRONGTYPE`.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// An answer of an unexpected shape to a command that was carried out.
    pub fn protocol(message: impl Into<String>) -> Self {
        let mut fault = RedisFault::new(FaultKind::Protocol, message);
        fault.outcome = Outcome::Unknown;
        fault
    }

    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        RedisFault {
            kind,
            class: class_of(kind),
            outcome: outcome_of(kind),
            code: None,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn unavailable(cause: Option<&ConnectError>) -> Self {
        let Some(cause) = cause else {
            return RedisFault::new(FaultKind::Unavailable, "not connected");
        };
        let kind = match cause.fault() {
            ConnectFault::Auth => FaultKind::Auth,
            _ => FaultKind::Unavailable,
        };
        let mut fault = RedisFault::new(kind, cause.to_string());
        fault.class = cause.class();
        fault.source = Some(Arc::new(cause.clone()));
        fault
    }

    /// Too many calls were on their way already; this one was not sent.
    pub(crate) fn no_room() -> Self {
        let message = "too many calls wait for the server: not sent before the deadline";
        let mut fault = RedisFault::new(FaultKind::Timeout, message);
        fault.outcome = Outcome::NotApplied;
        fault
    }

    /// The handle was closed.
    pub(crate) fn closed() -> Self {
        RedisFault::new(FaultKind::Closed, "the connection was closed")
    }

    /// No answer within the limit.
    pub(crate) fn late(limit: std::time::Duration) -> Self {
        RedisFault::new(FaultKind::Timeout, format!("no answer within {limit:?}"))
    }

    /// The same fault where other parts of the call may have been applied.
    #[must_use]
    pub(crate) fn of_unknown_outcome(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    /// The same fault of a call that changes nothing.
    #[must_use]
    pub(crate) fn of_read(mut self) -> Self {
        self.outcome = Outcome::NotApplied;
        self
    }
}

impl fmt::Display for RedisFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for RedisFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Classify for RedisFault {
    fn class(&self) -> Class {
        self.class
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }
}

fn class_of(kind: FaultKind) -> Class {
    use FaultKind::*;
    match kind {
        Unavailable | Timeout | ConnectionLost | Readonly | OutOfMemory | Busy | Loading
        | NotSettled | Unacknowledged => Class::Transient,
        _ => Class::Permanent,
    }
}

fn outcome_of(kind: FaultKind) -> Outcome {
    match kind {
        FaultKind::Timeout | FaultKind::ConnectionLost | FaultKind::Unacknowledged => {
            Outcome::Unknown
        }
        _ => Outcome::NotApplied,
    }
}

const NODE_OF_A_CLUSTER: &str = " (the server is a node of a cluster: begin the URL with redis+cluster:// or rediss+cluster://)";

/// What an error reply of the server means: its first word and the rest. Told apart by the first
/// word, because client libraries leave several of them (`OOM`, `BUSY`, `NOAUTH`) untyped.
pub(crate) fn reply_fault(code: &str, detail: &str) -> RedisFault {
    let kind = match code {
        "WRONGTYPE" => FaultKind::WrongType,
        "NOAUTH" | "WRONGPASS" => FaultKind::Auth,
        "NOPERM" => FaultKind::Permission,
        "READONLY" => FaultKind::Readonly,
        "OOM" => FaultKind::OutOfMemory,
        "BUSY" => FaultKind::Busy,
        "LOADING" => FaultKind::Loading,
        "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "MISCONF" => {
            FaultKind::NotSettled
        }
        "CROSSSLOT" => FaultKind::CrossSlot,
        "MOVED" | "ASK" => FaultKind::Cluster,
        // A command refused while a transaction was queued reports its own code in the text.
        "EXECABORT" if detail.contains("OOM") => FaultKind::OutOfMemory,
        _ if detail.contains("not an integer") => FaultKind::NotAnInteger,
        _ if detail.contains("would overflow") => FaultKind::Overflow,
        _ => FaultKind::Server,
    };
    let hint = match kind {
        FaultKind::Cluster => NODE_OF_A_CLUSTER,
        _ => "",
    };
    let message = format!("{code} {}{hint}", without_arguments(detail));
    let mut fault = RedisFault::new(kind, message);
    fault.code = Some(code.to_owned());
    fault
}

/// [`reply_fault`] of the whole line, as in `NOPERM no permission`.
pub(crate) fn line_fault(line: &str) -> RedisFault {
    let line = line.trim();
    let (code, detail) = line.split_once(' ').unwrap_or((line, ""));
    reply_fault(code, detail)
}

/// The text of an error without the arguments that the server may repeat in it.
pub(crate) fn without_arguments(text: &str) -> &str {
    text.split(", with args beginning with")
        .next()
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, detail: &str) -> RedisFault {
        line_fault(&format!("{code} {detail}"))
    }

    #[test]
    fn s58_each_code_has_its_kind_class_and_outcome() {
        use FaultKind::*;
        for (code, detail, kind, transient) in [
            ("WRONGTYPE", "Operation against a key", WrongType, false),
            ("NOAUTH", "Authentication required.", Auth, false),
            ("WRONGPASS", "invalid", Auth, false),
            ("NOPERM", "this user has no permissions", Permission, false),
            ("READONLY", "You can't write", Readonly, true),
            ("OOM", "command not allowed", OutOfMemory, true),
            ("BUSY", "Redis is busy running a script", Busy, true),
            ("LOADING", "Redis is loading", Loading, true),
            ("CLUSTERDOWN", "Hash slot not served", NotSettled, true),
            ("MASTERDOWN", "Link with MASTER is down", NotSettled, true),
            ("TRYAGAIN", "Multiple keys request", NotSettled, true),
            ("CROSSSLOT", "Keys in request", CrossSlot, false),
            ("MOVED", "1 127.0.0.1:1", Cluster, false),
            (
                "ERR",
                "value is not an integer or out of range",
                NotAnInteger,
                false,
            ),
            (
                "ERR",
                "increment or decrement would overflow",
                Overflow,
                false,
            ),
            ("ERR", "anything else", Server, false),
        ] {
            let fault = fault(code, detail);
            assert_eq!(fault.kind(), kind, "{code}");
            assert_eq!(fault.is_transient(), transient, "{code}");
            assert_eq!(fault.outcome(), Outcome::NotApplied, "{code}");
            assert_eq!(fault.code(), Some(code));
        }
    }

    #[test]
    fn arguments_repeated_by_the_server_are_cut() {
        let text = "unknown command 'FOO', with args beginning with: 'canary'";
        let fault = fault("ERR", text);
        assert!(!format!("{fault} {fault:?}").contains("canary"));
        assert!(fault.to_string().contains("unknown command 'FOO'"));
    }
}
