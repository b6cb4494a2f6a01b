//! Checked Redis URLs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use infra_core::{Secret, mask_url};

use crate::acknowledge::Acknowledge;
use crate::address_map::AddressMap;
use crate::replicas::ReadFrom;

mod parse;

/// A checked URL of a Redis server, a cluster of them, or one that sentinels know: `redis` plain,
/// `rediss` TLS.
///
/// ```text
/// redis[s]://[[user]:password@]host[:port][/db][?db=..&ca_file=..&insecure=true&client_name=..&ack=..&read=..&map=..]
/// redis[s]+cluster://[[user]:password@]host[:port][,host[:port]]..[?ca_file=..]
/// redis[s]+sentinel://[[user]:password@]host[:port][,..]/service[/db][?sentinel_username=..&sentinel_password=..]
/// ```
///
/// Of a **cluster** any nodes will do, the others are asked of them; a name that leads to
/// all of them is enough. The configuration endpoint of ElastiCache or MemoryDB, and the endpoint of a
/// serverless cache there, is known as a cluster's by its name, also with `rediss://`.
/// **Sentinels** listen on port 26379 unless the URL says otherwise; user and password are those
/// of the server, `sentinel_username` and `sentinel_password` those of the sentinels.
///
/// User and password are percent-decoded. A user-info without a colon is taken for a user name,
/// as the standard says, and refused, because a lone token there is nearly always a password
/// whose `:` was forgotten. `ca_file` and `insecure` need `rediss://`. Displayed, the password is
/// masked.
///
/// `ack` says when a write counts as done, see [`Acknowledge`]. `read` says which servers answer
/// reads that need not be current: `primary`, `replicas`, or, of one server, their addresses,
/// `read=10.0.0.2:6379,10.0.0.3:6379`. `map` says where servers are reached that announce an address
/// which leads nowhere from here, see [`AddressMap`].
///
/// ```
/// use infra_redis::RedisUrl;
///
/// let url = RedisUrl::parse("rediss://bot:p%40ss@cache.example:6380/2")?;
/// assert_eq!((url.host(), url.port(), url.db(), url.is_tls()), ("cache.example", 6380, 2, true));
/// assert_eq!(url.to_string(), "rediss://bot:***@cache.example:6380/2");
/// # Ok::<(), infra_redis::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    tls: bool,
    kind: UrlKind,
    /// At least one.
    hosts: Vec<Address>,
    /// The name by which sentinels know the servers; empty without sentinels.
    service: String,
    sentinel_username: Option<String>,
    sentinel_password: Option<Secret>,
    db: u32,
    username: Option<String>,
    password: Option<Secret>,
    ca_file: Option<PathBuf>,
    insecure: bool,
    client_name: Option<String>,
    acknowledge: Acknowledge,
    read_from: ReadFrom,
    address_map: AddressMap,
}

/// What stands behind a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UrlKind {
    /// One server.
    Server,
    /// A cluster; the URL names some of its nodes.
    Cluster,
    /// One server at a time, the master that the sentinels of the URL name.
    Sentinel,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why a text is no URL of a Redis server. The text itself is shown with its password masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid Redis URL `{url}`: {reason}")]
pub struct UrlError {
    url: String,
    reason: String,
}

impl UrlError {
    /// What is wrong and how to put it right; holds no secret.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl RedisUrl {
    /// Checks `text`.
    ///
    /// # Errors
    /// Names the part that is wrong; never shows the password.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        parse::parse(text.trim()).map_err(|reason| UrlError {
            url: mask_url(text.trim()),
            reason,
        })
    }

    /// What the URL leads to.
    pub fn kind(&self) -> UrlKind {
        self.kind
    }

    /// The servers named in the URL: one, or nodes of a cluster, or sentinels.
    pub fn hosts(&self) -> &[Address] {
        &self.hosts
    }

    /// Host name or address of the first server, without brackets.
    pub fn host(&self) -> &str {
        self.hosts.first().map_or("", |first| &first.host)
    }

    /// TCP port of the first server, 6379 unless the URL says otherwise; 26379 of a sentinel.
    pub fn port(&self) -> u16 {
        self.hosts.first().map_or(0, |first| first.port)
    }

    /// Database number, 0 unless the URL says otherwise.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Whether the connection is encrypted (`rediss://`).
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The ACL user, where the URL names one.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    pub(crate) fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Reads the CA file, where one is named: what could not work later is known now. Blocks for as
    /// long as that takes.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn check_ca_file(&self) -> Result<(), String> {
        match &self.ca_file {
            Some(path) => crate::tls::roots_of_file(path).map(drop),
            None => Ok(()),
        }
    }

    pub(crate) fn ca_file(&self) -> Option<&PathBuf> {
        self.ca_file.as_ref()
    }

    pub(crate) fn is_insecure(&self) -> bool {
        self.insecure
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The same user, password and settings for one server.
    pub(crate) fn for_server(&self, address: Address) -> RedisUrl {
        RedisUrl {
            kind: UrlKind::Server,
            hosts: vec![address],
            service: String::new(),
            sentinel_username: None,
            sentinel_password: None,
            ..self.clone()
        }
    }

    /// The cluster that the server of this URL is a node of.
    pub(crate) fn of_cluster(&self) -> RedisUrl {
        RedisUrl {
            kind: UrlKind::Cluster,
            ..self.clone()
        }
    }

    /// One of the sentinels, with what they want for a login.
    pub(crate) fn for_sentinel(&self, address: Address) -> RedisUrl {
        RedisUrl {
            username: self.sentinel_username.clone(),
            password: self.sentinel_password.clone(),
            db: 0,
            ..self.for_server(address)
        }
    }

    pub(crate) fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    pub(crate) fn acknowledge(&self) -> Acknowledge {
        self.acknowledge
    }

    pub(crate) fn read_from(&self) -> &ReadFrom {
        &self.read_from
    }

    pub(crate) fn address_map(&self) -> &AddressMap {
        &self.address_map
    }
}

impl FromStr for RedisUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        RedisUrl::parse(text)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(match self.kind {
            UrlKind::Server => "://",
            UrlKind::Cluster => "+cluster://",
            UrlKind::Sentinel => "+sentinel://",
        })?;
        match (&self.username, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:***@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, Some(_)) => f.write_str(":***@")?,
            (None, None) => {}
        }
        for (place, address) in self.hosts.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        if self.kind == UrlKind::Sentinel {
            write!(f, "/{}", self.service)?;
        }
        if self.db != 0 {
            write!(f, "/{}", self.db)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}
