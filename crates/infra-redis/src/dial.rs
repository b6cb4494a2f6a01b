//! One attempt to connect: name lookup, TCP, TLS, login, first PING.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use infra_core::BoxFuture;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, cmd};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::options::RedisOptions;
use crate::tls;

/// Requests that may wait in the client before a caller must wait to hand one over.
const QUEUE: usize = 1024;

/// A TCP or TLS stream to a server.
#[derive(Debug)]
pub enum RedisStream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A multiplexed connection that is logged in and has answered a PING, and its driver: the future
/// that moves the bytes and ends when the connection does.
pub(crate) async fn multiplexed(
    options: &RedisOptions,
) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), ConnectError> {
    within(options, "connect", async {
        let stream = open(options).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&login(options), stream, config)
                .await
                .map_err(|error| login_error(options, &error))?;
        let mut driver: BoxFuture<'static, ()> = Box::pin(driver);
        let greeting = greet(options, &mut connection);
        tokio::select! {
            biased;
            greeted = greeting => greeted?,
            () = &mut driver => {
                let closed = redis::RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
                return Err(login_error(options, &closed));
            }
        }
        Ok((connection, driver))
    })
    .await
}

/// Both halves of a connection for subscriptions, logged in. The caller supervises it: the stream
/// ends when the connection does.
///
/// The client queues what the stream's reader has not taken yet without a bound of its own.
///
/// # Errors
/// The cause of the failure; at the latest after the connect timeout.
pub async fn pubsub(options: &RedisOptions) -> Result<(PubSubSink, PubSubStream), ConnectError> {
    within(options, "connect", async {
        let stream = open(options).await?;
        let (mut sink, stream) = PubSub::new(&login(options), stream)
            .await
            .map_err(|error| login_error(options, &error))?
            .split();
        // A server that asks for a password, or is loading, says so only when it is asked.
        match sink.ping::<Value>().await {
            Err(error) if error.code() != Some("NOPERM") => Err(login_error(options, &error)),
            _ => Ok((sink, stream)),
        }
    })
    .await
}

/// A bare stream to the server, TLS included, not logged in.
///
/// # Errors
/// The cause of the failure; at the latest after the connect timeout.
pub async fn stream(options: &RedisOptions) -> Result<RedisStream, ConnectError> {
    within(options, "connect", open(options)).await
}

async fn greet(
    options: &RedisOptions,
    connection: &mut MultiplexedConnection,
) -> Result<(), ConnectError> {
    if let Some(name) = &options.client_name {
        let mut set_name = cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        // A user whose rights do not cover this works without a name.
        connection
            .send_packed_command(&set_name)
            .await
            .map_err(|error| login_error(options, &error))?;
    }
    let reply = connection
        .send_packed_command(&cmd("PING"))
        .await
        .map_err(|error| login_error(options, &error))?;
    match reply.extract_error() {
        Ok(_) => Ok(()),
        // Rights that do not cover PING are no reason not to connect.
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        Err(error) => Err(login_error(options, &error)),
    }
}

/// A stream to the server: fresh name lookup, every address in turn, then TLS where asked for.
pub(crate) async fn open(options: &RedisOptions) -> Result<RedisStream, ConnectError> {
    let url = options.url();
    let tcp = connect_tcp(options).await?;
    if !url.is_tls() {
        return Ok(RedisStream::Tcp(tcp));
    }
    let config = tls::client_config(options)
        .map_err(|message| ConnectError::new(ConnectFault::Config, url, message))?;
    let name = ServerName::try_from(url.host().to_owned()).map_err(|error| {
        ConnectError::new(ConnectFault::Tls, url, format!("bad host name: {error}"))
    })?;
    TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map(|stream| RedisStream::Tls(Box::new(stream)))
        .map_err(|error| ConnectError::tls(url, error))
}

async fn connect_tcp(options: &RedisOptions) -> Result<TcpStream, ConnectError> {
    let url = options.url();
    let dns = |error: Option<io::Error>| {
        let host = url.host();
        match error {
            Some(error) => {
                let message = format!("cannot look up the host `{host}`: {error}");
                ConnectError::new(ConnectFault::Dns, url, message).with_source(error)
            }
            None => {
                let message = format!("the host `{host}` has no address");
                ConnectError::new(ConnectFault::Dns, url, message)
            }
        }
    };
    let addresses = lookup_host((url.host(), url.port()))
        .await
        .map_err(|error| dns(Some(error)))?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                prepare(&stream, options.ping_interval)
                    .map_err(|error| ConnectError::tcp(url, error))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => ConnectError::tcp(url, error),
        None => dns(None),
    })
}

fn prepare(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn login(options: &RedisOptions) -> RedisConnectionInfo {
    let url = options.url();
    let mut info = RedisConnectionInfo::default()
        .set_db(i64::from(url.db()))
        .set_skip_set_lib_name();
    if let Some(user) = url.username() {
        info = info.set_username(user);
    }
    if let Some(password) = url.password() {
        info = info.set_password(password.expose());
    }
    info
}

fn login_error(options: &RedisOptions, error: &redis::RedisError) -> ConnectError {
    ConnectError::login(options.url(), options.url().is_tls(), error)
}

pub(crate) async fn within<T>(
    options: &RedisOptions,
    step: &str,
    attempt: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let limit = options.connect_timeout;
    match timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::timeout(options.url(), step, limit)),
    }
}

macro_rules! forward {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            RedisStream::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            RedisStream::Tls($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for RedisStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for RedisStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, stream => stream.poll_shutdown(cx))
    }
}
