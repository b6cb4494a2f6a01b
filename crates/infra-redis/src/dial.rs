//! The steps of an attempt to connect: name lookup, TCP, TLS, login.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use infra_core::context::spawn_blocking;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::options::RedisOptions;
use crate::stream::{RedisStream, Transport};
use crate::tls;
use crate::url::RedisUrl;

/// The steps of one attempt, all within one limit.
pub(crate) struct Attempt<'a> {
    options: &'a RedisOptions,
    url: &'a RedisUrl,
    deadline: Instant,
}

impl<'a> Attempt<'a> {
    #[cfg(feature = "fred")]
    pub(crate) fn new(options: &'a RedisOptions) -> Self {
        Attempt::until(options, Instant::now() + options.connect_timeout)
    }

    pub(crate) fn until(options: &'a RedisOptions, deadline: Instant) -> Self {
        Attempt {
            options,
            url: options.url(),
            deadline,
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
        let config = self.tls_config().await?;
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

    /// Reads files: the trust store or the CA file.
    pub(crate) async fn tls_config(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let options = self.options.clone();
        let unusable = |message| ConnectError::new(ConnectFault::Config, self.url, message);
        spawn_blocking(move || tls::client_config(&options))
            .await
            .map_err(|error| unusable(error.to_string()))?
            .map_err(unusable)
    }

    /// The last step.
    pub(crate) async fn log_in<T>(
        &self,
        login: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        self.finish("the login", login).await
    }

    /// Carries out the rest, whatever it is, within the limit of the attempt.
    pub(crate) async fn finish<T>(
        &self,
        step: &str,
        rest: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match timeout_at(self.deadline, rest).await {
            Ok(done) => done,
            Err(_) => Err(self.late(step)),
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
