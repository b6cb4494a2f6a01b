//! Calls over many keys: what lies in one slot goes in one command, and each key has its own
//! result.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infra_core::{Classify, Outcome};
use infra_redis::{Cluster, Command, Effect, RedisFault, Slot, Value};

use crate::driver::{DriverError, Expiry, KeyFailure};
use crate::redis::single;
use crate::redis_common::{CHUNK, reply};

pub(super) async fn get(
    cluster: &Cluster,
    keys: &[&str],
    limit: Duration,
) -> Result<Vec<Option<Bytes>>, DriverError> {
    let mut values = vec![None; keys.len()];
    let mut failed = Failures::default();
    let answers = by_slot(cluster, (b"MGET", Effect::StaleRead), keys, limit).await;
    for (places, answer) in answers {
        let found = answer.map_err(DriverError::from).and_then(reply::list);
        let found = found.and_then(|found| match found.len() == places.len() {
            true => found.into_iter().map(reply::bytes).collect(),
            false => Err(reply::unexpected("one value for each key")),
        });
        match found {
            Ok(found) => {
                let found: Vec<Option<Bytes>> = found;
                for (place, value) in places.iter().zip(found) {
                    if let Some(slot) = values.get_mut(*place) {
                        *slot = value;
                    }
                }
            }
            Err(error) => failed.add(&places, error),
        }
    }
    failed.into_result(0).map(|()| values)
}

pub(super) async fn delete(
    cluster: &Cluster,
    keys: &[&str],
    limit: Duration,
) -> Result<u64, DriverError> {
    let mut deleted = 0;
    let mut done = 0;
    let mut failed = Failures::default();
    let answers = by_slot(cluster, (b"DEL", Effect::Write), keys, limit).await;
    for (places, answer) in answers {
        let count = answer.map_err(DriverError::from);
        match count.and_then(|count| reply::integer(&count)) {
            Ok(count) => {
                deleted += count.unsigned_abs();
                done += places.len();
            }
            Err(error) => failed.add(&places, error),
        }
    }
    failed.into_result(done).map(|()| deleted)
}

pub(super) async fn set(
    cluster: &Cluster,
    entries: &[(&str, Bytes)],
    expiry: Expiry,
    limit: Duration,
) -> Result<(), DriverError> {
    // Commands are carried out in any order: only the last value of a key is sent.
    let mut last = HashMap::with_capacity(entries.len());
    for (place, (key, _)) in entries.iter().enumerate() {
        last.insert(*key, place);
    }
    let millis = single::millis(expiry);
    let mut places = Vec::with_capacity(last.len());
    let mut commands = Vec::with_capacity(last.len());
    for (place, (key, value)) in entries.iter().enumerate() {
        if last.get(key) == Some(&place) {
            let (parts, count) = single::set_parts(key, value, expiry, &millis);
            let parts = parts.get(..count).unwrap_or(&parts);
            commands.push(Command::new(Slot::of(key.as_bytes()), parts));
            places.push(place);
        }
    }
    let answers = cluster.send_each(&commands, Effect::Write, limit).await;
    let mut failed = Failures::default();
    let mut done = 0;
    for (place, answer) in places.iter().zip(answers) {
        match answer {
            Ok(_) => done += 1,
            Err(fault) => failed.add(&[*place], fault.into()),
        }
    }
    failed.into_result(done)
}

/// Some keys of one slot, and the answer for them.
type Answer = (Vec<usize>, Result<Value, RedisFault>);

/// One command for the keys of each slot. Those that a node cannot answer together, because the
/// slot is being moved, are asked for one by one.
async fn by_slot(
    cluster: &Cluster,
    (name, effect): (&[u8], Effect),
    keys: &[&str],
    limit: Duration,
) -> Vec<Answer> {
    let asked = Instant::now();
    let mut slots: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
    for (place, key) in keys.iter().enumerate() {
        slots
            .entry(Slot::of(key.as_bytes()))
            .or_default()
            .push(place);
    }
    let groups = slots.into_iter().flat_map(|(slot, places)| {
        let chunks = places.chunks(CHUNK).map(<[usize]>::to_vec);
        chunks.map(|places| (slot, places)).collect::<Vec<_>>()
    });
    let groups: Vec<(Slot, Vec<usize>)> = groups.collect();
    let answers = send(cluster, (name, effect), keys, &groups, limit).await;
    let mut settled = Vec::with_capacity(answers.len());
    let mut single = Vec::new();
    for ((slot, places), answer) in groups.into_iter().zip(answers) {
        match answer {
            Err(fault) if fault.code() == Some("TRYAGAIN") && places.len() > 1 => {
                single.extend(places.into_iter().map(|place| (slot, vec![place])));
            }
            answer => settled.push((places, answer)),
        }
    }
    if !single.is_empty() {
        let left = limit.saturating_sub(asked.elapsed());
        let answers = send(cluster, (name, effect), keys, &single, left).await;
        let single = single.into_iter().map(|(_, places)| places);
        settled.extend(single.zip(answers));
    }
    settled
}

async fn send(
    cluster: &Cluster,
    (name, effect): (&[u8], Effect),
    keys: &[&str],
    groups: &[(Slot, Vec<usize>)],
    limit: Duration,
) -> Vec<Result<Value, RedisFault>> {
    let commands = groups.iter().map(|(slot, places)| {
        let mut parts = vec![name];
        let keys = places.iter().filter_map(|place| keys.get(*place));
        parts.extend(keys.map(|key| key.as_bytes()));
        Command::new(*slot, &parts).impatient()
    });
    let commands: Vec<Command> = commands.collect();
    cluster.send_each(&commands, effect, limit).await
}

/// The keys for which a call failed.
#[derive(Default)]
struct Failures {
    first: Option<DriverError>,
    keys: Vec<KeyFailure>,
}

impl Failures {
    fn add(&mut self, places: &[usize], error: DriverError) {
        let keys = places.iter().map(|place| KeyFailure::new(*place, &error));
        self.keys.extend(keys);
        // What may have been applied says more than what was not.
        let known = self.first.as_ref().map(Classify::outcome);
        if known.is_none()
            || (known, error.outcome()) == (Some(Outcome::NotApplied), Outcome::Unknown)
        {
            self.first = Some(error);
        }
    }

    /// Success where nothing failed. Where other keys were changed the outcome of the whole is
    /// not known to be nothing.
    fn into_result(mut self, changed: usize) -> Result<(), DriverError> {
        let Some(error) = self.first else {
            return Ok(());
        };
        self.keys.sort_by_key(|failure| failure.index);
        let outcome = match changed {
            0 => error.outcome(),
            _ => Outcome::Unknown,
        };
        Err(error.with_outcome(outcome).with_failures(self.keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn s21_failures_name_their_keys_and_what_became_of_the_whole() {
        assert!(Failures::default().into_result(3).is_ok());
        let error = |kind| DriverError::new(kind, "x");
        let mut failed = Failures::default();
        failed.add(&[4, 1], error(ErrorKind::Unavailable));
        let mut mixed = Failures::default();
        mixed.add(&[4, 1], error(ErrorKind::Unavailable));
        mixed.add(&[0], error(ErrorKind::Timeout));
        let none = failed.into_result(0).unwrap_err();
        assert_eq!(none.outcome(), Outcome::NotApplied);
        let places: Vec<_> = none.failures().iter().map(|one| one.index).collect();
        assert_eq!(places, [1, 4]);
        let some = mixed.into_result(0).unwrap_err();
        assert_eq!(
            (some.kind(), some.outcome()),
            (ErrorKind::Timeout, Outcome::Unknown)
        );
        assert_eq!(some.failures().len(), 3);
        assert_eq!(some.failures()[1].outcome, Outcome::NotApplied);
        let mut partial = Failures::default();
        partial.add(&[0], error(ErrorKind::Unavailable));
        let partial = partial.into_result(2).unwrap_err();
        assert_eq!(partial.outcome(), Outcome::Unknown);
    }
}
