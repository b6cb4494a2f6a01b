//! Items of many callers that one call of a script takes together.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::encode;

/// The most items of one call: while a script runs the server does nothing else.
const MAX_ITEMS: usize = 64;
/// The most bytes of one call; only a larger item makes a larger one.
const MAX_BYTES: usize = 64 * 1024;
/// At least the bytes of a call beside those of its items.
const FRAME: usize = 128;

/// The last argument of a call in which a key comes more than once.
const TWICE: &[u8] = b"twice";

/// A script that takes any number of items, a key and the same number of arguments each, and then
/// `twice` where it is possible that a key comes more than once. It answers with a list of one
/// answer for each item, or with a number that is the answer for all of them. It must not fail as
/// a whole once it has written something.
#[derive(Debug)]
pub struct ItemScript {
    text: &'static str,
    sha1: &'static str,
}

impl ItemScript {
    /// A script and what servers call it.
    pub const fn new(text: &'static str, sha1: &'static str) -> Self {
        ItemScript { text, sha1 }
    }

    pub(crate) const fn text(&self) -> &'static str {
        self.text
    }

    /// Appends a call with a single item.
    pub(crate) fn write_one(&self, out: &mut Vec<u8>, item: &[&[u8]]) {
        encode::write_count(out, item.len() + 3);
        self.write_start(out, 1);
        item.iter().for_each(|part| encode::write_part(out, part));
    }

    fn write_start(&self, out: &mut Vec<u8>, items: usize) {
        encode::write_part(out, b"EVALSHA");
        encode::write_part(out, self.sha1.as_bytes());
        encode::write_part(out, encode::Decimal::from(items as u64).as_bytes());
    }
}

/// Items that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Group {
    script: Option<&'static ItemScript>,
    /// Encoded, one after the other.
    keys: Vec<u8>,
    arguments: Vec<u8>,
    items: Vec<Item>,
    /// What the keys hash to: the client finds a repeated one for less than the server.
    marks: Vec<u64>,
    twice: bool,
}

#[derive(Debug)]
struct Item {
    place: usize,
    parts: usize,
    keys_end: usize,
    arguments_end: usize,
    /// Whether its caller still waits.
    wanted: bool,
}

impl Group {
    /// Whether this item may come to those that are there.
    pub(super) fn has_room(&self, script: &'static ItemScript, item: &[&[u8]]) -> bool {
        let Some(first) = self.items.first() else {
            return true;
        };
        self.script.is_some_and(|own| std::ptr::eq(own, script))
            && first.parts == item.len()
            && self.items.len() < MAX_ITEMS
            && self.size() + encode::encoded_len(item) <= MAX_BYTES
    }

    /// Adds an item, whose answer belongs to `place`.
    pub(super) fn add(&mut self, script: &'static ItemScript, item: &[&[u8]], place: usize) {
        self.script = Some(script);
        if let Some((key, arguments)) = item.split_first() {
            let mark = mark(key);
            self.twice |= self.marks.contains(&mark);
            self.marks.push(mark);
            encode::write_part(&mut self.keys, key);
            for argument in arguments {
                encode::write_part(&mut self.arguments, argument);
            }
        }
        self.items.push(Item {
            place,
            parts: item.len(),
            keys_end: self.keys.len(),
            arguments_end: self.arguments.len(),
            wanted: true,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.items.iter().any(|item| item.wanted)
    }

    /// At least the bytes of the call.
    pub(super) fn size(&self) -> usize {
        match self.items.is_empty() {
            true => 0,
            false => self.keys.len() + self.arguments.len() + FRAME,
        }
    }

    /// The places of all items.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.items.iter().map(|item| item.place)
    }

    /// Leaves out the items whose places are not waited at.
    pub(super) fn retain(&mut self, mut is_waited_at: impl FnMut(usize) -> bool) {
        for item in &mut self.items {
            item.wanted = is_waited_at(item.place);
        }
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.arguments.clear();
        self.items.clear();
        self.marks.clear();
        self.twice = false;
    }

    /// Appends the call, and returns whose answers it brings, in their order. The group is empty
    /// afterwards.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Box<[usize]> {
        let wanted = || self.items.iter().filter(|item| item.wanted);
        let parts: usize = wanted().map(|item| item.parts).sum();
        encode::write_count(out, parts + 3 + usize::from(self.twice));
        if let Some(script) = self.script {
            script.write_start(out, wanted().count());
        }
        out.reserve(self.size());
        write_wanted(out, &self.keys, &self.items, |item| item.keys_end);
        write_wanted(out, &self.arguments, &self.items, |item| item.arguments_end);
        if self.twice {
            encode::write_part(out, TWICE);
        }
        let each = wanted().map(|item| item.place).collect();
        self.clear();
        each
    }
}

fn mark(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn write_wanted(out: &mut Vec<u8>, bytes: &[u8], items: &[Item], end: impl Fn(&Item) -> usize) {
    let mut start = 0;
    for item in items {
        if item.wanted {
            out.extend_from_slice(bytes.get(start..end(item)).unwrap_or_default());
        }
        start = end(item);
    }
}
