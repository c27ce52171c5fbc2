//! Options that several verbs share: everything that describes a job besides its command.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pool_proto::OsText;
use pool_proto::nouns::Limit;
use pool_proto::nouns::limits::parse_resource;
use pool_proto::text::{parse_bytes, parse_duration};

use super::after::Dependencies;
use super::choices::{CallbackChoice, CrashChoice, EnvMode, ExistsChoice};
use super::times::At;
use super::values::{
    os_text, os_text_by, parse_amount, parse_array, parse_codes, parse_cpus, parse_key, parse_label,
    parse_name, parse_part, parse_shell_command, parse_slots, parse_timeout,
};

/// The options that `submit` and `map` share.
#[derive(Debug, Args)]
pub struct JobOptions {
    /// The pool that runs the job [default: default]
    #[arg(short, long)]
    pub pool: Option<String>,

    /// Start in this directory [default: here]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Set a variable; may be repeated
    ///
    /// With --env-mode clean, a name alone passes that variable on.
    #[arg(short = 'E', long, value_name = "K[=V]", value_parser = os_text())]
    pub env: Vec<OsText>,

    /// Which variables of your environment the job gets [default: all]
    #[arg(long, value_enum, value_name = "MODE")]
    pub env_mode: Option<EnvMode>,

    /// End an attempt that does nothing for so long, with code 124
    ///
    /// An attempt does nothing when it writes no output and uses no CPU. poold looks once in that time, so
    /// the attempt may last up to twice as long.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub idle_timeout: Option<Duration>,

    /// How many slots of its pool the job takes while it runs [default: 1]. It starts when so many are free
    /// at the same time; the jobs behind it wait, unless the pool has `backfill`
    #[arg(long, value_name = "N", value_parser = parse_slots)]
    pub slots: Option<NonZeroU32>,

    /// How many items of a resource of its pool the job takes while it runs [default: 1]; may be repeated
    ///
    /// POOL_RESOURCE_NAME tells it which. The job starts when all are free at the same time; the jobs behind
    /// it wait, unless the pool has `backfill`.
    #[arg(long = "resource", value_name = "NAME[=N]", value_parser = parse_amount)]
    pub resources: Vec<(String, u32)>,

    #[command(flatten)]
    pub limits: LimitOptions,

    #[command(flatten)]
    pub common: CommonOptions,
}

/// The limits of a command: what it has otherwise is said by its pool, or by poolctl's own process.
#[derive(Debug, Args)]
pub struct LimitOptions {
    /// The memory of an attempt (512M, 2G)
    ///
    /// Beyond it the kernel kills the attempt. Without a control group it limits the address space of each
    /// process.
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

    /// A limit of prlimit(1); may be repeated (nofile=1024)
    ///
    /// One number is both limits, `unlimited` is none: core=0:unlimited.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_resource)]
    pub rlimit: Vec<(String, Limit)>,

    /// The CPUs on which the command may run (0-3, 0,2)
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<String>,
}

/// How a submission stands to others that are like it: the options that `submit` and `call` share.
#[derive(Debug, Args)]
pub struct LikeOptions {
    /// Submit at most one job with this key
    ///
    /// If poold has a job with the key already, and be it one that has ended, poolctl uses that job, whatever
    /// its work is.
    #[arg(long, value_name = "KEY", value_parser = os_text_by(parse_key))]
    pub key: Option<OsText>,

    /// With --key: take the place of a job that has failed
    ///
    /// If the job with the key has ended without success, this job is run in its place.
    #[arg(long, requires = "key")]
    pub rerun_failed: bool,

    /// Run at most one job of this name at a time
    ///
    /// --if-exists says what happens while another one has not ended.
    #[arg(long, value_name = "NAME", value_parser = os_text_by(parse_key))]
    pub unique: Option<OsText>,

    /// With --unique: while another job has not ended [default: skip]
    #[arg(long, value_enum, value_name = "WHAT", requires = "unique")]
    pub if_exists: Option<ExistsChoice>,
}

/// What a job waits for before it begins: the options that `submit` and `call` share.
#[derive(Debug, Args)]
pub struct ConditionOptions {
    /// Run after these jobs: 12, 3-9, afternotok:12, afterany:12
    ///
    /// The job runs after other jobs have ended: with success (ID or afterok:ID), without (afternotok:ID), or
    /// in any way (afterany:ID). Ranges like 3-9, last, all, @LABEL, name:x and pool:x for those jobs that
    /// have not ended by now, and several with commas; may be repeated. If one ends otherwise, the job is
    /// canceled.
    #[arg(short = 'd', long, value_name = "IDS")]
    pub after: Vec<Dependencies>,

    /// Start no sooner than so long after the submission (10m)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub delay: Option<Duration>,

    /// Start no sooner than at this time ('tomorrow 09:00')
    ///
    /// A time of your time zone ('2026-12-01 09:00', 09:00), or of RFC 3339.
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    pub at: Option<At>,

    /// Hold the job until `poolctl release`
    #[arg(long)]
    pub hold: bool,
}

/// That a job runs many times: the options of `submit` and `run`.
#[derive(Debug, Args)]
pub struct ArrayOptions {
    /// Run the command once for each index: 0-99, 0-99:10 (each tenth), 1,3,20-29; 0-9999%8 runs 8 at a time.
    /// Each of these elements is a job with the id ID.INDEX, and has its index in POOL_ARRAY_INDEX
    #[arg(long, value_name = "INDICES", value_parser = parse_array)]
    pub array: Option<String>,

    /// With --array: whether the callbacks tell the end of the whole array, or of each element [default:
    /// array]
    #[arg(long, value_enum, value_name = "WHAT", requires = "array")]
    pub callback_for: Option<CallbackChoice>,
}

impl ConditionOptions {
    /// Whether jobs are named otherwise than by their ids.
    pub fn names_others(&self) -> bool {
        self.after.iter().any(|after| !after.others().is_empty())
    }
}

/// The options that `submit`, `map` and `call` share.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// A name that `ls`, `show` and `events` show
    #[arg(short, long, value_parser = os_text_by(parse_name))]
    pub name: Option<OsText>,

    /// End an attempt that takes longer, with code 124 (500ms, 1h30m)
    #[arg(short, long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,

    /// End the job so long after its submission, with code 124
    ///
    /// It counts all of the time: in the queue, pauses and retries.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub deadline: Option<Duration>,

    /// Cancel the job if it has not begun so long after its submission
    ///
    /// Whatever it waits for; the code is 124.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub start_within: Option<Duration>,

    /// From SIGTERM to SIGKILL at a timeout or a cancel [default: 10s]
    ///
    /// Without it: as the pool has it, else 10 seconds.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub kill_after: Option<Duration>,

    /// The highest one runs first in a pool [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,

    /// A label of the job; may be repeated
    ///
    /// `poolctl limit` says how many jobs with a label run at a time.
    #[arg(short, long = "label", value_name = "LABEL", value_parser = parse_label)]
    pub labels: Vec<String>,

    /// A label of which one job at a time runs; may be repeated
    ///
    /// The same as --label with a limit of 1, which is set if the label has no limit.
    #[arg(long, value_name = "LABEL", value_parser = parse_label)]
    pub exclusive: Vec<String>,

    /// How many times a failed job is retried [default: 0]
    ///
    /// Without it: as the pool has it, else 0.
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,

    /// From the first failure to the next attempt [default: 1s]
    ///
    /// Each further wait is twice as long, up to an hour. Without it: as the pool has it, else 1 second.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub backoff: Option<Duration>,

    /// Make waits longer by a random part, from 0 to 1 [default: 0]
    ///
    /// Each wait is longer by a random part of itself, up to this one, so that jobs that fail together are
    /// not retried together. Without it: as the pool has it, else 0.
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    pub jitter: Option<f64>,

    /// Retry these exit codes only (75,100-110)
    ///
    /// 128+N is signal N, 124 a timeout.
    #[arg(long, value_name = "CODES", value_parser = parse_codes)]
    pub retry_on_exit: Option<String>,

    /// Do not retry these exit codes
    #[arg(long, value_name = "CODES", value_parser = parse_codes, conflicts_with = "retry_on_exit")]
    pub no_retry_on_exit: Option<String>,

    /// Run this shell command at any end; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_done: Vec<OsText>,

    /// Run this shell command after a success; may be repeated
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_success: Vec<OsText>,

    /// Run this shell command after a failure; may be repeated
    ///
    /// A failure is every end without success.
    #[arg(long, value_name = "COMMAND", value_parser = os_text_by(parse_shell_command))]
    pub on_failure: Vec<OsText>,

    /// When its worker, poold or the machine dies while it runs [default: requeue]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_crash: Option<CrashChoice>,
}
