//! `poolctl pool add`: adds a warm pool.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pool_proto::OsText;
use pool_proto::methods::AddPool;
use pool_proto::text::{parse_bytes, parse_duration};

use crate::cli::choices::{DurabilityChoice, EnvMode, ReadyChoice};
use crate::cli::command_words;
use crate::cli::values::{os_text, parse_codes, parse_part, parse_timeout, parse_wear, parse_workers};
use crate::compose::environment::{cwd, environment};
use crate::exit::ExitReason;
use crate::verbs::Context;

/// Add a warm pool, whose programs answer calls
///
/// Also for later starts of poold. Each of its workers keeps a program running and hands calls to it.
#[derive(Debug, Args)]
pub struct AddPoolOptions {
    /// The pool's name
    name: String,

    /// How many workers the pool has
    #[arg(short, long, value_name = "N", default_value_t = NonZeroU32::MIN, value_parser = parse_workers)]
    workers: NonZeroU32,

    /// Where the program starts [default: here]
    #[arg(short = 'C', long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Set a variable; may be repeated
    ///
    /// With --env-mode clean, a name alone passes that variable on.
    #[arg(short = 'E', long, value_name = "K[=V]", value_parser = os_text())]
    env: Vec<OsText>,

    /// Which variables of your environment the program gets
    #[arg(long, value_enum, default_value_t = EnvMode::All)]
    env_mode: EnvMode,

    /// When the program takes calls
    #[arg(long, value_enum, default_value_t = ReadyChoice::Started)]
    ready: ReadyChoice,

    /// How long the program may take to become ready [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    start_timeout: Option<Duration>,

    /// Failed starts in each slot until calls fail [default: 8]
    ///
    /// After this many failed starts in a row in each slot, queued calls fail.
    #[arg(long, value_name = "N")]
    start_attempts: Option<NonZeroU32>,

    /// Where calls are kept, unless a call says otherwise
    #[arg(long, value_enum, default_value_t = DurabilityChoice::Disk)]
    durability: DurabilityChoice,

    /// Replace the program after this many calls
    #[arg(long, value_name = "N", value_parser = parse_wear)]
    max_calls: Option<u64>,

    /// Replace the program after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    max_age: Option<Duration>,

    /// Replace the program at so much memory (100M, 2G)
    ///
    /// The memory of all that it has started counts, too.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_rss: Option<u64>,

    /// The timeout of calls without one
    #[arg(short, long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<Duration>,

    /// From SIGTERM to SIGKILL at a timeout or a cancel
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    kill_after: Option<Duration>,

    /// How many times a failed call is retried
    #[arg(long, value_name = "N")]
    retries: Option<u32>,

    /// The backoff of calls without one
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    backoff: Option<Duration>,

    /// Each wait is longer by a random part of itself, up to this one: from 0 to 1
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    jitter: Option<f64>,

    /// Retry a call only if its exit code is one of these
    #[arg(long, value_name = "CODES", value_parser = parse_codes)]
    retry_on_exit: Option<String>,

    /// Do not retry a call if its exit code is one of these
    #[arg(long, value_name = "CODES", value_parser = parse_codes, conflicts_with = "retry_on_exit")]
    no_retry_on_exit: Option<String>,

    /// Cancel a call that has not begun this long after its submission
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    start_within: Option<Duration>,

    /// The program and its arguments, which no shell reads
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl AddPoolOptions {
    /// Adds a warm pool.
    ///
    /// # Errors
    /// When another pool has the name, or poold refuses a setting.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        let pool = AddPool {
            command: command_words(&self.command)?,
            cwd: Some(cwd(self.cwd.as_deref())?),
            env: Some(environment(&self.env, self.env_mode)?),
            name: self.name,
            workers: self.workers.get(),
            ready: Some(self.ready.into()),
            start_timeout_s: seconds(self.start_timeout),
            start_attempts: self.start_attempts.map(NonZeroU32::get),
            max_calls: self.max_calls,
            max_age_s: seconds(self.max_age),
            max_rss_bytes: self.max_rss,
            timeout_s: seconds(self.timeout),
            kill_after_s: seconds(self.kill_after),
            retries: self.retries,
            backoff_s: seconds(self.backoff),
            jitter: self.jitter,
            retry_on_exit: self.retry_on_exit,
            no_retry_on_exit: self.no_retry_on_exit,
            start_within_s: seconds(self.start_within),
            durability: Some(self.durability.into()),
        };

        context.link.connect()?.request(&pool)?;
        Ok(ExitReason::Success)
    }
}
