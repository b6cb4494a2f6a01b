//! What can be chosen about a connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acknowledge::Acknowledge;
use crate::address_map::AddressMap;
use crate::backoff::Backoff;
use crate::replicas::ReadFrom;
use crate::url::{Address, RedisUrl, UrlError};

/// How to connect to one server. Everything but the URL has a default.
///
/// ```
/// use std::time::Duration;
/// use infra_redis::RedisOptions;
///
/// let options = RedisOptions::parse("redis://localhost:6379")?
///     .connect_timeout(Duration::from_secs(2))
///     .client_name("trading-desk");
/// # let _ = options;
/// # Ok::<(), infra_redis::UrlError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RedisOptions {
    pub(crate) url: RedisUrl,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) lazy: bool,
    pub(crate) client_name: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) acknowledge: Acknowledge,
    pub(crate) read_from: ReadFrom,
    pub(crate) address_map: AddressMap,
    /// A connection to a replica of a cluster, which must be told that reads may be old.
    pub(crate) readonly: bool,
    /// One of several connections for one purpose: what happens to it is told by others.
    pub(crate) quiet: bool,
}

impl RedisOptions {
    /// The defaults for `url`; TLS settings, client name, the level of acknowledgement and the
    /// servers to read from are taken from its parameters.
    pub fn new(url: RedisUrl) -> Self {
        let name = url.client_name().map(str::to_owned);
        let options = RedisOptions {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(30),
            backoff: Backoff::default(),
            lazy: false,
            client_name: None,
            ca_file: url.ca_file().cloned(),
            insecure: url.is_insecure(),
            acknowledge: url.acknowledge(),
            read_from: url.read_from().clone(),
            address_map: url.address_map().clone(),
            readonly: false,
            quiet: false,
            url,
        };
        match name {
            Some(name) => options.client_name(name),
            None => options,
        }
    }

    /// [`RedisOptions::new`] from text.
    ///
    /// # Errors
    /// Those of [`RedisUrl::parse`].
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        RedisUrl::parse(url).map(Self::new)
    }

    /// The same for one server: a node of a cluster, or the one that sentinels name.
    pub(crate) fn for_url(&self, url: RedisUrl) -> Self {
        RedisOptions {
            url,
            ..self.clone()
        }
    }

    /// The same for the server that announces this address.
    pub(crate) fn for_announced(&self, address: &Address) -> Self {
        let reachable = self.address_map.reachable(address);
        self.for_url(self.url.for_server(reachable))
    }

    /// The server.
    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// The waits between attempts to connect again.
    pub fn reconnect_backoff(&self) -> Backoff {
        self.backoff
    }

    /// The limit for one attempt to connect: name lookup, TCP, TLS and login together. Default
    /// 5 s, from 1 ms to an hour.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        self
    }

    /// How long a connection may leave a PING unanswered before it counts as dead. Calls have
    /// deadlines of their own. Default 5 s, at least 1 ms.
    #[must_use]
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// How often an idle connection is asked whether it is alive; also the time after which TCP
    /// keepalive probes start. Default 30 s, at least 1 s.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.max(Duration::from_secs(1));
        self
    }

    /// The waits between attempts to connect again. Default 50 ms doubling to 1 s. A connection that
    /// did not last for a second, or never answered anything, counts as a failed attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Dial at the first call instead of at once. Then an unreachable server is no error at the
    /// start, and calls wait for it until their deadlines. Default false.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// When a write counts as done. Default [`Acknowledge::Accepted`]. Any other level costs three
    /// connections more, of a cluster to each primary, which carry the writes; a level that the
    /// server cannot confirm is an error at connect, unless lazy.
    #[must_use]
    pub fn acknowledge(mut self, level: Acknowledge) -> Self {
        self.acknowledge = level;
        self
    }

    /// The level of acknowledgement.
    pub fn acknowledged(&self) -> Acknowledge {
        self.acknowledge
    }

    /// Which servers answer reads that need not be current. Default [`ReadFrom::Primary`].
    #[must_use]
    pub fn read_from(mut self, servers: ReadFrom) -> Self {
        self.read_from = servers;
        self
    }

    /// Whether reads may be older than the last write.
    pub fn reads_may_be_stale(&self) -> bool {
        self.read_from != ReadFrom::Primary
    }

    /// Where servers are reached that announce another address. Default: there, where they say.
    #[must_use]
    pub fn address_map(mut self, map: AddressMap) -> Self {
        self.address_map = map;
        self
    }

    /// Reads of any age will do, from a replica of a cluster.
    #[cfg(feature = "redis")]
    pub(crate) fn readonly(mut self) -> Self {
        self.readonly = true;
        self
    }

    /// Leaves what happens to the connection to the log of others.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The name shown by `CLIENT LIST`; characters that Redis refuses become `-`.
    #[must_use]
    pub fn client_name(mut self, name: impl AsRef<str>) -> Self {
        let allowed = |c: char| if c.is_ascii_graphic() { c } else { '-' };
        self.client_name = Some(name.as_ref().chars().map(allowed).collect());
        self
    }

    /// Trust the certificates in this PEM file instead of those of the operating system.
    #[must_use]
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca_file = Some(path.as_ref().to_owned());
        self
    }

    /// Accept any certificate: encrypts, but anybody may be at the other end.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self, accept: bool) -> Self {
        self.insecure = accept;
        self
    }
}
