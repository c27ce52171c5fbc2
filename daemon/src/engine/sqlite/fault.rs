//! What an error of SQLite's means for us: whether the disk is to blame or an operation, and what a user can
//! do about it.

use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use super::FILE_NAME;

/// Whether the database as a whole cannot be written or read for now. Otherwise it is the one operation that
/// cannot be carried out, by a mistake of ours, and would fail at the next attempt as well.
pub fn is_of_database(error: &Error) -> bool {
    match error.sqlite_error_code() {
        // A value could not be turned into a column, or a column into a value.
        None => false,
        Some(
            ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::ApiMisuse
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::Unknown, // SQLITE_ERROR: a mistake in a statement
        ) => false,
        Some(_) => true,
    }
}

/// Whether the file is not the one that the next start would open.
fn is_of_home(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_DBMOVED)
}

/// Whether something that was written may not have come to the disk, and never will by itself: see
/// [`log`](super::log).
pub fn is_of_sync(error: &Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// Whether something failed since there was no room on the disk, whoever has noticed it.
pub fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_sqlite = error.downcast_ref::<Error>().and_then(Error::sqlite_error_code);
    let of_system = error.downcast_ref::<io::Error>().map(io::Error::kind);
    of_sqlite == Some(ErrorCode::DiskFull)
        || matches!(of_system, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Whether what is on the disk is no sound database any more, which no waiting mends.
pub fn is_damage(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// What is wrong and what to do, as a sentence.
pub fn explain(error: &Error, state_dir: &Path) -> String {
    let dir = state_dir.display();
    let file = state_dir.join(FILE_NAME);
    let file = file.display();
    match error.sqlite_error_code() {
        _ if is_of_home(error) => format!(
            "{file} or its log was removed, moved or replaced while poold had it open; put it back where it was, \
             or end poold and start it anew"
        ),
        Some(ErrorCode::DiskFull) => format!("the disk is full; free space in {dir} and try again"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            format!("{file} cannot be written ({error}); make it and its file system writable and try again")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!(
                "{file} is damaged ({error}); stop poold, restore the file from a backup or move it away, and start poold again"
            )
        }
        Some(_) => format!(
            "{file} cannot be written ({error}); check the disk, its file system and its quota, and try again"
        ),
        None => format!("{file} cannot hold this ({error}); please report this as a defect of poold"),
    }
}
