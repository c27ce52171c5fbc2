//! What clients ask for, and what the store answers them: submitting, waiting, signals, cancels.

use std::sync::Arc;

use pool_proto::interface::{OnDisconnect, State};
use pool_proto::{Record, Refusal};

use super::event::{Effect, Reply};
use super::store_op::StoreOp;
use super::waiters::{End, Kind, Watch};
use super::{Ending, Mode, Pool, Scheduler, outcome};
use crate::job::{CallbackId, JobId, Ready, RequestId, StopReason, Tie, Work};

/// A submission that the store has not answered yet.
#[derive(Debug)]
pub struct Submission {
    /// How many jobs for each pool.
    added: Vec<u64>,
    follow: Follow,
    /// Its client has gone in between.
    orphaned: bool,
}

/// What the client of a submission wants to hear after it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Nothing,
    /// All of the one job, and this is to become of it should the client go.
    Attached(OnDisconnect),
    /// The ends of all jobs, in few words.
    Batch,
}

impl Scheduler {
    pub(super) fn on_submit(&mut self, call: RequestId, jobs: Vec<Arc<Work>>, follow: Follow) {
        if self.mode != Mode::Serving {
            return self.reply(call, Reply::Refused(Refusal::Draining {}), true);
        }
        let added = match self.make_room(&jobs) {
            Ok(added) => added,
            Err(refusal) => return self.reply(call, Reply::Refused(refusal), true),
        };
        let op = StoreOp::Insert {
            call,
            first: JobId(self.next_job),
            first_callback: CallbackId(self.next_callback),
            submitted_us: self.now.wall_us,
            jobs,
        };
        if let StoreOp::Insert { jobs, .. } = &op {
            self.next_job += jobs.len() as u64;
            self.next_callback += jobs.iter().map(|work| work.callbacks.len() as u64).sum::<u64>();
        }
        self.submissions.insert(call, Submission { added, follow, orphaned: false });
        self.store(op);
    }

    /// How many jobs for each pool, unless that is too many. What is on its way to the store counts as queued.
    fn make_room(&mut self, jobs: &[Arc<Work>]) -> Result<Vec<u64>, Refusal> {
        let mut added = vec![0; self.pools.len()];
        for work in jobs {
            added[self.pool_of(work)] += 1;
        }
        let limit = self.settings.max_queued;
        let is_full =
            |pool: &Pool, added: u64| added > 0 && pool.queue.total() + pool.inserting + added > limit;
        let full = self.pools.iter().zip(&added).find(|&(pool, &added)| is_full(pool, added));
        if let Some((pool, _)) = full {
            return Err(Refusal::QueueFull { pool: pool.name.to_string(), limit });
        }
        self.pools.iter_mut().zip(&added).for_each(|(pool, added)| pool.inserting += added);
        Ok(added)
    }

    /// The store has answered.
    fn take_submission(&mut self, call: RequestId) -> Option<Submission> {
        let submission = self.submissions.remove(&call)?;
        self.pools.iter_mut().zip(&submission.added).for_each(|(pool, added)| pool.inserting -= added);
        Some(submission)
    }

    /// The call waits from now on, so that no end can slip through; the store then tells what has ended already, and what there is not.
    pub(super) fn on_wait(&mut self, call: RequestId, mut ids: Vec<JobId>, kind: Kind) {
        if ids.is_empty() {
            let parameter = "ids: at least one is needed".to_owned();
            return self.reply(call, Reply::Refused(Refusal::InvalidParameter { parameter }), true);
        }
        ids.sort_unstable();
        ids.dedup();
        self.waiters.add(call, kind, &ids);
        if let Kind::Wait { attached: true, .. } = kind {
            ids.iter().for_each(|&id| self.attend(id));
        }
        self.store(StoreOp::Get { call, ids });
    }

    pub(super) fn on_signal(&mut self, call: RequestId, id: JobId, signal: i32) {
        match self.active.get(&id) {
            // There is no process of its own that could make something of it.
            Some(active) if active.work.call().is_some() => {
                self.end(id, StopReason::Canceled);
                self.reply(call, Reply::Done, true);
            }
            // It may be running without our knowing yet; its worker reads this after the order to start it.
            Some(active) if active.handed => {
                let (slot, claim) = (active.slot, active.claim(id));
                self.effects.push(Effect::Signal { slot, claim, signal });
                self.reply(call, Reply::Done, true);
            }
            Some(_) => self.refuse_signal(call, id, State::Queued),
            // Not held here: the store knows whether it has ended, is queued, or never was.
            None => {
                self.waiters.add(call, Kind::Signal, &[]);
                self.store(StoreOp::Get { call, ids: vec![id] });
            }
        }
    }

    fn refuse_signal(&mut self, call: RequestId, id: JobId, state: State) {
        let refusal = Refusal::NotRunning { id: id.0, state: state.as_str().to_owned() };
        self.reply(call, Reply::Refused(refusal), true);
    }

    pub(super) fn on_disconnected(&mut self, call: RequestId) {
        if let Some(submission) = self.submissions.get_mut(&call) {
            submission.orphaned = true;
        }
        let (kind, ids) = self.waiters.remove(call).unwrap_or((Kind::Signal, Vec::new()));
        if matches!(
            kind,
            Kind::Attached(OnDisconnect::Cancel) | Kind::Wait { attached: true, .. } | Kind::Batch
        ) {
            let tied =
                ids.into_iter().filter(|&id| self.ties.of(id) == Some(Tie::Client)).collect::<Vec<JobId>>();
            tied.into_iter().for_each(|id| self.end(id, StopReason::Untied(Tie::Client)));
        }
    }

    pub(super) fn on_release(&mut self, call: RequestId, ids: Vec<JobId>) {
        if let Some(id) = ids.iter().find(|id| !self.held.contains(id)) {
            return self.reply(call, Reply::Refused(Refusal::NotHeld { id: id.0 }), true);
        }
        ids.iter().for_each(|id| _ = self.held.remove(id));
        self.store(StoreOp::Release { call, ids });
    }

    pub(super) fn on_released(&mut self, call: RequestId, jobs: Vec<Ready>) {
        for ready in jobs {
            // One that has been ended in between does not come back.
            if let Some(ending) = self.ending.get_mut(&ready.id) {
                *ending = Ending::Held;
            } else if let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == ready.work.pool) {
                pool.queue.requeued(ready);
            } else {
                *self.unserved.entry(ready.work.pool.to_string()).or_default() += 1;
            }
        }
        self.reply(call, Reply::Done, true);
    }

    pub(super) fn on_inserted(
        &mut self,
        call: RequestId,
        first: JobId,
        jobs: Vec<Arc<Work>>,
        untied: &[JobId],
        existing: Vec<(usize, JobId)>,
    ) {
        let Some(submission) = self.take_submission(call) else { return };
        let count = jobs.len();
        let mut ids: Vec<JobId> = (first.0..).take(count).map(JobId).collect();
        existing.iter().for_each(|&(place, id)| ids[place] = id);
        let mut places_taken = existing.iter().map(|&(place, _)| place).peekable();
        for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
            if places_taken.next_if_eq(&place).is_some() {
                continue;
            }
            let pool = self.pool_of(&work);
            if let Some(tie) = work.tie {
                self.ties.add(id, tie);
            }
            self.pools[pool].queue.inserted(Ready {
                id,
                attempts: 0,
                crashes: 0,
                retried: 0,
                start_deaths: 0,
                work,
            });
        }
        match submission {
            Submission { follow: Follow::Attached(OnDisconnect::Cancel), orphaned: true, .. } => {
                self.end(first, StopReason::Untied(Tie::Client));
            }
            Submission { follow: Follow::Batch, orphaned: true, .. } => {
                ids.retain(|&id| self.ties.of(id) == Some(Tie::Client));
                ids.into_iter().for_each(|id| self.end(id, StopReason::Untied(Tie::Client)));
            }
            Submission { orphaned: true, .. } => {}
            Submission { follow: Follow::Nothing, .. } => {
                self.reply(call, Reply::Accepted { first, count, existing }, true)
            }
            Submission { follow: Follow::Attached(on_disconnect), .. } => {
                self.follow(call, Kind::Attached(on_disconnect), &ids, first, existing);
            }
            Submission { follow: Follow::Batch, .. } => self.follow(call, Kind::Batch, &ids, first, existing),
        }
        for &id in untied {
            let tie = self.ties.of(id).expect("it has just been tied");
            self.end(id, StopReason::Untied(tie));
        }
    }

    /// The client goes on waiting for what has been accepted.
    fn follow(
        &mut self,
        call: RequestId,
        kind: Kind,
        ids: &[JobId],
        first: JobId,
        existing: Vec<(usize, JobId)>,
    ) {
        self.waiters.add(call, kind, ids);
        // These may have started, and ended, long ago.
        let others: Vec<JobId> = existing.iter().map(|&(_, id)| id).collect();
        self.reply(call, Reply::Accepted { first, count: ids.len(), existing }, false);
        if !others.is_empty() {
            self.store(StoreOp::Get { call, ids: others });
        }
    }

    pub(super) fn on_refused(&mut self, call: RequestId, refusal: Refusal) {
        let is_awaited = match self.take_submission(call) {
            Some(submission) => !submission.orphaned,
            None => self.waiters.remove(call).is_some(),
        };
        if is_awaited {
            self.reply(call, Reply::Refused(refusal), true);
        }
    }

    pub(super) fn on_got(&mut self, call: RequestId, records: &[Record], missing: Option<JobId>) {
        // Without a kind the call is over: its client has gone, or has been told by an end that came in between.
        let Some(kind) = self.waiters.kind(call) else { return };
        if let Some(id) = missing {
            self.waiters.remove(call);
            return self.reply(call, Reply::Refused(Refusal::NoSuchJob { id: id.0 }), true);
        }
        for record in records {
            let id = JobId(record.id);
            if kind == Kind::Signal {
                self.waiters.remove(call);
                return self.refuse_signal(call, id, record.state);
            }
            if !self.waiters.waits_for(call, id) {
                continue; // It was told of already, or is asked for twice.
            }
            let is_queued = matches!(record.state, State::Queued | State::Retrying);
            let has_output = kind.watch() >= Watch::Output && record.argv.is_some();
            if has_output && record.started_at.is_some() && !is_queued {
                self.reply(call, Reply::Started { id, attempt: record.attempt }, false);
            }
            if kind.watch() >= Watch::Progress
                && let Some(progress) = self.progress_of(id)
            {
                self.reply(call, Reply::Progress { id, progress }, false);
            }
            if record.state.is_terminal() {
                if let Some((call, reply, last)) = self.waiters.ended_for(call, id, End::Record(record)) {
                    self.reply(call, reply, last);
                }
            } else if kind == Kind::Cancel {
                self.end(id, StopReason::Canceled);
            }
        }
    }

    /// Ends a job, whatever its state.
    pub(super) fn end(&mut self, id: JobId, reason: StopReason) {
        if self.active.contains_key(&id) {
            return self.stop(id, reason);
        }
        if self.ending.contains_key(&id) {
            return; // Its end is on its way already.
        }
        let Some(outcome) = outcome::of_stop(reason, self.now.wall_us) else { return };
        let was_set_aside = self.forget_unattended(id).is_some();
        if was_set_aside
            || self.held.remove(&id)
            || self.pools.iter_mut().any(|pool| pool.queue.remove(id).is_some())
        {
            self.finish(id, outcome, None);
        } else {
            self.ending.insert(id, Ending::InStore);
            self.store(StoreOp::FinishQueued { id, outcome: Box::new(outcome), want_record: true });
        }
    }
}
