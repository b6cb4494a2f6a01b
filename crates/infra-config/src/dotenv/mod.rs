//! The strict parser of `.env` files.
//!
//! Where tools disagree about a line, this parser refuses it or reads it in the one way that does
//! not change what was written. It reports every error of a file, by line and column, and never
//! prints any part of the file.
//!
//! | line | value here | python-dotenv 1.2.4 | docker compose (compose-go 2.13) | dotenvy 0.15.7 |
//! |---|---|---|---|---|
//! | `K=v`, `K = v`, `export K=v` | `v` | same | same | same |
//! | `K=`, `K=''` | empty, which counts as not set | empty | empty | empty |
//! | `K=a b` | `a b` | same | same | error |
//! | `K=a #b` | `a` | same | same | same |
//! | `K=a#b` | `a#b` | same | same | same |
//! | `K=#b` | `#b` | same | same | empty |
//! | `K= #b` | empty | same | `#b` | same |
//! | `K=$X` | `$X` | same | expands | expands |
//! | `K=pa$$word` | `pa$$word` | same | `pa$word` | `pa` |
//! | `K=${X}`, `K="${X}"` | `X`'s value; error if not defined | empty if not defined | empty if not defined | empty if not defined |
//! | `K=${X:-d}` | `X`'s value; `d` if not set or empty | same | same | empty, also if set |
//! | `K=${X:?d}`, `K=${X:+d}` | error | as written | error if not set; `d` if set | empty |
//! | `K=${X:-${Y}}` | error | as written | expands both | `}` |
//! | `K='${X}'` | `${X}` | expands | same | same |
//! | `K="\${X}"` | `${X}` | a backslash, then expands | same | same |
//! | `K=a\tb`, `K=C:\temp` | as written | same | same | error |
//! | `K="a\tb"` | a tabulator between | same | same | error |
//! | `K="a\qb"` | error | `a\qb` | `a\qb` | error |
//! | `K='it\'s'` | error: text after the quote | `it's` | `it's` | error |
//! | `K=it's` | error: quote the whole value | `it's` | `it's` | error |
//! | `K=a"b"` | error: quote the whole value | `a"b"` | `a"b"` | `ab` |
//! | `K="a"b` | error: text after the quote | that line is lost | `a`, the rest is lost | `ab` |
//! | `K="a` without an end | error at the quote | that line is lost | error, which prints the value | error |
//! | quotes over several lines | the lines, joined by LF | same | same | same |
//! | `K` alone | error | no value | taken from the environment | error |
//! | `K: v` | error | that line is lost | `v` | error |
//! | `=v` | error | that line is lost | a name without letters | error |
//! | `1K=v`, `K-1=v` | error | accepted | accepted | error |
//! | the same key twice | error | the last counts | the last counts | the first counts |
//! | byte order mark | accepted | accepted | accepted | error |
//! | CRLF | accepted | accepted | accepted | accepted |
//! | control characters | error | accepted | accepted | accepted |
//! | an error anywhere | the whole file is refused | only that line is lost | the whole file is refused | lines above stay set |
//!
//! The columns on the right were measured. A file in which every value with a `$`, `#`, quote or
//! backslash stands in single quotes, has no single quote in it and no backslash at its end, is
//! read alike by all of them, except that python-dotenv expands `${X}`.
//!
//! `${NAME}` looks at the process environment first, then at the lines above, then at the file of
//! lower precedence. There is no recursion, no `$NAME` without braces, no command substitution.

mod cursor;
mod parse;

use std::fmt;

pub use parse::{Lookup, parse, parse_with};

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The longest value after expansion, in bytes.
pub const MAX_VALUE: usize = 1 << 16;
/// The most that all values of one file may come to after expansion, in bytes.
pub const MAX_VALUES: usize = 4 << 20;

/// One assignment.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The variable's name.
    pub key: String,
    /// The value, quotes removed and references replaced.
    pub value: String,
    /// The line of the key, from 1.
    pub line: usize,
}

/// Without the value, which may be a secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} at line {})", self.key, self.line)
    }
}

/// A file's assignments in their order and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// The assignments without an error. Not to be used when there is one.
    pub entries: Vec<Entry>,
    /// The errors in the order of their positions.
    pub errors: Vec<SyntaxError>,
}

/// What is wrong with a line, and where. Holds no part of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub kind: SyntaxErrorKind,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxErrorKind {
    /// A byte that is not UTF-8.
    #[error("the file is not UTF-8 here")]
    NotUtf8,
    /// The file is larger than [`MAX_FILE`].
    #[error("the file is larger than 1 MiB")]
    FileTooLarge,
    /// A control character other than a tabulator, or a carriage return alone.
    #[error("a control character")]
    ControlCharacter,
    /// No valid name where one must be.
    #[error("a name is expected: letters, digits and underscores, no digit first")]
    BadName,
    /// No `=` after the name.
    #[error("`=` is expected after the name")]
    MissingEquals,
    /// A quote that is not closed.
    #[error("this quote is not closed")]
    UnclosedQuote,
    /// Something other than a comment after the closing quote.
    #[error("text after the closing quote: quote the whole value, or use double quotes and \\\"")]
    TextAfterQuote,
    /// A quote in a value that does not start with one.
    #[error("a quote inside an unquoted value: quote the whole value")]
    QuoteInside,
    /// A backslash in double quotes before a character that has no meaning there.
    #[error("unknown escape: \\n \\r \\t \\\\ \\\" \\$ are known; single quotes take it literally")]
    UnknownEscape,
    /// `${` without a name, or without its end.
    #[error(
        "`${{` must be followed by a name and `}}` or `:-default}}`; single quotes take it literally"
    )]
    BadReference,
    /// `${NAME}` of something that nobody has defined so far.
    #[error("the name in `${{}}` is not defined so far: define it above, or give `:-default`")]
    UndefinedReference,
    /// A key that was there before.
    #[error("this name was set before, at line {first_line}")]
    Duplicate {
        /// The line of the first.
        first_line: usize,
    },
    /// Longer than [`MAX_VALUE`], or all together longer than [`MAX_VALUES`].
    #[error("the value is too long")]
    TooLong,
}
