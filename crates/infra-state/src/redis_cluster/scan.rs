//! `SCAN` of every primary, complete also while slots move.
//!
//! A key that is moved from a primary whose turn is still to come to one whose turn is over would
//! be missed. So each primary is asked at the beginning and at the end which slots it serves and
//! which of them are being moved. Where anything moved, all primaries are scanned once more: then
//! for any two of them each was scanned once after the other, and a key is found on either side of
//! its move. Where a primary is new or gone, the scan begins anew. The store takes repetitions out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use infra_redis::{Cluster, ClusterMap, Effect, RedisFault, Value};

use crate::driver::{DriverError, ScanCursor, ScanPage};
use crate::error::ErrorKind;
use crate::redis::scan as one_server;

/// So often a scan begins anew before it fails.
const MAX_RESTARTS: u32 = 16;

/// Where a scan is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    restarts: u32,
    /// The primaries that the scan knows, as a hash.
    primaries: u64,
    /// What they said about their slots at the beginning; none in the second round, which needs
    /// no comparison, and where slots were being moved already.
    slots: Option<u64>,
    second: bool,
    place: usize,
    cursor: String,
}

impl Position {
    fn to_cursor(&self) -> ScanCursor {
        let slots = self
            .slots
            .map_or("-".to_owned(), |slots| format!("{slots:x}"));
        let second = u8::from(self.second);
        let (restarts, place, cursor) = (self.restarts, self.place, &self.cursor);
        let primaries = self.primaries;
        ScanCursor::new(format!(
            "{restarts}.{primaries:x}.{slots}.{second}.{place}.{cursor}"
        ))
    }

    fn read(cursor: &ScanCursor) -> Option<Position> {
        let mut parts = cursor.as_str().split('.');
        let mut next = || parts.next();
        let position = Position {
            restarts: next()?.parse().ok()?,
            primaries: u64::from_str_radix(next()?, 16).ok()?,
            slots: match next()? {
                "-" => None,
                slots => Some(u64::from_str_radix(slots, 16).ok()?),
            },
            second: next()? == "1",
            place: next()?.parse().ok()?,
            cursor: next()?.to_owned(),
        };
        Some(position)
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
            slots: self.slots(&map).await?,
            second: false,
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
        let mut page = one_server::page(answer)?;
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
        if position.second || map.primaries().len() < 2 {
            return Ok(empty(None));
        }
        let slots = self.slots(&map).await?;
        if slots.is_some() && slots == position.slots {
            return Ok(empty(None));
        }
        let second = Position {
            second: true,
            place: 0,
            slots: None,
            ..position
        };
        Ok(empty(Some(second)))
    }

    async fn fresh_map(&self) -> Result<std::sync::Arc<ClusterMap>, DriverError> {
        if self.cluster.refresh(self.left()).await {
            return Ok(self.cluster.map());
        }
        let message = "no node of the cluster tells which primaries there are";
        Err(DriverError::new(ErrorKind::Unavailable, message))
    }

    /// What the primaries say about their slots, as a hash; none where one says that a slot is
    /// being moved, or may not be asked.
    async fn slots(&self, map: &ClusterMap) -> Result<Option<u64>, DriverError> {
        let mut all = DefaultHasher::new();
        for node in map.primaries() {
            let asked = [&b"CLUSTER"[..], b"NODES"];
            let connection = node.connection();
            let answer = connection.send(&asked, Effect::Read, self.left()).await;
            let Some(slots) = own_slots(answer)? else {
                return Ok(None);
            };
            slots.hash(&mut all);
        }
        Ok(Some(all.finish()))
    }
}

/// What a node says about its own slots in an answer to `CLUSTER NODES`.
fn own_slots(answer: Result<Value, RedisFault>) -> Result<Option<String>, DriverError> {
    let text = match answer {
        Ok(Value::Bytes(text)) => text,
        Err(fault) if fault.code() == Some("NOPERM") => return Ok(None),
        Err(fault) => return Err(fault.into()),
        Ok(_) => return Ok(None),
    };
    let text = String::from_utf8_lossy(&text);
    let own = text.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let flags = fields.nth(2)?;
        flags
            .split(',')
            .any(|flag| flag == "myself")
            .then_some(fields)
    });
    // Id, address, flags; then primary, two times, epoch and link.
    let slots: Vec<&str> = own.into_iter().flat_map(|fields| fields.skip(5)).collect();
    let moving = slots.iter().any(|slots| slots.starts_with('['));
    Ok((!moving).then(|| slots.join(" ")))
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
        for slots in [None, Some(u64::MAX)] {
            let position = Position {
                restarts: 3,
                primaries: 0xabc,
                slots,
                second: slots.is_none(),
                place: 2,
                cursor: "18446744073709551615".to_owned(),
            };
            let read = Position::read(&position.to_cursor());
            assert_eq!(read, Some(position));
        }
        for text in ["", "0", "1.2.3", "x.2.3.0.0.0"] {
            assert_eq!(Position::read(&ScanCursor::new(text)), None, "{text}");
        }
    }

    #[test]
    fn a_node_says_what_it_serves_and_what_is_on_the_move() {
        let lines = |own: &str| {
            let text = format!(
                "a 127.0.0.1:1@2 master - 0 1 2 connected 0-99\n\
                 b 127.0.0.1:3@4,host myself,master - 0 1 3 connected {own}\n"
            );
            own_slots(Ok(Value::Bytes(text.into()))).unwrap()
        };
        assert_eq!(lines("100-200 7").as_deref(), Some("100-200 7"));
        assert_eq!(lines("").as_deref(), Some(""));
        assert_eq!(lines("100-200 [100->-a]"), None);
        assert_eq!(lines("100-200 [5-<-a]"), None);
    }
}
