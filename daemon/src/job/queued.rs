//! How many jobs are queued, by what keeps them from their line.

use std::ops::{AddAssign, Index};

use super::Holdup;

/// The jobs of a pool that are queued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued([u64; Holdup::ALL.len()]);

impl Queued {
    /// Those that something keeps from their line included.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn add(&mut self, holdup: Holdup, jobs: u64) {
        self.0[holdup as usize] += jobs;
    }

    pub fn remove(&mut self, holdup: Holdup) {
        let count = &mut self.0[holdup as usize];
        *count = count.saturating_sub(1);
    }
}

impl Index<Holdup> for Queued {
    type Output = u64;

    fn index(&self, holdup: Holdup) -> &u64 {
        &self.0[holdup as usize]
    }
}

impl AddAssign for Queued {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }
}
