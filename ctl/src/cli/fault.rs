//! What is wrong with a command line, as a sentence. clap finds the fault; the words are poolctl's own.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The sentence for a fault that poolctl has words for. None for the other faults, and for what is no fault:
/// `--help`.
pub fn sentence(error: &clap::Error) -> Option<String> {
    let argument = || text(error.get(ContextKind::InvalidArg)?);
    let value = || text(error.get(ContextKind::InvalidValue)?);

    match error.kind() {
        ErrorKind::UnknownArgument => unknown_option(error, &argument()?),
        ErrorKind::InvalidSubcommand => {
            let verb = text(error.get(ContextKind::InvalidSubcommand)?)?;
            let near = texts(error.get(ContextKind::SuggestedSubcommand));
            let near: Vec<String> = near.into_iter().filter(|other| is_slip(&verb, other)).collect();
            Some(format!("there is no verb {verb}: {}", hint(&near, "`poolctl --help` lists the verbs")))
        }
        ErrorKind::ValueValidation => {
            let reason = error.source()?.to_string();
            Some(format!("{} {}: {reason}", name_of(&argument()?), shown(&value()?)))
        }
        ErrorKind::InvalidValue if !value()?.is_empty() => {
            let names = texts(error.get(ContextKind::ValidValue));
            Some(format!("{} {}: write {}", name_of(&argument()?), shown(&value()?), names.join(", ")))
        }
        _ => None,
    }
}

fn unknown_option(error: &clap::Error, option: &str) -> Option<String> {
    // A word too much is no option.
    if !option.starts_with('-') {
        return None;
    }

    let near = texts(error.get(ContextKind::SuggestedArg));
    let help = hint(&near, "see --help");
    // clap suggests `--` where words follow the options.
    let takes_words = error.get(ContextKind::Suggested).is_some();
    let words = if takes_words { "; a word that begins with - and is no option comes after --" } else { "" };
    Some(format!("there is no option {option}: {help}{words}"))
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
    argument.split([' ', '=']).next().unwrap_or(argument)
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
