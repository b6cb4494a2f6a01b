//! What is right or wrong rather than fast or slow: the same scenario, run on ours and on the
//! peers.
//!
//! The scenarios are rows of the table that the tests of `infra-resilience` are named after, with
//! times short enough to be waited for. Each library gets the settings that come closest to the
//! scenario's. A verdict speaks of what was seen from outside: which calls reached the backend.
//!
//! # Layout
//! - `library`: what a library under trial has to offer, and all of them.
//! - `breakers`, `limits`: the scenarios.

mod breakers;
mod library;
mod limits;
mod ours;
mod peers;

pub(crate) use breakers::stampedes;

/// What a library did in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should; what was seen.
    Right(String),
    /// Not as it should; what was seen.
    Wrong(String),
    /// It has no such piece.
    NotOffered,
}

/// A scenario and what each library did in it.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// The row of the table, such as `B02`.
    pub(crate) name: &'static str,
    /// What happens, and what should.
    pub(crate) scenario: &'static str,
    /// Per library, in the same order for each fact.
    pub(crate) verdicts: Vec<(&'static str, Verdict)>,
}

impl Verdict {
    fn of(right: bool, seen: impl Into<String>) -> Self {
        if right {
            Verdict::Right(seen.into())
        } else {
            Verdict::Wrong(seen.into())
        }
    }
}

/// Runs every scenario on every library, about a second each.
pub(crate) fn run() -> Vec<Fact> {
    facts(&library::all())
}

fn facts(libraries: &[library::Library]) -> Vec<Fact> {
    let mut facts = breakers::run(libraries);
    facts.extend(limits::run(libraries));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_right_in_every_line() {
        let facts = facts(&[ours::library()]);
        assert_eq!(facts.len(), 7);
        for fact in facts {
            for (library, verdict) in &fact.verdicts {
                let right = matches!(verdict, Verdict::Right(_));
                assert!(right, "{} {library}: {verdict:?}", fact.name);
            }
        }
    }
}
