//! What holds after every step of every story, and what must have held when it is over. The [`World`] notes
//! what only it can know, over all crashes, in its [`Chronicle`].

use std::collections::{BTreeMap, BTreeSet};

use pool_proto::nouns::{DEFAULT_POOL, OnCrash, SlotState, Tier};
use pool_proto::{OsText, Record, State};

use super::workers::{Sent, Worker};
use super::world::World;
use crate::core::jobs::outcome::PAST_DEADLINE;
use crate::core::{LaneId, LimitView, SlotId};
use crate::engine::Delivery;
use crate::engine::memory::Memory;
use crate::engine::{Answer, Change, Fence, MAX_ATTEMPTS, Order, Question};
use crate::job::{CallbackId, Claim, Holdup, JobId, Needs, Place, Term, Tie, Unit, Unmet, Until, Work};

/// What has happened to jobs and callbacks since the first start.
#[derive(Debug, Default)]
pub struct Chronicle {
    /// Attempts that workers were given or, where a job must not run twice, that were written down for that.
    tried: BTreeMap<JobId, u32>,
    /// Attempts that may have died with their worker or daemon.
    deaths: BTreeMap<JobId, u32>,
    /// Jobs that somebody has had removed.
    removed: BTreeSet<JobId>,
    /// Callbacks that a worker has been given, each with how often its job had been run again by then.
    called: BTreeSet<(CallbackId, u32)>,
}

impl Chronicle {
    pub fn tried(&mut self, id: JobId) {
        *self.tried.entry(id).or_default() += 1;
    }

    pub fn called(&mut self, id: CallbackId, round: u32) {
        self.called.insert((id, round));
    }

    pub fn removed(&mut self, ids: Vec<JobId>) {
        self.removed.extend(ids);
    }

    pub fn died(&mut self, id: JobId) {
        *self.deaths.entry(id).or_default() += 1;
    }

    /// The job never was.
    pub fn forget(&mut self, id: JobId) {
        self.tried.remove(&id);
        self.deaths.remove(&id);
    }
}

/// The state diagram of the [core](crate::core), as the backing sees it: attempts too short to be told of
/// leave out `running`.
pub fn assert_transition(id: JobId, from: State, to: State) {
    use State::{
        Blocked, Canceled, Failed, Held, Lost, Queued, Retrying, Running, Scheduled, Stopping, Succeeded,
        TimedOut,
    };
    let is_drawn = match from {
        Queued => matches!(to, Running | Retrying | Scheduled | Failed | Canceled | TimedOut),
        Scheduled => matches!(to, Queued | Canceled | TimedOut),
        Blocked => matches!(to, Queued | Scheduled | Canceled | TimedOut),
        Retrying => matches!(to, Running | Retrying | Failed | Canceled | TimedOut),
        Running => true,
        Stopping => matches!(to, Stopping | Canceled | TimedOut | Retrying),
        Held => matches!(to, Queued | Scheduled | Blocked | Canceled | TimedOut),
        Succeeded | Failed | Canceled | TimedOut | Lost => false,
    };
    assert!(is_drawn, "job {id} goes from {from:?} to {to:?}");
}

impl World {
    /// What holds whenever the machines have done their part.
    pub fn check(&self) {
        if !self.lives() {
            return;
        }
        self.check_slots();
        self.check_running();
        self.check_waiters();
        self.check_idle_slots();
        self.check_spooled();
        self.check_names();
        self.check_deadlines();
        self.check_frozen();
        self.check_items();
    }

    /// The machines have kept the engine's contract.
    pub(super) fn check_memory(&self) {
        for memory in [self.disk(), self.engine().volatile()] {
            assert!(memory.mistakes().is_empty(), "{:?}", memory.mistakes());
        }
    }

    /// What workers were told last of each attempt that runs: whether it is to stand still.
    fn check_frozen(&self) {
        for (slot, claim) in self.running() {
            let Unit::Job(id) = claim.unit else { continue };
            let told = self.signals.iter().rev().find_map(|(other, sent)| match sent {
                _ if *other != claim => None,
                Sent::Freeze => Some(true),
                Sent::Thaw | Sent::Terminate | Sent::Kill => Some(false),
                Sent::Signal(_) | Sent::Steer(_) => None,
            });
            let is_frozen = self.core().frozen_since_us(id).is_some();
            assert_eq!(is_frozen, told == Some(true), "{claim} in {slot:?}");
        }
    }

    /// Core and workers agree on who does what; no job is in two slots.
    fn check_slots(&self) {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let described = self.core().pools(|_| (Tier::Subreaper, None));
        let lent: BTreeSet<(SlotId, u64)> = self.core().audit_lent().collect();
        for (pool, described) in self.core().audit_pools().into_iter().zip(described) {
            for slot in &described.slots {
                let id = SlotId { lane: LaneId::Pool(pool.id), index: slot.slot };
                let worker = self.workers.get(&id).map(|(_, worker)| worker);
                let is_job = |claim: &Claim| slot.job.map(|job| Unit::Job(JobId(job))) == Some(claim.unit);
                match (slot.state, worker) {
                    (SlotState::Idle, Some(Worker::Idle)) => {}
                    // It was taken when its worker died, and has been left since: the next attempt is not
                    // sent.
                    (SlotState::Idle, Some(Worker::Dying { claim: None, .. })) => {}
                    (
                        SlotState::Down,
                        None | Some(Worker::Starting | Worker::Leaving | Worker::Dying { claim: None, .. }),
                    ) => {}
                    (SlotState::Recycling, Some(Worker::Idle | Worker::Dying { claim: None, .. })) => {
                        // Its successor is on its way, has yet to be buried, or is tried again after a while.
                        let is_seen_to = self.successors.contains_key(&id)
                            || self.replaced.iter().any(|&(slot, _)| slot == id)
                            || self.core().audit_respawn(id);
                        assert!(is_seen_to, "{id:?} is worn, and nobody replaces its program");
                    }
                    (SlotState::Starting, None | Some(Worker::Starting | Worker::Loading)) => {}
                    (
                        SlotState::BackingOff | SlotState::Failed,
                        None | Some(Worker::Starting | Worker::Condemned { .. } | Worker::Dying { .. }),
                    ) => {}
                    (
                        SlotState::Busy,
                        Some(
                            Worker::Condemned { claim: Some(claim) }
                            | Worker::Dying { claim: Some(claim), .. },
                        ),
                    ) => {
                        assert!(is_job(claim), "{id:?} has {claim}, not {:?}", slot.job);
                    }
                    // It belongs to the job of another slot.
                    (_, None | Some(Worker::Idle | Worker::Starting | Worker::Dying { claim: None, .. }))
                        if slot.job.is_some_and(|job| lent.contains(&(id, job))) => {}
                    // The backing has yet to write the start down.
                    (
                        SlotState::Busy,
                        Some(
                            Worker::Idle
                            | Worker::Condemned { claim: None }
                            | Worker::Dying { claim: None, .. },
                        ),
                    ) => {}
                    (SlotState::Busy, Some(Worker::Busy { claim, .. })) => {
                        assert!(is_job(claim), "{id:?} has {claim}, not {:?}", slot.job);
                    }
                    other => panic!("{id:?} is {other:?}"),
                }
                if let Some(job) = slot.job {
                    *seen.entry(job).or_insert(0) += 1;
                }
                // A pool that has become smaller starts nobody beyond that.
                let may_come = slot.slot < pool.wanted || !matches!(worker, Some(Worker::Loading));
                assert!(may_come, "{id:?} gets a worker, and {} are wanted", pool.wanted);
            }
        }
        for (job, slots) in seen {
            let takes = self.work_kept(JobId(job)).map_or(1, |work| work.needs.slots);
            // A slot that nobody wants any more has gone though it was lent.
            assert!(slots <= takes, "job {job} is in {slots} slots, and takes {takes}");
        }
    }

    /// What runs has not ended, and nobody believes so.
    fn check_running(&self) {
        for id in self.running_jobs().into_iter().map(JobId) {
            let place = self.place_of(id).unwrap_or_else(|| panic!("job {id} runs, and does not exist"));
            assert!(!place.state().is_terminal(), "job {id} runs after its end");
            let told = self.clients.ended.get(&id).map(|&(round, _)| round);
            assert_ne!(told, Some(self.reruns_of(id)), "job {id} runs, and its end has been told");
            assert_eq!(self.disk().unmet(id), Unmet::default(), "job {id} runs, and waits for this");
            let ends = |order: &Order| match order {
                Order::Change(Change::Move(moved)) => {
                    moved.id == id && moved.fence != Fence::Idle && matches!(moved.to, Place::Ended(_))
                }
                _ => false,
            };
            assert!(!self.delayed().orders.iter().any(ends), "job {id} runs while its end is being written");
        }
    }

    /// Nobody waits for what has ended, unless the news is on its way.
    fn check_waiters(&self) {
        let asks = |order: &Order, id: JobId| match order {
            Order::Question(Question::Records { ids, .. }) => ids.contains(&id),
            _ => false,
        };
        let tells = |answer: &Answer, id: JobId| match answer {
            Answer::Ended { array: Some(tally), .. } if tally.drops && tally.ids().contains(&id) => true,
            Answer::Folded { tally, .. } => tally.ids().contains(&id),
            Answer::Ended { id: other, .. } | Answer::Lost { id: other } => *other == id,
            Answer::Got { records, missing, .. } => {
                missing.contains(&id) || records.iter().any(|record| record.id == id.0)
            }
            _ => false,
        };
        for id in self.desk().awaited() {
            // An element of an array may not be kept yet.
            let unkept = || self.disk().record(id).is_none_or(|record| record.state.is_terminal());
            let place = self.place_of(id);
            let has_ended = place.map_or_else(unkept, |place| place.state().is_terminal());
            let is_told = self.delayed().coming().any(|answer| tells(answer, id))
                || self.delayed().orders.iter().any(|order| asks(order, id));
            assert!(!has_ended || is_told, "somebody waits for job {id}, which has ended, and is not told");
        }
    }

    /// No slot is idle while a job could run in it; with the backing's work done there is nothing else to
    /// wait for.
    fn check_idle_slots(&self) {
        if self.has_work_left() || !self.core().starts_jobs() {
            return;
        }
        for pool in self.core().audit_pools() {
            let waits_for_time = |memory: &Memory| memory.count_waiting(&pool.name) as u64;
            let timed = waits_for_time(self.disk()) + waits_for_time(self.engine().volatile());
            assert_eq!(pool.queued[Holdup::Time], timed, "jobs of {:?} that wait for a time", pool.name);
            for (holdup, until) in
                [(Holdup::Predecessor, Until::Predecessor), (Holdup::Others, Until::Others)]
            {
                let waits = |&id: &JobId| self.disk().place_of(id) == Some(&Place::Waiting(until));
                let waiting = self.disk().jobs().filter(waits);
                let waiting = waiting.filter(|&id| *self.work_of(id).pool == *pool.name).count() as u64;
                assert_eq!(pool.queued[holdup], waiting, "jobs of {:?} that wait for {until:?}", pool.name);
            }
            let is_paused = self.disk().pauses().contains_key(&*pool.name);
            assert_eq!(pool.is_paused, is_paused, "whether {:?} is paused", pool.name);
            let waiting = pool.queued[Holdup::None];
            let is_free = pool.has_idle && !pool.backs_off && !pool.is_paused && !pool.gathers;
            let is_held_up = waiting > 0 && is_free && self.has_room_for_some(&pool.name);
            assert!(!is_held_up, "{waiting} jobs wait in {:?} beside an idle slot", pool.name);
        }
    }

    /// Whether a job that waits in the pool has no label whose limit is reached.
    fn has_room_for_some(&self, pool: &str) -> bool {
        let active: BTreeSet<JobId> = self.core().running().map(|(id, _)| id).collect();
        let waits = |id: JobId| {
            let may_lack_client = self.work_kept(id).is_some_and(|work| work.tie == Some(Tie::Client));
            !active.contains(&id) && !may_lack_client
        };
        let capacity = self.core().capacity_of(pool);
        let has_room = |needs: &Needs| {
            let names = needs.labels.to_names().unwrap_or_default();
            self.core().full_limit(&names).is_none() && capacity.is_none_or(|capacity| capacity.fits(needs))
        };
        [self.disk(), self.engine().volatile()].into_iter().any(|memory| {
            let mut lines = memory.lines_of(pool);
            lines.any(|(line, jobs)| has_room(&line.needs) && jobs.iter().any(|position| waits(position.id)))
        })
    }

    pub(super) fn work_kept(&self, id: JobId) -> Option<&Work> {
        self.disk().work_of(id).or_else(|| self.engine().volatile().work_of(id)).map(|work| &**work)
    }

    /// Where more jobs of a label run than its limit allows, none of them has begun since somebody looked
    /// last.
    pub(super) fn check_labels(&self) {
        if !self.lives() {
            return;
        }
        let running = self.core().audit_labels();
        for id in self.running_jobs().into_iter().map(JobId) {
            for label in self.work_kept(id).into_iter().flat_map(|work| work.needs.labels.iter()) {
                let counts = running.get(label).is_some_and(|running| running.contains(&id));
                assert!(counts, "job {id} runs with {label:?}, and does not count");
            }
        }
        let before = self.seen_running.replace(running.clone());
        for LimitView { label, limit, running, .. } in
            running.keys().filter_map(|label| self.core().limit_of(label))
        {
            let has_begun = |id: &&JobId| !before.get(&label).is_some_and(|before| before.contains(id));
            let begun: Vec<&JobId> = running.iter().filter(has_begun).collect();
            let is_kept = running.len() <= limit as usize || begun.is_empty();
            assert!(
                is_kept,
                "{begun:?} have begun, now {running:?} run with {label:?}, whose limit is {limit}"
            );
        }
    }

    /// Of the jobs of a unique name that have not ended, the first alone may run, and the others wait.
    fn check_names(&self) {
        let disk = self.disk();
        let running = self.running_jobs();
        for (name, living) in disk.names() {
            for (place, &id) in living.iter().enumerate() {
                let waits = disk.unmet(id).follows;
                assert_eq!(waits, place > 0, "job {id} of {name:?}, which {living:?} have");
                assert!(
                    !waits || !running.contains(&id.0),
                    "job {id} runs, and waits for another of {name:?}"
                );
            }
        }
        let names: Vec<&OsText> = running.iter().filter_map(|&id| disk.name_of(JobId(id))).collect();
        let distinct: BTreeSet<&OsText> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len(), "of {running:?} several have one unique name");
    }

    /// What has not ended by its deadline is being ended, and what has not begun by its time has a slot; with
    /// the backing's work done there is nothing else to wait for.
    fn check_deadlines(&self) {
        // A time that has come is looked at with the next one that passes.
        let is_late = self.next_deadline().is_some_and(|at| at <= self.now.monotonic);
        if self.has_work_left() || self.delayed().is_full() || is_late {
            return;
        }
        for memory in [self.disk(), self.engine().volatile()] {
            let late = memory.overdue(Term::Start, None, self.core().audit_clock(self.now), usize::MAX).0;
            for (start_by_us, id) in late {
                assert!(self.core().audit_begins(id), "job {id} waits on after {start_by_us}");
            }
            let (overdue, _) = memory.overdue(Term::End, None, self.core().audit_clock(self.now), usize::MAX);
            for (deadline_us, id) in overdue {
                assert!(self.core().audit_ends(id), "job {id} goes on after {deadline_us}");
            }
        }
    }

    /// The backing has orders, or answers that are to be heard.
    fn has_work_left(&self) -> bool {
        let delayed = self.delayed();
        !delayed.orders.is_empty() || !delayed.answers.is_empty() || delayed.coming().next().is_some()
    }

    pub(super) fn work_of(&self, id: JobId) -> &Work {
        self.disk().work_of(id).expect("it is on the disk")
    }

    /// Every job that reads a spooled input finds it.
    fn check_spooled(&self) {
        let disk = self.disk();
        let needs = |id: JobId| {
            let has_ended = disk.place_of(id).is_some_and(|place| place.state().is_terminal());
            disk.work_of(id).and_then(|work| work.stdin.clone()).filter(|_| !has_ended)
        };
        for (id, token) in disk.jobs().filter_map(|id| Some((id, needs(id)?))) {
            assert!(self.clients.spooled.contains(&token), "the standard input of job {id} is gone");
        }
    }

    /// Nothing is left to do, and nothing is held for it.
    pub fn assert_idle(&self) {
        assert_eq!(self.next_deadline(), None, "an idle core wants no wake-up");
        assert_eq!((self.core().held(), self.engine().held()), (vec![], vec![]), "and holds nothing");
        let held = (self.delayed().count_held_elsewhere(), self.engine().volatile().count_held_elsewhere(0));
        assert_eq!(held, (0, 0), "nor any work");
        for pool in self.core().pools(|_| (Tier::Subreaper, None)) {
            assert_eq!((pool.queued, pool.running), (0, 0), "{pool:?}");
        }
        let open = self.open_requests();
        let waiting: Vec<_> = open.into_iter().filter(|&request| !self.is_listening(request)).collect();
        assert!(waiting.is_empty(), "requests {waiting:?} wait for nothing");
    }

    /// When everybody has gone, nothing of them is left; nor of pools that have gone.
    pub fn assert_empty(&mut self) {
        self.close_all();
        self.settle();
        assert_eq!(self.desk().held(), Vec::<&str>::new(), "nobody is there");
        assert!(self.clients.spooled.is_empty(), "{:?} are nobody's", self.clients.spooled);
        let pools: Vec<_> = self.core().audit_pools().into_iter().map(|pool| pool.name.to_string()).collect();
        let configured = |name: &String| name == DEFAULT_POOL || self.desk().config().pool.contains_key(name);
        assert!(pools.iter().all(configured), "of {pools:?} some have gone, and are not forgotten");
    }

    /// What must have come true when everything has had its time.
    pub fn check_ends(&self) {
        for memory in [self.disk(), self.engine().volatile()] {
            for id in memory.jobs() {
                self.check_end(id);
            }
        }
        // A volatile job is forgotten some time after its end: this daemon knew it, and nothing of it is
        // left. Another one when somebody wants that.
        let may_be_gone = |id: JobId| self.lined_up.contains(&id) || self.seen.removed.contains(&id);
        let is_forgotten = |id: JobId| may_be_gone(id) && !self.has(id);
        for &id in &self.clients.accepted {
            assert!(self.has(id) || is_forgotten(id), "job {id} was accepted and is gone");
        }
        let is_last = |id: JobId, round: u32| round == self.reruns_of(id);
        let ended =
            self.clients.ended.iter().filter(|&(&id, &(round, _))| !is_forgotten(id) && is_last(id, round));
        for (&id, &(_, state)) in ended {
            assert_eq!(self.state(id.0), state, "job {id} ended otherwise than was told");
        }
        self.check_callbacks();
        for (claim, sent) in &self.signals {
            let is_callbacks = matches!((claim.unit, sent), (Unit::Callback(_), Sent::Signal(_)));
            assert!(!is_callbacks, "a client's signal for {claim}");
        }
    }

    fn check_end(&self, id: JobId) {
        let record = self.record(id.0);
        assert!(record.state.is_terminal(), "job {id} has not ended: {record:?}");
        let tried = self.seen.tried.get(&id).copied().unwrap_or(0);
        assert!(
            record.attempt <= tried,
            "job {id} counts {} attempts, and was tried {tried} times",
            record.attempt
        );

        self.check_attempts(&record);
        if record.array.as_ref().is_some_and(|array| array.index.is_none()) {
            return self.check_array_end(&record);
        }

        let has_failed = matches!(record.state, State::Failed | State::TimedOut);
        let is_past_deadline = record.reason.as_deref() == Some(PAST_DEADLINE);
        assert!(!is_past_deadline || record.deadline_at.is_some(), "job {id} had no deadline: {record:?}");
        let code = match (record.state, record.signal, record.exit_code) {
            (State::TimedOut, _, _) => 124,
            (_, Some(signal), _) => 128 + signal,
            (_, _, Some(code)) if code > 0 => code,
            _ => 125,
        };
        let on = self.memory_of(id).and_then(|memory| memory.work_of(id)).map(|work| work.retries.on);
        let is_of_code = on.is_some_and(|on| on.contains(u8::try_from(code).unwrap_or(u8::MAX)));
        let is_tried_out = !is_of_code
            || record.retried == record.retries
            || record.on_crash != OnCrash::Requeue
            || is_past_deadline;
        assert!(!has_failed || is_tried_out, "job {id} is not tried again: {record:?}");
        let has_run = record.attempt > 0;
        assert!(record.state != State::Succeeded || has_run, "job {id} has succeeded without an attempt");

        let deaths = self.seen.deaths.get(&id).copied().unwrap_or(0);
        let limit = self.config.crash_limit.get();
        let is_lost = record.state == State::Lost;
        assert!(!is_lost || deaths >= limit, "job {id} is lost after {deaths} deaths");
        assert!(record.crashes <= deaths, "job {id} counts {} crashes of {deaths} deaths", record.crashes);
        assert!(!is_lost || record.crashes == limit, "job {id} is lost after {} crashes", record.crashes);
    }

    /// Each attempt that counts, but for the latest one, is kept as one that is over; the first ones of many
    /// are not.
    fn check_attempts(&self, record: &Record) {
        let memory = self.memory_of(JobId(record.id)).expect("it is kept");
        let past = memory.past_attempts(JobId(record.id));
        let told: Vec<u32> = past.iter().map(|past| past.attempt).collect();
        let first = told.first().copied().unwrap_or(1).min(record.attempt.max(1));
        let is_over = told.last() == Some(&record.attempt);
        let last = if is_over { record.attempt } else { record.attempt.saturating_sub(1) };
        let wanted: Vec<u32> = (first..=last).collect();
        assert_eq!(told, wanted, "attempts of job {}: {record:?}", record.id);
        assert!(first == 1 || told.len() == MAX_ATTEMPTS as usize, "some of {told:?} are missing");
    }

    /// What an array tells of its elements is so.
    fn check_array_end(&self, record: &Record) {
        let array = record.array.as_ref().expect("it is one");
        let first = array.first_id.expect("an array has elements");
        let ids = first..first + u64::from(array.elements);
        if ids.clone().any(|id| self.seen.removed.contains(&JobId(id))) {
            return; // Somebody had that one removed, and nothing of it is left.
        }
        let states: Vec<State> = ids.map(|id| self.record(id).state).collect();
        let count =
            |is_one: fn(&State) -> bool| Some(states.iter().filter(|state| is_one(state)).count() as u32);
        let counts = [array.succeeded, array.failed, array.canceled];
        let is_failure = |state: &State| matches!(state, State::Failed | State::TimedOut | State::Lost);
        let counted = [
            count(|state| *state == State::Succeeded),
            count(is_failure),
            count(|state| *state == State::Canceled),
        ];
        assert_eq!(counts, counted, "{record:?}: {states:?}");
        let has_succeeded = states.iter().all(|state| *state == State::Succeeded);
        let was_ended = matches!(record.state, State::Canceled | State::TimedOut);
        assert!(was_ended || (record.state == State::Succeeded) == has_succeeded, "{record:?}: {states:?}");
    }

    fn check_callbacks(&self) {
        for id in self.disk().callbacks() {
            let (delivery, attempts, job) = self.disk().delivery_of(id).expect("it is one of them");
            let state = self.state(job.0);
            let is_dropped = delivery == Delivery::Dropped;
            let is_settled = is_dropped || matches!(delivery, Delivery::Delivered | Delivery::Failed);
            let is_due = delivery != Delivery::Skipped;
            assert!(!is_due || is_settled, "callback {id} of a job that is {state:?}: {delivery:?}");
            let has_run = self.seen.called.contains(&(id, self.reruns_of(job)));
            // The daemon may have died each time right after it had noted that the callback runs.
            let limit = self.config.crash_limit.get().saturating_sub(1).max(1);
            let is_given_up = delivery == Delivery::Failed && attempts >= limit;
            assert!(
                has_run == is_due || is_given_up || is_dropped,
                "callback {id} of a job that is {state:?} runs exactly when it is due"
            );
            let record = self.record(job.0);
            let kept = record.callbacks.iter().find(|callback| callback.id == id.0).expect("it is on record");
            assert_eq!(
                kept.on.matches(state),
                is_due,
                "callback {id} of a job that is {state:?}: {delivery:?}"
            );
        }
    }
}
