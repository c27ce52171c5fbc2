//! `poolctl attach`: types into a running job, and shows what it prints.

use anyhow::bail;
use clap::Args;
use pool_proto::methods::Get;

use super::Context;
use super::selection::{Scope, find_one};
use crate::cli::UsageError;
use crate::cli::selector::{Selector, one_selector};
use crate::exit::ExitReason;
use crate::follow::{Attended, DETACH, Follower, Sinks};
use crate::tell::outcome::{exit_of, remark};
use crate::term::text::say;

/// Type into a job, and see what it prints
///
/// The job was submitted with --pty, or with --stdin open. Ctrl-\ leaves it, and it goes on. poolctl waits
/// for its start, and exits as it does. Should poold die, the job dies with it and is run again; attach then
/// goes on with the next attempt.
#[derive(Debug, Args)]
pub struct AttachOptions {
    /// The job: its id, 12.4 for an element of array 12, or last, or name:x
    #[arg(value_name = "SELECTOR", value_parser = one_selector())]
    job: Selector,

    /// The key that leaves a job at a terminal, like ^A [default: ^\]
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    detach_key: Option<u8>,
}

impl AttachOptions {
    /// Attaches to the job until its end, or until the key is typed.
    ///
    /// # Errors
    /// When the job does not exist, or poold has gone.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitReason> {
        if context.as_json {
            bail!(UsageError::new("attach prints what the job prints, and no JSON: leave --json out"));
        }
        let mut client = context.link.connect()?;
        let id = find_one(&mut client, &self.job, Scope::LIVING, "is attached to")?;
        let record = client.request(&Get { id })?.record;
        if record.array.is_some_and(|array| array.index.is_none()) {
            bail!("job {id} is an array: name one of its elements");
        }
        let follower = Follower::of_job(&context.link, client, Sinks::both(), id);
        let attended = follower.attached(self.detach_key.unwrap_or(DETACH))?.attend()?;
        let Attended::Ended(record) = attended else { return Ok(ExitReason::Success) };
        if let Some(remark) = remark(&record) {
            say(remark);
        }
        Ok(exit_of(&record))
    }
}

/// `^A` to `^_`, or one character.
fn parse_key(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b'^', key] if (b'@'..=b'_').contains(&key.to_ascii_uppercase()) => {
            Ok(key.to_ascii_uppercase() ^ 0x40)
        }
        [key] if key.is_ascii() => Ok(*key),
        _ => Err("write ^A for Ctrl-A, or one character".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_with_a_caret_or_as_it_is() {
        let keys = ["^\\", "^a", "^]", "~"].map(|text| parse_key(text).unwrap());
        assert_eq!(keys, [DETACH, 0x01, 0x1d, b'~']);
        assert!(
            ["", "^", "^aa", "Ctrl-A", "^\u{e4}"].iter().all(|text| *text == "^" || parse_key(text).is_err())
        );
    }
}
