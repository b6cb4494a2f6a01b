//! Asking the store for units: read, compute, compare and swap.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cells::{Cells, Plan};
use super::store::{SharedStore, SharedStoreError, SharedVersion};

/// How often one question is asked again because others were faster. A process asks one question
/// at a time, so this many processes at the very same moment are no trouble.
const ATTEMPTS: u32 = 32;
/// How long a state stays in the store after it stopped mattering.
const KEPT: Duration = Duration::from_secs(60);
/// How far clocks may differ before a process stops to believe the others'.
const LARGEST_SKEW: Duration = Duration::from_secs(60);
/// How soon to ask again when others were faster each time.
const CROWDED: Duration = Duration::from_millis(1);

pub(super) type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What is stored under a limiter's key.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Stored {
    /// The theoretical arrival time, in nanoseconds since 1970.
    arrival: u64,
}

/// What the last exchange left behind: unless another process was here since, the next one need
/// not read.
#[derive(Debug)]
pub(super) struct Known {
    version: SharedVersion,
    arrival: u64,
}

/// What the store said.
#[derive(Debug)]
pub(super) enum Answer {
    /// So many units.
    Granted(u32),
    /// Nothing before so long.
    Wait(Duration),
    /// Nothing that can be used, and why.
    Lost(String),
}

/// One limiter's place in the store.
pub(super) struct Exchange {
    store: Arc<dyn SharedStore>,
    key: String,
    cells: Cells,
    wall: WallClock,
}

impl Exchange {
    pub(super) fn new(
        store: Arc<dyn SharedStore>,
        name: &str,
        cells: Cells,
        wall: WallClock,
    ) -> Self {
        Exchange {
            store,
            key: format!("rate-limit:{name}"),
            cells,
            wall,
        }
    }

    /// Asks for `wanted` units, of which at least `needed`. `known` is the memory of the last
    /// exchange; a dropped exchange leaves none. Counts the conflicts on the way.
    pub(super) async fn ask(
        &self,
        known: &mut Option<Known>,
        (needed, wanted): (u32, u32),
        conflicts: &mut u64,
    ) -> Answer {
        for _ in 0..ATTEMPTS {
            let current = match self.current(known.take()).await {
                Ok(current) => current,
                Err(error) => return Answer::Lost(error.to_string()),
            };
            let now = self.now();
            let ahead = self.cells.beyond(current.arrival, now);
            if ahead > LARGEST_SKEW {
                return Answer::Lost(format!("a clock is {ahead:?} ahead of this process's"));
            }
            let (units, arrival) = match self.cells.plan(current.arrival, now, needed, wanted) {
                Plan::Grant { units, arrival } => (units, arrival),
                Plan::Wait(wait) => {
                    *known = Some(current);
                    return Answer::Wait(wait);
                }
            };
            match self.write(&current.version, arrival, now).await {
                Ok(Some(version)) => {
                    *known = Some(Known { version, arrival });
                    return Answer::Granted(units);
                }
                Ok(None) => *conflicts += 1,
                // Where the outcome is unknown the units may be gone: they count as used.
                Err(error) => return Answer::Lost(error.to_string()),
            }
        }
        Answer::Wait(CROWDED)
    }

    async fn current(&self, known: Option<Known>) -> Result<Known, SharedStoreError> {
        if let Some(known) = known {
            return Ok(known);
        }
        let read = self.store.read(&self.key).await?;
        let stored = (read.bytes.as_deref())
            .map(serde_json::from_slice::<Stored>)
            .transpose()
            .map_err(|_| SharedStoreError::permanent("what is stored is no state of a limiter"))?;
        Ok(Known {
            version: read.version,
            arrival: stored.map_or(0, |stored| stored.arrival),
        })
    }

    async fn write(
        &self,
        version: &SharedVersion,
        arrival: u64,
        now: u64,
    ) -> Result<Option<SharedVersion>, SharedStoreError> {
        let matters = Duration::from_nanos(arrival.saturating_sub(now));
        let ttl = Some(matters.saturating_add(KEPT));
        let value = serde_json::to_vec(&Stored { arrival })
            .map_err(|error| SharedStoreError::permanent(error.to_string()))?;
        self.store.swap(&self.key, version, value, ttl).await
    }

    fn now(&self) -> u64 {
        let since = (self.wall)().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
