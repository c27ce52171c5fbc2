//! From an item to a job: the command with the item in its places, or the call with the item's values as its
//! parameters.

use pool_proto::nouns::{DEFAULT_POOL, Job};
use pool_proto::{Json, OsText};

use super::items::Item;
use super::lane::{Load, SHOWN};
use super::places::Argument;
use super::resume::Resume;
use crate::compose::params::{parse_value, too_large};
use crate::term::text::printable;

/// What all jobs of a map have in common.
#[derive(Debug)]
pub struct Template {
    /// The job without its command.
    job: Job,
    argv: Vec<Argument>,
    resume: Option<Resume>,
}

impl Template {
    /// `job.argv` is the command. If it has no place for the item, the values of the item become the last
    /// arguments. In a map of calls, `job.method` is the method instead. `count`: so many values has each
    /// item, if that is known.
    pub fn new(mut job: Job, resume: Option<Resume>, count: Option<usize>) -> Self {
        let words = std::mem::take(&mut job.argv);
        let mut argv: Vec<Argument> = words.iter().map(|word| Argument::parse(word, count)).collect();
        if job.method.is_none() && !argv.iter().any(Argument::has_place) {
            argv.push(Argument::item());
        }
        Self { job, argv, resume }
    }

    /// Whether the jobs are calls.
    pub fn is_call(&self) -> bool {
        self.job.method.is_some()
    }

    /// Whether the jobs have keys, by which poold finds them again.
    pub fn has_keys(&self) -> bool {
        self.resume.is_some()
    }

    /// The members that all jobs share.
    pub fn common(&self) -> &Job {
        &self.job
    }

    /// The members of one item, which go with [`common`](Self::common).
    pub fn part(&self, load: &Load) -> Job {
        let Load { item, occurrence } = load;
        Job {
            argv: self.argv(item),
            params: self.params(item),
            key: self.resume.as_ref().map(|resume| resume.key(&item.identity(), *occurrence)),
            round: self.resume.as_ref().map(|resume| resume.round.clone()),
            ..Job::default()
        }
    }

    /// The whole job of an item: both parts together.
    pub fn whole(&self, load: &Load) -> Job {
        let Job { argv, params, key, round, .. } = self.part(load);
        Job { argv, params, key, round, ..self.job.clone() }
    }

    /// The command of an item's job.
    pub fn argv(&self, item: &Item) -> Vec<OsText> {
        self.argv.iter().flat_map(|argument| argument.filled(item)).collect()
    }

    /// What runs the same from a shell: the command, or a call of its own.
    pub fn as_command(&self, item: &Item) -> Vec<OsText> {
        let Some(method) = &self.job.method else { return self.argv(item) };
        let pool = self.job.pool.as_deref().unwrap_or(DEFAULT_POOL);
        let call = ["poolctl", "call", "--", pool, method].map(OsText::from);
        call.into_iter().chain(item.values.iter().cloned()).collect()
    }

    /// What the job of an item is to do, and where, as `submit --from` takes it.
    pub fn described(&self, item: Item) -> Job {
        let Job { argv, params, .. } = self.part(&Load { item, occurrence: 0 });
        let Job { pool, method, .. } = self.job.clone();
        Job { argv, params, pool, method, ..Job::default() }
    }

    /// The parameters of an item's call.
    pub fn params(&self, item: &Item) -> Option<Json> {
        let values = || item.values.iter().map(OsText::as_escaped).collect::<Vec<_>>().join(",");
        self.is_call().then(|| Json::parse(&format!("[{}]", values())).ok()).flatten()
    }

    /// Why the item cannot become a job, as a sentence. None if it can.
    pub fn fault(&self, item: &Item) -> Option<String> {
        let no_value = || {
            let mut values = item.values.iter().filter(|_| self.is_call());
            let error = values.find_map(|value| parse_value(value.as_escaped()).err())?;
            Some(format!("is no JSON value: {error}; text is written in quotes"))
        };
        let load = || Load { item: item.clone(), occurrence: 0 };
        let fault = too_large(item.len(), || self.whole(&load())).or_else(no_value)?;

        let text = printable(&item.text().to_string(), SHOWN);
        Some(format!("item {} ({text}) {fault}", item.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(command: &[&str], values: &[&str]) -> Vec<OsText> {
        let job = Job { argv: command.iter().map(|&word| word.into()).collect(), ..Job::default() };
        Template::new(job, None, Some(values.len())).argv(&item(values))
    }

    fn item(values: &[&str]) -> Item {
        Item { number: 7, values: values.iter().map(|&value| value.into()).collect() }
    }

    #[test]
    fn the_item_in_its_place() {
        assert_eq!(argv(&["echo"], &["a b"]), ["echo", "a b"]);
        assert_eq!(argv(&["echo", "{x}"], &["a", "b"]), ["echo", "{x}", "a", "b"]);
        assert_eq!(argv(&["cp", "{}", "{}.old"], &["a"]), ["cp", "a", "a.old"]);
        assert_eq!(argv(&["echo", "{#}"], &["a"]), ["echo", "7"]);
        assert_eq!(argv(&["{1}", "{2.}"], &["cat", "a.c"]), ["cat", "a"]);
    }

    #[test]
    fn the_values_of_an_item_are_the_parameters_of_its_call() {
        let call = Template::new(Job { method: Some("m".to_owned()), ..Job::default() }, None, None);
        let params =
            |values: &[&str]| call.whole(&Load { item: item(values), occurrence: 0 }).params.unwrap();
        assert_eq!(params(&[r#"{"a": 1}"#]).get(), r#"[{"a": 1}]"#);
        assert_eq!(params(&["1", r#""x""#]).get(), r#"[1,"x"]"#);
        assert!(call.argv(&item(&["1"])).is_empty());
        assert!(call.fault(&item(&["1", "x"])).unwrap().starts_with("item 7 (1 x) is no JSON value"));
        assert_eq!(call.fault(&item(&["1", "2"])), None);
        // Two values are each one, not by accident the same text.
        assert!(call.fault(&item(&["[1", "2]"])).is_some());
    }
}
