//! Jobs after which another one is to run, on a command line.

use std::str::FromStr;

use pool_proto::nouns::{Dependency, On};

use super::selector::Selector;

/// Some jobs, and how they have to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependencies {
    jobs: Vec<Dependency>,
    others: Vec<(Selector, On)>,
}

impl Dependencies {
    /// One for each job that is named by its id.
    pub fn each(&self) -> &[Dependency] {
        &self.jobs
    }

    /// What else names jobs, each with how they have to end.
    pub fn others(&self) -> &[(Selector, On)] {
        &self.others
    }
}

impl FromStr for Dependencies {
    type Err = String;

    /// Parts with commas between them: selectors, each behind the kind of end that is needed and a colon. A
    /// kind is that of the parts after it as well, up to the next one.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut on = On::Success;
        let mut dependencies = Self::default();
        for part in text.split(',') {
            // A label may have a colon, and so has name:x. No kind begins with an @.
            let has_kind = |(kind, _): &(&str, &str)| {
                !part.starts_with('@') && !["name", "state", "pool"].contains(kind)
            };
            let selector = match part.split_once(':').filter(has_kind) {
                Some((kind, selector)) => {
                    on = kind_of(kind)?;
                    selector
                }
                None => part,
            };
            match selector.parse()? {
                Selector::Ids(range) if range.array().is_none() => {
                    dependencies.jobs.extend(range.ids().map(|id| Dependency { id, on: Some(on) }));
                }
                other => dependencies.others.push((other, on)),
            }
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
        let others = [("@gpu", On::Done), ("@a:b", On::Done), ("@c", On::Success)];
        let others = others.map(|(other, on)| (other.parse().unwrap(), on));
        assert_eq!(of_labels.others(), others);
        assert_eq!(of_labels.each().len(), 1);
        let mixed: Dependencies = "any:name:build,pool:gpu,ok:last-2,all,12.4".parse().unwrap();
        let ons = mixed.others().iter().map(|(other, on)| (other.to_string(), *on)).collect::<Vec<_>>();
        let wanted = [
            ("name:build", On::Done),
            ("pool:gpu", On::Done),
            ("last-2", On::Success),
            ("all", On::Success),
            ("12.4-4", On::Success),
        ];
        assert_eq!(ons, wanted.map(|(other, on)| (other.to_owned(), on)));
        for text in ["@", "@a b", "", "x", "after:1", "afterok", "afterok:", "1,,2", "5-3"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
