//! Answers of a server.

/// An answer, in either version of the protocol. Where RESP3 has a kind of its own for what older
/// servers send as something else, it is read as that: a set is an array, a boolean a number, a
/// floating point number its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// The status `OK`.
    Okay,
    /// A number.
    Int(i64),
    /// A text or any other status.
    Bytes(Vec<u8>),
    /// Several answers.
    Array(Vec<Value>),
    /// Pairs (RESP3).
    Map(Vec<(Value, Value)>),
    /// A message that answers no command (RESP3); its kind comes first.
    Push(Vec<Value>),
    /// An error, its code first, as in `WRONGTYPE Operation against ...`.
    Error(String),
}
