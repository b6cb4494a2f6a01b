//! What is wrong with the settings: all of it, in one report.

use std::fmt;
use std::path::{Path, PathBuf};

use infra_core::{Class, Classify};

use crate::dotenv::SyntaxError;
use crate::source::Source;

/// One thing that is wrong, or worth a warning. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// The variable, where the problem is about one.
    pub variable: Option<String>,
    /// Where it stands.
    pub place: Place,
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What is wrong: one line.
    pub message: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// At the source of a value.
    Source(Source),
    /// At a position in a file.
    Position {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A file as a whole.
    File(PathBuf),
    /// Nowhere: something is missing.
    Nowhere,
}

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A `.env` file has a line that cannot be read.
    Syntax,
    /// A file is there and cannot be read, or was asked for and is not there.
    File,
    /// A value is not what the setting expects.
    Invalid,
    /// A value is not UTF-8.
    NotUtf8,
    /// A value is needed and missing.
    Missing,
    /// Both `NAME` and `NAME_FILE` are set.
    BothForms,
    /// No setting has this name.
    UnknownName,
    /// A setting is set that has no effect with the backend that is selected.
    NotUsed,
    /// The declaration of a setting is wrong: a mistake of the program, not of its user.
    Declaration,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, place: Place, message: impl Into<String>) -> Self {
        Problem {
            variable: None,
            place,
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn of(mut self, variable: impl Into<String>) -> Self {
        self.variable = Some(variable.into());
        self
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn syntax(path: &Path, error: &SyntaxError) -> Self {
        let place = Place::Position {
            path: path.to_owned(),
            line: error.line,
            column: error.column,
        };
        Problem::new(ProblemKind::Syntax, place, error.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Source(source) => source.fmt(f),
            Place::Position { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Nowhere => f.write_str("not set"),
        }
    }
}

/// One line: `NAME (place): what is wrong; what to do`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => write!(f, "{variable} ({}): {}", self.place, self.message)?,
            None => write!(f, "{}: {}", self.place, self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the settings, sorted by variable and place.
///
/// Its `Display` is the whole report, warnings included, several lines long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl ConfigErrors {
    pub(crate) fn new(mut problems: Vec<Problem>, warnings: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        ConfigErrors { problems, warnings }
    }

    /// The problems, sorted by variable and place; at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What would have been warnings had there been no problem.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 problem in the settings:")?,
            count => write!(f, "{count} problems in the settings:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Permanent: the same settings are refused again.
impl Classify for ConfigErrors {
    fn class(&self) -> Class {
        Class::Permanent
    }
}
