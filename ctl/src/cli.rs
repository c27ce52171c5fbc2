//! poolctl's command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pool_proto::State;
use pool_proto::text::parse_duration;

use crate::map::MapOptions;

/// A command line that clap accepts and that makes no sense all the same.
#[derive(Debug)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for UsageError {}

/// Submits jobs to poold, waits for them, shows them.
///
/// Without --socket and POOL_SOCKET it speaks to your own poold, which it starts where there is none.
#[derive(Debug, Parser)]
#[command(name = "poolctl", version, max_term_width = 100)]
pub struct Cli {
    /// poold's socket
    #[arg(long, global = true, value_name = "PATH", env = pool_proto::location::SOCKET_VARIABLE)]
    pub socket: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Never start a poold
    #[arg(long, global = true)]
    pub no_start: bool,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Submit a job; prints its id, or with --wait runs it as if in place
    #[command(visible_alias = "add")]
    Submit(SubmitOptions),

    /// The same as submit --wait
    Run(SubmitOptions),

    /// Run a command for each item, through a pool; items follow `:::`, or come from a file or stdin, one a line
    Map(MapOptions),

    /// Call a method of a warm pool's resident program; prints the value that it returns, as JSON
    Call(CallOptions),

    /// Wait for jobs to end; exits with 0 if all succeeded, else with the code of the first that did not
    Wait(WaitOptions),

    /// Show all that is known of a job
    Show {
        /// The job's id
        id: u64,
    },

    /// List jobs, oldest first
    Ls(ListOptions),

    /// Tell what happens to jobs and slots, as it happens: a line each, or with --json an object
    Events(EventsOptions),

    /// Print a job's output
    Logs(LogsOptions),

    /// End jobs, whatever their state; returns when they are over
    #[command(visible_alias = "kill")]
    Cancel {
        /// Ids, or ranges like 3-9
        #[arg(required = true, value_name = "ID")]
        ids: Vec<IdRange>,
    },

    /// Queue held jobs again
    Release {
        /// Ids, or ranges like 3-9
        #[arg(required = true, value_name = "ID")]
        ids: Vec<IdRange>,
    },

    /// Look at the pools
    Pool {
        #[command(subcommand)]
        verb: PoolVerb,
    },

    /// Copy poold's database, with every job accepted so far, into a new file
    ///
    /// Jobs, callbacks and environments are in it; output and spooled input, which are files of their own, are not.
    Backup {
        /// Must not exist yet
        file: PathBuf,
    },

    /// Look for what is wrong: socket, permissions, disk, limits, stale files, versions, pools; exits with 1 if something is
    ///
    /// Changes nothing and starts nothing.
    Doctor(DoctorOptions),

    /// Ask whether poold is there
    Ping,

    /// End poold
    Shutdown {
        /// Accept nothing more, finish all jobs, deliver all callbacks, end [default]
        #[arg(long, conflicts_with = "now")]
        drain: bool,
        /// End running jobs now (SIGTERM, a grace, SIGKILL); they and the queue wait for the next start
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum PoolVerb {
    /// List pools and their slots
    Ls,

    /// Add a warm pool, for good: each of its workers keeps a program running and hands it calls
    Add(AddPoolOptions),

    /// Remove a pool that was added; it takes no more, and what is queued in it stays queued until it is added again
    Rm {
        /// The pool's name
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct AddPoolOptions {
    /// The pool's name
    pub name: String,

    /// How many workers it has
    #[arg(short, long, value_name = "N", default_value_t = NonZeroU32::MIN)]
    pub workers: NonZeroU32,

    /// Where the program starts [default: here]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Set a variable, or with --env-mode clean pass one on
    #[arg(short = 'E', long, value_name = "K[=V]")]
    pub env: Vec<String>,

    /// Pass on the whole environment, or only what --env names
    #[arg(long, value_enum, default_value_t = EnvMode::All)]
    pub env_mode: EnvMode,

    /// When the program takes calls: as soon as it has started, or after its notification `ready`
    #[arg(long, value_enum, default_value_t = ReadyWhen::Started)]
    pub ready: ReadyWhen,

    /// How long it may take to become ready [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub start_timeout: Option<Duration>,

    /// Keep its calls on disk, or in poold's memory alone, unless they say otherwise
    #[arg(long, value_enum, default_value_t = Durability::Disk)]
    pub durability: Durability,

    /// Replace the program after so many calls
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,

    /// Replace the program after so long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_age: Option<Duration>,

    /// Replace the program once it has so much memory, in bytes
    #[arg(long, value_name = "BYTES")]
    pub max_rss: Option<u64>,

    /// The timeout of calls that name none
    #[arg(short, long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// From SIGTERM to SIGKILL when a call is ended from outside
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub kill_after: Option<Duration>,

    /// The retries of calls that name none
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,

    /// The backoff of calls that name none
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub backoff: Option<Duration>,

    /// The program and its arguments; no shell is put between
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// See [`pool_proto::interface::JobDurability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// As durable as poold's other jobs
    Disk,
    /// Nothing on disk: gone with poold, and some time after its end
    None,
}

impl From<Durability> for pool_proto::interface::JobDurability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Disk => Self::Disk,
            Durability::None => Self::None,
        }
    }
}

/// See [`pool_proto::interface::ReadyWhen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadyWhen {
    /// At once
    Started,
    /// After its notification
    Notify,
}

#[derive(Debug, Args)]
pub struct CallOptions {
    /// Wait: print the value; exit with 0, or with 1 and the error on stderr [default]
    #[arg(short = 'W', long)]
    pub wait: bool,

    /// Do not wait: print the id as soon as the call is on disk
    #[arg(long = "async", conflicts_with = "wait")]
    pub detach: bool,

    #[command(flatten)]
    pub common: CommonOptions,

    /// Keep the call on disk, or in poold's memory alone [default: as its pool has it]
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,

    /// The parameters as one JSON array or object, in place of PARAM
    #[arg(long, value_name = "JSON", conflicts_with = "param")]
    pub params: Option<String>,

    /// End the call with something else: client (poolctl), job:ID, or pool (all other work, when poold shuts down)
    #[arg(long, value_name = "client|job:ID|pool")]
    pub tie: Option<String>,

    /// Submit at most one job of this key: where poold knows one, that one is meant
    #[arg(long, visible_alias = "unique")]
    pub key: Option<String>,

    /// With --key: when that job has ended without success, call again in its place
    #[arg(long, requires = "key")]
    pub rerun_failed: bool,

    /// The warm pool
    #[arg(value_name = "POOL")]
    pub pool: String,

    /// The method
    pub method: String,

    /// Its parameters: JSON where they can be read as such, text otherwise
    #[arg(allow_hyphen_values = true)]
    pub param: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SubmitOptions {
    /// Wait: pass the job's output through, exit with its code
    #[arg(short = 'W', long)]
    pub wait: bool,

    /// Do not wait: print the id as soon as the job is on disk [default]
    #[arg(long = "async", conflicts_with = "wait")]
    pub detach: bool,

    /// Submit many: one JSON object a line with the members of the protocol's Job, from a file or - for stdin
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["wait", "stdin", "command"])]
    pub from: Option<PathBuf>,

    #[command(flatten)]
    pub job: JobOptions,

    /// Feed the job from a file, or - for our own stdin [default: nothing]
    #[arg(long, value_name = "FILE|-")]
    pub stdin: Option<PathBuf>,

    /// With --wait: what becomes of the job when poolctl dies; cancel is the same as --tie client
    #[arg(long, value_enum, default_value_t = OnDisconnect::Detach)]
    pub on_disconnect: OnDisconnect,

    /// End the job with something else: client (poolctl, with --wait), job:ID, or pool (all other work, when poold shuts down)
    #[arg(long, value_name = "client|job:ID|pool")]
    pub tie: Option<String>,

    /// Submit at most one job of this key: where poold knows one, that one is meant, whatever its command
    #[arg(long, visible_alias = "unique", conflicts_with = "from")]
    pub key: Option<String>,

    /// With --key: when that job has ended without success, run this one in its place
    #[arg(long, requires = "key")]
    pub rerun_failed: bool,

    /// The command and its arguments; no shell is put between
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "from",
        value_name = "COMMAND"
    )]
    pub command: Vec<std::ffi::OsString>,
}

/// What `submit` and `map` have in common: all that a job is besides its command.
#[derive(Debug, Args)]
pub struct JobOptions {
    /// The pool that runs the job
    #[arg(short, long)]
    pub pool: Option<String>,

    /// Where the job starts [default: here]
    #[arg(short = 'C', long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Set a variable, or with --env-mode clean pass one on
    #[arg(short = 'E', long, value_name = "K[=V]")]
    pub env: Vec<String>,

    /// Pass on the whole environment, or only what --env names
    #[arg(long, value_enum, default_value_t = EnvMode::All)]
    pub env_mode: EnvMode,

    #[command(flatten)]
    pub common: CommonOptions,
}

/// What `submit`, `map` and `call` have in common.
#[derive(Debug, Args)]
pub struct CommonOptions {
    /// A name for people
    #[arg(short, long)]
    pub name: Option<String>,

    /// End an attempt after so long, with code 124 (90, 500ms, 30m, 1h30m)
    #[arg(short, long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// From SIGTERM to SIGKILL when the job is ended from outside
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub kill_after: Option<Duration>,

    /// Of the jobs that wait in a pool, the highest priority runs first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,

    /// Try a failed job again, so many times at most [default: as the pool has it, else 0]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,

    /// From the first failure to the next attempt; doubled after each, up to an hour [default: as the pool has it, else 1s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub backoff: Option<Duration>,

    /// Run a shell command when the job has ended, however; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub on_done: Vec<String>,

    /// Run a shell command when the job has succeeded; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub on_success: Vec<String>,

    /// Run a shell command when the job has ended otherwise; may be repeated
    #[arg(long, value_name = "COMMAND")]
    pub on_failure: Vec<String>,

    /// When its worker, poold or the machine dies under it: run it again, or count it as failed, or hold it until `release`
    #[arg(long, value_enum, default_value_t = OnCrash::Requeue)]
    pub on_crash: OnCrash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvMode {
    All,
    Clean,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDisconnect {
    /// It goes on
    Detach,
    /// It is canceled
    Cancel,
}

/// See [`pool_proto::interface::OnCrash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnCrash {
    /// Run it again, up to poold's crash limit
    Requeue,
    /// It has failed
    Fail,
    /// Wait for `release` or `cancel`
    Hold,
}

impl From<OnCrash> for pool_proto::interface::OnCrash {
    fn from(policy: OnCrash) -> Self {
        match policy {
            OnCrash::Requeue => Self::Requeue,
            OnCrash::Fail => Self::Fail,
            OnCrash::Hold => Self::Hold,
        }
    }
}

#[derive(Debug, Args)]
pub struct WaitOptions {
    /// Ids, or ranges like 3-9
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<IdRange>,

    /// Until any one has ended, and exit with its code
    #[arg(long)]
    pub any: bool,

    /// Give up after so long, with code 124
    #[arg(short, long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ListOptions {
    /// Only jobs in this state; may be repeated
    #[arg(short, long, value_parser = parse_state)]
    pub state: Vec<State>,

    /// Only jobs of this pool
    #[arg(short, long)]
    pub pool: Option<String>,

    /// At most so many
    #[arg(short, long, value_name = "N")]
    pub limit: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
pub struct EventsOptions {
    /// Only of these jobs: ids, or ranges like 3-9
    #[arg(value_name = "ID")]
    pub ids: Vec<IdRange>,

    /// Only of this pool; may be repeated
    #[arg(short, long)]
    pub pool: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DoctorOptions {
    /// The state directory of a poold that is not running
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LogsOptions {
    /// The job's id
    pub id: u64,

    /// Wait for the start, follow until the end
    #[arg(short, long)]
    pub follow: bool,

    /// The job's stderr instead of its stdout
    #[arg(long)]
    pub stderr: bool,
}

/// An id, or a range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    first: u64,
    last: u64,
}

/// One command line can name so many jobs.
const MAX_IDS: u64 = 1_000_000;

impl std::str::FromStr for IdRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.parse::<u64>().map_err(|_| format!("{text:?} is no id: write 12, or 3-9"));
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if last < first || last - first >= MAX_IDS {
            return Err(format!(
                "{text:?} is no range of at most {MAX_IDS} ids: write the smaller one first"
            ));
        }
        Ok(Self { first, last })
    }
}

/// All ids, in the order given.
pub fn ids_of(ranges: &[IdRange]) -> Vec<u64> {
    ranges.iter().flat_map(|range| range.first..=range.last).collect()
}

fn parse_state(name: &str) -> Result<State, String> {
    State::parse(name).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("there is no state {name:?}: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ids_and_ranges() {
        let ids = |text: &str| {
            text.split(' ').map(str::parse).collect::<Result<Vec<IdRange>, _>>().map(|ranges| ids_of(&ranges))
        };
        assert_eq!(ids("12 3-5 12"), Ok(vec![12, 3, 4, 5, 12]));
        for text in ["", "x", "5-3", "3-", "-3", "1-99999999999"] {
            assert!(ids(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let cli = Cli::try_parse_from(["poolctl", "submit", "--wait", "make", "-j4", "--json"]).unwrap();
        let Verb::Submit(options) = cli.verb else { panic!("another verb") };
        assert_eq!(options.command, ["make", "-j4", "--json"]);
        assert!(!cli.json && options.wait);
    }
}
