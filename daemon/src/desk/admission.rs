//! What a client asks for, checked and completed: from the protocol's job to the core's work. A job that
//! cannot be accepted is refused with the member at fault and what to do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use pool_proto::nouns::limits::{cpus_as_text, cpus_from_text};
use pool_proto::nouns::{
    ArraySpec, CallbackFor, DEFAULT_POOL, Dependency, Job, JobDurability, Limit, Limits, MAX_KEY, MAX_LABELS,
    On, OnCrash,
};
use pool_proto::text::parse_rfc3339;
use pool_proto::{Json, OsText, Refusal};

use crate::job::{
    After, ArrayPart, ArrayPlan, Call, Capacity, Conditions, Environment, JobId, JobKind, Key, Labels, Needs,
    NewCallback, NotBefore, Resources, Retries, Shortfall, Tie, Unique, Work, micros,
};
use crate::start::config::{Config, label_fault, permille, resource_fault, retry_on};

/// Environments remembered, so that jobs of the same shell share one; larger ones are not.
const REMEMBERED: usize = 16;
const REMEMBERED_BYTES: usize = 256 << 10;

/// What the jobs of one message may take, with what each takes from the defaults. A default is sent once, and
/// kept once for each job.
const MESSAGE_BYTES: usize = 64 << 20;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_UMASK: u32 = 0o022;

/// A callback's command is one argument of a shell, of which execve(2) takes so many bytes.
const MAX_COMMAND: usize = 128 * 1024 - 1;

/// Jobs after which one job may be to run.
const MAX_DEPENDENCIES: usize = 10_000;

/// Checks and completes jobs.
#[derive(Debug, Clone)]
pub struct Admission {
    recent: VecDeque<Arc<Environment>>,
    /// For jobs that bring no environment and no directory.
    minimal: BTreeMap<OsText, OsText>,
    home: OsText,
    /// What a job gets that names none.
    own_limits: Limits,
}

/// What the jobs of one message have in common: the members that they leave out, and the environment of those
/// that bring none, made once for all of them.
#[derive(Debug, Default)]
pub struct Common {
    defaults: Job,
    default_bytes: MemberBytes,
    variables: Option<BTreeMap<OsText, OsText>>,
    /// As they came, until they are needed, and then without what is as poold's own.
    named_limits: Option<Limits>,
    limits: Limits,
    /// By what else is in it.
    environments: HashMap<(u32, Limits), Arc<Environment>>,
    /// What the jobs of the message take so far.
    bytes: usize,
}

/// What the members of a job take, each in bytes.
#[derive(Debug, Default)]
struct MemberBytes {
    work: usize,
    params: usize,
    env: usize,
    limits: usize,
    texts: [usize; 6],
    callbacks: [usize; 3],
}

impl MemberBytes {
    fn of(job: &Job) -> Self {
        let text = |text: &Option<OsText>| text.as_ref().map_or(0, OsText::len);
        let all = |texts: &[OsText]| texts.iter().map(|text| text.len() + size_of::<OsText>()).sum::<usize>();
        let commands = |commands: &Option<Vec<OsText>>| commands.as_deref().map_or(0, all);
        Self {
            work: all(&job.argv) + job.method.as_ref().map_or(0, String::len),
            params: job.params.as_ref().map_or(0, |params| params.get().len()),
            env: job.env.as_ref().map_or(0, bytes_of),
            limits: [&job.limits, &job.set_limits].into_iter().flatten().map(Limits::bytes).sum(),
            texts: [
                text(&job.name),
                text(&job.cwd),
                text(&job.key),
                job.round.as_ref().map_or(0, String::len),
                text(&job.unique),
                job.array.as_ref().map_or(0, String::len),
            ],
            callbacks: [commands(&job.on_done), commands(&job.on_success), commands(&job.on_failure)],
        }
    }

    /// What a job takes that leaves its empty members to these defaults, its environment apart.
    fn completed(&self, defaults: &Self) -> usize {
        let or = |own: usize, default: usize| if own == 0 { default } else { own };
        let texts = self.texts.iter().zip(defaults.texts).map(|(&own, default)| or(own, default));
        let callbacks = self.callbacks.iter().zip(defaults.callbacks).map(|(&own, default)| or(own, default));
        or(self.work, defaults.work)
            + or(self.params, defaults.params)
            + texts.sum::<usize>()
            + callbacks.sum::<usize>()
    }
}

/// What variables take, nearly.
fn bytes_of(variables: &BTreeMap<OsText, OsText>) -> usize {
    variables.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<OsText>()).sum()
}

impl Common {
    pub fn new(mut defaults: Job) -> Self {
        let variables = defaults.env.take();
        let named_limits = defaults.limits.take();
        Self {
            default_bytes: MemberBytes::of(&defaults),
            defaults,
            variables,
            named_limits,
            ..Self::default()
        }
    }

    /// Completes a job, but for its environment and its limits.
    ///
    /// # Errors
    /// Where the jobs of the message take too much.
    pub fn complete(&mut self, job: Job) -> Result<Job, Refusal> {
        let own = MemberBytes::of(&job);
        self.charge(own.completed(&self.default_bytes) + own.env + own.limits)?;
        Ok(complete(job, &self.defaults))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MESSAGE_BYTES {
            let parameter = format!(
                "jobs: with what they take from the defaults they are larger than {MESSAGE_BYTES} bytes: \
                 send fewer at once"
            );
            return Err(Refusal::InvalidParameter { parameter });
        }
        Ok(())
    }
}

/// A member at fault, and why.
#[derive(Debug)]
pub(super) struct Fault(pub &'static str, pub String);

/// The user whose jobs they are, as far as the user database knows, and what poold hands on to processes.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub limits: Limits,
    pub name: Option<String>,
    pub home: Option<OsText>,
    pub shell: Option<OsText>,
}

impl Admission {
    pub fn new(account: Account) -> Self {
        let home = account.home.filter(is_absolute).unwrap_or_else(|| "/".into());
        let mut minimal =
            BTreeMap::from([("PATH".into(), DEFAULT_PATH.into()), ("HOME".into(), home.clone())]);
        if let Some(name) = account.name {
            minimal.insert("USER".into(), name.as_str().into());
            minimal.insert("LOGNAME".into(), name.into());
        }
        minimal.extend(account.shell.map(|shell| ("SHELL".into(), shell)));
        Self { recent: VecDeque::new(), minimal, home, own_limits: account.limits }
    }

    /// The environment of resident programs that name none.
    pub fn minimal(&self) -> Arc<Environment> {
        let (variables, limits) = (self.minimal.clone(), Limits::default());
        Arc::new(Environment { variables, umask: DEFAULT_UMASK, limits })
    }

    /// Checks one job.
    ///
    /// # Errors
    /// The refusal to reply with; `index` is the job's place in the message. `pool_named`: the pool of that
    /// name, and whether it takes calls, not commands.
    pub fn admit(
        &mut self,
        job: Job,
        index: usize,
        config: &Config,
        pool_named: impl Fn(&str) -> Option<(Arc<str>, bool)>,
    ) -> Result<Arc<Work>, Refusal> {
        self.admit_one_of(job, index, &mut Common::default(), config, pool_named)
    }

    /// Checks a job of several, which was completed by [`Common::complete`].
    ///
    /// # Errors
    /// See [`admit`](Self::admit).
    pub fn admit_one_of(
        &mut self,
        mut job: Job,
        index: usize,
        common: &mut Common,
        config: &Config,
        pool_named: impl Fn(&str) -> Option<(Arc<str>, bool)>,
    ) -> Result<Arc<Work>, Refusal> {
        let name = job.pool.as_deref().unwrap_or(DEFAULT_POOL);
        let (pool, is_warm) =
            pool_named(name).ok_or_else(|| Refusal::NoSuchPool { pool: name.to_owned() })?;
        let invalid = |Fault(field, reason)| Refusal::InvalidJob { index, field: field.to_owned(), reason };
        let limits = self.limits_of(&mut job, common, &config.limits_of(&pool)).map_err(invalid)?;
        let environment = match (job.env.take(), &common.variables) {
            (None, Some(variables)) => {
                let umask = job.umask.unwrap_or(DEFAULT_UMASK);
                match common.environments.get(&(umask, limits.clone())) {
                    Some(environment) => environment.clone(),
                    None => {
                        let variables = variables.clone();
                        common.charge(bytes_of(&variables) + limits.bytes())?;
                        let environment = self.environment(Some(variables), Some(umask), limits.clone());
                        let environment = environment.map_err(invalid)?;
                        common.environments.insert((umask, limits), environment.clone());
                        environment
                    }
                }
            }
            (variables, _) => self.environment(variables, job.umask, limits).map_err(invalid)?,
        };
        let work = self.check(job, pool, environment, is_warm, config);
        work.map(Arc::new).map_err(invalid)
    }

    fn check(
        &mut self,
        mut job: Job,
        pool: Arc<str>,
        environment: Arc<Environment>,
        is_warm: bool,
        config: &Config,
    ) -> Result<Work, Fault> {
        let kind = take_kind(&mut job, &pool, is_warm)?;
        let cwd = job.cwd.clone().unwrap_or_else(|| self.home.clone());
        check_cwd(&cwd)?;
        if let Some(name) = &job.name {
            check_text("name", name)?;
        }
        let timeout = duration("timeout_s", job.timeout_s)?.or_else(|| config.timeout_of(&pool));
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Fault("timeout_s", "must be greater than 0".to_owned()));
        }
        let idle_timeout = duration("idle_timeout_s", job.idle_timeout_s)?;
        if idle_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Fault("idle_timeout_s", "must be greater than 0".to_owned()));
        }
        let idle_timeout = match kind {
            JobKind::Exec(_) => idle_timeout.or_else(|| config.idle_timeout_of(&pool)),
            JobKind::Call(_) if idle_timeout.is_some() => {
                let reason = "a call has no process of its own to be looked at: give it a timeout";
                return Err(Fault("idle_timeout_s", reason.to_owned()));
            }
            JobKind::Call(_) => None,
        };
        let kill_after =
            duration("kill_after_s", job.kill_after_s)?.unwrap_or_else(|| config.kill_after_of(&pool));
        let deadline = duration("deadline_s", job.deadline_s)?;
        if deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Fault("deadline_s", "must be greater than 0".to_owned()));
        }
        let start_within = duration("start_within_s", job.start_within_s)?;
        let start_within = start_within.or_else(|| config.start_within_of(&pool));
        if start_within.is_some_and(|within| within.is_zero()) {
            return Err(Fault("start_within_s", "must be greater than 0".to_owned()));
        }
        let tie = job.tie.as_deref().map(str::parse).transpose().map_err(|reason| Fault("tie", reason))?;
        let on_crash = job.on_crash.unwrap_or_default();
        let by_default = config.retries_of(&pool);
        let backoff = duration("backoff_s", job.backoff_s)?.unwrap_or(by_default.backoff);
        let allowed = job.retries.unwrap_or(by_default.allowed);
        let jitter = job.jitter.map(permille).transpose().map_err(|why| Fault("jitter", why))?;
        let on = retry_on(job.retry_on_exit.as_deref(), job.no_retry_on_exit.as_deref());
        let on = on.map_err(|(field, why)| Fault(field, why))?;
        if on.is_some() && allowed == 0 {
            let field = if job.retry_on_exit.is_some() { "retry_on_exit" } else { "no_retry_on_exit" };
            return Err(Fault(field, "it says nothing without retries: say how many (--retries)".to_owned()));
        }
        let retries = Retries {
            allowed,
            backoff,
            jitter: jitter.unwrap_or(by_default.jitter),
            on: on.unwrap_or(by_default.on),
        };
        let priority = job.priority.unwrap_or(0);
        let key = key(&job)?;
        if key.is_some() && tie == Some(Tie::Client) {
            let reason = "a job that is tied to its client cannot be another client's as well: \
                          leave the key or the tie out";
            return Err(Fault("key", reason.to_owned()));
        }
        let unique = unique(&job)?;
        if unique.is_some() && tie == Some(Tie::Client) {
            let reason = "a job that is tied to its client cannot be another client's as well: \
                          leave the unique name or the tie out";
            return Err(Fault("unique", reason.to_owned()));
        }
        let exclusive = labels("exclusive", job.exclusive.as_deref(), &Labels::NONE)?;
        let labels = labels("labels", job.labels.as_deref(), &exclusive)?;
        let needs = needs(&job, labels, &kind)?;
        let conditions = conditions(&job)?;
        let volatile = is_volatile(&job, &kind, tie, config.is_volatile(&pool))?;
        let mut callbacks = Vec::new();
        for (field, on, commands) in [
            ("on_done", On::Done, &job.on_done),
            ("on_success", On::Success, &job.on_success),
            ("on_failure", On::Failure, &job.on_failure),
        ] {
            for command in commands.iter().flatten() {
                check_callback(field, command)?;
                callbacks.push(NewCallback { on, command: command.clone() });
            }
        }
        let array = array(&job, &kind)?;
        if job.stdin.is_some() && job.input.is_some() {
            let reason = "the job has another standard input already: leave one of the two out";
            return Err(Fault("input", reason.to_owned()));
        }
        let merge = job.merge.unwrap_or_default();
        let Job { name, stdin, input, .. } = job;
        Ok(Work {
            pool,
            name,
            kind,
            volatile,
            cwd,
            environment,
            stdin,
            input,
            merge,
            timeout,
            idle_timeout,
            kill_after,
            deadline,
            start_within,
            tie,
            on_crash,
            priority,
            needs,
            exclusive,
            retries,
            key,
            unique,
            conditions,
            callbacks,
            array,
        })
    }

    /// The limits of the job's attempts: those that it sets, then those of its pool, then those of the
    /// submitter, without what is as poold's own. A call has none: its program has those of its pool.
    fn limits_of(&self, job: &mut Job, common: &mut Common, of_pool: &Limits) -> Result<Limits, Fault> {
        let limits = match job.limits.take() {
            Some(limits) => self.beside_own(&limits)?,
            None => {
                // They are the same for all jobs of the message that name none.
                if let Some(named) = &common.named_limits {
                    common.limits = self.beside_own(named)?;
                    common.named_limits = None;
                }
                common.limits.clone()
            }
        };

        let set = job.set_limits.take().unwrap_or_default();
        if let Some(why) = set.fault() {
            return Err(Fault("set_limits", why));
        }
        match job.method.is_some() {
            true if !set.is_empty() => {
                let reason = "a call runs in its pool's program: set the limits of the pool instead";
                Err(Fault("set_limits", reason.to_owned()))
            }
            true => Ok(Limits::default()),
            false if set.is_empty() && of_pool.is_empty() => Ok(limits),
            false => Ok(set.or(of_pool).or(&limits)),
        }
    }

    pub(super) fn beside_own(&self, limits: &Limits) -> Result<Limits, Fault> {
        if let Some(why) = limits.fault() {
            return Err(Fault("limits", why));
        }
        let cpus = limits.cpus.as_deref().and_then(|cpus| cpus_from_text(cpus).ok());
        let cpus = cpus.map(|cpus| cpus_as_text(&cpus)).filter(|cpus| !cpus.is_empty());

        let own = &self.own_limits;
        let is_own = |name: &String, limit: &Limit| {
            own.resources.as_ref().and_then(|own| own.get(name)) == Some(limit)
        };
        let named = limits.resources.iter().flatten();
        let resources: BTreeMap<String, Limit> = named
            .filter(|(name, limit)| !is_own(name, limit))
            .map(|(name, limit)| (name.clone(), *limit))
            .collect();
        Ok(Limits {
            nice: limits.nice.filter(|_| limits.nice != own.nice),
            cpus: cpus.filter(|cpus| Some(cpus) != own.cpus.as_ref()),
            memory_bytes: limits.memory_bytes,
            resources: (!resources.is_empty()).then_some(resources),
        })
    }

    fn environment(
        &mut self,
        variables: Option<BTreeMap<OsText, OsText>>,
        umask: Option<u32>,
        limits: Limits,
    ) -> Result<Arc<Environment>, Fault> {
        let umask = umask.unwrap_or(DEFAULT_UMASK);
        check_umask(umask)?;
        check_variables(variables.iter().flatten())?;
        let variables = variables.unwrap_or_else(|| self.minimal.clone());
        let environment = Environment { variables, umask, limits };
        if let Some(known) = self.recent.iter().find(|known| ***known == environment) {
            return Ok(known.clone());
        }
        let is_small = environment.bytes() <= REMEMBERED_BYTES;
        let environment = Arc::new(environment);
        if is_small {
            self.recent.push_front(environment.clone());
            self.recent.truncate(REMEMBERED);
        }
        Ok(environment)
    }
}

/// What `job` leaves out is taken from `defaults`.
pub fn complete(job: Job, defaults: &Job) -> Job {
    Job {
        method: if job.argv.is_empty() {
            job.method.clone().or_else(|| defaults.method.clone())
        } else {
            job.method.clone()
        },
        params: job.params.or_else(|| defaults.params.clone()),
        argv: if job.argv.is_empty() && job.method.is_none() { defaults.argv.clone() } else { job.argv },
        durability: job.durability.or(defaults.durability),
        name: job.name.or_else(|| defaults.name.clone()),
        pool: job.pool.or_else(|| defaults.pool.clone()),
        cwd: job.cwd.or_else(|| defaults.cwd.clone()),
        env: job.env.or_else(|| defaults.env.clone()),
        umask: job.umask.or(defaults.umask),
        limits: job.limits.or_else(|| defaults.limits.clone()),
        set_limits: job.set_limits.or_else(|| defaults.set_limits.clone()),
        stdin: job.stdin.or_else(|| defaults.stdin.clone()),
        input: job.input.or(defaults.input),
        merge: job.merge.or(defaults.merge),
        timeout_s: job.timeout_s.or(defaults.timeout_s),
        idle_timeout_s: job.idle_timeout_s.or(defaults.idle_timeout_s),
        kill_after_s: job.kill_after_s.or(defaults.kill_after_s),
        deadline_s: job.deadline_s.or(defaults.deadline_s),
        start_within_s: job.start_within_s.or(defaults.start_within_s),
        hold: job.hold.or(defaults.hold),
        delay_s: job.delay_s.or(defaults.delay_s),
        at: job.at.or_else(|| defaults.at.clone()),
        after: job.after.or_else(|| defaults.after.clone()),
        tie: job.tie.or_else(|| defaults.tie.clone()),
        on_crash: job.on_crash.or(defaults.on_crash),
        priority: job.priority.or(defaults.priority),
        labels: job.labels.or_else(|| defaults.labels.clone()),
        slots: job.slots.or(defaults.slots),
        resources: job.resources.or_else(|| defaults.resources.clone()),
        exclusive: job.exclusive.or_else(|| defaults.exclusive.clone()),
        retries: job.retries.or(defaults.retries),
        backoff_s: job.backoff_s.or(defaults.backoff_s),
        jitter: job.jitter.or(defaults.jitter),
        retry_on_exit: job.retry_on_exit.or_else(|| defaults.retry_on_exit.clone()),
        no_retry_on_exit: job.no_retry_on_exit.or_else(|| defaults.no_retry_on_exit.clone()),
        key: job.key.or_else(|| defaults.key.clone()),
        round: job.round.or_else(|| defaults.round.clone()),
        unique: job.unique.or_else(|| defaults.unique.clone()),
        if_exists: job.if_exists.or(defaults.if_exists),
        array: job.array.or_else(|| defaults.array.clone()),
        callback_for: job.callback_for.or(defaults.callback_for),
        on_done: job.on_done.or_else(|| defaults.on_done.clone()),
        on_success: job.on_success.or_else(|| defaults.on_success.clone()),
        on_failure: job.on_failure.or_else(|| defaults.on_failure.clone()),
    }
}

/// A command, or a call, as the pool takes it.
fn take_kind(job: &mut Job, pool: &str, is_warm: bool) -> Result<JobKind, Fault> {
    let argv = std::mem::take(&mut job.argv);
    let Some(method) = job.method.take() else {
        if job.params.is_some() {
            return Err(Fault("params", "they are for a call: name its method, too".to_owned()));
        }
        check_argv(&argv)?;
        if is_warm {
            let reason = format!(
                "the pool {pool:?} has a resident program and runs no commands: \
                 call a method of it, or name another pool"
            );
            return Err(Fault("argv", reason));
        }
        return Ok(JobKind::Exec(argv));
    };
    if !argv.is_empty() {
        return Err(Fault("method", "a job is a command or a call: leave argv or method out".to_owned()));
    }
    if !is_warm {
        let reason = format!(
            "the pool {pool:?} has no resident program to call: name a warm pool (`poolctl pool ls`)"
        );
        return Err(Fault("method", reason));
    }
    let method = check_method(&method)?;
    if job.input.is_some() {
        return Err(Fault("input", "a call has none: hand it parameters".to_owned()));
    }
    if job.merge.is_some() {
        return Err(Fault("merge", "a call has a standard error alone: leave it out".to_owned()));
    }
    if job.stdin.is_some() {
        return Err(Fault("stdin", "a call has none: hand it parameters".to_owned()));
    }
    let params = job.params.take().map(check_params).transpose()?;
    Ok(JobKind::Call(Call { method, params, lost: None }))
}

pub(super) fn check_method(method: &str) -> Result<String, Fault> {
    if method.is_empty() || method.len() > MAX_KEY {
        return Err(Fault("method", format!("a name of 1 to {MAX_KEY} bytes is needed")));
    }
    Ok(method.to_owned())
}

/// Parameters of a call, on one line.
pub(super) fn check_params(params: Json) -> Result<Json, Fault> {
    let params = params.on_one_line();
    if !params.get().trim_start().starts_with(['[', '{']) {
        let reason =
            "JSON-RPC has an array for them, or an object for named ones: write [7], not 7".to_owned();
        return Err(Fault("params", reason));
    }
    Ok(params)
}

pub(super) fn check_cwd(cwd: &OsText) -> Result<(), Fault> {
    if !is_absolute(cwd) {
        let reason = format!("{cwd:?} is not absolute: a job may start anywhere, name the whole path");
        return Err(Fault("cwd", reason));
    }
    check_text("cwd", cwd)
}

pub(super) fn check_umask(umask: u32) -> Result<(), Fault> {
    match umask {
        0..=0o777 => Ok(()),
        _ => Err(Fault("umask", format!("{umask:#o} is no umask: use 0 to 0o777"))),
    }
}

pub(super) fn check_variables<'a>(
    variables: impl Iterator<Item = (&'a OsText, &'a OsText)>,
) -> Result<(), Fault> {
    for (name, value) in variables {
        if name.is_empty() || name.as_escaped().contains('=') {
            return Err(Fault(
                "env",
                format!("{name:?} cannot be a variable's name: it is empty, or holds a ="),
            ));
        }
        check_text("env", name)?;
        check_text("env", value)?;
    }
    Ok(())
}

/// A command of a callback; `field`: the member that has it.
pub(super) fn check_callback(field: &'static str, command: &OsText) -> Result<(), Fault> {
    check_text(field, command)?;
    if command.as_escaped().trim().is_empty() {
        return Err(Fault(field, "the command is empty".to_owned()));
    }
    if command.len() > MAX_COMMAND {
        let reason = format!("takes {MAX_COMMAND} bytes at most, this has {}", command.len());
        return Err(Fault(field, reason));
    }
    Ok(())
}

/// Whether the job is kept in memory alone, and whether that can be.
fn is_volatile(job: &Job, kind: &JobKind, tie: Option<Tie>, by_default: bool) -> Result<bool, Fault> {
    let is_volatile = match (job.durability, kind) {
        (Some(JobDurability::None), JobKind::Exec(_)) => {
            return Err(Fault(
                "durability",
                "only a call can be kept in memory alone: leave it out".to_owned(),
            ));
        }
        (Some(JobDurability::None), JobKind::Call(_)) => true,
        (Some(JobDurability::Disk), _) => false,
        (None, _) => by_default,
    };
    let has_callbacks = [&job.on_done, &job.on_success, &job.on_failure]
        .into_iter()
        .flatten()
        .any(|commands| !commands.is_empty());
    let needs_disk = [
        ("callbacks", has_callbacks),
        ("key", job.key.is_some()),
        ("unique", job.unique.is_some()),
        ("hold", job.hold == Some(true)),
        ("delay_s", job.delay_s.is_some()),
        ("at", job.at.is_some()),
        ("after", job.after.as_ref().is_some_and(|after| !after.is_empty())),
        ("tie", matches!(tie, Some(Tie::Job(_)))),
        ("on_crash", job.on_crash == Some(OnCrash::Hold)),
    ];
    match needs_disk.into_iter().find(|&(_, is_set)| is_volatile && is_set) {
        Some((what, _)) => {
            let reason = format!(
                "a call that is kept in memory alone cannot have it ({what}): \
                 leave it out, or set durability to \"disk\""
            );
            let field = if what == "callbacks" { "durability" } else { what };
            Err(Fault(field, reason))
        }
        None => Ok(is_volatile),
    }
}

pub(super) fn check_argv(argv: &[OsText]) -> Result<(), Fault> {
    match argv.first() {
        None => return Err(Fault("argv", "the command is empty: name a program to run".to_owned())),
        Some(program) if program.is_empty() => {
            return Err(Fault("argv", "the program's name is empty: name a program to run".to_owned()));
        }
        Some(_) => {}
    }
    argv.iter().try_for_each(|argument| check_text("argv", argument))
}

/// The key of a job, checked.
pub(super) fn key(job: &Job) -> Result<Option<Key>, Fault> {
    let round = job.round.as_deref().map(OsText::from);
    check_name("key", job.key.as_ref())?;
    check_name("round", round.as_ref())?;
    match (&job.key, &job.round) {
        (Some(text), round) => Ok(Some(Key { text: text.clone(), round: round.clone() })),
        (None, Some(_)) => Err(Fault("round", "means nothing without a key: name one".to_owned())),
        (None, None) => Ok(None),
    }
}

fn unique(job: &Job) -> Result<Option<Unique>, Fault> {
    check_name("unique", job.unique.as_ref())?;
    match (&job.unique, job.if_exists) {
        (Some(name), if_exists) => {
            Ok(Some(Unique { name: name.clone(), if_exists: if_exists.unwrap_or_default() }))
        }
        (None, Some(_)) => {
            Err(Fault("if_exists", "means nothing without a unique name: name one".to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Refuses a job for which its pool is too small.
///
/// # Errors
/// The refusal to reply with. `index`: the job's place in the message.
pub fn check_fit(
    pool: &str,
    needs: &Needs,
    index: usize,
    capacity: Option<&Capacity>,
) -> Result<(), Refusal> {
    let Some((capacity, shortfall)) = capacity.and_then(|it| Some((it, it.shortfall(needs)?))) else {
        return Ok(());
    };
    let field = if shortfall.resource.is_some() { "resources" } else { "slots" };
    let reason = too_much(pool, &shortfall, capacity);
    Err(Refusal::InvalidJob { index, field: field.to_owned(), reason })
}

/// What of a job is too much for a pool, and what to do.
pub(super) fn too_much(pool: &str, shortfall: &Shortfall, capacity: &Capacity) -> String {
    let Shortfall { resource, takes, has } = shortfall;
    let Some(name) = resource else {
        return format!(
            "the job takes {takes} slots, and the pool {pool:?} has {has}: take fewer, or give the pool more \
             (`poolctl pool set {pool} --workers {takes}`)"
        );
    };
    if capacity.resources.contains_key(name) {
        return format!("the job takes {takes} of {name:?}, and the pool {pool:?} has {has}: take fewer");
    }
    if capacity.resources.is_empty() {
        return format!(
            "the pool {pool:?} has no resources: name another pool, \
             or configure it ([pool.{pool}.resources])"
        );
    }
    let names: Vec<&str> = capacity.resources.keys().map(|name| &**name).collect();
    format!("the pool {pool:?} has no resource {name:?}: it has {}", names.join(", "))
}

pub(super) fn check_slots(slots: u32) -> Result<u32, Fault> {
    match slots {
        0 => Err(Fault("slots", "a job takes 1 slot or more".to_owned())),
        slots => Ok(slots),
    }
}

/// The resources that a job names. Whether its pool has them is looked at later.
pub(super) fn resources(named: &BTreeMap<String, u32>) -> Result<Resources, Fault> {
    if let Some(why) = named.keys().find_map(|name| resource_fault(name)) {
        return Err(Fault("resources", why));
    }
    if let Some((name, _)) = named.iter().find(|&(_, &amount)| amount == 0) {
        return Err(Fault("resources", format!("a job takes 1 of {name:?} or more, or leaves it out")));
    }
    Ok(named.iter().map(|(name, &amount)| (Arc::from(name.as_str()), amount)).collect())
}

/// What the job needs besides its turn. Whether its pool has so much is looked at later.
fn needs(job: &Job, labels: Labels, kind: &JobKind) -> Result<Needs, Fault> {
    let slots = check_slots(job.slots.unwrap_or(1))?;
    let is_call = matches!(kind, JobKind::Call(_));
    if is_call && slots > 1 {
        let reason = "a call has one slot, in which the program is that answers it: leave it out";
        return Err(Fault("slots", reason.to_owned()));
    }
    let resources = job.resources.as_ref().map(resources).transpose()?.unwrap_or_default();
    if is_call && !resources.is_empty() {
        let reason = "a call is answered by a program that serves others, too: leave it out";
        return Err(Fault("resources", reason.to_owned()));
    }
    Ok(Needs { labels, resources, slots })
}

/// Labels, with those that it has besides.
pub(super) fn labels(
    field: &'static str,
    named: Option<&[String]>,
    besides: &Labels,
) -> Result<Labels, Fault> {
    let named = named.unwrap_or_default();
    if let Some(why) = named.iter().find_map(|label| label_fault(label)) {
        return Err(Fault(field, why));
    }
    let named = named.iter().map(|label| Arc::from(label.as_str()));
    let labels: Labels = named.chain(besides.iter().cloned()).collect();
    let count = labels.iter().count();
    if count > MAX_LABELS {
        return Err(Fault(field, format!("a job has {MAX_LABELS} labels at most, these are {count}")));
    }
    Ok(labels)
}

/// What the job waits for before it begins.
pub(super) fn conditions(job: &Job) -> Result<Option<Box<Conditions>>, Fault> {
    let delay = duration("delay_s", job.delay_s)?;
    let start = match (delay, &job.at) {
        (Some(_), Some(_)) => return Err(Fault("at", "name a time or a delay, not both".to_owned())),
        (Some(delay), None) => Some(NotBefore::Delay(delay)),
        (None, Some(at)) => Some(NotBefore::At { us: time_us(at)? }),
        (None, None) => None,
    };
    let mut after: BTreeMap<u64, On> = BTreeMap::new();
    for &Dependency { id, on } in job.after.iter().flatten() {
        let on = on.unwrap_or(On::Success);
        if after.insert(id, on).is_some_and(|known| known != on) {
            return Err(Fault("after", format!("job {id} cannot end both ways: name it once")));
        }
    }
    if after.len() > MAX_DEPENDENCIES {
        let reason = format!("takes {MAX_DEPENDENCIES} jobs at most, these are {}", after.len());
        return Err(Fault("after", reason));
    }
    let after = after.into_iter().map(|(id, on)| After { id: JobId(id), on }).collect();
    let conditions = Conditions { hold: job.hold.unwrap_or(false), start, after };
    Ok((conditions != Conditions::default()).then(|| Box::new(conditions)))
}

/// In microseconds since 1970.
fn time_us(text: &str) -> Result<i64, Fault> {
    let fault = || Fault("at", format!("{text:?} is no time: write it as 2026-12-01T09:00:00Z"));
    let time = parse_rfc3339(text).ok_or_else(fault)?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| fault())?;
    Ok(micros(since))
}

/// What the job consists of, where it is an array.
fn array(job: &Job, kind: &JobKind) -> Result<Option<Box<ArrayPart>>, Fault> {
    let Some(array) = &job.array else {
        return match job.callback_for {
            Some(CallbackFor::Element) => {
                let reason = "only an array has elements: name them (array), or leave it out";
                Err(Fault("callback_for", reason.to_owned()))
            }
            Some(CallbackFor::Array) | None => Ok(None),
        };
    };
    if matches!(kind, JobKind::Call(_)) {
        let reason = "a call cannot be an array: make several calls, as `poolctl map --call` does";
        return Err(Fault("array", reason.to_owned()));
    }
    let ArraySpec { indices, at_once } = array.parse().map_err(|why| Fault("array", why))?;
    let callback_for = job.callback_for.unwrap_or_default();
    Ok(Some(Box::new(ArrayPart::Whole(ArrayPlan { indices, at_once, callback_for }))))
}

fn check_name(field: &'static str, text: Option<&OsText>) -> Result<(), Fault> {
    let Some(text) = text else { return Ok(()) };
    check_text(field, text)?;
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(Fault(field, format!("takes 1 to {MAX_KEY} bytes, this has {}", text.len())));
    }
    Ok(())
}

/// System calls end strings at a NUL.
pub(super) fn check_text(field: &'static str, text: &OsText) -> Result<(), Fault> {
    if text.has_nul() {
        Err(Fault(field, format!("{text:?} holds a NUL character, which no program can be handed")))
    } else {
        Ok(())
    }
}

fn is_absolute(path: &OsText) -> bool {
    path.as_escaped().starts_with('/')
}

pub(super) fn duration(field: &'static str, seconds: Option<f64>) -> Result<Option<Duration>, Fault> {
    seconds.map(pool_proto::text::seconds).transpose().map_err(|reason| Fault(field, reason))
}

#[cfg(test)]
mod tests {
    use pool_proto::nouns::{IfExists, Limit};

    use super::*;

    fn admit(job: Job) -> Result<Arc<Work>, Refusal> {
        Admission::new(Account::default()).admit(job, 3, &Config::default(), |name| {
            (name == DEFAULT_POOL).then(|| (Arc::from(name), false))
        })
    }

    fn job() -> Job {
        Job { argv: vec!["true".into()], ..Job::default() }
    }

    #[test]
    fn a_bare_command_gets_a_minimal_setting() {
        let work = admit(job()).unwrap();
        assert!(is_absolute(&work.cwd));
        assert_eq!(work.environment.variables["PATH"], *DEFAULT_PATH);
        assert_eq!(work.environment.umask, DEFAULT_UMASK);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(MAX_KEY + 1);
        let limits = |limits| Job { limits: Some(limits), ..job() };
        let resource = |name: &str, limit| {
            limits(Limits {
                resources: Some(BTreeMap::from([(name.to_owned(), limit)])),
                ..Limits::default()
            })
        };
        let faults: [(&str, Job); 34] = [
            ("argv", Job::default()),
            ("argv", Job { argv: vec![OsText::default()], ..job() }),
            ("argv", Job { argv: vec!["echo".into(), "a\0b".into()], ..job() }),
            ("cwd", Job { cwd: Some("src".into()), ..job() }),
            ("env", Job { env: Some(BTreeMap::from([("A=B".into(), OsText::default())])), ..job() }),
            ("umask", Job { umask: Some(0o1000), ..job() }),
            ("timeout_s", Job { timeout_s: Some(-1.0), ..job() }),
            ("timeout_s", Job { timeout_s: Some(0.0), ..job() }),
            ("timeout_s", Job { timeout_s: Some(1.8e19), ..job() }),
            ("kill_after_s", Job { kill_after_s: Some(f64::INFINITY), ..job() }),
            ("backoff_s", Job { backoff_s: Some(-1.0), ..job() }),
            ("jitter", Job { jitter: Some(1.5), ..job() }),
            ("retry_on_exit", Job { retry_on_exit: Some("75".into()), ..job() }),
            ("retry_on_exit", Job { retries: Some(1), retry_on_exit: Some("x".into()), ..job() }),
            (
                "no_retry_on_exit",
                Job {
                    retries: Some(1),
                    retry_on_exit: Some("1".into()),
                    no_retry_on_exit: Some("2".into()),
                    ..job()
                },
            ),
            ("deadline_s", Job { deadline_s: Some(0.0), ..job() }),
            ("start_within_s", Job { start_within_s: Some(0.0), ..job() }),
            ("deadline_s", Job { deadline_s: Some(f64::NAN), ..job() }),
            ("on_done", Job { on_done: Some(vec![" ".into()]), ..job() }),
            ("name", Job { name: Some("\0".into()), ..job() }),
            ("key", Job { key: Some(OsText::default()), ..job() }),
            ("key", Job { key: Some(long.as_str().into()), ..job() }),
            ("key", Job { key: Some("k".into()), tie: Some("client".into()), ..job() }),
            ("round", Job { key: Some("k".into()), round: Some(long.clone()), ..job() }),
            ("round", Job { round: Some("r".into()), ..job() }),
            ("limits", limits(Limits { nice: Some(20), ..Limits::default() })),
            ("limits", limits(Limits { cpus: Some("0-".into()), ..Limits::default() })),
            ("limits", resource("RLIMIT_CPU", Limit::default())),
            ("limits", resource("cpu", Limit { soft: None, hard: Some(1) })),
            ("limits", resource("cpu", Limit { soft: Some(2), hard: Some(1) })),
            ("unique", Job { unique: Some(OsText::default()), ..job() }),
            ("unique", Job { unique: Some(long.as_str().into()), ..job() }),
            ("unique", Job { unique: Some("u".into()), tie: Some("client".into()), ..job() }),
            ("if_exists", Job { if_exists: Some(IfExists::Queue), ..job() }),
        ];
        for (wanted, job) in faults {
            match admit(job) {
                Err(Refusal::InvalidJob { index: 3, field, .. }) => assert_eq!(field, wanted),
                other => panic!("{wanted}: {other:?}"),
            }
        }
        let refusal = admit(Job { pool: Some("gpu".into()), ..job() }).unwrap_err();
        assert_eq!(refusal, Refusal::NoSuchPool { pool: "gpu".into() });
    }

    #[test]
    fn limits_as_our_own_are_nothing_to_keep() {
        let limit = |soft| Limit { soft: Some(soft), hard: None };
        let resources = |all: &[(&str, u64)]| {
            Some(all.iter().map(|&(name, soft)| (name.to_owned(), limit(soft))).collect())
        };
        let own = Limits {
            memory_bytes: None,
            nice: Some(0),
            cpus: Some("0-3".to_owned()),
            resources: resources(&[("core", 0), ("nofile", 1024)]),
        };
        let mut admission = Admission::new(Account { limits: own.clone(), ..Account::default() });
        let mut kept = |limits: Limits, method: Option<&str>| {
            let argv = if method.is_some() { Vec::new() } else { job().argv };
            let job = Job { limits: Some(limits), argv, method: method.map(str::to_owned), ..Job::default() };
            let pool = |name: &str| Some((Arc::from(name), method.is_some()));
            admission.admit(job, 0, &Config::default(), pool).unwrap().environment.limits.clone()
        };

        assert_eq!(kept(own.clone(), None), Limits::default());
        assert_eq!(
            kept(Limits { cpus: Some("3,0-2,5000".to_owned()), ..own.clone() }, None),
            Limits::default()
        );
        assert_eq!(kept(Limits { cpus: Some("5000".to_owned()), ..own.clone() }, None), Limits::default());
        let other = Limits {
            memory_bytes: None,
            nice: Some(5),
            cpus: Some("1".to_owned()),
            resources: resources(&[("core", 0), ("nofile", 64), ("cpu", 9)]),
        };
        assert_eq!(
            kept(other.clone(), None),
            Limits { resources: resources(&[("nofile", 64), ("cpu", 9)]), ..other.clone() }
        );
        assert_eq!(kept(other, Some("square")), Limits::default(), "a program runs with ours");
    }

    #[test]
    fn limits_of_a_job_stand_before_those_of_its_pool_and_these_before_the_submitters() {
        let resource = |name: &str, soft| {
            Some(BTreeMap::from([(name.to_owned(), Limit { soft: Some(soft), hard: Some(soft) })]))
        };
        let own = Limits { nice: Some(0), ..Limits::default() };
        let mut admission = Admission::new(Account { limits: own, ..Account::default() });
        let text = "[pool.small]\nworkers = 1\nnice = 7\nmem = 4096\nrlimit = { core = 3 }";
        let config = Config::parse(text).unwrap();
        let mut admit = |job: Job| {
            let is_warm = job.method.is_some();
            admission.admit(job, 0, &config, |name| Some((Arc::from(name), is_warm)))
        };
        let inherited =
            Some(Limits { nice: Some(3), resources: resource("nofile", 64), ..Limits::default() });
        let in_pool = Job { pool: Some("small".into()), limits: inherited, ..job() };

        let kept = admit(in_pool.clone()).unwrap().environment.limits.clone();
        assert_eq!((kept.nice, kept.memory_bytes), (Some(7), Some(4096)));
        assert_eq!(kept.resources.unwrap().into_keys().collect::<Vec<_>>(), ["core", "nofile"]);

        let set =
            Limits { nice: Some(0), memory_bytes: Some(8192), resources: resource("core", 5), cpus: None };
        let kept =
            admit(Job { set_limits: Some(set.clone()), ..in_pool }).unwrap().environment.limits.clone();
        assert_eq!((kept.nice, kept.memory_bytes), (Some(0), Some(8192)), "though it is as our own");
        assert_eq!(kept.resources.unwrap()["core"].soft, Some(5));

        let at_fault = |refused: Result<Arc<Work>, Refusal>| match refused {
            Err(Refusal::InvalidJob { field, reason, .. }) => (field, reason),
            other => panic!("{other:?}"),
        };
        let call = Job { method: Some("m".into()), set_limits: Some(set), ..Job::default() };
        let (field, reason) = at_fault(admit(call));
        assert!(field == "set_limits" && reason.contains("the limits of the pool"), "{reason}");
        let faulty = Limits { nice: Some(99), ..Limits::default() };
        assert_eq!(at_fault(admit(Job { set_limits: Some(faulty), ..job() })).0, "set_limits");
    }

    #[test]
    fn jobs_of_one_shell_share_its_environment() {
        let mut admission = Admission::new(Account::default());
        let mut admit = |job| {
            admission
                .admit(job, 0, &Config::default(), |name| Some((Arc::from(name), false)))
                .unwrap()
                .environment
                .clone()
        };
        let shell = Job { env: Some(BTreeMap::from([("A".into(), "1".into())])), ..job() };
        let other = Job { env: Some(BTreeMap::from([("A".into(), "2".into())])), ..job() };
        let (first, second, third) = (admit(shell.clone()), admit(other), admit(shell));
        assert!(Arc::ptr_eq(&first, &third));
        assert!(!Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn defaults_fill_what_is_left_out() {
        let defaults = Job {
            pool: Some("build".into()),
            timeout_s: Some(5.0),
            on_done: Some(vec!["a".into()]),
            ..Job::default()
        };
        let merged = complete(Job { timeout_s: Some(1.0), ..job() }, &defaults);
        assert_eq!(
            (merged.pool.as_deref(), merged.timeout_s, merged.argv.len()),
            (Some("build"), Some(1.0), 1)
        );
        assert_eq!(merged.on_done, Some(vec!["a".into()]));
    }
}
