//! What a map with a name has done is found again by its jobs' keys: name, item, and which of several equal items it is. Nothing else is
//! kept anywhere: what poold knows of its jobs is the truth.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::submit::new_round;

/// How the jobs of a map with a name are told apart from all others.
#[derive(Debug)]
pub struct Resume {
    name: String,
    /// Comes before each item in its digest: pool and method of a call. Nothing for commands.
    method: String,
    /// What has failed in an earlier run is run again, what fails in this one is not.
    pub round: String,
}

impl Resume {
    /// `call`: pool and method. What one method has returned is not what another one would.
    pub fn new(name: String, call: Option<&[String]>) -> Self {
        let method = call.iter().copied().flatten().map(|word| format!("{word}\0")).collect();
        Self { name, method, round: new_round() }
    }

    /// The key of an item's job.
    pub fn key(&self, item: &str, occurrence: u32) -> String {
        let digest = Sha256::new().chain_update(&self.method).chain_update(item).finalize();
        let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("map:{}:{hash}:{occurrence}", self.name)
    }
}

/// Counts equal items, by eight bytes of each different one.
#[derive(Debug, Default)]
pub struct Occurrences {
    once: HashSet<u64>,
    more: HashMap<u64, u32>,
}

impl Occurrences {
    /// How many equal ones came before.
    pub fn next(&mut self, item: &str) -> u32 {
        let hash = u64::from_ne_bytes(Sha256::digest(item)[..8].try_into().expect("a digest has 32 bytes"));
        if self.once.insert(hash) {
            return 0;
        }
        let count = self.more.entry(hash).or_default();
        *count += 1;
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_the_same_over_releases() {
        let key = |call| Resume::new("nightly".to_owned(), call).key("a", 0);
        assert_eq!(key(None), "map:nightly:ca978112ca1bbdcafac231b39a23dc4d:0");
        assert_eq!(
            key(Some(&["p", "m"].map(str::to_owned))),
            "map:nightly:a3979c7fff4752f8b96e98edfacd68e8:0"
        );
    }

    #[test]
    fn equal_items_are_counted() {
        let mut occurrences = Occurrences::default();
        assert_eq!(["a", "b", "a", "a", "b", "c"].map(|item| occurrences.next(item)), [0, 0, 1, 2, 1, 0]);
    }
}
