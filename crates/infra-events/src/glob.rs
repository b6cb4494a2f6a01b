//! Glob patterns with exactly the match table of Redis `PSUBSCRIBE`.
//!
//! - `*` any run of bytes, also none; `?` any one byte;
//! - `[abc]` one of, `[^abc]` none of, `[a-z]` a range (also written backwards);
//! - `\x` the byte `x` itself, inside and outside of brackets.
//!
//! What is malformed is not an error but means what it means to Redis: a class that is never
//! closed ends with the pattern, `[]` matches nothing, a lone `\` at the end is a backslash, and in
//! `[a-]` the `-]` makes a range. Everything works on bytes, so `?` is not one `é`.

use std::borrow::Cow;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyRun,
    Class {
        negated: bool,
        ranges: Box<[(u8, u8)]>,
    },
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Token::Byte(own) => *own == byte,
            Token::AnyByte => true,
            Token::AnyRun => false,
            Token::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&byte))
                    != *negated
            }
        }
    }
}

impl Pattern {
    /// Parses a pattern; every text is one.
    pub(crate) fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            rest = tail;
            let token = match (first, tail) {
                (b'*', _) => Token::AnyRun,
                (b'?', _) => Token::AnyByte,
                (b'[', _) => parse_class(&mut rest),
                (b'\\', [escaped, tail @ ..]) => {
                    rest = tail;
                    Token::Byte(*escaped)
                }
                (byte, _) => Token::Byte(*byte),
            };
            if token != Token::AnyRun || tokens.last() != Some(&Token::AnyRun) {
                tokens.push(token);
            }
        }
        Pattern {
            tokens: tokens.into(),
        }
    }

    /// True when the whole text matches. Takes time proportional to pattern times text at most.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let (mut token, mut at) = (0, 0);
        // Where to go on when a later token fails: the token after the last `*`, and the text
        // position after the next byte given to that star.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(at) {
            match self.tokens.get(token) {
                Some(Token::AnyRun) => {
                    token += 1;
                    retry = Some((token, at + 1));
                }
                Some(other) if other.accepts(*byte) => {
                    token += 1;
                    at += 1;
                }
                _ => match &mut retry {
                    None => return false,
                    Some((after_star, next)) => {
                        token = *after_star;
                        at = *next;
                        *next += 1;
                    }
                },
            }
        }
        let left = self.tokens.get(token..).unwrap_or_default();
        left.iter().all(|token| *token == Token::AnyRun)
    }

    /// The only text that this pattern matches, if it is just one text.
    pub(crate) fn literal(&self) -> Option<String> {
        let bytes: Option<Vec<u8>> = self
            .tokens
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect();
        String::from_utf8(bytes?).ok()
    }
}

/// Parses what follows `[`, and moves `rest` behind it.
fn parse_class(rest: &mut &[u8]) -> Token {
    let mut ranges = Vec::new();
    let negated = rest.first() == Some(&b'^');
    if let (true, [_, tail @ ..]) = (negated, *rest) {
        *rest = tail;
    }
    loop {
        match *rest {
            [] => break,
            [b'\\', byte, tail @ ..] => {
                ranges.push((*byte, *byte));
                *rest = tail;
            }
            [b']', tail @ ..] => {
                *rest = tail;
                break;
            }
            [from, b'-', to, tail @ ..] => {
                ranges.push((*from.min(to), *from.max(to)));
                *rest = tail;
            }
            [byte, tail @ ..] => {
                ranges.push((*byte, *byte));
                *rest = tail;
            }
        }
    }
    Token::Class {
        negated,
        ranges: ranges.into(),
    }
}

/// True when the text holds a character that means something in a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.bytes().any(|byte| b"*?[\\".contains(&byte))
}

/// The pattern that matches exactly this channel: puts a `\` before `*`, `?`, `[`, `]` and `\`.
///
/// ```
/// assert_eq!(infra_events::escape("bot[1]"), "bot\\[1\\]");
/// assert_eq!(infra_events::escape("orders.new"), "orders.new");
/// ```
pub fn escape(channel: &str) -> Cow<'_, str> {
    if !channel.bytes().any(|byte| b"*?[]\\".contains(&byte)) {
        return Cow::Borrowed(channel);
    }
    let mut escaped = String::with_capacity(channel.len() + 8);
    for c in channel.chars() {
        if "*?[]\\".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The obvious matcher: tries every length for every star.
    fn naive(tokens: &[Token], text: &[u8]) -> bool {
        match tokens.split_first() {
            None => text.is_empty(),
            Some((Token::AnyRun, rest)) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            Some((token, rest)) => {
                !text.is_empty() && token.accepts(text[0]) && naive(rest, &text[1..])
            }
        }
    }

    #[test]
    fn ev11_malformed_patterns_mean_what_they_mean_to_redis() {
        for (pattern, text, matches) in [
            ("[abc", "b", true),
            ("[abc", "d", false),
            ("[]abc]", "a", false),
            ("[^]", "x", true),
            ("a\\", "a\\", true),
            ("[a-]", "b", false),
            ("[a-]", "]", true),
            ("[z-a]", "m", true),
            ("[", "[", false),
            ("[\\]]", "]", true),
            ("caf?", "café", false),
            ("caf??", "café", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                matches,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn an_evil_pattern_takes_no_exponential_time() {
        let pattern = Pattern::new(&format!("{}b", "a*".repeat(100)));
        assert!(!pattern.matches(&"a".repeat(1000)));
    }

    #[test]
    fn only_patterns_for_one_text_are_literal() {
        assert_eq!(Pattern::new("a\\*b").literal().as_deref(), Some("a*b"));
        assert_eq!(Pattern::new("a?b").literal(), None);
        assert_eq!(Pattern::new("[a]").literal(), None);
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_obvious_matcher(
            pattern in "[ab*?\\[\\]^\\-\\\\]{0,8}", text in "[ab\\-\\]^]{0,8}",
        ) {
            let pattern = Pattern::new(&pattern);
            prop_assert_eq!(pattern.matches(&text), naive(&pattern.tokens, text.as_bytes()));
        }

        #[test]
        fn an_escaped_channel_matches_itself_alone(channel in "\\PC{1,12}", other in "\\PC{1,12}") {
            let pattern = Pattern::new(&escape(&channel));
            prop_assert!(pattern.matches(&channel));
            prop_assert_eq!(pattern.matches(&other), channel == other);
            prop_assert_eq!(pattern.literal(), Some(channel));
        }
    }
}
