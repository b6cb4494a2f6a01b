//! What SQLite says, in the words of the store.

use infra_core::Outcome;
use infra_state::{DriverError, ErrorKind};
use rusqlite::ErrorCode;

/// The kind decides what a user does: wait, repair, give room. A statement that failed has changed
/// nothing; of the failures of the disk that cannot be said.
pub(crate) fn sqlite(error: rusqlite::Error) -> DriverError {
    let (kind, outcome) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::AlreadyOpen, Outcome::NotApplied)
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::Capacity, Outcome::NotApplied),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorKind::Corrupted, Outcome::NotApplied)
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::Permission, Outcome::NotApplied)
        }
        Some(ErrorCode::CannotOpen) => (ErrorKind::InvalidPath, Outcome::NotApplied),
        Some(ErrorCode::TooBig) => (ErrorKind::TooLarge, Outcome::NotApplied),
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, Outcome::Unknown),
        _ => (ErrorKind::Backend, Outcome::NotApplied),
    };
    // Texts of SQLite name tables and columns, never values.
    DriverError::new(kind, format!("SQLite: {error}"))
        .with_outcome(outcome)
        .with_source(error)
}
