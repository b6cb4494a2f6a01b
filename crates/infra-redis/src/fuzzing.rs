//! The parsers, for fuzz targets: built only with `--cfg fuzzing`, as `cargo fuzz` does.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use crate::reply::ReplyParser;
use crate::resp::{self, Frame};
use crate::value::Value;

/// What was read before the end or the first error, and the error.
pub type Read<T> = (Vec<T>, Option<String>);

/// Reads answers that arrive in these pieces.
pub fn replies<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read<Value> {
    let (mut parser, mut unread, mut values) =
        (ReplyParser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            match parser.next(&mut unread) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error.to_string())),
            }
        }
    }
    (values, None)
}

/// Reads a subscriber's messages that arrive in these pieces: the parts of each.
///
/// # Panics
/// When a part lies outside of its message.
pub fn messages<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read<Vec<Vec<u8>>> {
    let (mut unread, mut messages) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            match resp::parse(&unread) {
                Ok(Some((frame, length))) => {
                    let bytes = unread.get(..length).map(<[u8]>::to_vec);
                    let bytes = bytes.unwrap_or_default();
                    assert!(!bytes.is_empty(), "a message longer than what came");
                    messages.push(parts(frame, &bytes));
                    unread.advance(length);
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }
    (messages, None)
}

fn parts(frame: Frame, bytes: &[u8]) -> Vec<Vec<u8>> {
    let part = |range: Range<usize>| {
        let part = bytes.get(range).map(<[u8]>::to_vec);
        assert!(part.is_some(), "a part outside of its message");
        part.unwrap_or_default()
    };
    match frame {
        Frame::Simple(range) | Frame::Error(range) => vec![part(range)],
        Frame::Array(ranges) => ranges.into_iter().map(part).collect(),
    }
}
