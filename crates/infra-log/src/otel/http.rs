//! One POST over a connection of its own, within a deadline that holds for all of it.
//!
//! Blocking, and without any crate that logs: what it does can never come back as telemetry. A
//! connection per request costs a round trip a batch and leaves no stale connection to be found
//! out when a batch is lost in it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use infra_core::Secret;

use super::endpoint::Endpoint;
use super::settings::OtelSettings;

/// The most of an answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Posts to one collector.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    headers: Vec<(String, Secret)>,
    /// A look-up that took longer than its request.
    looking_up: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    #[cfg(feature = "otel-tls")]
    tls: super::tls::Tls,
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(settings: &OtelSettings) -> Self {
        Client {
            endpoint: settings.endpoint.clone(),
            headers: settings.headers.clone(),
            looking_up: None,
            #[cfg(feature = "otel-tls")]
            tls: settings.tls.clone(),
        }
    }

    /// Posts `body` to `path` below the endpoint.
    pub(crate) fn post(&mut self, path: &str, body: &[u8], until: Instant) -> io::Result<Answer> {
        let head = self.head(path, body.len());
        let mut stream = self.connect(until)?;
        stream.write_all(head.expose().as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        read_answer(&mut stream)
    }

    fn head(&self, path: &str, length: usize) -> Secret {
        let Endpoint {
            authority,
            path: base,
            ..
        } = &self.endpoint;
        let mut head = format!(
            "POST {base}{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: infra-log/{}\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {length}\r\n\
             connection: close\r\n",
            env!("CARGO_PKG_VERSION"),
        );
        for (name, value) in &self.headers {
            head.extend([name, ": ", value.expose(), "\r\n"]);
        }
        head.push_str("\r\n");
        Secret::from(head)
    }

    fn connect(&mut self, until: Instant) -> io::Result<Box<dyn Stream>> {
        let mut failed = io::Error::other("the collector's name has no address");
        for address in self.look_up(until)? {
            match TcpStream::connect_timeout(&address, left(until)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return self.secured(Timed { stream, until });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    #[cfg(feature = "otel-tls")]
    fn secured(&mut self, stream: Timed) -> io::Result<Box<dyn Stream>> {
        match self.endpoint.secure {
            true => Ok(Box::new(self.tls.wrap(&self.endpoint.host, stream)?)),
            false => Ok(Box::new(stream)),
        }
    }

    #[cfg(not(feature = "otel-tls"))]
    fn secured(&mut self, stream: Timed) -> io::Result<Box<dyn Stream>> {
        match self.endpoint.secure {
            true => Err(io::Error::other("https needs the cargo feature `otel-tls`")),
            false => Ok(Box::new(stream)),
        }
    }

    /// The system's look-up knows no deadline: it runs in a thread that may outlive this call. At
    /// most one such thread is there at a time.
    fn look_up(&mut self, until: Instant) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = (self.endpoint.host.clone(), self.endpoint.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let looking_up = match self.looking_up.take() {
            Some(earlier) => earlier,
            None => {
                let (tell, told) = sync_channel(1);
                let code = move || {
                    let found = (host.as_str(), port).to_socket_addrs();
                    let _ = tell.send(found.map(Iterator::collect));
                };
                std::thread::Builder::new()
                    .name("infra-log-dns".into())
                    .spawn(code)?;
                told
            }
        };
        match looking_up.recv_timeout(left(until)?) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => {
                self.looking_up = Some(looking_up);
                Err(too_late())
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the look-up failed")),
        }
    }
}

/// A connection, secured or not.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A connection each of whose steps has what is left of the time.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer).map_err(in_time)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(too_late()),
        false => Ok(left),
    }
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")
}

/// A timed-out read is "would block" on some systems.
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => too_late(),
        _ => error,
    }
}

fn read_answer(stream: &mut dyn Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(answer) = parse(&bytes, false)? {
            return Ok(answer);
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if bytes.len() > MAX_ANSWER {
            return Err(malformed("its answer is too long"));
        }
    }
    parse(&bytes, true)?.ok_or_else(|| {
        let cut = "it closed the connection before it had answered";
        io::Error::new(io::ErrorKind::UnexpectedEof, cut)
    })
}

/// The answer, once there is all of it.
fn parse(bytes: &[u8], ended: bool) -> io::Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = bytes.get(..end).unwrap_or_default();
    let body = bytes.get(end + 4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| malformed("its answer is not HTTP"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let status = status
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or_else(|| malformed("its answer is not HTTP"))?;
    let header = |wanted: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        let field = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        field.map(|(_, value)| value.trim())
    };
    let chunked = header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length = header("content-length").and_then(|v| v.parse::<usize>().ok());
    let body = match (chunked, length) {
        (true, _) => unchunk(body),
        (false, Some(length)) => body.get(..length).map(<[u8]>::to_vec),
        (false, None) => ended.then(|| body.to_vec()),
    };
    Ok(body.map(|body| Answer {
        status,
        retry_after: header("retry-after")
            .and_then(|v| v.parse().ok())
            .map(Duration::from_secs),
        body,
    }))
}

/// The chunks put together, once the last one is there.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..line_end)?).ok()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = line_end + 2;
        body.extend_from_slice(rest.get(start..start.checked_add(size)?)?);
        rest = rest.get(start + size + 2..)?;
    }
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(text: &str, ended: bool) -> Option<String> {
        let answer = parse(text.as_bytes(), ended).unwrap();
        answer.map(|answer| String::from_utf8(answer.body).unwrap())
    }

    #[test]
    fn answers_end_by_length_by_chunks_or_with_the_connection() {
        let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(body_of(with_length, false).unwrap(), "ab");
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        assert_eq!(body_of(chunks, false).unwrap(), "abc");
        let neither = "HTTP/1.0 200 OK\r\n\r\nabc";
        assert_eq!(body_of(neither, false), None);
        assert_eq!(body_of(neither, true).unwrap(), "abc");
        for text in [with_length, chunks] {
            for end in 0..text.len() - 4 {
                assert_eq!(body_of(text.get(..end).unwrap(), false), None, "{end}");
            }
        }
        let wait = parse(
            b"HTTP/1.1 503 No\r\nRetry-After: 3\r\ncontent-length: 0\r\n\r\n",
            false,
        );
        let wait = wait.unwrap().unwrap();
        assert_eq!(
            (wait.status, wait.retry_after),
            (503, Some(Duration::from_secs(3)))
        );
        for text in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes(), true).is_err(), "{text}");
        }
    }
}
