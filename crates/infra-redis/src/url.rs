//! Checked Redis URLs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use infra_core::{Secret, mask_url};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

const DEFAULT_PORT: u16 = 6379;

/// A checked URL of one Redis server: `redis://` plain, `rediss://` TLS.
///
/// ```text
/// redis[s]://[[user]:password@]host[:port][/db][?db=..&ca_file=..&insecure=true&client_name=..]
/// ```
///
/// User and password are percent-decoded. A user-info without a colon is taken for a user name,
/// as the standard says, and refused, because a lone token there is nearly always a password
/// whose `:` was forgotten. `ca_file` and `insecure` need `rediss://`. Displayed, the password is
/// masked.
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
    host: String,
    port: u16,
    db: u32,
    username: Option<String>,
    password: Option<Secret>,
    ca_file: Option<PathBuf>,
    insecure: bool,
    client_name: Option<String>,
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
        parse(text.trim()).map_err(|reason| UrlError {
            url: mask_url(text.trim()),
            reason,
        })
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, 6379 unless the URL says otherwise.
    pub fn port(&self) -> u16 {
        self.port
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

    pub(crate) fn ca_file(&self) -> Option<&PathBuf> {
        self.ca_file.as_ref()
    }

    pub(crate) fn is_insecure(&self) -> bool {
        self.insecure
    }

    pub(crate) fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
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
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        match (&self.username, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:***@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, Some(_)) => f.write_str(":***@")?,
            (None, None) => {}
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
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

fn parse(text: &str) -> Result<RedisUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("it must start with redis:// or rediss:// (TLS)".to_owned());
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "redis" => false,
        "rediss" => true,
        other => {
            return Err(format!(
                "unknown scheme `{other}`: use redis:// or rediss:// (TLS)"
            ));
        }
    };
    if password_holds_reserved_character(rest) {
        return Err("percent-encode `/`, `?`, `#` in the password: %2F, %3F, %23".to_owned());
    }
    let parsed = Url::parse(text).map_err(|error| error.to_string())?;
    if parsed.fragment().is_some() {
        return Err("a `#` part has no meaning here".to_owned());
    }
    let mut url = RedisUrl {
        tls,
        host: host_of(&parsed)?,
        port: parsed.port().unwrap_or(DEFAULT_PORT),
        db: db_of(parsed.path().trim_matches('/'))?,
        username: none_if_empty(decode(parsed.username(), "user")?),
        password: match parsed.password() {
            Some(password) => none_if_empty(decode(password, "password")?).map(Secret::new),
            None => None,
        },
        ca_file: None,
        insecure: false,
        client_name: None,
    };
    if url.port == 0 {
        return Err("port 0 cannot be connected to".to_owned());
    }
    if url.username.is_some() && url.password.is_none() {
        return Err("a user without a password: write user:password@, or :password@".to_owned());
    }
    for (name, value) in parsed.query_pairs() {
        url.set_parameter(&name, &value)?;
    }
    if !url.tls && (url.insecure || url.ca_file.is_some()) {
        return Err("ca_file and insecure need TLS: use rediss://".to_owned());
    }
    Ok(url)
}

impl RedisUrl {
    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "db" => self.db = db_of(value)?,
            "ca_file" if !value.is_empty() => self.ca_file = Some(PathBuf::from(value)),
            "client_name" if !value.is_empty() => self.client_name = Some(value.to_owned()),
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
                return Err(format!(
                    "unknown parameter `{}`: known are db, ca_file, insecure, client_name",
                    if plain { name } else { "***" }
                ));
            }
        }
        Ok(())
    }
}

/// True when what stands before the first `/`, `?` or `#` is no `host:port`, and an `@` follows:
/// then the host that a parser would see is a piece of the password.
fn password_holds_reserved_character(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') || !tail.contains('@') || authority.ends_with(']') {
        return false;
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => host.is_empty() || port.parse::<u16>().is_err(),
        None => false,
    }
}

fn host_of(parsed: &Url) -> Result<String, String> {
    match parsed.host() {
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Domain(name)) if !name.is_empty() => decode(name, "host"),
        _ => Err("the host is missing".to_owned()),
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
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, expected) in [
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
            ("redis://u:a/b@h", "percent-encode"),
            ("redis://u:a?b@h", "percent-encode"),
            ("redis://u:a#b@h", "percent-encode"),
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
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,60}") {
            let _ = RedisUrl::parse(&text);
            let _ = RedisUrl::parse(&format!("redis://{text}"));
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
