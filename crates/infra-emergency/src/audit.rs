//! Who did what to the level, and what was refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::hold::{HoldId, unix_millis};
use crate::level::Level;
use crate::scope::Scope;

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Counts up by one for each record of a controller, from 1; a gap means dropped records.
    pub sequence: u64,
    /// When, on the wall clock. Milliseconds since 1970 in JSON.
    #[serde(serialize_with = "unix_millis")]
    pub at: SystemTime,
    /// What was done.
    pub what: AuditKind,
    /// The holds concerned.
    pub holds: Vec<HoldId>,
    /// Whom it concerned.
    pub scope: Scope,
    /// Who did it.
    pub actor: Arc<str>,
    /// Why, in the words of the actor; for a refusal and a failure, what was wrong.
    pub reason: Arc<str>,
    /// The level of the scope before.
    pub before: Level,
    /// The level of the scope after.
    pub after: Level,
}

/// What an [`AuditRecord`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditKind {
    /// A hold took effect.
    Raised,
    /// A hold was raised that was there already; nothing changed.
    Repeated,
    /// A hold was ended.
    Cleared,
    /// A clear was refused.
    Refused,
    /// A handler or hook failed.
    HookFailed,
    /// The halt hooks have run to their end.
    Swept,
}

/// The latest records, bounded.
#[derive(Debug)]
pub(crate) struct Audit {
    records: VecDeque<AuditRecord>,
    capacity: usize,
    written: u64,
}

impl Audit {
    pub(crate) fn new(capacity: usize) -> Self {
        Audit {
            records: VecDeque::new(),
            capacity: capacity.max(1),
            written: 0,
        }
    }

    /// Adds a record under the next sequence number, dropping the oldest when full.
    pub(crate) fn write(&mut self, mut record: AuditRecord) {
        self.written += 1;
        record.sequence = self.written;
        if self.records.len() >= self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    pub(crate) fn records(&self) -> Vec<AuditRecord> {
        self.records.iter().cloned().collect()
    }
}
