//! Where the output of attempts goes: the layout of the files below the state directory, and how they are opened.
//!
//! ```text
//! STATE/output/42/42137.1.out      job 42137, attempt 1, stdout; a thousand ids a folder
//! STATE/output/42/42137.1.err
//! STATE/output/callbacks/17.2.out  callback 17, attempt 2
//! STATE/stdin/TOKEN                a spooled standard input
//! ```
//!
//! The worker creates the files and hands them to the job itself; poold never copies a byte of output.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::job::{CallbackId, Claim, JobId, Unit};

/// Jobs that share a folder.
const FOLDER: u64 = 1000;

/// Names below the state directory, in the path of an output file and of a spooled input.
const OUTPUT_DEPTH: usize = 3;
const STDIN_DEPTH: usize = 2;

/// The files of one attempt: stdout and stderr.
pub fn paths(state_dir: &Path, claim: Claim) -> (PathBuf, PathBuf) {
    let Claim { unit: Unit::Job(JobId(id)) | Unit::Callback(CallbackId(id)), attempt } = claim;
    let folder = folder(state_dir, claim.unit);
    (folder.join(format!("{id}.{attempt}.out")), folder.join(format!("{id}.{attempt}.err")))
}

/// Where the files of all its attempts are, if there are any.
pub fn folder(state_dir: &Path, unit: Unit) -> PathBuf {
    match unit {
        Unit::Job(JobId(id)) => state_dir.join(format!("output/{}", id / FOLDER)),
        Unit::Callback(_) => state_dir.join("output/callbacks"),
    }
}

/// The files of one attempt of a job, as the record names them.
pub fn job_paths(state_dir: &Path, id: JobId, attempt: u32) -> (PathBuf, PathBuf) {
    paths(state_dir, Claim { unit: Unit::Job(id), attempt })
}

/// A spooled standard input.
pub fn stdin_path(state_dir: &Path, token: &str) -> PathBuf {
    state_dir.join("stdin").join(token)
}

/// Creates one of an attempt's files, for appending, so that two processes that write to it do not overwrite each other. Empty, whatever an
/// attempt of the same number that could not be started has left. A missing folder is made anew, but not the state directory.
///
/// # Errors
/// Those of openat2(2).
pub fn create(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
    let file = match open_beneath(path, OUTPUT_DEPTH, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders(path, OUTPUT_DEPTH)?;
            open_beneath(path, OUTPUT_DEPTH, flags)?
        }
        other => other?,
    };
    file.set_len(0)?;
    Ok(file)
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
    let file = match open_beneath(&path, OUTPUT_DEPTH, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders(&path, OUTPUT_DEPTH)?;
            open_beneath(&path, OUTPUT_DEPTH, flags)?
        }
        other => other?,
    };
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

/// Creates the file of a standard input that is to be spooled; there must be none.
///
/// # Errors
/// Those of openat2(2).
pub fn create_stdin(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    match open_beneath(path, STDIN_DEPTH, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders(path, STDIN_DEPTH)?;
            open_beneath(path, STDIN_DEPTH, flags)
        }
        other => other,
    }
}

/// Opens a spooled standard input for reading.
///
/// # Errors
/// Those of openat2(2).
pub fn open_stdin(path: &Path) -> io::Result<File> {
    open_beneath(path, STDIN_DEPTH, OFlag::O_RDONLY)
}

/// Brings a spooled standard input to the disk, and its name.
///
/// # Errors
/// Those of openat2(2) and fsync(2).
pub fn sync_stdin(state_dir: &Path, token: &str) -> io::Result<()> {
    let path = stdin_path(state_dir, token);
    open_stdin(&path)?.sync_all()?;
    let folder = open_at(
        &open_dir(state_dir)?,
        Path::new("stdin"),
        OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    File::from(folder).sync_all()
}

/// Opens a file that lies so many names below the state directory. A link may lead to that directory, but from there on none is followed.
fn open_beneath(path: &Path, depth: usize, flags: OFlag) -> io::Result<File> {
    let (state_dir, relative) = split(path, depth);
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o600) } else { Mode::empty() };
    Ok(open_at(&open_dir(state_dir)?, relative, flags, mode)?.into())
}

/// Makes the folders on the way to such a file, those that are missing.
fn create_folders(path: &Path, depth: usize) -> io::Result<()> {
    let (state_dir, relative) = split(path, depth);
    let mut dir = open_dir(state_dir)?;
    for name in relative.parent().into_iter().flatten() {
        match mkdirat(&dir, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        dir = open_at(&dir, Path::new(name), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    }
    Ok(())
}

fn split(path: &Path, depth: usize) -> (&Path, &Path) {
    let state_dir = path.ancestors().nth(depth).unwrap_or(Path::new("/"));
    (state_dir, path.strip_prefix(state_dir).unwrap_or(path))
}

fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn open_at(dir: &OwnedFd, relative: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode);
    openat2(dir, relative, how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH))
}
