//! Editing what a job is to do, before it begins, and telling what it is to do: `Edit`, `Definition`. What a
//! client names is checked here as far as that goes without the job; whether it suits the job is the
//! engine's to say, in the transaction of the edit.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::Refusal;
use pool_proto::methods::{self, Defined, Empty};
use pool_proto::nouns::{ArraySpec, Dependency, Job, Limits, On};
use pool_proto::text::rfc3339;

use super::Desk;
use super::admission::{self, Fault};
use super::limits::check_exclusive_labels;
use super::request::Open;
use super::sentence;
use crate::core::{self, Core};
use crate::engine::{Definition, NotEdited, Question};
use crate::job::{
    Edit, ExitCodes, JobId, JobKind, Labels, Needs, NotBefore, RequestId, Resources, Work, array_of_label,
};
use crate::start::config::{permille, retry_on};

impl Desk {
    pub(super) fn on_edit(&mut self, request: RequestId, asked: methods::Edit, core: &Core) {
        let id = JobId(asked.id);
        match self.check_edit(asked, core) {
            Ok(edit) => {
                self.requests.insert(request, Open::Editing);
                self.command(core::Event::Edit { request, id, edit: Arc::new(edit) });
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    fn check_edit(&self, asked: methods::Edit, core: &Core) -> Result<Edit, Refusal> {
        let invalid =
            |Fault(field, reason)| Refusal::InvalidJob { index: 0, field: field.to_owned(), reason };
        let set = asked.set.unwrap_or_default();
        let pool = match &set.pool {
            Some(name) => {
                Some(core.open_pool(name).ok_or_else(|| Refusal::NoSuchPool { pool: name.clone() })?)
            }
            None => None,
        };
        if let Some((pool, _)) = pool.as_ref().filter(|(pool, _)| core.draining(pool).is_some()) {
            return Err(Refusal::PoolDraining { pool: pool.to_string() });
        }
        never_edited(&set).map_err(invalid)?;
        let mut edit = edit_of(set).map_err(invalid)?;
        edit.pool = pool;
        edit.limits = match edit.limits.take() {
            Some(limits) => Some(self.admission.beside_own(&limits).map_err(invalid)?),
            None => None,
        };
        admission::check_variables(asked.set_env.iter().flatten()).map_err(invalid)?;
        edit.set_variables = asked.set_env.unwrap_or_default();
        for name in asked.unset.iter().flatten() {
            unset(&mut edit, name).map_err(invalid)?;
        }
        if let Some((name, _)) = &edit.pool {
            let (slots, resources) = (edit.slots.unwrap_or(1), edit.resources.clone().unwrap_or_default());
            let needs = Needs { labels: Labels::NONE, slots, resources };
            admission::check_fit(name, &needs, 0, core.capacity_of(name))?;
        }
        if edit.slots.is_some() || edit.resources.is_some() {
            edit.capacities = core.capacities();
        }
        edit.exclusive = check_exclusive_labels(0, &edit.exclusive, core)?;
        Ok(edit)
    }

    /// The job is another one, or is not.
    pub(super) fn on_edited(&mut self, request: RequestId, id: JobId, edited: Result<(), NotEdited>) {
        match edited {
            _ if self.requests.get(request).is_none() => {}
            Ok(()) => self.reply(request, Empty {}, true),
            Err(NotEdited::Missing) => self.refuse(request, Refusal::NoSuchJob { id: id.0, pruned: None }),
            Err(why_not) => {
                let state = match why_not {
                    NotEdited::Beyond(state) => Some(state.as_str().to_owned()),
                    _ => None,
                };
                let reason = sentence::not_edited(id, why_not);
                self.refuse(request, Refusal::NotEdited { id: id.0, state, reason });
            }
        }
    }

    pub(super) fn on_definition(&mut self, request: RequestId, id: JobId) {
        self.requests.insert(request, Open::Defining);
        self.ask(Question::Definition { request, id });
    }

    pub(super) fn on_defined(&mut self, request: RequestId, id: JobId, definition: Option<Definition>) {
        match definition {
            _ if self.requests.get(request).is_none() => {}
            None => self.refuse_missing(request, &[id]),
            Some(Definition { work, state, attempts, may_lack_params }) => {
                let (job, params_pruned) = (job_of(&work), may_lack_params);
                self.reply(request, Defined { job, state, attempts, params_pruned }, true);
            }
        }
    }
}

/// What stays as it was submitted.
fn never_edited(set: &Job) -> Result<(), Fault> {
    let anew = "it stays as it was submitted: cancel the job, and submit another one";
    let never = [
        ("durability", set.durability.is_some(), anew),
        ("key", set.key.is_some() || set.round.is_some(), anew),
        ("unique", set.unique.is_some() || set.if_exists.is_some(), anew),
        ("stdin", set.stdin.is_some() || set.input.is_some(), anew),
        ("merge", set.merge.is_some(), anew),
        ("tie", set.tie.is_some(), anew),
        ("array", set.array.is_some() || set.callback_for.is_some(), anew),
        ("hold", set.hold.is_some(), "`poolctl hold` holds a job, `poolctl release` lets it go"),
    ];
    match never.into_iter().find(|&(_, is_set, _)| is_set) {
        Some((field, _, why)) => Err(Fault(field, why.to_owned())),
        None => Ok(()),
    }
}

/// All but the pool.
fn edit_of(set: Job) -> Result<Edit, Fault> {
    let argv = (!set.argv.is_empty()).then_some(set.argv.as_slice());
    argv.map(admission::check_argv).transpose()?;
    let method = set.method.as_deref().map(admission::check_method).transpose()?;
    let params = set.params.clone().map(admission::check_params).transpose()?;
    if argv.is_some() && (method.is_some() || params.is_some()) {
        return Err(Fault("method", "a job is a command or a call: leave argv or method out".to_owned()));
    }
    if let Some(cwd) = &set.cwd {
        admission::check_cwd(cwd)?;
    }
    if let Some(name) = &set.name {
        admission::check_text("name", name)?;
    }
    if let Some(umask) = set.umask {
        admission::check_umask(umask)?;
    }
    admission::check_variables(set.env.iter().flatten())?;
    if let Some(why) = set.set_limits.as_ref().and_then(Limits::fault) {
        return Err(Fault("set_limits", why));
    }
    let exclusive = admission::labels("exclusive", set.exclusive.as_deref(), &Labels::NONE)?;
    let labels = set.labels.as_deref().map(|named| admission::labels("labels", Some(named), &Labels::NONE));
    let jitter = set.jitter.map(permille).transpose().map_err(|why| Fault("jitter", why))?;
    let codes = retry_on(set.retry_on_exit.as_deref(), set.no_retry_on_exit.as_deref());
    let codes = codes.map_err(|(field, why)| Fault(field, why))?;
    let conditions = admission::conditions(&set)?.unwrap_or_default();
    let mut callbacks = Vec::new();
    for (field, on, commands) in [
        ("on_done", On::Done, &set.on_done),
        ("on_success", On::Success, &set.on_success),
        ("on_failure", On::Failure, &set.on_failure),
    ] {
        for command in commands.iter().flatten() {
            admission::check_callback(field, command)?;
        }
        callbacks.extend(commands.clone().map(|commands| (on, commands)));
    }

    Ok(Edit {
        pool: None,
        name: set.name.map(Some),
        argv: argv.map(<[_]>::to_vec),
        method,
        params: params.map(Some),
        cwd: set.cwd,
        variables: set.env,
        set_variables: Default::default(),
        umask: set.umask,
        limits: set.limits,
        set_limits: set.set_limits.unwrap_or_default(),
        timeout: greater_than_zero("timeout_s", set.timeout_s)?,
        idle_timeout: greater_than_zero("idle_timeout_s", set.idle_timeout_s)?,
        kill_after: admission::duration("kill_after_s", set.kill_after_s)?,
        deadline: greater_than_zero("deadline_s", set.deadline_s)?,
        start_within: greater_than_zero("start_within_s", set.start_within_s)?,
        start: conditions.start.map(Some),
        on_crash: set.on_crash,
        priority: set.priority,
        labels: labels.transpose()?,
        add_labels: exclusive.clone(),
        exclusive,
        slots: set.slots.map(admission::check_slots).transpose()?,
        resources: set.resources.as_ref().map(admission::resources).transpose()?,
        capacities: Vec::new(),
        retries: set.retries,
        backoff: admission::duration("backoff_s", set.backoff_s)?,
        jitter,
        retry_on: codes,
        after: set.after.map(|_| conditions.after),
        callbacks,
    })
}

fn greater_than_zero(field: &'static str, seconds: Option<f64>) -> Result<Option<Option<Duration>>, Fault> {
    match admission::duration(field, seconds)? {
        Some(duration) if duration.is_zero() => Err(Fault(field, "must be greater than 0".to_owned())),
        duration => Ok(duration.map(Some)),
    }
}

/// The member of that name is left out from now on.
fn unset(edit: &mut Edit, name: &str) -> Result<(), Fault> {
    let mut callbacks = |on| {
        edit.callbacks.retain(|&(other, _)| other != on);
        edit.callbacks.push((on, Vec::new()));
    };
    match name {
        "name" => edit.name = Some(None),
        "params" => edit.params = Some(None),
        "limits" => edit.limits = Some(Limits::default()),
        "timeout_s" => edit.timeout = Some(None),
        "idle_timeout_s" => edit.idle_timeout = Some(None),
        "deadline_s" => edit.deadline = Some(None),
        "start_within_s" => edit.start_within = Some(None),
        "delay_s" | "at" => edit.start = Some(None),
        "after" => edit.after = Some(Vec::new()),
        "labels" => edit.labels = Some(Labels::NONE),
        "slots" => edit.slots = Some(1),
        "resources" => edit.resources = Some(Resources::NONE),
        "priority" => edit.priority = Some(0),
        "retries" => edit.retries = Some(0),
        "retry_on_exit" | "no_retry_on_exit" => edit.retry_on = Some(ExitCodes::ALL),
        "on_done" => callbacks(On::Done),
        "on_success" => callbacks(On::Success),
        "on_failure" => callbacks(On::Failure),
        _ => {
            let why = format!("{name:?} cannot be left out: set it to another value");
            return Err(Fault("unset", why));
        }
    }
    Ok(())
}

/// The job of the protocol that would be admitted as this work.
fn named_labels(labels: &Labels) -> Option<Vec<String>> {
    let named = labels.iter().filter(|label| array_of_label(label).is_none());
    named.cloned().collect::<Labels>().to_names()
}

fn job_of(work: &Work) -> Job {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    let commands = |on| {
        let commands = work.callbacks.iter().filter(|callback| callback.on == on);
        let commands: Vec<_> = commands.map(|callback| callback.command.clone()).collect();
        (!commands.is_empty()).then_some(commands)
    };
    let (argv, method, params) = match &work.kind {
        JobKind::Exec(argv) => (argv.clone(), None, None),
        JobKind::Call(call) => (Vec::new(), Some(call.method.clone()), call.params.clone()),
    };
    let is_call = method.is_some();
    let conditions = work.conditions.as_deref();
    let (at, delay_s) = match conditions.and_then(|conditions| conditions.start) {
        Some(NotBefore::At { us }) => (Some(rfc3339(us)), None),
        Some(NotBefore::Delay(delay)) => (None, Some(delay.as_secs_f64())),
        None => (None, None),
    };
    let after: Vec<Dependency> =
        work.after().iter().map(|after| Dependency { id: after.id.0, on: Some(after.on) }).collect();
    let environment = &work.environment;
    Job {
        argv,
        method,
        params,
        name: work.name.clone(),
        pool: Some(work.pool.to_string()),
        cwd: Some(work.cwd.clone()),
        env: (!is_call || !environment.variables.is_empty()).then(|| environment.variables.clone()),
        umask: (!is_call).then_some(environment.umask),
        set_limits: (!environment.limits.is_empty()).then(|| environment.limits.clone()),
        stdin: work.stdin.clone(),
        input: work.input,
        merge: work.merge.then_some(true),
        timeout_s: seconds(work.timeout),
        idle_timeout_s: seconds(work.idle_timeout),
        kill_after_s: seconds(Some(work.kill_after)),
        deadline_s: seconds(work.deadline),
        start_within_s: seconds(work.start_within),
        hold: conditions.is_some_and(|conditions| conditions.hold).then_some(true),
        delay_s,
        at,
        after: (!after.is_empty()).then_some(after),
        tie: work.tie.map(|tie| tie.to_string()),
        on_crash: Some(work.on_crash),
        priority: Some(work.priority),
        labels: named_labels(&work.needs.labels),
        slots: (work.needs.slots > 1).then_some(work.needs.slots),
        resources: work.needs.resources.to_counts(),
        array: work
            .plan()
            .map(|plan| ArraySpec { indices: plan.indices.clone(), at_once: plan.at_once }.to_string()),
        callback_for: work.plan().map(|plan| plan.callback_for),
        retries: Some(work.retries.allowed),
        backoff_s: seconds(Some(work.retries.backoff)),
        jitter: Some(f64::from(work.retries.jitter) / 1000.0),
        retry_on_exit: work.retries.on.as_text(),
        unique: work.unique.as_ref().map(|unique| unique.name.clone()),
        on_done: commands(On::Done),
        on_success: commands(On::Success),
        on_failure: commands(On::Failure),
        ..Job::default()
    }
}
