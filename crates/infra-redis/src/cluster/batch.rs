//! What goes to one node at once.

use super::node::Node;

/// Comes before a command for a slot that the node does not serve yet.
pub(super) const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
/// Commands, and about as many bytes, that go to a node at once: enough to pay, few enough not to
/// hold up other callers.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;

/// What goes to one node in one request.
pub(super) struct Batch {
    pub(super) node: Node,
    pub(super) asking: bool,
    pub(super) places: Vec<usize>,
    pub(super) bytes: Vec<u8>,
    /// Where what belongs to each of the places ends.
    ends: Vec<usize>,
}

impl Batch {
    pub(super) fn add(
        batches: &mut Vec<Batch>,
        (node, asking): (Node, bool),
        place: usize,
        bytes: &[u8],
    ) {
        let fits = |batch: &&mut Batch| {
            batch.node.address() == node.address()
                && batch.asking == asking
                && batch.places.len() < BATCH
                && batch.bytes.len() + bytes.len() <= BATCH_BYTES
        };
        if let Some(batch) = batches.iter_mut().rev().find(fits) {
            return batch.push(place, bytes);
        }
        let mut batch = Batch {
            node,
            asking,
            places: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
        };
        batch.push(place, bytes);
        batches.push(batch);
    }

    fn push(&mut self, place: usize, bytes: &[u8]) {
        if self.asking {
            self.bytes.extend_from_slice(ASKING);
        }
        self.bytes.extend_from_slice(bytes);
        self.places.push(place);
        self.ends.push(self.bytes.len());
    }

    /// What is sent for each of the places.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| {
            let bytes = self.bytes.get(*begin..*end);
            bytes.unwrap_or_default()
        })
    }
}
