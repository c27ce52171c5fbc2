//! From options to a job of the protocol.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU32;

use anyhow::bail;
use pool_proto::OsText;
use pool_proto::nouns::{Dependency, Job, Limits, OnDisconnect, TIE_TO_CLIENT};
use pool_proto::own_limits::own_limits;

use super::environment::{cwd, environment, named_variables, own_umask};
use crate::cli::UsageError;
use crate::cli::choices::EnvMode;
use crate::cli::job::{ArrayOptions, CommonOptions, ConditionOptions, JobOptions, LikeOptions, LimitOptions};

/// The job that the options describe, with everything that it takes over from the caller.
///
/// # Errors
/// When the directory or a variable does not exist.
pub fn job_of(options: &JobOptions, argv: Vec<OsText>) -> anyhow::Result<Job> {
    Ok(Job {
        argv,
        pool: options.pool.clone(),
        cwd: Some(cwd(options.cwd.as_deref())?),
        env: Some(environment(&options.env, options.env_mode.unwrap_or(EnvMode::All))?),
        umask: Some(own_umask()),
        limits: Some(own_limits()),
        set_limits: set_limits(&options.limits),
        idle_timeout_s: options.idle_timeout.map(|timeout| timeout.as_secs_f64()),
        slots: options.slots.map(NonZeroU32::get),
        resources: resources(&options.resources)?,
        ..common_of(&options.common)
    })
}

/// What the options change of a job: the members to set, and the variables to set beside those that the job
/// has. Nothing is taken over from the caller but what is named.
///
/// # Errors
/// When the directory or a variable does not exist.
pub fn changes_of(options: &JobOptions, argv: Vec<OsText>) -> anyhow::Result<Changes> {
    let named = named_variables(&options.env)?;
    let (env, set_env) = match options.env_mode {
        Some(mode) => (Some(environment(&options.env, mode)?), BTreeMap::new()),
        None => (None, named),
    };
    let set = Job {
        argv,
        pool: options.pool.clone(),
        cwd: options.cwd.as_deref().map(|dir| cwd(Some(dir))).transpose()?,
        env,
        set_limits: set_limits(&options.limits),
        idle_timeout_s: options.idle_timeout.map(|timeout| timeout.as_secs_f64()),
        slots: options.slots.map(NonZeroU32::get),
        resources: resources(&options.resources)?,
        ..common_of(&options.common)
    };
    Ok(Changes { set, set_env })
}

/// See [`changes_of`].
#[derive(Debug)]
pub struct Changes {
    pub set: Job,
    pub set_env: BTreeMap<OsText, OsText>,
}

/// How many items of each resource.
fn resources(named: &[(String, u32)]) -> anyhow::Result<Option<BTreeMap<String, u32>>> {
    let mut resources = BTreeMap::new();
    for (name, amount) in named {
        if resources.insert(name.clone(), *amount).is_some() {
            bail!(UsageError(format!("--resource {name} is given twice: say once how many")));
        }
    }
    Ok((!resources.is_empty()).then_some(resources))
}

fn set_limits(options: &LimitOptions) -> Option<Limits> {
    let LimitOptions { mem, nice, rlimit, cpus } = options;
    let resources = (!rlimit.is_empty()).then(|| rlimit.iter().cloned().collect());
    let limits = Limits { nice: *nice, cpus: cpus.clone(), memory_bytes: *mem, resources };
    (!limits.is_empty()).then_some(limits)
}

/// The members that a command and a call have in common.
pub fn common_of(options: &CommonOptions) -> Job {
    let some = |commands: &[OsText]| (!commands.is_empty()).then(|| commands.to_vec());
    let some_labels = |labels: &[String]| (!labels.is_empty()).then(|| labels.to_vec());
    Job {
        name: options.name.clone(),
        timeout_s: options.timeout.map(|timeout| timeout.as_secs_f64()),
        kill_after_s: options.kill_after.map(|grace| grace.as_secs_f64()),
        deadline_s: options.deadline.map(|deadline| deadline.as_secs_f64()),
        start_within_s: options.start_within.map(|within| within.as_secs_f64()),
        on_crash: options.on_crash.map(Into::into),
        priority: options.priority,
        labels: some_labels(&options.labels),
        exclusive: some_labels(&options.exclusive),
        retries: options.retries,
        backoff_s: options.backoff.map(|backoff| backoff.as_secs_f64()),
        jitter: options.jitter,
        retry_on_exit: options.retry_on_exit.clone(),
        no_retry_on_exit: options.no_retry_on_exit.clone(),
        on_done: some(&options.on_done),
        on_success: some(&options.on_success),
        on_failure: some(&options.on_failure),
        ..Job::default()
    }
}

/// The job, with what makes it known as one of several that are alike.
pub fn like(options: &LikeOptions, job: Job) -> Job {
    Job {
        key: options.key.clone(),
        round: options.rerun_failed.then(new_round),
        unique: options.unique.clone(),
        if_exists: options.if_exists.map(Into::into),
        ..job
    }
}

/// The job, with the indices for each of which it is run.
pub fn many(options: &ArrayOptions, job: Job) -> Job {
    Job { array: options.array.clone(), callback_for: options.callback_for.map(Into::into), ..job }
}

/// The job, with what it waits for before it begins.
pub fn conditional(options: &ConditionOptions, job: Job) -> Job {
    let after: Vec<Dependency> = options.after.iter().flat_map(|after| after.each()).copied().collect();
    Job {
        hold: options.hold.then_some(true),
        delay_s: options.delay.map(|delay| delay.as_secs_f64()),
        at: options.at.as_ref().map(|at| at.as_rfc3339().to_owned()),
        after: (!after.is_empty()).then_some(after),
        ..job
    }
}

/// The name of a new round of submitting, which no other poolctl has.
pub fn new_round() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// What becomes of a job when poolctl dies. A tie to the client says the same as `--on-disconnect cancel`.
/// `waits`: poolctl waits for the job, so the job has a client. `which` names the options with which poolctl
/// waits.
///
/// # Errors
/// When the options contradict each other. The message says what to do.
pub fn on_disconnect(
    job: &Job,
    named: OnDisconnect,
    waits: bool,
    which: &str,
) -> anyhow::Result<OnDisconnect> {
    let is_tied = job.tie.as_deref() == Some(TIE_TO_CLIENT);
    let policy = if is_tied { OnDisconnect::Cancel } else { named };

    if policy == OnDisconnect::Cancel && !waits {
        let option = if is_tied { "--tie client" } else { "--on-disconnect cancel" };
        bail!(UsageError(format!("{option} goes {which}: otherwise there is no client to be tied to")));
    }
    let shared = [("--key", job.key.is_some()), ("--unique", job.unique.is_some())];
    if let Some((option, _)) = shared.iter().find(|(_, is_given)| *is_given)
        && policy == OnDisconnect::Cancel
    {
        bail!(UsageError(format!(
            "{option} names a job that others may wait for, too: it goes without --tie client and \
             --on-disconnect cancel"
        )));
    }
    Ok(policy)
}
