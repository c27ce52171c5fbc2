//! The log of a map's jobs (`--joblog`): a line for each job that has ended, in the columns of GNU parallel's
//! log, so that what reads one reads the other. Each line is written when the map hears of the end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pool_proto::text::unix_micros;
use pool_proto::{OsText, State};

use super::lane::{EndedItem, Returned};
use crate::tell::shell::command_line;

const HEADER: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// See the module's description.
#[derive(Debug)]
pub struct JobLog {
    file: File,
    name: String,
}

impl JobLog {
    /// A log at this path, in place of what is there. After a `+` before the path, lines are added to it.
    ///
    /// # Errors
    /// When the file cannot be opened or written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let (path, adds) = match bytes.strip_prefix(b"+") {
            Some(rest) => (PathBuf::from(std::ffi::OsString::from_vec(rest.to_vec())), true),
            None => (path.to_owned(), false),
        };

        let name = path.display().to_string();
        let mut options = OpenOptions::new();
        let options = if adds { options.append(true) } else { options.write(true).truncate(true) };
        let file =
            options.create(true).open(&path).with_context(|| format!("cannot write the job log {name}"))?;

        let mut log = Self { file, name };
        if !log.file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0) {
            log.write(HEADER)?;
        }
        Ok(log)
    }

    /// Adds the line of an item. `argv`: its command. A job that was canceled before it had started has no
    /// line, as in GNU parallel.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn add(&mut self, ended: &EndedItem, argv: &[OsText]) -> anyhow::Result<()> {
        match line(ended, argv) {
            Some(line) => self.write(&line),
            None => Ok(()),
        }
    }

    fn write(&mut self, line: &str) -> anyhow::Result<()> {
        let written = self.file.write_all(line.as_bytes());
        written.with_context(|| format!("cannot write the job log {}", self.name))
    }
}

fn line(ended: &EndedItem, argv: &[OsText]) -> Option<String> {
    let record = match &ended.end {
        Returned::Command { record, .. } => Some(&**record),
        Returned::Call(_) | Returned::Unfit(_) => None,
    };
    let started = record.and_then(|record| unix_micros(record.started_at.as_ref()?));
    if started.is_none() && ended.state() == State::Canceled {
        return None;
    }

    let runtime = record.and_then(|record| record.wall_s).unwrap_or(0.0);
    let output = record.and_then(|record| record.stdout.as_ref()?.bytes).unwrap_or(0);
    let signal = record.and_then(|record| record.signal).unwrap_or(0);
    // What a signal has ended has the code 0 there, but a job that timed out has its own.
    let is_by_signal = signal > 0 && ended.state() != State::TimedOut;
    let code = if is_by_signal { 0 } else { ended.exit().code() };
    Some(format!(
        "{}\t:\t{:.3}\t{runtime:10.3}\t0\t{output}\t{code}\t{signal}\t{}\n",
        ended.item.number,
        started.unwrap_or(0) as f64 / 1e6,
        command_line(argv)
    ))
}
