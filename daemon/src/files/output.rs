//! The files that an attempt writes to: standard output and standard error. The worker creates them and hands
//! them to the job itself; poold never copies a byte of output.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::libc;

use super::layout::{OUTPUT_DEPTH, open_beneath, open_or_create_beneath, remove_odd};

/// Creates one of an attempt's files, for appending, so that two processes that write to it do not overwrite
/// each other. Empty, whatever an attempt of the same number that could not be started has left. A missing
/// folder is made anew, but not the state directory. Whatever else a job may have put there (a FIFO, a link, a
/// folder) is removed; true where that was so.
///
/// # Errors
/// Those of openat2(2) and unlink(2).
pub fn create(path: &Path) -> io::Result<(File, bool)> {
    // A FIFO would keep us waiting for its reader.
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK;
    let opened = open_or_create_beneath(path, OUTPUT_DEPTH, flags).and_then(plain);
    let (file, is_replaced) = match opened {
        Err(error) if is_odd(&error) => {
            remove_odd(path, OUTPUT_DEPTH)?;
            (open_or_create_beneath(path, OUTPUT_DEPTH, flags | OFlag::O_EXCL)?, true)
        }
        opened => (opened?, false),
    };
    file.set_len(0)?;
    Ok((file, is_replaced))
}

/// Makes an output file that is missing, empty.
///
/// # Errors
/// Those of openat2(2).
pub fn make_present(path: &Path) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NONBLOCK;
    open_or_create_beneath(path, OUTPUT_DEPTH, flags).map(drop)
}

/// What a job could not have done by writing to its output is not taken for its output: another file may hang
/// on a second name.
fn plain(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file"))
}

/// Whether that is what open(2) says of a FIFO, a socket, a link, a folder, or a file in a folder's place.
fn is_odd(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        || error
            .raw_os_error()
            .is_some_and(|errno| [libc::ENXIO, libc::ELOOP, libc::EISDIR, libc::ENOTDIR].contains(&errno))
}

/// Creates a file without a name, for reading and appending.
///
/// # Errors
/// Those of openat2(2) and unlink(2).
pub fn create_unnamed(state_dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = state_dir.join(format!("output/programs/{}.{number}", std::process::id()));
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = open_or_create_beneath(&path, OUTPUT_DEPTH, flags)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Opens one of the files for reading. Whatever a job may have put in its place is not waited for.
///
/// # Errors
/// Those of openat2(2); `InvalidData` where it is no plain file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = open_beneath(path, OUTPUT_DEPTH, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file any more"));
    }
    Ok(file)
}
