//! Transactions as one script: conditions first, then all writes.
//!
//! `MULTI` has no conditions and no roll-back, and `WATCH` needs a connection for each caller. A
//! script is one step for the server, and writers of any kind are seen, because what is compared
//! is the stored value itself.

use bytes::Bytes;
#[cfg(feature = "redis")]
use infra_redis::ItemScript;

use crate::driver::{DriverError, Expiry};
use crate::step::{Action, Expect, Step};
use crate::version::VersionToken;

/// The script. Keys in `KEYS`, as clusters want it.
pub(crate) const TRANSACTION: &str = include_str!("transaction.lua");
/// What servers call it. A wrong one would cost a round trip for each call, no more.
pub(crate) const TRANSACTION_SHA1: &str = "53ad13d8db6a90580299c38a37c846791edbdf9f";
/// The script for one key that is compared and replaced: a third less work for the server.
#[cfg(feature = "redis")]
pub(crate) const SWAP: &str = include_str!("swap.lua");
#[cfg(feature = "redis")]
pub(crate) const SWAP_SHA1: &str = "e5fbde4577a8663dbe09c8e8225a422b22f55075";
/// The same for the swaps of several callers: half of the work for the server.
#[cfg(feature = "redis")]
pub(crate) static SWAPS: ItemScript = ItemScript::new(
    include_str!("swaps.lua"),
    "e81505557294e0b2f3a9979e9a666bb6c6a27234",
);
/// The most keys of one transaction: while the script runs the server does nothing else.
pub(crate) const MAX_STEPS: usize = 1000;

/// An argument of the script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Word(&'static str),
    Bytes(Bytes),
    Number(i64),
}

/// The arguments of the script; the place of a step whose condition cannot hold here, because the
/// version is one of another backend.
pub(crate) fn parts(steps: &[Step<'_>]) -> Result<Vec<Part>, DriverError> {
    let mut parts = Vec::with_capacity(steps.len() * 5);
    for (index, step) in steps.iter().enumerate() {
        let (expect, bytes) = match step.expect {
            Expect::Anything => ("anything", Bytes::new()),
            Expect::Present => ("present", Bytes::new()),
            Expect::Version(VersionToken::Absent) => ("absent", Bytes::new()),
            Expect::Version(VersionToken::Content(bytes)) => ("bytes", bytes.clone()),
            Expect::Version(_) => return Err(DriverError::conflict(index)),
        };
        parts.extend([Part::Word(expect), Part::Bytes(bytes)]);
        parts.extend(action(&step.action));
    }
    Ok(parts)
}

fn action(action: &Action<'_>) -> [Part; 3] {
    let empty = || Part::Bytes(Bytes::new());
    match action {
        Action::Check => [Part::Word("check"), empty(), Part::Word("keep")],
        Action::Delete => [Part::Word("delete"), empty(), Part::Word("keep")],
        Action::Put { value, expiry } => {
            let expiry = match expiry {
                Expiry::Keep => Part::Word("keep"),
                Expiry::Clear => Part::Word("clear"),
                Expiry::After(ttl) => Part::Number(i64::try_from(ttl.get()).unwrap_or(i64::MAX)),
            };
            [Part::Word("put"), Part::Bytes((*value).clone()), expiry]
        }
    }
}

/// What the keys hold when the script has answered with `answer`.
pub(crate) fn versions_after(
    steps: &[Step<'_>],
    answer: i64,
) -> Result<Vec<VersionToken>, DriverError> {
    if let Some(index) = usize::try_from(answer).ok().and_then(|n| n.checked_sub(1)) {
        return Err(DriverError::conflict(index));
    }
    let after = steps.iter().map(|step| match (&step.action, step.expect) {
        (Action::Put { value, .. }, _) => VersionToken::Content((*value).clone()),
        (Action::Delete, _) => VersionToken::Absent,
        (Action::Check, Expect::Version(version)) => version.clone(),
        // There is something; what it is was not read.
        (Action::Check, _) => VersionToken::Opaque(Bytes::new()),
    });
    Ok(after.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn s32_a_version_of_another_backend_conflicts_without_a_call() {
        let foreign = VersionToken::Revision {
            origin: 1,
            revision: 1,
        };
        let step = |expect| Step {
            key: "k",
            expect,
            action: Action::Delete,
        };
        let steps = [step(Expect::Anything), step(Expect::Version(&foreign))];
        let error = parts(&steps).unwrap_err();
        assert_eq!(
            (error.kind(), error.index()),
            (ErrorKind::Conflict, Some(1))
        );
    }

    #[test]
    fn s36_the_answer_names_the_step_that_failed() {
        let step = Step {
            key: "k",
            expect: Expect::Present,
            action: Action::Check,
        };
        assert!(versions_after(&[step], 0).is_ok());
        assert_eq!(versions_after(&[step], 1).unwrap_err().index(), Some(0));
    }
}
