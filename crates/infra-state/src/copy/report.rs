//! What a copy came to.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::Error;

/// Examples that are kept of what went wrong; everything is counted.
pub(super) const EXAMPLES: usize = 100;

/// The counts of a copy. Every key of the source is in exactly one of them, except `scanned`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Keys that were seen at the source.
    pub scanned: u64,
    /// Written at the target; by a plan: would be written.
    pub copied: u64,
    /// The target had the same already.
    pub unchanged: u64,
    /// Written by an earlier run, as the checkpoint says.
    pub resumed: u64,
    /// The target's other value was left there.
    pub kept: u64,
    /// The target's other value was left there and counts as a failure.
    pub refused: u64,
    /// Removed or expired at the source meanwhile; not at the target.
    pub vanished: u64,
    /// Changed so often during the copy that the target may be behind: to be copied again.
    pub unsettled: u64,
    /// Leases, caches, and other keys of this crate.
    pub left_out: u64,
    /// Counters of leases that were moved.
    pub fences: u64,
    /// Larger than the target takes.
    pub oversize: u64,
    /// Could not be read or written, for a reason of their own.
    pub failed: u64,
    /// The first 100 of the values that are too large.
    pub oversize_keys: Vec<Oversize>,
    /// The first 100 failures, one line each; no values.
    pub failures: Vec<String>,
}

/// A value that is larger than the target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oversize {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: usize,
}

impl CopyReport {
    /// Whether the target has everything that it should have.
    pub fn is_complete(&self) -> bool {
        self.refused + self.unsettled + self.oversize + self.failed == 0
    }

    pub(super) fn too_large(&mut self, key: &str, bytes: usize) {
        self.oversize += 1;
        if self.oversize_keys.len() < EXAMPLES {
            let key = key.to_owned();
            self.oversize_keys.push(Oversize { key, bytes });
        }
    }

    pub(super) fn failure(&mut self, error: &dyn fmt::Display) {
        self.failed += 1;
        if self.failures.len() < EXAMPLES {
            self.failures.push(error.to_string());
        }
    }
}

/// One line.
impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.scanned)?;
        for (count, what) in [
            (self.copied, "copied"),
            (self.unchanged, "unchanged"),
            (self.resumed, "copied before"),
            (self.kept, "kept at the target"),
            (self.refused, "refused"),
            (self.vanished, "vanished"),
            (self.unsettled, "unsettled"),
            (self.left_out, "left out"),
            (self.fences, "fences"),
            (self.oversize, "too large"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Why a copy ended early. Running it again goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyError {
    /// A store cannot be used at all, also after several attempts.
    State(Error),
    /// Values are larger than the target takes; nothing was written.
    Oversize(Box<CopyReport>),
    /// The checkpoint cannot be used.
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Reading or writing the lines of an export failed.
    Lines {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it; holds no value.
        source: io::Error,
    },
    /// The runtime that carried the copy is ending.
    Interrupted,
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::State(error) => write!(f, "the copy ended early: {error}"),
            CopyError::Oversize(report) => {
                let (count, first) = (report.oversize, report.oversize_keys.first());
                write!(f, "{count} values are larger than the target takes")?;
                match first {
                    Some(Oversize { key, bytes }) => {
                        write!(
                            f,
                            ", as that of `{}` with {bytes} bytes",
                            key.escape_debug()
                        )
                    }
                    None => Ok(()),
                }
            }
            CopyError::Checkpoint { path, source } => {
                write!(
                    f,
                    "the checkpoint {} cannot be used: {source}",
                    path.display()
                )
            }
            CopyError::Lines { line, source } => write!(f, "line {line}: {source}"),
            CopyError::Interrupted => f.write_str("the runtime that carried the copy is ending"),
        }
    }
}

impl StdError for CopyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            CopyError::State(error) => Some(error),
            CopyError::Checkpoint { source, .. } | CopyError::Lines { source, .. } => Some(source),
            CopyError::Oversize(_) | CopyError::Interrupted => None,
        }
    }
}

impl From<Error> for CopyError {
    fn from(error: Error) -> Self {
        CopyError::State(error)
    }
}
