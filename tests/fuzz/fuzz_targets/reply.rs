//! Answers of a server from any bytes: read or refused, the same however they are cut, and no
//! deeper than is believed. What a length merely announces takes no memory (`-malloc_limit_mb`).
#![no_main]

use infra_redis::Value;
use infra_redis::fuzzing::{messages, replies};
use libfuzzer_sys::fuzz_target;

/// Deeper than any list in a list that is believed.
const TOO_DEEP: usize = 33;

fuzz_target!(|input: (u64, &[u8])| {
    let (seed, bytes) = input;
    let whole = replies(std::iter::once(bytes));
    assert!(whole.0.iter().all(|value| depth(value) < TOO_DEEP));
    assert_eq!(replies(bytes.chunks(1)), whole);
    assert_eq!(replies(Pieces { seed, bytes }), whole);
    let whole = messages(std::iter::once(bytes));
    assert_eq!(messages(bytes.chunks(1)), whole);
    assert_eq!(messages(Pieces { seed, bytes }), whole);
});

fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(values) | Value::Push(values) => values.iter().map(depth).max(),
        Value::Map(pairs) => pairs.iter().map(|(k, v)| depth(k).max(depth(v))).max(),
        _ => return 0,
    };
    1 + deepest.unwrap_or(0)
}

/// Pieces of 1 to 16 bytes, as the seed says.
struct Pieces<'a> {
    seed: u64,
    bytes: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let length = 1 + (self.seed % 16) as usize;
        self.seed = self.seed.rotate_right(4) ^ 0x9E37;
        let (piece, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        Some(piece)
    }
}
