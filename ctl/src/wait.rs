//! Waiting for jobs that are there already.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool_proto::interface::{ProgressEvent, Wait};
use pool_proto::{Client, ClientError, Record};

use crate::cli::{WaitOptions, ids_of};
use crate::connect::Link;
use crate::outcome::{TIMED_OUT, exit_code, summary};
use crate::print;
use crate::progress_lines::ProgressLines;

/// Waits for all of them, or any; prints each record as it comes with `--json`, and without a line on stderr for each that failed, at a terminal
/// how far calls have come.
///
/// # Errors
/// When one of them does not exist, or poold is gone for good.
pub fn run(link: &Link, options: &WaitOptions, as_json: bool) -> anyhow::Result<u8> {
    let ids = ids_of(&options.ids);
    // One that is never reached is none.
    let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut ended: HashMap<u64, u8> = HashMap::new();
    let mut lines = match ids.len() {
        _ if as_json => ProgressLines::hidden(),
        1 => ProgressLines::of_one(),
        _ => ProgressLines::of_many(),
    };
    let wait = Wait {
        ids: ids.clone(),
        any: Some(options.any),
        progress: Some(lines.are_seen()),
        ..Wait::default()
    };
    let mut client = begin(link.connect()?, &wait)?;
    loop {
        match next(&mut client, &mut lines, deadline) {
            Ok(Some((record, last))) => {
                lines.end(record.id);
                // After a restart of poold what had ended before is told once more.
                if ended.insert(record.id, exit_code(&record)).is_none() {
                    lines.aside(|| tell(&record, as_json))?;
                }
                if options.any {
                    return Ok(exit_code(&record));
                }
                if last {
                    return Ok(ids
                        .iter()
                        .map(|id| ended.get(id).copied().unwrap_or(0))
                        .find(|&code| code != 0)
                        .unwrap_or(0));
                }
            }
            Ok(None) => {
                lines.clear();
                let left: Vec<String> = ids
                    .iter()
                    .filter(|id| !ended.contains_key(id))
                    .take(20)
                    .map(ToString::to_string)
                    .collect();
                eprintln!("poolctl: the time is up; not ended yet: {}", left.join(" "));
                return Ok(TIMED_OUT);
            }
            Err(ClientError::Disconnected(_)) => {
                lines.clear();
                client = begin(link.reconnect()?, &wait)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn begin(mut client: Client, wait: &Wait) -> anyhow::Result<Client> {
    client.send(wait, true).context("cannot ask poold")?;
    Ok(client)
}

fn tell(record: &Record, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print::json(record);
    }
    if exit_code(record) != 0 {
        eprintln!("poolctl: job {} {}: {}", record.id, record.state.as_str(), summary(record));
    }
    Ok(())
}

/// The next end, and whether it is the last; none when the time is up.
fn next(
    client: &mut Client,
    lines: &mut ProgressLines,
    deadline: Option<Instant>,
) -> Result<Option<(Record, bool)>, ClientError> {
    loop {
        while let Some((told, more)) = client.next_reply::<Wait>()? {
            if let Some(progress) = told.progress {
                lines.note(told.id, &progress);
            }
            if told.event == ProgressEvent::Ended
                && let Some(record) = told.record
            {
                return Ok(Some((*record, !more)));
            }
        }
        lines.show();
        if !readable_before(client, deadline).map_err(std::io::Error::from)? {
            return Ok(None);
        }
        if !client.fill()? {
            return Err(ClientError::Disconnected(None));
        }
    }
}

fn readable_before(client: &Client, deadline: Option<Instant>) -> nix::Result<bool> {
    loop {
        let timeout = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Ok(false),
            // Rounded up; poll takes no more than about 24 days at once, which is no harm.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut [PollFd::new(client.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
