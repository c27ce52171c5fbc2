//! Whether the files that SQLite has open are still those that the next start would open: a state directory
//! that was removed, moved or replaced under a running daemon takes every write, and keeps none.
//!
//! Looked at before each commit, which costs two stat(2) calls and no timer.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rusqlite::{Error, ffi};
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use rustix::io::Errno;

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

/// Without the file's times: once these have been looked at, Linux 6.13 and later give the next write a time
/// of its own, which the next sync then has to write as well where the file system has no journal.
fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(found) => Ok((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)),
        // A sandbox may forbid it.
        Err(Errno::NOSYS | Errno::PERM) => {
            let metadata = fs::metadata(path)?;
            Ok((metadata.dev(), metadata.ino()))
        }
        Err(error) => Err(error.into()),
    }
}
