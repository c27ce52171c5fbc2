//! Where the items come from, as the command line has it: lists of values and files after the command, in the
//! notation of GNU parallel; otherwise a file, or stdin.
//!
//! | word | what follows it |
//! |---|---|
//! | `:::` | values of one source |
//! | `::::` | files, each a source; `-` is stdin |
//! | `:::+`, `::::+` | the same, linked: each value goes with one of the source before it |

use std::path::Path;

use anyhow::{Context, bail};
use pool_proto::OsText;

use super::items::{Items, Values};
use crate::cli::UsageError;

/// A source, and whether it is linked to the one before.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    is_linked: bool,
    source: Source,
}

#[derive(Debug, PartialEq, Eq)]
enum Source {
    Values(Vec<OsText>),
    File(OsText),
}

/// What introduces sources.
#[derive(Debug, Clone, Copy)]
struct Mark {
    are_files: bool,
    is_linked: bool,
}

impl Mark {
    fn parse(word: &OsText) -> Option<Self> {
        let (are_files, is_linked) = match word.as_escaped() {
            ":::" => (false, false),
            "::::" => (true, false),
            ":::+" => (false, true),
            "::::+" => (true, true),
            _ => return None,
        };
        Some(Self { are_files, is_linked })
    }
}

/// Takes the sources off the words of a command line. None if there are none.
pub fn take_off(words: &mut Vec<OsText>) -> Option<Vec<OsText>> {
    let place = words.iter().position(|word| Mark::parse(word).is_some())?;
    Some(words.split_off(place))
}

/// The items of sources that [`take_off`] has found, and the number of values of each item. `separator`
/// separates the values in files.
///
/// # Errors
/// When the words make no sense, or a file cannot be read.
pub fn items(words: &[OsText], separator: u8) -> anyhow::Result<(Items, usize)> {
    let given = parse(words)?;
    let count = given.len();

    // A source to which none is linked is read as it is needed.
    if let [Given { source: Source::File(path), .. }, rest @ ..] = &given[..]
        && rest.first().is_none_or(|next| !next.is_linked)
    {
        let first = Items::read(Some(&path.to_path()), separator)?;
        return Ok((combined(first, groups(rest, separator)?)?, count));
    }

    let mut groups = groups(&given, separator)?;
    let first = Items::given(groups.remove(0));
    Ok((combined(first, groups)?, count))
}

fn combined(first: Items, others: Vec<Vec<Values>>) -> anyhow::Result<Items> {
    first
        .combined(others)
        .context(UsageError::new("the sources of items have more combinations than can be counted"))
}

fn parse(words: &[OsText]) -> anyhow::Result<Vec<Given>> {
    let mut given: Vec<Given> = Vec::new();
    let mut rest = words;
    while let Some((mark, mark_word)) = rest.first().and_then(|word| Some((Mark::parse(word)?, word))) {
        rest = &rest[1..];
        let end = rest.iter().position(|word| Mark::parse(word).is_some()).unwrap_or(rest.len());
        let (listed, after) = rest.split_at(end);
        rest = after;

        let is_linked = mark.is_linked;
        if is_linked && given.is_empty() {
            bail!(UsageError(format!(
                "`{mark_word}` links its values to those of the source before it, and there is none: write \
                 `:::` or `::::`"
            )));
        }
        if mark.are_files && listed.is_empty() {
            bail!(UsageError(format!("`{mark_word}` is followed by no file: name one, or - for stdin")));
        }

        if mark.are_files {
            let file = |path: &OsText| Given { is_linked, source: Source::File(path.clone()) };
            given.extend(listed.iter().map(file));
        } else {
            given.push(Given { is_linked, source: Source::Values(listed.to_vec()) });
        }
    }

    let is_stdin = |given: &&Given| matches!(&given.source, Source::File(path) if *path == "-");
    if given.iter().filter(is_stdin).count() > 1 {
        bail!(UsageError::new(
            "stdin can be one source of items only: name another file than - for the rest"
        ));
    }
    Ok(given)
}

/// What each group of linked sources gives. The shortest source of a group has the last word, as in GNU
/// parallel.
fn groups(given: &[Given], separator: u8) -> anyhow::Result<Vec<Vec<Values>>> {
    let mut groups: Vec<Vec<Values>> = Vec::new();
    for Given { is_linked, source } in given {
        let values = match source {
            Source::Values(values) => values.clone(),
            Source::File(path) => Items::read(Some(Path::new(&path.to_path())), separator)?.all_values()?,
        };
        match groups.last_mut().filter(|_| *is_linked) {
            Some(group) => {
                group.truncate(values.len());
                group.iter_mut().zip(values).for_each(|(linked, value)| linked.push(value));
            }
            None => groups.push(values.into_iter().map(|value| vec![value]).collect()),
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut words: Vec<OsText> = words.iter().map(|&word| word.into()).collect();
        let sources = take_off(&mut words).unwrap();
        let (mut items, count) = items(&sources, b'\n')?;
        let mut texts = Vec::new();
        while let Some(item) = items.wait_next()? {
            assert_eq!(item.values.len(), count);
            texts.push(item.text().to_string());
        }
        Ok(texts)
    }

    #[test]
    fn lists_and_files_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (ab, xyz) = (&*file("ab", "a\nb\n"), &*file("xyz", "x\ny\nz"));

        let cases: [(&[&str], &[&str]); 8] = [
            (&["echo", ":::", "a", "b"], &["a", "b"]),
            (&[":::", "a", "b", ":::", "1", "2"], &["a 1", "a 2", "b 1", "b 2"]),
            (&["::::", ab, xyz], &["a x", "a y", "a z", "b x", "b y", "b z"]),
            (&["::::", ab, ":::+", "1", "2", "3"], &["a 1", "b 2"]),
            (&[":::", "1", "2", "::::", ab], &["1 a", "1 b", "2 a", "2 b"]),
            (&["::::", ab, ":::", "1", "::::+", xyz], &["a 1 x", "b 1 x"]),
            (&[":::"], &[]),
            (&[":::", "a", ":::"], &[]),
        ];
        for (words, wanted) in cases {
            assert_eq!(texts(words).unwrap(), wanted, "{words:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let cases: [(&[&str], &str); 4] = [
            (&[":::+", "a"], "the source before it"),
            (&[":::", "a", "::::"], "followed by no file"),
            (&["::::", "-", "-"], "one source of items only"),
            (&["::::", "/no/such/file"], "cannot read /no/such/file"),
        ];
        for (words, wanted) in cases {
            let error = format!("{:#}", texts(words).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
        assert_eq!(take_off(&mut vec!["echo".into(), "::".into()]), None);
    }
}
