//! Between the words of the driver trait and those of the file: versions, steps, times.

use std::time::Duration;

use super::FileDriver;
use super::batch::{Expected, OwnedAction, OwnedStep};
use super::view::NEVER;
use crate::step::{Action, Expect, Step};
use crate::ttl::TtlState;
use crate::version::VersionToken;

impl FileDriver {
    pub(super) fn version(&self, revision: Option<u64>) -> VersionToken {
        let origin = self.shared.origin;
        revision.map_or(VersionToken::Absent, |revision| VersionToken::Revision {
            origin,
            revision,
        })
    }

    /// The step, with its condition as far as it is one about this file.
    pub(super) fn owned(&self, step: &Step<'_>) -> OwnedStep {
        let origin = self.shared.origin;
        let expect = match step.expect {
            Expect::Anything => Expected::Anything,
            Expect::Present => Expected::Present,
            Expect::Version(VersionToken::Absent) => Expected::Absent,
            Expect::Version(VersionToken::Revision {
                origin: of,
                revision,
            }) if *of == origin => Expected::Revision(*revision),
            Expect::Version(_) => Expected::Never,
        };
        let action = match step.action {
            Action::Check => OwnedAction::Check,
            Action::Delete => OwnedAction::Delete,
            Action::Put { value, expiry } => OwnedAction::Put {
                value: value.clone(),
                expiry,
            },
        };
        OwnedStep {
            key: step.key.into(),
            expect,
            action,
        }
    }

    pub(super) fn ttl_of(&self, expires: u64) -> TtlState {
        match (expires, self.shared.time.now()) {
            (NEVER, _) => TtlState::NoExpiry,
            (expires, now) if expires <= now => TtlState::Absent,
            (expires, now) => TtlState::Remaining(Duration::from_millis(expires - now)),
        }
    }
}
