//! What clients change about jobs that are there: signals, whether what runs stands still, holds, and the
//! release of held ones. (A cancel waits for the ends: [`wait`](super::wait).)

use std::sync::Arc;

use pool_proto::methods::{Altered, Empty, MAX_RELEASED, Move, Other, SetFrozen, Signal};
use pool_proto::{Record, Refusal, State};

use super::request::Open;
use super::sentence;
use super::{Desk, Effect};
use crate::core::{self, Core, Reach};
use crate::engine::{Change, NotAssigned, NotRemoved, NotRetried, Question};
use crate::job::{IdSet, JobId, RequestId};

/// The greatest number of a signal on Linux: SIGRTMAX of signal(7).
const MAX_SIGNAL: i32 = 64;

/// So many jobs are removed in one transaction.
const REMOVED_AT_ONCE: usize = 100;

/// Jobs that a client wants changed, some of which may stay as they are.
#[derive(Debug, Default)]
pub struct Alteration {
    /// So many are still to be told.
    left: usize,
    told: Altered,
}

impl Desk {
    pub(super) fn on_signal(&mut self, request: RequestId, asked: &Signal, core: &Core) {
        let &Signal { id, signal } = asked;
        if !(1..=MAX_SIGNAL).contains(&signal) {
            let parameter = format!("signal: {signal} is no number of a signal, see signal(7)");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }

        let id = JobId(id);
        match core.reachable(id) {
            Reach::Running => {
                self.command(core::Event::Signal { id, signal });
                self.reply(request, Empty {}, true);
            }
            Reach::NotHanded => self.refuse(request, not_running(id, State::Queued)),
            Reach::Unknown => {
                self.requests.insert(request, Open::Signaling);
                self.ask(Question::Records { request, ids: vec![id] });
            }
        }
    }

    pub(super) fn on_set_frozen(&mut self, request: RequestId, asked: &SetFrozen, core: &Core) {
        let &SetFrozen { id, frozen } = asked;
        let id = JobId(id);
        match core.reachable(id) {
            Reach::Running if core.is_begun_array(id) => {
                let parameter = format!(
                    "id: job {id} is an array, which has no process of its own: \
                     pause its elements, or its pool"
                );
                self.refuse(request, Refusal::InvalidParameter { parameter });
            }
            Reach::Running if core.is_call(id) => {
                let parameter = format!(
                    "id: job {id} is a call, which runs in a program of its pool and cannot be paused by itself"
                );
                self.refuse(request, Refusal::InvalidParameter { parameter });
            }
            Reach::Running if core.stop_of(id).is_some() => {
                self.refuse(request, not_running(id, State::Stopping));
            }
            Reach::Running => {
                self.command(core::Event::SetFrozen { id, frozen });
                self.reply(request, Empty {}, true);
            }
            Reach::NotHanded => self.refuse(request, not_running(id, State::Queued)),
            Reach::Unknown => {
                self.requests.insert(request, Open::Signaling);
                self.ask(Question::Records { request, ids: vec![id] });
            }
        }
    }

    /// What the job of a signal does instead of running.
    pub(super) fn on_signaled_record(
        &mut self,
        request: RequestId,
        record: Option<&Record>,
        missing: &[JobId],
    ) {
        match record {
            Some(record) => self.refuse(request, not_running(JobId(record.id), record.state)),
            None => self.refuse_missing(request, missing),
        }
    }

    pub(super) fn on_hold(&mut self, request: RequestId, ids: Vec<JobId>) {
        if let Some(ids) = self.begin_alteration(request, ids) {
            self.command(core::Event::Hold { request, ids });
        }
    }

    /// Some of the jobs are held, or are not.
    pub(super) fn on_withheld(
        &mut self,
        request: RequestId,
        held: &[(JobId, Option<Arc<str>>)],
        others: &[(JobId, Option<State>)],
    ) {
        let held = held.iter().map(|&(id, _)| id);
        let others = others.iter().map(|&(id, state)| (id, state, sentence::not_held(id, state)));
        self.go_on_altering(request, held, others);
    }

    pub(super) fn on_move(&mut self, request: RequestId, moved: Move, core: &Core) {
        let Some((pool, is_warm)) = core.open_pool(&moved.pool) else {
            return self.refuse(request, Refusal::NoSuchPool { pool: moved.pool });
        };
        if core.draining(&pool).is_some() {
            return self.refuse(request, Refusal::PoolDraining { pool: moved.pool });
        }
        let ids = moved.ids.into_iter().map(JobId).collect();
        if let Some(ids) = self.begin_alteration(request, ids) {
            self.command(core::Event::Assign { request, ids, pool, is_warm });
        }
    }

    /// Some of the jobs are in that pool, or are not.
    pub(super) fn on_assigned(
        &mut self,
        request: RequestId,
        jobs: &[(JobId, Arc<str>)],
        others: &[(JobId, NotAssigned)],
    ) {
        let others = others.iter().map(|&(id, why_not)| {
            let state = match why_not {
                NotAssigned::Beyond(state) => Some(state),
                NotAssigned::Missing | NotAssigned::Volatile | NotAssigned::Command | NotAssigned::Call => {
                    None
                }
            };
            (id, state, sentence::not_assigned(id, why_not))
        });
        self.go_on_altering(request, jobs.iter().map(|&(id, _)| id), others);
    }

    pub(super) fn on_retry(&mut self, request: RequestId, ids: Vec<JobId>) {
        if let Some(ids) = self.begin_alteration(request, ids) {
            self.command(core::Event::Retry { request, ids });
        }
    }

    /// Some of the jobs are run again, or are not.
    pub(super) fn on_retried(
        &mut self,
        request: RequestId,
        jobs: &[(JobId, Arc<str>)],
        others: &[(JobId, NotRetried)],
    ) {
        let others = others.iter().map(|(id, why_not)| {
            let (id, state) = match *why_not {
                NotRetried::Living(state) => (*id, Some(state)),
                _ => (*id, None),
            };
            (id, state, sentence::not_retried(id, why_not))
        });
        self.go_on_altering(request, jobs.iter().map(|&(id, _)| id), others);
    }

    /// Nothing goes that somebody waits for. The rest goes some at a time, lest others wait long for the
    /// engine.
    pub(super) fn on_remove(&mut self, request: RequestId, ids: Vec<JobId>) {
        let Some(ids) = self.begin_alteration(request, ids) else { return };
        let (awaited, free): (Vec<JobId>, Vec<JobId>) =
            ids.into_iter().partition(|&id| !self.requests.awaiting(id).is_empty());
        for some in free.chunks(REMOVED_AT_ONCE) {
            self.effects.push(Effect::Change(Change::Remove { request, ids: some.to_vec() }));
        }
        let others = awaited.into_iter().map(|id| (id, None, sentence::awaited(id)));
        self.go_on_altering(request, std::iter::empty(), others);
    }

    /// Some of the jobs are gone, or are not.
    pub(super) fn on_removed(
        &mut self,
        request: RequestId,
        jobs: &[(JobId, u32)],
        others: &[(JobId, NotRemoved)],
    ) {
        let others = others.iter().map(|&(id, why_not)| {
            let state = match why_not {
                NotRemoved::Living(state) => Some(state),
                NotRemoved::Missing | NotRemoved::Undelivered => None,
            };
            (id, state, sentence::not_removed(id, why_not))
        });
        self.go_on_altering(request, jobs.iter().map(|&(id, _)| id), others);
    }

    /// The jobs that are to be changed; none where the client has been told all already.
    fn begin_alteration(&mut self, request: RequestId, ids: Vec<JobId>) -> Option<Vec<JobId>> {
        let ids = self.few_enough(request, ids)?;
        if ids.is_empty() {
            self.reply(request, Altered::default(), true);
            return None;
        }
        let alteration = Alteration { left: ids.len(), told: Altered::default() };
        self.requests.insert(request, Open::Altering(Box::new(alteration)));
        Some(ids)
    }

    /// Replies once all of the jobs have been told.
    fn go_on_altering(
        &mut self,
        request: RequestId,
        altered: impl Iterator<Item = JobId>,
        others: impl Iterator<Item = (JobId, Option<State>, String)>,
    ) {
        let Some(Open::Altering(alteration)) = self.requests.get_mut(request) else { return };
        let Alteration { left, told } = &mut **alteration;
        let before = told.ids.len() + told.others.len();
        told.ids.extend(altered.map(|id| id.0));
        told.others.extend(others.map(|(id, state, reason)| Other { id: id.0, state, reason }));
        *left = left.saturating_sub(told.ids.len() + told.others.len() - before);
        if *left == 0 {
            let told = std::mem::take(told);
            self.reply(request, told, true);
        }
    }

    /// Each of the jobs once; none where these are too many, which the client has been told then.
    fn few_enough(&mut self, request: RequestId, ids: Vec<JobId>) -> Option<Vec<JobId>> {
        let ids = each_once(ids);
        if ids.len() > MAX_RELEASED {
            let parameter = format!("ids: at most {MAX_RELEASED} at once");
            self.refuse(request, Refusal::InvalidParameter { parameter });
            return None;
        }
        Some(ids)
    }

    pub(super) fn on_release(&mut self, request: RequestId, ids: Vec<JobId>, core: &Core) {
        let Some(ids) = self.few_enough(request, ids) else { return };
        self.requests.insert(request, Open::Releasing);
        let closed = core.closed_pools();
        self.effects.push(Effect::Change(Change::Release { request, ids, closed }));
    }

    pub(super) fn on_released(&mut self, request: RequestId) {
        if self.close(request).is_some() {
            self.reply(request, Empty {}, true);
        }
    }
}

/// The jobs that a client names, without those that it has named before.
pub(super) fn each_once(mut ids: Vec<JobId>) -> Vec<JobId> {
    let mut named = IdSet::default();
    ids.retain(|&id| named.insert(id));
    ids
}

pub(super) fn not_running(id: JobId, state: State) -> Refusal {
    Refusal::NotRunning { id: id.0, state: state.as_str().to_owned() }
}
