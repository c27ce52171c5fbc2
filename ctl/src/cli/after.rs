//! Jobs after which another one is to run, on a command line.

use std::str::FromStr;

use pool_proto::nouns::{Dependency, On};

use super::ids::IdRange;

/// Some jobs, and how they have to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies(Vec<Dependency>);

impl Dependencies {
    /// One for each job.
    pub fn each(&self) -> &[Dependency] {
        &self.0
    }
}

impl FromStr for Dependencies {
    type Err = String;

    /// Parts with commas between them: an id, or a range of ids, after the kind of end that is needed and a
    /// colon. A kind is that of the parts after it as well, up to the next one.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut on = On::Success;
        let mut dependencies = Vec::new();
        for part in text.split(',') {
            let ids = match part.split_once(':') {
                Some((kind, ids)) => {
                    on = kind_of(kind)?;
                    ids
                }
                None => part,
            };
            let range: IdRange = ids.parse()?;
            dependencies.extend(range.ids().map(|id| Dependency { id, on: Some(on) }));
        }
        Ok(Self(dependencies))
    }
}

fn kind_of(kind: &str) -> Result<On, String> {
    match kind {
        "afterok" | "ok" => Ok(On::Success),
        "afternotok" | "notok" => Ok(On::Failure),
        "afterany" | "any" => Ok(On::Done),
        _ => Err(format!("there is no {kind:?}: write afterok:12, afterany:12 or afternotok:12")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_end_goes_for_all_up_to_the_next_one() {
        let read = |text: &str| {
            let after: Result<Dependencies, String> = text.parse();
            after.map(|after| after.0.iter().map(|one| (one.id, one.on.unwrap())).collect::<Vec<_>>())
        };
        assert_eq!(read("7"), Ok(vec![(7, On::Success)]));
        let wanted = vec![(1, On::Success), (2, On::Done), (3, On::Done), (4, On::Done), (9, On::Failure)];
        assert_eq!(read("afterok:1,afterany:2,3-4,afternotok:9"), Ok(wanted));
        for text in ["", "x", "after:1", "afterok", "afterok:", "1,,2", "5-3"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
