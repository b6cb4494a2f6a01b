//! Scanning all keys of a cluster, one primary after the other.
//!
//! A key can be missed only where its slot moves: it leaves a primary that is still to be scanned
//! for one that was scanned already. So each page comes, in one step, with what its primary says
//! about its slots at that moment. A slot is settled when some primary served it at each of its
//! own pages of one pass, and was not giving away its keys: all keys of the slot lay there
//! whenever that primary was looked at, and `SCAN` returns what is there at all of its pages.
//! What happened in between does not matter, neither moves to and fro nor one that was begun and
//! taken back, nor do epochs, clocks or what other nodes have heard of. Passes over all primaries
//! follow until each slot is settled that anybody serves.
//!
//! A slot may be left half moved for long. Where it was leaving the same primary at each page of
//! it in two passes that follow each other, it is taken for settled too: keys go in one direction
//! then, so a key that went behind the first pass was found by the second. Only here a key can be
//! missed, if somebody moves it back by hand, and there again, within these two passes.
//!
//! Where a primary is new or gone, the scan begins anew. The store takes repetitions out. A user
//! who may not ask `CLUSTER NODES`, or use `MULTI`, gets two passes and no certainty while slots
//! move.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use infra_redis::redis::cmd;
use infra_redis::{Cluster, ClusterMap, Connection, Effect, RedisFault, Transaction, Value};

use super::settled::{Own, Settling};
use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::error::ErrorKind;
use crate::redis::scan as one_server;
use crate::redis_common::reply;

/// So often a scan begins anew before it fails.
const MAX_RESTARTS: u32 = 16;
/// So many passes are made for slots that move, before the scan fails.
const MAX_PASSES: u32 = 16;
/// So many are made where nobody tells which slots move.
const BLIND_PASSES: u32 = 2;

/// Where a scan is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    restarts: u32,
    /// The primaries that the scan knows, as a hash.
    primaries: u64,
    /// None where the primaries may not be asked.
    settling: Option<Settling>,
    passes: u32,
    place: usize,
    cursor: String,
}

impl Position {
    fn first(map: &ClusterMap, restarts: u32) -> Self {
        Position {
            restarts,
            primaries: primaries(map),
            settling: Some(Settling::new()),
            passes: 1,
            place: 0,
            cursor: "0".to_owned(),
        }
    }

    fn to_cursor(&self) -> ScanCursor {
        let settling = self.settling.as_ref().map(Settling::to_text);
        let settling = settling.as_deref().unwrap_or("blind");
        let (restarts, primaries, passes) = (self.restarts, self.primaries, self.passes);
        let (place, cursor) = (self.place, &self.cursor);
        ScanCursor::new(format!(
            "{restarts}.{primaries:x}.{settling}.{passes}.{place}.{cursor}"
        ))
    }

    fn read(cursor: &ScanCursor) -> Option<Position> {
        let mut parts = cursor.as_str().split('.');
        let mut next = || parts.next();
        Some(Position {
            restarts: next()?.parse().ok()?,
            primaries: u64::from_str_radix(next()?, 16).ok()?,
            settling: match next()? {
                "blind" => None,
                text => Some(Settling::of_text(text)?),
            },
            passes: next()?.parse().ok()?,
            place: next()?.parse().ok()?,
            cursor: next()?.to_owned(),
        })
    }

    /// After a page of the present primary, which goes on at `next`.
    fn went_on(&mut self, own: Option<Own>, next: Option<ScanCursor>) {
        match (&mut self.settling, own) {
            (Some(settling), Some(own)) => settling.page(own),
            (settling, None) => *settling = None,
            (None, _) => {}
        }
        match next {
            Some(cursor) => self.cursor = cursor.as_str().to_owned(),
            None => {
                if let Some(settling) = &mut self.settling {
                    settling.primary_ends(self.place);
                }
                self.place += 1;
                self.cursor = "0".to_owned();
            }
        }
    }

    /// Another pass over all primaries.
    fn again(self) -> Position {
        Position {
            passes: self.passes + 1,
            place: 0,
            cursor: "0".to_owned(),
            ..self
        }
    }
}

pub(super) async fn page(
    cluster: &Cluster,
    prefix: &str,
    cursor: Option<ScanCursor>,
    limit: Duration,
) -> Result<ScanPage, DriverError> {
    let scan = Scan {
        cluster,
        begun: Instant::now(),
        limit,
    };
    match cursor.as_ref().and_then(Position::read) {
        Some(position) => scan.go_on(position, prefix).await,
        None => scan.begin(0).await,
    }
}

struct Scan<'a> {
    cluster: &'a Cluster,
    begun: Instant,
    limit: Duration,
}

impl Scan<'_> {
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// An empty page before the first one.
    async fn begin(&self, restarts: u32) -> Result<ScanPage, DriverError> {
        if restarts > MAX_RESTARTS {
            let message = "the primaries of the cluster changed again and again during the scan";
            return Err(DriverError::new(ErrorKind::Unavailable, message));
        }
        // An old map is found out: its primaries do not have all slots.
        let map = match self.cluster.map() {
            map if restarts > 0 || map.primaries().is_empty() => {
                self.cluster.fresh_map(self.left()).await?
            }
            map => map,
        };
        Ok(empty(Some(Position::first(&map, restarts))))
    }

    async fn go_on(&self, mut position: Position, prefix: &str) -> Result<ScanPage, DriverError> {
        let mut maps = self.cluster.maps();
        let map = self.cluster.map();
        if primaries(&map) != position.primaries {
            return self.begin(position.restarts + 1).await;
        }
        let Some(node) = map.primaries().get(position.place) else {
            return self.end(position).await;
        };
        // Not for longer than the node is one of the primaries.
        let changed = async {
            while let Some(next) = maps.changed().await {
                if !next.has_same_primaries(&map) {
                    return;
                }
            }
        };
        let asked = self.ask(node.connection(), &position, prefix);
        let (answer, own) = tokio::select! {
            answer = asked => answer?,
            () = changed => return self.begin(position.restarts + 1).await,
        };
        let mut page = reply::page(answer)?;
        position.went_on(own, page.next.take());
        page.next = Some(position.to_cursor());
        Ok(page)
    }

    /// A page, and what the primary serves at that moment, unless it may not be asked.
    async fn ask(
        &self,
        node: &Connection,
        position: &Position,
        prefix: &str,
    ) -> Result<(Value, Option<Own>), RedisFault> {
        let cursor = ScanCursor::new(position.cursor.as_str());
        let command = one_server::command(prefix, Some(&cursor));
        if position.settling.is_some() {
            let mut both = Transaction::new();
            let mut nodes = cmd("CLUSTER");
            nodes.arg("NODES");
            both.add(command.clone());
            both.add(nodes);
            match node.snapshot(both, self.left()).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    let page = answers.next().unwrap_or(Value::Nil);
                    return Ok((page, answers.next().as_ref().and_then(Own::read)));
                }
                Err(fault) if fault.code() == Some("NOPERM") => {}
                Err(fault) => return Err(fault),
            }
        }
        let page = node.command(&command, Effect::Read, self.left()).await?;
        Ok((page, None))
    }

    /// After the last primary: was that all?
    async fn end(&self, mut position: Position) -> Result<ScanPage, DriverError> {
        if position.settling.as_ref().is_some_and(Settling::is_done) {
            return Ok(empty(None));
        }
        let map = self.cluster.fresh_map(self.left()).await?;
        if primaries(&map) != position.primaries {
            return self.begin(position.restarts + 1).await;
        }
        let done = match &mut position.settling {
            Some(settling) => {
                settling.pass_ends(|slot| map.is_served(slot));
                settling.is_done()
            }
            None => map.primaries().len() < 2 || position.passes >= BLIND_PASSES,
        };
        if done {
            return Ok(empty(None));
        }
        if position.passes >= MAX_PASSES {
            let message = "slots of the cluster moved again and again during the scan";
            return Err(DriverError::new(ErrorKind::Unavailable, message));
        }
        Ok(empty(Some(position.again())))
    }
}

fn primaries(map: &ClusterMap) -> u64 {
    let mut hasher = DefaultHasher::new();
    for node in map.primaries() {
        node.address().hash(&mut hasher);
    }
    hasher.finish()
}

fn empty(next: Option<Position>) -> ScanPage {
    ScanPage {
        keys: Vec::new(),
        next: next.map(|position| position.to_cursor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_the_way_through_a_cursor() {
        for settling in [None, Some(Settling::new())] {
            let position = Position {
                restarts: 3,
                primaries: 0xabc,
                settling,
                passes: 2,
                place: 2,
                cursor: "18446744073709551615".to_owned(),
            };
            let read = Position::read(&position.to_cursor());
            assert_eq!(read, Some(position));
        }
        for text in ["", "0", "1.2.3", "x.2.blind.0.0.0", "1.2.3.0.0.0"] {
            assert_eq!(Position::read(&ScanCursor::new(text)), None, "{text}");
        }
    }
}
