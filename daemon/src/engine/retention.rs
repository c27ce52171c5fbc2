//! What of the history goes first: a rule that every backing follows.
//!
//! Ended jobs are counted by [`Group`]: by what they are worth keeping for, and by pool. Of the groups of one
//! standing the largest pays first, down to the size of the next one. So a pool that is flooded pays for its
//! own flood, and a pool with few jobs keeps them.
//!
//! Two limits, two prices: too many jobs cost records, too many bytes cost output and results, and leave the
//! records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pool_proto::State;

/// What an ended job is worth keeping for, the first to go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It was canceled; or its client, to whom it was tied, has its result: a map's, mostly.
    Expendable,
    Ordinary,
    /// It failed, and somebody may want to see why; or it has a key, by which a repetition is known.
    Kept,
}

impl Standing {
    pub const ALL: [Self; 3] = [Self::Expendable, Self::Ordinary, Self::Kept];

    /// `is_told`: the job was tied to its client.
    pub fn of(state: State, has_key: bool, is_told: bool, is_call: bool) -> Self {
        match state {
            _ if has_key => Self::Kept,
            State::Canceled => Self::Expendable,
            State::Succeeded if is_told => Self::Expendable,
            State::Succeeded => Self::Ordinary,
            // A map that fails must not push out what others have done.
            _ if is_told && is_call => Self::Expendable,
            _ if is_told => Self::Ordinary,
            _ => Self::Kept,
        }
    }

    /// As the store writes it.
    pub fn rank(self) -> u8 {
        self as u8
    }

    pub fn of_rank(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.rank() == rank)
    }
}

/// Ended jobs that are treated alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub standing: Standing,
    pub pool: Arc<str>,
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub jobs: u64,
    /// On disk: output, results and parameters.
    pub bytes: u64,
}

/// All ended jobs, counted. What a transaction has changed can be taken back.
#[derive(Debug, Clone, Default)]
pub struct Census {
    groups: BTreeMap<Group, Totals>,
    all: Totals,
    /// What has changed since the last commit: jobs and bytes.
    changes: Vec<(Group, i64, i64)>,
}

impl Census {
    /// All of it.
    pub fn all(&self) -> Totals {
        self.all
    }

    pub fn groups(&self) -> Vec<Group> {
        self.groups.keys().cloned().collect()
    }

    /// So many more jobs and bytes, or fewer.
    pub fn shift(&mut self, group: Group, jobs: i64, bytes: i64) {
        self.apply(&group, jobs, bytes);
        self.changes.push((group, jobs, bytes));
    }

    pub fn commit(&mut self) {
        self.changes.clear();
    }

    pub fn roll_back(&mut self) {
        for (group, jobs, bytes) in std::mem::take(&mut self.changes).into_iter().rev() {
            self.apply(&group, -jobs, -bytes);
        }
    }

    fn apply(&mut self, group: &Group, jobs: i64, bytes: i64) {
        let shift = |totals: &mut Totals| {
            totals.jobs = totals.jobs.saturating_add_signed(jobs);
            totals.bytes = totals.bytes.saturating_add_signed(bytes);
        };
        shift(&mut self.all);
        let totals = self.groups.entry(group.clone()).or_default();
        shift(totals);
        if totals.jobs == 0 && totals.bytes == 0 {
            self.groups.remove(group);
        }
    }

    /// Of which group jobs are to go, the oldest first, and how many; none where there are not too many, or
    /// nothing can go. `spent`: groups of which nothing more can go.
    pub fn to_forget(&self, max_jobs: u64, spent: &BTreeSet<Group>) -> Option<(Group, u64)> {
        self.next(self.all.jobs, max_jobs, spent, |totals| totals.jobs)
    }

    /// Of which group output is to go, and how many bytes of it.
    pub fn to_strip(&self, max_bytes: u64, spent: &BTreeSet<Group>) -> Option<(Group, u64)> {
        self.next(self.all.bytes, max_bytes, spent, |totals| totals.bytes)
    }

    fn next(
        &self,
        all: u64,
        max: u64,
        spent: &BTreeSet<Group>,
        size: impl Fn(&Totals) -> u64,
    ) -> Option<(Group, u64)> {
        let excess = all.checked_sub(max).filter(|&excess| excess > 0)?;
        let of = |standing| self.groups.iter().filter(move |(group, _)| group.standing == standing);

        // What is kept longest takes no more than half of the room from what is ordinary.
        let kept: u64 = of(Standing::Kept).map(|(_, totals)| size(totals)).sum();
        let order = if kept > max / 2 {
            [Standing::Expendable, Standing::Kept, Standing::Ordinary]
        } else {
            Standing::ALL
        };

        order.into_iter().find_map(|standing| {
            let left = of(standing).filter(|(group, totals)| size(totals) > 0 && !spent.contains(group));
            let mut left: Vec<(u64, &Group)> = left.map(|(group, totals)| (size(totals), group)).collect();
            left.sort_unstable();
            let (largest, group) = left.pop()?;
            let next = left.last().map_or(0, |&(size, _)| size);
            let level = (largest - next).max(excess / 2).max(1).min(excess);
            Some((group.clone(), level))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(standing: Standing, pool: &str) -> Group {
        Group { standing, pool: pool.into() }
    }

    fn census(groups: &[(Standing, &str, i64)]) -> Census {
        let mut census = Census::default();
        groups.iter().for_each(|&(standing, pool, jobs)| census.shift(group(standing, pool), jobs, 0));
        census
    }

    #[test]
    fn what_is_expendable_goes_first_and_the_largest_pool_pays() {
        use Standing::{Expendable, Kept, Ordinary};

        let forget = |census: &Census, max| census.to_forget(max, &BTreeSet::new());
        let mixed =
            census(&[(Ordinary, "a", 50), (Ordinary, "b", 20), (Kept, "a", 20), (Expendable, "b", 10)]);
        assert_eq!(forget(&mixed, 100), None);
        assert_eq!(forget(&mixed, 95), Some((group(Expendable, "b"), 5)));
        let without = census(&[(Ordinary, "a", 50), (Ordinary, "b", 20), (Kept, "a", 20)]);
        assert_eq!(forget(&without, 80), Some((group(Ordinary, "a"), 10)), "down to what is allowed");
        assert_eq!(forget(&without, 50).unwrap().0, group(Ordinary, "a"));
        let flooded = census(&[(Ordinary, "a", 50), (Kept, "b", 80)]);
        assert_eq!(forget(&flooded, 100).unwrap().0, group(Kept, "b"), "half of the room at most");
        let spent = BTreeSet::from([group(Kept, "b")]);
        assert_eq!(flooded.to_forget(100, &spent).unwrap().0, group(Ordinary, "a"));
    }

    #[test]
    fn what_is_rolled_back_has_not_happened() {
        let mut census = census(&[(Standing::Ordinary, "a", 2)]);
        census.shift(group(Standing::Ordinary, "a"), 0, 7);
        census.commit();
        census.shift(group(Standing::Ordinary, "a"), -2, -7);
        census.shift(group(Standing::Kept, "a"), 1, 5);
        census.roll_back();
        assert_eq!(census.all(), Totals { jobs: 2, bytes: 7 });
        assert_eq!(census.groups(), [group(Standing::Ordinary, "a")]);
    }

    #[test]
    fn a_failed_call_of_a_map_is_worth_less_than_a_failed_job() {
        assert_eq!(Standing::of(State::Failed, false, true, true), Standing::Expendable);
        assert_eq!(Standing::of(State::Failed, false, true, false), Standing::Ordinary);
        assert_eq!(Standing::of(State::Lost, false, false, false), Standing::Kept);
        assert_eq!(Standing::of(State::Canceled, true, false, false), Standing::Kept);
    }
}
