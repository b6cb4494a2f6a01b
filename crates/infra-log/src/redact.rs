//! What must not be printed: values under denied key names, passwords in URLs.

use std::borrow::Cow;

use infra_core::mask_url;
use infra_core::secret::MASK;

/// Keys that end in one of these words are never printed.
pub(crate) const DENIED: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "authorization",
    "api_key",
    "apikey",
    "private_key",
    "cookie",
    "credentials",
];

/// The deny list of key names.
#[derive(Debug, Clone)]
pub(crate) struct DenyList {
    words: Vec<Box<[u8]>>,
    /// Bit n: some word ends in the letter `a` + n. Most keys are let through by this alone.
    last_letters: u64,
}

impl DenyList {
    pub(crate) fn new<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let words: Vec<Box<[u8]>> = words
            .filter(|w| !w.is_empty())
            .map(|w| w.bytes().map(fold).collect())
            .collect();
        let last_letters = words
            .iter()
            .filter_map(|w| w.last())
            .fold(0, |bits, b| bits | bit(*b));
        DenyList {
            words,
            last_letters,
        }
    }

    /// True when the key ends in a word of the list, without regard to case, `-`, `.` and `_`
    /// being the same: `DB_PASSWORD`, `accessToken`, `x-api-key`; but not `token_count`.
    pub(crate) fn denies(&self, key: &str) -> bool {
        let key = key.as_bytes();
        let Some(last) = key.last() else { return false };
        self.last_letters & bit(fold(*last)) != 0 && self.words.iter().any(|w| ends_with(key, w))
    }
}

fn ends_with(key: &[u8], word: &[u8]) -> bool {
    key.len() >= word.len() && {
        let mut tail = key.iter().rev().zip(word.iter().rev());
        tail.all(|(k, w)| fold(*k) == *w)
    }
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'-' | b'.' => b'_',
        other => other.to_ascii_lowercase(),
    }
}

/// The lower five bits tell letters apart; other characters may share a bit, which only costs time.
fn bit(byte: u8) -> u64 {
    1 << (byte & 63)
}

/// The text with the passwords of all URLs in it masked. When the text was cut, a URL at its end
/// is masked whole, because the `@` may be in the part that is gone.
pub(crate) fn mask_urls(text: &str, cut: bool) -> Cow<'_, str> {
    let may_hold = cut || text.as_bytes().contains(&b'@');
    if !may_hold || !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find("://") {
        let (before, after) = rest.split_at(colon);
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let scheme = before.trim_end_matches(is_scheme).len();
        // A password may hold any character but white space and the quotes of a Debug text.
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '`' | '<' | '>');
        let end = after.find(ends);
        let url_end = colon + end.unwrap_or(after.len());
        masked.push_str(rest.get(..scheme).unwrap_or_default());
        if cut && end.is_none() {
            masked.push_str(rest.get(scheme..colon + 3).unwrap_or_default());
            masked.push_str(MASK);
        } else {
            masked.push_str(&mask_url(rest.get(scheme..url_end).unwrap_or_default()));
        }
        rest = rest.get(url_end..).unwrap_or_default();
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_denied_by_their_last_word() {
        let list = DenyList::new(DENIED.iter().copied().chain(["PIN"]));
        for key in [
            "password",
            "db_password",
            "DB.Password",
            "accessToken",
            "x-api-key",
            "client_secret",
            "pin",
            "Authorization",
            "set-cookie",
            "API-KEY",
        ] {
            assert!(list.denies(key), "{key}");
        }
        for key in [
            "",
            "token_count",
            "tokens",
            "price",
            "n",
            "secretary",
            "passwords_seen",
        ] {
            assert!(!list.denies(key), "{key}");
        }
    }

    #[test]
    fn every_url_in_a_text_is_masked() {
        for (text, masked) in [
            ("redis://u:canary@h:1/0", "redis://u:***@h:1/0"),
            (
                "from redis://:canary@a to \"amqp+ssl://x:can/ary@b\", done",
                "from redis://:***@a to \"amqp+ssl://x:***@b\", done",
            ),
            ("http://h/p mail a@b", "http://h/p mail a@b"),
            ("a@b :// c", "a@b :// c"),
            ("://u:canary@h", "://u:***@h"),
        ] {
            assert_eq!(mask_urls(text, false), masked);
        }
        assert_eq!(mask_urls("see redis://u:cana", true), "see redis://***");
        assert_eq!(
            mask_urls("see redis://h:1 and mo", true),
            "see redis://h:1 and mo"
        );
    }
}
