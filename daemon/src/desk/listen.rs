//! Who listens to what happens, and is told of it. Read off what passes by anyway, the core's effects and
//! facts: nothing is decided here, the core knows nothing of listeners, and without one nothing is done but
//! to look whether there is any.
//!
//! Ends and submissions are told when they are kept, like replies; everything else as it happens, but after
//! the job's submission.

use std::collections::HashSet;
use std::sync::Arc;

use pool_proto::methods::Events;
use pool_proto::nouns::{CallProgress, Happening, HappeningKind};
use pool_proto::text::rfc3339;
use pool_proto::{Record, Refusal};

use super::past::Since;
use super::request::Open;
use super::wait::in_brief;
use super::{Desk, Effect};
use crate::core::{Core, LaneId, SlotId};
use crate::engine::{CallbackEnd, Change, Detail, Move, Question, Turns};
use crate::job::{
    CallbackId, IdMap, IdSet, JobId, Place, ProcessId, RequestId, Start, StopReason, Unit, Until, Work,
};

/// A listener that has so much to read, in bytes, is told that it has missed something, and nothing more.
/// Well above what a message with very many jobs brings about at once.
pub const MAX_UNREAD: usize = 32 << 20;

/// Why a job that had ended is queued again.
const RETRIED: &str = "it had ended, and is run again";

/// What a client wants to hear of: everything where nothing is named.
#[derive(Debug)]
pub struct Listener {
    pools: Option<HashSet<String>>,
    ids: Option<HashSet<u64>>,
    /// It has heard all up to here before.
    since: Option<String>,
    /// It has been told that it hears everything from now on.
    is_told: bool,
}

impl Listener {
    fn wants(&self, happening: &Happening) -> bool {
        let has_pool =
            |pools: &HashSet<String>| happening.pool.as_ref().is_some_and(|pool| pools.contains(pool));
        let has_id = |ids: &HashSet<u64>| happening.id.is_some_and(|id| ids.contains(&id));
        self.pools.as_ref().is_none_or(has_pool) && self.ids.as_ref().is_none_or(has_id)
    }
}

/// What is remembered of what passed by, for those who are to be told of what follows from it.
#[derive(Debug, Default)]
pub struct Overheard {
    /// The pools of jobs that workers have or had, since the first listener came, and that have not ended.
    /// Empty while nobody listens, and nothing is kept for those who come back.
    pub pools: IdMap<JobId, Arc<str>>,
    /// Jobs that have ended, and whose ends are to be told once their records are read.
    unrecorded: IdSet<JobId>,
    /// The callbacks that run, with the job that each is of. Kept without listeners, too: they are few.
    callbacks: IdMap<CallbackId, (JobId, String)>,
}

impl Desk {
    pub(super) fn on_events(&mut self, request: RequestId, events: Events, more: bool, core: &Core) {
        if !more {
            return self.refuse(request, Refusal::ExpectedMore {});
        }
        if let Some(unknown) = events.pools.iter().flatten().find(|pool| core.pool_kind(pool).is_none()) {
            return self.refuse(request, Refusal::NoSuchPool { pool: unknown.clone() });
        }

        if let Some(since) = &events.since
            && self.past.since(since).is_err()
        {
            let parameter = format!("since: {since:?} is no cursor of an event");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }

        if !self.hears() {
            self.overheard.pools = core.running_pools().collect();
        }
        let since = events.since;
        let (pools, ids) = (events.pools.map(HashSet::from_iter), events.ids.map(HashSet::from_iter));
        self.requests
            .insert(request, Open::Listening(Box::new(Listener { pools, ids, since, is_told: false })));
        // Ends that were given to the engine before this was known bring no record. When this is answered,
        // the engine has answered them, too.
        self.ask(Question::Records { request, ids: Vec::new() });
    }

    /// The answer to the first question: from here on nothing goes by untold. Or to a later one, about ends
    /// that came without their records.
    pub(super) fn on_listened_records(&mut self, request: RequestId, records: Vec<Record>) {
        let Some(Open::Listening(listener)) = self.requests.get_mut(request) else { return };
        if !listener.is_told {
            return self.begin_listening(request);
        }

        for record in records.iter().filter(|record| record.state.is_terminal()) {
            let happening = Arc::new(self.ended(record));
            // The others have asked for it, too. Of these the first one's is kept.
            let is_first = self.overheard.unrecorded.remove(&JobId(record.id));
            let happening = if is_first { self.past.note(happening) } else { happening };
            let Some(Open::Listening(listener)) = self.requests.get(request) else { return };
            if listener.wants(&happening) {
                self.effects.push(Effect::Tell { request, happening });
            }
        }
    }

    /// Tells what the listener has missed since it was here last, and that it hears everything from now on.
    fn begin_listening(&mut self, request: RequestId) {
        let Some(Open::Listening(listener)) = self.requests.get_mut(request) else { return };
        listener.is_told = true;
        let since = listener.since.take().and_then(|since| self.past.since(&since).ok());
        self.past.on_listening();
        if let Some(Since { gap, happenings }) = since {
            if gap.is_some() {
                let gap = Happening { reason: gap, ..self.happening(HappeningKind::Gap) };
                self.effects.push(Effect::Tell { request, happening: Arc::new(gap) });
            }
            let Some(Open::Listening(listener)) = self.requests.get(request) else { return };
            for happening in happenings.into_iter().filter(|happening| listener.wants(happening)) {
                self.effects.push(Effect::Tell { request, happening });
            }
        }
        let cursor = Some(self.past.cursor());
        let listening = Happening { cursor, ..self.happening(HappeningKind::Listening) };
        self.reply(request, listening, false);
    }

    /// A listener has gone.
    pub(super) fn on_listener_left(&mut self) {
        // Only those who have been told ask for ends.
        if !self.requests.listeners().any(|(_, listener)| listener.is_told)
            && !self.overheard.unrecorded.is_empty()
        {
            self.overheard.unrecorded.clear();
            self.past.lose();
        }
        if !self.requests.has_listeners() {
            self.past.on_last_left();
            self.forget_if_unheard();
        }
    }

    /// What happens is told to somebody, or kept for those who come back.
    fn hears(&self) -> bool {
        self.requests.has_listeners() || self.past.is_kept()
    }

    fn forget_if_unheard(&mut self) {
        if !self.hears() {
            self.overheard.pools.clear();
        }
    }

    /// It has left too much unread.
    pub(super) fn on_too_slow(&mut self, request: RequestId) {
        if self.requests.get(request).is_some() {
            tracing::warn!("a client reads events too slowly and is told no more of them");
            self.refuse(request, Refusal::EventsMissed { limit: MAX_UNREAD });
        }
    }

    // ---- the core does something ----

    /// A worker is handed an attempt.
    pub(super) fn overhear_run(&mut self, unit: Unit, work: &Work) {
        if let (Unit::Job(id), true) = (unit, self.hears()) {
            self.overheard.pools.insert(id, work.pool.clone());
        }
    }

    /// A worker is handed a callback.
    pub(super) fn overhear_callback(&mut self, callback: CallbackId, record: &Record) {
        self.overheard.callbacks.insert(callback, (JobId(record.id), record.pool.clone()));
    }

    pub(super) fn overhear_change(&mut self, change: &mut Change) {
        match change {
            Change::Move(moved) => {
                self.see_to_end(moved);
                self.overhear_obstacle(moved);
                if self.hears() {
                    self.tell_move(moved);
                }
            }
            Change::EndCallback { id, end, exit_code } => self.tell_callback(*id, *end, *exit_code),
            Change::Insert(_)
            | Change::Hold { .. }
            | Change::Assign { .. }
            | Change::Edit(_)
            | Change::Retry { .. }
            | Change::Remove { .. }
            | Change::Release { .. }
            | Change::Wake { .. }
            | Change::Resolve { .. }
            | Change::Unfold { .. }
            | Change::Fold { .. }
            | Change::SetClock { .. }
            | Change::BeginCallback { .. }
            | Change::AlterCallbacks { .. }
            | Change::SetPool { .. }
            | Change::SetPause { .. }
            | Change::SetWorkers { .. }
            | Change::SetSchedules { .. }
            | Change::SetLimit { .. } => {}
        }
    }

    /// Has an end tell as much as those want to know who wait for it.
    fn see_to_end(&mut self, moved: &mut Move) {
        let Place::Ended(outcome) = &moved.to else { return };
        let wishes = self.requests.wishes(moved.id);
        moved.is_urgent = wishes.alone;
        if self.hears() || wishes.record {
            moved.want = Detail::Record;
        }
        if wishes.brief {
            self.requests.keep_brief(moved.id, in_brief(moved.id, outcome));
        }
    }

    fn tell_move(&mut self, moved: &Move) {
        // That of a short call comes with what has become of it.
        if let Some(start) = &moved.start {
            self.tell_start_of(moved, start);
        }

        let (kind, reason) = match &moved.to {
            Place::Begun => return,
            // It is about to get the attempt; the start is told when the command has been executed.
            Place::Running(_) if moved.confirm => return,
            Place::Running(start) => return self.tell_start_of(moved, start),
            Place::Stopping(reason) => (HappeningKind::Stopping, Some(why_stopping(*reason).to_owned())),
            Place::Queued { again: false } => (HappeningKind::Requeued, moved.reason.clone()),
            Place::Queued { again: true } | Place::Waiting(Until::Time { .. }) => {
                (HappeningKind::Retrying, moved.reason.clone())
            }
            Place::Waiting(Until::Person) => (HappeningKind::Held, moved.reason.clone()),
            // Only a submission puts a job there.
            Place::Waiting(Until::Predecessor | Until::Others | Until::Start { .. }) => return,
            // Told with the record, when it is kept.
            Place::Ended(_) => return,
        };
        let id = Some(moved.id.0);
        self.tell_of_job(Happening { id, reason, ..self.happening(kind) });
    }

    fn tell_start_of(&mut self, moved: &Move, start: &Start) {
        let pid = start.process.map(|process| process.pid.get());
        let (id, attempt, slot) = (Some(moved.id.0), Some(moved.tries.attempts), Some(start.slot));
        let started = self.happening(HappeningKind::Started);
        self.tell_of_job(Happening { id, attempt, slot, pid, ..started });
    }

    fn tell_callback(&mut self, callback: CallbackId, end: CallbackEnd, exit_code: Option<i32>) {
        let (job, pool) = self.overheard.callbacks.remove(&callback).unzip();
        if !self.hears() {
            return;
        }
        let kind = match end {
            CallbackEnd::Delivered => HappeningKind::CallbackDelivered,
            CallbackEnd::Again { .. } => HappeningKind::CallbackRetrying,
            CallbackEnd::Failed => HappeningKind::CallbackFailed,
        };
        let (id, callback) = (job.map(|id| id.0), Some(callback.0));
        self.tell_of_job(Happening { id, pool, callback, exit_code, ..self.happening(kind) });
    }

    // ---- what has come about ----

    pub(super) fn hear_of_acceptance(
        &mut self,
        first: JobId,
        jobs: &[Arc<Work>],
        existing: &[(usize, JobId)],
        turns: &Turns,
    ) {
        if !self.hears() {
            return;
        }
        let is_new = |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
        for (place, work) in jobs.iter().enumerate().filter(|&(place, _)| is_new(place)) {
            let id = JobId(first.0 + place as u64);
            let reason = turns.before(id).map(|before| format!("waits until job {before} has ended"));
            let (pool, name) = (Some(work.pool.to_string()), work.name.clone());
            let submitted = self.happening(HappeningKind::Submitted);
            self.tell(Happening { id: Some(id.0), pool, name, reason, ..submitted });
        }
    }

    /// Somebody has had jobs held; those without a pool were held before.
    pub(super) fn hear_of_hold(&mut self, held: &[(JobId, Option<Arc<str>>)]) {
        for (id, pool) in held.iter().filter_map(|(id, pool)| Some((*id, pool.as_ref()?))) {
            self.tell_held(id);
            if self.hears() {
                let (id, pool) = (Some(id.0), Some(pool.to_string()));
                self.tell(Happening { id, pool, ..self.happening(HappeningKind::Held) });
            }
        }
    }

    /// Jobs are in that pool, each from another one.
    pub(super) fn hear_of_move(&mut self, pool: &str, jobs: &[(JobId, Arc<str>)]) {
        if !self.hears() {
            return;
        }
        for (id, from) in jobs.iter().filter(|(_, from)| **from != *pool) {
            let reason = Some(format!("it was moved from the pool {from:?}"));
            let (id, pool) = (Some(id.0), Some(pool.to_owned()));
            self.tell(Happening { id, pool, reason, ..self.happening(HappeningKind::Requeued) });
        }
    }

    /// A job is another one, in this pool.
    pub(super) fn hear_of_edit(&mut self, id: JobId, pool: &str) {
        if !self.hears() {
            return;
        }
        let (id, pool) = (Some(id.0), Some(pool.to_owned()));
        let reason = Some("it was edited".to_owned());
        self.tell(Happening { id, pool, reason, ..self.happening(HappeningKind::Edited) });
    }

    /// Jobs that had ended are queued again.
    pub(super) fn hear_of_retry(&mut self, jobs: &[(JobId, Arc<str>)]) {
        if !self.hears() {
            return;
        }
        for (id, pool) in jobs {
            let (id, pool, reason) = (Some(id.0), Some(pool.to_string()), Some(RETRIED.to_owned()));
            self.tell(Happening { id, pool, reason, ..self.happening(HappeningKind::Requeued) });
        }
    }

    pub(super) fn hear_of_release(&mut self, jobs: &[(JobId, Arc<str>)]) {
        if !self.hears() {
            return;
        }
        for (id, pool) in jobs {
            let (id, pool) = (Some(id.0), Some(pool.to_string()));
            self.tell(Happening { id, pool, ..self.happening(HappeningKind::Released) });
        }
    }

    /// A pool is paused, or resumed.
    pub(super) fn hear_of_pause(&mut self, pool: &str, is_paused: bool) {
        if self.hears() {
            let kind = if is_paused { HappeningKind::PoolPaused } else { HappeningKind::PoolResumed };
            self.tell(Happening { pool: Some(pool.to_owned()), ..self.happening(kind) });
        }
    }

    /// A job is in its line, since the one that it waited for has ended.
    pub(super) fn hear_of_turn(&mut self, id: JobId, pool: &str, after: JobId) {
        if self.hears() {
            let (id, pool, reason) =
                (Some(id.0), Some(pool.to_owned()), Some(format!("job {after} has ended")));
            self.tell(Happening { id, pool, reason, ..self.happening(HappeningKind::Released) });
        }
    }

    pub(super) fn hear_of_end(&mut self, id: JobId, record: Option<&Record>) {
        if !self.hears() {
            return;
        }
        self.overheard.pools.remove(&id);
        match record {
            Some(record) => self.tell(self.ended(record)),
            // Its way here, by the core, is longer than that of the answer after which a listener is told
            // that it hears everything: the end may have been given to the engine before anybody listened,
            // and come after that.
            None => {
                let told = self.requests.listeners().filter(|(_, listener)| listener.is_told);
                let told: Vec<RequestId> = told.map(|(request, _)| request).collect();
                if told.is_empty() {
                    // Whoever comes back would miss it.
                    if self.past.is_kept() {
                        self.past.lose();
                    }
                    return;
                }
                self.overheard.unrecorded.insert(id);
                for request in told {
                    self.ask(Question::Records { request, ids: vec![id] });
                }
            }
        }
    }

    pub(super) fn hear_of_progress(&mut self, id: JobId, attempt: u32, progress: &CallProgress) {
        if self.hears() {
            let (id, attempt, progress) = (Some(id.0), Some(attempt), Some(progress.clone()));
            self.tell_of_job(Happening { id, attempt, progress, ..self.happening(HappeningKind::Progress) });
        }
    }

    /// A slot has a worker again, or has lost it. A pool's slot is told with its pool, one of the callbacks'
    /// lane without.
    pub(super) fn hear_of_worker(
        &mut self,
        kind: HappeningKind,
        slot: SlotId,
        pool: Option<Arc<str>>,
        pid: ProcessId,
        reason: Option<String>,
    ) {
        if !self.hears() {
            return;
        }
        let pool = match slot.lane {
            LaneId::Pool(_) => pool.map(|pool| pool.to_string()),
            LaneId::Callbacks => None,
        };
        let (slot, pid) = (Some(slot.index), Some(pid.get()));
        self.tell(Happening { pool, slot, pid, reason, ..self.happening(kind) });
    }

    // ---- happenings ----

    fn happening(&self, kind: HappeningKind) -> Happening {
        Happening::new(kind, rfc3339(self.now.wall_us))
    }

    fn ended(&self, record: &Record) -> Happening {
        Happening {
            id: Some(record.id),
            pool: Some(record.pool.clone()),
            name: record.name.clone(),
            attempt: Some(record.attempt),
            state: Some(record.state),
            result: record.result,
            exit_code: record.exit_code,
            signal: record.signal,
            reason: record.reason.clone(),
            ..self.happening(HappeningKind::Ended)
        }
    }

    /// Completes what is known of a job that a worker has or had.
    fn tell_of_job(&mut self, mut happening: Happening) {
        if happening.pool.is_none() {
            let known = happening.id.and_then(|id| self.overheard.pools.get(&JobId(id)));
            happening.pool = known.map(ToString::to_string);
        }
        self.tell(happening);
    }

    fn tell(&mut self, happening: Happening) {
        if let Some(happening) = self.unsynced.hold_happening(Arc::new(happening)) {
            self.tell_listeners(happening);
        }
    }

    pub(super) fn tell_listeners(&mut self, happening: Arc<Happening>) {
        let happening = self.past.note(happening);
        let told = self.requests.listeners();
        let told = told.filter(|(_, listener)| listener.is_told && listener.wants(&happening));
        for (request, _) in told {
            self.effects.push(Effect::Tell { request, happening: happening.clone() });
        }
        self.forget_if_unheard();
    }
}

/// Why an attempt is being ended, as a clause.
pub(super) fn why_stopping(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Canceled => "it was canceled",
        StopReason::TimedOut => "its time is up",
        StopReason::Idle => "it has done nothing for as long as its idle timeout",
        StopReason::Deadline => "its deadline is over",
        StopReason::Late => "it has not begun in time",
        StopReason::Untied(_) => "what it was tied to has ended",
        StopReason::Dependency(_) => "a job that it was to run after has not ended as it was to",
        StopReason::Replaced(_) => "another job of its unique name takes its place",
        StopReason::Shutdown => "poold ends",
    }
}
