//! `poolctl help`: the help of a verb, or a topic.

use anyhow::bail;
use clap::{Args, Command};

use super::Context;
use super::nearest::near;
use crate::cli::UsageError;
use crate::exit::ExitReason;
use crate::help::topics::{TOPICS, Topic};
use crate::help::{dressed, man};
use crate::term::stream::Stream;
use crate::term::style::has_color;
use crate::term::text::{self, CANNOT_WRITE};
use crate::term::width::Size;

/// The width of a topic, where the terminal is wider.
const WIDEST: usize = 100;

/// Print the help of a verb, or a topic
///
/// Without a word, the verbs and the topics.
#[derive(Debug, Args)]
pub struct HelpOptions {
    /// The words of a verb, such as `pool add`, or a topic
    #[arg(value_name = "TOPIC")]
    words: Vec<String>,
}

impl HelpOptions {
    /// Prints the help.
    ///
    /// # Errors
    /// When there is neither a verb nor a topic of this name, or stdout takes nothing.
    pub fn run(self, _context: &Context) -> anyhow::Result<ExitReason> {
        use anyhow::Context as _;

        // A verb and a topic of the same name, such as map: `poolctl map --help` is the verb's.
        if let [word] = &self.words[..]
            && let Some(topic) = Topic::named(word)
        {
            let is_styled = has_color(Stream::Stdout);
            let head = format!("{}: {}\n\n", topic.name, topic.title());
            text::print(&(head + &man::topic_text(topic, width(), is_styled)))?;
            return Ok(ExitReason::Success);
        }

        let mut command = dressed(super::command());
        command.build();
        match verb(&mut command, &self.words) {
            Some(verb) => verb.print_help().context(CANNOT_WRITE)?,
            None => bail!(UsageError::new(unknown(&self.words))),
        }
        Ok(ExitReason::Success)
    }
}

fn verb<'a>(command: &'a mut Command, words: &[String]) -> Option<&'a mut Command> {
    words.iter().try_fold(command, |command, word| command.find_subcommand_mut(word))
}

fn unknown(words: &[String]) -> String {
    let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    let word = words.join(" ");
    let verbs = super::command();
    let verbs = verbs.get_subcommands().map(Command::get_name);
    let known: Vec<&str> = names.iter().copied().chain(verbs).collect();
    match near(&word, &known) {
        Some(near) => format!("there is no verb and no topic {word:?}: did you mean {near}?"),
        None => format!(
            "there is no verb and no topic {word:?}: `poolctl --help` lists the verbs; the topics are {}",
            names.join(", ")
        ),
    }
}

fn width() -> usize {
    Size::of_stdout().unwrap_or(Size::USUAL).columns.min(WIDEST)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Command;

    use super::super::{Cli, command};
    use crate::help::{dressed, examples, groups, headings, topics::Topic};

    /// The longest description that fits a line of `poolctl --help` on 80 columns.
    const LONGEST: usize = 65;

    fn verbs_of(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for verb in command.get_subcommands() {
            let path = format!("{path} {}", verb.get_name()).trim().to_owned();
            found.push((path.clone(), verb.clone()));
            verbs_of(verb, &path, found);
        }
    }

    fn verbs() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        verbs_of(&command(), "", &mut found);
        found
    }

    #[test]
    fn every_verb_is_in_one_group_and_described_in_a_line() {
        for verb in command().get_subcommands() {
            let name = verb.get_name();
            let groups = groups::GROUPS.iter().filter(|group| group.verbs.contains(&name)).count();
            assert_eq!(groups, 1, "{name}: ctl/src/help/groups.rs");
        }
        for (name, verb) in verbs() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(
                !about.is_empty() && about.len() <= LONGEST,
                "{name}: the first paragraph of its doc comment is one short line; the rest follows an empty line: \
                 {about}"
            );
        }
    }

    #[test]
    fn every_verb_has_examples_that_poolctl_accepts() {
        for (name, _) in verbs() {
            let help = examples::of(&name).unwrap_or_else(|| panic!("{name}: ctl/src/help/examples.rs"));
            assert!(help.examples.len() >= 2, "{name} has {} examples", help.examples.len());
            for topic in help.topics {
                assert!(Topic::named(topic).is_some(), "{name}: there is no topic {topic}");
            }
            for (line, _) in help.examples {
                let words = shlex::split(line).unwrap_or_else(|| panic!("{line}"));
                let first =
                    words.iter().position(|word| word == "poolctl").unwrap_or_else(|| panic!("{line}"));
                // What a shell takes for itself.
                let own = |word: &&String| !["|", ">", "&&"].contains(&word.as_str());
                let words: Vec<OsString> =
                    words[first..].iter().take_while(own).map(OsString::from).collect();
                if let Err(error) = Cli::read_among_all(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
        for help in examples::HELP {
            assert!(
                verbs().iter().any(|(name, _)| name == help.verb),
                "{}: there is no such verb",
                help.verb
            );
        }
    }

    #[test]
    fn the_options_of_a_submission_have_headings() {
        for (name, verb) in verbs().into_iter().filter(|(name, _)| headings::VERBS.contains(&name.as_str())) {
            for option in verb.get_arguments() {
                let Some(long) = option.get_long() else { continue };
                let is_placed = headings::FIRST.contains(&long) || headings::of(&name, option).is_some();
                assert!(is_placed, "--{long} of {name} is in no group: ctl/src/help/headings.rs");
            }
        }
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut root = dressed(command()).term_width(80);
        root.build();
        let text = root.render_help().to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        assert!(text.lines().count() < 90, "{text}");
        let submit = root.find_subcommand_mut("submit").unwrap().render_help().to_string();
        assert!(submit.contains("When it fails:") && submit.contains("Examples:"), "{submit}");
        assert!(!submit.contains("--trust-uid <UID>"), "{submit}");

        let mut help = |verb: &str| root.find_subcommand_mut(verb).unwrap().render_help().to_string();
        let pool = help("pool");
        assert!(
            pool.contains("\n  drain    Let a pool take no new jobs, and wait until it is empty\n"),
            "{pool}"
        );
        assert!(!help("run").contains("--async") && help("run").contains("--pool"), "run is submit --wait");
        assert!(
            help("edit").contains("--priority") && !help("edit").contains("[default: "),
            "{}",
            help("edit")
        );
        assert!(!help("top").contains("--json"), "{}", help("top"));
    }
}
