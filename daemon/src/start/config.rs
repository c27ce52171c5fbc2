//! The configuration: a TOML file, every member optional, every unknown member an error.
//!
//! ```toml
//! workers = 4                 # slots of the pool "default"; the number of CPUs unless set
//! durability = "power"        # or "crash": survives the death of all of poold, but no power cut
//! log = "info"                # error, warn, info, debug
//! timeout = "1h"              # of jobs that name none; no limit unless set
//! idle_timeout = "1d"         # of commands that name none: without output and CPU time; no limit unless set
//! kill_after = "10s"          # from SIGTERM to SIGKILL
//! stop_grace = "10s"          # the limit of it while poold is being stopped
//! retries = 0                 # how many times a failed job is retried, unless the job says otherwise
//! backoff = "1s"              # from the first failure to the next attempt; doubled after each one
//! jitter = 0.0                # by up to this part of it, by chance, each backoff is longer
//! crash_limit = 3             # a job is lost once so many attempts have died with worker or poold
//! max_clients = 16384
//! max_queued = 10000000       # jobs that wait in one pool; beyond it new jobs are refused
//! max_output_bytes = 1000000000        # of one attempt, which is killed beyond it; no limit unless set
//! max_total_output_bytes = 50000000000 # of all jobs; beyond it new jobs are refused; no limit unless set
//! cgroup = "auto"             # or "off": no control groups, even where they can be had
//!
//! [callbacks]
//! workers = 1                 # with 1, callbacks run in the order in which the jobs ended
//! attempts = 5
//! backoff = "1s"              # doubled after each failed attempt
//! timeout = "5m"
//!
//! [history]                   # of ended jobs
//! max_jobs = 100000           # canceled ones and a map's go first, failed ones and those with a key last
//! max_age = "30d"
//! max_output_bytes = 10737418240 # of output and results, on disk; beyond it these go, and the records stay
//!
//! [limit.gpu]                 # of the jobs with the label gpu, over all pools
//! running = 2                 # run at a time
//!
//! [pool.build]                # further pools; [pool.default] has the same members
//! workers = 2
//! timeout = "2h"
//! idle_timeout = "10m"
//! kill_after = "30s"
//! retries = 2
//! backoff = "10s"
//! jitter = 0.5
//! retry_on_exit = "75,100-110" # only these codes are retried; or `no_retry_on_exit`: all but these
//! max_output_bytes = 5000000
//! isolate = "pid"             # each worker has a pid namespace of its own; or "none", the default
//! mem = "2G"                  # limits of attempts, or of a warm pool's programs: memory, nice value,
//! nice = 5                    # CPUs, and the resources of prlimit(1)
//! cpus = "0-3"
//! rlimit = { nofile = "1024:2048", core = 0 }
//!
//! [pool.square]               # a warm pool: each worker keeps a program running, which answers calls
//! workers = 2
//! command = ["python3", "/srv/square.py"]
//! cwd = "/srv"                # "/" unless set
//! env = { PATH = "/usr/bin:/bin", LANG = "C.UTF-8" } # the whole environment; a minimal one unless set
//! ready = "notify"            # calls wait for its notification "ready"; not so with "started"
//! start_timeout = "30s"       # the limit from its start until it is ready
//! start_attempts = 8          # so many failed starts in a row in each slot make the queued calls fail
//! max_calls = 100000          # beyond any of these limits a fresh program takes its place
//! max_age = "1d"
//! max_rss_bytes = 1073741824
//! durability = "none"         # calls are kept in memory only; or "disk", the default
//!
//! [schedule.backup]           # submitted again and again; `poolctl schedule add` does the same at run time
//! cron = "0 3 * * *"          # or `every`, a duration
//! time_zone = "Europe/Berlin" # of cron; the system's unless set
//! overlap = "skip"            # while an earlier job has not ended; or "queue", "allow"
//! missed = "run_once"         # what passed while poold was down; or "skip", "run_all"
//! command = ["/usr/local/bin/backup", "--all"]
//! pool = "default"
//! cwd = "/srv"                # the user's home unless set
//! env = { PATH = "/usr/bin:/bin" } # the whole environment; a minimal one unless set
//! timeout = "2h"              # these as for `poolctl submit`
//! retries = 2
//! backoff = "1m"
//! priority = -5
//! on_failure = ["mail -s 'backup failed' root < $POOL_RESULT"]
//! ```

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context, bail};
use pool_proto::OsText;
use pool_proto::methods::MAX_SCHEDULES;
use pool_proto::nouns::{
    DEFAULT_POOL, Job, JobDurability, Limit, Limits, MAX_LABEL, Missed, Overlap, ReadyWhen, Schedule,
    is_label,
};
use serde::{Deserialize, Deserializer};

use crate::core::{CallbackSettings, PoolSettings, QUICK, Settings};
use crate::job::{Environment, ExitCodes, Isolate, Program, Retries, Timing, Wear};

/// A pool cannot have more workers than this.
pub const MAX_WORKERS: u32 = 4096;

/// The whole configuration, defaults filled in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub workers: Option<NonZeroU32>,
    pub durability: DurabilityName,
    pub log: LogLevel,
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub kill_after: Duration,
    #[serde(deserialize_with = "duration")]
    pub stop_grace: Duration,
    pub retries: u32,
    #[serde(deserialize_with = "duration")]
    pub backoff: Duration,
    #[serde(deserialize_with = "jitter")]
    pub jitter: u16,
    pub retry_on_exit: Option<String>,
    pub no_retry_on_exit: Option<String>,
    pub crash_limit: NonZeroU32,
    pub max_clients: usize,
    pub max_queued: u64,
    pub max_output_bytes: Option<NonZeroU64>,
    pub max_total_output_bytes: Option<NonZeroU64>,
    pub cgroup: CgroupUse,
    pub callbacks: CallbacksConfig,
    pub history: HistoryConfig,
    pub limit: BTreeMap<String, LimitConfig>,
    pub pool: BTreeMap<String, PoolConfig>,
    pub schedule: BTreeMap<String, ScheduleConfig>,
    /// Not of the file: the numbers of pools' workers that somebody has set at run time.
    #[serde(skip)]
    pub set_workers: BTreeMap<String, NonZeroU32>,
}

/// What outlives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityName {
    /// What a client was told outlives a power cut.
    Power,
    /// It outlives the death of every process of poold's, not a power cut.
    Crash,
}

/// Whether attempts run in control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupUse {
    /// Wherever they can be had.
    Auto,
    Off,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

/// How callbacks are run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallbacksConfig {
    pub workers: NonZeroU32,
    pub attempts: NonZeroU32,
    #[serde(deserialize_with = "duration")]
    pub backoff: Duration,
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// How much of what has ended is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    pub max_jobs: u64,
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    pub max_output_bytes: u64,
}

/// The limit of a label.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// So many jobs run at a time, over all pools.
    pub running: NonZeroU32,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    pub workers: Option<NonZeroU32>,
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub kill_after: Option<Duration>,
    pub retries: Option<u32>,
    #[serde(deserialize_with = "optional_duration")]
    pub backoff: Option<Duration>,
    #[serde(deserialize_with = "optional_jitter")]
    pub jitter: Option<u16>,
    pub retry_on_exit: Option<String>,
    pub no_retry_on_exit: Option<String>,
    pub max_output_bytes: Option<NonZeroU64>,
    pub isolate: Isolate,
    #[serde(deserialize_with = "optional_bytes")]
    pub mem: Option<u64>,
    pub nice: Option<i32>,
    pub cpus: Option<String>,
    #[serde(deserialize_with = "resources")]
    pub rlimit: Option<BTreeMap<String, Limit>>,
    /// The resident program of a warm pool; what follows is for it alone.
    pub command: Option<Vec<OsText>>,
    pub cwd: Option<OsText>,
    pub env: Option<BTreeMap<OsText, OsText>>,
    pub ready: Option<ReadyWhen>,
    #[serde(deserialize_with = "optional_duration")]
    pub start_timeout: Option<Duration>,
    pub start_attempts: Option<u32>,
    pub max_calls: Option<u64>,
    #[serde(deserialize_with = "optional_duration")]
    pub max_age: Option<Duration>,
    pub max_rss_bytes: Option<u64>,
    pub durability: Option<JobDurability>,
}

/// A schedule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    #[serde(deserialize_with = "optional_duration")]
    pub every: Option<Duration>,
    pub cron: Option<String>,
    pub time_zone: Option<String>,
    pub overlap: Option<Overlap>,
    pub missed: Option<Missed>,
    pub command: Vec<OsText>,
    pub pool: Option<String>,
    pub cwd: Option<OsText>,
    pub env: Option<BTreeMap<OsText, OsText>>,
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    pub retries: Option<u32>,
    #[serde(deserialize_with = "optional_duration")]
    pub backoff: Option<Duration>,
    pub priority: Option<i32>,
    pub on_done: Option<Vec<OsText>>,
    pub on_success: Option<Vec<OsText>>,
    pub on_failure: Option<Vec<OsText>>,
}

impl ScheduleConfig {
    /// As somebody would add it. `name`: its name.
    pub fn schedule(&self, name: &str) -> Schedule {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        let this = self.clone();
        Schedule {
            name: name.to_owned(),
            every_s: seconds(this.every),
            cron: this.cron,
            time_zone: this.time_zone,
            overlap: this.overlap,
            missed: this.missed,
            job: Job {
                argv: this.command,
                pool: this.pool,
                cwd: this.cwd,
                env: this.env,
                timeout_s: seconds(this.timeout),
                retries: this.retries,
                backoff_s: seconds(this.backoff),
                priority: this.priority,
                on_done: this.on_done,
                on_success: this.on_success,
                on_failure: this.on_failure,
                ..Job::default()
            },
        }
    }

    /// What is wrong with it, if anything: the member at fault, and why. Its pool may come later.
    fn fault(&self) -> Option<(&'static str, String)> {
        if self.command.first().is_none_or(OsText::is_empty) {
            return Some(("command", "it is empty: name a program to run".to_owned()));
        }
        let timing = Timing::new(self.every, self.cron.as_deref(), self.time_zone.as_deref());
        let (member, why) = timing.err()?;
        Some((if member == "every_s" { "every" } else { member }, why))
    }
}

impl PoolConfig {
    /// The exit codes that are retried, where it says which.
    fn retry_on(&self) -> Option<ExitCodes> {
        retry_on(self.retry_on_exit.as_deref(), self.no_retry_on_exit.as_deref()).unwrap_or_default()
    }
}

/// The exit codes to which retries apply: these, or all but those; none where nothing is said.
///
/// # Errors
/// Which of the two is wrong, and why, as a sentence.
pub fn retry_on(only: Option<&str>, but: Option<&str>) -> Result<Option<ExitCodes>, (&'static str, String)> {
    match (only, but) {
        (Some(_), Some(_)) => {
            let why = "name the exit codes that are retried, or those that are not, not both".to_owned();
            Err(("no_retry_on_exit", why))
        }
        (Some(codes), None) => match ExitCodes::parse(codes) {
            Ok(codes) => Ok(Some(codes)),
            Err(why) => Err(("retry_on_exit", why)),
        },
        (None, Some(codes)) => match ExitCodes::parse(codes) {
            Ok(codes) => Ok(Some(codes.others())),
            Err(why) => Err(("no_retry_on_exit", why)),
        },
        (None, None) => Ok(None),
    }
}

/// A jitter in thousandths.
///
/// # Errors
/// When it is not from 0 to 1, as a sentence.
pub fn permille(jitter: f64) -> Result<u16, String> {
    if (0.0..=1.0).contains(&jitter) {
        return Ok((jitter * 1000.0).round() as u16);
    }
    Err(format!("{jitter} is no part of a wait: write a number from 0 to 1"))
}

/// How long a resident program may take to become ready, unless the configuration says otherwise.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often in a row a resident program may die before it has read a call, unless the configuration says
/// otherwise; with the backoff between them that takes about six seconds.
pub const START_ATTEMPTS: u32 = 8;

impl PoolConfig {
    /// The resident program, in a warm pool. `minimal`: the environment of those that name none.
    pub fn program(&self, minimal: &Arc<Environment>) -> Option<Arc<Program>> {
        let limits = self.limits();
        let environment = if self.env.is_none() && limits.is_empty() {
            minimal.clone()
        } else {
            let variables = self.env.as_ref().unwrap_or(&minimal.variables).clone();
            Arc::new(Environment { variables, umask: minimal.umask, limits })
        };
        Some(Arc::new(Program {
            command: self.command.clone()?,
            cwd: self.cwd.clone().unwrap_or_else(|| "/".into()),
            environment,
            ready: self.ready.unwrap_or_default(),
            start_timeout: self.start_timeout.unwrap_or(START_TIMEOUT),
            start_attempts: self.start_attempts.unwrap_or(START_ATTEMPTS),
            wear: Wear {
                max_calls: self.max_calls,
                max_age: self.max_age,
                max_rss_bytes: self.max_rss_bytes,
            },
        }))
    }

    /// The limits of its attempts, or of its programs.
    pub fn limits(&self) -> Limits {
        Limits {
            nice: self.nice,
            cpus: self.cpus.clone(),
            memory_bytes: self.mem,
            resources: self.rlimit.clone(),
        }
    }

    /// What is wrong with it, if anything: the member at fault, and why.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let Some(command) = &self.command else {
            let is_set = [
                ("cwd", self.cwd.is_some()),
                ("env", self.env.is_some()),
                ("ready", self.ready.is_some()),
                ("start_timeout", self.start_timeout.is_some()),
                ("start_attempts", self.start_attempts.is_some()),
                ("max_calls", self.max_calls.is_some()),
                ("max_age", self.max_age.is_some()),
                ("max_rss_bytes", self.max_rss_bytes.is_some()),
                ("durability", self.durability.is_some()),
            ];
            let (member, _) = is_set.into_iter().find(|&(_, is_set)| is_set)?;
            return Some((
                member,
                "only a warm pool has it: name its `command`, too, or leave it out".to_owned(),
            ));
        };
        if command.first().is_none_or(OsText::is_empty) {
            return Some(("command", "it is empty: name a program to run".to_owned()));
        }
        if command.iter().any(OsText::has_nul) {
            return Some(("command", "a NUL cannot be passed on".to_owned()));
        }
        if self.cwd.as_ref().is_some_and(|cwd| !cwd.as_escaped().starts_with('/') || cwd.has_nul()) {
            return Some(("cwd", "it is not absolute: name the whole path".to_owned()));
        }
        let is_bad = |(name, value): (&OsText, &OsText)| {
            name.is_empty() || name.as_escaped().contains('=') || name.has_nul() || value.has_nul()
        };
        if self.env.iter().flatten().any(is_bad) {
            return Some(("env", "a variable has a name without '=', and no NUL".to_owned()));
        }
        let zero = [
            ("max_calls", self.max_calls == Some(0)),
            ("max_rss_bytes", self.max_rss_bytes == Some(0)),
            ("start_attempts", self.start_attempts == Some(0)),
        ];
        let is_zero = |duration: Option<Duration>| duration.is_some_and(|duration| duration.is_zero());
        let more = [("max_age", is_zero(self.max_age)), ("start_timeout", is_zero(self.start_timeout))];
        let (member, _) = zero.into_iter().chain(more).find(|&(_, is_zero)| is_zero)?;
        Some((member, "must be greater than 0".to_owned()))
    }
}

/// The name of what runs callbacks, in settings and slots. No pool can have it.
pub const CALLBACKS: &str = "callbacks";

/// Why a pool cannot be named so, as a sentence. None if it can.
pub fn name_fault(name: &str) -> Option<String> {
    if name == CALLBACKS {
        return Some(format!(
            "a pool cannot be named {name:?}, which is where callbacks run: use another name"
        ));
    }
    name_rule("a pool", name)
}

/// Why something cannot be named so, as a sentence. None if it can.
pub fn name_rule(what: &str, name: &str) -> Option<String> {
    let is_good = !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let rule =
        || format!("{what} cannot be named {name:?}: use letters, digits, '-', '_' and '.', 128 at most");
    (!is_good).then(rule)
}

/// Why a label cannot be named so, as a sentence. None if it can.
pub fn label_fault(label: &str) -> Option<String> {
    let rule = || {
        format!(
            "{label:?} cannot be a label: use letters, digits, '-', '_', '.', ':', '/', '@' and '+', \
             {MAX_LABEL} at most"
        )
    };
    (!is_label(label)).then(rule)
}

const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: None,
            durability: DurabilityName::Power,
            log: LogLevel::Info,
            timeout: None,
            idle_timeout: None,
            kill_after: DEFAULT_GRACE,
            stop_grace: DEFAULT_GRACE,
            retries: 0,
            backoff: Duration::from_secs(1),
            jitter: 0,
            retry_on_exit: None,
            no_retry_on_exit: None,
            crash_limit: const { NonZeroU32::new(3).unwrap() },
            max_clients: 16_384,
            max_queued: 10_000_000,
            max_output_bytes: None,
            max_total_output_bytes: None,
            cgroup: CgroupUse::Auto,
            callbacks: CallbacksConfig::default(),
            history: HistoryConfig::default(),
            limit: BTreeMap::new(),
            pool: BTreeMap::new(),
            schedule: BTreeMap::new(),
            set_workers: BTreeMap::new(),
        }
    }
}

impl Default for CallbacksConfig {
    fn default() -> Self {
        Self {
            workers: const { NonZeroU32::new(1).unwrap() },
            attempts: const { NonZeroU32::new(5).unwrap() },
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(5 * 60),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { max_jobs: 100_000, max_age: Duration::from_secs(30 * 24 * 3600), max_output_bytes: 10 << 30 }
    }
}

impl Config {
    /// Reads a file. With `optional`, a file that does not exist stands for the defaults.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn read(path: &Path, optional: bool) -> anyhow::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                Self::parse(&text).with_context(|| format!("in the configuration {}", path.display()))
            }
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => {
                Err(error).with_context(|| format!("cannot read the configuration {}", path.display()))
            }
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self =
            toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))?;
        retry_on(config.retry_on_exit.as_deref(), config.no_retry_on_exit.as_deref())
            .map_err(|(member, why)| anyhow::anyhow!("{member}: {why}"))?;
        if let Some(why) = config.limit.keys().find_map(|label| label_fault(label)) {
            bail!("[limit] {why}");
        }
        for (name, pool) in &config.pool {
            if let Some(why) = name_fault(name) {
                bail!("{why}");
            }
            if let Some(why) = pool.limits().fault() {
                bail!("[pool.{name}] {why}");
            }
            if let Some((member, why)) = pool.fault() {
                bail!("[pool.{name}] {member}: {why}");
            }
            retry_on(pool.retry_on_exit.as_deref(), pool.no_retry_on_exit.as_deref())
                .map_err(|(member, why)| anyhow::anyhow!("[pool.{name}] {member}: {why}"))?;
            if pool.command.is_some() && name == DEFAULT_POOL {
                bail!("[pool.{name}] cannot have a `command`: it runs the jobs that name no pool");
            }
            if pool.workers.is_none() && name != DEFAULT_POOL {
                bail!("[pool.{name}] lacks `workers`, the number of its slots");
            }
        }
        for (name, schedule) in &config.schedule {
            if let Some(why) = name_rule("a schedule", name) {
                bail!("{why}");
            }
            if let Some((member, why)) = schedule.fault() {
                bail!("[schedule.{name}] {member}: {why}");
            }
        }
        if config.schedule.len() > MAX_SCHEDULES {
            bail!("{MAX_SCHEDULES} schedules are the most");
        }
        if config.workers.is_some()
            && config.pool.get(DEFAULT_POOL).is_some_and(|pool| pool.workers.is_some())
        {
            bail!("`workers` and `workers` of [pool.default] mean the same: leave one out");
        }
        let all_workers = config.pool.values().filter_map(|pool| pool.workers).chain(config.workers);
        if let Some(workers) =
            all_workers.chain([config.callbacks.workers]).find(|workers| workers.get() > MAX_WORKERS)
        {
            bail!("{workers} workers are too many: at most {MAX_WORKERS} a pool");
        }
        Ok(config)
    }

    /// What the core needs to know. `workers` is the command line's word on the pool "default";
    /// `minimal` the environment of resident programs that name none.
    pub fn settings(&self, workers: Option<NonZeroU32>, minimal: &Arc<Environment>) -> Settings {
        let default = self.pool.get(DEFAULT_POOL).and_then(|pool| pool.workers);
        let set = |name: &str| self.set_workers.get(name).copied();
        let default = set(DEFAULT_POOL).or(workers).or(default).or(self.workers);
        let default = default.map_or_else(cpus, NonZeroU32::get);
        let others = self.pool.iter().filter(|(name, _)| *name != DEFAULT_POOL);
        let others = others.map(|(name, pool)| PoolSettings {
            name: Arc::from(name.as_str()),
            workers: set(name).or(pool.workers).map_or(0, NonZeroU32::get),
            program: pool.program(minimal),
        });
        let default = PoolSettings { name: Arc::from(DEFAULT_POOL), workers: default, program: None };
        Settings {
            pools: [default].into_iter().chain(others).collect(),
            callbacks: CallbackSettings {
                workers: self.callbacks.workers.get(),
                attempts: self.callbacks.attempts.get(),
                backoff: self.callbacks.backoff,
                timeout: self.callbacks.timeout,
            },
            crash_limit: self.crash_limit.get(),
            stop_grace: self.stop_grace,
            limits: self.limits().map(|(label, limit)| (Arc::from(label), limit)).collect(),
            max_queued: self.max_queued,
            quick: QUICK,
        }
    }

    /// Takes over the numbers of workers that a start has found.
    pub fn join_workers(&mut self, set: &BTreeMap<String, u32>) {
        let set = set.iter().filter_map(|(pool, &workers)| Some((pool.clone(), NonZeroU32::new(workers)?)));
        self.set_workers = set.collect();
    }

    /// Labels that have limits, each with its limit.
    pub fn limits(&self) -> impl Iterator<Item = (&str, u32)> {
        self.limit.iter().map(|(label, limit)| (label.as_str(), limit.running.get()))
    }

    /// The timeout of a pool's jobs that name none.
    pub fn timeout_of(&self, pool: &str) -> Option<Duration> {
        self.pool.get(pool).and_then(|pool| pool.timeout).or(self.timeout)
    }

    /// How long an attempt of a pool's commands that name no other time may do nothing.
    pub fn idle_timeout_of(&self, pool: &str) -> Option<Duration> {
        self.pool.get(pool).and_then(|pool| pool.idle_timeout).or(self.idle_timeout)
    }

    /// The limits of a pool's attempts that say nothing else.
    pub fn limits_of(&self, pool: &str) -> Limits {
        self.pool.get(pool).map(PoolConfig::limits).unwrap_or_default()
    }

    /// Whether a pool's calls that do not say so are kept in memory alone.
    pub fn is_volatile(&self, pool: &str) -> bool {
        self.pool.get(pool).and_then(|pool| pool.durability) == Some(JobDurability::None)
    }

    /// From SIGTERM to SIGKILL for a pool's jobs that name none.
    pub fn kill_after_of(&self, pool: &str) -> Duration {
        self.pool.get(pool).and_then(|pool| pool.kill_after).unwrap_or(self.kill_after)
    }

    /// What becomes of a pool's jobs that fail and do not say.
    pub fn retries_of(&self, pool: &str) -> Retries {
        let pool = self.pool.get(pool);
        Retries {
            allowed: pool.and_then(|pool| pool.retries).unwrap_or(self.retries),
            backoff: pool.and_then(|pool| pool.backoff).unwrap_or(self.backoff),
            jitter: pool.and_then(|pool| pool.jitter).unwrap_or(self.jitter),
            on: pool.and_then(PoolConfig::retry_on).or_else(|| self.retry_on()).unwrap_or(ExitCodes::ALL),
        }
    }

    fn retry_on(&self) -> Option<ExitCodes> {
        retry_on(self.retry_on_exit.as_deref(), self.no_retry_on_exit.as_deref()).unwrap_or_default()
    }

    /// How much an attempt of a pool's jobs may write.
    pub fn max_output_bytes_of(&self, pool: &str) -> Option<u64> {
        self.pool
            .get(pool)
            .and_then(|pool| pool.max_output_bytes)
            .or(self.max_output_bytes)
            .map(NonZeroU64::get)
    }

    /// How much output of ended jobs may stay when running ones have written so much. It leaves some room for
    /// the next, so that nobody is refused before the history is looked at again.
    pub fn max_history_output_bytes(&self, running: u64) -> u64 {
        let left = self.max_total_output_bytes.map_or(u64::MAX, |limit| limit.get().saturating_sub(running));
        self.history.max_output_bytes.min(left - left / 8)
    }
}

fn cpus() -> u32 {
    thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(MAX_WORKERS))
}

/// A duration is text as on the command line, or a number of seconds.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a duration is a number of seconds, or text like \"500ms\", \"30m\", \"1h30m\""
)]
enum DurationValue {
    Text(String),
    Seconds(f64),
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let result = match DurationValue::deserialize(deserializer)? {
        DurationValue::Text(text) => pool_proto::text::parse_duration(&text),
        DurationValue::Seconds(seconds) => pool_proto::text::seconds(seconds),
    };
    result.map_err(serde::de::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    permille(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn optional_jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    jitter(deserializer).map(Some)
}

/// A number of bytes is text as on the command line, or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of bytes is a number above 0, or text like \"100M\", \"2G\"")]
enum BytesValue {
    Text(String),
    Number(NonZeroU64),
}

fn optional_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match BytesValue::deserialize(deserializer)? {
        BytesValue::Text(text) => {
            pool_proto::text::parse_bytes(&text).map(Some).map_err(serde::de::Error::custom)
        }
        BytesValue::Number(number) => Ok(Some(number.get())),
    }
}

/// The limit of a resource is text as in prlimit(1), or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a limit is a number, or text like \"1024:2048\", \"unlimited\"")]
enum LimitValue {
    Text(String),
    Number(u32),
}

fn resources<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, Limit>>, D::Error> {
    let values = BTreeMap::<String, LimitValue>::deserialize(deserializer)?.into_iter();
    let limits = values.map(|(name, value)| {
        let limit = match value {
            LimitValue::Text(text) => text.parse().map_err(serde::de::Error::custom)?,
            LimitValue::Number(number) => Limit { soft: Some(number.into()), hard: Some(number.into()) },
        };
        Ok((name, limit))
    });
    limits.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_modules_example_is_valid() {
        let source = include_str!("config.rs");
        let example = source.lines().skip_while(|line| !line.ends_with("```toml")).skip(1);
        let example: Vec<&str> =
            example.take_while(|line| *line != "//! ```").map(|line| &line[3..]).collect();
        let config = Config::parse(&example.join("\n")).unwrap();
        assert_eq!(config.timeout_of("build"), Some(Duration::from_secs(7200)));
        assert_eq!(config.timeout_of(DEFAULT_POOL), Some(Duration::from_secs(3600)));
        assert_eq!(config.idle_timeout_of("build"), Some(Duration::from_secs(600)));
        assert_eq!(config.idle_timeout_of(DEFAULT_POOL), Some(Duration::from_secs(86400)));
        let on = ExitCodes::parse("75,100-110").unwrap();
        let wanted = Retries { jitter: 500, on, ..Retries::new(2, Duration::from_secs(10)) };
        assert_eq!(config.retries_of("build"), wanted);
        assert_eq!(config.retries_of(DEFAULT_POOL), Retries::new(0, Duration::from_secs(1)));
        assert_eq!(config.max_output_bytes_of("build"), Some(5_000_000));
        assert_eq!(config.max_output_bytes_of(DEFAULT_POOL), Some(1_000_000_000));
        assert_eq!(config.max_history_output_bytes(0), config.history.max_output_bytes);
        assert_eq!(config.max_history_output_bytes(49_000_000_000), 875_000_000);
        let limits = config.limits_of("build");
        assert_eq!(
            (limits.memory_bytes, limits.nice, limits.cpus.as_deref()),
            (Some(2 << 30), Some(5), Some("0-3"))
        );
        let resources = limits.resources.as_ref().unwrap();
        assert_eq!(resources["nofile"], Limit { soft: Some(1024), hard: Some(2048) });
        assert_eq!(resources["core"], Limit { soft: Some(0), hard: Some(0) });
        assert!(config.limits_of(DEFAULT_POOL).is_empty() && config.limits_of("nowhere").is_empty());
        assert_eq!(config.callbacks, CallbacksConfig::default());
        assert_eq!(config.history, HistoryConfig::default());
        let minimal = Arc::new(Environment::default());
        let pools = config.settings(NonZeroU32::new(7), &minimal).pools;
        assert_eq!(pools.iter().map(|pool| pool.workers).collect::<Vec<u32>>(), [7, 2, 2]);
        let program = pools[2].program.as_ref().unwrap();
        assert_eq!(
            (program.cwd.as_escaped(), program.ready, program.wear.max_calls),
            ("/srv", ReadyWhen::Notify, Some(100_000))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("wrokers = 2", "wrokers"),
            ("workers = 0", "zero"),
            ("workers = 100000", "too many"),
            ("[pool.build]", "lacks `workers`"),
            ("[pool.\"a b\"]\nworkers = 1", "cannot be named"),
            ("workers = 1\n[pool.default]\nworkers = 2", "mean the same"),
            ("max_output_bytes = 0", "zero"),
            ("kill_after = \"soon\"", "soon"),
            ("kill_after = 1.8e19", "at most"),
            ("kill_after = true", "a duration is"),
            ("retries = -1", "-1"),
            ("jitter = 1.5", "from 0 to 1"),
            ("retry_on_exit = \"x\"", "retry_on_exit: \"x\" is no list of exit codes"),
            ("retry_on_exit = \"1\"\nno_retry_on_exit = \"2\"", "not both"),
            ("[pool.default]\nno_retry_on_exit = \"300\"", "[pool.default] no_retry_on_exit: \"300\""),
            ("durability = \"none\"", "none"),
            ("cgroup = \"on\"", "on"),
            ("[pool.default]\nisolate = \"net\"", "net"),
            ("[pool.default]\nmem = \"much\"", "number of bytes"),
            ("[pool.default]\nmem = 0", "number of bytes"),
            ("[pool.default]\nnice = 20", "no nice value"),
            ("[pool.default]\ncpus = \"all\"", "no list of CPUs"),
            ("[pool.default]\nrlimit = { files = 5 }", "no resource"),
            ("[pool.default]\nrlimit = { nofile = \"5:\" }", "no limit"),
            ("[pool.default]\ncommand = [\"cat\"]", "name no pool"),
            ("[pool.a]\nworkers = 1\ncommand = []", "command: it is empty"),
            ("[pool.a]\nworkers = 1\nmax_calls = 5", "name its `command`"),
            ("[pool.a]\nworkers = 1\ncommand = [\"cat\"]\nmax_calls = 0", "greater than 0"),
            ("[pool.a]\nworkers = 1\ncommand = [\"cat\"]\ncwd = \"src\"", "not absolute"),
        ];
        for (text, wanted) in cases {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
