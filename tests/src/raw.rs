//! The Redis protocol (RESP2) over a bare socket.
//!
//! A test that checks the client must not look at the server through that client.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long [`RawClient`] waits for a connection and for each answer.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// One answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `OK`, or the bytes of a string as text (bytes that are no UTF-8 are
    /// replaced).
    Text(String),
    /// An integer.
    Int(i64),
    /// No value.
    Nil,
    /// An error, with its code: `WRONGTYPE ...`.
    Error(String),
    /// Several answers.
    Array(Vec<Reply>),
}

impl Reply {
    /// The answer as one line of text: integers in decimal, `(nil)`, errors as they came, arrays
    /// joined by spaces.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) | Self::Error(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Nil => "(nil)".to_owned(),
            Self::Array(items) => items
                .iter()
                .map(Self::to_text)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// One connection to a Redis server.
#[derive(Debug)]
pub struct RawClient {
    stream: BufReader<Stream>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}

impl RawClient {
    /// Connects to `address` without authentication.
    ///
    /// # Errors
    /// When nobody accepts the connection within [`TIMEOUT`].
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(Stream::Tcp(stream)),
        })
    }

    /// Connects to the server whose socket is the file at `path`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(Stream::Unix(stream)),
        })
    }

    /// Connects to `redis://[[user]:password@]host[:port][/db]`, authenticates and selects the
    /// database.
    ///
    /// # Errors
    /// When the address is no such URL, nobody accepts the connection, or the server refuses the
    /// password.
    pub fn from_url(url: &str) -> io::Result<Self> {
        let parts = UrlParts::parse(url)
            .ok_or_else(|| io::Error::other("not a redis:// address with host and port"))?;
        let address = (parts.host, parts.port).to_socket_addrs()?.next();
        let mut client = Self::connect(address.ok_or_else(|| io::Error::other("unknown host"))?)?;
        match (parts.user, parts.password) {
            (Some(user), Some(password)) => client.must(&["AUTH", user, password])?,
            (None, Some(password)) => client.must(&["AUTH", password])?,
            _ => {}
        }
        if let Some(db) = parts.db {
            client.must(&["SELECT", db])?;
        }
        Ok(client)
    }

    /// Sends one command and reads its answer; an error of the server is a [`Reply::Error`].
    ///
    /// # Errors
    /// When the connection breaks, or [`TIMEOUT`] passes without an answer.
    pub fn command(&mut self, parts: &[&str]) -> io::Result<Reply> {
        self.send(parts)?;
        self.read()
    }

    /// [`command`](Self::command) with the answer as text.
    ///
    /// # Panics
    /// When the connection breaks.
    pub fn text(&mut self, parts: &[&str]) -> String {
        match self.command(parts) {
            Ok(reply) => reply.to_text(),
            Err(error) => panic!("no answer to {}: {error}", parts.first().unwrap_or(&"")),
        }
    }

    /// Reads one more answer, for instance the next message of a subscription.
    ///
    /// # Errors
    /// When the connection breaks, or [`TIMEOUT`] passes without an answer.
    pub fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(line.len().min(1));
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => number(rest).map(Reply::Int),
            "$" => self.read_bulk(number(rest)?),
            "*" => (0..number(rest)?)
                .map(|_| self.read())
                .collect::<io::Result<_>>()
                .map(Reply::Array),
            _ => Err(io::Error::other("not a RESP2 answer")),
        }
    }

    fn must(&mut self, parts: &[&str]) -> io::Result<()> {
        match self.command(parts)? {
            Reply::Error(text) => Err(io::Error::other(text)),
            _ => Ok(()),
        }
    }

    fn send(&mut self, parts: &[&str]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", parts.len());
        for part in parts {
            request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        self.stream.get_mut().write_all(request.as_bytes())
    }

    fn read_bulk(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Reply::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse()
        .map_err(|_| io::Error::other("not a number in an answer"))
}

struct UrlParts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: &'a str,
    port: u16,
    db: Option<&'a str>,
}

impl<'a> UrlParts<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("redis://")?;
        let rest = rest.split(['?', '#']).next()?;
        let (authority, db) = match rest.split_once('/') {
            Some((authority, db)) => (authority, (!db.is_empty()).then_some(db)),
            None => (rest, None),
        };
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login.map(|l| l.split_once(':').unwrap_or(("", l))) {
            Some((user, password)) => ((!user.is_empty()).then_some(user), Some(password)),
            None => (None, None),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, 6379),
        };
        Some(Self {
            user,
            password,
            host: host.trim_matches(['[', ']']),
            port,
            db,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_parts_are_found() {
        let parts = UrlParts::parse("redis://app:p%40ss@127.0.0.1:7001/3").unwrap();
        assert_eq!((parts.user, parts.password), (Some("app"), Some("p%40ss")));
        assert_eq!(
            (parts.host, parts.port, parts.db),
            ("127.0.0.1", 7001, Some("3"))
        );
        let parts = UrlParts::parse("redis://:secret@[::1]").unwrap();
        assert_eq!((parts.user, parts.password), (None, Some("secret")));
        assert_eq!((parts.host, parts.port, parts.db), ("::1", 6379, None));
        assert!(UrlParts::parse("http://127.0.0.1").is_none());
    }

    #[test]
    fn replies_become_text() {
        let array = Reply::Array(vec![Reply::Text("a".into()), Reply::Int(3), Reply::Nil]);
        assert_eq!(array.to_text(), "a 3 (nil)");
    }
}
