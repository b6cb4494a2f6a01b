//! The URL of a collector.

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Over TLS.
    pub(crate) secure: bool,
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host and port as the `host` header has them.
    pub(crate) authority: String,
    /// The path without a slash at its end.
    pub(crate) path: String,
}

/// OTLP over HTTP.
const PORT: u16 = 4318;

impl Endpoint {
    /// Reads `http://host[:port][/path]`. No reason holds a part of the text, which may have a
    /// password in it.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let url = url.trim();
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("the collector's URL must start with http:// or https://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" if cfg!(feature = "otel-tls") => true,
            "https" => return Err("https needs the cargo feature `otel-tls`".to_owned()),
            _ => return Err("the collector's URL must start with http:// or https://".to_owned()),
        };
        let allowed = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}?#".contains(&b);
        if !rest.bytes().all(allowed) {
            return Err(
                "the collector's URL has a query or a character that no URL has".to_owned(),
            );
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("credentials belong in a header, not in the collector's URL".to_owned());
        }
        let (host, port) = split(authority)?;
        let port = port.unwrap_or(PORT);
        let bracketed = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Ok(Endpoint {
            secure,
            host: host.to_owned(),
            port,
            authority: bracketed,
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

fn split(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => inner
            .split_once(']')
            .ok_or("the address in the collector's URL is not closed")?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if host.is_empty() {
        return Err("the collector's URL has no host".to_owned());
    }
    let Some(port) = rest.strip_prefix(':') else {
        return match rest.is_empty() {
            true => Ok((host, None)),
            false => Err("the host in the collector's URL is not valid".to_owned()),
        };
    };
    match port.parse() {
        Ok(port @ 1..) => Ok((host, Some(port))),
        _ => Err("the port in the collector's URL is no number from 1 to 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_others_refused_without_being_printed() {
        for (url, authority, path) in [
            ("http://localhost", "localhost:4318", ""),
            ("HTTP://h:80/", "h:80", ""),
            ("http://10.0.0.1:4318/otlp/", "10.0.0.1:4318", "/otlp"),
            ("http://[::1]:1", "[::1]:1", ""),
            ("http://[::1]", "[::1]:4318", ""),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((&*endpoint.authority, &*endpoint.path), (authority, path));
        }
        for url in [
            "",
            "canary:4318",
            "grpc://canary",
            "http://",
            "http://:4318",
            "http://u:canary@h",
            "http://canary:0",
            "http://canary:99999",
            "http://canary/a b",
            "http://canary/\r\nx: y",
            "http://canary?x=1",
            "http://[::1",
            "http://[::1]canary",
        ] {
            let reason = Endpoint::parse(url).unwrap_err();
            assert!(!reason.contains("canary"), "{url}: {reason}");
        }
        assert_eq!(
            Endpoint::parse("https://h").is_ok(),
            cfg!(feature = "otel-tls")
        );
    }
}
