//! A connection of its own for subscriptions.
//!
//! The client library's own puts every message into a queue without a bound, and ends without a
//! word when the server cuts it off. Here nothing is read before somebody asks for the next
//! message, so a slow reader is held up by TCP and the server's own limit, and every end has a
//! reason. The protocol is RESP2, which every server speaks.

use std::io;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect_error::ConnectError;
use crate::fault::{RedisFault, line_fault};
use crate::options::RedisOptions;
use crate::resp::{self, Frame};
use crate::stream::RedisStream;
use crate::wire::Wire;

/// How much is asked of the socket at once.
const READ_SIZE: usize = 64 * 1024;

/// What the server sends to a subscriber.
#[derive(Debug)]
pub enum Push<'a> {
    /// A published message.
    Message {
        /// The pattern by which it came; none for an exact subscription.
        pattern: Option<&'a [u8]>,
        /// The channel on which it was published.
        channel: &'a [u8],
        /// The message; a copy, so that one small event that waits for long does not keep a whole
        /// read buffer alive.
        payload: Bytes,
    },
    /// The answer to the oldest command that has none yet.
    Reply(Reply<'a>),
}

/// An answer to a command of a [`Subscriber`].
#[derive(Debug)]
pub enum Reply<'a> {
    /// The server confirmed a command: its name (`subscribe`, `punsubscribe`, ...) and the channel
    /// or pattern.
    Confirmed(&'a [u8], &'a [u8]),
    /// The answer to a PING.
    Pong,
    /// The server refused.
    Refused(RedisFault),
}

/// A command of a [`Subscriber`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriberCommand<'a> {
    /// `SUBSCRIBE` to a channel.
    Subscribe(&'a str),
    /// `UNSUBSCRIBE` from a channel.
    Unsubscribe(&'a str),
    /// `PSUBSCRIBE` to a pattern.
    PatternSubscribe(&'a str),
    /// `PUNSUBSCRIBE` from a pattern.
    PatternUnsubscribe(&'a str),
    /// `PING`.
    Ping,
}

/// A logged-in connection for subscriptions. Its user supervises it.
#[derive(Debug)]
pub struct Subscriber {
    stream: RedisStream,
    /// What was read and not parsed yet.
    unread: BytesMut,
    /// The frame that was handed out last.
    current: BytesMut,
    unsent: BytesMut,
}

impl Subscriber {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The cause of the failure; at the latest after the connect timeout.
    pub async fn connect(options: &RedisOptions) -> Result<Self, ConnectError> {
        let (stream, unread) = Wire::connect(options).await?.into_parts();
        Ok(Subscriber {
            stream,
            unread,
            current: BytesMut::new(),
            unsent: BytesMut::new(),
        })
    }

    /// Queues a command; [`Subscriber::flush`] sends it. The answers come in the same order.
    pub fn queue(&mut self, command: SubscriberCommand<'_>) {
        use SubscriberCommand::*;
        let out = &mut self.unsent;
        match command {
            Subscribe(channel) => resp::write_command(out, &["SUBSCRIBE", channel]),
            Unsubscribe(channel) => resp::write_command(out, &["UNSUBSCRIBE", channel]),
            PatternSubscribe(pattern) => resp::write_command(out, &["PSUBSCRIBE", pattern]),
            PatternUnsubscribe(pattern) => resp::write_command(out, &["PUNSUBSCRIBE", pattern]),
            Ping => resp::write_command(out, &["PING"]),
        }
    }

    /// True when nothing waits to be sent.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            if self.stream.write_buf(&mut self.unsent).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.stream.flush().await
    }

    /// The next message or answer. Cancel safe.
    ///
    /// # Errors
    /// When the connection ended, or the other end does not speak the protocol.
    pub async fn next(&mut self) -> io::Result<Push<'_>> {
        let frame = self.read_frame().await?;
        self.push(frame)
    }

    /// The next message or answer, if it was read from the socket already.
    ///
    /// # Errors
    /// When the other end does not speak the protocol.
    pub fn next_buffered(&mut self) -> io::Result<Option<Push<'_>>> {
        match self.take_frame()? {
            Some(frame) => self.push(frame).map(Some),
            None => Ok(None),
        }
    }

    fn push(&self, frame: Frame) -> io::Result<Push<'_>> {
        let bytes = &self.current[..];
        match frame {
            Frame::Simple(_) => Ok(Push::Reply(Reply::Pong)),
            Frame::Error(line) => {
                let fault = line_fault(&error_text(bytes, line));
                Ok(Push::Reply(Reply::Refused(fault)))
            }
            Frame::Array(parts) => {
                let part = |n: usize| -> io::Result<&[u8]> {
                    let range: Range<usize> = parts.get(n).cloned().unwrap_or_default();
                    bytes.get(range).ok_or_else(|| invalid("a part is missing"))
                };
                match part(0)? {
                    b"message" => Ok(Push::Message {
                        pattern: None,
                        channel: part(1)?,
                        payload: Bytes::copy_from_slice(part(2)?),
                    }),
                    b"pmessage" => Ok(Push::Message {
                        pattern: Some(part(1)?),
                        channel: part(2)?,
                        payload: Bytes::copy_from_slice(part(3)?),
                    }),
                    b"pong" => Ok(Push::Reply(Reply::Pong)),
                    kind => Ok(Push::Reply(Reply::Confirmed(kind, part(1)?))),
                }
            }
        }
    }

    /// Moves the first whole frame, if there is one, into `current`.
    fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((frame, len)) = resp::parse(&self.unread)? else {
            return Ok(None);
        };
        self.current = self.unread.split_to(len);
        Ok(Some(frame))
    }

    /// Reads one whole frame into `current`.
    async fn read_frame(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.unread.reserve(READ_SIZE);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection",
                ));
            }
        }
    }
}

/// The text of an error line: without its type byte and its end.
fn error_text(bytes: &[u8], line: Range<usize>) -> String {
    let line = String::from_utf8_lossy(bytes.get(line).unwrap_or_default());
    line.trim_start_matches('-').trim_end().to_owned()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not the protocol of a Redis server: {what}"),
    )
}
