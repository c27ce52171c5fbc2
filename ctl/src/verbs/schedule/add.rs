//! `poolctl schedule add`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgGroup, Args};
use pool_proto::methods::AddSchedule;
use pool_proto::nouns::Schedule;
use pool_proto::text::parse_duration;

use crate::cli::choices::{MissedChoice, OverlapChoice};
use crate::cli::command_words;
use crate::cli::job::{ArrayOptions, JobOptions};
use crate::compose::job::{job_of, many};
use crate::exit::ExitReason;
use crate::verbs::Context;

/// Add a schedule: a job that is submitted at each of its times
///
/// Also after a restart of poold. The job gets the directory and the environment that you have now. Adding
/// the same schedule once more changes nothing.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("timing").args(["every", "cron"]).required(true)))]
pub struct AddScheduleOptions {
    /// The name of the schedule, and of its jobs without --name
    #[arg(value_name = "NAME")]
    schedule: String,

    /// Submit the job this often (10m, 12h)
    ///
    /// For the first time after that time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<Duration>,

    /// Submit the job at these times ('0 3 * * *', @daily)
    ///
    /// In the five fields of crontab(5): minute, hour, day of the month, month, day of the week; or @hourly,
    /// @daily, @weekly, @monthly, @yearly.
    #[arg(long, value_name = "TIMES")]
    cron: Option<String>,

    /// The time zone of --cron [default: of this machine]
    #[arg(long, value_name = "ZONE", requires = "cron")]
    tz: Option<String>,

    /// While an earlier job of the schedule has not ended
    #[arg(long, value_enum, default_value_t = OverlapChoice::Skip)]
    overlap: OverlapChoice,

    /// What happens to times that poold has missed
    ///
    /// Times that passed more than a minute ago while poold could not submit the job: it was not running, the
    /// machine slept, or the clock was set.
    #[arg(long, value_enum, default_value_t = MissedChoice::RunOnce)]
    missed: MissedChoice,

    /// Replace a schedule of that name
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    job: JobOptions,

    /// The job's stderr goes where its stdout goes: `logs` shows both in the order in which they were written
    #[arg(long)]
    merge: bool,

    #[command(flatten)]
    array: ArrayOptions,

    /// The command and its arguments. No shell reads them
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl AddScheduleOptions {
    /// Adds the schedule.
    ///
    /// # Errors
    /// When another schedule has the name, or poold refuses a setting.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let mut job = many(&self.array, job_of(&self.job, command_words(&self.command)?)?);
        job.merge = self.merge.then_some(true);
        let schedule = Schedule {
            name: self.schedule,
            every_s: self.every.map(|every| every.as_secs_f64()),
            cron: self.cron,
            time_zone: self.tz,
            overlap: Some(self.overlap.into()),
            missed: Some(self.missed.into()),
            job,
        };
        context.link.connect()?.request(&AddSchedule { schedule, replace: Some(self.replace) })?;
        Ok(ExitReason::Success)
    }
}
