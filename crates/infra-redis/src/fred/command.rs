//! Commands and their answers, without types of the client library.

use bytes::Bytes;
use fred::types::{ClusterHash, CustomCommand, Resp3Frame, Value};

use crate::fault::{RedisFault, line_fault};

/// From this size on a value shares the memory it was read into; below it is copied, so that a
/// small value that is kept does not keep a whole read buffer alive.
const SHARED: usize = 16 * 1024;

/// A command: its name, in one word, and its arguments.
#[derive(Debug, Clone)]
pub struct FredCommand {
    name: &'static str,
    arguments: Vec<Value>,
}

impl FredCommand {
    /// A command without arguments.
    pub const fn new(name: &'static str) -> Self {
        FredCommand {
            name,
            arguments: Vec::new(),
        }
    }

    /// Adds a text, copied.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.arguments.push(Value::from(text));
        self
    }

    /// Adds a word of the protocol, as in `PX`.
    #[must_use]
    pub fn word(mut self, word: &'static str) -> Self {
        let word = Bytes::from_static(word.as_bytes());
        self.arguments.push(Value::Bytes(word));
        self
    }

    /// Adds bytes, not copied.
    #[must_use]
    pub fn bytes(mut self, bytes: Bytes) -> Self {
        self.arguments.push(Value::Bytes(bytes));
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: i64) -> Self {
        self.arguments.push(Value::Integer(number));
        self
    }

    pub(super) fn parts(&self) -> (CustomCommand, Vec<Value>) {
        let command = CustomCommand::new_static(self.name, ClusterHash::FirstKey, false);
        (command, self.arguments.clone())
    }
}

/// The answer to a [`FredCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FredReply {
    /// Nothing.
    Nil,
    /// A number.
    Integer(i64),
    /// A text, or a word of the protocol.
    Bytes(Bytes),
    /// A list.
    List(Vec<FredReply>),
}

impl FredReply {
    pub(super) fn of_frame(frame: Resp3Frame) -> Result<Self, RedisFault> {
        Ok(match frame {
            Resp3Frame::Null => FredReply::Nil,
            Resp3Frame::Number { data, .. } => FredReply::Integer(data),
            Resp3Frame::BlobString { data, .. }
            | Resp3Frame::SimpleString { data, .. }
            | Resp3Frame::VerbatimString { data, .. } => FredReply::Bytes(owned(data)),
            Resp3Frame::SimpleError { data, .. } => return Err(line_fault(&data)),
            Resp3Frame::BlobError { data, .. } => {
                return Err(line_fault(&String::from_utf8_lossy(&data)));
            }
            Resp3Frame::Array { data, .. } | Resp3Frame::Push { data, .. } => {
                let parts: Result<_, RedisFault> =
                    data.into_iter().map(FredReply::of_frame).collect();
                FredReply::List(parts?)
            }
            _ => return Err(RedisFault::protocol("an answer of an unknown shape")),
        })
    }

    pub(super) fn of_value(value: Value) -> Result<Self, RedisFault> {
        Ok(match value {
            Value::Null => FredReply::Nil,
            Value::Integer(number) => FredReply::Integer(number),
            Value::Bytes(bytes) => FredReply::Bytes(owned(bytes)),
            Value::String(text) => FredReply::Bytes(owned(text.into_inner())),
            Value::Queued => FredReply::Bytes(Bytes::from_static(b"QUEUED")),
            Value::Array(parts) => {
                let parts: Result<_, RedisFault> =
                    parts.into_iter().map(FredReply::of_value).collect();
                FredReply::List(parts?)
            }
            _ => return Err(RedisFault::protocol("an answer of an unknown shape")),
        })
    }
}

fn owned(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARED {
        Bytes::copy_from_slice(&bytes)
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_do_not_keep_the_buffer_they_came_in() {
        let buffer = Bytes::from(vec![7_u8; 64 * 1024]);
        let small = owned(buffer.slice(..100));
        assert_eq!(small, buffer.slice(..100));
        assert!(!buffer.as_ptr_range().contains(&small.as_ptr()));
        let large = owned(buffer.slice(..SHARED));
        assert!(buffer.as_ptr_range().contains(&large.as_ptr()));
    }
}
