//! The desk: everything about a client's request, from its frame to its last reply. A pure state machine:
//! [`Desk::handle`] takes an event and the time, and returns what is to be done about it. It does no I/O,
//! reads no clock, and may look at the core.
//!
//! ```text
//!   clients ── Asked ──▶ ┌──────┐ ── Command ───────────────▶ core
//!   core ───── Fact ───▶ │ Desk │ ── Ask, Change, Chore ────▶ engine
//!   engine ─── Answer ─▶ └──────┘ ── Reply, Refuse, Tell ───▶ clients
//! ```
//!
//! All that hangs on a request is owned by its entry in [`Requests`]; all that hangs on a connection by its
//! [`Caller`]. An entry that is removed takes everything along, so nothing has to be cleaned up by hand: not
//! when a request is refused, nor when its client goes.
//!
//! What the core does passes by here before it is done ([`Desk::overhear`]), so that an end tells as much as
//! those want to know who wait for it.

mod admission;
mod backup;
mod callbacks;
mod condition;
mod edit;
mod estimate;
mod event;
mod input;
mod limits;
mod listen;
mod listing;
mod obstacle;
mod past;
mod pauses;
mod pools;
mod request;
mod rights;
mod room;
mod schedules;
mod sentence;
mod signal;
mod spool;
mod submit;
#[cfg(test)]
mod tests;
mod unsynced;
mod wait;
mod why;
mod workers;

use std::collections::BTreeMap;

use pool_proto::methods::Reply;
use pool_proto::nouns::OnDisconnect;
use pool_proto::{Record, Refusal, Request};

pub use admission::{Account, Admission, Common, complete};
use condition::Changing;
pub use condition::Daemon;
pub use event::{ConnectionId, Effect, Event};
pub use listen::MAX_UNREAD;
use listen::Overheard;
use past::Past;
pub use pools::AddedPools;
use request::{Open, Requests};
pub use rights::Rights;
use room::OutputRoom;
use schedules::AllSchedules;
use spool::Tokens;
use unsynced::Unsynced;
use wait::{Wanted, Watch};

use crate::core::{self, Core, Fact, Now};
use crate::engine::{Answer, CallbackWish, Chore, Question};
use crate::job::{CallbackId, IdMap, JobId, KeptSchedule, Pause, RequestId, UserId};
use crate::start::config::Config;

/// A client's connection, and what hangs on it besides its requests.
#[derive(Debug)]
struct Caller {
    uid: UserId,
    /// The spooled inputs that it has opened and that no submission has named.
    unclaimed: Vec<String>,
    /// It has asked for a backup, and may hold the database's file.
    may_hold: bool,
}

/// What a start has found in the engine that is the desk's.
#[derive(Debug, Default)]
pub struct Found {
    pub added: AddedPools,
    /// Pools that are paused.
    pub pauses: BTreeMap<String, Pause>,
    pub schedules: BTreeMap<String, KeptSchedule>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Desk {
    daemon: Daemon,
    rights: Rights,
    admission: Admission,
    /// The file's, joined with the added pools.
    config: Config,
    added: AddedPools,
    /// Pools that are paused, as they are kept.
    pauses: BTreeMap<String, Pause>,
    schedules: AllSchedules,
    changing: Changing,
    clients: IdMap<ConnectionId, Caller>,
    requests: Requests,
    tokens: Tokens,
    room: OutputRoom,
    overheard: Overheard,
    past: Past,
    unsynced: Unsynced,
    /// The requests with ends in few words that are told at the end of this turn.
    brief_at_end: Vec<RequestId>,
    now: Now,
    effects: Vec<Effect>,
}

impl Desk {
    /// The desk of a start. `config`: the file's, joined with the added pools.
    pub fn new(
        daemon: Daemon,
        rights: Rights,
        admission: Admission,
        config: Config,
        found: Found,
        now: Now,
    ) -> Self {
        let Found { added, pauses, schedules } = found;
        let (schedules, changed) = AllSchedules::restored(schedules, &config, now.wall_us);
        let mut desk = Self {
            tokens: Tokens::new(daemon.started_us),
            past: Past::new(daemon.started_us),
            daemon,
            rights,
            admission,
            config,
            added,
            pauses,
            schedules,
            changing: Changing::default(),
            clients: IdMap::default(),
            requests: Requests::default(),
            room: OutputRoom::default(),
            overheard: Overheard::default(),
            unsynced: Unsynced::default(),
            brief_at_end: Vec::new(),
            now,
            effects: Vec::new(),
        };
        desk.keep_schedules(changed);
        desk
    }

    /// When something is next to be done, by the wall's clock, in microseconds since 1970.
    pub fn next_us(&self) -> Option<i64> {
        self.schedules.next_us()
    }

    /// Takes in an event; returns what is to be done about it, in order.
    pub fn handle(&mut self, now: Now, event: Event, core: &Core) -> Vec<Effect> {
        self.now = now;
        match event {
            Event::Connected { connection, uid } => {
                self.clients.insert(connection, Caller { uid, unclaimed: Vec::new(), may_hold: false });
            }
            Event::Asked { connection, request, asked, more } => {
                self.on_asked(connection, request, asked, more, core);
            }
            Event::Disconnected { request } => self.on_disconnected(request),
            Event::Closed { connection } => self.on_closed(connection),
            Event::Drained { request } => self.on_drained(request),
            Event::Full { request } => self.on_full(request),
            Event::TooSlow { request } => self.on_too_slow(request),
            Event::Fact(fact) => self.on_fact(fact, core),
            Event::Answer(answer) => self.on_answer(answer, core),
            Event::Failing(reason) => {
                self.changing.store_failure = reason.clone();
                if let Some(reason) = reason {
                    self.on_store_failure(&reason, core);
                }
            }
            Event::SpoolFailed { request, token, reason } => self.on_spool_failed(request, &token, reason),
            Event::InputMissing { request, id, reason } => self.on_input_missing(request, id, reason, core),
            Event::OutputMissing { request, id, attempt, named, reason } => {
                let is_followed = core.attempt_of(id).is_some_and(|current| current > attempt);
                self.on_output_missing(request, id, !named && is_followed, reason);
            }
            Event::Measured { ended, running } => self.on_measured(ended, running, core),
            Event::Contained(containment) => self.changing.containment = containment,
            Event::Reread(read) => self.on_reread(read, core),
            Event::Tick => self.on_tick(core),
            Event::ClockSet => self.on_clock_set(),
            Event::Incident { slot, pool, what } => self.on_incident(slot, pool, what),
            Event::Worker { kind, slot, pool, pid, reason } => {
                self.hear_of_worker(kind, slot, pool, pid, reason);
            }
        }
        self.take_effects()
    }

    /// Looks at what the core has done before it is carried out; returns what listeners are to be told of it
    /// first. Without waiting requests and without listeners nothing is changed and nothing returned.
    pub fn overhear(&mut self, now: Now, effect: &mut core::Effect) -> Vec<Effect> {
        self.now = now;
        match effect {
            core::Effect::Change(change) => self.overhear_change(change),
            core::Effect::Run { claim, work, .. } => self.overhear_run(claim.unit, work),
            core::Effect::RunCallback { run, .. } => self.overhear_callback(run.id, &run.record),
            core::Effect::Insert { .. }
            | core::Effect::AskOverdue { .. }
            | core::Effect::Want { .. }
            | core::Effect::SetRoom { .. }
            | core::Effect::SetCapacity { .. }
            | core::Effect::AskOffers { .. }
            | core::Effect::GiveBack(_)
            | core::Effect::SpawnWorker { .. }
            | core::Effect::RetireWorker { .. }
            | core::Effect::SpawnSuccessor { .. }
            | core::Effect::SwapWorker { .. }
            | core::Effect::KillSuccessor { .. }
            | core::Effect::TakeBack { .. }
            | core::Effect::Signal { .. }
            | core::Effect::Steer { .. }
            | core::Effect::Freeze { .. }
            | core::Effect::Thaw { .. }
            | core::Effect::Terminate { .. }
            | core::Effect::Kill { .. }
            | core::Effect::KillWorker { .. }
            | core::Effect::Tell(_)
            | core::Effect::Exit => {}
        }
        self.take_effects()
    }

    /// All events of a turn have been handled: what is told together is told now.
    pub fn end_turn(&mut self) -> Vec<Effect> {
        self.tell_briefs();
        self.take_effects()
    }

    /// What is to be done now, without what is held back.
    fn take_effects(&mut self) -> Vec<Effect> {
        let effects = std::mem::take(&mut self.effects);
        self.unsynced.hold_replies(effects)
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it holds for clients, by name; nothing once all of them have gone.
    #[cfg(test)]
    pub fn held(&self) -> Vec<&'static str> {
        let held = [
            ("connections", !self.clients.is_empty()),
            ("requests", !self.requests.is_empty()),
            ("ends that are not told", !self.brief_at_end.is_empty()),
            ("submissions that are not synced", !self.unsynced.is_empty()),
            ("effects", !self.effects.is_empty()),
        ];
        held.into_iter().filter(|&(_, is_held)| is_held).map(|(name, _)| name).collect()
    }

    /// Jobs whose ends somebody waits for, in order.
    pub fn awaited(&self) -> Vec<JobId> {
        self.requests.awaited()
    }

    // ---- clients ----

    fn on_asked(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        asked: Request,
        more: bool,
        core: &Core,
    ) {
        let client = self.clients.get(&connection).expect("a client connects before it asks");
        if let Err(refusal) = self.rights.may(client.uid, &asked) {
            return self.refuse(request, refusal);
        }
        if self.awaits_measure(connection, &asked) {
            return self.defer(connection, request, asked, more, core);
        }
        self.carry_out(connection, request, asked, more, core);
    }

    fn carry_out(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        asked: Request,
        more: bool,
        core: &Core,
    ) {
        match asked {
            Request::Ping => self.on_ping(request),
            Request::Submit(submit) => self.on_submit(connection, request, *submit, more, core),
            Request::SubmitMany(many) => self.on_submit_many(request, *many, more, core),
            Request::Spool => self.on_spool(connection, request),
            Request::Wait(wait) => {
                let watch = match (more, wait.output, wait.progress) {
                    (true, Some(true), _) => Watch::Output,
                    (true, _, Some(true)) => Watch::Progress,
                    (_, _, _) => Watch::Nothing,
                };
                let attached = wait.on_disconnect == Some(OnDisconnect::Cancel);
                let wanted = Wanted::Ends { any: wait.any.unwrap_or(false), watch, attached };
                let tells_obstacles = more && wait.obstacles == Some(true);
                self.on_wait(request, job_ids(wait.ids), wanted, tells_obstacles);
            }
            Request::Get(get) => self.on_get(request, JobId(get.id)),
            Request::Output(output) => self.on_output(request, JobId(output.id), output.attempt),
            Request::List(list) => self.on_list(request, *list, more),
            Request::Count => self.on_tally(request),
            Request::Cancel(cancel) => {
                let unstarted = cancel.unstarted == Some(true);
                let tells_obstacles = more && cancel.obstacles == Some(true);
                self.on_wait(request, job_ids(cancel.ids), Wanted::Cancel { unstarted }, tells_obstacles);
            }
            Request::Signal(signal) => self.on_signal(request, &signal, core),
            Request::OpenInput(asked) => self.on_open_input(request, JobId(asked.id), core),
            Request::CloseInput(asked) => self.on_close_input(request, JobId(asked.id), core),
            Request::Resize(asked) => self.on_resize(request, &asked, core),
            Request::SetFrozen(asked) => self.on_set_frozen(request, &asked, core),
            Request::Hold(hold) => self.on_hold(request, job_ids(hold.ids)),
            Request::Move(moved) => self.on_move(request, moved, core),
            Request::Edit(asked) => self.on_edit(request, *asked, core),
            Request::Definition(asked) => self.on_definition(request, JobId(asked.id)),
            Request::Retry(retry) => self.on_retry(request, job_ids(retry.ids)),
            Request::Remove(remove) => self.on_remove(request, job_ids(remove.ids)),
            Request::Release(release) => self.on_release(request, job_ids(release.ids), core),
            Request::Callbacks(asked) => self.on_callbacks(request, &asked),
            Request::GetCallback(asked) => self.on_get_callback(request, CallbackId(asked.id)),
            Request::RetryCallbacks(retry) => {
                self.on_alter_callbacks(request, retry.ids, CallbackWish::Retry);
            }
            Request::DropCallbacks(drop) => self.on_alter_callbacks(request, drop.ids, CallbackWish::Drop),
            Request::Pools => self.on_pools(request, core),
            Request::AddPool(added) => self.on_add_pool(request, added, core),
            Request::RemovePool(remove) => self.on_remove_pool(request, remove),
            Request::RestartPool(restart) => self.on_restart_pool(request, restart, more, core),
            Request::SetWorkers(asked) => self.on_set_workers(request, asked, core),
            Request::DrainPool(asked) => self.on_drain_pool(connection, request, &asked.pool, more, core),
            Request::SetPaused(asked) => self.on_set_paused(connection, request, asked, core),
            Request::AddSchedule(add) => self.on_add_schedule(request, *add, core),
            Request::Schedules(asked) => self.on_schedules(request, &asked),
            Request::SetSchedulesPaused(asked) => self.on_set_schedules_paused(connection, request, asked),
            Request::RunSchedule(run) => self.on_run_schedule(request, run, core),
            Request::RemoveSchedules(remove) => self.on_remove_schedules(request, remove),
            Request::LabelLimits => self.on_limits(request, core),
            Request::SetLabelLimit(asked) => self.on_set_limit(request, asked, core),
            Request::Status => self.on_status(request, core),
            Request::Settings => self.on_settings(request, core),
            Request::Absent(absent) => self.on_absent(request, absent),
            Request::Attempts(asked) => self.on_attempts(request, JobId(asked.id)),
            Request::Dependents(asked) => self.on_dependents(request, JobId(asked.id)),
            Request::Why(why) => self.on_why(request, job_ids(why.ids), core),
            Request::Events(events) => self.on_events(request, events, more, core),
            Request::Backup => self.on_backup(connection, request),
            Request::EndBackup => self.on_end_backup(connection, request),
            Request::Shutdown(shutdown) => self.on_shutdown(request, shutdown.mode, more),
        }
    }

    fn on_disconnected(&mut self, request: RequestId) {
        self.unsynced.forsake(request);
        let Some(open) = self.requests.get_mut(request) else { return };
        if open.outlive_client() {
            // The engine may accept its jobs yet: those that are tied to their client are to end then.
            if matches!(open, Open::Submitting(_)) {
                self.command(core::Event::Forsaken { request });
            }
            return;
        }
        if let Some(Open::Waiting(watcher)) = self.close(request) {
            self.abandon(*watcher);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.remove(&connection) else { return };
        for token in client.unclaimed {
            self.effects.push(Effect::RemoveSpooled { token });
        }
        if client.may_hold {
            self.effects.push(Effect::Chore(Chore::LetGo { request: None, holder: connection.0 }));
        }
    }

    // ---- the core and the engine ----

    fn on_fact(&mut self, fact: Fact, core: &Core) {
        match fact {
            Fact::Inserted { request, first, jobs, existing, turns, waiting, is_synced } => {
                if !is_synced {
                    let elements: u64 = jobs.iter().map(|work| work.elements()).sum();
                    self.unsynced.begin(request, first, jobs.len() as u64 + elements);
                }
                self.hear_of_acceptance(first, &jobs, &existing, &turns);
                let submission = match self.requests.remove(request) {
                    Some(Open::Submitting(submission)) => submission,
                    Some(Open::Firing(firing)) => return self.on_fired(firing, first, &existing, &turns),
                    _ => return,
                };
                let is_stalled = jobs.first().is_some_and(|work| core.stall_of(&work.pool).is_some());
                let stalled = (first.0..).map(JobId).take(if is_stalled { jobs.len() } else { 0 });
                let waiting = waiting.into_iter().map(|(id, _)| id);
                let most = obstacle::MOST_TOLD as usize;
                let obstructed = stalled.take(most).chain(waiting.take(most)).collect();
                self.on_accepted(request, submission, first, jobs.len(), &existing, &turns, obstructed);
            }
            Fact::Synced { request } => self.on_synced(request),
            Fact::Denied { request, denial, jobs } => self.on_denied(request, denial, &jobs),
            Fact::Started { id, attempt } => self.on_started(id, attempt),
            Fact::Progressed { id, attempt, progress } => {
                if let Some(progress) = self.unsynced.hold_progress(id, attempt, progress) {
                    self.tell_progress_of(id, attempt, &progress);
                }
            }
            Fact::Ended { id, record } => {
                self.hear_of_end(id, record.as_deref());
                self.on_ended(id, record.as_deref());
            }
            Fact::Dropped { ids } => {
                for id in self.requests.awaited_among(&ids) {
                    self.on_lost(id);
                }
            }
            Fact::ArrayIdle { array } => self.look_for_held_elements(array),
            Fact::TurnCame { id, pool, after } => self.hear_of_turn(id, &pool, after),
            Fact::Lost { id } => self.on_lost(id),
            Fact::Withheld { request, held, others } => {
                self.count_held_anew();
                self.hear_of_hold(&held);
                self.on_withheld(request, &held, &others);
            }
            Fact::Assigned { request, pool, jobs, others } => {
                self.hear_of_move(&pool, &jobs);
                self.on_assigned(request, &jobs, &others);
            }
            Fact::Edited { request, id, edited } => {
                if let Ok(pool) = &edited {
                    self.hear_of_edit(id, pool);
                }
                self.on_edited(request, id, edited.map(|_| ()));
            }
            Fact::Retried { request, jobs, others } => {
                self.hear_of_retry(&jobs);
                self.on_retried(request, &jobs, &others);
            }
            Fact::Released { request, jobs } => {
                self.count_held_anew();
                self.hear_of_release(&jobs);
                self.on_released(request);
            }
            Fact::CallbacksAltered { request, wish, ids, others } => {
                self.on_callbacks_altered(request, wish, &ids, &others);
            }
            Fact::Stalled { pool } => {
                tracing::debug!(%pool, "a pool starts nothing");
                self.look_for_obstacles();
            }
            Fact::Drained { pool } => self.on_pool_drained(&pool),
            Fact::Settled { pool: _ } => self.reply_paused(core),
            Fact::Restarted { request, result } => self.on_restarted(request, result),
            Fact::Exiting => self.on_exiting(core),
        }
    }

    fn on_answer(&mut self, answer: Answer, core: &Core) {
        match answer {
            Answer::Got { request, records, missing, rest } => {
                self.on_got(request, records, &missing, rest, core);
            }
            Answer::Listed { request, records, entries, next } => {
                self.on_listed(request, records, entries, next, core);
            }
            Answer::Attempts { request, attempts } => self.on_listed_attempts(request, attempts),
            Answer::Tallied { request, counts, failed_callbacks } => {
                self.on_tallied(request, counts, failed_callbacks, core);
            }
            Answer::Callbacks { request, callbacks, next } => {
                self.on_read_callbacks(request, callbacks, next);
            }
            Answer::Dependents { request, dependents, more } => {
                self.on_listed_dependents(request, dependents, more);
            }
            Answer::Defined { request, id, definition } => {
                self.on_defined(request, id, definition.map(|definition| *definition));
            }
            Answer::Removed { request, jobs, callbacks: _, others } => {
                self.on_removed(request, &jobs, &others);
            }
            Answer::Keepers { request, keepers } => self.on_keepers(request, &keepers),
            Answer::Counted { request, held } => self.on_counted(request, held),
            Answer::Kept { request } => self.on_kept(request, core),
            Answer::Pace { request, pool, pace } => self.on_inquired_pace(request, pool, pace, core),
            Answer::Line { request, line, head } => self.on_inquired_line(request, line, head, core),
            Answer::Held { request, bytes } => self.on_held(request, bytes),
            Answer::LetGo { request: Some(request), whole } => self.on_let_go(request, whole),
            Answer::Refused { request, refusal } => self.on_refused(request, refusal),
            // The core's business, of which it tells what there is to know; or nobody's.
            Answer::Inserted { .. }
            | Answer::Synced { .. }
            | Answer::Placed { .. }
            | Answer::Lost { .. }
            | Answer::Ended { .. }
            | Answer::Withheld { .. }
            | Answer::Retried { .. }
            | Answer::Edited { .. }
            | Answer::Assigned { .. }
            | Answer::Released { .. }
            | Answer::Resolved { .. }
            | Answer::Unfolded { .. }
            | Answer::Folded { .. }
            | Answer::Woken { .. }
            | Answer::ClockSet { .. }
            | Answer::Overdue { .. }
            | Answer::Fetched { .. }
            | Answer::CallbackBegun(_)
            | Answer::CallbacksAltered { .. }
            | Answer::IdsReserved { .. }
            | Answer::LetGo { request: None, .. }
            | Answer::Pruned { .. } => {}
        }
    }

    fn on_got(
        &mut self,
        request: RequestId,
        mut records: Vec<Record>,
        missing: &[JobId],
        rest: Vec<JobId>,
        core: &Core,
    ) {
        // Without an entry the request is over: its client has gone, or has been told by an end that came in
        // between.
        let Some(open) = self.requests.get(request) else { return };
        match open {
            Open::Waiting(_) => self.on_awaited_records(request, &records, missing, rest, core),
            Open::Signaling => self.on_signaled_record(request, records.first(), missing),
            Open::Getting => self.on_got_record(request, records.pop(), missing, core),
            Open::OpeningOutput { attempt } => {
                let attempt = *attempt;
                self.on_output_record(request, attempt, records.first(), missing);
            }
            Open::Seeking(_) => self.on_sought(request, records.len() + rest.len(), missing),
            Open::Inquiring(_) => self.on_inquired_records(request, records, missing, rest, core),
            Open::Listening(_) => self.on_listened_records(request, records),
            Open::Measuring(_)
            | Open::Submitting(_)
            | Open::Repeating(_)
            | Open::Counting(_)
            | Open::Altering(_)
            | Open::Editing
            | Open::Defining
            | Open::Releasing
            | Open::Listing(_)
            | Open::ListingDependents(_)
            | Open::ListingAttempts(_)
            | Open::Tallying
            | Open::ListingCallbacks
            | Open::GettingCallback(_)
            | Open::AlteringCallbacks
            | Open::ChangingPool(_)
            | Open::Pausing(_)
            | Open::ChangingSchedules(_)
            | Open::SettingWorkers(_)
            | Open::Firing(_)
            | Open::SettingLimit(_)
            | Open::RestartingPool(_)
            | Open::DrainingPool(_)
            | Open::BackingUp
            | Open::EndingBackup
            | Open::ShuttingDown => tracing::error!(%request, "the engine answered what was not asked"),
        }
    }

    /// A change that the desk has asked for is kept.
    fn on_kept(&mut self, request: RequestId, core: &Core) {
        match self.requests.get(request) {
            Some(Open::Pausing(_)) => self.on_paused(request, core),
            Some(Open::ChangingSchedules(_)) => self.on_schedules_kept(request),
            Some(Open::SettingWorkers(_)) => self.on_workers_kept(request),
            Some(Open::SettingLimit(_)) => self.on_limit_set(request),
            _ => self.on_pool_set(request),
        }
    }

    fn on_refused(&mut self, request: RequestId, refusal: Refusal) {
        let (pools, limit) = match self.requests.get(request) {
            Some(Open::Pausing(change)) => (change.pools.clone(), None),
            Some(Open::SettingLimit(change)) => (Vec::new(), Some(change.limit_before())),
            Some(Open::ChangingSchedules(_)) => return self.on_schedules_refused(request, refusal),
            // A daemon that cannot be read ends all the same.
            Some(Open::Counting(_)) => return self.on_counted(request, 0),
            Some(_) => (Vec::new(), None),
            // The request is over already: nobody waits for this.
            None => return,
        };
        self.refuse(request, refusal);
        self.enforce_pauses(&pools);
        if let Some((label, before)) = limit {
            self.undo_limit(label, before);
        }
    }

    /// Everything is over. What is on its way into the engine may still be kept: its clients learn that their
    /// connections are lost, and no more.
    fn on_exiting(&mut self, core: &Core) {
        self.tell_briefs();
        for request in self.requests.measuring() {
            let Some(Open::Measuring(deferred)) = self.requests.remove(request) else { continue };
            match deferred.asked {
                Request::Submit(_) | Request::SubmitMany(_) => self.refuse(request, Refusal::Draining {}),
                asked => self.carry_out(deferred.connection, request, asked, deferred.more, core),
            }
        }
        let waits = |open: &Open| {
            use Open::{DrainingPool, Listening, RestartingPool, Signaling, Waiting};
            matches!(open, Waiting(_) | Signaling | Listening(_) | RestartingPool(_) | DrainingPool(_))
        };
        for request in self.requests.that(waits) {
            self.refuse(request, Refusal::ShuttingDown {});
        }
        for request in self.requests.that(|open| matches!(open, Open::ShuttingDown)) {
            self.reply_shut_down(request, core);
        }
    }

    // ---- what all of this shares ----

    /// Removes a request and what hangs on it: the one way out for whatever ends it, but for the acceptance
    /// of a submission, which makes another request of it.
    fn close(&mut self, request: RequestId) -> Option<Open> {
        let mut open = self.requests.remove(request)?;
        match &mut open {
            Open::Submitting(submission) => {
                let spooled = submission.take_spooled();
                self.remove_spooled(spooled);
            }
            Open::Waiting(watcher) if matches!(watcher.wanted, Wanted::Cancel { .. }) => {
                self.count_held_anew()
            }
            Open::Repeating(repetition) => {
                let spooled = repetition.submission.take_spooled();
                self.remove_spooled(spooled);
            }
            Open::Listening(_) => self.on_listener_left(),
            _ => {}
        }
        Some(open)
    }

    /// `last`: nothing more follows to this request.
    fn reply(&mut self, request: RequestId, reply: impl Into<Reply>, last: bool) {
        if last {
            self.close(request);
        }
        self.effects.push(Effect::Reply { request, reply: reply.into(), last });
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        match self.close(request) {
            Some(Open::Firing(firing)) => self.on_not_fired(&firing.schedule, &refusal),
            Some(open) if open.is_forsaken() => {}
            Some(_) | None => self.effects.push(Effect::Refuse { request, refusal }),
        }
    }

    fn ask(&mut self, question: Question) {
        self.effects.push(Effect::Ask(question));
    }

    fn command(&mut self, event: core::Event) {
        self.effects.push(Effect::Command(event));
    }
}

fn job_ids(ids: Vec<u64>) -> Vec<JobId> {
    ids.into_iter().map(JobId).collect()
}
