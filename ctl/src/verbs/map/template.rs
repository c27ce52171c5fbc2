//! From an item to a job: the command with the item in its place, or the call with the item as its parameter.

use pool_proto::nouns::Job;
use pool_proto::{Json, OsText};

use super::items::Item;
use super::lane::{Load, SHOWN};
use super::resume::Resume;
use crate::compose::params::{parse_value, too_large};
use crate::term::text::printable;

const ITEM: &str = "{}";
const NUMBER: &str = "{#}";

/// What all jobs of a map have in common.
#[derive(Debug)]
pub struct Template {
    /// The job without its command.
    job: Job,
    argv: Vec<OsText>,
    resume: Option<Resume>,
}

impl Template {
    /// `job.argv` is the command. If it has no place for the item, the item becomes the last argument. In a
    /// map of calls, `job.method` is the method instead.
    pub fn new(mut job: Job, resume: Option<Resume>) -> Self {
        let mut argv = std::mem::take(&mut job.argv);
        let has_place =
            |argument: &OsText| [ITEM, NUMBER].iter().any(|it| argument.as_escaped().contains(it));
        if job.method.is_none() && !argv.iter().any(has_place) {
            argv.push(ITEM.into());
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
            params: self
                .is_call()
                .then(|| Json::parse(&format!("[{}]", item.text.as_escaped())).ok())
                .flatten(),
            key: self.resume.as_ref().map(|resume| resume.key(&item.text, *occurrence)),
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
        self.argv.iter().map(|argument| fill(argument.as_escaped(), item)).collect()
    }

    /// Why the item cannot become a job, as a sentence. None if it can.
    pub fn fault(&self, item: &Item) -> Option<String> {
        let no_value = || {
            let parsed = self.is_call().then(|| parse_value(item.text.as_escaped()))?;
            let error = parsed.err()?;
            Some(format!("is no JSON value: {error}; text is written in quotes"))
        };
        let load = || Load { item: item.clone(), occurrence: 0 };
        let fault = too_large(item.text.len(), || self.whole(&load())).or_else(no_value)?;

        let Item { number, text } = item;
        let text = printable(&text.to_string(), SHOWN);
        Some(format!("item {number} ({text}) {fault}"))
    }
}

/// Puts the item in its places. Braces within the item are not places.
fn fill(argument: &str, item: &Item) -> OsText {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some(place) = rest.find('{') {
        filled.push_str(&rest[..place]);
        rest = &rest[place..];
        if let Some(after) = rest.strip_prefix(ITEM) {
            filled.push_str(item.text.as_escaped());
            rest = after;
        } else if let Some(after) = rest.strip_prefix(NUMBER) {
            filled.push_str(&item.number.to_string());
            rest = after;
        } else {
            filled.push('{');
            rest = &rest[1..];
        }
    }
    OsText::from_escaped(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(command: &[&str], text: &str) -> Vec<OsText> {
        let job = Job { argv: command.iter().map(|&word| word.into()).collect(), ..Job::default() };
        Template::new(job, None).argv(&Item { number: 7, text: text.into() })
    }

    #[test]
    fn the_item_in_its_place() {
        assert_eq!(argv(&["echo"], "a b"), ["echo", "a b"]);
        assert_eq!(argv(&["cp", "{}", "{}.old"], "a"), ["cp", "a", "a.old"]);
        assert_eq!(argv(&["echo", "{#}"], "a"), ["echo", "7"]);
        let job = Job { method: Some("m".to_owned()), ..Job::default() };
        let load = |text: &str| Load { item: Item { number: 1, text: text.into() }, occurrence: 0 };
        let call = Template::new(job, None).whole(&load(r#"{"a": 1}"#));
        assert_eq!((call.argv.len(), call.params.unwrap().get()), (0, r#"[{"a": 1}]"#));
        assert_eq!(
            argv(&["{}", "{#}:{}", "{", "}", "{{}}", "{x}"], "{#}{}"),
            ["{#}{}", "7:{#}{}", "{", "}", "{{#}{}}", "{x}"]
        );
    }
}
