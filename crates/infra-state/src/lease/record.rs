//! What is stored of a lease.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The record of a lease, as JSON. It is kept when nobody holds the lease, so that the token only
/// ever grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Who holds it: a random name, another for each time it is acquired. None while it is free.
    pub(super) owner: Option<String>,
    /// Grows with each new holder.
    pub(super) token: u64,
    /// For people.
    pub(super) holder: String,
    /// Grows with each renewal, so that no two contents are the same.
    pub(super) renewal: u64,
    pub(super) ttl_ms: u64,
}

impl Record {
    /// What a new holder writes, in place of `before`.
    pub(super) fn acquired(before: Option<&Record>, holder: &str, ttl: Duration) -> Record {
        Record {
            owner: Some(format!("{:016x}", crate::random::number())),
            token: before.map_or(0, |before| before.token).saturating_add(1),
            holder: holder.to_owned(),
            renewal: 0,
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn renewed(&self) -> Record {
        Record {
            renewal: self.renewal.saturating_add(1),
            ..self.clone()
        }
    }

    pub(super) fn released(&self) -> Record {
        Record {
            owner: None,
            ..self.renewed()
        }
    }

    /// Whether both are of the same holder.
    pub(super) fn same_holder(&self, other: &Record) -> bool {
        self.owner.is_some() && self.owner == other.owner && self.token == other.token
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}

/// How far a token jumps when it is moved to another backend: further than anybody acquires the
/// lease while that goes on.
const CARRIED: u64 = 1_000;

/// The record of a lease that is moved between backends: free, with a token above those of both
/// sides. None where `here` is no record of a lease.
pub(crate) fn carried_record(here: Option<&[u8]>, there: Option<&[u8]>) -> Option<Vec<u8>> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Record>(bytes).ok();
    let here = here.and_then(parse)?;
    let there = there.and_then(parse);
    let (token, renewal) = there.map_or((0, 0), |record| (record.token, record.renewal));
    let carried = Record {
        owner: None,
        token: here.token.max(token).saturating_add(CARRIED),
        holder: String::new(),
        renewal: here.renewal.max(renewal).saturating_add(1),
        ttl_ms: here.ttl_ms,
    };
    serde_json::to_vec(&carried).ok()
}

/// What is taken off at the holder's end and added at the others', so that clocks that run at
/// slightly different speeds, and a task that is woken late, cannot make two holders.
pub(super) fn margin(ttl: Duration) -> Duration {
    (ttl / 10).max(Duration::from_millis(500)).min(ttl / 2)
}
