//! One attempt to connect: name lookup, TCP, TLS, login, first PING.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use infra_core::BoxFuture;
use infra_core::context::spawn_blocking;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, cmd};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::options::RedisOptions;
use crate::stream::{AtEnd, RedisStream, Transport};
use crate::tls;
use crate::url::RedisUrl;

/// Requests that may wait in the client before a caller must wait to hand one over.
const QUEUE: usize = 1024;

/// A multiplexed connection that is logged in and has answered a PING.
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    /// Moves the bytes, and ends when the connection does.
    pub(crate) driver: BoxFuture<'static, ()>,
    pub(crate) at_end: AtEnd,
}

/// Connects and logs in.
pub(crate) async fn multiplexed(options: &RedisOptions) -> Result<Live, ConnectError> {
    let attempt = Attempt::new(options);
    let stream = attempt.open().await?;
    let logging_in = async {
        let done = log_in(options, stream).await;
        done.map_err(|error| ConnectError::login(options.url(), options.url().is_tls(), &error))
    };
    attempt.log_in(logging_in).await
}

async fn log_in(options: &RedisOptions, stream: RedisStream) -> Result<Live, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let at_end = stream.at_end();
    let (mut connection, driver) =
        MultiplexedConnection::new_with_config(&credentials(options), stream, config).await?;
    let mut driver: BoxFuture<'static, ()> = Box::pin(driver);
    tokio::select! {
        biased;
        greeted = greet(options, &mut connection) => greeted?,
        () = &mut driver => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
    }
    Ok(Live {
        connection,
        driver,
        at_end,
    })
}

async fn greet(
    options: &RedisOptions,
    connection: &mut MultiplexedConnection,
) -> Result<(), RedisError> {
    if let Some(name) = &options.client_name {
        let mut set_name = cmd("CLIENT");
        set_name.arg("SETNAME").arg(name);
        // A user whose rights do not cover this works without a name.
        connection.send_packed_command(&set_name).await?;
    }
    let reply = connection.send_packed_command(&cmd("PING")).await?;
    match reply.extract_error() {
        // Rights that do not cover PING are no reason not to connect.
        Err(error) if error.code() != Some("NOPERM") => Err(error),
        _ => Ok(()),
    }
}

fn credentials(options: &RedisOptions) -> RedisConnectionInfo {
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

/// The steps of one attempt, all within one limit.
pub(crate) struct Attempt<'a> {
    options: &'a RedisOptions,
    url: &'a RedisUrl,
    deadline: Instant,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(options: &'a RedisOptions) -> Self {
        Attempt {
            options,
            url: options.url(),
            deadline: Instant::now() + options.connect_timeout,
        }
    }

    /// A stream to the server: fresh name lookup, every address in turn, then TLS where asked for.
    pub(crate) async fn open(&self) -> Result<RedisStream, ConnectError> {
        let tcp = self.tcp(self.look_up().await?).await?;
        if self.url.is_tls() {
            self.tls(tcp).await
        } else {
            Ok(RedisStream::new(Transport::Tcp(tcp)))
        }
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let host = self.url.host();
        let lookup = lookup_host((host, self.url.port()));
        let fault = |message| ConnectError::new(ConnectFault::Dns, self.url, message);
        match timeout_at(self.deadline, lookup).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => {
                let message = format!("cannot look up the host `{host}`: {error}");
                Err(fault(message).with_source(error))
            }
            Err(_) => Err(fault(format!("no answer about the host `{host}` in time"))),
        }
    }

    async fn tcp(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
        let mut last = None;
        for (tried, address) in addresses.iter().enumerate() {
            // An address that swallows packets must leave time for the others.
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    prepare(&stream, self.options.ping_interval)
                        .map_err(|error| ConnectError::tcp(self.url, error))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(ConnectError::tcp(self.url, error)),
                Err(_) => last = Some(self.late("the TCP handshake")),
            }
        }
        Err(last.unwrap_or_else(|| {
            let message = format!("the host `{}` has no address", self.url.host());
            ConnectError::new(ConnectFault::Dns, self.url, message)
        }))
    }

    async fn tls(&self, tcp: TcpStream) -> Result<RedisStream, ConnectError> {
        let options = self.options.clone();
        let unusable = |message| ConnectError::new(ConnectFault::Config, self.url, message);
        // Reads files: the trust store or the CA file.
        let config = spawn_blocking(move || tls::client_config(&options))
            .await
            .map_err(|error| unusable(error.to_string()))?
            .map_err(unusable)?;
        let name = ServerName::try_from(self.url.host().to_owned()).map_err(|error| {
            let message = format!("the host is no name for TLS: {error}");
            ConnectError::new(ConnectFault::Tls, self.url, message)
        })?;
        let handshake = TlsConnector::from(config).connect(name, tcp);
        match timeout_at(self.deadline, handshake).await {
            Ok(Ok(stream)) => Ok(RedisStream::new(Transport::Tls(Box::new(stream)))),
            Ok(Err(error)) => Err(ConnectError::tls(self.url, error)),
            // A server without TLS waits for the end of what it takes for a command.
            Err(_) => Err(self.late("the TLS handshake (does this port speak TLS?)")),
        }
    }

    /// The last step.
    pub(crate) async fn log_in<T>(
        &self,
        login: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match timeout_at(self.deadline, login).await {
            Ok(done) => done,
            Err(_) => Err(self.late("the login")),
        }
    }

    fn late(&self, step: &str) -> ConnectError {
        ConnectError::timeout(self.url, step, self.options.connect_timeout)
    }
}

fn prepare(stream: &TcpStream, idle: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&probes)
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
        match multiplexed(&options).await {
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
        let live = multiplexed(&options).await;
        assert!(live.is_ok());
    }
}
