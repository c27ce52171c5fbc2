//! Where the output of attempts goes: the layout of the files below the state directory, and how they are opened for reading.
//!
//! ```text
//! STATE/output/42/42137.1.out      job 42137, attempt 1, stdout; a thousand ids a folder
//! STATE/output/42/42137.1.err
//! STATE/output/callbacks/17.2.out  callback 17, attempt 2
//! STATE/stdin/TOKEN                a spooled standard input
//! ```
//!
//! The worker creates the files and hands them to the job itself; poold never copies a byte of output.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::job::{CallbackId, Claim, JobId, Unit};

/// Jobs that share a folder.
const FOLDER: u64 = 1000;

/// The files of one attempt: stdout and stderr.
pub fn paths(state_dir: &Path, claim: Claim) -> (PathBuf, PathBuf) {
    let attempt = claim.attempt;
    let stem = match claim.unit {
        Unit::Job(JobId(id)) => format!("output/{}/{id}.{attempt}", id / FOLDER),
        Unit::Callback(CallbackId(id)) => format!("output/callbacks/{id}.{attempt}"),
    };
    (state_dir.join(format!("{stem}.out")), state_dir.join(format!("{stem}.err")))
}

/// The files of one attempt of a job, as the record names them.
pub fn job_paths(state_dir: &Path, id: JobId, attempt: u32) -> (PathBuf, PathBuf) {
    paths(state_dir, Claim { unit: Unit::Job(id), attempt })
}

/// A spooled standard input.
pub fn stdin_path(state_dir: &Path, token: &str) -> PathBuf {
    state_dir.join("stdin").join(token)
}

/// Opens one of the files for reading. Whatever a job may have put in its place is not followed, and not waited for.
///
/// # Errors
/// Those of open(2); `InvalidData` where it is no plain file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file any more"));
    }
    Ok(file)
}
