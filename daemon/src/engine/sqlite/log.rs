//! The write-ahead log as a plain file: synced, and written anew where it stands.
//!
//! When an fsync(2) fails, Linux may already have marked the pages as clean that it could not write. The next
//! fsync then succeeds and proves nothing: what is committed later lies on the disk behind a gap, where no
//! start would find it. So after such a failure every byte of the log is written once more and synced, before
//! anything else is committed. The same bytes in the same place harm nobody, should the power be cut
//! meanwhile. <https://wiki.postgresql.org/wiki/Fsync_Errors>

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Bytes written at once.
const CHUNK: usize = 1 << 20;

/// The log of a database.
pub fn path_of(file: &Path) -> PathBuf {
    let mut log = OsString::from(file);
    log.push("-wal");
    log.into()
}

/// Whether a database has left something in its log: it was not closed in order, and nobody knows whether its
/// last sync succeeded.
pub fn is_left(file: &Path) -> bool {
    fs::metadata(path_of(file)).is_ok_and(|metadata| metadata.len() > 0)
}

/// Opens a log beside SQLite, which takes no lock on it that closing it could drop.
pub fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Brings what is in a log to the disk. Its name is there already: SQLite syncs the directory when it begins
/// the log.
pub fn sync(log: &File) -> io::Result<()> {
    #[cfg(test)]
    super::tests::recorder::synced(log)?;
    log.sync_data()
}

/// Writes the first `length` bytes of a database's log anew, cuts off the rest, which is nothing that was
/// committed, and brings that and the log's name to the disk.
pub fn rewrite(file: &Path, length: u64) -> io::Result<()> {
    let path = path_of(file);
    let log = open(&path)?;
    if log.metadata()?.len() > length {
        log.set_len(length)?;
    }
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let count = log.read_at(&mut chunk, at)?;
        if count == 0 {
            break;
        }
        log.write_all_at(&chunk[..count], at)?;
        at += count as u64;
    }
    #[cfg(test)]
    super::tests::recorder::rewritten(&path)?;
    log.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
