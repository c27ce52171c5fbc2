//! The order of the rows.

use std::cmp::Ordering;

use super::job::{Job, Micros};

/// By what rows are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortKey {
    /// As the view has them: by slot, by priority and id, the latest end first.
    #[default]
    Natural,
    Id,
    State,
    Pool,
    /// How long an attempt has run: the longest first.
    Time,
    Name,
}

impl SortKey {
    const ALL: [Self; 6] = [Self::Natural, Self::Id, Self::State, Self::Pool, Self::Time, Self::Name];

    /// The key after this one.
    pub fn next(self) -> Self {
        let place = Self::ALL.iter().position(|key| *key == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Natural => "natural order",
            Self::Id => "id",
            Self::State => "state",
            Self::Pool => "pool",
            Self::Time => "time",
            Self::Name => "name",
        }
    }
}

/// The order that the user has chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    pub key: SortKey,
    pub is_reversed: bool,
}

impl Order {
    /// Sorts rows that come in the natural order.
    pub fn sort<'a, T>(self, rows: &mut [&'a T], now: Micros, job: impl Fn(&'a T) -> Option<&'a Job>) {
        if self.key != SortKey::Natural {
            rows.sort_by_cached_key(|row| Place(self.key, now, job(row)));
        }
        if self.is_reversed {
            rows.reverse();
        }
    }
}

/// Where a row belongs by a key. Rows without a job come last.
struct Place<'a>(SortKey, Micros, Option<&'a Job>);

impl Ord for Place<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, another) = match (self.2, other.2) {
            (Some(one), Some(another)) => (one, another),
            (one, another) => return another.is_some().cmp(&one.is_some()),
        };
        match self.0 {
            SortKey::Natural => Ordering::Equal,
            SortKey::Id => one.id.cmp(&another.id),
            SortKey::State => one.state.as_str().cmp(another.state.as_str()),
            SortKey::Pool => one.pool.cmp(&another.pool),
            SortKey::Time => another.ran_us(self.1).cmp(&one.ran_us(self.1)),
            SortKey::Name => one.work.cmp(&another.work),
        }
    }
}

impl PartialOrd for Place<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place<'_> {}
