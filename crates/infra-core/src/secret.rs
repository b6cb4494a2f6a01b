//! Values that are never printed.

use std::fmt;

use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Deserializer};

/// What stands in place of a secret wherever one would be printed.
pub const MASK: &str = "***";

/// A value that prints as `***` and is wiped from memory when dropped.
///
/// It cannot be serialised. Copies that other code made of the value before it was wrapped, or
/// makes after [`Secret::expose`], are not wiped.
pub struct Secret<T: Zeroize = String>(SecretBox<T>);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Secret(SecretBox::new(Box::new(value)))
    }

    /// Lends the value. The name is meant to stand out in a review.
    pub fn expose(&self) -> &T {
        self.0.expose_secret()
    }
}

impl From<&str> for Secret<String> {
    fn from(value: &str) -> Self {
        Secret::new(value.to_owned())
    }
}

impl From<&String> for Secret<String> {
    fn from(value: &String) -> Self {
        Secret::new(value.clone())
    }
}

impl From<String> for Secret<String> {
    fn from(value: String) -> Self {
        Secret::new(value)
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Secret::new(self.expose().clone())
    }
}

impl<T: Zeroize + PartialEq> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl<T: Zeroize + Eq> Eq for Secret<T> {}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T: Zeroize> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Secret::new)
    }
}

/// The URL with the password of its user-info replaced by `***`; other text is returned as it is.
///
/// Works on text that is no valid URL too: whatever stands between the first `:` after `//` and
/// the last `@` of the authority is masked. A user name stays, because it helps to find the
/// mistake; a user-info without a colon is masked whole, because it may be a token. The same goes
/// for the value of a query parameter whose name ends in `password`, and for all behind it.
///
/// ```
/// use infra_core::mask_url;
/// assert_eq!(mask_url("redis://app:pa@ss@db:6379/0"), "redis://app:***@db:6379/0");
/// assert_eq!(mask_url("redis://localhost:6379"), "redis://localhost:6379");
/// ```
pub fn mask_url(url: &str) -> String {
    if let Some((shown, hidden)) = split_password_parameter(url) {
        return match shown.split_once("://") {
            // Either may be part of a password in the user-info, so nothing is shown of them.
            Some((scheme, rest)) if !rest.contains('@') && hidden.contains('@') => {
                format!("{scheme}://{MASK}")
            }
            _ => format!("{}{MASK}", mask_user_info(shown)),
        };
    }
    mask_user_info(url)
}

fn mask_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.rsplit_once('@') {
            Some((_, host)) => format!("{MASK}@{host}"),
            None => url.to_owned(),
        };
    };
    // A raw '/', '?' or '#' inside a password is invalid but common: take the last '@' of all.
    let Some((user_info, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match user_info.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
        None => format!("{scheme}://{MASK}@{host}"),
    }
}

/// The text before and after the value of a query parameter whose name ends in `password`. The
/// value may hold any character, also an `@`, so all that follows belongs to it.
fn split_password_parameter(url: &str) -> Option<(&str, &str)> {
    const NAME: &str = "password=";
    let at = url.to_ascii_lowercase().find(NAME)? + NAME.len();
    let (shown, hidden) = url.split_at_checked(at)?;
    shown.contains(['?', '&']).then_some((shown, hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_never_prints_its_value() {
        let secret = Secret::from("canary-4711");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** *** Some(***)"
        );
        assert_eq!(secret.expose(), "canary-4711");
        assert_eq!(Secret::from(secret.expose()).expose(), "canary-4711");
    }

    #[test]
    fn passwords_with_any_character_are_masked() {
        for (url, masked) in [
            ("redis://:pw@h:1", "redis://:***@h:1"),
            ("redis://u:p/w?x@h:1/2", "redis://u:***@h:1/2"),
            ("rediss://token@h", "rediss://***@h"),
            ("u:pw@h:1", "***@h:1"),
            (
                "r://:pw@h?a=1&x_password=b@c",
                "r://:***@h?a=1&x_password=***",
            ),
            ("r://u:password=?x@h", "r://u:***@h"),
            ("r://h?password=b@c", "r://***"),
            ("r://h?password=b", "r://h?password=***"),
            ("not a url", "not a url"),
            ("", ""),
        ] {
            assert_eq!(mask_url(url), masked);
        }
    }
}
