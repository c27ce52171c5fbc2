//! What is to be changed of a job that has not begun, and the work that comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{Limits, MAX_LABELS, On, OnCrash};
use pool_proto::{Json, OsText};

use super::{
    After, Capacity, Environment, ExitCodes, JobKind, Labels, NotBefore, Resources, Shortfall, Work,
    array_of_label,
};

/// The members of a job that are to be others; none of them stays as it is. A member within a member is one
/// that a job need not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// The pool, and whether it runs calls and no commands.
    pub pool: Option<(Arc<str>, bool)>,
    pub name: Option<Option<OsText>>,
    /// Of a command. Never empty.
    pub argv: Option<Vec<OsText>>,
    /// Of a call.
    pub method: Option<String>,
    pub params: Option<Option<Json>>,
    pub cwd: Option<OsText>,
    /// All variables.
    pub variables: Option<BTreeMap<OsText, OsText>>,
    /// Variables besides those that the job has, or in place of them.
    pub set_variables: BTreeMap<OsText, OsText>,
    pub umask: Option<u32>,
    /// All limits of a command.
    pub limits: Option<Limits>,
    /// Limits of a command in place of those that it has.
    pub set_limits: Limits,
    pub timeout: Option<Option<Duration>>,
    pub idle_timeout: Option<Option<Duration>>,
    pub kill_after: Option<Duration>,
    /// Counted from the edit, as the two below.
    pub deadline: Option<Option<Duration>>,
    pub start_within: Option<Option<Duration>>,
    pub start: Option<Option<NotBefore>>,
    pub on_crash: Option<OnCrash>,
    pub priority: Option<i32>,
    pub labels: Option<Labels>,
    /// Of a command.
    pub slots: Option<u32>,
    /// Of a command: all resources.
    pub resources: Option<Resources>,
    /// Where slots or resources are to be others: what each pool has, which must do for them.
    pub capacities: Vec<(Arc<str>, Capacity)>,
    /// Labels besides.
    pub add_labels: Labels,
    /// Those of the labels that get a limit of one, where they have none.
    pub exclusive: Labels,
    pub retries: Option<u32>,
    pub backoff: Option<Duration>,
    /// In thousandths.
    pub jitter: Option<u16>,
    pub retry_on: Option<ExitCodes>,
    /// Each job once.
    pub after: Option<Vec<After>>,
    /// The commands of each of these kinds, in place of those that the job has of it.
    pub callbacks: Vec<(On, Vec<OsText>)>,
}

/// Why a job cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is a command, and its pool is to run calls, or a method is named.
    Command,
    /// It is a call, and its pool is to run commands, or a command is named.
    Call,
    /// It is a call, which has one slot and no resources.
    CallNeeds,
    /// It is a call, which has no limits of its own.
    CallLimits,
    /// It is a call, which has no process to be looked at.
    CallIdle,
    /// It is a call without an environment, in which no callback could run.
    CallCallbacks,
    /// It is an array, whose callbacks are those of its elements.
    ElementCallbacks,
    /// Exit codes are named that are retried, and nothing is.
    NoRetries,
    /// It would have so many labels.
    Labels(usize),
    /// It would take more than its pool has.
    TooMuch { pool: Arc<str>, shortfall: Shortfall },
}

impl Edit {
    /// Whether it is about what the job waits for before its first attempt.
    pub fn has_conditions(&self) -> bool {
        self.start.is_some() || self.after.is_some() || self.start_within.is_some()
    }

    /// So many callbacks are new.
    pub fn count_callbacks(&self) -> usize {
        self.callbacks.iter().map(|(_, commands)| commands.len()).sum()
    }

    /// What it takes in memory besides its own size, nearly.
    pub fn bytes(&self) -> usize {
        let text = |text: &OsText| text.len() + size_of::<OsText>();
        let variables = self.variables.iter().flatten().chain(&self.set_variables);
        let commands = self.callbacks.iter().flat_map(|(_, commands)| commands);
        let params = self.params.iter().flatten().map(|params| params.get().len()).sum::<usize>();
        self.argv.iter().flatten().chain(commands).map(text).sum::<usize>()
            + variables.map(|(name, value)| text(name) + text(value)).sum::<usize>()
            + self.after.as_ref().map_or(0, |after| after.len() * size_of::<After>())
            + params
    }

    /// The work of a job as it is kept, changed so.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn apply(&self, work: &Work) -> Result<Work, Unfit> {
        let is_call = work.call().is_some();
        self.fits(is_call)?;
        if is_call && self.count_callbacks() > 0 && work.environment.variables.is_empty() {
            return Err(Unfit::CallCallbacks);
        }

        if work.calls_back_by_element() && !self.callbacks.is_empty() {
            return Err(Unfit::ElementCallbacks);
        }

        let mut new = work.clone();
        match &mut new.kind {
            JobKind::Exec(argv) => self.argv.iter().for_each(|new| argv.clone_from(new)),
            JobKind::Call(call) => {
                self.method.iter().for_each(|new| call.method.clone_from(new));
                if let Some(params) = &self.params {
                    (call.params, call.lost) = (params.clone(), None);
                }
            }
        }
        if let Some(environment) = self.environment(&work.environment) {
            new.environment = Arc::new(environment);
        }
        let labels = self.labels.as_ref().unwrap_or(&work.needs.labels).iter();
        // So many elements of an array run at a time, whatever other labels they have.
        let of_array = work.needs.labels.iter().filter(|label| array_of_label(label).is_some());
        let needs = &mut new.needs;
        needs.labels = labels.chain(self.add_labels.iter()).chain(of_array).cloned().collect();
        needs.slots = self.slots.unwrap_or(needs.slots);
        self.resources.iter().for_each(|resources| needs.resources.clone_from(resources));
        let count = needs.labels.iter().filter(|label| array_of_label(label).is_none()).count();
        if count > MAX_LABELS {
            return Err(Unfit::Labels(count));
        }

        if let Some((pool, _)) = &self.pool {
            new.pool = pool.clone();
        }
        let capacity = self.capacities.iter().find(|(pool, _)| *pool == new.pool);
        if let Some(shortfall) = capacity.and_then(|(_, capacity)| capacity.shortfall(&new.needs)) {
            return Err(Unfit::TooMuch { pool: new.pool, shortfall });
        }
        let Self { name, timeout, idle_timeout, deadline, start_within, .. } = self;
        new.name = name.clone().unwrap_or(new.name);
        new.cwd = self.cwd.clone().unwrap_or(new.cwd);
        new.timeout = timeout.unwrap_or(new.timeout);
        new.idle_timeout = idle_timeout.unwrap_or(new.idle_timeout);
        new.kill_after = self.kill_after.unwrap_or(new.kill_after);
        new.deadline = deadline.unwrap_or(new.deadline);
        new.start_within = start_within.unwrap_or(new.start_within);
        new.on_crash = self.on_crash.unwrap_or(new.on_crash);
        new.priority = self.priority.unwrap_or(new.priority);
        new.retries.allowed = self.retries.unwrap_or(new.retries.allowed);
        new.retries.backoff = self.backoff.unwrap_or(new.retries.backoff);
        new.retries.jitter = self.jitter.unwrap_or(new.retries.jitter);
        new.retries.on = self.retry_on.unwrap_or(new.retries.on);
        let names_codes = self.retry_on.is_some_and(|codes| codes != ExitCodes::ALL);
        if names_codes && new.retries.allowed == 0 {
            return Err(Unfit::NoRetries);
        }
        Ok(new)
    }

    fn fits(&self, is_call: bool) -> Result<(), Unfit> {
        let is_warm = self.pool.as_ref().map(|&(_, is_warm)| is_warm);
        if is_call {
            let needs_more = self.slots.is_some_and(|slots| slots > 1)
                || self.resources.as_ref().is_some_and(|resources| !resources.is_empty());
            let has_limits = self.limits.is_some() || !self.set_limits.is_empty();
            match () {
                () if is_warm == Some(false) || self.argv.is_some() => Err(Unfit::Call),
                () if needs_more => Err(Unfit::CallNeeds),
                () if has_limits => Err(Unfit::CallLimits),
                () if self.idle_timeout.is_some_and(|timeout| timeout.is_some()) => Err(Unfit::CallIdle),
                () => Ok(()),
            }
        } else if is_warm == Some(true) || self.method.is_some() || self.params.is_some() {
            Err(Unfit::Command)
        } else {
            Ok(())
        }
    }

    /// The environment, where it is another one.
    fn environment(&self, old: &Environment) -> Option<Environment> {
        let is_same = self.variables.is_none()
            && self.set_variables.is_empty()
            && self.umask.is_none()
            && self.limits.is_none()
            && self.set_limits.is_empty();
        if is_same {
            return None;
        }
        let mut variables = self.variables.as_ref().unwrap_or(&old.variables).clone();
        variables.extend(self.set_variables.clone());
        let limits = self.limits.as_ref().unwrap_or(&old.limits);
        let limits = self.set_limits.clone().or(limits);
        Some(Environment { variables, umask: self.umask.unwrap_or(old.umask), limits })
    }
}
