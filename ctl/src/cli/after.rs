//! Jobs after which another one is to run, on a command line.

use std::str::FromStr;

use pool_proto::nouns::{Dependency, On};

use super::ids::IdRange;
use super::values::parse_label;

/// Some jobs, and how they have to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    jobs: Vec<Dependency>,
    labels: Vec<(String, On)>,
}

impl Dependencies {
    /// One for each job that is named by its id.
    pub fn each(&self) -> &[Dependency] {
        &self.jobs
    }

    /// The labels whose jobs are named so, each with how the jobs have to end.
    pub fn labels(&self) -> &[(String, On)] {
        &self.labels
    }
}

impl FromStr for Dependencies {
    type Err = String;

    /// Parts with commas between them: an id, a range of ids, or a label behind an @, after the kind of end
    /// that is needed and a colon. A kind is that of the parts after it as well, up to the next one.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut on = On::Success;
        let mut dependencies = Self::default();
        for part in text.split(',') {
            // A label may have a colon, and no kind begins with an @.
            let ids = match part.split_once(':').filter(|_| !part.starts_with('@')) {
                Some((kind, ids)) => {
                    on = kind_of(kind)?;
                    ids
                }
                None => part,
            };
            if let Some(label) = ids.strip_prefix('@') {
                dependencies.labels.push((parse_label(label)?, on));
                continue;
            }
            let range: IdRange = ids.parse()?;
            dependencies.jobs.extend(range.ids().map(|id| Dependency { id, on: Some(on) }));
        }
        Ok(dependencies)
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
            after.map(|after| after.jobs.iter().map(|one| (one.id, one.on.unwrap())).collect::<Vec<_>>())
        };
        assert_eq!(read("7"), Ok(vec![(7, On::Success)]));
        let wanted = vec![(1, On::Success), (2, On::Done), (3, On::Done), (4, On::Done), (9, On::Failure)];
        assert_eq!(read("afterok:1,afterany:2,3-4,afternotok:9"), Ok(wanted));
        let of_labels: Dependencies = "1,afterany:@gpu,@a:b,afterok:@c".parse().unwrap();
        let labels = [("gpu", On::Done), ("a:b", On::Done), ("c", On::Success)];
        assert_eq!(of_labels.labels(), labels.map(|(label, on)| (label.to_owned(), on)));
        assert_eq!(of_labels.each().len(), 1);
        for text in ["@", "@a b", "", "x", "after:1", "afterok", "afterok:", "1,,2", "5-3"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
