//! Why a job that somebody waits for does not go on, told to those who asked for that. What is known comes
//! from the job's record, from the core ([`Core::stall_of`]) and from the engine's failures.
//!
//! A waiting request learns of the obstacles that there are with the records of its jobs, and of those that
//! come later when they come. That an obstacle is gone is not told: the start or the end of the job shows it.

use pool_proto::methods::{Canceled, Submitted};
use pool_proto::nouns::{Dependency, Indices, Obstacle, ObstacleKind, Progress, ProgressEvent};
use pool_proto::text::unix_micros;
use pool_proto::{OsText, Record, State};

use super::Desk;
use super::request::Open;
use super::sentence::{self, Doings};
use super::wait::{Wanted, progress};
use super::why::stall_of;
use crate::core::{Core, Reach, Stall};
use crate::engine::{Move, Question};
use crate::job::{JobId, Place, RequestId, Until};

/// A request is told so many obstacles of each kind: enough for one who looks into it, and few for a request
/// that waits for very many jobs.
pub const MOST_TOLD: u32 = 8;

/// Where a job stands.
#[derive(Debug)]
pub enum Standing {
    /// It waits for something besides a slot, or its database cannot be written.
    Obstructed(Obstacle),
    /// It is in its pool's line.
    InLine,
    /// A worker has its attempt.
    Running,
    Ended,
}

impl Desk {
    /// Why a job does not go on, as its record has it.
    pub(super) fn obstacle_of(&self, record: &Record, core: &Core) -> Option<Obstacle> {
        let id = JobId(record.id);
        match self.standing_of(record, core, None) {
            Standing::Obstructed(obstacle) => Some(obstacle),
            Standing::InLine if core.reachable(id) == Reach::Unknown => {
                let Stall { reason, lasts } = stall_of(record, core)?;
                let reason = sentence::stalled(id, &reason);
                let lasts = lasts.then_some(true);
                Some(Obstacle { id: id.0, kind: ObstacleKind::Pool, reason, lasts })
            }
            Standing::Running => held_array(record),
            Standing::InLine | Standing::Ended => None,
        }
    }

    /// Where a job stands, as far as its record and the core tell. `doings`: for who asks once, what the jobs
    /// do that this one waits for; then it is also told how long it waits yet, which changes as time goes by.
    pub(super) fn standing_of(&self, record: &Record, core: &Core, doings: Option<&Doings>) -> Standing {
        let id = JobId(record.id);
        let reason = record.reason.as_deref();
        let due = || self.due_text(record, core, doings.is_some());
        match (record.state, self.changing.store_failure.as_deref()) {
            (State::Succeeded | State::Failed | State::Canceled | State::TimedOut | State::Lost, _) => {
                Standing::Ended
            }
            (_, Some(failure)) if core.is_ending(id) => Standing::Obstructed(unwritten_end(id, failure)),
            (_, Some(failure)) if core.reachable(id) == Reach::NotHanded => {
                Standing::Obstructed(unwritten_start(id, failure))
            }
            (State::Held, _) => Standing::Obstructed(held(id, reason)),
            (State::Scheduled, _) => Standing::Obstructed(scheduled(id, &due())),
            (State::Blocked, _) => {
                let after = record.after.as_deref().unwrap_or_default();
                Standing::Obstructed(blocked(id, after, doings))
            }
            (State::Retrying, _) if record.due_at.is_some() => {
                Standing::Obstructed(retry(id, &due(), reason))
            }
            (State::Queued, _) if record.waits_for.is_some() => Standing::Obstructed(turn(
                id,
                record.waits_for.unwrap_or_default(),
                record.unique.as_ref(),
                doings,
            )),
            (State::Queued | State::Retrying, _) if core.reachable(id) == Reach::Running => Standing::Running,
            (State::Queued | State::Retrying, _) => Standing::InLine,
            (State::Running | State::Stopping, _) => Standing::Running,
        }
    }

    /// When a job is due, and with `is_counted` how long that is from now.
    fn due_text(&self, record: &Record, core: &Core, is_counted: bool) -> String {
        let Some(due_us) = record.due_at.as_deref().and_then(unix_micros) else {
            return "its time".to_owned();
        };
        sentence::due(due_us, is_counted.then(|| core.left_until(self.now, due_us)))
    }

    /// Something has come in the way of an unknown number of jobs: the records of those that are waited for
    /// tell of which.
    pub(super) fn look_for_obstacles(&mut self) {
        let is_one = |open: &Open| matches!(open, Open::Waiting(watcher) if watcher.tells_obstacles);
        for request in self.requests.that(is_one) {
            let Some(watcher) = self.requests.watcher(request).filter(|watcher| watcher.keeps_up()) else {
                continue; // It has enough to read.
            };
            let mut ids: Vec<JobId> = watcher.remaining().copied().collect();
            ids.sort_unstable();
            // The first ones: they are the next to be started.
            ids.truncate(MOST_TOLD as usize);
            self.ask(Question::Records { request, ids });
        }
    }

    /// No slot works at an array: its record tells whether that is since all that is left of it is held.
    pub(super) fn look_for_held_elements(&mut self, array: JobId) {
        for request in self.requests.awaiting(array) {
            let watcher = self.requests.watcher(request);
            if watcher.is_some_and(|watcher| watcher.tells_obstacles && watcher.keeps_up()) {
                self.ask(Question::Records { request, ids: vec![array] });
            }
        }
    }

    /// The engine cannot be written: ends that it has been given are not told for now.
    pub(super) fn on_store_failure(&mut self, failure: &str, core: &Core) {
        for id in core.ending() {
            self.tell_obstacle(&unwritten_end(id, failure));
        }
        self.look_for_obstacles();
    }

    /// A job is moved to where it waits for something besides a slot.
    pub(super) fn overhear_obstacle(&mut self, moved: &Move) {
        let (id, reason) = (moved.id, moved.reason.as_deref());
        let failure = self.changing.store_failure.as_deref();
        let obstacle = match (&moved.to, failure) {
            (Place::Waiting(Until::Person), _) => {
                self.changing.held = self.changing.held.map(|jobs| jobs + 1);
                held(id, reason)
            }
            (Place::Waiting(Until::Time { due_us }), _) => retry(id, &sentence::due(*due_us, None), reason),
            (Place::Ended(_), Some(failure)) => unwritten_end(id, failure),
            (Place::Running(_), Some(failure)) if moved.confirm => unwritten_start(id, failure),
            // Only a submission puts a job there.
            (Place::Waiting(Until::Predecessor | Until::Others | Until::Start { .. }), _) => return,
            (
                Place::Ended(_)
                | Place::Begun
                | Place::Running(_)
                | Place::Queued { .. }
                | Place::Stopping(_),
                _,
            ) => return,
        };
        self.tell_obstacle(&obstacle);
    }

    /// Somebody has had the job held.
    pub(super) fn tell_held(&mut self, id: JobId) {
        self.tell_obstacle(&held(id, None));
    }

    /// To all that wait for the job and want to know.
    fn tell_obstacle(&mut self, obstacle: &Obstacle) {
        for request in self.requests.awaiting(JobId(obstacle.id)) {
            self.tell_obstacle_to(request, obstacle.clone());
        }
    }

    pub(super) fn tell_obstacle_to(&mut self, request: RequestId, obstacle: Obstacle) {
        let Some(watcher) = self.requests.watcher_mut(request) else { return };
        if !watcher.note_obstacle(obstacle.kind) {
            return;
        }
        match watcher.wanted {
            Wanted::Attached(_) | Wanted::Ends { .. } => {
                let id = JobId(obstacle.id);
                let waiting = Progress { obstacle: Some(obstacle), ..progress(ProgressEvent::Waiting, id) };
                self.reply(request, waiting, false);
            }
            Wanted::Batch => {
                let submitted = Submitted { obstacles: Some(vec![obstacle]), ..Submitted::default() };
                self.reply(request, submitted, false);
            }
            Wanted::Cancel { .. } => {
                self.reply(request, Canceled { jobs: Vec::new(), obstacles: Some(vec![obstacle]) }, false);
            }
        }
    }
}

fn obstacle(id: JobId, kind: ObstacleKind, reason: String) -> Obstacle {
    Obstacle { id: id.0, kind, reason, lasts: None }
}

fn held(id: JobId, reason: Option<&str>) -> Obstacle {
    obstacle(id, ObstacleKind::Held, sentence::held(id, reason))
}

/// Of an array that has begun, where all of its elements that have not ended are held.
fn held_array(record: &Record) -> Option<Obstacle> {
    let array = record.array.as_deref().filter(|array| array.index.is_none())?;
    let ended: u32 = [array.succeeded, array.failed, array.canceled].into_iter().flatten().sum();
    let indices: Indices = array.indices.as_deref()?.parse().ok()?;
    let is_held = array.held.is_some_and(|held| ended.saturating_add(held) >= array.elements);
    let id = JobId(record.id);
    is_held.then(|| obstacle(id, ObstacleKind::Held, sentence::held_array(id, &indices)))
}

fn scheduled(id: JobId, due: &str) -> Obstacle {
    obstacle(id, ObstacleKind::Scheduled, sentence::scheduled(id, due))
}

fn blocked(id: JobId, after: &[Dependency], doings: Option<&Doings>) -> Obstacle {
    let others: Vec<JobId> = after.iter().map(|dependency| JobId(dependency.id)).collect();
    obstacle(id, ObstacleKind::Blocked, sentence::blocked(id, &others, doings))
}

fn turn(id: JobId, before: u64, unique: Option<&OsText>, doings: Option<&Doings>) -> Obstacle {
    let name = unique.map(ToString::to_string).unwrap_or_default();
    obstacle(id, ObstacleKind::Unique, sentence::turn(id, JobId(before), &name, doings))
}

fn retry(id: JobId, due: &str, reason: Option<&str>) -> Obstacle {
    obstacle(id, ObstacleKind::Retry, sentence::retry(id, due, reason))
}

fn unwritten_end(id: JobId, failure: &str) -> Obstacle {
    obstacle(id, ObstacleKind::Store, sentence::unwritten_end(id, failure))
}

fn unwritten_start(id: JobId, failure: &str) -> Obstacle {
    obstacle(id, ObstacleKind::Store, sentence::unwritten_start(id, failure))
}
