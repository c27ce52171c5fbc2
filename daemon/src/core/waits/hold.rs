//! Holding jobs of which no attempt runs, moving them into another pool, or editing them, since a client
//! wants that. The engine does it; here is what they are taken out of first, so that none of them starts:
//! what the engine has offered, and what slots have that have not begun.
//!
//! A client may name a job that it has not been told of yet: the engine may answer that there is none, and
//! have offered it by then. So what is taken out is kept until the engine has answered.
//!
//! An attempt that a worker has ahead may begin at any moment. It is called back, and the worker's word
//! decides whether that was in time.

use std::sync::Arc;

use pool_proto::State;

use crate::core::Core;
use crate::core::event::{Effect, Fact};
use crate::core::jobs::attempt::Phase;
use crate::engine::{Assigned, Change, Dequeued, Edited, JobEdit, NotAssigned, NotEdited, Revised};
use crate::job::{CallbackId, Edit, Holdup, JobId, Ready, RequestId, StopReason, Term};

/// What a client wants of jobs of which no attempt runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    Hold,
    /// They are to be of that pool.
    Assign {
        pool: Arc<str>,
        is_warm: bool,
    },
    /// It, alone, is to be another one.
    Edit(Arc<Edit>),
}

/// A job that the engine is to hold, to have in another pool, or to edit, and has not answered.
#[derive(Debug, Default)]
pub struct Holding {
    /// How often it is to.
    times: u32,
    /// It has offered the job.
    offered: Option<Ready>,
    /// Its time was over by then. An edit that is on its way may give it another one.
    overdue: Vec<Term>,
}

impl Core {
    /// `ids`: each once.
    pub(in crate::core) fn on_wish(&mut self, request: RequestId, ids: Vec<JobId>, wish: &Wish) {
        let (mut idle, mut running) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(active) = self.active.get_mut(&id) else {
                idle.push(id);
                continue;
            };
            if !active.handed {
                self.take_from_slot(id);
                idle.push(id);
            } else if let Some(ahead) = &mut active.ahead {
                let is_called_back = std::mem::replace(&mut ahead.is_called_back, true);
                let (slot, claim) = (active.slot, active.claim(id));
                active.wishes.push((request, wish.clone()));
                // One that is being ended comes back without this.
                if !is_called_back && matches!(active.phase, Phase::Running { .. }) {
                    self.effects.push(Effect::TakeBack { slot, claim });
                }
            } else {
                running.push(id);
            }
        }
        self.alter_idle(request, idle, wish);
        for id in running {
            self.begun(id, request, wish);
        }
    }

    /// No worker has these jobs: the engine does that with those that it can.
    pub(in crate::core) fn alter_idle(&mut self, request: RequestId, ids: Vec<JobId>, wish: &Wish) {
        if ids.is_empty() {
            return;
        }
        for &id in &ids {
            self.holding.entry(id).or_default().times += 1;
            self.set_aside(id);
        }
        self.change(match wish.clone() {
            Wish::Hold => Change::Hold { request, ids },
            Wish::Assign { pool, is_warm } => Change::Assign { request, ids, pool, is_warm },
            Wish::Edit(edit) => {
                let (times, id) = (self.times(), ids[0]);
                let (next_job, first_callback) = (JobId(0), CallbackId(0));
                Change::Edit(Box::new(JobEdit { request, id, edit, times, next_job, first_callback }))
            }
        });
    }

    /// The attempt has begun after all.
    pub(in crate::core) fn begun(&mut self, id: JobId, request: RequestId, wish: &Wish) {
        self.tell(match wish {
            Wish::Hold => {
                Fact::Withheld { request, held: Vec::new(), others: vec![(id, Some(State::Running))] }
            }
            Wish::Assign { pool, .. } => {
                let others = vec![(id, NotAssigned::Beyond(State::Running))];
                Fact::Assigned { request, pool: pool.clone(), jobs: Vec::new(), others }
            }
            Wish::Edit(_) => Fact::Edited { request, id, edited: Err(NotEdited::Beyond(State::Running)) },
        });
    }

    /// The start of the attempt is being written down, and its worker has not been given it.
    fn take_from_slot(&mut self, id: JobId) {
        let Some(active) = self.remove_active(id) else { return };
        self.requeue_untried(id, &active, None);
        self.vacate(active.slot);
    }

    /// A job that is here without a slot counts as queued until the engine has answered.
    fn set_aside(&mut self, id: JobId) {
        if let Some(ready) = self.unattended.get_mut(&id).and_then(|unattended| unattended.ready.take()) {
            self.enqueue(id, &ready.work.pool, Holdup::None);
            return self.keep_aside(ready);
        }
        // What is volatile is not held, and stays.
        let is_durable = |offer: &crate::engine::Offer| !offer.ready.work.volatile;
        let taken = self.pools.iter_mut().find_map(|(pool_id, pool)| {
            pool.offers.get(id).filter(|&offer| is_durable(offer))?;
            pool.offers.remove(id).map(|offer| (pool_id, offer.ready))
        });
        if let Some((pool_id, ready)) = taken {
            self.stirred.insert(pool_id);
            self.keep_aside(ready);
        }
    }

    /// The engine offers, or has offered, a job that it is to hold.
    pub(in crate::core) fn keep_aside(&mut self, ready: Ready) {
        if let Some(holding) = self.holding.get_mut(&ready.id) {
            holding.offered = Some(ready);
        }
    }

    /// The job has ended: nobody puts it back.
    pub(in crate::core) fn forget_aside(&mut self, id: JobId) {
        if let Some(holding) = self.holding.get_mut(&id) {
            holding.offered = None;
        }
    }

    /// The engine has answered once more; what it has offered, which is out of here then.
    fn answered_hold(&mut self, id: JobId) -> Option<Ready> {
        let holding = self.holding.get_mut(&id)?;
        holding.times -= 1;
        let offered = holding.offered.take();
        if holding.times == 0 {
            let overdue = self.holding.remove(&id).map(|holding| holding.overdue).unwrap_or_default();
            self.overdue.extend(overdue.into_iter().map(|term| (term, id)));
        }
        offered
    }

    /// Whether what the job's time means is to be seen when the engine has answered.
    pub(in crate::core) fn postpone_end(&mut self, term: Term, id: JobId) -> bool {
        let Some(holding) = self.holding.get_mut(&id) else { return false };
        if !holding.overdue.contains(&term) {
            holding.overdue.push(term);
        }
        true
    }

    /// The engine has answered about jobs whose time was over by then.
    pub(in crate::core) fn end_overdue(&mut self) {
        for (term, id) in std::mem::take(&mut self.overdue) {
            self.out_of_time(term, id);
        }
    }

    pub(in crate::core) fn on_withheld(
        &mut self,
        request: RequestId,
        held: Vec<(JobId, Option<Dequeued>)>,
        others: Vec<(JobId, Option<State>)>,
    ) {
        for &(id, _) in &held {
            self.answered_hold(id);
        }
        for &(id, state) in &others {
            let ready = self.answered_hold(id).filter(|_| state.is_none());
            // There was none when the engine looked, and there is one now.
            self.effects.extend(ready.map(Effect::GiveBack));
        }
        let mut told: Vec<(JobId, Option<Arc<str>>)> = Vec::with_capacity(held.len());
        for (id, line) in held {
            if let Some(Dequeued { pool, holdup }) = &line {
                self.dequeue(id, pool, *holdup);
            }
            told.push((id, line.map(|line| line.pool)));
        }
        self.passed_by(told.iter().map(|&(id, _)| id));
        self.held_in_arrays(told.iter().map(|&(id, _)| id));
        self.tell(Fact::Withheld { request, held: told, others });
    }

    pub(in crate::core) fn on_edited(&mut self, request: RequestId, id: JobId, edited: Edited) {
        let revised = match edited {
            Edited::Done(revised) => revised,
            Edited::Kept(_, why_not) => {
                // It is where it was, from where the engine offers it.
                self.answered_hold(id);
                return self.tell(Fact::Edited { request, id, edited: Err(why_not) });
            }
            Edited::Not(why_not) => {
                let ready = self.answered_hold(id).filter(|_| why_not == NotEdited::Missing);
                // As for one that was to be held.
                self.effects.extend(ready.map(Effect::GiveBack));
                return self.tell(Fact::Edited { request, id, edited: Err(why_not) });
            }
        };

        let Revised { from, now, deadline_us, start_by_us, exclusive, failed } = *revised;
        let terms = [(Term::End, deadline_us), (Term::Start, start_by_us)];
        if let Some(holding) = self.holding.get_mut(&id) {
            let is_new = |term| terms.iter().any(|&(other, until_us)| other == term && until_us.is_some());
            holding.overdue.retain(|&term| !is_new(term));
        }
        self.answered_hold(id);
        self.limit_labels_to_one(&exclusive);
        if let Some(Dequeued { pool, holdup }) = &from {
            self.dequeue(id, pool, *holdup);
        }
        let pool = now.line.pool.clone();
        self.waits_now(id, &pool, now.until);
        self.tell(Fact::Edited { request, id, edited: Ok(pool) });
        failed.into_iter().for_each(|prior| self.end(id, StopReason::Dependency(prior)));
        self.give_time(id, terms.map(|(term, until_us)| (term, until_us.flatten())));
    }

    pub(in crate::core) fn on_assigned(
        &mut self,
        request: RequestId,
        pool: &Arc<str>,
        jobs: Vec<Assigned>,
        unfit: &[(Assigned, NotAssigned)],
        mut others: Vec<(JobId, NotAssigned)>,
    ) {
        for &(id, why_not) in &others {
            let ready = self.answered_hold(id).filter(|_| why_not == NotAssigned::Missing);
            // As for one that was to be held.
            self.effects.extend(ready.map(Effect::GiveBack));
        }
        // They are where they were, from where the engine offers them.
        for (Assigned { position, .. }, why_not) in unfit {
            self.answered_hold(position.id);
            others.push((position.id, *why_not));
        }
        let mut told = Vec::with_capacity(jobs.len());
        for Assigned { position, from, holdup, .. } in jobs {
            let id = position.id;
            self.answered_hold(id);
            if let Some(holdup) = holdup {
                self.dequeue(id, &from, holdup);
                self.enqueue(id, pool, holdup);
                if holdup == Holdup::None {
                    self.came_back(pool);
                }
            }
            told.push((id, from));
        }
        self.passed_by(told.iter().map(|&(id, _)| id));
        self.tell(Fact::Assigned { request, pool: pool.clone(), jobs: told, others });
    }
}
