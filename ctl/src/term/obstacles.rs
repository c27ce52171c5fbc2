//! Why jobs do not go on, for people who wait: a line on stderr for an obstacle that has lasted for a moment.
//! Most are over before that, and nothing is printed.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use pool_proto::nouns::{Obstacle, ObstacleKind};

use super::text::printable;

/// An obstacle that lasts this long is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same, where poold cannot write: the job is over, and only its end is missing.
const PATIENCE_FOR_STORE: Duration = Duration::from_secs(1);

/// The number of characters of a reason that are shown.
const LONGEST: usize = 1000;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Obstacles {
    /// The latest obstacle of each job, and when it is to be told.
    pending: BTreeMap<u64, (Instant, Obstacle)>,
    /// What was told.
    told: HashSet<String>,
    told_kinds: HashSet<ObstacleKind>,
    is_of_one: bool,
}

impl Obstacles {
    /// The obstacles of one job: each is told.
    pub fn of_one() -> Self {
        Self { is_of_one: true, ..Self::default() }
    }

    /// The obstacles of many jobs: one of each kind is told.
    pub fn of_many() -> Self {
        Self::default()
    }

    /// Notes an obstacle.
    pub fn note(&mut self, obstacle: Obstacle) {
        let patience = match obstacle.kind {
            // There has been patience enough.
            _ if obstacle.lasts == Some(true) => Duration::ZERO,
            ObstacleKind::Store => PATIENCE_FOR_STORE,
            ObstacleKind::Held
            | ObstacleKind::Scheduled
            | ObstacleKind::Blocked
            | ObstacleKind::Retry
            | ObstacleKind::Unique
            | ObstacleKind::Pool => PATIENCE,
        };
        let latest = Instant::now() + patience;
        let due = match self.pending.get(&obstacle.id) {
            Some((due, earlier)) if earlier.kind == obstacle.kind => latest.min(*due),
            Some(_) | None => latest,
        };
        self.pending.insert(obstacle.id, (due, obstacle));
    }

    /// The job goes on, or has ended.
    pub fn forget(&mut self, id: u64) {
        self.pending.remove(&id);
    }

    /// No job is waited for any more, or poold has gone and will tell anew.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// When the next obstacle is to be told.
    pub fn due(&self) -> Option<Instant> {
        self.pending.values().map(|(due, _)| *due).min()
    }

    /// The lines that are to be told now.
    pub fn lines(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut due: BTreeMap<ObstacleKind, Vec<Obstacle>> = BTreeMap::new();
        self.pending.retain(|_, (at, obstacle)| {
            if *at <= now {
                due.entry(obstacle.kind).or_default().push(obstacle.clone());
            }
            *at > now
        });

        let mut lines = Vec::new();
        for (kind, obstacles) in due {
            let first = &obstacles[0];
            let is_new = self.told_kinds.insert(kind) || self.is_of_one;
            if is_new && self.told.insert(first.reason.clone()) {
                let others = match obstacles.len() - 1 {
                    0 => String::new(),
                    others => format!(" (and {others} more)"),
                };
                lines.push(format!("{}{others}", printable(&first.reason, LONGEST)));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(id: u64, kind: ObstacleKind) -> Obstacle {
        Obstacle { id, kind, reason: format!("job {id} waits"), lasts: None }
    }

    /// What is told when everything has lasted long enough.
    fn later(obstacles: &mut Obstacles) -> Vec<String> {
        let now = Instant::now();
        obstacles.pending.values_mut().for_each(|(due, _)| *due = now);
        obstacles.lines()
    }

    #[test]
    fn what_lasts_is_told_once() {
        let mut obstacles = Obstacles::of_one();
        obstacles.note(obstacle(1, ObstacleKind::Held));
        assert_eq!(obstacles.lines(), Vec::<String>::new(), "it has not lasted");
        assert!(obstacles.due().is_some());
        assert_eq!(later(&mut obstacles), ["job 1 waits"]);
        obstacles.note(obstacle(1, ObstacleKind::Held));
        assert_eq!(later(&mut obstacles), Vec::<String>::new());

        obstacles.note(obstacle(2, ObstacleKind::Held));
        obstacles.forget(2);
        assert_eq!((obstacles.due(), later(&mut obstacles)), (None, vec![]), "it has gone on");
    }

    #[test]
    fn what_has_lasted_before_is_told_at_once() {
        let mut obstacles = Obstacles::of_many();
        obstacles.note(obstacle(1, ObstacleKind::Pool));
        assert_eq!(obstacles.lines(), Vec::<String>::new());
        obstacles.note(Obstacle { lasts: Some(true), ..obstacle(1, ObstacleKind::Pool) });
        assert_eq!(obstacles.lines(), ["job 1 waits"]);
    }

    #[test]
    fn of_many_jobs_one_is_told_for_each_kind() {
        let mut obstacles = Obstacles::of_many();
        for id in 1..=3 {
            obstacles.note(obstacle(id, ObstacleKind::Pool));
        }
        obstacles.note(obstacle(4, ObstacleKind::Store));
        assert_eq!(later(&mut obstacles), ["job 1 waits (and 2 more)", "job 4 waits"]);
        obstacles.note(obstacle(5, ObstacleKind::Pool));
        assert_eq!(later(&mut obstacles), Vec::<String>::new());
    }
}
