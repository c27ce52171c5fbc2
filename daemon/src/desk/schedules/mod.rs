//! Schedules: what is submitted again and again, by the wall's clock. The desk is its own client here: when a
//! time has come it submits a job as a client would ([`firing`]), and notes afterwards that the time is over.
//! Should poold die in between, the next start submits the job once more, under the same key, which is the
//! schedule's and the time's own; so each time has one job.
//!
//! A change is in force from the moment on in which it is kept. What becomes of the schedule meanwhile, as a
//! time that comes, is in force at once, and kept when the change is confirmed: so neither undoes the other.

mod firing;

use std::cell::Cell;
use std::collections::BTreeMap;

use pool_proto::Refusal;
use pool_proto::methods::{
    AddSchedule, Empty, MAX_SCHEDULES, RemoveSchedules, RunSchedule, Schedules, SchedulesListed,
    SetSchedulesPaused,
};
use pool_proto::nouns::{Firing, Job, Schedule, ScheduleState, TIE_TO_CLIENT};
use pool_proto::text::{rfc3339_short, seconds};

use super::request::Open;
use super::submit::Submission;
use super::{ConnectionId, Desk, Effect};
use crate::core::Core;
use crate::engine::Change;
use crate::job::{KeptSchedule, Pause, RequestId, Timing};
use crate::start::config::{self, Config};
pub use firing::FiringUnderWay;

/// What the keys and the unique names of schedules begin with.
pub const RESERVED: &str = "schedule:";

/// So many times that are to come are told.
const NEXT_TOLD: usize = 3;

/// A definition takes no more than this, in bytes of JSON.
const MAX_DEFINITION: usize = 1 << 20;

/// All schedules.
#[derive(Debug, Default)]
pub struct AllSchedules {
    by_name: BTreeMap<String, Entry>,
    /// When the first of them is next to be looked at; none while that is not known.
    first: Cell<Option<Option<i64>>>,
    /// The next request of the desk's own, counted down from the greatest number.
    own_requests: u64,
}

/// A schedule.
#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    timing: Timing,
    is_configured: bool,
    kept: KeptSchedule,
    /// When something is next to be done about it, in microseconds since 1970: a time comes, or a firing that
    /// has failed is tried again. None while a firing is under way.
    next_us: Option<i64>,
    /// Why the latest time brought no job.
    fault: Option<String>,
}

/// A change of schedules that the engine has not confirmed.
#[derive(Debug)]
pub struct ScheduleChange {
    of: Vec<OneChange>,
    /// Its client has gone. The change is made all the same.
    pub is_forsaken: bool,
}

/// A change of one schedule: what is to become of it, whatever else does until that is in force.
#[derive(Debug)]
struct OneChange {
    name: String,
    wish: Wish,
    /// What the engine was given to keep: the schedule as it was then, with the change.
    kept: Option<KeptSchedule>,
}

#[derive(Debug)]
enum Wish {
    Define(Box<Schedule>, KeptSchedule),
    Pause(Pause),
    /// Its times up to that moment are left out.
    Resume {
        over_us: i64,
    },
    Remove,
}

impl Wish {
    /// What is to be kept of a schedule of which this is kept now.
    fn kept(&self, now: Option<&KeptSchedule>) -> Option<KeptSchedule> {
        match self {
            Self::Define(_, begun) => Some(KeptSchedule {
                pause: now.and_then(|now| now.pause),
                last: now.and_then(|now| now.last),
                ..begun.clone()
            }),
            &Self::Pause(pause) => Some(KeptSchedule { pause: Some(pause), ..now?.clone() }),
            &Self::Resume { over_us } => {
                let now = now?;
                Some(KeptSchedule { pause: None, over_us: over_us.max(now.over_us), ..now.clone() })
            }
            Self::Remove => None,
        }
    }
}

impl Entry {
    fn new(schedule: Schedule, kept: KeptSchedule, is_configured: bool) -> Result<Self, Refusal> {
        let timing = timing_of(&schedule)?;
        let mut entry = Self { schedule, timing, is_configured, kept, next_us: None, fault: None };
        entry.look_ahead();
        Ok(entry)
    }

    fn look_ahead(&mut self) {
        self.next_us = self.next_after(self.kept.over_us).filter(|_| self.kept.pause.is_none());
    }

    fn next_after(&self, us: i64) -> Option<i64> {
        self.timing.next_after(us, self.kept.from_us)
    }

    fn told(&self, in_full: bool, now_us: i64) -> ScheduleState {
        let mut schedule = self.schedule.clone();
        if !in_full {
            (schedule.job.env, schedule.job.limits) = (None, None);
        }
        let mut at = self.kept.over_us.max(now_us);
        let mut next = || {
            at = self.next_after(at)?;
            Some(rfc3339_short(at))
        };
        let pause = self.kept.pause;
        ScheduleState {
            schedule,
            configured: self.is_configured,
            paused: pause.is_some(),
            paused_since: pause.map(|pause| rfc3339_short(pause.since_us)),
            paused_by: pause.map(|pause| pause.by.get()),
            last: self.kept.last.map(|last| Firing {
                at: rfc3339_short(last.due_us),
                id: last.job.0,
                skipped: last.is_skipped,
            }),
            next: (0..NEXT_TOLD).map_while(|_| next()).filter(|_| pause.is_none()).collect(),
            fault: self.fault.clone(),
        }
    }
}

impl AllSchedules {
    /// Those that a start has found, and those of the configuration, which has the say where both name one.
    /// Returns what is to be kept of them from now on as well.
    pub fn restored(
        kept: BTreeMap<String, KeptSchedule>,
        config: &Config,
        now_us: i64,
    ) -> (Self, Vec<(String, Option<KeptSchedule>)>) {
        let mut all = Self::default();
        for (name, kept) in kept {
            let schedule = match kept.definition.as_deref().map(serde_json::from_str::<Schedule>) {
                Some(Ok(schedule)) => schedule,
                Some(Err(error)) => {
                    tracing::error!(schedule = name, %error, "a schedule cannot be read; remove it and add it anew");
                    continue;
                }
                // The configuration tells.
                None => Schedule { name: name.clone(), ..Schedule::default() },
            };
            all.insert_restored(name, schedule, kept, config);
        }
        let changed = all.configure(config, now_us);
        (all, changed)
    }

    fn insert_restored(&mut self, name: String, schedule: Schedule, kept: KeptSchedule, config: &Config) {
        let schedule = config.schedule.get(&name).map_or(schedule, |of_file| of_file.schedule(&name));
        let is_configured = kept.definition.is_none() || config.schedule.contains_key(&name);
        match Entry::new(schedule, kept, is_configured) {
            Ok(entry) => _ = self.by_name_mut().insert(name, entry),
            // Its time zone may have gone from the system.
            Err(refusal) if !is_configured => {
                tracing::error!(schedule = name, %refusal, "a schedule cannot be kept; remove it and add it anew");
            }
            // The configuration does not have it any more.
            Err(_) => {}
        }
    }

    /// The configuration is this from now on. Returns what is to be kept of that, and forgotten.
    fn configure(&mut self, config: &Config, now_us: i64) -> Vec<(String, Option<KeptSchedule>)> {
        let mut changed = Vec::new();
        for (name, of_file) in &config.schedule {
            let schedule = of_file.schedule(name);
            let kept = match self.by_name.get(name) {
                Some(entry) if entry.is_configured && entry.schedule == schedule => continue,
                Some(entry) => entry.kept.clone(),
                None => {
                    let kept = KeptSchedule::begun(None, now_us);
                    changed.push((name.clone(), Some(kept.clone())));
                    kept
                }
            };
            // The configuration has been checked.
            if let Ok(entry) = Entry::new(schedule, kept, true) {
                self.by_name_mut().insert(name.clone(), entry);
            }
        }

        let gone =
            |(name, entry): &(&String, &Entry)| entry.is_configured && !config.schedule.contains_key(*name);
        let gone: Vec<String> = self.by_name.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            let Some(entry) = self.by_name_mut().remove(&name) else { continue };
            // One that was added with the same name is in force again.
            let added = entry.kept.definition.as_deref().and_then(|text| serde_json::from_str(text).ok());
            match added.and_then(|added| Entry::new(added, entry.kept, false).ok()) {
                Some(entry) => _ = self.by_name_mut().insert(name, entry),
                None => changed.push((name, None)),
            }
        }
        changed
    }

    /// When something is next to be done, in microseconds since 1970.
    pub fn next_us(&self) -> Option<i64> {
        let least = || self.by_name.values().filter_map(|entry| entry.next_us).min();
        let first = self.first.get().unwrap_or_else(least);
        self.first.set(Some(first));
        first
    }

    /// The schedules, to be changed.
    fn by_name_mut(&mut self) -> &mut BTreeMap<String, Entry> {
        self.first.set(None);
        &mut self.by_name
    }

    pub(super) fn take_request(&mut self) -> RequestId {
        let request = RequestId(u64::MAX - self.own_requests);
        self.own_requests += 1;
        request
    }
}

impl KeptSchedule {
    /// One that begins now.
    fn begun(definition: Option<String>, now_us: i64) -> Self {
        Self { definition, from_us: now_us, over_us: now_us, last: None, pause: None }
    }
}

impl Desk {
    pub(super) fn on_add_schedule(&mut self, request: RequestId, add: AddSchedule, core: &Core) {
        match self.check_schedule(&add, core) {
            Ok(None) => self.reply(request, Empty {}, true),
            Ok(Some(kept)) => {
                let AddSchedule { schedule, .. } = add;
                let name = schedule.name.clone();
                self.change_schedules(request, vec![(name, Wish::Define(Box::new(schedule), kept))]);
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// What is to be kept of it, where it is new. None if it is there already.
    fn check_schedule(&mut self, add: &AddSchedule, core: &Core) -> Result<Option<KeptSchedule>, Refusal> {
        let AddSchedule { schedule, replace } = add;
        let invalid =
            |field: &str, reason: String| Refusal::InvalidSchedule { field: field.to_owned(), reason };
        let name = || schedule.name.clone();
        if let Some(why) = config::name_rule("a schedule", &schedule.name) {
            return Err(invalid("name", why));
        }
        timing_of(schedule)?;
        check_job(&schedule.job)?;
        if self.scheduled_work(schedule, self.now.wall_us, core)?.volatile {
            let reason = "a call that is kept in memory alone cannot be scheduled: use a pool of durability \
                          \"disk\"";
            return Err(invalid("durability", reason.to_owned()));
        }

        let known = self.schedules.by_name.get(&schedule.name);
        if known.is_some_and(|known| known.is_configured) {
            return Err(Refusal::ScheduleConfigured { schedule: name() });
        }
        if known.is_some_and(|known| known.schedule == *schedule) {
            return Ok(None);
        }
        if known.is_some() && *replace != Some(true) || self.is_schedule_changing(&schedule.name) {
            return Err(Refusal::ScheduleExists { schedule: name() });
        }
        if known.is_none() && self.schedules.by_name.len() >= MAX_SCHEDULES {
            let reason = format!("{MAX_SCHEDULES} schedules are the most: remove some first");
            return Err(invalid("name", reason));
        }
        let definition = serde_json::to_string(schedule).expect("a schedule has string keys only");
        if definition.len() > MAX_DEFINITION {
            let reason =
                format!("it takes more than {MAX_DEFINITION} bytes: pass on less of the environment");
            return Err(invalid("job", reason));
        }
        Ok(Some(KeptSchedule::begun(Some(definition), self.now.wall_us)))
    }

    pub(super) fn on_schedules(&mut self, request: RequestId, asked: &Schedules) {
        let now_us = self.now.wall_us;
        let schedules = match &asked.name {
            None => self.schedules.by_name.values().map(|entry| entry.told(false, now_us)).collect(),
            Some(name) => match self.schedules.by_name.get(name) {
                Some(entry) => vec![entry.told(true, now_us)],
                None => return self.refuse(request, Refusal::NoSuchSchedule { schedule: name.clone() }),
            },
        };
        self.reply(request, SchedulesListed { schedules }, true);
    }

    pub(super) fn on_set_schedules_paused(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        asked: SetSchedulesPaused,
    ) {
        let by = self.clients.get(&connection).expect("a client connects before it asks").uid;
        let now_us = self.now.wall_us;
        let mut to = Vec::new();
        for name in asked.names {
            let entry = match self.schedules.by_name.get(&name) {
                Some(entry) => entry,
                None => return self.refuse(request, Refusal::NoSuchSchedule { schedule: name }),
            };
            if entry.kept.pause.is_some() == asked.paused {
                continue;
            }
            to.push(match asked.paused {
                true => (name, Wish::Pause(Pause { since_us: now_us, by })),
                // What its times were meanwhile is left out.
                false => (name, Wish::Resume { over_us: now_us }),
            });
        }
        self.change_schedules(request, to);
    }

    pub(super) fn on_remove_schedules(&mut self, request: RequestId, remove: RemoveSchedules) {
        let mut to = Vec::new();
        for schedule in remove.names {
            match self.schedules.by_name.get(&schedule) {
                None => return self.refuse(request, Refusal::NoSuchSchedule { schedule }),
                Some(entry) if entry.is_configured => {
                    return self.refuse(request, Refusal::ScheduleConfigured { schedule });
                }
                Some(_) => to.push((schedule, Wish::Remove)),
            }
        }
        self.change_schedules(request, to);
    }

    pub(super) fn on_run_schedule(&mut self, request: RequestId, run: RunSchedule, core: &Core) {
        let Some(entry) = self.schedules.by_name.get(&run.name) else {
            return self.refuse(request, Refusal::NoSuchSchedule { schedule: run.name });
        };
        let job = firing::unkeyed_job_of(&entry.schedule);
        match self.check_output_room().and_then(|()| self.admit(job, core)) {
            Ok(work) => self.submit(request, vec![work], Submission::of_one_unattended()),
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    fn change_schedules(&mut self, request: RequestId, wishes: Vec<(String, Wish)>) {
        if wishes.is_empty() {
            return self.reply(request, Empty {}, true);
        }
        let of: Vec<OneChange> = wishes
            .into_iter()
            .map(|(name, wish)| OneChange { kept: wish.kept(self.kept_schedule(&name)), name, wish })
            .collect();
        let schedules = of.iter().map(|one| (one.name.clone(), one.kept.clone())).collect();
        self.requests.insert(request, Open::ChangingSchedules(ScheduleChange { of, is_forsaken: false }));
        self.effects.push(Effect::Change(Change::SetSchedules { request, schedules }));
    }

    fn kept_schedule(&self, name: &str) -> Option<&KeptSchedule> {
        self.schedules.by_name.get(name).map(|entry| &entry.kept)
    }

    fn is_schedule_changing(&self, name: &str) -> bool {
        let changes = |open: &Open| match open {
            Open::ChangingSchedules(change) => change.of.iter().any(|one| one.name == name),
            _ => false,
        };
        self.requests.any(changes)
    }

    /// A change is kept.
    pub(super) fn on_schedules_kept(&mut self, request: RequestId) {
        let Some(Open::ChangingSchedules(change)) = self.requests.remove(request) else { return };
        let mut stale = Vec::new();
        for OneChange { name, wish, kept } in change.of {
            let now = wish.kept(self.kept_schedule(&name));
            if now != kept {
                stale.push((name.clone(), now.clone()));
            }
            self.put_schedule(name, wish, now);
        }
        self.keep_schedules(stale);
        if !change.is_forsaken {
            self.reply(request, Empty {}, true);
        }
    }

    /// A change could not be kept. What has become of its schedules meanwhile is to be.
    pub(super) fn on_schedules_refused(&mut self, request: RequestId, refusal: Refusal) {
        let Some(Open::ChangingSchedules(change)) = self.requests.get(request) else { return };
        let names: Vec<String> = change.of.iter().map(|one| one.name.clone()).collect();
        self.refuse(request, refusal);
        let now = names.into_iter().map(|name| (name.clone(), self.kept_schedule(&name).cloned())).collect();
        self.keep_schedules(now);
    }

    fn put_schedule(&mut self, name: String, wish: Wish, kept: Option<KeptSchedule>) {
        let by_name = self.schedules.by_name_mut();
        let known = by_name.remove(&name);
        let Some(kept) = kept else { return };
        let (known, is_configured) = known.map(|known| (known.schedule, known.is_configured)).unzip();
        let is_configured = is_configured.unwrap_or(false);
        let schedule = match (wish, known) {
            // The configuration may have come to name it meanwhile, and has the say.
            (Wish::Define(schedule, _), known) => known.filter(|_| is_configured).unwrap_or(*schedule),
            (Wish::Pause(_) | Wish::Resume { .. } | Wish::Remove, Some(known)) => known,
            (Wish::Pause(_) | Wish::Resume { .. } | Wish::Remove, None) => return,
        };
        // It has been checked.
        if let Ok(entry) = Entry::new(schedule, kept, is_configured) {
            by_name.insert(name, entry);
        }
    }

    /// The configuration is another one.
    pub(super) fn configure_schedules(&mut self) {
        let changed = self.schedules.configure(&self.config, self.now.wall_us);
        self.keep_schedules(changed);
    }

    /// Nobody waits for this. Of a schedule that is being changed it is kept when that is confirmed: otherwise
    /// it would undo the change.
    pub(super) fn keep_schedules(&mut self, mut schedules: Vec<(String, Option<KeptSchedule>)>) {
        schedules.retain(|(name, _)| !self.is_schedule_changing(name));
        if !schedules.is_empty() {
            let request = self.schedules.take_request();
            self.effects.push(Effect::Change(Change::SetSchedules { request, schedules }));
        }
    }
}

fn timing_of(schedule: &Schedule) -> Result<Timing, Refusal> {
    let invalid =
        |(field, reason): (&str, String)| Refusal::InvalidSchedule { field: field.to_owned(), reason };
    let every = schedule.every_s.map(seconds).transpose().map_err(|reason| invalid(("every_s", reason)))?;
    Timing::new(every, schedule.cron.as_deref(), schedule.time_zone.as_deref()).map_err(invalid)
}

/// What the job of a schedule cannot have.
fn check_job(job: &Job) -> Result<(), Refusal> {
    let has = [
        ("key", job.key.is_some(), "each firing has a key of its own"),
        ("round", job.round.is_some(), "each firing has a key of its own"),
        (
            "unique",
            job.unique.is_some(),
            "--overlap says whether the jobs of a schedule run beside each other",
        ),
        ("if_exists", job.if_exists.is_some(), "--overlap says what happens while a job has not ended"),
        ("stdin", job.stdin.is_some(), "a job of a schedule has no standard input"),
        ("input", job.input.is_some(), "a job of a schedule has no standard input"),
        ("tie", job.tie.as_deref() == Some(TIE_TO_CLIENT), "a job of a schedule has no client"),
        ("at", job.at.is_some(), "the schedule has the times"),
        ("after", job.after.is_some(), "the schedule has the times"),
    ];
    match has.into_iter().find(|&(_, has, _)| has) {
        Some((field, _, why)) => {
            let reason = format!("{why}: leave it out");
            Err(Refusal::InvalidSchedule { field: field.to_owned(), reason })
        }
        None => Ok(()),
    }
}
