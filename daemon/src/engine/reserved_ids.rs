//! Ids of volatile jobs. The next start must not give them out again, and finds none of these jobs. So nobody
//! is told of such a job before the disk says up to where ids may have been given out. That is done ahead,
//! for thousands at once.

use std::collections::VecDeque;

use super::Insertion;

/// So many are set aside at once: so many at most are skipped by the next start.
const RESERVE: u64 = 10_000;

/// See the module's description.
#[derive(Debug, Default)]
pub struct ReservedIds {
    /// The backing has been asked to set aside all ids below this one...
    asked_below: u64,
    /// ...and has done so for those below this one.
    below: u64,
    /// Insertions that wait for that, in order, each with the first id after its own.
    waiting: VecDeque<(u64, Insertion)>,
}

impl ReservedIds {
    /// An insertion comes, whose ids are all below `next`. Returns below which id all are to be set aside,
    /// where that is to be asked now.
    pub fn ask(&mut self, next: u64, insertion: Insertion) -> Option<u64> {
        self.waiting.push_back((next, insertion));
        if next + RESERVE / 2 <= self.asked_below {
            return None;
        }
        self.asked_below = next + RESERVE;
        Some(self.asked_below)
    }

    /// The backing has done so.
    pub fn reserved(&mut self, below: u64) {
        self.below = below;
    }

    /// The next insertion that may be carried out.
    pub fn next_ready(&mut self) -> Option<Insertion> {
        let &(next, _) = self.waiting.front()?;
        if next > self.below {
            return None;
        }
        self.waiting.pop_front().map(|(_, insertion)| insertion)
    }

    /// Those that wait are not carried out at all.
    pub fn give_up(&mut self) -> Vec<Insertion> {
        self.waiting.drain(..).map(|(_, insertion)| insertion).collect()
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Times;
    use crate::job::{CallbackId, JobId, RequestId};

    fn insertion(first: u64) -> Insertion {
        let (call, first_callback) = (RequestId(first), CallbackId(1));
        let (first, jobs) = (JobId(first), Vec::new());
        Insertion {
            request: call,
            first,
            first_callback,
            jobs,
            times: Times { submitted_us: 1, counted_from_us: 1 },
            is_urgent: false,
            files: Vec::new(),
        }
    }

    fn ask(ids: &mut ReservedIds, first: u64, count: u64) -> Option<u64> {
        ids.ask(first + count, insertion(first))
    }

    fn ready(ids: &mut ReservedIds) -> Vec<Insertion> {
        std::iter::from_fn(|| ids.next_ready()).collect()
    }

    #[test]
    fn nothing_is_inserted_before_its_ids_are_set_aside() {
        let mut ids = ReservedIds::default();
        assert_eq!(ask(&mut ids, 5, 2), Some(10_007));
        assert_eq!(ask(&mut ids, 7, 3), None, "that is under way");
        assert_eq!(ready(&mut ids), []);
        ids.reserved(10_007);
        assert_eq!(ready(&mut ids), [insertion(5), insertion(7)]);
        assert_eq!(
            (ask(&mut ids, 10, 1), ready(&mut ids)),
            (None, vec![insertion(10)]),
            "from now on nothing waits"
        );
        // The next ones are asked for in good time.
        assert_eq!(ask(&mut ids, 6000, 1), Some(16_001));
        assert_eq!(ready(&mut ids), [insertion(6000)]);
    }

    #[test]
    fn more_than_are_set_aside_at_once_wait_and_those_behind_them_keep_their_places() {
        let mut ids = ReservedIds::default();
        ask(&mut ids, 1, 1);
        ids.reserved(10_002);
        assert_eq!(ready(&mut ids), [insertion(1)]);
        assert_eq!(ask(&mut ids, 2, 20_000), Some(30_002));
        assert_eq!(ask(&mut ids, 20_002, 1), None);
        assert_eq!(ready(&mut ids), []);
        ids.reserved(30_002);
        assert_eq!(ready(&mut ids), [insertion(2), insertion(20_002)]);
    }

    #[test]
    fn what_is_given_up_is_not_inserted_later() {
        let mut ids = ReservedIds::default();
        ask(&mut ids, 5, 2);
        ask(&mut ids, 7, 3);
        assert_eq!(ids.give_up(), [insertion(5), insertion(7)]);
        ids.reserved(10_007);
        assert_eq!(ready(&mut ids), []);
    }
}
