//! `poolctl send`: writes to the standard input of a running job.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context as _, bail};
use clap::Args;
use pool_proto::methods::CloseInput;
use pool_proto::nouns::Input;

use super::Context;
use super::selection::{Scope, find_one};
use crate::cli::selector::{Selector, one_selector};
use crate::exit::ExitReason;
use crate::follow::{END, open_input};

/// Write to the standard input of a running job
///
/// The job was submitted with --stdin open, or with --pty. Where it does not read, poolctl waits until it
/// does.
#[derive(Debug, Args)]
pub struct SendOptions {
    /// The job: its id, 12.4 for an element of array 12, or last, or name:x
    #[arg(value_name = "SELECTOR", value_parser = one_selector())]
    job: Selector,

    /// A line of text [default: all of poolctl's stdin]
    #[arg(value_name = "TEXT")]
    text: Vec<OsString>,

    /// Write the text without a newline at its end
    #[arg(short, long, requires = "text")]
    no_newline: bool,

    /// The input ends with that
    ///
    /// Alone at a terminal: the input ends now.
    #[arg(long)]
    eof: bool,
}

impl SendOptions {
    /// Writes.
    ///
    /// # Errors
    /// When the job does not run, has no input that stays open, or reads no more.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut client = context.link.connect()?;
        let id = find_one(&mut client, &self.job, Scope::RUNNING, "is written to")?;
        let (input, pipe) = open_input(&mut client, id)?;
        let mut pipe = File::from(pipe);

        let written = if !self.text.is_empty() {
            let mut line = self.text.join(" ".as_ref()).as_bytes().to_vec();
            line.extend((!self.no_newline).then_some(b'\n'));
            pipe.write_all(&line)
        } else if self.eof && io::stdin().is_terminal() {
            Ok(())
        } else {
            io::copy(&mut io::stdin().lock(), &mut pipe).map(drop)
        };
        let ended = written.and_then(|()| match input {
            Input::Terminal if self.eof => pipe.write_all(&[END]),
            Input::Terminal | Input::Pipe => Ok(()),
        });
        drop(pipe);
        // As an error of its own: that of a pipe would say that nobody reads what poolctl prints.
        if ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
            bail!("job {id} does not read all of that: it has ended, or closed its standard input");
        }
        ended.with_context(|| format!("job {id} does not read all of that"))?;
        if self.eof && input == Input::Pipe {
            client.request(&CloseInput { id })?;
        }
        Ok(ExitReason::Success)
    }
}
