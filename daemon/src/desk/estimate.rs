//! About when a job starts that is in the line of its pool: from how long the jobs took that have ended there
//! last, and how long those have run that hold its slots. Jobs of several slots count as so many; labels and
//! priorities of jobs that are still to come are not looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use pool_proto::nouns::Estimate;

use crate::engine::{Pace, Ran};
use crate::job::Position;

/// Fewer jobs say nothing.
const FEWEST: usize = 5;

/// `busy`: how long the job of each slot has run.
pub fn estimate(position: &Position, pace: &Pace, busy: &[Duration]) -> Option<Estimate> {
    let before = pace.order.as_ref()?.binary_search(position).ok()?;
    let start = start_in(before, busy, &pace.ran)?;
    Some(Estimate {
        before: before as u64,
        start_in_s: start.as_secs_f64().round(),
        from_jobs: pace.ran.len() as u64,
    })
}

fn start_in(before: usize, busy: &[Duration], ran: &[Ran]) -> Option<Duration> {
    if ran.len() < FEWEST {
        return None;
    }
    let mean = |sum: u64, count: usize| sum.checked_div(count as u64).unwrap_or_default();
    let slot_us = ran.iter().map(|ran| ran.lasted_us.saturating_mul(u64::from(ran.slots))).sum();
    let each_us = mean(slot_us, ran.len());

    // Those that took longer than this one has run already say how long it takes on.
    let left_us = |ran_for: &Duration| {
        let ran_us = u64::try_from(ran_for.as_micros()).unwrap_or(u64::MAX);
        let left: Vec<u64> = ran.iter().filter_map(|ran| ran.lasted_us.checked_sub(ran_us)).collect();
        mean(left.iter().sum(), left.len())
    };
    let mut free_at: BinaryHeap<Reverse<u64>> = busy.iter().map(left_us).map(Reverse).collect();
    for _ in 0..before {
        let Reverse(at_us) = free_at.pop()?;
        free_at.push(Reverse(at_us.saturating_add(each_us)));
    }
    free_at.pop().map(|Reverse(at_us)| Duration::from_micros(at_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(seconds: &[u64]) -> Vec<Ran> {
        seconds.iter().map(|s| Ran { ended_us: 0, lasted_us: s * 1_000_000, slots: 1 }).collect()
    }

    fn told(before: usize, busy: &[u64], lasted: &[Ran]) -> Option<u64> {
        let busy: Vec<Duration> = busy.iter().map(|&s| Duration::from_secs(s)).collect();
        start_in(before, &busy, lasted).map(|start| start.as_secs())
    }

    #[test]
    fn slots_are_free_one_after_the_other() {
        let tens = ran(&[10; 5]);
        assert_eq!(told(0, &[4], &tens), Some(6));
        assert_eq!(told(3, &[4], &tens), Some(36));
        assert_eq!([0, 1, 2, 3].map(|before| told(before, &[4, 9], &tens)), [1, 6, 11, 16].map(Some));
        assert_eq!(told(0, &[99], &tens), Some(0), "it has taken longer than any");
        let wide: Vec<Ran> = tens.iter().map(|ran| Ran { slots: 2, ..*ran }).collect();
        assert_eq!(told(1, &[4, 9], &wide), Some(6));
        assert_eq!(told(2, &[4, 9], &wide), Some(21));
    }

    #[test]
    fn what_has_run_for_long_is_one_of_the_long_ones() {
        let mixed = ran(&[1, 1, 1, 1, 100]);
        assert_eq!(told(0, &[0], &mixed), Some(20));
        assert_eq!(told(0, &[10], &mixed), Some(90));
    }

    #[test]
    fn few_jobs_say_nothing() {
        assert_eq!(told(0, &[4], &ran(&[10; 4])), None);
        assert_eq!(told(0, &[], &ran(&[10; 5])), None, "nor is there a slot to be free");
    }
}
