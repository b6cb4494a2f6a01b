//! What a node says about its cluster, and what follows from it.

use super::node::Node;
use super::slot::{SLOTS, Slot};
use crate::url::Address;
use crate::value::Value;

/// A slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// An answer to `CLUSTER SLOTS`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// First and last slot, and the place of their primary.
    ranges: Vec<(Slot, Slot, usize)>,
    pub(super) primaries: Vec<Address>,
    /// Those of each primary, at its place.
    replicas: Vec<Vec<Address>>,
}

impl Layout {
    /// Reads the answer of the node at `asked`; `None` where it is none, or serves no slot.
    pub(super) fn read(answer: Value, asked: &Address) -> Option<Layout> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let mut layout = Layout::default();
        for range in ranges {
            layout.add(range, asked);
        }
        layout.ranges.sort_unstable();
        (!layout.ranges.is_empty()).then_some(layout)
    }

    fn add(&mut self, range: Value, asked: &Address) -> Option<()> {
        let Value::Array(parts) = range else {
            return None;
        };
        let mut parts = parts.into_iter();
        let (Value::Int(first), Value::Int(last)) = (parts.next()?, parts.next()?) else {
            return None;
        };
        let (first, last) = (Slot::new(first)?, Slot::new(last)?);
        let primary = address(parts.next()?, asked)?;
        let place = match self.primaries.iter().position(|known| *known == primary) {
            Some(place) => place,
            None => {
                self.primaries.push(primary);
                self.replicas.push(Vec::new());
                self.primaries.len() - 1
            }
        };
        self.ranges.push((first, last, place));
        let replicas = self.replicas.get_mut(place)?;
        for replica in parts.filter_map(|node| address(node, asked)) {
            if !replicas.contains(&replica) {
                replicas.push(replica);
            }
        }
        Some(())
    }

    /// Worth asking when no primary answers.
    pub(super) fn all_replicas(&self) -> Vec<Address> {
        let mut all: Vec<Address> = self.replicas.iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    pub(super) fn replicas_of(&self, primary: &Address) -> &[Address] {
        let place = self.primaries.iter().position(|known| known == primary);
        let replicas = place.and_then(|place| self.replicas.get(place));
        replicas.map_or(&[], Vec::as_slice)
    }
}

/// Where a node listens. One that names no host is reached like the node that was asked; `?`
/// stands for a host name that is not known, and then the address is said apart.
fn address(node: Value, asked: &Address) -> Option<Address> {
    let Value::Array(parts) = node else {
        return None;
    };
    let mut parts = parts.into_iter();
    let host = match parts.next()? {
        Value::Bytes(host) => String::from_utf8(host).ok()?,
        _ => String::new(),
    };
    let Value::Int(port) = parts.next()? else {
        return None;
    };
    let host = match host.as_str() {
        "" => asked.host.clone(),
        "?" => named(parts.nth(1)?, b"ip")?,
        _ => host,
    };
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(Address { host, port })
}

/// The text under this name in what is said about a node, a list of names and texts.
fn named(metadata: Value, name: &[u8]) -> Option<String> {
    let pairs: Vec<(Value, Value)> = match metadata {
        Value::Map(pairs) => pairs,
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect()
        }
        _ => return None,
    };
    let text = pairs
        .into_iter()
        .find_map(|(key, text)| match (key, text) {
            (Value::Bytes(key), Value::Bytes(text)) if key == name => Some(text),
            _ => None,
        })?;
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// Which primary serves which slot, as it was last heard.
#[derive(Debug, Clone)]
pub struct ClusterMap {
    version: u64,
    owners: Box<[u16]>,
    primaries: Vec<Node>,
    closed: bool,
}

impl ClusterMap {
    /// Nothing is known yet.
    pub(super) fn unknown() -> Self {
        ClusterMap {
            version: 0,
            owners: vec![NOBODY; SLOTS].into(),
            primaries: Vec::new(),
            closed: false,
        }
    }

    /// The map that follows this one; `None` where it would say the same.
    pub(super) fn next(&self, layout: &Layout, node: impl Fn(&Address) -> Node) -> Option<Self> {
        let mut next = ClusterMap {
            version: self.version + 1,
            primaries: layout.primaries.iter().map(node).collect(),
            ..ClusterMap::unknown()
        };
        next.primaries.sort_by(|a, b| a.address().cmp(b.address()));
        for (first, last, place) in &layout.ranges {
            let owner = layout.primaries.get(*place)?;
            let owner = next.place_of(owner)?;
            let range = usize::from(first.get())..=usize::from(last.get());
            let slots = next.owners.get_mut(range).unwrap_or_default();
            slots.fill(u16::try_from(owner).unwrap_or(NOBODY));
        }
        (!self.says_the_same(&next)).then_some(next)
    }

    pub(super) fn closed(&self) -> Self {
        ClusterMap {
            version: self.version + 1,
            closed: true,
            ..ClusterMap::unknown()
        }
    }

    fn place_of(&self, address: &Address) -> Option<usize> {
        let found = self
            .primaries
            .binary_search_by(|node| node.address().cmp(address));
        found.ok()
    }

    fn says_the_same(&self, other: &ClusterMap) -> bool {
        self.has_same_primaries(other) && self.owners == other.owners
    }

    /// Whether both name the same primaries, whatever they serve.
    pub fn has_same_primaries(&self, other: &ClusterMap) -> bool {
        let (ours, theirs) = (self.primaries.iter(), other.primaries.iter());
        ours.map(Node::address).eq(theirs.map(Node::address))
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True once the cluster's handle was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The primaries that serve slots, in the order of their addresses.
    pub fn primaries(&self) -> &[Node] {
        &self.primaries
    }

    /// The primary that serves this slot.
    pub fn owner(&self, slot: Slot) -> Option<&Node> {
        let place = self.owners.get(usize::from(slot.get()))?;
        self.primaries.get(usize::from(*place))
    }

    /// Whether some primary serves the slot of this number.
    pub fn is_served(&self, slot: u16) -> bool {
        let place = self.owners.get(usize::from(slot));
        place.is_some_and(|place| usize::from(*place) < self.primaries.len())
    }

    /// The slots that this primary serves.
    pub fn slots_of(&self, node: &Node) -> Vec<Slot> {
        let slots = (0..SLOTS as i64).filter_map(Slot::new);
        slots
            .filter(|slot| {
                let owner = self.owner(*slot);
                owner.is_some_and(|owner| owner.address() == node.address())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    fn list(parts: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(parts.into_iter().collect())
    }

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    fn node(host: Value, port: i64) -> Value {
        let metadata = list([text("hostname"), text("x"), text("ip"), text("10.0.0.9")]);
        list([host, Value::Int(port), text("id"), metadata])
    }

    fn range(first: i64, last: i64, nodes: impl IntoIterator<Item = Value>) -> Value {
        list(
            [Value::Int(first), Value::Int(last)]
                .into_iter()
                .chain(nodes),
        )
    }

    #[test]
    fn hosts_are_those_the_nodes_announce() {
        let answer = list([
            range(100, 16_383, [node(text("b"), 2), node(text("c"), 3)]),
            range(0, 0, [node(Value::Nil, 1)]),
            range(1, 98, [node(text(""), 1), node(text("c"), 3)]),
            range(99, 99, [node(text("?"), 4)]),
            range(5, 99_999, [node(text("bad"), 4)]),
            text("odd"),
        ]);
        let asked = at("seed", 9);
        let layout = Layout::read(answer, &asked).unwrap();
        let primaries = [at("b", 2), at("seed", 1), at("10.0.0.9", 4)];
        assert_eq!(layout.primaries, primaries);
        assert_eq!(layout.all_replicas(), [at("c", 3)]);
        assert_eq!(layout.replicas_of(&at("seed", 1)), [at("c", 3)]);
        assert_eq!(layout.replicas_of(&at("10.0.0.9", 4)), []);
        assert_eq!(layout.ranges.len(), 4);
        assert_eq!(Layout::read(list([]), &asked), None);
        assert_eq!(Layout::read(text("x"), &asked), None);
    }

    #[tokio::test]
    async fn a_map_tells_owners_and_is_new_only_when_it_says_something_new() {
        let layout = |moved: i64| {
            let answer = list([
                range(0, moved, [node(text("b"), 2)]),
                range(moved + 1, 9000, [node(text("a"), 1)]),
            ]);
            Layout::read(answer, &at("seed", 9)).unwrap()
        };
        let connect = |address: &Address| {
            let url = format!("redis://{address}");
            let options = crate::RedisOptions::parse(&url).unwrap();
            Node::new(address.clone(), options)
        };
        let slot = |number| Slot::new(number).unwrap();
        let first = ClusterMap::unknown().next(&layout(99), connect).unwrap();
        let owner = |map: &ClusterMap, number| {
            let owner = map.owner(slot(number));
            owner.map(|node| node.address().host.clone())
        };
        assert_eq!(owner(&first, 99).as_deref(), Some("b"));
        assert_eq!(owner(&first, 100).as_deref(), Some("a"));
        assert_eq!(owner(&first, 9001), None);
        let served = [99, 9000, 9001, 16_384].map(|slot| first.is_served(slot));
        assert_eq!(served, [true, true, false, false]);
        assert_eq!(first.slots_of(&first.primaries()[1]).len(), 100);
        assert!(first.next(&layout(99), connect).is_none());
        let second = first.next(&layout(100), connect).unwrap();
        assert!(second.version() > first.version());
        assert!(second.has_same_primaries(&first));
        assert!(second.closed().is_closed() && second.closed().primaries().is_empty());
    }
}
