//! The files behind an attempt's standard streams.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::live_input::LiveInput;
use super::protocol::{Run, Stdin};
use crate::files::layout::of_attempt;
use crate::files::slot_output::{AttemptOutput, Over, SlotOutput};
use crate::files::{output, spool};
use crate::job::{Claim, KEPT_ATTEMPTS, SpawnFailure, Stage, Steer, Unit};

/// An attempt's standard streams.
#[derive(Debug)]
pub struct Files {
    stdin: Option<File>,
    /// Where clients write the standard input.
    live: Option<LiveInput>,
    output: AttemptOutput,
    /// Standard error goes where standard output goes.
    are_merged: bool,
    /// The names of what earlier attempts have written, as far as it is kept.
    earlier: Vec<PathBuf>,
}

impl Files {
    /// Opens all three; says what was in the place of output and had to be removed.
    ///
    /// # Errors
    /// With [`Stage::Output`] or [`Stage::Stdin`], and what open(2) says.
    pub fn open(run: &Run, slot: &mut SlotOutput) -> Result<(Self, Vec<String>), SpawnFailure> {
        let failed = |stage| {
            move |error: io::Error| SpawnFailure {
                stage,
                errno: error.raw_os_error().unwrap_or(nix::libc::EIO),
            }
        };
        // Without them the command has what it can have.
        run.present.iter().for_each(|path| _ = output::make_present(&path.to_path()));
        // Last: where the whole state directory is gone, that is not this job's fault.
        let begun = slot.begin([run.stdout.to_path(), run.stderr.to_path()]);
        let (output, odd) = begun.map_err(failed(Stage::Output))?;
        let (live, stdin) = match open_stdin(&run.stdin) {
            Ok(opened) => opened,
            Err(error) => {
                // Nobody has written anything.
                let _ = slot.end(output, Over::UNTOUCHED);
                return Err(failed(Stage::Stdin)(error));
            }
        };
        let replaced = odd
            .iter()
            .map(|path| format!("something that is no plain file was in the place of {}", path.display()));
        let (are_merged, earlier) = (run.merge, earlier_output(run));
        Ok((Self { stdin: Some(stdin), live, output, are_merged, earlier }, replaced.collect()))
    }

    /// They get their names, if they have none.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn name(&mut self, slot: &mut SlotOutput) -> io::Result<()> {
        slot.name(&mut self.output)
    }

    /// The attempt is over.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn end(self, slot: &mut SlotOutput, over: Over) -> io::Result<()> {
        slot.end(self.output, over)
    }

    /// Standard input, output, error.
    ///
    /// # Panics
    /// After [`without_stdin`](Self::without_stdin).
    pub fn stdio(&self) -> [BorrowedFd<'_>; 3] {
        let stdin = self.stdin.as_ref().expect("the attempt has not been started yet");
        let [stdout, stderr] = match (self.live.as_ref().and_then(LiveInput::terminal), self.output()) {
            (Some(terminal), _) => [terminal; 2],
            (None, [stdout, _]) if self.are_merged => [stdout; 2],
            (None, output) => output,
        };
        [stdin.as_fd(), stdout, stderr]
    }

    /// Whether all three are a terminal.
    pub fn is_at_terminal(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.terminal().is_some())
    }

    /// What clients write the standard input by.
    pub fn live(&self) -> Option<&LiveInput> {
        self.live.as_ref()
    }

    /// Does to the standard input what a client wants.
    pub fn steer(&mut self, steer: Steer) {
        if let Some(live) = &mut self.live {
            live.steer(steer);
        }
    }

    /// Passes on what is typed at the terminal and what is written there. What keeps that from the output, as
    /// long as it was not told.
    pub fn pass_on(&mut self, is_typed: bool) -> Option<io::Error> {
        self.live.as_mut()?.pass_on(self.output.files[0].as_fd(), is_typed)
    }

    /// Nothing of the attempt is left: what it has written to its terminal last is passed on.
    pub fn end_live(&mut self) -> Option<io::Error> {
        self.live.take()?.end(self.output.files[0].as_fd())
    }

    /// Only the job reads it.
    pub fn without_stdin(self) -> Self {
        Self { stdin: None, ..self }
    }

    /// Standard output and error.
    pub fn output(&self) -> [BorrowedFd<'_>; 2] {
        self.output.files.each_ref().map(AsFd::as_fd)
    }

    /// Their lengths together, in bytes.
    pub fn written(&self) -> u64 {
        let (stdout, stderr) = self.sizes();
        stdout.saturating_add(stderr)
    }

    /// The lengths of standard output and error, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let size = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        let [stdout, stderr] = &self.output.files;
        (size(stdout), size(stderr))
    }

    /// Of standard output and error: the length, and the time of the last write in nanoseconds since 1970.
    pub fn written_at(&self) -> [(u64, i128); 2] {
        self.output.files.each_ref().map(|file| {
            file.metadata().map_or((0, 0), |metadata| {
                let ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
                (metadata.len(), ns)
            })
        })
    }

    /// What both take on the disk, in bytes. Holes take nothing.
    pub fn disk_bytes(&self) -> u64 {
        let size = |file: &File| file.metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        self.output.files.iter().map(size).fold(0, u64::saturating_add)
    }

    /// What the kept output of earlier attempts takes on the disk, in bytes.
    pub fn earlier_bytes(&self) -> u64 {
        let size = |path: &PathBuf| {
            fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(512))
        };
        self.earlier.iter().map(size).fold(0, u64::saturating_add)
    }

    /// Without a process: the files, and what somebody writes to them through.
    #[cfg(test)]
    pub fn for_test(dir: &std::path::Path) -> (Self, File, File) {
        let names = ["out", "err"].map(|name| dir.join("output/0").join(name));
        let (output, _) = SlotOutput::new(&dir.join("output/slots/a")).begin(names).unwrap();
        let [stdout, stderr] = output.files.each_ref().map(|file| file.try_clone().unwrap());
        (Self { stdin: None, live: None, output, are_merged: false, earlier: Vec::new() }, stdout, stderr)
    }
}

/// The names of what the attempts before this one have written, as far as it is kept. Of callbacks all is
/// kept, and counted nowhere.
fn earlier_output(run: &Run) -> Vec<PathBuf> {
    let Claim { unit: Unit::Job(_), attempt } = run.claim else { return Vec::new() };
    let (stdout, stderr) = (run.stdout.to_path(), run.stderr.to_path());
    let earlier = (1..attempt).rev().take(KEPT_ATTEMPTS as usize - 1);
    let both = |attempt| [of_attempt(&stdout, attempt), of_attempt(&stderr, attempt)];
    earlier.flat_map(both).collect()
}

fn open_stdin(stdin: &Stdin) -> io::Result<(Option<LiveInput>, File)> {
    let file = match stdin {
        Stdin::Live(input) => {
            let (live, file) = LiveInput::open(*input)?;
            return Ok((Some(live), file));
        }
        Stdin::Null => File::open("/dev/null"),
        Stdin::File(path) => spool::open(&path.to_path()),
        Stdin::Text(text) => {
            let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            Ok(file)
        }
    };
    Ok((None, file?))
}
