//! The model and poold's events.

use pool_proto::State;
use pool_proto::nouns::{Happening, HappeningKind, SlotState};

use super::job::{Job, micros};
use super::model::{Model, Presence};
use super::wish::Wish;

impl Model {
    /// poold tells what happens from now on; what happened before is read.
    fn on_listening(&mut self) {
        self.presence = Presence::Here;
        self.doubt = None;
        self.queue.forget();
        self.wishes.push(Wish::ReadAll { changes: self.pools.changes() });
        if let Some(story) = &mut self.story {
            story.doubt();
            self.wishes.push(Wish::OpenLog(story.id));
        }
    }

    /// poold has gone.
    pub fn on_lost(&mut self) {
        if self.presence == Presence::Here {
            self.presence = Presence::Away(self.now);
        }
        self.is_dirty = true;
    }

    /// poold has told only a part of what has happened.
    pub fn on_missed(&mut self) {
        self.tell("more has happened than could be told; everything was read again");
    }

    /// An event.
    pub fn hear(&mut self, happening: &Happening) {
        self.is_dirty = true;
        if happening.event == HappeningKind::Listening {
            return self.on_listening();
        }
        match (happening.id, happening.pool.as_deref()) {
            (Some(id), Some(pool)) => self.hear_of_job(id, pool, happening),
            (None, Some(pool)) => self.hear_of_pool(pool, happening),
            // The callbacks' own slots are not shown.
            (_, None) => {}
        }
    }

    fn hear_of_pool(&mut self, pool: &str, happening: &Happening) {
        let slot = |state| happening.slot.map(|slot| (slot, state));
        let slot = match happening.event {
            HappeningKind::PoolPaused | HappeningKind::PoolResumed => {
                if let Some(pool) = self.pools.find_mut(pool) {
                    pool.is_paused = happening.event == HappeningKind::PoolPaused;
                }
                None
            }
            HappeningKind::WorkerUp | HappeningKind::ProgramReady => slot(SlotState::Idle),
            HappeningKind::WorkerLost => slot(SlotState::Down),
            _ => None,
        };
        if let Some((slot, state)) = slot {
            let reason = if state == SlotState::Down { happening.reason.clone() } else { None };
            self.pools.set_slot(pool, slot, state, reason);
        }
        // The pool may be new, or have other slots than before.
        if self.is_read && happening.slot.is_none_or(|slot| self.pools.slot(pool, slot).is_none()) {
            self.doubt();
        }
    }

    fn hear_of_job(&mut self, id: u64, pool: &str, happening: &Happening) {
        if let Some(story) = self.story.as_mut().filter(|story| story.id == id) {
            story.doubt();
            if happening.event == HappeningKind::Started {
                self.wishes.push(Wish::OpenLog(id));
            }
        }

        match happening.event {
            HappeningKind::Submitted => {
                let mut job = Job::bare(id, pool, State::Queued);
                job.submitted_at = Some(happening.at.clone());
                job.hear(happening);
                self.pools.queue(pool, 1);
                self.queue.add(job);
            }
            HappeningKind::Started => {
                let mut job = self.take_out(id).unwrap_or_else(|| Job::bare(id, pool, State::Running));
                (job.state, job.note, job.is_frozen) = (State::Running, None, false);
                job.started_us = micros(&happening.at);
                job.hear(happening);
                if let Some(slot) = happening.slot {
                    self.pools.begin(pool, slot, job);
                }
            }
            HappeningKind::Progress => {
                let progress = happening.progress.as_ref().map(crate::term::progress::describe);
                if let (Some(progress), Some(job)) = (progress, self.pools.job_mut(id)) {
                    job.note = Some(progress);
                }
                return;
            }
            HappeningKind::Stopping => {
                if let Some(job) = self.pools.job_mut(id) {
                    job.state = State::Stopping;
                    job.hear(happening);
                }
                return;
            }
            HappeningKind::Requeued => self.put_back(id, pool, State::Queued, happening),
            HappeningKind::Retrying => self.put_back(id, pool, State::Retrying, happening),
            HappeningKind::Released => self.put_back(id, pool, State::Queued, happening),
            HappeningKind::Held => self.put_back(id, pool, State::Held, happening),
            HappeningKind::Ended => {
                let had_slot = self.pools.end(id);
                let mut job = match had_slot {
                    Some(job) => job,
                    None => {
                        self.pools.queue(pool, -1);
                        self.queue.remove(id).unwrap_or_else(|| Job::bare(id, pool, State::Failed))
                    }
                };
                (job.note, job.is_frozen) = (None, false);
                job.ended_at = Some(happening.at.clone());
                job.hear(happening);
                self.history.count(job.state != State::Succeeded);
                self.ended.add(job);
            }
            // Its record is read anew once it is on the screen.
            HappeningKind::Edited => {
                if let Some(mut job) = self.queue.remove(id) {
                    self.pools.queue(&job.pool, -1);
                    self.pools.queue(pool, 1);
                    (job.work, job.seen_us, job.is_asked) = (None, None, false);
                    job.hear(happening);
                    self.queue.add(job);
                }
            }
            HappeningKind::CallbackFailed => {
                return self.tell(format!("a callback of job {id} was given up"));
            }
            HappeningKind::CallbackDelivered
            | HappeningKind::CallbackRetrying
            | HappeningKind::Listening
            | HappeningKind::Gap
            | HappeningKind::WorkerUp
            | HappeningKind::ProgramReady
            | HappeningKind::WorkerLost
            | HappeningKind::PoolPaused
            | HappeningKind::PoolResumed => return,
        }
        self.doubt();
    }

    /// The job waits, having run, ended or waited in another way.
    fn put_back(&mut self, id: u64, pool: &str, state: State, happening: &Happening) {
        let has_run = self.pools.end(id);
        let was_queued = has_run.is_none() && self.queue.jobs.get(&id).is_some_and(|job| counts(job.state));
        let job = has_run.or_else(|| self.take_out(id));
        if was_queued && let Some(job) = &job {
            self.pools.queue(&job.pool, -1);
        }

        let mut job = job.unwrap_or_else(|| Job::bare(id, pool, state));
        (job.note, job.started_us, job.ended_at, job.is_frozen) = (None, None, None, false);
        job.hear(happening);
        job.state = state;
        if counts(state) {
            self.pools.queue(pool, 1);
        }
        self.queue.add(job);
    }

    /// The job, from among those that wait or have ended.
    fn take_out(&mut self, id: u64) -> Option<Job> {
        self.queue.remove(id).or_else(|| self.ended.remove(id))
    }
}

/// Whether such a job counts as queued in its pool.
fn counts(state: State) -> bool {
    state != State::Held
}
