//! Whether the files that SQLite has open are still those that the next start would open: a state directory
//! that was removed, moved or replaced under a running daemon takes every write, and keeps none.
//!
//! Looked at before each commit, which costs two stat(2) calls and no timer.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::{Error, ffi};

use super::log;

/// A file by its name and by what tells it from others.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    identity: (u64, u64),
}

/// The database and its log.
#[derive(Debug)]
pub struct Home {
    files: [Known; 2],
}

impl Home {
    /// Of a database that is open, with its log.
    pub fn of(file: &Path) -> io::Result<Self> {
        Ok(Self { files: [Known::of(file.to_owned())?, Known::of(log::path_of(file))?] })
    }

    /// Fails with the code that SQLite has for this.
    pub fn check(&self) -> rusqlite::Result<()> {
        if self.files.iter().all(Known::is_there) {
            return Ok(());
        }
        Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), None))
    }
}

impl Known {
    fn of(path: PathBuf) -> io::Result<Self> {
        let identity = identity_of(&path)?;
        Ok(Self { path, identity })
    }

    fn is_there(&self) -> bool {
        identity_of(&self.path).is_ok_and(|identity| identity == self.identity)
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
