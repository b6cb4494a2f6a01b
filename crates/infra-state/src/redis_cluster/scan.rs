//! Scanning all keys of a cluster, one primary after the other.
//!
//! A key whose slot stays where it is while all primaries are scanned is found. One whose slot
//! moves may come to a primary that was scanned already; but if it moves once in two passes, one of
//! them finds it. So the primaries are asked before and after each pass which slots they serve and
//! which of them are being moved, and passes follow until each slot has stayed for one of them, or
//! has moved no more than once in two. A slot that went to and fro within a pass is known by the
//! epoch of its primary, which grows with the slots that it takes over; where that happens in pass
//! after pass, it is believed after a few that no slot came back in each. Where a primary is new or
//! gone, the scan begins anew. The store takes repetitions out.
//!
//! Not noticed is a move that is begun and taken back within one pass, keys and all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use infra_redis::{Cluster, ClusterMap, Effect};

use super::settled::{Served, Unsettled};
use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::error::ErrorKind;
use crate::redis::scan as one_server;
use crate::redis_common::reply;

/// So often a scan begins anew before it fails.
const MAX_RESTARTS: u32 = 16;
/// So many passes are made for slots that move, before the scan fails.
const MAX_PASSES: u32 = 16;
/// So many passes are made for slots that may have moved and come back.
const CERTAIN_PASSES: u32 = 4;
/// So many are made where nobody tells which slots move.
const BLIND_PASSES: u32 = 2;

/// Where a scan is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    restarts: u32,
    /// The primaries that the scan knows, as a hash.
    primaries: u64,
    /// What they said about their slots before this pass; none where they may not be asked.
    served: Option<String>,
    /// The same before the pass before this one.
    earlier: Option<String>,
    /// The slots for which passes are made.
    unsettled: String,
    passes: u32,
    place: usize,
    cursor: String,
}

impl Position {
    fn to_cursor(&self) -> ScanCursor {
        let served = self.served.as_deref().unwrap_or("-");
        let earlier = self.earlier.as_deref().unwrap_or("-");
        let (restarts, primaries, unsettled) = (self.restarts, self.primaries, &self.unsettled);
        let (passes, place, cursor) = (self.passes, self.place, &self.cursor);
        ScanCursor::new(format!(
            "{restarts}.{primaries:x}.{served}.{earlier}.{unsettled}.{passes}.{place}.{cursor}"
        ))
    }

    fn read(cursor: &ScanCursor) -> Option<Position> {
        let mut parts = cursor.as_str().split('.');
        let mut next = || parts.next();
        let position = Position {
            restarts: next()?.parse().ok()?,
            primaries: u64::from_str_radix(next()?, 16).ok()?,
            served: Some(next()?.to_owned()).filter(|served| served != "-"),
            earlier: Some(next()?.to_owned()).filter(|served| served != "-"),
            unsettled: next()?.to_owned(),
            passes: next()?.parse().ok()?,
            place: next()?.parse().ok()?,
            cursor: next()?.to_owned(),
        };
        Some(position)
    }

    /// The next pass over all primaries.
    fn again(self, served: Option<String>, unsettled: String) -> Position {
        Position {
            earlier: self.served,
            served,
            unsettled,
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
        let map = self.fresh_map().await?;
        let position = Position {
            restarts,
            primaries: primaries(&map),
            served: self.served(&map).await?.map(|served| served.to_text()),
            earlier: None,
            unsettled: Unsettled::all().to_text(),
            passes: 1,
            place: 0,
            cursor: "0".to_owned(),
        };
        Ok(empty(Some(position)))
    }

    async fn go_on(&self, position: Position, prefix: &str) -> Result<ScanPage, DriverError> {
        let mut maps = self.cluster.maps();
        let map = self.cluster.map();
        if primaries(&map) != position.primaries {
            return self.begin(position.restarts + 1).await;
        }
        let Some(node) = map.primaries().get(position.place) else {
            return self.end(position).await;
        };
        let cursor = ScanCursor::new(position.cursor.as_str());
        let command = one_server::command(prefix, Some(&cursor));
        let connection = node.connection();
        // Not for longer than the node is one of the primaries.
        let changed = async {
            while let Some(next) = maps.changed().await {
                if !next.has_same_primaries(&map) {
                    return;
                }
            }
        };
        let answer = tokio::select! {
            answer = connection.command(&command, Effect::Read, self.left()) => answer?,
            () = changed => return self.begin(position.restarts + 1).await,
        };
        let mut page = reply::page(answer)?;
        let next = match page.next {
            Some(cursor) => Position {
                cursor: cursor.as_str().to_owned(),
                ..position
            },
            None => Position {
                place: position.place + 1,
                cursor: "0".to_owned(),
                ..position
            },
        };
        page.next = Some(next.to_cursor());
        Ok(page)
    }

    /// After the last primary: was that all?
    async fn end(&self, position: Position) -> Result<ScanPage, DriverError> {
        let map = self.fresh_map().await?;
        if primaries(&map) != position.primaries {
            return self.begin(position.restarts + 1).await;
        }
        if map.primaries().len() < 2 {
            return Ok(empty(None));
        }
        let end = self.served(&map).await?;
        let begin = position.served.as_deref().and_then(Served::of_text);
        let unsettled = Unsettled::of_text(&position.unsettled);
        let (Some(begin), Some(end), Some(unsettled)) = (begin, end, unsettled) else {
            let all = Unsettled::all().to_text();
            let next = (position.passes < BLIND_PASSES).then(|| position.again(None, all));
            return Ok(empty(next));
        };
        let earlier = position.earlier.as_deref().and_then(Served::of_text);
        let (unsettled, moved) = unsettled.after(earlier.as_ref(), &begin, &end);
        if unsettled.is_empty() || (!moved && position.passes >= CERTAIN_PASSES) {
            return Ok(empty(None));
        }
        if position.passes >= MAX_PASSES {
            let message = "slots of the cluster moved again and again during the scan";
            return Err(DriverError::new(ErrorKind::Unavailable, message));
        }
        let next = position.again(Some(end.to_text()), unsettled.to_text());
        Ok(empty(Some(next)))
    }

    async fn fresh_map(&self) -> Result<std::sync::Arc<ClusterMap>, DriverError> {
        if self.cluster.refresh(self.left()).await {
            return Ok(self.cluster.map());
        }
        let message = "no node of the cluster tells which primaries there are";
        Err(DriverError::new(ErrorKind::Unavailable, message))
    }

    /// What the primaries say about their slots; none where one may not be asked.
    async fn served(&self, map: &ClusterMap) -> Result<Option<Served>, DriverError> {
        let mut served = Served::default();
        for node in map.primaries() {
            let asked = [&b"CLUSTER"[..], b"NODES"];
            let connection = node.connection();
            let answer = connection.send(&asked, Effect::Read, self.left()).await;
            if !served.add(answer)? {
                return Ok(None);
            }
        }
        Ok(Some(served))
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
        for served in [None, Some("1,0-99,300-300,50;2,100-200;".to_owned())] {
            let position = Position {
                restarts: 3,
                primaries: 0xabc,
                earlier: served.clone(),
                served,
                unsettled: "5-7,".to_owned(),
                passes: 2,
                place: 2,
                cursor: "18446744073709551615".to_owned(),
            };
            let read = Position::read(&position.to_cursor());
            assert_eq!(read, Some(position));
        }
        for text in ["", "0", "1.2.3", "x.2.-.-.0.0.0.0"] {
            assert_eq!(Position::read(&ScanCursor::new(text)), None, "{text}");
        }
    }
}
