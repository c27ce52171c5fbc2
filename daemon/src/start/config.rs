//! The configuration: a TOML file, every member optional, every unknown member an error.
//!
//! `ctl/docs/poold.toml` documents each setting with its default; the tests of [`written`] hold it to what is
//! here.

mod resources;
mod written;

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
    DEFAULT_POOL, Job, JobDurability, Limit, Limits, MAX_LABEL, Missed, OnCrash, Overlap, ReadyWhen,
    Schedule, is_label,
};
use serde::{Deserialize, Deserializer};

pub use self::resources::resource_fault;
pub use self::written::Written;
use self::written::quoted;

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
    #[serde(deserialize_with = "optional_duration")]
    pub start_within: Option<Duration>,
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
    /// What the file says, and where.
    #[serde(skip)]
    pub written: Written,
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

impl LogLevel {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
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
    pub start_within: Option<Duration>,
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
    pub backfill: bool,
    /// The items of each resource.
    #[serde(deserialize_with = "resources::read")]
    pub resources: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "optional_bytes")]
    pub mem: Option<u64>,
    pub nice: Option<i32>,
    pub cpus: Option<String>,
    #[serde(deserialize_with = "rlimits")]
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
    pub name: Option<OsText>,
    #[serde(deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub idle_timeout: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub kill_after: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub deadline: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    pub start_within: Option<Duration>,
    pub retries: Option<u32>,
    #[serde(deserialize_with = "optional_duration")]
    pub backoff: Option<Duration>,
    pub jitter: Option<f64>,
    pub retry_on_exit: Option<String>,
    pub no_retry_on_exit: Option<String>,
    pub on_crash: Option<OnCrash>,
    pub labels: Option<Vec<String>>,
    pub exclusive: Option<Vec<String>>,
    #[serde(deserialize_with = "optional_bytes")]
    pub mem: Option<u64>,
    pub nice: Option<i32>,
    pub cpus: Option<String>,
    #[serde(deserialize_with = "rlimits")]
    pub rlimit: Option<BTreeMap<String, Limit>>,
    pub priority: Option<i32>,
    pub slots: Option<u32>,
    pub resources: Option<BTreeMap<String, u32>>,
    pub merge: Option<bool>,
    pub on_done: Option<Vec<OsText>>,
    pub on_success: Option<Vec<OsText>>,
    pub on_failure: Option<Vec<OsText>>,
}

impl ScheduleConfig {
    /// As somebody would add it. `name`: its name.
    pub fn schedule(&self, name: &str) -> Schedule {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        let this = self.clone();
        let limits =
            Limits { nice: this.nice, cpus: this.cpus, memory_bytes: this.mem, resources: this.rlimit };
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
                name: this.name,
                set_limits: (!limits.is_empty()).then_some(limits),
                timeout_s: seconds(this.timeout),
                idle_timeout_s: seconds(this.idle_timeout),
                kill_after_s: seconds(this.kill_after),
                deadline_s: seconds(this.deadline),
                start_within_s: seconds(this.start_within),
                retries: this.retries,
                backoff_s: seconds(this.backoff),
                jitter: this.jitter,
                retry_on_exit: this.retry_on_exit,
                no_retry_on_exit: this.no_retry_on_exit,
                on_crash: this.on_crash,
                labels: this.labels,
                exclusive: this.exclusive,
                priority: this.priority,
                slots: this.slots,
                resources: this.resources,
                merge: this.merge,
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
        if let Some(why) = resources::fault(&self.resources) {
            return Some(("resources", why));
        }
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
        if self.backfill {
            return Some(("backfill", "each call has one slot: leave it out of a warm pool".to_owned()));
        }
        if !self.resources.is_empty() {
            let why = "a call takes none, since its program serves others, too: leave it out of a warm pool";
            return Some(("resources", why.to_owned()));
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

/// A number of workers.
///
/// # Errors
/// The bounds, where it is beyond them.
pub fn workers(count: u32) -> Result<NonZeroU32, String> {
    let workers = NonZeroU32::new(count).filter(|workers| workers.get() <= MAX_WORKERS);
    workers.ok_or_else(|| format!("from 1 to {MAX_WORKERS}"))
}

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
            start_within: None,
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
            written: Written::default(),
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
    /// Reads a file; returns its text, too. With `optional`, a file that does not exist stands for the
    /// defaults, as an empty one does.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn read(path: &Path, optional: bool) -> anyhow::Result<(Self, String)> {
        let text = match fs::read_to_string(path) {
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read the configuration {}", path.display()))?,
        };
        let config =
            Self::parse(&text).with_context(|| format!("in the configuration {}", path.display()))?;
        Ok((config, text))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", error.to_string().trim_end()))?;
        config.written = Written::of(text);
        match config.fault() {
            Some((name, why)) => bail!("{}", config.written.fault(&name, &why)),
            None => Ok(config),
        }
    }

    /// What is wrong with it, if anything: the whole name of the setting or table at fault, and why.
    fn fault(&self) -> Option<(String, String)> {
        let of_retries = retry_on(self.retry_on_exit.as_deref(), self.no_retry_on_exit.as_deref());
        if let Err((member, why)) = of_retries {
            return Some((member.to_owned(), format!("{member}: {why}")));
        }
        if let Some((label, why)) = self.limit.keys().find_map(|label| Some((label, label_fault(label)?))) {
            return Some((format!("limit.{}", quoted(label)), format!("[limit] {why}")));
        }
        let of_pools = self.pool.iter().find_map(|(name, pool)| {
            let (member, why) = pool_fault(name, pool)?;
            Some((format!("pool.{}.{member}", quoted(name)), why))
        });
        if of_pools.is_some() {
            return of_pools;
        }
        for (name, schedule) in &self.schedule {
            if let Some(why) = name_rule("a schedule", name) {
                return Some((format!("schedule.{}", quoted(name)), why));
            }
            if let Some((member, why)) = schedule.fault() {
                return Some((
                    format!("schedule.{}.{member}", quoted(name)),
                    format!("[schedule.{name}] {member}: {why}"),
                ));
            }
        }
        if self.schedule.len() > MAX_SCHEDULES {
            return Some(("schedule".to_owned(), format!("{MAX_SCHEDULES} schedules are the most")));
        }
        let default = self.pool.get(DEFAULT_POOL);
        if self.workers.is_some() && default.is_some_and(|pool| pool.workers.is_some()) {
            let why = "`workers` and `workers` of [pool.default] mean the same: leave one out".to_owned();
            return Some(("pool.default.workers".to_owned(), why));
        }
        let of_pools =
            self.pool.iter().map(|(name, pool)| (format!("pool.{}.workers", quoted(name)), pool.workers));
        let others = [("workers", self.workers), ("callbacks.workers", Some(self.callbacks.workers))];
        let mut all = of_pools.chain(others.map(|(name, workers)| (name.to_owned(), workers)));
        all.find_map(|(name, workers)| {
            let workers = workers.filter(|workers| workers.get() > MAX_WORKERS)?;
            Some((name, format!("{workers} workers are too many: at most {MAX_WORKERS} a pool")))
        })
    }

    /// What poold takes, and what may be a mistake all the same: schedules whose jobs their pools would not
    /// take. Pools may come, and get more workers, at run time.
    pub fn doubts(&self) -> Vec<String> {
        self.schedule.iter().flat_map(|(name, schedule)| self.doubts_of(name, schedule)).collect()
    }

    fn doubts_of(&self, name: &str, schedule: &ScheduleConfig) -> Vec<String> {
        let pool = schedule.pool.as_deref().unwrap_or(DEFAULT_POOL);
        let settings = self.pool.get(pool);
        if settings.is_none() && pool != DEFAULT_POOL {
            return vec![format!(
                "[schedule.{name}] pool: there is no [pool.{pool}]; unless `poolctl pool add` adds a pool of that \
                 name, nothing is submitted"
            )];
        }
        let mut doubts = Vec::new();
        let of_default = self.workers.filter(|_| pool == DEFAULT_POOL);
        let workers = settings.and_then(|pool| pool.workers).or(of_default);
        if let (Some(slots), Some(workers)) = (schedule.slots, workers)
            && slots > workers.get()
        {
            doubts.push(format!(
                "[schedule.{name}] slots: its job takes {slots} slots, and the pool {pool:?} has {workers}; unless \
                 `poolctl pool set` gives the pool more, nothing is submitted"
            ));
        }
        for (resource, &takes) in schedule.resources.iter().flatten() {
            let has = settings.and_then(|pool| pool.resources.get(resource)).map_or(0, Vec::len);
            if takes as usize > has {
                doubts.push(format!(
                    "[schedule.{name}] resources: its job takes {takes} of {resource:?}, and the pool {pool:?} has \
                     {has} ([pool.{pool}.resources]), so nothing is submitted"
                ));
            }
        }
        doubts
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
            backfill: pool.backfill,
            resources: resources::items(&pool.resources),
        });
        let of_default = self.pool.get(DEFAULT_POOL);
        let default = PoolSettings {
            name: Arc::from(DEFAULT_POOL),
            workers: default,
            program: None,
            backfill: of_default.is_some_and(|pool| pool.backfill),
            resources: of_default.map(|pool| resources::items(&pool.resources)).unwrap_or_default(),
        };
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

    /// By when jobs of a pool are to have begun that say nothing else, from their submission.
    pub fn start_within_of(&self, pool: &str) -> Option<Duration> {
        self.pool.get(pool).and_then(|pool| pool.start_within).or(self.start_within)
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

/// What is wrong with a pool's table, if anything: the member at fault, empty for the table itself, and why.
fn pool_fault(name: &str, pool: &PoolConfig) -> Option<(&'static str, String)> {
    if let Some(why) = name_fault(name) {
        return Some(("", why));
    }
    if let Some(why) = pool.limits().fault() {
        return Some(("", format!("[pool.{name}] {why}")));
    }
    let retries = retry_on(pool.retry_on_exit.as_deref(), pool.no_retry_on_exit.as_deref());
    if let Some((member, why)) = pool.fault().or(retries.err()) {
        return Some((member, format!("[pool.{name}] {member}: {why}")));
    }
    if pool.command.is_some() && name == DEFAULT_POOL {
        let why = format!("[pool.{name}] cannot have a `command`: it runs the jobs that name no pool");
        return Some(("command", why));
    }
    if pool.workers.is_none() && name != DEFAULT_POOL {
        return Some(("", format!("[pool.{name}] lacks `workers`, the number of its slots")));
    }
    None
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

fn rlimits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, Limit>>, D::Error> {
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

    const SOME_POOLS: &str = r#"
timeout = "1h"
idle_timeout = "1d"
max_output_bytes = 1000000000
max_total_output_bytes = 50000000000

[pool.build]
workers = 2
timeout = "2h"
idle_timeout = "10m"
start_within = "1d"
retries = 2
backoff = "10s"
jitter = 0.5
retry_on_exit = "75,100-110"
max_output_bytes = 5000000
mem = "2G"
nice = 5
cpus = "0-3"
rlimit = { nofile = "1024:2048", core = 0 }

[pool.square]
workers = 2
command = ["python3", "/srv/square.py"]
cwd = "/srv"
ready = "notify"
max_calls = 100000

[schedule.backup]
cron = "0 3 * * *"
command = ["backup"]
jitter = 0.5
retry_on_exit = "75"
deadline = "4h"
start_within = "1h"
labels = ["disk"]
mem = "2G"
"#;

    #[test]
    fn a_pool_goes_by_its_own_settings_and_else_by_those_of_all() {
        let config = Config::parse(SOME_POOLS).unwrap();
        assert_eq!(config.timeout_of("build"), Some(Duration::from_secs(7200)));
        assert_eq!(config.timeout_of(DEFAULT_POOL), Some(Duration::from_secs(3600)));
        assert_eq!(config.idle_timeout_of("build"), Some(Duration::from_secs(600)));
        assert_eq!(config.start_within_of("build"), Some(Duration::from_secs(86_400)));
        assert_eq!(config.start_within_of(DEFAULT_POOL), None);
        let job = config.schedule["backup"].schedule("backup").job;
        assert_eq!(
            (job.deadline_s, job.start_within_s, job.jitter),
            (Some(14400.0), Some(3600.0), Some(0.5))
        );
        assert_eq!((job.labels, job.retry_on_exit.as_deref()), (Some(vec!["disk".to_owned()]), Some("75")));
        assert_eq!(job.set_limits.and_then(|limits| limits.memory_bytes), Some(2 << 30));
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
            ("[pool.default]\nresources = { gpu = 2 }", "sequence"),
            (
                "[pool.default]\n\n[pool.default.resources]\ngpu = [0, 1, 0]",
                "line 3, column 15: [pool.default] resources: \"gpu\" has the item \"0\" twice",
            ),
            ("[pool.a]\nworkers = 1\ncommand = [\"cat\"]\nresources = { gpu = [] }", "a call takes none"),
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
