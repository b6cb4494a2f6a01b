//! A logged-in connection on which one command follows the other.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::connect_error::{ConnectError, ConnectFault, LoginCause, LoginFailure};
use crate::dial::Attempt;
use crate::encode;
use crate::fault::without_arguments;
use crate::options::RedisOptions;
use crate::reply::ReplyParser;
use crate::sentinel;
use crate::stream::RedisStream;
use crate::together::{self, STAGGER};
use crate::url::{Address, UrlKind};
use crate::value::Value;

/// How much is asked of the socket at once.
const READ_SIZE: usize = 16 * 1024;

/// A stream to a server that is logged in. What shares connections is built on top of it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: RedisStream,
    unread: BytesMut,
    parser: ReplyParser,
}

impl Wire {
    /// Connects to the server of the URL, to any node of its cluster, or to the master that its
    /// sentinels name, and logs in: password, database, name, and a first PING.
    ///
    /// # Errors
    /// The cause of the failure; at the latest after the connect timeout.
    pub(crate) async fn connect(options: &RedisOptions) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + options.connect_timeout;
        match options.url().kind() {
            UrlKind::Server => Wire::connect_to(options, deadline).await,
            UrlKind::Cluster => Wire::connect_to_any(options, deadline).await,
            UrlKind::Sentinel => sentinel::connect(options, deadline).await,
        }
    }

    async fn connect_to_any(
        options: &RedisOptions,
        deadline: Instant,
    ) -> Result<Self, ConnectError> {
        let hosts = options.url().hosts().iter();
        let connect = |address: &Address| {
            let node = options.for_url(options.url().for_server(address.clone()));
            async move { Wire::connect_to(&node, deadline).await }
        };
        let connected = together::first(hosts, STAGGER, connect).await;
        connected.unwrap_or_else(|| {
            let message = "the URL names no node".to_owned();
            Err(ConnectError::new(
                ConnectFault::Config,
                options.url(),
                message,
            ))
        })
    }

    /// Connects to the first server of the URL and logs in.
    pub(crate) async fn connect_to(
        options: &RedisOptions,
        deadline: Instant,
    ) -> Result<Self, ConnectError> {
        let attempt = Attempt::until(options, deadline);
        let mut wire = Wire {
            stream: attempt.open().await?,
            unread: BytesMut::new(),
            parser: ReplyParser::default(),
        };
        attempt.log_in(wire.log_in(options)).await?;
        Ok(wire)
    }

    async fn log_in(&mut self, options: &RedisOptions) -> Result<(), ConnectError> {
        let url = options.url();
        let password = url.password().map(|password| password.expose().as_bytes());
        match (url.username(), password) {
            (Some(user), Some(password)) => {
                self.must(options, &[b"AUTH", user.as_bytes(), password])
                    .await?;
            }
            (None, Some(password)) => self.must(options, &[b"AUTH", password]).await?,
            _ => {}
        }
        if url.db() != 0 {
            let db = url.db().to_string();
            self.must(options, &[b"SELECT", db.as_bytes()]).await?;
        }
        if let Some(name) = &options.client_name {
            let set_name = [&b"CLIENT"[..], b"SETNAME", name.as_bytes()];
            self.must(options, &set_name).await?;
        }
        if options.readonly {
            self.must(options, &[b"READONLY"]).await?;
        }
        // A server that asks for a password, or is loading, says so only when it is asked.
        self.must(options, &[b"PING"]).await
    }

    async fn must(&mut self, options: &RedisOptions, parts: &[&[u8]]) -> Result<(), ConnectError> {
        let failed = |cause, text: &str| {
            let text = without_arguments(text).to_owned();
            let url = options.url();
            ConnectError::login(url, url.is_tls(), LoginFailure { cause, text })
        };
        match self.ask(parts).await {
            Ok(Value::Error(line)) if is_dispensable(parts, &line) => Ok(()),
            Ok(Value::Error(line)) => Err(failed(LoginCause::Answer, &line)),
            Ok(_) => Ok(()),
            Err(error) => Err(failed(LoginCause::Broken, &error.to_string())),
        }
    }

    /// Sends one command and reads its answer, which may be an error reply.
    ///
    /// # Errors
    /// When the connection broke, or the other end does not speak the protocol.
    pub(crate) async fn ask(&mut self, parts: &[&[u8]]) -> io::Result<Value> {
        let mut bytes = Vec::new();
        encode::write_parts(&mut bytes, parts);
        self.send(&bytes).await?;
        self.read().await
    }

    /// Sends bytes that are commands already. Not cancel safe.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer or message. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<Value> {
        loop {
            if let Some(value) = self.parser.next(&mut self.unread)? {
                return Ok(value);
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

    /// The stream, and what was read from it and belongs to no answer yet.
    pub(crate) fn into_parts(self) -> (RedisStream, BytesMut) {
        (self.stream, self.unread)
    }
}

/// Rights that do not cover the name or the PING are no reason not to connect; nor is a proxy
/// that does not know `CLIENT`.
fn is_dispensable(parts: &[&[u8]], error: &str) -> bool {
    match parts.first() {
        Some(&b"PING") => error.starts_with("NOPERM"),
        Some(&b"CLIENT") => error.starts_with("NOPERM") || error.contains("unknown"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use infra_core::{Class, Classify};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The fault met at a server that answers whatever it is sent with `answer` and hangs up.
    async fn fault_at(answer: &'static [u8]) -> ConnectError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        infra_core::context::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        });
        let options = RedisOptions::parse(&format!("redis://127.0.0.1:{port}"))
            .unwrap()
            .connect_timeout(Duration::from_secs(5));
        match Wire::connect(&options).await {
            Ok(_) => panic!("connected"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn answers_that_are_no_greeting_have_their_fault() {
        for (answer, fault, class) in [
            (
                &b"-LOADING Redis is loading\r\n"[..],
                ConnectFault::NotReady,
                Class::Transient,
            ),
            (
                b"-ERR max number of clients reached\r\n",
                ConnectFault::NotReady,
                Class::Transient,
            ),
            (
                b"-NOAUTH Authentication required.\r\n",
                ConnectFault::Auth,
                Class::Permanent,
            ),
            (
                b"-DENIED protected mode\r\n",
                ConnectFault::Protocol,
                Class::Transient,
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                ConnectFault::Protocol,
                Class::Transient,
            ),
            (b"", ConnectFault::Protocol, Class::Transient),
        ] {
            let error = fault_at(answer).await;
            let shown = format!("{} -> {error}", String::from_utf8_lossy(answer));
            assert_eq!(error.fault(), fault, "{shown}");
            assert_eq!(error.class(), class, "{shown}");
        }
    }

    #[tokio::test]
    async fn missing_rights_to_ping_are_no_fault() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        infra_core::context::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let refusal = b"-NOPERM no permission for 'ping'\r\n";
            while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                stream.write_all(refusal).await.unwrap();
            }
        });
        let options = RedisOptions::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
        let live = Wire::connect(&options).await;
        assert!(live.is_ok());
    }
}
