//! What a start makes of the end of the last daemon: which boot of the machine it was in, and what of its
//! attempts is still there and is killed. What becomes of their jobs is the core's decision.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use pool_proto::nouns::Swept;

use super::launch;
use crate::engine::{Boot, Interrupted, LastEnd, Restored};
use crate::files::slot_output::blank_paths;
use crate::files::{layout, slot_output};
use crate::job::micros;
use crate::kernel::{self, Leftover, Recorded, clock};

/// So many processes are told of one by one.
const TOLD: usize = 20;

/// What a start has found.
#[derive(Debug)]
pub struct Recovery {
    pub last_end: LastEnd,
    pub swept: Swept,
}

/// Kills what is left. `restored`: what the engine knows, if it can be read; `groups`: the control groups that
/// have been killed before.
pub fn recover(
    state_dir: &Path,
    daemon: &str,
    boot: &Boot,
    restored: Option<&Restored>,
    groups: usize,
) -> Recovery {
    let last_end = restored
        .map_or(LastEnd::Unknown, |restored| last_end(boot.id.as_deref(), restored.boot.id.as_deref()));
    let recorded = match (restored, last_end) {
        (Some(restored), LastEnd::Died) => {
            restored.interrupted.iter().filter_map(|job| recorded(state_dir, job)).collect()
        }
        // Pids of another boot mean nothing.
        _ => Vec::new(),
    };
    let leftovers = kernel::kill_leftovers(&recorded, |variables| launch::is_of_attempt(variables, daemon));
    tell(&leftovers);
    // Only now nobody writes to them any more.
    restored.iter().flat_map(|restored| &restored.interrupted).for_each(|job| adopt_output(state_dir, job));
    let spared = leftovers.iter().filter(|leftover| !leftover.gone).count();
    let [groups, processes, spared] =
        [groups, leftovers.len(), spared].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
    Recovery { last_end, swept: Swept { groups, processes, spared } }
}

/// What the boots say, this one's and that of the last daemon.
fn last_end(now: Option<&str>, then: Option<&str>) -> LastEnd {
    match now.zip(then) {
        Some((now, then)) if now == then => LastEnd::Died,
        Some(_) => LastEnd::Rebooted,
        None => LastEnd::Unknown,
    }
}

/// How long interrupted attempts of this boot have lasted.
pub fn measure(restored: &mut Restored) {
    if restored.last_end != LastEnd::Died {
        return;
    }
    let now_us = micros(clock::since_boot());
    for job in &mut restored.interrupted {
        let lasted_us = job.since_boot_us.map(|us| now_us.saturating_sub(us).max(0).unsigned_abs());
        job.lasted = lasted_us.map(Duration::from_micros);
    }
}

/// None where nothing is known by which its process could be told from others.
fn recorded(state_dir: &Path, job: &Interrupted) -> Option<Recorded> {
    let process = job.process.filter(|process| process.start_ticks.is_some())?;
    let (stdout, stderr) = layout::job_paths(state_dir, job.id, job.tries.attempts);
    let blanks = job.slot.map(|slot| blank_paths(&layout::slot_prefix(state_dir, Some(&job.pool), slot)));
    let identity = |path| fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let output = [stdout, stderr].into_iter().chain(blanks.into_iter().flatten()).filter_map(identity);
    Some(Recorded { process, worker_pid: job.worker, output: output.collect() })
}

/// What an interrupted attempt had written gets the attempt's names.
fn adopt_output(state_dir: &Path, job: &Interrupted) {
    let Some(slot) = job.slot else { return };
    let prefix = layout::slot_prefix(state_dir, Some(&job.pool), slot);
    let names = layout::job_paths(state_dir, job.id, job.tries.attempts).into();
    if let Err(error) = slot_output::adopt(&prefix, Some(names)) {
        tracing::warn!(job = %job.id, %error, "cannot keep the output of an attempt that was interrupted");
    }
}

fn tell(leftovers: &[Leftover]) {
    if leftovers.is_empty() {
        return;
    }
    tracing::warn!(processes = leftovers.len(), "what an earlier poold had left behind was killed");
    for Leftover { pid, command, evidence, .. } in leftovers.iter().take(TOLD) {
        tracing::info!(%pid, command, known_by = evidence.as_str(), "killed");
    }
    for Leftover { pid, command, .. } in leftovers.iter().filter(|leftover| !leftover.gone) {
        tracing::warn!(%pid, command, "it could not be killed, or takes its time; it is not waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_boots_that_are_known_tell_anything() {
        assert_eq!(last_end(Some("a"), Some("a")), LastEnd::Died);
        assert_eq!(last_end(Some("b"), Some("a")), LastEnd::Rebooted);
        assert_eq!(last_end(Some("b"), None), LastEnd::Unknown);
        assert_eq!(last_end(None, Some("a")), LastEnd::Unknown);
    }
}
