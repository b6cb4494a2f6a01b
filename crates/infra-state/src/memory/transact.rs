//! Several steps under the locks of all shards that they concern.

use super::{Locked, Map, Place};
use crate::driver::DriverError;
use crate::step::{Action, Step};
use crate::version::VersionToken;

pub(super) fn transact(map: &Map, steps: &[Step<'_>]) -> Result<Vec<VersionToken>, DriverError> {
    let (places, mut locked) = map.lock_all(steps.iter().map(|step| step.key));
    let mut found = Vec::with_capacity(steps.len());
    for (step, place) in steps.iter().zip(&places) {
        found.push(version(map, &mut locked, *place, step.key));
    }
    let failed = (steps.iter().zip(&found)).position(|(step, found)| !step.expect.holds(found));
    if let Some(index) = failed {
        locked.release(map, []);
        return Err(DriverError::conflict(index));
    }
    for ((step, place), version) in steps.iter().zip(places).zip(&mut found) {
        if let Some(after) = apply(map, &mut locked, place, step) {
            *version = after;
        }
    }
    let written = steps
        .iter()
        .filter(|step| !matches!(step.action, Action::Check));
    locked.release(map, written.map(|step| step.key));
    Ok(found)
}

fn version(map: &Map, locked: &mut Locked<'_>, place: Place, key: &str) -> VersionToken {
    let found =
        (locked.shard(place)).and_then(|shard| shard.get_versioned(place.hash, key, &*map.clock));
    found.map_or(VersionToken::Absent, |(_, revision)| {
        VersionToken::Revision {
            origin: map.origin,
            revision,
        }
    })
}

/// The version after the step, where it changes anything.
fn apply(
    map: &Map,
    locked: &mut Locked<'_>,
    place: Place,
    step: &Step<'_>,
) -> Option<VersionToken> {
    let shard = locked.shard(place)?;
    match step.action {
        Action::Check => None,
        Action::Delete => {
            shard.delete(place.hash, step.key, &*map.clock);
            Some(VersionToken::Absent)
        }
        Action::Put { value, expiry } => {
            shard.set(place.hash, step.key, value.clone(), expiry, &*map.clock);
            Some(version(map, locked, place, step.key))
        }
    }
}
