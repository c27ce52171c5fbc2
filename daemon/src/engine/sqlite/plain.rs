//! Plain jobs, known by heart: those that have nothing which an end has to look for. No other job waits for
//! such a job, nor does it wait for others; it has no key, no unique name, no callbacks and no input, and is
//! no part of an array. Its end changes its row, and reads nothing.
//!
//! Only jobs that were added lately are known, so many at most, and only until anything happens to a job but
//! its start and its end: then all are forgotten. Of a job that is not known, the end looks into its row.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::Insertion;
use crate::engine::retention::{Group, Standing};
use crate::job::{IdMap, JobId, Outcome, Tie, Work};

/// So many are known at most: more than the jobs that fast clients have in flight.
const MAX: usize = if cfg!(test) { 4 } else { 16 * 1024 };

/// What the history needs to know of such a job when it ends.
#[derive(Debug, Clone)]
pub struct Plain {
    pool: Arc<str>,
    is_told: bool,
    is_call: bool,
    params_bytes: u64,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct PlainJobs {
    jobs: IdMap<JobId, Plain>,
    /// In the order in which they came, also those that have been taken since.
    order: VecDeque<JobId>,
}

impl Plain {
    fn of(work: &Work) -> Option<Self> {
        let Work { pool, tie, key, unique, conditions, callbacks, array, stdin, .. } = work;
        let has_nothing = key.is_none()
            && unique.is_none()
            && conditions.is_none()
            && callbacks.is_empty()
            && array.is_none()
            && stdin.is_none();
        let call = work.call();
        let params = call.and_then(|call| call.params.as_ref());
        has_nothing.then(|| Self {
            pool: pool.clone(),
            is_told: *tie == Some(Tie::Client),
            is_call: call.is_some(),
            params_bytes: params.map_or(0, |params| params.get().len() as u64),
        })
    }

    /// How the history counts it, and the bytes that it holds there.
    pub fn ended(self, outcome: &Outcome) -> (Group, u64) {
        let Self { pool, is_told, is_call, params_bytes } = self;
        let standing = Standing::of(outcome.state, false, is_told, is_call);
        (Group { standing, pool }, outcome.held_bytes().saturating_add(params_bytes))
    }
}

impl PlainJobs {
    /// All of these jobs have been added, but for those at these places.
    pub fn add(&mut self, insertion: &Insertion, existing: &[(usize, JobId)]) {
        if insertion.jobs.iter().any(|work| !work.after().is_empty()) {
            // Others wait for some that were plain.
            self.clear();
        }
        if !existing.is_empty() {
            return;
        }
        for (id, work) in (insertion.first.0..).map(JobId).zip(&insertion.jobs) {
            let Some(plain) = Plain::of(work) else { continue };
            if self.order.len() == MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.jobs.remove(&oldest);
            }
            self.order.push_back(id);
            self.jobs.insert(id, plain);
        }
    }

    /// The job ends, or goes somewhere where it is plain no more.
    pub fn take(&mut self, id: JobId) -> Option<Plain> {
        self.jobs.remove(&id)
    }

    pub fn clear(&mut self) {
        self.jobs.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use pool_proto::nouns::{On, ResultKind, State};

    use super::*;
    use crate::engine::orders::{self, NOW_US, outcome};
    use crate::engine::{Change, Order};
    use crate::job::{After, Conditions};

    fn insertion(first: u64, jobs: Vec<Arc<Work>>) -> Insertion {
        match orders::insert(first, 1, jobs) {
            Order::Change(Change::Insert(insertion)) => insertion,
            other => panic!("{other:?}"),
        }
    }

    fn known(plain: &PlainJobs) -> Vec<u64> {
        let mut known: Vec<u64> = plain.jobs.keys().map(|id| id.0).collect();
        known.sort_unstable();
        known
    }

    #[test]
    fn what_has_something_to_look_for_is_not_plain() {
        let mut plain = PlainJobs::default();
        let call = orders::call(false);
        let with_input = orders::work(&["a"], &[]);
        let with_callback = Work { stdin: None, ..Work::clone(&orders::work(&["a"], &[(On::Done, "b")])) };
        plain.add(&insertion(1, vec![call.clone(), with_input, Arc::new(with_callback), call.clone()]), &[]);
        assert_eq!(known(&plain), [1, 4]);
        plain.add(&insertion(5, vec![call; 2]), &[(1, JobId(1))]);
        assert_eq!(known(&plain), [1, 4], "of what was partly there already nothing is known");
    }

    #[test]
    fn nothing_is_known_by_heart_once_others_wait() {
        let mut plain = PlainJobs::default();
        plain.add(&insertion(1, vec![orders::call(false)]), &[]);
        let after = vec![After { id: JobId(1), on: On::Done }];
        let conditions = Some(Box::new(Conditions { after, ..Conditions::default() }));
        let waiting = Work { conditions, ..Work::clone(&orders::call(false)) };
        plain.add(&insertion(2, vec![Arc::new(waiting), orders::call(false)]), &[]);
        assert_eq!(known(&plain), [3]);
    }

    #[test]
    fn the_latest_are_known_and_each_is_taken_once() {
        let mut plain = PlainJobs::default();
        plain.add(&insertion(1, vec![orders::call(false); MAX + 2]), &[]);
        assert_eq!(known(&plain), [3, 4, 5, 6]);
        let ended = plain.take(JobId(5)).expect("it is known");
        let (group, bytes) = ended.ended(&outcome(State::Succeeded, ResultKind::Success, NOW_US));
        assert_eq!((group.standing, &*group.pool, bytes), (Standing::Ordinary, "default", 120));
        assert!(plain.take(JobId(5)).is_none());
        plain.add(&insertion(7, vec![orders::call(false); 3]), &[]);
        assert_eq!(known(&plain), [6, 7, 8, 9], "what was taken counts until its turn has come");
        plain.clear();
        assert!(known(&plain).is_empty() && plain.order.is_empty());
    }
}
