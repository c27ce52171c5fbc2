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
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

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

/// Where a log is shorter than `needed` bytes it is made longer, with zeroes, which are to be synced: twice
/// as long, but at least `least` bytes longer, and at most `most` bytes long. Returns its length, which
/// counts for `most` where there is nothing to be won by making it longer: in memory no file system has a
/// journal.
///
/// What follows the last commit in a log is nothing, be it zeroes or what an earlier round has left there:
/// each page of it begins with a number and a sum that only the next commit can have.
pub fn lengthen(log: &File, needed: u64, least: u64, most: u64) -> io::Result<u64> {
    let length = log.metadata()?.len();
    if length >= needed.min(most) {
        return Ok(length);
    }
    if !cfg!(test) && fstatfs(log)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(most);
    }

    let new = (length * 2).max(length + least).min(most);
    let zeroes = vec![0; CHUNK.min((new - length) as usize)];
    let mut at = length;
    let mut write = || {
        while at < new {
            let count = zeroes.len().min((new - at) as usize);
            log.write_all_at(&zeroes[..count], at)?;
            at += count as u64;
        }
        Ok(())
    };
    // Where there is no room for it, what there is belongs to others.
    write().inspect_err(|_: &io::Error| _ = log.set_len(length))?;
    Ok(new)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_made_longer_only_where_what_is_to_come_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "committed").unwrap();
        let log = open(&path).unwrap();

        assert_eq!(lengthen(&log, 9, 100, 1000).unwrap(), 9);
        assert_eq!(lengthen(&log, 50, 100, 1000).unwrap(), 109);
        assert_eq!(lengthen(&log, 110, 100, 1000).unwrap(), 218);
        assert_eq!(lengthen(&log, 990, 900, 1000).unwrap(), 1000);
        assert_eq!(lengthen(&log, 2000, 100, 1000).unwrap(), 1000);

        let found = fs::read(&path).unwrap();
        assert_eq!(found.len(), 1000);
        assert!(found.starts_with(b"committed") && found[9..].iter().all(|&byte| byte == 0));
    }
}
