//! A map with a name finds its earlier jobs again by their keys. A key is made of the name, the item, and the
//! number of equal items before it. Nothing else is kept anywhere: poold knows the jobs.

use std::collections::{HashMap, HashSet};

use pool_proto::OsText;
use sha2::{Digest, Sha256};

use crate::compose::job::new_round;

/// Makes the keys of the jobs of a map with a name.
#[derive(Debug)]
pub struct Resume {
    name: OsText,
    /// The pool and the method of calls, which are part of each key. Empty for commands.
    method: String,
    /// The round of this run: items that failed in an earlier round run again, and items that fail in this
    /// round do not.
    pub round: String,
}

impl Resume {
    /// `call`: the pool and the method. They are part of the keys, since another method would return other
    /// values.
    pub fn new(name: OsText, call: Option<&[String]>) -> Self {
        let method = call.iter().copied().flatten().map(|word| format!("{word}\0")).collect();
        Self { name, method, round: new_round() }
    }

    /// The key of an item's job.
    pub fn key(&self, item: &OsText, occurrence: u32) -> OsText {
        let digest = Sha256::new().chain_update(&self.method).chain_update(item.to_bytes()).finalize();
        let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        OsText::from_escaped(format!("map:{}:{hash}:{occurrence}", self.name.as_escaped()))
    }
}

/// Counts equal items. It keeps eight bytes for each different item.
#[derive(Debug, Default)]
pub struct Occurrences {
    once: HashSet<u64>,
    more: HashMap<u64, u32>,
}

impl Occurrences {
    /// How many equal items came before this one.
    pub fn next(&mut self, item: &OsText) -> u32 {
        let hash = u64::from_ne_bytes(
            Sha256::digest(item.to_bytes())[..8].try_into().expect("a digest has 32 bytes"),
        );
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
        let key = |call| Resume::new("nightly".into(), call).key(&"a".into(), 0);
        assert_eq!(key(None), "map:nightly:ca978112ca1bbdcafac231b39a23dc4d:0");
        assert_eq!(
            key(Some(&["p", "m"].map(str::to_owned))),
            "map:nightly:a3979c7fff4752f8b96e98edfacd68e8:0"
        );
    }

    #[test]
    fn equal_items_are_counted() {
        let mut occurrences = Occurrences::default();
        assert_eq!(
            ["a", "b", "a", "a", "b", "c"].map(|item| occurrences.next(&item.into())),
            [0, 0, 1, 2, 1, 0]
        );
    }
}
