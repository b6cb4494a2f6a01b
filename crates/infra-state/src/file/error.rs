//! What goes wrong with a file, as errors of a driver.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use infra_core::{Class, Outcome};
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

use super::batch::Reply;
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// A file that cannot be used, or not at the moment: the `source()` of the errors of this backend.
#[derive(Debug, Clone)]
pub struct FileError {
    path: PathBuf,
    fault: FileFault,
    detail: Option<String>,
    creating: bool,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFault {
    /// This or another process has it open.
    AlreadyOpen,
    /// A state file whose bytes were changed, cut off or lost. It was not modified.
    Corrupted,
    /// A file of 0 bytes: no state file is ever that short. It was not modified.
    Empty,
    /// A file that is no state file. It was not modified.
    NotAStateFile,
    /// Written by a later version of this crate. It was not modified.
    NewerFormat,
    /// The path leads to a folder or a device.
    NotAFile,
    /// The folder in which to create the file does not exist.
    NoFolder,
    /// The user may not read and write it.
    Permission,
    /// Its keys and short values take up more memory than they may.
    TooManyBytes,
    /// It cannot be compacted while a backup reads from it.
    InUse,
    /// While it is open, it was removed, renamed or replaced by another: what would be written to it
    /// could not be found again. Its content is still read.
    Removed,
    /// The disk is full, or a quota or the limit of the size of a file is reached.
    StorageFull,
    /// Any other failure of the operating system.
    Io,
}

impl FileError {
    pub(super) fn new(path: &Path, fault: FileFault) -> Self {
        FileError {
            path: path.to_owned(),
            fault,
            detail: None,
            creating: false,
        }
    }

    pub(super) fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// There was no file yet, and there is none now.
    pub(super) fn while_creating(mut self) -> Self {
        self.creating = true;
        self
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind::*;
        let fault = match error.kind() {
            PermissionDenied | ReadOnlyFilesystem => FileFault::Permission,
            StorageFull | QuotaExceeded | FileTooLarge => FileFault::StorageFull,
            IsADirectory => FileFault::NotAFile,
            NotFound | NotADirectory => FileFault::NoFolder,
            UnexpectedEof => FileFault::Corrupted,
            InvalidData => FileFault::NotAStateFile,
            _ => FileFault::Io,
        };
        FileError::new(path, fault).detail(error)
    }

    pub(super) fn storage(path: &Path, error: &StorageError) -> Self {
        match error {
            StorageError::Io(error) => FileError::io(path, error),
            StorageError::Corrupted(what) => {
                FileError::new(path, FileFault::Corrupted).detail(what)
            }
            other => FileError::new(path, FileFault::Io).detail(other),
        }
    }

    pub(super) fn database(path: &Path, error: &DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                FileError::new(path, FileFault::AlreadyOpen)
            }
            DatabaseError::Storage(error) => FileError::storage(path, error),
            other => FileError::new(path, FileFault::NotAStateFile).detail(other),
        }
    }

    pub(super) fn table(path: &Path, error: &TableError) -> Self {
        match error {
            TableError::Storage(error) => FileError::storage(path, error),
            other => FileError::new(path, FileFault::NotAStateFile).detail(other),
        }
    }

    pub(super) fn transaction(path: &Path, error: &TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => FileError::storage(path, error),
            other => FileError::new(path, FileFault::Io).detail(other),
        }
    }

    pub(super) fn commit(path: &Path, error: &CommitError) -> Self {
        match error {
            CommitError::Storage(error) => FileError::storage(path, error),
            other => FileError::new(path, FileFault::Io).detail(other),
        }
    }

    /// What is wrong.
    pub fn fault(&self) -> FileFault {
        self.fault
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn advice(&self) -> &'static str {
        match self.fault {
            FileFault::AlreadyOpen => {
                "is open already, by this or another process: share one store, or close the other"
            }
            FileFault::Corrupted => "is damaged: restore it from a copy; it was left as it is",
            FileFault::Empty => {
                "is empty and thus no state file: delete it, or restore it from a copy"
            }
            FileFault::NotAStateFile => "is no state file: choose another path; it was left as is",
            FileFault::NewerFormat => "was written by a later version: update this program",
            FileFault::NotAFile => "is no file but a folder or a device: give the path of a file",
            FileFault::NoFolder => "lies in a folder that does not exist: create the folder",
            FileFault::Permission if self.creating => {
                "cannot be created: this user may not write to its folder"
            }
            FileFault::Permission => "may not be read and written by this user",
            FileFault::TooManyBytes => {
                "has more keys and short values than `max_resident_bytes` lets into memory"
            }
            FileFault::InUse => "is being read by a backup: ask again when it is done",
            FileFault::Removed => {
                "was removed or replaced while it was open: put it back, and the store takes writes \
                 again by itself, or save what it still reads with a backup"
            }
            FileFault::StorageFull if self.creating => {
                "cannot be created, the disk is full: make room for it"
            }
            FileFault::StorageFull => {
                "cannot grow, the disk is full: make room, and a store that is open takes writes \
                 again by itself; it serves reads meanwhile"
            }
            FileFault::Io => "could not be read or written",
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.path.display(), self.advice())?;
        match &self.detail {
            Some(detail) => write!(f, " ({})", detail.replace(['\n', '\r'], " ")),
            None => Ok(()),
        }
    }
}

impl StdError for FileError {}

pub(super) fn closed() -> DriverError {
    DriverError::new(ErrorKind::Closed, "the store was closed")
}

pub(super) fn queue_full(limit: Duration) -> DriverError {
    let message = format!("too many writes wait for the disk, none was done within {limit:?}");
    DriverError::new(ErrorKind::Busy, message)
}

pub(super) fn timed_out(limit: Duration, outcome: Outcome) -> DriverError {
    let what = match outcome {
        Outcome::Unknown => "the disk had not answered",
        _ => "the disk did not get to it",
    };
    let message = format!("{what} within {limit:?}");
    DriverError::new(ErrorKind::Timeout, message).with_outcome(outcome)
}

pub(super) fn thread_gone() -> DriverError {
    let message = "the thread that owns the file has ended: open the store anew";
    DriverError::new(ErrorKind::Backend, message).with_outcome(Outcome::Unknown)
}

pub(super) fn unexpected(reply: &Reply) -> DriverError {
    DriverError::new(ErrorKind::Backend, format!("unexpected answer {reply:?}"))
}

impl From<FileError> for DriverError {
    fn from(error: FileError) -> Self {
        let (kind, class) = match error.fault {
            FileFault::AlreadyOpen => (ErrorKind::AlreadyOpen, Class::Permanent),
            FileFault::Corrupted | FileFault::Empty => (ErrorKind::Corrupted, Class::Permanent),
            FileFault::NotAStateFile | FileFault::NotAFile | FileFault::NoFolder => {
                (ErrorKind::InvalidPath, Class::Permanent)
            }
            FileFault::NewerFormat => (ErrorKind::Unsupported, Class::Permanent),
            FileFault::Permission => (ErrorKind::Permission, Class::Permanent),
            FileFault::TooManyBytes => (ErrorKind::Capacity, Class::Permanent),
            FileFault::InUse => (ErrorKind::Busy, Class::Transient),
            FileFault::StorageFull => (ErrorKind::Capacity, Class::Transient),
            FileFault::Removed => (ErrorKind::Unavailable, Class::Transient),
            FileFault::Io => (ErrorKind::Unavailable, Class::Transient),
        };
        DriverError::new(kind, error.to_string())
            .with_class(class)
            .with_source(error)
    }
}
