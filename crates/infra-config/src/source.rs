//! Where a value comes from.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A line of a `.env` file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The process environment, under the setting's own name.
    Environment,
    /// A file whose path stands in the variable `<name>_FILE`.
    Indirect {
        /// The file that holds the value.
        path: PathBuf,
        /// Where the variable with the path was set.
        named_by: Box<Source>,
    },
    /// [`Loader::set`](crate::Loader::set).
    Code,
}

impl Source {
    pub(crate) fn file(path: &Path, line: usize) -> Self {
        Source::File {
            path: path.to_owned(),
            line,
        }
    }
}

/// `default`, `<file>:<line>`, `environment`, `file <path> (named by ...)` or `code`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Environment => f.write_str("environment"),
            Source::Indirect { path, named_by } => {
                write!(f, "file {} (named in {named_by})", path.display())
            }
            Source::Code => f.write_str("code"),
        }
    }
}
