//! As much of RESP2 as a subscriber meets: flat arrays of texts and numbers, lines and errors.

use std::io;
use std::ops::Range;

/// The longest line without a line end, and the most parts of an array, that are believed.
const MAX_LINE: usize = 64 * 1024;
const MAX_PARTS: usize = 16;
/// The longest text that a server takes or sends.
const MAX_TEXT: usize = 512 << 20;

/// One frame; the ranges are places in the bytes that were parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// `+PONG`
    Simple(Range<usize>),
    /// `-NOPERM ...`, the whole line with its end.
    Error(Range<usize>),
    /// The parts of an array: texts and numbers; empty for nil.
    Array(Vec<Range<usize>>),
}

/// The first frame in `bytes` and its length; `None` while it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> io::Result<Option<(Frame, usize)>> {
    let Some(line) = line_at(bytes, 0)? else {
        return Ok(None);
    };
    let end = line.end + 2;
    let frame = match bytes.first() {
        Some(b'+') => Frame::Simple(1..line.end),
        Some(b'-') => Frame::Error(0..end),
        Some(b'*') => {
            let count = number(bytes, &line)?;
            return array(bytes, end, count);
        }
        _ => return Err(invalid()),
    };
    Ok(Some((frame, end)))
}

/// Appends a command in the form that servers read.
pub(crate) fn write_command(out: &mut bytes::BytesMut, parts: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

fn array(bytes: &[u8], mut at: usize, count: i64) -> io::Result<Option<(Frame, usize)>> {
    let count = usize::try_from(count).map_err(|_| invalid())?;
    if count > MAX_PARTS {
        return Err(invalid());
    }
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let Some(line) = line_at(bytes, at)? else {
            return Ok(None);
        };
        let end = line.end + 2;
        match bytes.get(at) {
            Some(b':') => {
                parts.push(at + 1..line.end);
                at = end;
            }
            Some(b'$') => match usize::try_from(number(bytes, &line)?) {
                Err(_) => {
                    parts.push(end..end); // nil: `UNSUBSCRIBE` of nothing
                    at = end;
                }
                Ok(len) if len > MAX_TEXT => return Err(invalid()),
                Ok(len) => {
                    at = end + len + 2;
                    if bytes.len() < at {
                        return Ok(None);
                    }
                    parts.push(end..end + len);
                }
            },
            _ => return Err(invalid()),
        }
    }
    Ok(Some((Frame::Array(parts), at)))
}

/// Where the line that starts at `at` stands, its type byte included and its end excluded.
fn line_at(bytes: &[u8], at: usize) -> io::Result<Option<Range<usize>>> {
    let rest = bytes.get(at..).unwrap_or_default();
    let searched = rest.get(..MAX_LINE).unwrap_or(rest);
    match searched.windows(2).position(|pair| pair == b"\r\n") {
        Some(len) => Ok(Some(at..at + len)),
        None if rest.len() >= MAX_LINE => Err(invalid()),
        None => Ok(None),
    }
}

fn number(bytes: &[u8], line: &Range<usize>) -> io::Result<i64> {
    bytes
        .get(line.start + 1..line.end)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "not the protocol of a Redis server",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$4\r\na\r\nb\r\n";

    #[test]
    fn a_message_is_read_only_when_it_is_complete() {
        for len in 0..MESSAGE.len() {
            assert!(parse(&MESSAGE[..len]).unwrap().is_none(), "{len}");
        }
        let more = [MESSAGE, b"+PONG\r\n"].concat();
        let (frame, len) = parse(&more).unwrap().unwrap();
        let Frame::Array(parts) = frame else {
            panic!("{frame:?}")
        };
        let texts: Vec<_> = parts.into_iter().map(|part| &more[part]).collect();
        assert_eq!(texts, [&b"message"[..], b"ch", b"a\r\nb"]);
        assert_eq!(parse(&more[len..]).unwrap(), Some((Frame::Simple(1..5), 7)));
    }

    #[test]
    fn confirmations_errors_and_nil_are_read() {
        let (frame, _) = parse(b"*3\r\n$9\r\nsubscribe\r\n$-1\r\n:1\r\n")
            .unwrap()
            .unwrap();
        assert!(matches!(frame, Frame::Array(parts) if parts.len() == 3));
        assert_eq!(
            parse(b"-NOPERM no\r\n").unwrap(),
            Some((Frame::Error(0..12), 12))
        );
    }

    #[test]
    fn what_is_no_redis_server_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"*-1\r\n",
            b"*99\r\n",
            b"*1\r\n$9999999999999\r\n",
            b"*x\r\n",
            &[b'+'; MAX_LINE],
        ] {
            assert!(parse(bytes).is_err());
        }
    }

    #[test]
    fn commands_are_written_as_arrays() {
        let mut out = bytes::BytesMut::new();
        write_command(&mut out, &["PING", "é"]);
        assert_eq!(&out[..], "*2\r\n$4\r\nPING\r\n$2\r\né\r\n".as_bytes());
    }
}
