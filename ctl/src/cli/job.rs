//! Options that several verbs share: everything that describes a job besides its command.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pool_proto::OsText;
use pool_proto::nouns::Limit;
use pool_proto::nouns::limits::parse_resource;
use pool_proto::text::{parse_bytes, parse_duration};

use super::after::Dependencies;
use super::choices::{CrashChoice, EnvMode, ExistsChoice};
use super::times::At;
use super::values::{
    os_text, os_text_by, parse_codes, parse_cpus, parse_key, parse_label, parse_name, parse_part,
    parse_shell_command, parse_timeout,
};

/// The options that `submit` and `map` share.
#[derive(Debug, Args)]
pub struct JobOptions {
    /// The pool that runs the job
    #[arg(short, long)]
    pub pool: Option<String>,

    /// Where the job starts [default: here]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Set a variable. With --env-mode clean, a name alone passes that variable on
    #[arg(short = 'E', long, value_name = "K[=V]", value_parser = os_text())]
    pub env: Vec<OsText>,

    /// Which variables of your environment the job gets
    #[arg(long, value_enum, default_value_t = EnvMode::All)]
    pub env_mode: EnvMode,

    /// End an attempt, with code 124, that for so long writes no output and uses no CPU. poold looks once in
    /// that time, so it may last up to twice as long (10m, 1h)
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub idle_timeout: Option<Duration>,

    #[command(flatten)]
    pub limits: LimitOptions,

    #[command(flatten)]
    pub common: CommonOptions,
}

/// The limits of a command: what it has otherwise is said by its pool, or by poolctl's own process.
#[derive(Debug, Args)]
pub struct LimitOptions {
    /// The memory that an attempt may use (512M, 2G). Beyond it the kernel kills the attempt; without a
    /// control group it limits the address space of each process
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub mem: Option<u64>,

    /// The nice value, from -20 to 19
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-20..=19)
    )]
    pub nice: Option<i32>,

    /// The limit of a resource, by its name in prlimit(1); may be repeated (nofile=1024, core=0:unlimited)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_resource)]
    pub rlimit: Vec<(String, Limit)>,

    /// The CPUs on which the command may run (0-3, 0,2)
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<String>,
}

/// How a submission stands to others that are like it: the options that `submit` and `call` share.
#[derive(Debug, Args)]
pub struct LikeOptions {
    /// Submit at most one job with this key. If poold has a job with the key already, and be it one that has
    /// ended, poolctl uses that job, whatever its work is
    #[arg(long, value_name = "KEY", value_parser = os_text_by(parse_key))]
    pub key: Option<OsText>,

    /// With --key: if the job with the key has ended without success, run this job in its place
    #[arg(long, requires = "key")]
    pub rerun_failed: bool,

    /// Run at most one job of this name at a time. --if-exists says what happens while another one has not
    /// ended
    #[arg(long, value_name = "NAME", value_parser = os_text_by(parse_key))]
    pub unique: Option<OsText>,

    /// With --unique: what happens while another job of the name has not ended [default: skip]
    #[arg(long, value_enum, requires = "unique")]
    pub if_exists: Option<ExistsChoice>,
}

/// What a job waits for before it begins: the options that `submit` and `call` share.
#[derive(Debug, Args)]
pub struct ConditionOptions {
    /// Run the job after other jobs have ended: with success (ID or afterok:ID), without (afternotok:ID), or
    /// in any way (afterany:ID). Ranges like 3-9, @LABEL for the jobs of a label that have not ended by now, and
    /// several with commas; may be repeated. If one ends otherwise, the job is canceled
    #[arg(short = 'd', long, value_name = "IDS")]
    pub after: Vec<Dependencies>,

    /// Start the job no sooner than this long after its submission (90, 10m, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub delay: Option<Duration>,

    /// Start the job no sooner than at this time ('2026-12-01 09:00', 'tomorrow 09:00', 09:00)
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    pub at: Option<At>,

    /// Hold the job until `poolctl release`
    #[arg(long)]
    pub hold: bool,
}

impl ConditionOptions {
    /// Whether jobs are named by a label.
    pub fn names_labels(&self) -> bool {
        self.after.iter().any(|after| !after.labels().is_empty())
    }
}

/// The options that `submit`, `map` and `call` share.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// A name that `ls`, `show` and `events` show
    #[arg(short, long, value_parser = os_text_by(parse_name))]
    pub name: Option<OsText>,

    /// End an attempt that takes longer than this, with code 124 (90, 500ms, 30m, 1h30m)
    #[arg(short, long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,

    /// End the job, wherever it is, if it has not ended this long after its submission, with code 124: time
    /// in the queue, pauses and retries count
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub deadline: Option<Duration>,

    /// Cancel the job, whatever it waits for, if it has not begun this long after its submission, with code
    /// 124
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub start_within: Option<Duration>,

    /// The time from SIGTERM to SIGKILL when a timeout or a cancel ends the job [default: as the pool has it,
    /// else 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub kill_after: Option<Duration>,

    /// Of the jobs that wait in a pool, the highest priority runs first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,

    /// A label of the job; may be repeated. `poolctl limit` says how many jobs with a label run at a time
    #[arg(short, long = "label", value_name = "LABEL", value_parser = parse_label)]
    pub labels: Vec<String>,

    /// A label of which one job at a time runs; may be repeated. The same as --label with a limit of 1, which
    /// is set if the label has no limit
    #[arg(long, value_name = "LABEL", value_parser = parse_label)]
    pub exclusive: Vec<String>,

    /// How many times a failed job is retried [default: as the pool has it, else 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,

    /// The time from the first failure to the next attempt. Each further wait is twice as long, up to an hour
    /// [default: as the pool has it, else 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub backoff: Option<Duration>,

    /// Each wait is longer by a random part of itself, up to this one, so that jobs that fail together are
    /// not retried together: from 0 to 1 [default: as the pool has it, else 0]
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    pub jitter: Option<f64>,

    /// Retry the job only if its exit code is one of these, such as 75,100-110; 128+N is signal N, 124 a
    /// timeout
    #[arg(long, value_name = "CODES", value_parser = parse_codes)]
    pub retry_on_exit: Option<String>,

    /// Do not retry the job if its exit code is one of these
    #[arg(long, value_name = "CODES", value_parser = parse_codes, conflicts_with = "retry_on_exit")]
    pub no_retry_on_exit: Option<String>,

    /// Run this shell command when the job has ended in any way; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_done: Vec<OsText>,

    /// Run this shell command when the job has succeeded; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_success: Vec<OsText>,

    /// Run this shell command when the job has ended without success; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_failure: Vec<OsText>,

    /// What happens to the job when its worker, poold or the machine dies while the job runs
    #[arg(long, value_enum, default_value_t = CrashChoice::Requeue)]
    pub on_crash: CrashChoice,
}
