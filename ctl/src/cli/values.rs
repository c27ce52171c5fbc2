//! Values of options. Each parser refuses at once what poold would refuse later: before a poold is started,
//! and before any input is handed over to it.

use std::ffi::OsString;
use std::num::{IntErrorKind, NonZeroU32, NonZeroU64, ParseIntError};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use pool_proto::nouns::limits::cpus_from_text;
use pool_proto::nouns::{ArraySpec, MAX_KEY, MAX_LABEL, MAX_RESOURCE, TIE_TO_CLIENT, is_label, is_resource};
use pool_proto::text::parse_duration;
use pool_proto::{OsText, State};

/// The longest name of a map, in bytes: its jobs' keys hold the name and some more.
const MAX_MAP_NAME: usize = 400;

/// Reads the indices of an array, which are passed on as they are written.
///
/// # Errors
/// When the text is none.
pub fn parse_array(text: &str) -> Result<String, String> {
    text.parse::<ArraySpec>().map(|_| text.to_owned())
}

/// Reads a job's state by its name.
///
/// # Errors
/// When no state has that name; the message lists all states.
pub fn parse_state(name: &str) -> Result<State, String> {
    State::parse(name).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("there is no state {name:?}: {}", names.join(", "))
    })
}

/// Reads a state in which jobs have ended, by its name.
///
/// # Errors
/// When no such state has that name; the message lists all of them.
pub fn parse_ended_state(name: &str) -> Result<State, String> {
    State::parse(name).filter(|state| state.is_terminal()).ok_or_else(|| {
        let ended = State::ALL.iter().filter(|state| state.is_terminal());
        let names: Vec<&str> = ended.map(|state| state.as_str()).collect();
        format!("jobs do not end in a state {name:?}: {}", names.join(", "))
    })
}

/// Reads a number of slots.
///
/// # Errors
/// When the text is no number above 0.
pub fn parse_slots(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "write 1 or more".to_owned())
}

/// Reads the name of a resource, and how many items of it, 1 where that is not said.
///
/// # Errors
/// When no resource can be named so, or the number is none above 0.
pub fn parse_amount(text: &str) -> Result<(String, u32), String> {
    let (name, amount) = text.split_once('=').unwrap_or((text, "1"));
    if !is_resource(name) {
        return Err(format!(
            "{name:?} cannot be a resource: write letters, digits, '-' and '_', a letter first, \
             {MAX_RESOURCE} at most"
        ));
    }
    let amount: NonZeroU32 =
        amount.parse().map_err(|_| format!("write {name}=1 or more, or leave the option out"))?;
    Ok((name.to_owned(), amount.get()))
}

/// Reads a part of a whole: a number from 0 to 1.
///
/// # Errors
/// When the text is no such number.
pub fn parse_part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

/// Reads a list of exit codes, which poold reads again.
///
/// # Errors
/// When the text is none.
pub fn parse_codes(text: &str) -> Result<String, String> {
    let is_code = |text: &str| text.trim().parse::<u8>().is_ok();
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_code(first) && is_code(last),
        None => is_code(part),
    };
    if text.split(',').all(is_range) {
        return Ok(text.to_owned());
    }
    Err("write numbers from 0 to 255 and ranges, as in 75,100-110".to_owned())
}

/// Reads a limit, which is never 0.
///
/// # Errors
/// When the text is no such number.
pub fn parse_limit(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "write 1 or more, or leave it out for all".to_owned())
}

/// Reads a number of workers.
///
/// # Errors
/// When the text is no number above 0, or one that no pool and no limit can have.
pub fn parse_workers(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => format!("write {} or less", u32::MAX),
        _ => "write 1 or more".to_owned(),
    })
}

/// Reads a limit at which a program is replaced.
///
/// # Errors
/// When the text is no number above 0.
pub fn parse_wear(text: &str) -> Result<u64, String> {
    let limit: NonZeroU64 =
        text.parse().map_err(|_| "write 1 or more, or leave the option out".to_owned())?;
    Ok(limit.get())
}

/// Reads a span of time that is never 0.
///
/// # Errors
/// When the text is no duration, or is 0.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("write more than 0, or leave the option out".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Reads a list of CPUs.
///
/// # Errors
/// When the text is no such list.
pub fn parse_cpus(text: &str) -> Result<String, String> {
    cpus_from_text(text).map(|_| text.to_owned())
}

/// Reads what a job is tied to.
///
/// # Errors
/// When the text is none of the three kinds of tie.
pub fn parse_tie(text: &str) -> Result<String, String> {
    let is_job = text.strip_prefix("job:").is_some_and(|id| id.parse::<u64>().is_ok());
    if is_job || text == TIE_TO_CLIENT || text == "pool" {
        return Ok(text.to_owned());
    }
    Err("write client, pool, or job: and a job's id, such as job:12".to_owned())
}

/// Reads a key.
///
/// # Errors
/// When the text is empty or too long.
pub fn parse_key(text: OsString) -> Result<OsText, String> {
    bounded(text, MAX_KEY)
}

/// Reads the name of a job.
///
/// # Errors
/// When the text is empty.
pub fn parse_name(text: OsString) -> Result<OsText, String> {
    if text.is_empty() { Err("write a name, or leave the option out".to_owned()) } else { Ok(text.into()) }
}

/// Reads a label.
///
/// # Errors
/// When a label cannot be named so.
pub fn parse_label(text: &str) -> Result<String, String> {
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!("write 1 to {MAX_LABEL} letters, digits, '-', '_', '.', ':', '/', '@' and '+'"))
}

/// Reads the name of a map.
///
/// # Errors
/// When the text is empty or too long.
pub fn parse_map_name(text: OsString) -> Result<OsText, String> {
    bounded(text, MAX_MAP_NAME)
}

fn bounded(text: OsString, longest: usize) -> Result<OsText, String> {
    match text.len() {
        length if length == 0 || length > longest => {
            Err(format!("write 1 to {longest} bytes; this text has {length} bytes"))
        }
        _ => Ok(text.into()),
    }
}

/// Reads a command for a shell.
///
/// # Errors
/// When there is nothing to run.
pub fn parse_shell_command(text: OsString) -> Result<OsText, String> {
    if text.as_bytes().trim_ascii().is_empty() { Err("write a command".to_owned()) } else { Ok(text.into()) }
}

/// Text that need not be UTF-8.
pub fn os_text() -> impl TypedValueParser<Value = OsText> {
    OsStringValueParser::new().map(OsText::from)
}

/// Text that need not be UTF-8, read by this function.
pub fn os_text_by(parse: fn(OsString) -> Result<OsText, String>) -> impl TypedValueParser<Value = OsText> {
    OsStringValueParser::new().try_map(parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_of_three_kinds() {
        for text in ["client", "pool", "job:12"] {
            assert_eq!(parse_tie(text).as_deref(), Ok(text));
        }
        for text in ["", "x", "job:", "job:x", "job:-1", "Client"] {
            assert!(parse_tie(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_poold_would_refuse_is_refused() {
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_timeout("0").is_err() && parse_timeout("x").is_err());
        assert!(parse_key("k".into()).is_ok() && parse_key("".into()).is_err());
        assert!(
            parse_key("k".repeat(MAX_KEY).into()).is_ok()
                && parse_key("k".repeat(MAX_KEY + 1).into()).is_err()
        );
        assert!(parse_shell_command("true".into()).is_ok() && parse_shell_command(" ".into()).is_err());
        assert_eq!(parse_amount("gpu"), Ok(("gpu".to_owned(), 1)));
        assert_eq!(parse_amount("a-b_2=3"), Ok(("a-b_2".to_owned(), 3)));
        for text in ["", "=1", "gpu=0", "gpu=", "gpu=x", "2gpu", "g:pu"] {
            assert!(parse_amount(text).is_err(), "{text}");
        }
        assert!(parse_wear("1").is_ok() && parse_wear("0").is_err());
        for (text, told) in [
            ("0", "write 1 or more"),
            ("", "write 1 or more"),
            ("99999999999", "write 4294967295 or less"),
            ("-1", "write 1 or more"),
            ("two", "write 1 or more"),
        ] {
            assert_eq!(parse_workers(text), Err(told.to_owned()), "{text}");
        }
    }
}
