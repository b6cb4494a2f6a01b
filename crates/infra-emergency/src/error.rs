//! Why something was refused.

use std::fmt;
use std::sync::Arc;

use infra_core::{Class, Classify};

use crate::hold::{ActiveHold, HoldId};
use crate::level::{Action, Level};
use crate::scope::Scopes;

/// Why a clear, or a lowering by `set_level`, was refused. Nothing was changed, the refusal is in
/// the audit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} refused: {kind}")]
pub struct Error {
    pub(crate) kind: ErrorKind,
    pub(crate) operation: &'static str,
}

/// The causes of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No actor was named.
    #[error("an actor is needed")]
    MissingActor,
    /// No reason was given.
    #[error("a reason is needed")]
    MissingReason,
    /// No hold was named.
    #[error("name the holds to clear, as listed by `holds()`")]
    NoHolds,
    /// Holds were named that are not in effect: cleared by somebody else, escalated meanwhile (an
    /// escalation has a new id), or never raised.
    #[error("not in effect (look at `holds()` again): {}", join(.0))]
    UnknownHolds(Vec<HoldId>),
}

impl Error {
    /// The cause.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

/// Always permanent: the same clear is refused again.
impl Classify for Error {
    fn class(&self) -> Class {
        Class::Permanent
    }
}

fn join(ids: &[HoldId]) -> String {
    let ids: Vec<String> = ids.iter().map(HoldId::to_string).collect();
    ids.join(", ")
}

/// A gate let somebody not pass. Nothing was done.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denied {
    /// What was wanted.
    pub action: Action,
    /// The level that forbids it.
    pub level: Level,
    /// Whose gate it was.
    pub scopes: Arc<Scopes>,
    /// The most severe hold behind the level, unless it was cleared in this very moment.
    pub hold: Option<Box<ActiveHold>>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denied {
            action,
            level,
            scopes,
            hold,
        } = self;
        write!(f, "action {action} of {scopes} denied at level {level}")?;
        match hold {
            Some(hold) => write!(f, " (hold {} by {}: {})", hold.id, hold.actor, hold.reason),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Denied({self})")
    }
}

impl std::error::Error for Denied {}

/// Permanent and not applied: a retry must not run against a closed gate. Wait with
/// [`Gate::until_open`](crate::Gate::until_open) instead.
impl Classify for Denied {
    fn class(&self) -> Class {
        Class::Permanent
    }
}
