//! From text to a URL, with a reason for a person where there is no way.

use std::path::PathBuf;

use infra_core::Secret;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{Address, RedisUrl, UrlKind};
use crate::acknowledge::Acknowledge;
use crate::address_map::AddressMap;
use crate::replicas::ReadFrom;

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
const RESERVED: &str = "percent-encode `/`, `?`, `#` in the password: %2F, %3F, %23";

pub(super) fn parse(text: &str) -> Result<RedisUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("it must start with redis:// or rediss:// (TLS)".to_owned());
    };
    let (tls, kind) = scheme_of(&scheme.to_ascii_lowercase())?;
    if password_holds_reserved_character(rest) {
        return Err(RESERVED.to_owned());
    }
    let (first, others) = split_hosts(rest);
    // The library knows no plus and no lists of hosts.
    let parsed = Url::parse(&format!("redis://{first}")).map_err(|error| error.to_string())?;
    if parsed.fragment().is_some() {
        return Err(format!("a `#` part has no meaning here; {RESERVED}"));
    }
    let mut hosts = vec![address_of(&parsed, kind)?];
    for other in others {
        let parsed = Url::parse(&format!("redis://{other}")).map_err(|error| error.to_string())?;
        hosts.push(address_of(&parsed, kind)?);
    }
    let kind = match (kind, hosts.as_slice()) {
        (UrlKind::Server, [only]) if is_configuration_endpoint(&only.host) => UrlKind::Cluster,
        (UrlKind::Server, [_, _, ..]) => {
            return Err("several hosts: begin with redis+cluster:// or redis+sentinel://".into());
        }
        _ => kind,
    };
    let (service, db) = path_of(parsed.path().trim_matches('/'), kind)?;
    let mut url = RedisUrl {
        tls,
        kind,
        hosts,
        service,
        sentinel_username: None,
        sentinel_password: None,
        db: db_of(&db)?,
        username: none_if_empty(decode(parsed.username(), "user")?),
        password: match parsed.password() {
            Some(password) => none_if_empty(decode(password, "password")?).map(Secret::new),
            None => None,
        },
        ca_file: None,
        insecure: false,
        client_name: None,
        acknowledge: Acknowledge::Accepted,
        read_from: ReadFrom::Primary,
        address_map: AddressMap::new(),
    };
    if url.username.is_some() && url.password.is_none() {
        return Err("a user without a password: write user:password@, or :password@".to_owned());
    }
    for (name, value) in parsed.query_pairs() {
        url.set_parameter(&name, &value)?;
    }
    if !url.tls && (url.insecure || url.ca_file.is_some()) {
        return Err("ca_file and insecure need TLS: use rediss://".to_owned());
    }
    if url.kind == UrlKind::Cluster && url.db != 0 {
        return Err("a cluster has no database but 0".to_owned());
    }
    url.check_replicas()?;
    if url.sentinel_username.is_some() && url.sentinel_password.is_none() {
        return Err("sentinel_username needs a sentinel_password".to_owned());
    }
    Ok(url)
}

fn scheme_of(scheme: &str) -> Result<(bool, UrlKind), String> {
    let (base, kind) = match scheme.split_once('+') {
        None => (scheme, UrlKind::Server),
        Some((base, "cluster")) => (base, UrlKind::Cluster),
        Some((base, "sentinel")) => (base, UrlKind::Sentinel),
        Some(_) => ("", UrlKind::Server),
    };
    match base {
        "redis" => Ok((false, kind)),
        "rediss" => Ok((true, kind)),
        _ => Err(format!(
            "unknown scheme `{scheme}`: use redis:// or rediss:// (TLS), also with +cluster or \
             +sentinel"
        )),
    }
}

/// The URL with its first host only, without scheme, and the other hosts.
fn split_hosts(rest: &str) -> (String, Vec<&str>) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (login, hosts) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    (format!("{login}{first}{tail}"), hosts.collect())
}

/// The names that AWS gives to what is a cluster for certain: the configuration endpoint of one
/// that it hosts, and the endpoint of a serverless cache.
fn is_configuration_endpoint(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let hosted = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let mut labels = host.split('.');
    hosted && labels.any(|label| label == "clustercfg" || label == "serverless")
}

/// Service and database.
fn path_of(path: &str, kind: UrlKind) -> Result<(String, String), String> {
    if kind != UrlKind::Sentinel {
        return Ok((String::new(), path.to_owned()));
    }
    let (service, db) = path.split_once('/').unwrap_or((path, ""));
    if service.is_empty() {
        return Err("the name of the service is missing: redis+sentinel://host/service".into());
    }
    Ok((decode(service, "service")?, db.to_owned()))
}

impl RedisUrl {
    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "db" => self.db = db_of(value)?,
            "ca_file" if !value.is_empty() => self.ca_file = Some(PathBuf::from(value)),
            "sentinel_username" if self.asks_sentinels(value) => {
                self.sentinel_username = Some(value.to_owned());
            }
            "sentinel_password" if self.asks_sentinels(value) => {
                self.sentinel_password = Some(Secret::from(value));
            }
            "client_name" if !value.is_empty() => self.client_name = Some(value.to_owned()),
            "ack" => self.acknowledge = value.parse()?,
            "read" => self.read_from = read_from(value)?,
            "map" => self.address_map = value.parse()?,
            "insecure" => {
                self.insecure = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err("insecure must be true or false".to_owned()),
                }
            }
            "ca_file" | "client_name" => return Err(format!("parameter `{name}` is empty")),
            _ => {
                // Odd text may be the rest of a password with a raw `?`: it is not repeated.
                let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                let known = "known are db, ca_file, insecure, client_name, ack, read, map";
                return Err(match plain {
                    true => format!("unknown parameter `{name}`: {known}"),
                    false => format!("unknown parameter `***`: {known}; {RESERVED}"),
                });
            }
        }
        Ok(())
    }

    fn check_replicas(&self) -> Result<(), String> {
        let addressed = matches!(self.read_from, ReadFrom::ReplicasAt(_));
        if self.kind == UrlKind::Cluster && addressed {
            let message = "a cluster names its replicas itself: use read=replicas, and map for \
                           addresses that lead nowhere from here";
            return Err(message.to_owned());
        }
        let announced = self.kind != UrlKind::Server || self.read_from == ReadFrom::Replicas;
        if !announced && !self.address_map.is_empty() {
            let message = "map is for the addresses that clusters, sentinels and, with \
                           read=replicas, primaries announce: one server announces none";
            return Err(message.to_owned());
        }
        Ok(())
    }

    fn asks_sentinels(&self, value: &str) -> bool {
        self.kind == UrlKind::Sentinel && !value.is_empty()
    }
}

/// True when what stands before the first `/`, `?` or `#` is no `host:port`, and an `@` follows:
/// then the host that a parser would see is a piece of the password. Nor has a path any use for `@`.
fn password_holds_reserved_character(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    if path.contains('@') {
        return true;
    }
    if authority.contains('@') || !tail.contains('@') || authority.ends_with(']') {
        return false;
    }
    let last = authority.rsplit(',').next().unwrap_or_default();
    match last.rsplit_once(':') {
        Some((host, port)) => host.is_empty() || port.parse::<u16>().is_err(),
        None => false,
    }
}

/// Which servers reads go to: `primary`, `replicas`, or replicas by their addresses.
fn read_from(text: &str) -> Result<ReadFrom, String> {
    match text {
        "primary" => return Ok(ReadFrom::Primary),
        "replicas" => return Ok(ReadFrom::Replicas),
        _ => {}
    }
    let address = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then_some(Address { host, port })
    };
    let addresses: Option<Vec<_>> = text.split(',').map(address).collect();
    (addresses.map(ReadFrom::ReplicasAt))
        .ok_or_else(|| "read must be primary, replicas, or host:port,host:port".to_owned())
}

fn address_of(parsed: &Url, kind: UrlKind) -> Result<Address, String> {
    let host = match parsed.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Domain(name)) if !name.is_empty() => decode(name, "host")?,
        _ => return Err("the host is missing".to_owned()),
    };
    let usual = match kind {
        UrlKind::Sentinel => SENTINEL_PORT,
        _ => SERVER_PORT,
    };
    match parsed.port().unwrap_or(usual) {
        0 => Err("port 0 cannot be connected to".to_owned()),
        port => Ok(Address { host, port }),
    }
}

fn db_of(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| "the database must be a number from 0, as in /3".to_owned())
}

fn decode(text: &str, part: &str) -> Result<String, String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|decoded| decoded.into_owned())
        .map_err(|_| format!("the {part} is not UTF-8 after percent-decoding"))
}

fn none_if_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        RedisUrl::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn parts_are_read_and_decoded() {
        let url = RedisUrl::parse("redis://us%65r:p%40%3A%2Fß@[::1]/7").unwrap();
        assert_eq!(url.username(), Some("user"));
        assert_eq!(url.password().unwrap().expose(), "p@:/ß");
        assert_eq!((url.host(), url.port(), url.db()), ("::1", 6379, 7));
        assert_eq!(url.to_string(), "redis://user:***@[::1]:6379/7");
        let url = RedisUrl::parse(" redis://:secret@localhost:7000 ").unwrap();
        assert_eq!((url.username(), url.port()), (None, 7000));
        assert_eq!(format!("{url:?}"), "RedisUrl(redis://:***@localhost:7000)");
        let url = RedisUrl::parse("rediss://h?db=3&ca_file=/etc/ca.pem&client_name=a@b").unwrap();
        assert_eq!((url.db(), url.client_name()), (3, Some("a@b")));
        assert_eq!(url.ca_file(), Some(&PathBuf::from("/etc/ca.pem")));
        let url = RedisUrl::parse("redis://h?ack=replicated:2&read=a:1,[::1]:2").unwrap();
        assert_eq!(url.acknowledge(), Acknowledge::Replicated(2));
        let address = |host: &str, port| Address {
            host: host.to_owned(),
            port,
        };
        let replicas = vec![address("a", 1), address("::1", 2)];
        assert_eq!(url.read_from(), &ReadFrom::ReplicasAt(replicas));
    }

    #[test]
    fn clusters_and_sentinels_have_several_hosts() {
        let address = |host: &str, port| Address {
            host: host.to_owned(),
            port,
        };
        let url = RedisUrl::parse("redis+cluster://u:p,w@a:7000,[::1]:7001,b").unwrap();
        assert_eq!((url.kind(), url.is_tls()), (UrlKind::Cluster, false));
        let hosts = [address("a", 7000), address("::1", 7001), address("b", 6379)];
        assert_eq!(url.hosts(), hosts);
        assert_eq!(url.password().unwrap().expose(), "p,w");
        let shown = "redis+cluster://u:***@a:7000,[::1]:7001,b:6379";
        assert_eq!(url.to_string(), shown);
        let text = "rediss+sentinel://:pw@s1,s2:26380/my%20desk/3?sentinel_password=canary";
        let url = RedisUrl::parse(text).unwrap();
        assert_eq!((url.kind(), url.is_tls()), (UrlKind::Sentinel, true));
        assert_eq!(url.hosts(), [address("s1", 26379), address("s2", 26380)]);
        assert_eq!((url.service(), url.db()), ("my desk", 3));
        let sentinel = url.for_sentinel(address("s1", 1));
        assert_eq!(sentinel.password().unwrap().expose(), "canary");
        assert_eq!((sentinel.db(), sentinel.kind()), (0, UrlKind::Server));
        let server = url.for_server(address("m", 2));
        assert_eq!(server.to_string(), "rediss://:***@m:2/3");
        assert!(!format!("{url} {sentinel:?} {server:?}").contains("canary"));
    }

    #[test]
    fn clusters_have_levels_replicas_and_an_address_map() {
        let text = "redis+cluster://h?ack=replicated:2&read=replicas&map=a:1=b:2,c=d";
        let url = RedisUrl::parse(text).unwrap();
        assert_eq!(url.acknowledge(), Acknowledge::Replicated(2));
        assert_eq!(url.read_from(), &ReadFrom::Replicas);
        assert_eq!(Ok(url.address_map()), "a:1=b:2,c=d".parse().as_ref());
        for text in [
            "redis+sentinel://h/s?map=a=b",
            "redis://h?read=replicas&map=a=b",
        ] {
            assert!(!RedisUrl::parse(text).unwrap().address_map().is_empty());
        }
    }

    #[test]
    fn endpoints_that_are_clusters_are_known_by_their_names() {
        for (host, kind) in [
            (
                "x.abc.clustercfg.use1.cache.amazonaws.com",
                UrlKind::Cluster,
            ),
            (
                "clustercfg.x.abc.memorydb.us-east-1.amazonaws.com",
                UrlKind::Cluster,
            ),
            (
                "x-abc.serverless.use1.cache.amazonaws.com",
                UrlKind::Cluster,
            ),
            ("master.x.abc.use1.cache.amazonaws.com", UrlKind::Server),
            ("clustercfg.example.com", UrlKind::Server),
        ] {
            let url = RedisUrl::parse(&format!("rediss://{host}:6379")).unwrap();
            assert_eq!(url.kind(), kind, "{host}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
            ("redis+ring://h", "unknown scheme `redis+ring`"),
            ("redis://a,b", "several hosts"),
            ("redis+cluster://a,", "host"),
            ("redis+cluster://a,b:0", "port 0"),
            ("redis+cluster://a/1", "no database but 0"),
            ("redis+sentinel://a", "name of the service"),
            ("redis+sentinel://a/s/x", "database must be a number"),
            (
                "redis+sentinel://a/s?sentinel_username=u",
                "sentinel_password",
            ),
            ("redis://a?sentinel_password=u", "sentinel_password"),
            ("localhost:6379", "must start with redis://"),
            ("http://h", "unknown scheme `http`"),
            ("redis://", "host"),
            ("redis://h:0", "port 0"),
            ("redis://h:99999", "port"),
            ("redis://h/one", "database must be a number"),
            ("redis://h/-1", "database must be a number"),
            ("redis://token@h", "user without a password"),
            ("redis://h?ssl=1", "unknown parameter `ssl`"),
            ("redis://h?insecure=true", "use rediss://"),
            ("rediss://h?insecure=1", "true or false"),
            ("redis://h?ack=all", "ack must be"),
            ("redis+cluster://h?ack=some", "ack must be"),
            ("redis+cluster://h?read=a:1", "names its replicas itself"),
            ("redis+cluster://h?map=a:1", "map must be"),
            ("redis+cluster://h?map=a:1=b", "map must be"),
            ("redis+cluster://h?map=a=b,a=c", "map names `a` twice"),
            ("redis+cluster://h?map=", "map must be"),
            ("redis://h?map=a=b", "one server announces none"),
            ("redis://h?read=a:1&map=a=b", "one server announces none"),
            ("redis://h?read=anywhere", "read must be"),
            ("redis://h?read=a:0", "read must be"),
            ("redis://h?read=", "read must be"),
            ("redis://u:a/b@h", "percent-encode"),
            ("redis://u:a?b@h", "percent-encode"),
            ("redis://u:a#b@h", "percent-encode"),
            ("redis://u:p@a/b@h", "percent-encode"),
            ("redis://u:p@a?b@h", "percent-encode"),
            ("redis://u:p@a#b@h", "percent-encode"),
        ] {
            let reason = reason(text);
            assert!(reason.contains(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn s61_errors_never_show_the_password() {
        for text in [
            "redis://u:canary@h/one",
            "redis://u:canary/x@h",
            "http://u:canary@h",
            "redis://u:canary@h:99999",
            "redis://u:12?canary@h",
            "redis://u:12/canary@h",
            "redis://u:12#canary@h",
            "redis://u:1@2/canary@h",
            "redis://u:1@2?canary@h",
            "redis://u:1@2#canary@h",
            "redis+sentinel://h?sentinel_password=canary",
            "redis+sentinel://h?sentinel_password=x@canary",
            "redis+sentinel://h/s?sentinel_password=x@canary&db=x",
            "redis+cluster://u:canary@h,:0",
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,60}") {
            let _ = RedisUrl::parse(&text);
            for scheme in ["redis", "redis+cluster", "redis+sentinel"] {
                let _ = RedisUrl::parse(&format!("{scheme}://{text}"));
            }
        }

        #[test]
        fn s61_any_encoded_password_is_read_and_never_shown(password in "[ -~]{1,20}canary") {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let url = RedisUrl::parse(&format!("rediss://u:{encoded}@h")).unwrap();
            proptest::prop_assert_eq!(url.password().unwrap().expose(), &password);
            let shown = format!("{url} {url:?}");
            proptest::prop_assert!(!shown.contains("canary"));
        }
    }
}
