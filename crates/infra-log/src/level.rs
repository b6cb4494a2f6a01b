//! Which events are written: a level, or a level and directives for single targets.

use std::fmt;
use std::str::FromStr;

use tracing_core::{Level, LevelFilter};

use crate::error::{Error, ErrorKind};

const WORDS: &str = "trace, debug, info, warn (or warning), error, off";

/// A level for everything, and other levels for single targets.
///
/// Read from text, in any case: a word (`DEBUG`, `INFO`, `WARNING`, `ERROR`, and `trace`, `warn`,
/// `off`), or directives separated by commas, each a word or `target=word`. A target covers the
/// modules below it (`hyper` covers `hyper::client`, not `hyper_util`); the longest one that fits
/// decides. Without a plain word the rest stays at `INFO`. Anything else is refused.
///
/// ```
/// use infra_log::LevelSpec;
///
/// let spec: LevelSpec = "WARNING,infra_state=debug".parse()?;
/// assert_eq!(spec.to_string(), "warn,infra_state=debug");
/// assert!("infoo".parse::<LevelSpec>().is_err());
/// # Ok::<(), infra_log::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelSpec {
    default: LevelFilter,
    /// Longest target first, so that the first match decides.
    targets: Vec<(String, LevelFilter)>,
}

impl LevelSpec {
    /// Nothing is written.
    pub const OFF: LevelSpec = LevelSpec::plain(LevelFilter::OFF);
    /// Errors.
    pub const ERROR: LevelSpec = LevelSpec::plain(LevelFilter::ERROR);
    /// Warnings and errors.
    pub const WARN: LevelSpec = LevelSpec::plain(LevelFilter::WARN);
    /// Information and everything graver. The default.
    pub const INFO: LevelSpec = LevelSpec::plain(LevelFilter::INFO);
    /// Details for the one who looks for a mistake.
    pub const DEBUG: LevelSpec = LevelSpec::plain(LevelFilter::DEBUG);
    /// Everything.
    pub const TRACE: LevelSpec = LevelSpec::plain(LevelFilter::TRACE);

    const fn plain(default: LevelFilter) -> Self {
        LevelSpec {
            default,
            targets: Vec::new(),
        }
    }

    /// The most detailed level that any target has.
    pub(crate) fn max(&self) -> LevelFilter {
        let targets = self.targets.iter().map(|(_, level)| *level);
        targets.fold(self.default, std::cmp::max)
    }

    pub(crate) fn allows(&self, target: &str, level: Level) -> bool {
        let own = self.targets.iter().find(|(t, _)| covers(t, target));
        level <= own.map_or(self.default, |(_, level)| *level)
    }
}

impl Default for LevelSpec {
    fn default() -> Self {
        LevelSpec::INFO
    }
}

impl FromStr for LevelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut default = None;
        let mut targets: Vec<(String, LevelFilter)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((target, word)) = part.split_once('=') else {
                if default.replace(level_word(part)?).is_some() {
                    return Err(refused(text, "has more than one level for everything"));
                }
                continue;
            };
            let target = target.trim_end();
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_:-./@".contains(&b);
            if target.is_empty() || !target.bytes().all(allowed) {
                return Err(refused(part, "has no target before the ="));
            }
            if targets.iter().any(|(t, _)| t == target) {
                return Err(refused(part, "names a target for the second time"));
            }
            targets.push((target.to_owned(), level_word(word.trim_start())?));
        }
        targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(LevelSpec {
            default: default.unwrap_or(LevelFilter::INFO),
            targets,
        })
    }
}

impl fmt::Display for LevelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        for (target, level) in &self.targets {
            write!(f, ",{target}={level}")?;
        }
        Ok(())
    }
}

fn covers(directive: &str, target: &str) -> bool {
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    target
        .strip_prefix(directive)
        .is_some_and(|rest| !rest.starts_with(part_of_a_name))
}

fn level_word(word: &str) -> Result<LevelFilter, Error> {
    let levels = [
        ("trace", LevelFilter::TRACE),
        ("debug", LevelFilter::DEBUG),
        ("info", LevelFilter::INFO),
        ("warn", LevelFilter::WARN),
        ("warning", LevelFilter::WARN),
        ("error", LevelFilter::ERROR),
        ("off", LevelFilter::OFF),
    ];
    let known = levels.iter().find(|(w, _)| w.eq_ignore_ascii_case(word));
    known
        .map(|(_, level)| *level)
        .ok_or_else(|| refused(word, "is no level"))
}

fn refused(text: &str, why: &str) -> Error {
    let shown: String = text.chars().take(64).collect();
    Error::new(
        ErrorKind::InvalidSetting,
        "reading the log level",
        format!(
            "{shown:?} {why}; use one of {WORDS}, or directives such as info,infra_state=debug"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LevelSpec, Error> {
        text.parse()
    }

    #[test]
    fn trap_14_words_are_taken_in_any_case_and_anything_else_is_refused() {
        for (text, spec) in [
            ("DEBUG", LevelSpec::DEBUG),
            ("Info", LevelSpec::INFO),
            (" WARNING ", LevelSpec::WARN),
            ("warn", LevelSpec::WARN),
            ("ERROR", LevelSpec::ERROR),
            ("trace", LevelSpec::TRACE),
            ("off", LevelSpec::OFF),
        ] {
            assert_eq!(parse(text).unwrap(), spec, "{text}");
        }
        for text in [
            "",
            " ",
            "infoo",
            "5",
            "info,debug",
            "=info",
            "a b=info",
            "x=infoo",
            "x=",
            "info,",
            "x=info,x=debug",
            "critical",
            "[span]=info",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSetting, "{text}");
            assert!(error.to_string().contains("warn (or warning), error, off"));
        }
    }

    #[test]
    fn the_longest_target_decides_and_names_are_matched_whole() {
        let spec = parse("warn, hyper=off, hyper::client = DEBUG").unwrap();
        assert!(!spec.allows("hyper::server", Level::ERROR));
        assert!(spec.allows("hyper::client::pool", Level::DEBUG));
        assert!(spec.allows("hyper_util", Level::WARN));
        assert!(!spec.allows("hyper_util", Level::INFO));
        assert_eq!(spec.max(), LevelFilter::DEBUG);
        assert_eq!(spec.to_string(), "warn,hyper::client=debug,hyper=off");
    }

    #[test]
    fn directives_alone_leave_the_rest_at_info() {
        let spec = parse("infra_state=trace").unwrap();
        assert!(spec.allows("other", Level::INFO) && !spec.allows("other", Level::DEBUG));
    }
}
