//! `poolctl submit`: submits one job, or many.

mod bulk;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use pool_proto::methods::Submit;
use pool_proto::nouns::{Input, Job};
use pool_proto::{Record, State};

use super::Context;
use super::ending::{Ending, Endings};
use super::submission::{after_others, detach, stand_in};
use crate::cli::choices::DisconnectChoice;
use crate::cli::job::{ArrayOptions, ConditionOptions, JobOptions, LikeOptions};
use crate::cli::values::parse_tie;
use crate::cli::{UsageError, command_words};
use crate::compose::job::{conditional, job_of, like, many, on_disconnect};
use crate::compose::stdin::{JobInput, has_unread_input};
use crate::exit::ExitReason;
use crate::follow::{Sinks, canceled_for};
use crate::tell::outcome::{exit_of, pointer, remark};
use crate::term::json;
use crate::term::text::{hint, or_untold, say};

/// Submit a job and print its id
///
/// The job is on disk when its id is printed. With --wait, poolctl runs the job as if it were started here.
#[derive(Debug, Args)]
pub struct SubmitOptions {
    /// Wait for the end; pass output and exit code through
    ///
    /// With --json: print one document in the end, with the record and the end of the output.
    #[arg(short = 'W', long)]
    pub(super) wait: bool,

    /// Print the id as soon as the job is on disk [default]
    #[arg(long = "async", conflicts_with = "wait")]
    pub(super) detach: bool,

    /// Print the id and say nothing else, unless the job is not accepted
    ///
    /// For scripts that are used to `sbatch --parsable` and `docker run -q`: the id alone is printed anyway.
    /// What is left out is said on stderr: that a job of the unique name has not ended, and that the job did
    /// not get the input at stdin.
    #[arg(short, long, visible_alias = "parsable", conflicts_with = "wait")]
    pub(super) quiet: bool,

    /// Submit a job for each line of a file, a JSON object
    ///
    /// For stdin write -. A line has the members of the protocol's Job; what it leaves out is as the other
    /// options say.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["wait", "stdin", "pty", "command", "key", "unique"])]
    pub(super) from: Option<PathBuf>,

    #[command(flatten)]
    pub(super) job: JobOptions,

    /// The job reads this file, or - for poolctl's stdin [default: nothing]
    ///
    /// With open: what is sent to it while it runs (send, attach). A file of that name is ./open.
    #[arg(long, value_name = "FILE|-|open")]
    pub(super) stdin: Option<PathBuf>,

    /// The job has a terminal of its own; with --wait at a terminal, it is this one
    ///
    /// See attach. What the job writes to its terminal is its stdout.
    #[arg(long, conflicts_with = "stdin")]
    pub(super) pty: bool,

    /// The job's stderr goes where its stdout goes: `logs` shows both in the order in which they were written
    #[arg(long, conflicts_with = "pty")]
    pub(super) merge: bool,

    /// With --wait: when poolctl dies
    ///
    /// cancel is the same as --tie client.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DisconnectChoice::Detach)]
    pub(super) on_disconnect: DisconnectChoice,

    /// End the job with the client (poolctl), a job, or the pool
    ///
    /// client is poolctl, with --wait; job:ID another job; pool all other jobs, when poold shuts down.
    #[arg(long, value_name = "client|job:ID|pool", value_parser = parse_tie)]
    pub(super) tie: Option<String>,

    #[command(flatten)]
    pub(super) conditions: ConditionOptions,

    #[command(flatten)]
    pub(super) array: ArrayOptions,

    #[command(flatten)]
    pub(super) like: LikeOptions,

    /// The command and its arguments. No shell reads them
    #[arg(trailing_var_arg = true, required_unless_present = "from", value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl SubmitOptions {
    /// Submits what the command line says.
    ///
    /// # Errors
    /// When the job is not accepted, or its end cannot be told.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        if let Some(file) = &self.from {
            if self.wait {
                bail!(UsageError::new(
                    "--from submits many jobs, which poolctl cannot wait for as if they were one: submit \
                     them, then `poolctl wait` for their ids"
                ));
            }
            let mut job = conditional(&self.conditions, job_of(&self.job, Vec::new())?);
            job = many(&self.array, job);
            if self.conditions.names_others() {
                after_others(&mut context.link.connect()?, &self.conditions, &mut job)?;
            }
            let defaults = Job { tie: self.tie.clone(), merge: self.merge.then_some(true), ..job };
            on_disconnect(&defaults, self.on_disconnect.into(), false, "with --wait and a single job")?;
            return bulk::run(context, file, defaults, self.quiet);
        }

        // Every fault of the command line is told here, before a poold is started and before any input is
        // handed over.
        let job = conditional(&self.conditions, job_of(&self.job, command_words(&self.command)?)?);
        let mut job = Job { tie: self.tie.clone(), ..many(&self.array, like(&self.like, job)) };
        let policy = on_disconnect(&job, self.on_disconnect.into(), self.wait, "with --wait")?;
        let is_open = self.stdin.as_deref() == Some(Path::new("open"));
        job.input = match (self.pty, is_open) {
            (true, _) => Some(Input::Terminal),
            (false, true) => Some(Input::Pipe),
            (false, false) => None,
        };
        job.merge = self.merge.then_some(true);
        let input = self.stdin.as_deref().filter(|_| !is_open).map(JobInput::open).transpose()?;

        let mut client = context.link.connect()?;
        after_others(&mut client, &self.conditions, &mut job)?;
        job.stdin = input.map(|input| input.spool(&mut client)).transpose()?;
        let takes_input = job.stdin.is_some() || job.input.is_some();
        let submit = Submit { job, on_disconnect: Some(policy), obstacles: Some(true) };
        if !self.wait {
            let exit = detach(context, client, &submit, self.quiet);
            say_unread_input(takes_input || self.quiet);
            return exit;
        }

        // With --json the output is in the document.
        let sinks = if context.as_json { Sinks::none() } else { Sinks::both() };
        let Some(record) = stand_in(context, client, submit, sinks)? else { return Ok(ExitReason::Success) };
        say_unread_input(takes_input);
        if context.as_json {
            let ending = Ending::read(&mut context.link.connect()?, record.id, None)?;
            let document = Endings::new(false, vec![ending]);
            or_untold(json::print(&document), format_args!("job {} has ended", record.id))?;
            return Ok(exit_in_place(&record));
        }
        if let Some(remark) = remark(&record) {
            say(remark);
        }
        if record.state != State::Succeeded && record.state != State::Canceled {
            hint(pointer(record.id, 1));
        }
        Ok(exit_in_place(&record))
    }
}

/// As the job does. An array has no process that a signal to poolctl could have ended: it was canceled for
/// it.
fn exit_in_place(record: &Record) -> ExitReason {
    match canceled_for() {
        Some(signal) if record.state != State::Succeeded => ExitReason::Signal(signal),
        _ => exit_of(record),
    }
}

/// Says that input was left unread, which the job would have got if it had been started in place. This comes
/// at the end, when whoever writes the input has had time to.
fn say_unread_input(takes_input: bool) {
    if !takes_input && has_unread_input() {
        say("the job did not get the input at stdin: write --stdin - to pass it on");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Verb};

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let cli = Cli::try_parse_from(["poolctl", "submit", "--wait", "make", "-j4", "--json"]).unwrap();
        let Some(Verb::Submit(options)) = cli.verb else { panic!("another verb") };
        assert_eq!(options.command, ["make", "-j4", "--json"]);
        assert!(!cli.common.json && options.wait);
    }
}
