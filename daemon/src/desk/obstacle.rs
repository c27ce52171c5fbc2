//! Why a job that somebody waits for does not go on, told to those who asked for that. What is known comes from
//! the job's record, from the core ([`Core::stall_of`]) and from the engine's failures.
//!
//! A waiting request learns of the obstacles that there are with the records of its jobs, and of those that
//! come later when they come. That an obstacle is gone is not told: the start or the end of the job shows it.

use pool_proto::methods::{Canceled, Submitted};
use pool_proto::nouns::{Dependency, Obstacle, ObstacleKind, Progress, ProgressEvent};
use pool_proto::text::rfc3339;
use pool_proto::{OsText, Record, State};

use super::Desk;
use super::request::Open;
use super::wait::{Wanted, progress};
use crate::core::{Core, Reach, Stall};
use crate::engine::{Move, Question};
use crate::job::{JobId, Place, RequestId, Until};

/// A request is told so many obstacles of each kind: enough for one who looks into it, and few for a request
/// that waits for very many jobs.
pub const MOST_TOLD: u32 = 8;

impl Desk {
    /// Why a job does not go on, as its record has it.
    pub(super) fn obstacle_of(&self, record: &Record, core: &Core) -> Option<Obstacle> {
        let id = JobId(record.id);
        let failure = self.changing.store_failure.as_deref();
        match (record.state, failure) {
            (state, _) if state.is_terminal() => None,
            (_, Some(failure)) if core.is_ending(id) => Some(unwritten_end(id, failure)),
            (_, Some(failure)) if core.reachable(id) == Reach::NotHanded => {
                Some(unwritten_start(id, failure))
            }
            (State::Held, _) => Some(held(id, record.reason.as_deref())),
            (State::Scheduled, _) => Some(scheduled(id, record.due_at.as_deref().unwrap_or_default())),
            (State::Blocked, _) => Some(blocked(id, record.after.as_deref().unwrap_or_default())),
            (State::Retrying, _) if record.due_at.is_some() => {
                let due_at = record.due_at.as_deref().unwrap_or_default();
                Some(retry(id, due_at, record.reason.as_deref()))
            }
            (State::Queued, _) if record.waits_for.is_some() => {
                Some(turn(id, record.waits_for.unwrap_or_default(), record.unique.as_ref()))
            }
            (State::Queued | State::Retrying, _) if core.reachable(id) == Reach::Unknown => {
                let Stall { reason, lasts } = core.stall_of(&record.pool)?;
                let reason = format!("job {id} waits: {reason}");
                let lasts = lasts.then_some(true);
                Some(Obstacle { id: id.0, kind: ObstacleKind::Pool, reason, lasts })
            }
            (_, _) => None,
        }
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
            (Place::Waiting(Until::Person), _) => held(id, reason),
            (Place::Waiting(Until::Time { due_us }), _) => retry(id, &rfc3339(*due_us), reason),
            (Place::Ended(_), Some(failure)) => unwritten_end(id, failure),
            (Place::Running(_), Some(failure)) if moved.confirm => unwritten_start(id, failure),
            // Only a submission puts a job there.
            (Place::Waiting(Until::Predecessor | Until::Others | Until::Start { .. }), _) => return,
            (Place::Ended(_) | Place::Running(_) | Place::Queued { .. } | Place::Stopping(_), _) => return,
        };
        self.tell_obstacle(&obstacle);
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

fn held(id: JobId, reason: Option<&str>) -> Obstacle {
    let reason = format!("job {id} is held: {}", reason.unwrap_or("a person has to decide"));
    Obstacle { id: id.0, kind: ObstacleKind::Held, reason, lasts: None }
}

fn scheduled(id: JobId, due_at: &str) -> Obstacle {
    let reason = format!("job {id} does not start before {due_at}");
    Obstacle { id: id.0, kind: ObstacleKind::Scheduled, reason, lasts: None }
}

fn blocked(id: JobId, after: &[Dependency]) -> Obstacle {
    const NAMED: usize = 3;

    let mut named: Vec<String> =
        after.iter().take(NAMED).map(|dependency| dependency.id.to_string()).collect();
    named.extend((after.len() > NAMED).then(|| "others".to_owned()));
    let reason = format!("job {id} waits for the end of {}", named.join(", "));
    Obstacle { id: id.0, kind: ObstacleKind::Blocked, reason, lasts: None }
}

fn turn(id: JobId, before: u64, unique: Option<&OsText>) -> Obstacle {
    let name = unique.map(ToString::to_string).unwrap_or_default();
    let reason =
        format!("job {id} waits until job {before}, which has the unique name {name:?} too, has ended");
    Obstacle { id: id.0, kind: ObstacleKind::Unique, reason, lasts: None }
}

fn retry(id: JobId, due_at: &str, reason: Option<&str>) -> Obstacle {
    let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let reason = format!("job {id} waits for its next attempt, due at {due_at}{why}");
    Obstacle { id: id.0, kind: ObstacleKind::Retry, reason, lasts: None }
}

fn unwritten_end(id: JobId, failure: &str) -> Obstacle {
    let reason = format!("job {id} is over, but poold cannot write that into its database: {failure}");
    Obstacle { id: id.0, kind: ObstacleKind::Store, reason, lasts: None }
}

fn unwritten_start(id: JobId, failure: &str) -> Obstacle {
    let reason = format!(
        "job {id} cannot start: poold has to write that into its database first, and cannot: {failure}"
    );
    Obstacle { id: id.0, kind: ObstacleKind::Store, reason, lasts: None }
}
