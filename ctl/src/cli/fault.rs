//! What is wrong with a command line, as a sentence. clap finds the fault; the words are poolctl's own.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The sentence for a fault that poolctl has words for. None for the other faults, and for what is no fault:
/// `--help`.
pub fn sentence(error: &clap::Error) -> Option<String> {
    let argument = || text(error.get(ContextKind::InvalidArg)?);
    let value = || text(error.get(ContextKind::InvalidValue)?);

    match error.kind() {
        ErrorKind::UnknownArgument => Some(unknown_argument(error, &argument()?)),
        ErrorKind::InvalidSubcommand => {
            let verb = text(error.get(ContextKind::InvalidSubcommand)?)?;
            let near = texts(error.get(ContextKind::SuggestedSubcommand));
            let mut near: Vec<String> = near.into_iter().filter(|other| is_slip(&verb, other)).collect();
            if let Some((_, ours)) = ELSEWHERE.iter().find(|(name, _)| *name == verb) {
                near = ours.iter().map(|&name| name.to_owned()).collect();
            }
            let lists = format!("`{} --help` lists the verbs", path(error));
            Some(format!("there is no verb {verb}: {}", hint(&near, &lists)))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = texts(error.get(ContextKind::InvalidArg));
            let missing: Vec<String> = missing.iter().map(|name| without_brackets(name)).collect();
            let is = if missing.len() == 1 { "is" } else { "are" };
            let (names, usage, path) = (missing.join(", "), usage(error)?, path(error));
            // Where one of several options is missing, the line of the usage would say the same once more.
            let write = if names.contains(" or ") { String::new() } else { format!("write `{usage}`; ") };
            Some(format!("{names} {is} missing: {write}`{path} --help` has examples"))
        }
        ErrorKind::ArgumentConflict => {
            let one = argument()?;
            let others = texts(error.get(ContextKind::PriorArg));
            if others.is_empty() || others.contains(&one) {
                return Some(format!("{} is given more than once: write it once", name_of(&one)));
            }
            let names: Vec<&str> = others.iter().map(|other| name_of(other)).collect();
            Some(format!("{} does not go with {}: leave one of them out", name_of(&one), names.join(", ")))
        }
        ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
            let argument = argument()?;
            Some(format!("{} is not complete: write {argument}", name_of(&argument)))
        }
        ErrorKind::TooManyValues => {
            Some(format!("{} takes no value {}", name_of(&argument()?), shown(&value()?)))
        }
        ErrorKind::ValueValidation => {
            let reason = plain(error.source()?.to_string());
            let (argument, value) = (argument()?, value()?);
            // A word that stands for itself needs no name, where the reason repeats the word.
            if argument.starts_with(['<', '[']) && reason.contains(&format!("{value:?}")) {
                return Some(reason);
            }
            let reason = reason.strip_prefix(&format!("{value:?}: ")).unwrap_or(&reason);
            Some(format!("{} {}: {reason}", name_of(&argument), shown(&value)))
        }
        ErrorKind::InvalidValue => {
            let (argument, value) = (argument()?, value()?);
            let names = texts(error.get(ContextKind::ValidValue)).join(", ");
            Some(match (value.is_empty(), names.is_empty()) {
                (true, true) => format!("{} needs a value: write {argument}", name_of(&argument)),
                (true, false) => format!("{} needs a value: write {names}", name_of(&argument)),
                (false, _) => format!("{} {}: write {names}", name_of(&argument), shown(&value)),
            })
        }
        ErrorKind::InvalidUtf8 => {
            Some("there are bytes that are not UTF-8 where text has to be: see --help".to_owned())
        }
        _ => None,
    }
}

/// Verbs of other queues and tools which poolctl does not take for one of its own, and what they may mean
/// here.
const ELSEWHERE: [(&str, &[&str]); 17] = [
    ("clean", &["prune", "rm"]),
    ("clear", &["prune", "rm"]),
    ("del", &["rm"]),
    ("delete", &["rm"]),
    ("remove", &["rm"]),
    ("describe", &["show"]),
    ("get", &["show", "ls"]),
    ("ps", &["ls"]),
    ("jobs", &["ls"]),
    ("queue", &["ls"]),
    ("enqueue", &["submit"]),
    ("exec", &["run"]),
    ("output", &["logs"]),
    ("start", &["submit", "resume", "release"]),
    ("stop", &["cancel", "pause"]),
    ("stash", &["hold"]),
    ("switch", &["edit"]),
];

/// An option that does not exist, or a word too many.
fn unknown_argument(error: &clap::Error, argument: &str) -> String {
    let path = path(error);
    if !argument.starts_with('-') {
        return format!("`{path}` takes no word {argument:?}: see `{path} --help`");
    }

    let near = texts(error.get(ContextKind::SuggestedArg));
    let help = hint(&near, &format!("see `{path} --help`"));
    // clap suggests `--` where words follow the options.
    let takes_words = error.get(ContextKind::Suggested).is_some();
    let words = match (takes_words, near.is_empty()) {
        (false, _) => "",
        (true, true) => "; a word that begins with - and is no option comes after --",
        (true, false) => " A word that begins with - and is no option comes after --",
    };
    format!("there is no option {argument}: {help}{words}")
}

/// How the verb is used, in one line.
fn usage(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let line = usage.lines().next()?;
    Some(line.trim_start_matches("Usage:").trim().to_owned())
}

/// `poolctl` and the words of the verb: `poolctl pool add`.
fn path(error: &clap::Error) -> String {
    let usage = usage(error).unwrap_or_else(|| "poolctl".to_owned());
    let is_verb =
        |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
    usage.split(' ').take_while(is_verb).collect::<Vec<&str>>().join(" ")
}

/// `<--every <DURATION>|--cron <TIMES>>` as people say it.
fn without_brackets(name: &str) -> String {
    let choice = name.strip_prefix("<--").and_then(|name| name.strip_suffix('>'));
    choice.map_or_else(|| name.to_owned(), |choice| format!("--{}", choice.replace('|', " or ")))
}

/// The reason without the words of the standard library.
fn plain(reason: String) -> String {
    let is_of_number = ["invalid digit found in string", "cannot parse integer from empty string"];
    if is_of_number.contains(&reason.as_str()) { "write a whole number".to_owned() } else { reason }
}

fn hint(near: &[String], otherwise: &str) -> String {
    if near.is_empty() { otherwise.to_owned() } else { format!("did you mean {}?", near.join(" or ")) }
}

/// Whether `written` may be a slip of the pen for `name`. Some verbs end things, so poolctl does not guess
/// further than that.
fn is_slip(written: &str, name: &str) -> bool {
    strsim::damerau_levenshtein(written, name) <= (written.chars().count() / 3).max(1)
}

/// The option or the word, without the names of its values.
fn name_of(argument: &str) -> &str {
    let name = argument.split([' ', '=']).next().unwrap_or(argument);
    name.trim_end_matches('.').trim_matches(['<', '>', '[', ']'])
}

fn shown(value: &str) -> String {
    if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() }
}

fn text(value: &ContextValue) -> Option<String> {
    if let ContextValue::String(text) = value { Some(text.clone()) } else { None }
}

fn texts(value: Option<&ContextValue>) -> Vec<String> {
    match value {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}
