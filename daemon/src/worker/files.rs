//! The files behind an attempt's standard streams.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::protocol::{Run, Stdin};
use crate::files::{output, spool};
use crate::job::{SpawnFailure, Stage};

/// An attempt's standard streams.
#[derive(Debug)]
pub struct Files {
    stdin: Option<File>,
    stdout: File,
    stderr: File,
}

impl Files {
    /// Opens all three; says what was in their place and had to be removed.
    ///
    /// # Errors
    /// With [`Stage::Output`] or [`Stage::Stdin`], and what open(2) says.
    pub fn open(run: &Run) -> Result<(Self, Vec<String>), SpawnFailure> {
        let failed = |stage| {
            move |error: io::Error| SpawnFailure {
                stage,
                errno: error.raw_os_error().unwrap_or(nix::libc::EIO),
            }
        };
        let mut replaced = Vec::new();
        let mut create = |path: &Path| {
            let (file, is_replaced) = output::create(path)?;
            if is_replaced {
                replaced
                    .push(format!("something that is no plain file was in the place of {}", path.display()));
            }
            Ok(file)
        };
        let files = Self {
            stdout: create(&run.stdout.to_path()).map_err(failed(Stage::Output))?,
            stderr: create(&run.stderr.to_path()).map_err(failed(Stage::Output))?,
            // Last: where the whole state directory is gone, that is not this job's fault.
            stdin: Some(open_stdin(&run.stdin).map_err(failed(Stage::Stdin))?),
        };
        Ok((files, replaced))
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

    /// Standard output and error.
    pub fn output(&self) -> [BorrowedFd<'_>; 2] {
        [self.stdout.as_fd(), self.stderr.as_fd()]
    }

    /// Their lengths together, in bytes.
    pub fn written(&self) -> u64 {
        let (stdout, stderr) = self.sizes();
        stdout.saturating_add(stderr)
    }

    /// The lengths of standard output and error, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let size = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        (size(&self.stdout), size(&self.stderr))
    }

    /// What both take on the disk, in bytes. Holes take nothing.
    pub fn disk_bytes(&self) -> u64 {
        let size = |file: &File| file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        size(&self.stdout).saturating_add(size(&self.stderr))
    }

    /// Without a process: the files, and what somebody writes to them through.
    #[cfg(test)]
    pub fn for_test(dir: &std::path::Path) -> (Self, File, File) {
        let create = |name| File::create(dir.join(name)).unwrap();
        let (stdout, stderr) = (create("out"), create("err"));
        let writers = (stdout.try_clone().unwrap(), stderr.try_clone().unwrap());
        (Self { stdin: None, stdout, stderr }, writers.0, writers.1)
    }
}

fn open_stdin(stdin: &Stdin) -> io::Result<File> {
    match stdin {
        Stdin::Null => File::open("/dev/null"),
        Stdin::File(path) => spool::open(&path.to_path()),
        Stdin::Text(text) => {
            let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            Ok(file)
        }
    }
}
