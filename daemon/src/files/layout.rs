//! Where the files of jobs are, and how they are opened.
//!
//! ```text
//! STATE/output/42/42137.1.out      job 42137, attempt 1, stdout; a thousand ids a folder
//! STATE/output/42/42137.1.err
//! STATE/output/callbacks/17.2.out  callback 17, attempt 2
//! STATE/output/slots/pool.gpu.0.out  what an attempt in a slot writes, until it has the name above
//! STATE/output/programs/           standard errors of resident programs, whose names are removed at once
//! STATE/stdin/TOKEN                a spooled standard input
//! STATE/values/TOKEN               parameters or the answer of a call, where they are large
//! ```
//!
//! Jobs can write to the state directory, and may put links into it. From the state directory downwards no
//! link is followed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::job::{CallbackId, Claim, JobId, Unit};

/// Jobs that share a folder.
const FOLDER: u64 = 1000;

/// Where slots have their blank files.
pub(super) const SLOTS: &str = "output/slots";

/// Names below the state directory, in the paths of an output file, a spooled input and a value.
pub(super) const OUTPUT_DEPTH: usize = 3;
pub(super) const STDIN_DEPTH: usize = 2;
pub(super) const VALUE_DEPTH: usize = 2;

/// The files of one attempt: stdout and stderr.
pub fn paths(state_dir: &Path, claim: Claim) -> (PathBuf, PathBuf) {
    let Claim { unit: Unit::Job(JobId(id)) | Unit::Callback(CallbackId(id)), attempt } = claim;
    let folder = folder(state_dir, claim.unit);
    (folder.join(format!("{id}.{attempt}.out")), folder.join(format!("{id}.{attempt}.err")))
}

/// The name of the same file of another attempt: of `42137.3.out`, say, `42137.1.out`.
pub fn of_attempt(path: &Path, attempt: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut parts = name.splitn(3, '.');
    let (id, stream) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    path.with_file_name(format!("{id}.{attempt}.{stream}"))
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

/// The same of a callback.
pub fn callback_paths(state_dir: &Path, id: CallbackId, attempt: u32) -> (PathBuf, PathBuf) {
    paths(state_dir, Claim { unit: Unit::Callback(id), attempt })
}

/// What the paths of a slot's blank files begin with. `pool`: none in the lane of the callbacks.
pub fn slot_prefix(state_dir: &Path, pool: Option<&str>, index: u32) -> PathBuf {
    let slots = state_dir.join(SLOTS);
    match pool {
        Some(pool) => slots.join(format!("pool.{pool}.{index}")),
        None => slots.join(format!("callbacks.{index}")),
    }
}

/// A spooled standard input.
pub fn stdin_path(state_dir: &Path, token: &str) -> PathBuf {
    state_dir.join("stdin").join(token)
}

/// A large value.
pub fn value_path(state_dir: &Path, token: &str) -> PathBuf {
    state_dir.join("values").join(token)
}

/// Makes the folders that everything else lies in, where they are missing.
///
/// # Errors
/// Those of [`create_private_folder`], with the folder.
pub fn create_folders(state_dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    for folder in ["output", "output/callbacks", SLOTS, "stdin", "values"] {
        let path = state_dir.join(folder);
        create_private_folder(&path).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// Makes a folder that only this user can enter. A folder that is there already is changed to that.
///
/// # Errors
/// Those of mkdir(2) and chmod(2).
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to uid {}", metadata.uid()),
        ));
    }
    if metadata.permissions().mode() & 0o777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Opens a file that lies so many names below the state directory. A link may lead to that directory, but
/// from there on none is followed.
pub(super) fn open_beneath(path: &Path, depth: usize, flags: OFlag) -> io::Result<File> {
    let (state_dir, relative) = split(path, depth);
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o600) } else { Mode::empty() };
    Ok(open_at(&open_dir(state_dir)?, relative, flags, mode)?.into())
}

/// Opens such a file after its folders were made anew where they are missing; but not the state directory.
pub(super) fn open_or_create_beneath(path: &Path, depth: usize, flags: OFlag) -> io::Result<File> {
    match open_beneath(path, depth, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folders_beneath(path, depth)?;
            open_beneath(path, depth, flags)
        }
        other => other,
    }
}

/// Opens the folder that such a file lies in; made anew where it is missing and `create` says so.
pub(super) fn open_folder_beneath(path: &Path, depth: usize, create: bool) -> io::Result<OwnedFd> {
    let (state_dir, relative) = split(path, depth);
    let folder = relative.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let open = || open_at(&open_dir(state_dir)?, folder, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty());
    match open() {
        Err(Errno::ENOENT) if create => {
            create_folders_beneath(path, depth)?;
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}

/// Whether there is the state directory that such a file lies in.
pub(super) fn check_state_dir(path: &Path, depth: usize) -> io::Result<()> {
    let (state_dir, _) = split(path, depth);
    Ok(open_dir(state_dir).map(drop)?)
}

/// Removes what is in the place of such a file, or in the place of the folder that it lies in, where that is
/// none.
pub(super) fn remove_odd(path: &Path, depth: usize) -> io::Result<()> {
    let (state_dir, relative) = split(path, depth);
    let (Some(folder), Some(name)) = (relative.parent(), relative.file_name()) else { return Ok(()) };
    let (Some(above), Some(folder_name)) = (folder.parent(), folder.file_name()) else { return Ok(()) };

    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let state_dir = open_dir(state_dir)?;
    match open_at(&state_dir, folder, flags, Mode::empty()) {
        Ok(folder) => remove_entry(&folder, name),
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            remove_entry(&open_at(&state_dir, above, flags, Mode::empty())?, folder_name)
        }
        Err(error) => Err(error.into()),
    }
}

fn remove_entry(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // By the descriptor, so that the way there cannot be changed meanwhile. No link is followed.
        Err(Errno::EISDIR) => {
            fs::remove_dir_all(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the folders on the way to such a file, those that are missing.
fn create_folders_beneath(path: &Path, depth: usize) -> io::Result<()> {
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

pub(super) fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

pub(super) fn open_at(dir: &OwnedFd, relative: &Path, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode);
    openat2(dir, relative, how.resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH))
}
