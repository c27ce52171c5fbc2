//! From an item to a job: the command with the item in its place.

use pool_proto::interface::Job;

use super::items::Item;
use super::resume::Resume;

const ITEM: &str = "{}";
const NUMBER: &str = "{#}";

/// What all jobs of a map have in common.
#[derive(Debug)]
pub struct Template {
    job: Job,
    resume: Option<Resume>,
}

impl Template {
    /// `job.argv` is the command; without a place for the item, that is its last argument.
    pub fn new(mut job: Job, resume: Option<Resume>) -> Self {
        if !job.argv.iter().any(|argument| argument.contains(ITEM) || argument.contains(NUMBER)) {
            job.argv.push(ITEM.to_owned());
        }
        Self { job, resume }
    }

    /// The job of this item; `occurrence` tells it from earlier ones of the same text.
    pub fn job(&self, item: &Item, occurrence: u32) -> Job {
        let job = Job { argv: self.argv(item), ..self.job.clone() };
        match &self.resume {
            Some(resume) => Job { key: Some(resume.key(&item.text, occurrence)), round: Some(resume.round.clone()), ..job },
            None => job,
        }
    }

    pub fn argv(&self, item: &Item) -> Vec<String> {
        self.job.argv.iter().map(|argument| fill(argument, item)).collect()
    }
}

/// What an item brings along is never taken for a place.
fn fill(argument: &str, item: &Item) -> String {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some(place) = rest.find('{') {
        filled.push_str(&rest[..place]);
        rest = &rest[place..];
        if let Some(after) = rest.strip_prefix(ITEM) {
            filled.push_str(&item.text);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(NUMBER) {
            filled.push_str(&item.number.to_string());
            rest = after;
        } else {
            filled.push('{');
            rest = &rest[1..];
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(command: &[&str], text: &str) -> Vec<String> {
        let job = Job { argv: command.iter().map(ToString::to_string).collect(), ..Job::default() };
        Template::new(job, None).argv(&Item { number: 7, text: text.to_owned() })
    }

    #[test]
    fn the_item_in_its_place() {
        assert_eq!(argv(&["echo"], "a b"), ["echo", "a b"]);
        assert_eq!(argv(&["cp", "{}", "{}.old"], "a"), ["cp", "a", "a.old"]);
        assert_eq!(argv(&["echo", "{#}"], "a"), ["echo", "7"]);
        assert_eq!(argv(&["{}", "{#}:{}", "{", "}", "{{}}", "{x}"], "{#}{}"), ["{#}{}", "7:{#}{}", "{", "}", "{{#}{}}", "{x}"]);
    }
}
