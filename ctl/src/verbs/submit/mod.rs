//! `poolctl submit`: submits one job, or many.

mod bulk;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use pool_proto::methods::Submit;
use pool_proto::nouns::Job;

use super::Context;
use super::submission::{after_labels, detach, stand_in};
use crate::cli::choices::DisconnectChoice;
use crate::cli::job::{ConditionOptions, JobOptions, LikeOptions};
use crate::cli::values::parse_tie;
use crate::cli::{UsageError, command_words};
use crate::compose::job::{conditional, job_of, like, on_disconnect};
use crate::compose::stdin::{JobInput, has_unread_input};
use crate::exit::ExitReason;
use crate::tell::outcome::{exit_of, remark};
use crate::term::text::say;

/// Submit a job and print its id; with --wait, run the job as if it were started here
#[derive(Debug, Args)]
pub struct SubmitOptions {
    /// Wait for the job's end, pass its output through, and exit with its code
    #[arg(short = 'W', long)]
    pub(super) wait: bool,

    /// Print the id as soon as the job is on disk, and do not wait [default]
    #[arg(long = "async", conflicts_with = "wait")]
    pub(super) detach: bool,

    /// Submit many jobs from a file, or - for stdin: one JSON object a line, with the members of the
    /// protocol's Job
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["wait", "stdin", "command", "key", "unique"])]
    pub(super) from: Option<PathBuf>,

    #[command(flatten)]
    pub(super) job: JobOptions,

    /// The job reads this file, or - for the stdin of poolctl, as its standard input [default: nothing]
    #[arg(long, value_name = "FILE|-")]
    pub(super) stdin: Option<PathBuf>,

    /// With --wait: what happens to the job when poolctl dies. cancel is the same as --tie client
    #[arg(long, value_enum, default_value_t = DisconnectChoice::Detach)]
    pub(super) on_disconnect: DisconnectChoice,

    /// End the job when something else ends: client (poolctl, with --wait), job:ID, or pool (all other jobs,
    /// when poold shuts down)
    #[arg(long, value_name = "client|job:ID|pool", value_parser = parse_tie)]
    pub(super) tie: Option<String>,

    #[command(flatten)]
    pub(super) conditions: ConditionOptions,

    #[command(flatten)]
    pub(super) like: LikeOptions,

    /// The command and its arguments, which no shell reads
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
            if self.conditions.names_labels() {
                after_labels(&mut context.link.connect()?, &self.conditions, &mut job)?;
            }
            let defaults = Job { tie: self.tie.clone(), ..job };
            on_disconnect(&defaults, self.on_disconnect.into(), false, "with --wait and a single job")?;
            return bulk::run(context, file, defaults);
        }

        // Every fault of the command line is told here, before a poold is started and before any input is
        // handed over.
        let job = conditional(&self.conditions, job_of(&self.job, command_words(&self.command)?)?);
        let mut job = Job { tie: self.tie.clone(), ..like(&self.like, job) };
        let policy = on_disconnect(&job, self.on_disconnect.into(), self.wait, "with --wait")?;
        let input = self.stdin.as_deref().map(JobInput::open).transpose()?;

        let mut client = context.link.connect()?;
        after_labels(&mut client, &self.conditions, &mut job)?;
        job.stdin = input.map(|input| input.spool(&mut client)).transpose()?;
        let takes_input = job.stdin.is_some();
        let submit = Submit { job, on_disconnect: Some(policy), obstacles: Some(true) };
        if !self.wait {
            let exit = detach(context, client, &submit);
            say_unread_input(takes_input);
            return exit;
        }

        let Some(record) = stand_in(context, client, submit)? else { return Ok(ExitReason::Success) };
        say_unread_input(takes_input);
        if let Some(remark) = remark(&record) {
            say(remark);
        }
        Ok(exit_of(&record))
    }
}

/// Says that input was left unread, which the job would have got if it had been started in place. This comes at
/// the end, when whoever writes the input has had time to.
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
        let Verb::Submit(options) = cli.verb else { panic!("another verb") };
        assert_eq!(options.command, ["make", "-j4", "--json"]);
        assert!(!cli.common.json && options.wait);
    }
}
