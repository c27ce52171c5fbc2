//! Who listens to what happens, and is told of it. Read off what passes through the supervisor anyway, the scheduler's changes and the store's
//! answers: nobody decides anything here, the scheduler knows nothing of listeners, and without one nothing is done but to look whether there
//! is any.
//!
//! Ends and submissions are told when they are on disk, like replies; everything else as it happens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pool_proto::Refusal;
use pool_proto::events::{Events, Happening, Kind};
use pool_proto::interface::CallProgress;
use pool_proto::text::rfc3339;

use super::Supervisor;
use super::requests::Query;
use crate::fleet::lane_name;
use crate::job::{CallbackId, Claim, JobId, RequestId, StopReason, Unit};
use crate::scheduler::store_op::{CallbackEnd, CallbackRun, Start, StoreAnswer, StoreOp};
use crate::scheduler::{LaneId, SlotId};

/// A listener that has so much to read, in bytes, is told that it has missed something, and nothing more. Well above what a message with very
/// many jobs brings about at once.
const MAX_UNREAD: usize = 32 << 20;

/// All listeners.
#[derive(Debug, Default)]
pub struct Listeners {
    calls: HashMap<RequestId, Listener>,
    /// The pools of jobs that workers have or had, since the first listener came, and that have not ended.
    pools: HashMap<JobId, Arc<str>>,
    /// The callbacks that run, with the job that each is of. Kept without listeners, too: they are few.
    callbacks: HashMap<CallbackId, (JobId, String)>,
}

/// What a client wants to hear of: everything where nothing is named.
#[derive(Debug)]
struct Listener {
    pools: Option<HashSet<String>>,
    ids: Option<HashSet<u64>>,
    /// It has been told that it hears everything from now on.
    is_told: bool,
}

impl Listener {
    fn wants(&self, happening: &Happening) -> bool {
        let has_pool =
            |pools: &HashSet<String>| happening.pool.as_ref().is_some_and(|pool| pools.contains(pool));
        let has_id = |ids: &HashSet<u64>| happening.id.is_some_and(|id| ids.contains(&id));
        self.is_told && self.pools.as_ref().is_none_or(has_pool) && self.ids.as_ref().is_none_or(has_id)
    }
}

impl Supervisor {
    pub(super) fn on_events(&mut self, call: RequestId, events: Events) {
        if !self.server.wants_more(call) {
            return self.server.refuse(call, &Refusal::ExpectedMore {});
        }
        if let Some(unknown) =
            events.pools.iter().flatten().find(|pool| self.scheduler.pool_kind(pool).is_none())
        {
            return self.server.refuse(call, &Refusal::NoSuchPool { pool: unknown.clone() });
        }
        if !self.has_listeners() {
            self.listeners.pools = self.scheduler.running_pools().collect();
        }
        let (pools, ids) = (events.pools.map(HashSet::from_iter), events.ids.map(HashSet::from_iter));
        self.listeners.calls.insert(call, Listener { pools, ids, is_told: false });
        // Ends that were given to the store before this was known bring no record. When this is answered they have been, too.
        // Not through what is kept in memory alone: that answers at once, and would answer this.
        self.queries.insert(call, Query::Events);
        self.ops.push(StoreOp::Get { call, ids: Vec::new() });
    }

    /// From here on nothing goes by untold.
    pub(super) fn begin_events(&mut self, call: RequestId) {
        if let Some(listener) = self.listeners.calls.get_mut(&call) {
            listener.is_told = true;
            let happening = Happening::new(Kind::Listening, rfc3339(self.clock.now().wall_us));
            self.server.reply(call, &happening, Vec::new(), false);
        }
    }

    /// A listener has gone.
    pub(super) fn end_events(&mut self, call: RequestId) {
        if self.listeners.calls.remove(&call).is_some() && !self.has_listeners() {
            self.listeners.pools = HashMap::new();
        }
    }

    /// At the daemon's end.
    pub(super) fn end_all_events(&mut self) {
        for (call, _) in self.listeners.calls.drain() {
            self.server.refuse(call, &Refusal::ShuttingDown {});
        }
    }

    fn has_listeners(&self) -> bool {
        !self.listeners.calls.is_empty()
    }

    /// A worker has been handed a job.
    pub(super) fn hear_of_run(&mut self, id: JobId, pool: &Arc<str>) {
        if self.has_listeners() {
            self.listeners.pools.insert(id, pool.clone());
        }
    }

    /// A worker has been handed a callback.
    pub(super) fn hear_of_callback(&mut self, run: &CallbackRun) {
        self.listeners.callbacks.insert(run.id, (JobId(run.record.id), run.record.pool.clone()));
    }

    /// The scheduler changes something.
    pub(super) fn hear_of_change(&mut self, op: &mut StoreOp) {
        let ended_callback = match op {
            StoreOp::CallbackEnded { id, .. } => self.listeners.callbacks.remove(id),
            _ => None,
        };
        if !self.has_listeners() {
            return;
        }
        let mut happening = self.happening(Kind::Listening);
        match op {
            StoreOp::Start { id, attempt, slot, process, .. } => {
                (happening.event, happening.id) = (Kind::Started, Some(id.0));
                (happening.attempt, happening.slot) = (Some(*attempt), Some(*slot));
                happening.pid = process.map(|process| process.pid);
            }
            StoreOp::Stopping { id, reason } => {
                let reason = match reason {
                    StopReason::Canceled => "it was canceled",
                    StopReason::TimedOut => "its time is up",
                    StopReason::Untied(_) => "what it was tied to has ended",
                    StopReason::Shutdown => "poold ends",
                };
                (happening.event, happening.id, happening.reason) =
                    (Kind::Stopping, Some(id.0), Some(reason.to_owned()));
            }
            StoreOp::Requeue { id, reason, .. } => {
                (happening.event, happening.id, happening.reason) =
                    (Kind::Requeued, Some(id.0), reason.clone());
            }
            StoreOp::Retrying { id, reason } => {
                (happening.event, happening.id, happening.reason) =
                    (Kind::Retrying, Some(id.0), Some(reason.clone()));
            }
            StoreOp::AttemptFailed { id, reason, start, .. } => {
                if let Some(start) = start {
                    self.tell_of_job(self.started(*id, start));
                }
                (happening.event, happening.id, happening.reason) =
                    (Kind::Retrying, Some(id.0), Some(reason.clone()));
            }
            StoreOp::Hold { id, reason, .. } => {
                (happening.event, happening.id, happening.reason) =
                    (Kind::Held, Some(id.0), Some(reason.clone()));
            }
            StoreOp::CallbackEnded { id, end, exit_code } => {
                happening.event = match end {
                    CallbackEnd::Delivered => Kind::CallbackDelivered,
                    CallbackEnd::Again { .. } => Kind::CallbackRetrying,
                    CallbackEnd::Failed => Kind::CallbackFailed,
                };
                (happening.callback, happening.exit_code) = (Some(id.0), *exit_code);
                let (job, pool) = ended_callback.unzip();
                (happening.id, happening.pool) = (job.map(|id| id.0), pool);
            }
            // Told with the record, when it is on disk. The start of a short call comes with its end.
            StoreOp::Finish { id, start, want_record, .. } => {
                *want_record = true;
                let Some(start) = start else { return };
                happening = self.started(*id, start);
            }
            StoreOp::FinishQueued { want_record, .. } => return *want_record = true,
            _ => return,
        }
        self.tell_of_job(happening);
    }

    /// The start of a call, which is told late.
    fn started(&self, id: JobId, start: &Start) -> Happening {
        let pid = start.process.map(|process| process.pid);
        let (attempt, slot) = (Some(start.attempt), Some(start.slot));
        Happening { id: Some(id.0), attempt, slot, pid, ..self.happening(Kind::Started) }
    }

    /// Adds the pool of a job that a worker has or had.
    fn tell_of_job(&mut self, mut happening: Happening) {
        let id = happening.id.map(JobId);
        if happening.pool.is_none() {
            happening.pool = id.and_then(|id| self.listeners.pools.get(&id)).map(ToString::to_string);
        }
        self.tell(&happening);
    }

    /// The store has done what it was asked to.
    pub(super) fn hear_of_answer(&mut self, answer: &StoreAnswer) {
        if !self.has_listeners() {
            return;
        }
        match answer {
            StoreAnswer::Inserted { first, jobs, existing, .. } => {
                let is_new =
                    |place: usize| existing.binary_search_by_key(&place, |&(place, _)| place).is_err();
                for (place, work) in jobs.iter().enumerate().filter(|&(place, _)| is_new(place)) {
                    let id = Some(first.0 + place as u64);
                    let (pool, name) = (Some(work.pool.to_string()), work.name.clone());
                    self.tell(&Happening { id, pool, name, ..self.happening(Kind::Submitted) });
                }
            }
            StoreAnswer::Released { jobs, .. } => {
                for ready in jobs {
                    let (id, pool) = (Some(ready.id.0), Some(ready.work.pool.to_string()));
                    self.tell(&Happening { id, pool, ..self.happening(Kind::Released) });
                }
            }
            StoreAnswer::Finished { id, record: Some(record), .. } => {
                self.listeners.pools.remove(id);
                self.tell(&Happening {
                    id: Some(record.id),
                    pool: Some(record.pool.clone()),
                    name: record.name.clone(),
                    attempt: Some(record.attempt),
                    state: Some(record.state),
                    result: record.result,
                    exit_code: record.exit_code,
                    signal: record.signal,
                    reason: record.reason.clone(),
                    ..self.happening(Kind::Ended)
                });
            }
            _ => {}
        }
    }

    /// A call has come further.
    pub(super) fn hear_of_progress(&mut self, claim: Claim, progress: &CallProgress) {
        if let (true, Unit::Job(id)) = (self.has_listeners(), claim.unit) {
            let (id, attempt, progress) = (Some(id.0), Some(claim.attempt), Some(progress.clone()));
            self.tell_of_job(Happening { id, attempt, progress, ..self.happening(Kind::Progress) });
        }
    }

    /// A slot has a worker again, or has lost it. A pool's slot is told with its pool, one of the callbacks' lane without.
    pub(super) fn hear_of_worker(&mut self, kind: Kind, slot: SlotId, pid: i32, reason: Option<&str>) {
        if !self.has_listeners() {
            return;
        }
        let pool = match slot.lane {
            LaneId::Pool(_) => Some(lane_name(slot.lane, &self.pool_names).to_owned()),
            LaneId::Callbacks => None,
        };
        let (slot, reason) = (Some(slot.index), reason.map(ToOwned::to_owned));
        self.tell(&Happening { pool, slot, pid: Some(pid), reason, ..self.happening(kind) });
    }

    fn happening(&self, kind: Kind) -> Happening {
        Happening::new(kind, rfc3339(self.clock.now().wall_us))
    }

    fn tell(&mut self, happening: &Happening) {
        let mut slow = Vec::new();
        for (&call, _) in self.listeners.calls.iter().filter(|(_, listener)| listener.wants(happening)) {
            if self.server.unread(call) > MAX_UNREAD {
                slow.push(call);
            } else {
                self.server.reply(call, happening, Vec::new(), false);
            }
        }
        for call in slow {
            tracing::warn!("a client reads events too slowly and is told no more of them");
            self.server.refuse(call, &Refusal::EventsMissed { limit: MAX_UNREAD });
            self.end_events(call);
        }
    }
}
