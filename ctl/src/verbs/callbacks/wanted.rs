//! The words by which a command line names callbacks: their ids, the jobs that they are of, or all that poold
//! has given up.

use std::collections::BTreeSet;

use clap::builder::{OsStringValueParser, TypedValueParser};
use pool_proto::methods::Get;
use pool_proto::{Client, ClientError};

use super::ls::each_page;
use crate::cli::ids::IdRange;
use crate::cli::selector::{Selector, read};
use crate::term::text::say;
use crate::verbs::selection::{Scope, Selection, is_unknown};

/// A word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// `failed`: all that poold has given up.
    Failed,
    /// `7`, `3-9`: callbacks by their ids.
    Ids(IdRange),
    /// `job:12`, `last`, `@label`, ...: all callbacks of these jobs.
    Of(Selector),
}

/// What a word has come to.
pub struct Found {
    /// How it is told; none of a single id, which has a sentence of its own.
    pub name: Option<String>,
    pub ids: BTreeSet<u64>,
    /// Whether somebody wants to hear of it where nothing can be done with any of them.
    pub must_fit: bool,
}

/// A word of the command line.
pub fn wanted() -> impl TypedValueParser<Value = Wanted> {
    OsStringValueParser::new().try_map(|word| {
        let text = word.to_string_lossy().into_owned();
        if text == "failed" {
            return Ok(Wanted::Failed);
        }
        if let Some(job) = text.strip_prefix("job:") {
            let fault = |_| format!("{text:?} names no job: write job:12, job:3-9 or job:12.4");
            return job.parse().map(Selector::Ids).map(Wanted::Of).map_err(fault);
        }

        let fault = || {
            format!(
                "{text:?} names no callback: write its id, as 7 or 3-9; failed; or, for the callbacks of \
                 jobs, job:12, last, @label, name:x, state:failed or pool:x"
            )
        };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let ids: Option<IdRange> = text.parse().ok().filter(|ids: &IdRange| ids.array().is_none());
            return ids.map(Wanted::Ids).ok_or_else(fault);
        }
        let is_prefixed = text.starts_with('@') || text.contains(':') || text.starts_with("last-");
        read(word).map(Wanted::Of).map_err(|error| if is_prefixed { error } else { fault() })
    })
}

impl Wanted {
    /// The callbacks that are named. None where a selector names no job; then it is said.
    ///
    /// # Errors
    /// When an array or a pool does not exist, and when poold has gone.
    pub fn find(&self, client: &mut Client) -> anyhow::Result<Option<Found>> {
        Ok(match self {
            Self::Failed => Some(Found { name: None, ids: failed(client)?, must_fit: false }),
            Self::Ids(range) => {
                let name = (!range.is_single()).then(|| range.to_string());
                Some(Found { name, ids: range.ids().collect(), must_fit: true })
            }
            Self::Of(selector) => {
                let ids = of_jobs(client, std::slice::from_ref(selector))?;
                ids.map(|ids| Found { name: Some(format!("of {selector}")), ids, must_fit: true })
            }
        })
    }
}

/// The callbacks of the jobs that the selectors name. None where there are none; then it is said why.
///
/// # Errors
/// When an array or a pool does not exist, and when poold has gone.
pub fn of_jobs(client: &mut Client, selectors: &[Selector]) -> anyhow::Result<Option<BTreeSet<u64>>> {
    let scope = Scope::ANY.with_records(|record| !record.callbacks.is_empty(), " that has callbacks");
    let selection = Selection::find_existing(client, selectors, scope)?;
    let mut ids = BTreeSet::new();
    for &id in selection.ids() {
        match client.request(&Get { id }) {
            Ok(got) => ids.extend(got.record.callbacks.iter().map(|callback| callback.id)),
            // It has been pruned in this moment.
            Err(error) if is_unknown(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if ids.is_empty() && !selection.ids().is_empty() {
        let words: Vec<String> = selectors.iter().map(Selector::to_string).collect();
        say(format_args!("{}: no callbacks", words.join(" ")));
    }
    Ok((!ids.is_empty()).then_some(ids))
}

fn failed(client: &mut Client) -> Result<BTreeSet<u64>, ClientError> {
    let mut ids = BTreeSet::new();
    each_page(client, true, |page| {
        ids.extend(page.iter().map(|callback| callback.id));
        Ok::<(), ClientError>(())
    })?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_word(word: &str) -> Result<Wanted, String> {
        let command = clap::Command::new("x").arg(clap::Arg::new("w").value_parser(wanted()));
        let matches = command.try_get_matches_from(["x", word]).map_err(|error| error.to_string())?;
        Ok(matches.get_one::<Wanted>("w").expect("it was given").clone())
    }

    #[test]
    fn a_number_is_a_callback_and_a_word_names_jobs() {
        assert_eq!(read_word("7"), Ok(Wanted::Ids(IdRange::between(7, 7))));
        assert_eq!(read_word("failed"), Ok(Wanted::Failed));
        assert_eq!(read_word("job:12"), Ok(Wanted::Of(Selector::Ids(IdRange::between(12, 12)))));
        assert_eq!(read_word("last"), Ok(Wanted::Of(Selector::Last)));
        assert_eq!(read_word("@a"), Ok(Wanted::Of(Selector::Label("a".to_owned()))));
        for (word, told) in [
            ("1.2", "names no callback"),
            ("x", "names no callback"),
            ("job:x", "names no job: write job:12"),
            ("state:done", "there is no state"),
        ] {
            let fault = read_word(word).unwrap_err();
            assert!(fault.contains(told), "{word}: {fault}");
        }
    }
}
