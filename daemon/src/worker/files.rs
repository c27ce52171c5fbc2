//! The files behind an attempt's standard streams.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::protocol::{Run, Stdin};
use crate::job::{SpawnFailure, Stage};

/// An attempt's standard streams.
#[derive(Debug)]
pub struct Files {
    stdin: Option<File>,
    stdout: File,
    stderr: File,
}

impl Files {
    /// Opens all three.
    ///
    /// # Errors
    /// With [`Stage::Files`], and what open(2) says.
    pub fn open(run: &Run) -> Result<Self, SpawnFailure> {
        let failed =
            |error: io::Error| SpawnFailure { stage: Stage::Files, errno: error.raw_os_error().unwrap_or(nix::libc::EIO) };
        Ok(Self {
            stdin: Some(open_stdin(&run.stdin).map_err(failed)?),
            stdout: create(&run.stdout).map_err(failed)?,
            stderr: create(&run.stderr).map_err(failed)?,
        })
    }

    /// Standard input, output, error.
    ///
    /// # Panics
    /// After [`without_stdin`](Self::without_stdin).
    pub fn stdio(&self) -> [BorrowedFd<'_>; 3] {
        let stdin = self.stdin.as_ref().expect("the attempt has not been started yet");
        [stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
    }

    /// Only the job reads it.
    pub fn without_stdin(self) -> Self {
        Self { stdin: None, ..self }
    }

    /// The lengths of standard output and error, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let size = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        (size(&self.stdout), size(&self.stderr))
    }
}

fn open_stdin(stdin: &Stdin) -> io::Result<File> {
    match stdin {
        Stdin::Null => File::open("/dev/null"),
        Stdin::File(path) => OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path),
        Stdin::Text(text) => {
            let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            Ok(file)
        }
    }
}

/// Empty, whatever an attempt of the same number that could not be started has left; never through a link. Appending, so that two
/// processes that write to it do not overwrite each other.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().ok_or(error)?;
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            options.open(path)?
        }
        other => other?,
    };
    file.set_len(0)?;
    Ok(file)
}
