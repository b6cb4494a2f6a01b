//! Names of channels, and what a subscription is made to.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::glob::{self, Pattern};

/// The longest name of a channel or a pattern in bytes.
pub const MAX_CHANNEL_LEN: usize = 1024;

/// What a subscription is made to: one channel, or every channel that matches a pattern.
///
/// A text becomes a pattern when it holds one of `*`, `?`, `[` or `\`; [`crate::escape`] makes a
/// text that is not meant as one harmless.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The channel of exactly this name.
    Channel(Arc<str>),
    /// Every channel that matches; see [`crate`] for the match table.
    Pattern(Arc<str>),
}

impl Target {
    /// Reads a channel or a pattern.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidChannel`] when it is empty, longer than [`MAX_CHANNEL_LEN`] bytes, or
    /// holds control characters.
    pub fn parse(text: &str) -> Result<Self> {
        check(text, "subscribe")?;
        if !glob::is_pattern(text) {
            return Ok(Target::Channel(Arc::from(text)));
        }
        // `a\*b` can only ever match the channel `a*b`: that is an exact subscription.
        match Pattern::new(text).literal() {
            Some(channel) if !channel.is_empty() => Ok(Target::Channel(channel.into())),
            _ => Ok(Target::Pattern(Arc::from(text))),
        }
    }

    /// The channel or the pattern as text.
    pub fn as_str(&self) -> &str {
        match self {
            Target::Channel(text) | Target::Pattern(text) => text,
        }
    }

    /// True for a pattern.
    pub fn is_pattern(&self) -> bool {
        matches!(self, Target::Pattern(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Refuses what no backend should ever see as a channel's name.
pub(crate) fn check(channel: &str, operation: &'static str) -> Result<()> {
    let refuse = |detail: &str| {
        Err(Error::new(ErrorKind::InvalidChannel, operation)
            .with_channel(channel.get(..64).unwrap_or(channel))
            .with_detail(detail))
    };
    if channel.is_empty() || channel.len() > MAX_CHANNEL_LEN {
        return Err(Error::new(ErrorKind::InvalidChannel, operation)
            .with_detail("a channel has 1 to 1024 bytes"));
    }
    // ASCII control characters first: one pass over bytes for the usual name.
    if channel.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
        || (!channel.is_ascii() && channel.chars().any(char::is_control))
    {
        return refuse("a channel holds no control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_for_one_channel_is_an_exact_target() {
        assert_eq!(
            Target::parse("a\\*b").unwrap(),
            Target::Channel("a*b".into())
        );
        assert!(Target::parse("a*b").unwrap().is_pattern());
        assert!(!Target::parse("a]b").unwrap().is_pattern());
    }

    #[test]
    fn names_without_sense_are_refused() {
        for bad in ["", "a\nb", "a\u{85}b", &"x".repeat(1025)] {
            let error = Target::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidChannel, "{bad:?}");
        }
        assert!(Target::parse(&"x".repeat(1024)).is_ok());
    }
}
