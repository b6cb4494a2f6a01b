//! Commands and their answers, without types of the client library.

use bytes::Bytes;
use fred::clients::Pipeline;
use fred::error::Error;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Expiration, Key, SetOptions, Value};

use crate::fault::RedisFault;

/// From this size on a value shares the memory it was read into; below it is copied, so that a
/// small value that is kept does not keep a whole read buffer alive.
const SHARED: usize = 16 * 1024;

/// A command.
///
/// The ones that are made often have constructors of their own: the library flushes its socket
/// for every command that it does not know, which costs a system call for each.
#[derive(Debug, Clone)]
pub struct FredCommand(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Get(Key),
    Set {
        key: Key,
        value: Bytes,
        life: FredLife,
        only_new: bool,
    },
    Increment(Key, i64),
    Other {
        name: &'static str,
        arguments: Vec<Value>,
    },
}

/// What a `SET` does to the expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FredLife {
    /// The value lives for ever.
    Clear,
    /// `KEEPTTL`.
    Keep,
    /// `PX`, in milliseconds.
    Millis(i64),
}

impl FredCommand {
    /// `GET`.
    pub fn get(key: &str) -> Self {
        FredCommand(Kind::Get(Key::from(key)))
    }

    /// `SET`, with `NX` where only a new key is to be set.
    pub fn set(key: &str, value: Bytes, life: FredLife, only_new: bool) -> Self {
        let key = Key::from(key);
        FredCommand(Kind::Set {
            key,
            value,
            life,
            only_new,
        })
    }

    /// `INCRBY`.
    pub fn increment(key: &str, delta: i64) -> Self {
        FredCommand(Kind::Increment(Key::from(key), delta))
    }

    /// Any other command: its name, in one word; the methods below add its arguments, and do
    /// nothing to the commands above.
    pub const fn new(name: &'static str) -> Self {
        let arguments = Vec::new();
        FredCommand(Kind::Other { name, arguments })
    }

    /// Adds a text, copied.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.with(Value::from(text))
    }

    /// Adds a word of the protocol, as in `PX`.
    #[must_use]
    pub fn word(self, word: &'static str) -> Self {
        self.with(Value::Bytes(Bytes::from_static(word.as_bytes())))
    }

    /// Adds bytes, not copied.
    #[must_use]
    pub fn bytes(self, bytes: Bytes) -> Self {
        self.with(Value::Bytes(bytes))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.with(Value::Integer(number))
    }

    /// Its bytes, about.
    pub(super) fn size(&self) -> usize {
        const HEADER: usize = 24;
        match &self.0 {
            Kind::Get(key) | Kind::Increment(key, _) => 2 * HEADER + key.as_bytes().len(),
            Kind::Set { key, value, .. } => 4 * HEADER + key.as_bytes().len() + value.len(),
            Kind::Other { arguments, .. } => {
                let sizes = arguments.iter().map(|argument| match argument {
                    Value::Bytes(bytes) => HEADER + bytes.len(),
                    Value::String(text) => HEADER + text.len(),
                    _ => HEADER,
                });
                HEADER + sizes.sum::<usize>()
            }
        }
    }

    fn with(mut self, argument: Value) -> Self {
        if let Kind::Other { arguments, .. } = &mut self.0 {
            arguments.push(argument);
        }
        self
    }

    /// Hands the command to the library and waits for what comes back: the answer from a client,
    /// a mere word from a pipeline.
    pub(super) async fn issue<C: KeysInterface>(&self, client: &C) -> Result<Value, Error> {
        match &self.0 {
            Kind::Get(key) => client.get(key.clone()).await,
            Kind::Increment(key, delta) => client.incr_by(key.clone(), *delta).await,
            Kind::Set {
                key,
                value,
                life,
                only_new,
            } => {
                let expiration = match life {
                    FredLife::Clear => None,
                    FredLife::Keep => Some(Expiration::KEEPTTL),
                    FredLife::Millis(millis) => Some(Expiration::PX(*millis)),
                };
                let options = only_new.then_some(SetOptions::NX);
                let value = Value::Bytes(value.clone());
                client
                    .set(key.clone(), value, expiration, options, false)
                    .await
            }
            Kind::Other { name, arguments } => {
                let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
                client.custom(command, arguments.clone()).await
            }
        }
    }

    /// Adds the command to a pipeline.
    pub(super) async fn queue<C>(&self, pipeline: &Pipeline<C>) -> Result<(), Error>
    where
        C: ClientLike + KeysInterface,
    {
        self.issue(pipeline).await.map(|_| ())
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

impl From<FredReply> for crate::value::Value {
    fn from(reply: FredReply) -> Self {
        match reply {
            FredReply::Nil => Self::Nil,
            FredReply::Integer(number) => Self::Int(number),
            FredReply::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            FredReply::List(parts) => Self::Array(parts.into_iter().map(Self::from).collect()),
        }
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
