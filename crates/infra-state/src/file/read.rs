//! Reads: from memory, or else by the threads that look into the file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infra_core::Outcome;
use tokio::time::{Instant, sleep, timeout_at};

use super::FileDriver;
use super::control::Returning;
use super::error::{FileError, FileFault, closed, timed_out};
use super::readers::{ReadFailed, Wanted};
use super::snapshot::Snapshot;
use super::view::{Entry, Found, NEVER, Value};
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// Between two attempts while the file is being opened anew or compacted.
const PAUSE: Duration = Duration::from_millis(2);

/// A value and what belongs to it.
pub(super) struct Read {
    pub(super) value: Bytes,
    pub(super) revision: u64,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
}

impl FileDriver {
    pub(super) fn live(&self, key: &str) -> Option<Entry> {
        let entry = self.shared.view.entry(key)?;
        // Time is read only where a value can expire.
        let live = entry.expires == NEVER || entry.is_live(self.shared.time.now());
        live.then_some(entry)
    }

    pub(super) async fn read_one(
        &self,
        key: &str,
        limit: Duration,
    ) -> Result<Option<Read>, DriverError> {
        let Some(entry) = self.live(key) else {
            return Ok(None);
        };
        if let Some(read) = resident(Some(entry)) {
            return Ok(Some(read));
        }
        let read = self.read(&[key], limit).await?;
        Ok(read.into_iter().flatten().next())
    }

    /// Values of one moment, in the order of the keys.
    pub(super) async fn read(
        &self,
        keys: &[&str],
        limit: Duration,
    ) -> Result<Vec<Option<Read>>, DriverError> {
        let mut deadline = None;
        let mut failed = None;
        loop {
            let found = self.shared.view.find(keys, self.shared.time.now());
            let missing = missing(keys, &found.entries);
            if missing.is_empty() {
                return Ok(found.entries.into_iter().map(resident).collect());
            }
            // Only now: most reads need no clock.
            let until = *deadline.get_or_insert_with(|| Instant::now() + limit);
            if let Some(snapshot) = &found.snapshot {
                match self.look_up(missing, snapshot, until, limit).await {
                    Ok(values) => return Ok(self.complete(keys, found, values)),
                    Err(ReadFailed::File(error)) if is_passing(&error) => {
                        self.look_into(&error, snapshot);
                        failed = Some(error);
                    }
                    // What went wrong before says more than that time is up.
                    Err(other) => match (other, failed) {
                        (ReadFailed::TimedOut(_), Some(error)) => return Err(error.into()),
                        (other, _) => return Err(other.into()),
                    },
                }
            }
            if timeout_at(until, sleep(PAUSE)).await.is_err() {
                return Err(match failed {
                    Some(error) => error.into(),
                    None => timed_out(limit, Outcome::NotApplied),
                });
            }
        }
    }

    async fn look_up(
        &self,
        keys: Vec<(String, u64)>,
        snapshot: &Arc<Snapshot>,
        until: Instant,
        limit: Duration,
    ) -> Result<Vec<Bytes>, ReadFailed> {
        let wanted = Wanted {
            snapshot: snapshot.clone(),
            keys,
        };
        let read = timeout_at(until, self.shared.readers.read(wanted)).await;
        read.map_err(|_| ReadFailed::TimedOut(limit))?
    }

    /// Puts what was read into its places, and lets it come back into memory.
    fn complete(&self, keys: &[&str], found: Found, values: Vec<Bytes>) -> Vec<Option<Read>> {
        let (mut values, mut full) = (values.into_iter(), false);
        let place = |(key, entry): (&&str, Option<Entry>)| {
            let Entry {
                value,
                revision,
                expires,
            } = entry?;
            let value = match value {
                Value::Resident(value) => value,
                Value::OnDisk { .. } => {
                    let value = values.next()?;
                    full |= self.shared.control.offer(Returning {
                        key: (*key).to_owned(),
                        revision,
                        value: value.clone(),
                    });
                    value
                }
            };
            Some(Read {
                value,
                revision,
                expires,
            })
        };
        let read = keys.iter().zip(found.entries).map(place).collect();
        if full {
            self.shared.queue.poke();
        }
        read
    }

    /// Has the database opened anew when a read failed that should not have, and not just because
    /// that is happening already.
    fn look_into(&self, error: &FileError, snapshot: &Arc<Snapshot>) {
        let offered = self.shared.view.offers(snapshot);
        if offered {
            self.shared.control.suspect(error);
            self.shared.queue.poke();
        }
    }
}

/// What is not in memory, with the revisions to look for.
fn missing(keys: &[&str], entries: &[Option<Entry>]) -> Vec<(String, u64)> {
    let mut missing = Vec::new();
    for (key, entry) in keys.iter().zip(entries) {
        if let Some(Entry {
            value: Value::OnDisk { .. },
            revision,
            ..
        }) = entry
        {
            missing.push(((*key).to_owned(), *revision));
        }
    }
    missing
}

fn resident(entry: Option<Entry>) -> Option<Read> {
    let Entry {
        value,
        revision,
        expires,
    } = entry?;
    match value {
        Value::Resident(value) => Some(Read {
            value,
            revision,
            expires,
        }),
        Value::OnDisk { .. } => None,
    }
}

/// Whether another attempt, perhaps after the file was opened anew, may succeed.
fn is_passing(error: &FileError) -> bool {
    matches!(error.fault(), FileFault::Io | FileFault::StorageFull)
}

impl From<ReadFailed> for DriverError {
    fn from(failed: ReadFailed) -> Self {
        match failed {
            ReadFailed::Closed => closed(),
            ReadFailed::TimedOut(limit) => timed_out(limit, Outcome::NotApplied),
            ReadFailed::NoThread(error) => {
                let message = "no thread to read from the file";
                DriverError::new(ErrorKind::Unavailable, message).with_source(error)
            }
            ReadFailed::File(error) => error.into(),
        }
    }
}
