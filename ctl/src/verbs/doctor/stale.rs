//! Files in the state directory that belong to no job. poold removes the files that it knows. A crash between
//! two steps, a restored backup or a person may leave other files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pool_proto::methods::{Absent, MAX_ABSENT};

use super::Check;
use super::daemon::Asked;

/// The number of files that a message names.
const NAMED: usize = 3;

/// The check of files that belong to no job. Only poold can tell which jobs exist.
pub fn look(dir: &Path, answer: &mut Asked) -> Vec<Check> {
    let mut found = Found::default();
    found.output(&dir.join("output"));
    found.stdin(&dir.join("stdin"));

    let Asked::Condition { client, .. } = answer else {
        return vec![match found.jobs.len() {
            jobs if jobs > 0 && found.stale.is_empty() => Check::note(
                "stale-files",
                format!(
                    "output of {jobs} jobs is there; only a running poold can tell whether it knows them"
                ),
            ),
            _ => found.nobodys(),
        }];
    };

    let ids: Vec<u64> = found.jobs.keys().copied().collect();

    for some in ids.chunks(MAX_ABSENT) {
        match client.request(&Absent { ids: some.to_vec() }) {
            // The files of a job that has just been pruned are gone by the time of the answer.
            Ok(absent) => {
                let gone = absent.ids.iter().filter_map(|id| found.jobs.remove(id)).flatten();
                found.stale.extend(gone.filter(|path| path.exists()));
            }
            Err(error) => {
                return vec![Check::warning(
                    "stale-files",
                    format!("poold does not say which jobs exist: {error}"),
                )];
            }
        }
    }
    vec![found.nobodys()]
}

#[derive(Default)]
struct Found {
    /// Output by the id of its job.
    jobs: BTreeMap<u64, Vec<PathBuf>>,
    /// Files that belong to no job for certain.
    stale: Vec<PathBuf>,
}

impl Found {
    /// Looks through `output/`: `output/42/42137.1.out` names its job, `output/callbacks/17.2.out` does not.
    fn output(&mut self, output: &Path) {
        for folder in entries(output) {
            let name = name_of(&folder);
            if name == "programs" {
                // The standard error of resident programs has a name only while poold opens it.
                self.stale.extend(entries(&folder));
            } else if name == "slots" {
                // What attempts write to before it has a name.
            } else if name == "callbacks" {
                self.stale
                    .extend(entries(&folder).into_iter().filter(|path| id_of(&name_of(path)).is_none()));
            } else if folder.is_dir() && name.parse::<u64>().is_ok() {
                for path in entries(&folder) {
                    match id_of(&name_of(&path)) {
                        Some(id) => self.jobs.entry(id).or_default().push(path),
                        None => self.stale.push(path),
                    }
                }
            } else {
                self.stale.push(folder);
            }
        }
    }

    /// Looks through `stdin/`. The names are made of a start of poold and a number. The next start of poold
    /// removes files with such names if no job needs them.
    fn stdin(&mut self, stdin: &Path) {
        let is_token = |name: &str| {
            name.split_once('-').is_some_and(|(start, number)| {
                i64::from_str_radix(start, 16).is_ok() && number.parse::<u64>().is_ok()
            })
        };
        self.stale.extend(entries(stdin).into_iter().filter(|path| !is_token(&name_of(path))));
    }

    fn nobodys(&self) -> Check {
        let shown: Vec<String> =
            self.stale.iter().take(NAMED).map(|path| path.display().to_string()).collect();
        let more = self.stale.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match self.stale.len() {
            0 => Check::ok(
                "stale-files",
                "every file of output and input belongs to a job, as far as poolctl can tell",
            ),
            1 => Check::note("stale-files", format!("belongs to no job: {}", shown[0])).advise("remove it"),
            _ => Check::note("stale-files", format!("belong to no job: {}{more}", shown.join(", ")))
                .advise("remove them"),
        }
    }
}

/// `ID.ATTEMPT.out`, or `.err`.
fn id_of(name: &str) -> Option<u64> {
    let (id, rest) = name.split_once('.')?;
    let (attempt, kind) = rest.split_once('.')?;
    attempt.parse::<u32>().ok().filter(|_| matches!(kind, "out" | "err"))?;
    id.parse().ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_files_tell_their_job() {
        assert_eq!(id_of("42137.1.out"), Some(42137));
        assert_eq!(id_of("7.12.err"), Some(7));
        for name in ["7.1", "7.out", "7.1.txt", "x.1.out", "7.x.out", ".1.out", "7.1.out.swp"] {
            assert_eq!(id_of(name), None, "{name}");
        }
    }
}
