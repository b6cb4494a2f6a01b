//! Answers of a server: RESP2 and RESP3, read as they arrive.

use std::io;

use bytes::{Buf, BytesMut};
use memchr::memchr;

use crate::value::Value;

/// The longest line without a line end that is believed.
const MAX_LINE: usize = 64 * 1024;
/// The longest text that a server takes or sends.
const MAX_TEXT: usize = 512 << 20;
/// How deep lists in lists go that are believed; no command of the drivers goes past four.
const MAX_DEPTH: usize = 32;
/// The longest list that is believed; servers take no more arguments in a command either.
const MAX_ELEMENTS: usize = 1 << 30;
/// Room made for a list before its elements are there; the rest grows with them.
const TRUSTED_ROOM: usize = 1024;

/// Reads one answer after the other, however its bytes are cut into pieces. What was read of a
/// list is kept, so that no byte is looked at twice.
#[derive(Debug, Default)]
pub(crate) struct ReplyParser {
    open: Vec<Open>,
}

/// A list whose elements are still coming.
#[derive(Debug)]
struct Open {
    kind: Kind,
    missing: usize,
    elements: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Set,
    Map,
    Push,
    /// Says something about the value that follows; left out.
    Attribute,
}

enum Token {
    Value(Value),
    Open(Kind, usize),
}

impl ReplyParser {
    /// Takes the first whole answer off `bytes`; `None` while it is not complete.
    ///
    /// # Errors
    /// When the bytes are not the protocol; then the connection is of no more use.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Value>> {
        loop {
            let Some((token, length)) = token(bytes)? else {
                return Ok(None);
            };
            bytes.advance(length);
            let mut value = match token {
                Token::Open(kind, count) => match self.open(kind, count)? {
                    Some(empty) => empty,
                    None => continue,
                },
                Token::Value(value) => value,
            };
            loop {
                let Some(list) = self.open.last_mut() else {
                    return Ok(Some(value));
                };
                list.elements.push(value);
                list.missing -= 1;
                if list.missing > 0 {
                    break;
                }
                let Some(whole) = self.open.pop().and_then(Open::finish) else {
                    break;
                };
                value = whole;
            }
        }
    }

    /// Begins a list; an empty one is whole at once.
    fn open(&mut self, kind: Kind, count: usize) -> io::Result<Option<Value>> {
        if self.open.len() >= MAX_DEPTH {
            return Err(invalid("lists in lists without an end"));
        }
        let missing = match kind {
            Kind::Map | Kind::Attribute => count.saturating_mul(2),
            _ => count,
        };
        if missing > MAX_ELEMENTS {
            return Err(invalid("a list without an end"));
        }
        let list = Open {
            kind,
            missing,
            elements: Vec::with_capacity(count.min(TRUSTED_ROOM)),
        };
        if list.missing == 0 {
            return Ok(list.finish());
        }
        self.open.push(list);
        Ok(None)
    }
}

impl Open {
    /// The value; none for what is left out.
    fn finish(self) -> Option<Value> {
        let elements = self.elements;
        Some(match self.kind {
            Kind::Array => Value::Array(elements),
            Kind::Set => Value::Array(elements),
            Kind::Attribute => return None,
            Kind::Map => {
                let mut pairs = Vec::with_capacity(elements.len() / 2);
                let mut elements = elements.into_iter();
                while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            Kind::Push => Value::Push(elements),
        })
    }
}

/// The first token of `bytes` and its length.
fn token(bytes: &[u8]) -> io::Result<Option<(Token, usize)>> {
    let Some(end) = line_end(bytes)? else {
        return Ok(None);
    };
    let after = end + 2;
    let (Some(&kind), Some(line)) = (bytes.first(), bytes.get(1..end)) else {
        return Err(invalid("an empty line"));
    };
    let value = match kind {
        b'+' if line == b"OK" => Value::Okay,
        b'+' | b',' | b'(' => Value::Bytes(line.to_vec()),
        b'-' => error(line),
        b':' => Value::Int(number(line)?),
        b'_' => Value::Nil,
        b'#' => Value::Int(i64::from(line == b"t")),
        b'$' | b'!' | b'=' => return bulk(bytes, kind, line, after),
        b'*' | b'~' | b'%' | b'>' | b'|' => {
            let token = match usize::try_from(number(line)?) {
                Err(_) if line == b"-1" => Token::Value(Value::Nil),
                Err(_) => return Err(invalid("a list of negative length")),
                Ok(count) => Token::Open(kind_of(kind), count),
            };
            return Ok(Some((token, after)));
        }
        _ => return Err(invalid("an answer of no known kind")),
    };
    Ok(Some((Token::Value(value), after)))
}

fn kind_of(sign: u8) -> Kind {
    match sign {
        b'~' => Kind::Set,
        b'%' => Kind::Map,
        b'>' => Kind::Push,
        b'|' => Kind::Attribute,
        _ => Kind::Array,
    }
}

/// A text whose length stands in `line`, and which begins at `after`.
fn bulk(bytes: &[u8], kind: u8, line: &[u8], after: usize) -> io::Result<Option<(Token, usize)>> {
    let length = match usize::try_from(number(line)?) {
        Err(_) if line == b"-1" => return Ok(Some((Token::Value(Value::Nil), after))),
        Err(_) => return Err(invalid("a text of negative length")),
        Ok(length) if length > MAX_TEXT => return Err(invalid("a text without an end")),
        Ok(length) => length,
    };
    let end = after + length;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    let body = bytes.get(after..end).unwrap_or_default();
    if bytes.get(end..end + 2) != Some(&b"\r\n"[..]) {
        return Err(invalid("a text longer than it said"));
    }
    let value = match kind {
        b'!' => error(body),
        // The text's format and a colon go before.
        b'=' => Value::Bytes(body.get(4..).unwrap_or_default().to_vec()),
        _ => Value::Bytes(body.to_vec()),
    };
    Ok(Some((Token::Value(value), end + 2)))
}

/// Where the first line ends.
fn line_end(bytes: &[u8]) -> io::Result<Option<usize>> {
    let searched = bytes.get(..MAX_LINE).unwrap_or(bytes);
    match memchr(b'\r', searched) {
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some(end)),
            Some(_) => Err(invalid("half a line end")),
            None => Ok(None),
        },
        None if bytes.len() >= MAX_LINE => Err(invalid("a line without an end")),
        None => Ok(None),
    }
}

fn number(digits: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| invalid("no number"))
}

fn error(line: &[u8]) -> Value {
    Value::Error(String::from_utf8_lossy(line).into_owned())
}

pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not the protocol of a Redis server: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> io::Result<Vec<Value>> {
        let mut bytes = BytesMut::from(bytes);
        let mut parser = ReplyParser::default();
        let mut values = Vec::new();
        while let Some(value) = parser.next(&mut bytes)? {
            values.push(value);
        }
        Ok(values)
    }

    fn bulk(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    #[test]
    fn every_kind_of_answer_is_read() {
        let bytes =
            b"+OK\r\n+PONG\r\n:-7\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*-1\r\n*0\r\n_\r\n#t\r\n\
            ,0.5\r\n(123\r\n=7\r\ntxt:abc\r\n%1\r\n+a\r\n:1\r\n~1\r\n:2\r\n|1\r\n+x\r\n:9\r\n:3\r\n\
            >2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
        let values = all(bytes).unwrap();
        assert_eq!(
            values,
            [
                Value::Okay,
                bulk("PONG"),
                Value::Int(-7),
                Value::Nil,
                bulk(""),
                bulk("a\r\nb"),
                Value::Nil,
                Value::Array(vec![]),
                Value::Nil,
                Value::Int(1),
                bulk("0.5"),
                bulk("123"),
                bulk("abc"),
                Value::Map(vec![(bulk("a"), Value::Int(1))]),
                Value::Array(vec![Value::Int(2)]),
                Value::Int(3),
                Value::Push(vec![bulk("invalidate"), Value::Array(vec![bulk("k")])]),
            ]
        );
    }

    #[test]
    fn errors_are_read_in_both_forms() {
        for bytes in [
            &b"-WRONGTYPE a list\r\n"[..],
            b"!16\r\nWRONGTYPE a list\r\n",
        ] {
            let error = Value::Error("WRONGTYPE a list".to_owned());
            assert_eq!(all(bytes).unwrap(), [error]);
        }
    }

    #[test]
    fn what_is_no_redis_server_is_refused() {
        let deep = b"*1\r\n".repeat(100);
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\r\n",
            b"*-2\r\n",
            b"$-2\r\n",
            b"$9999999999999\r\n",
            b"%9223372036854775807\r\n",
            b"*x\r\n",
            b"+a\rb\r\n",
            b"$1\r\nabc\r\n",
            &[b'+'; MAX_LINE],
            &deep,
        ] {
            assert!(all(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|n| format!(":{n}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"+OK\r\n".to_vec()),
            Just(b"-ERR no\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(|text| {
                [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat()
            }),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            proptest::collection::vec(inner, 0..4).prop_map(|list| {
                [format!("*{}\r\n", list.len()).as_bytes(), &list.concat()].concat()
            })
        })
    }

    proptest! {
        #[test]
        fn answers_read_in_pieces_are_the_same(
            answers in proptest::collection::vec(answer(), 1..6),
            piece in 1..9_usize,
        ) {
            let bytes = answers.concat();
            let whole = all(&bytes).unwrap();
            prop_assert_eq!(whole.len(), answers.len());
            let (mut parser, mut unread, mut values) =
                (ReplyParser::default(), BytesMut::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                unread.extend_from_slice(piece);
                while let Some(value) = parser.next(&mut unread).unwrap() {
                    values.push(value);
                }
            }
            prop_assert_eq!(whole, values);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            bytes in proptest::collection::vec(
                prop_oneof![any::<u8>(), proptest::sample::select(b"*$+-:%>|!=\r\n019".to_vec())],
                0..80,
            ),
        ) {
            let _ = all(&bytes);
        }
    }
}
