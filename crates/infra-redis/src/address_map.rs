//! Servers that announce an address which leads nowhere from here.

use std::str::FromStr;

use crate::url::Address;

/// Where servers are reached that announce another address: nodes of a cluster, the master that
/// sentinels name, replicas that their primary names. Needed where these stand behind address
/// translation, as in containers.
///
/// Written in a URL as `map=announced=reachable,announced=reachable`, where both are `host:port`,
/// or both are hosts and the port stays what it is. A pair with ports comes before one without.
/// With TLS the certificate has to name the reachable host. The hosts of the URL itself are
/// reached as written.
///
/// ```
/// use infra_redis::{Address, AddressMap};
///
/// let map: AddressMap = "10.0.0.2:6379=127.0.0.1:7001,node-3=gateway.example".parse()?;
/// let node = |host: &str, port| Address { host: host.to_owned(), port };
/// assert_eq!(map.reachable(&node("10.0.0.2", 6379)), node("127.0.0.1", 7001));
/// assert_eq!(map.reachable(&node("node-3", 6379)), node("gateway.example", 6379));
/// assert_eq!(map.reachable(&node("10.0.0.9", 6379)), node("10.0.0.9", 6379));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressMap {
    servers: Vec<(Address, Address)>,
    hosts: Vec<(String, String)>,
}

impl AddressMap {
    /// Every server is reached at the address that it announces.
    pub fn new() -> Self {
        AddressMap::default()
    }

    /// The server that announces this address is reached at another one.
    #[must_use]
    pub fn server(mut self, announced: Address, reachable: Address) -> Self {
        self.servers.push((announced, reachable));
        self
    }

    /// All servers that announce this host are reached at another one, at the ports that they
    /// announce.
    #[must_use]
    pub fn host(mut self, announced: impl Into<String>, reachable: impl Into<String>) -> Self {
        self.hosts.push((announced.into(), reachable.into()));
        self
    }

    /// Where the server that announces this address is reached: the first pair that names it
    /// counts, and without one the address itself.
    pub fn reachable(&self, announced: &Address) -> Address {
        let same = |host: &str| host.eq_ignore_ascii_case(&announced.host);
        let named =
            |server: &&(Address, Address)| same(&server.0.host) && server.0.port == announced.port;
        if let Some((_, reachable)) = self.servers.iter().find(named) {
            return reachable.clone();
        }
        let host = self.hosts.iter().find(|(host, _)| same(host));
        Address {
            host: host
                .map_or(&announced.host, |(_, reachable)| reachable)
                .clone(),
            port: announced.port,
        }
    }

    /// Whether every server is reached at the address that it announces.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.hosts.is_empty()
    }

    fn has(&self, host: &str, port: Option<u16>) -> bool {
        let same = |other: &str| other.eq_ignore_ascii_case(host);
        match port {
            Some(port) => (self.servers.iter()).any(|(a, _)| same(&a.host) && a.port == port),
            None => self.hosts.iter().any(|(host, _)| same(host)),
        }
    }
}

impl FromStr for AddressMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "map must be announced=reachable,.. with host:port on both sides, or a host on \
                    both";
        let mut map = AddressMap::new();
        for pair in text.split(',') {
            let (announced, reachable) = pair.split_once('=').ok_or(form)?;
            let (announced, reachable) = (
                place(announced.trim()).ok_or(form)?,
                place(reachable.trim()).ok_or(form)?,
            );
            if map.has(&announced.0, announced.1) {
                return Err(format!("map names `{}` twice", announced.0));
            }
            map = match (announced, reachable) {
                ((host, Some(port)), (to, Some(to_port))) => map.server(
                    Address { host, port },
                    Address {
                        host: to,
                        port: to_port,
                    },
                ),
                ((host, None), (to, None)) => map.host(host, to),
                _ => return Err(form.to_owned()),
            };
        }
        Ok(map)
    }
}

/// A host, and a port where there is one; an IPv6 address stands in brackets.
fn place(text: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest {
        "" => None,
        rest => {
            let port: u16 = rest.strip_prefix(':')?.parse().ok()?;
            Some(port).filter(|port| *port != 0).map(Some)?
        }
    };
    let plain = !host.is_empty() && !host.contains(['=', '[', ']', ' ', '@', '/']);
    plain.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn pairs_are_read_and_the_narrower_one_counts() {
        let text = "a=gate,A:1=b:2,[::1]:3=[fe80::1]:4,[::2]=c";
        let map: AddressMap = text.parse().unwrap();
        for (announced, reachable) in [
            (at("a", 1), at("b", 2)),
            (at("A", 9), at("gate", 9)),
            (at("::1", 3), at("fe80::1", 4)),
            (at("::1", 5), at("::1", 5)),
            (at("::2", 5), at("c", 5)),
            (at("b", 2), at("b", 2)),
        ] {
            assert_eq!(map.reachable(&announced), reachable, "{announced}");
        }
        assert!(!map.is_empty() && AddressMap::new().is_empty());
    }

    #[test]
    fn pairs_that_lead_nowhere_are_refused() {
        for text in [
            "",
            "a",
            "a=",
            "=a",
            "a:1=b",
            "a=b:1",
            "a:0=b:1",
            "a:1=b:0",
            "a:x=b:1",
            "a:1=b:1,",
            "::1=a",
            "a=b=c",
            "[::1=a",
            "a:99999=b:1",
        ] {
            let error = text.parse::<AddressMap>().unwrap_err();
            assert!(error.contains("map must be"), "{text}: {error}");
        }
        for text in ["a:1=b:2,A:1=c:3", "a=b,a=c"] {
            let error = text.parse::<AddressMap>().unwrap_err();
            assert!(error.contains("twice"), "{text}: {error}");
        }
    }
}
