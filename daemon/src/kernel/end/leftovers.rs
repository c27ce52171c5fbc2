//! What a daemon that died with all of its processes at once has left behind, found by facts: nothing is
//! taken for ours because it looks like it, or because it has been there for long.
//!
//! Each of these is enough to know a process by:
//!
//! * Its pid and start time are those recorded of an attempt: in one boot of the machine no other process
//!   has both.
//! * It is the recorded worker, and the parent of such a process: a parent is who the kernel says it is.
//! * Its environment is that of an attempt of this state directory: every attempt is given it, and its
//!   children inherit it.
//! * Its session is that of such a process: sessions are left only by making a new one.
//! * Its session has the number of a recorded process, and a member of it is known otherwise or writes an
//!   attempt's output: the number of a session is not given out again while it has a member.
//! * Its parent is any of these.
//!
//! A process that has cleared its environment *and* left the session *and* lost its parent is not found. A
//! control group or a pid namespace holds such a process, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::stuck::PATIENCE;
use super::tree::{open_pidfd, parent_of, send_signal};
use crate::job::{Process, ProcessId};

/// What is found in one pass may have started others before it was stopped.
const PASSES: usize = 64;

/// What is recorded of an attempt that was interrupted in this boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its first process, which led a session.
    pub process: Process,
    /// The worker that ran it.
    pub worker_pid: Option<ProcessId>,
    /// Device and inode of its output files.
    pub output: Vec<(u64, u64)>,
}

/// What gives a process away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    Recorded,
    Worker,
    Environment,
    Session,
    Parent,
}

impl Evidence {
    /// As it is logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "pid and start time",
            Self::Worker => "parent of a recorded process",
            Self::Environment => "environment",
            Self::Session => "session",
            Self::Parent => "child of one of these",
        }
    }
}

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub pid: ProcessId,
    /// As in the process list.
    pub command: String,
    pub evidence: Evidence,
    /// The process has ended. A process of another user may not be killed.
    pub gone: bool,
}

/// Kills what attempts have left behind, but for this process and its ancestors, and waits until it is gone.
/// `is_ours`: whether variables, each as `NAME=value`, are those of an attempt of this state directory.
pub fn kill_leftovers(recorded: &[Recorded], is_ours: impl Fn(&[&[u8]]) -> bool) -> Vec<Leftover> {
    let spared = ancestors();
    let evidence_of = |seen: &Seen| {
        let environment = fs::read(format!("/proc/{}/environ", seen.pid)).unwrap_or_default();
        is_ours(&environment.split(|&byte| byte == 0).collect::<Vec<_>>())
    };
    let mut held: HashMap<ProcessId, Held> = HashMap::new();
    for _ in 0..PASSES {
        let all = look_around();
        let found = find(&all, &spared, recorded, evidence_of, |seen, recorded| {
            writes_to(seen.pid, &recorded.output)
        });
        let before = held.len();
        for (seen, evidence) in found.into_iter().filter(|(seen, _)| !seen.is_dead) {
            if held.contains_key(&seen.pid) {
                continue;
            }
            // The descriptor pins the process that has the pid now, which may be another than was looked at.
            if let Some(pidfd) = open_pidfd(seen.pid)
                && look_at(seen.pid).is_some_and(|now| now.start_ticks == seen.start_ticks)
            {
                // Stopped, so that it starts no others while the rest is being found.
                let may_kill = send_signal(&pidfd, Signal::SIGSTOP);
                held.insert(seen.pid, Held { pidfd, evidence, command: seen.command.clone(), may_kill });
            }
        }
        if held.len() == before {
            break;
        }
    }
    end(held)
}

/// Kills all, then waits for all.
fn end(held: HashMap<ProcessId, Held>) -> Vec<Leftover> {
    for process in held.values().filter(|process| process.may_kill) {
        send_signal(&process.pidfd, Signal::SIGKILL);
    }
    // An attempt is not to run beside its predecessor.
    let until = Instant::now() + PATIENCE;
    let mut leftovers: Vec<Leftover> = held
        .into_iter()
        .map(|(pid, Held { pidfd, evidence, command, may_kill })| {
            let gone = may_kill && has_ended(&pidfd, until.saturating_duration_since(Instant::now()));
            Leftover { pid, command, evidence, gone }
        })
        .collect();
    leftovers.sort_unstable_by_key(|leftover| leftover.pid);
    leftovers
}

/// A process that is pinned, and stopped.
struct Held {
    pidfd: OwnedFd,
    evidence: Evidence,
    command: String,
    may_kill: bool,
}

/// A process as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    pid: ProcessId,
    parent: ProcessId,
    session: ProcessId,
    start_ticks: u64,
    /// The process has ended and waits to be reaped. What it was is still known.
    is_dead: bool,
    command: String,
}

/// Who of all is ours, and how that is known. See the module's description.
fn find<'a>(
    all: &'a [Seen],
    spared: &HashSet<ProcessId>,
    recorded: &[Recorded],
    is_marked: impl Fn(&Seen) -> bool,
    writes_output: impl Fn(&Seen, &Recorded) -> bool,
) -> Vec<(&'a Seen, Evidence)> {
    let candidates: Vec<&Seen> = all.iter().filter(|seen| !spared.contains(&seen.pid)).collect();
    let mut found: BTreeMap<ProcessId, Evidence> = BTreeMap::new();
    for seen in &candidates {
        let of = |other: &&Recorded| {
            (seen.pid, Some(seen.start_ticks)) == (other.process.pid, other.process.start_ticks)
        };
        if let Some(recorded) = recorded.iter().find(of) {
            found.insert(seen.pid, Evidence::Recorded);
            let worker =
                recorded.worker_pid.filter(|&worker| worker == seen.parent && !spared.contains(&worker));
            found.extend(worker.map(|worker| (worker, Evidence::Worker)));
        } else if is_marked(seen) {
            found.entry(seen.pid).or_insert(Evidence::Environment);
        }
    }
    loop {
        let before = found.len();
        // A session is ours where its leader is, or where it has the number of one of ours and somebody in it
        // is.
        let mut sessions: HashSet<ProcessId> = HashSet::new();
        for seen in &candidates {
            let is_recorded = || recorded.iter().find(|other| other.process.pid == seen.session);
            let is_known = found.contains_key(&seen.pid);
            let is_ours = is_known && seen.pid == seen.session
                || is_recorded().is_some_and(|recorded| is_known || writes_output(seen, recorded));
            if is_ours {
                sessions.insert(seen.session);
            }
        }
        for seen in &candidates {
            if sessions.contains(&seen.session) {
                found.entry(seen.pid).or_insert(Evidence::Session);
            } else if found.contains_key(&seen.parent) {
                found.entry(seen.pid).or_insert(Evidence::Parent);
            }
        }
        if found.len() == before {
            break;
        }
    }
    candidates.into_iter().filter_map(|seen| found.get(&seen.pid).map(|&evidence| (seen, evidence))).collect()
}

fn look_around() -> Vec<Seen> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| look_at(ProcessId::new(entry.file_name().to_str()?.parse().ok()?))).collect()
}

/// From proc(5): the command's name is in parentheses and may hold anything; then state, parent, group,
/// session, and the start as the twenty-second field.
fn look_at(pid: ProcessId) -> Option<Seen> {
    // Not text: a name may be cut in the middle of a character.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (head, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Seen {
        pid,
        parent: ProcessId::new(fields.get(1)?.parse().ok()?),
        session: ProcessId::new(fields.get(3)?.parse().ok()?),
        start_ticks: fields.get(19)?.parse().ok()?,
        is_dead: matches!(*fields.first()?, "Z" | "X"),
        command: head.split_once(" (")?.1.to_owned(),
    })
}

/// Whether one of the process's descriptors is one of these files.
fn writes_to(pid: ProcessId, files: &[(u64, u64)]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_one =
        |path: &Path| fs::metadata(path).is_ok_and(|found| files.contains(&(found.dev(), found.ino())));
    descriptors.into_iter().any(|entry| is_one(&entry.path()))
}

fn has_ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    // Readable when the process has ended (pidfd_open(2)).
    matches!(poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout), Ok(1..))
}

/// This process, its parent, and so on.
fn ancestors() -> HashSet<ProcessId> {
    let mut found = HashSet::new();
    let mut next = Some(ProcessId::new(std::process::id() as i32));
    while let Some(pid) = next.filter(|&pid| pid.get() > 0 && found.insert(pid)) {
        next = parent_of(pid);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::kernel::start_ticks_of;

    fn seen(pid: i32, parent: i32, session: i32) -> Seen {
        let start_ticks = 1000 + pid as u64;
        let [pid, parent, session] = [pid, parent, session].map(ProcessId::new);
        Seen { pid, parent, session, start_ticks, is_dead: false, command: "a".to_owned() }
    }

    fn recorded(pid: i32, worker_pid: i32) -> Recorded {
        let process = Process { pid: ProcessId::new(pid), start_ticks: Some(1000 + pid as u64) };
        Recorded { process, worker_pid: Some(ProcessId::new(worker_pid)), output: vec![(1, 2)] }
    }

    /// Who is found among these with these records, where the processes `marked` have the environment and
    /// those in `writing` the output.
    fn found(all: &[Seen], recorded: &[Recorded], marked: &[i32], writing: &[i32]) -> Vec<(i32, Evidence)> {
        let is_marked = |seen: &Seen| marked.contains(&seen.pid.get());
        let spared = HashSet::from([1, 50].map(ProcessId::new));
        let found = find(all, &spared, recorded, is_marked, |seen, _| writing.contains(&seen.pid.get()));
        found.into_iter().map(|(seen, evidence)| (seen.pid.get(), evidence)).collect()
    }

    #[test]
    fn the_recorded_process_gives_away_its_worker_its_session_and_its_descent() {
        let all = [
            seen(10, 1, 10),
            seen(20, 10, 20),
            seen(21, 1, 20),
            seen(22, 20, 22),
            seen(23, 1, 22),
            seen(30, 1, 30),
        ];
        let expected = [
            (10, Evidence::Worker),
            (20, Evidence::Recorded),
            (21, Evidence::Session),
            (22, Evidence::Parent),
            (23, Evidence::Session),
        ];
        assert_eq!(found(&all, &[recorded(20, 10)], &[], &[]), expected);
    }

    #[test]
    fn a_pid_that_means_another_process_by_now_is_nobody() {
        let mut other = seen(20, 10, 20);
        other.start_ticks += 1;
        let all = [seen(10, 1, 10), other, seen(21, 20, 20)];
        assert_eq!(found(&all, &[recorded(20, 10)], &[], &[]), []);
        let unknown =
            Recorded { process: Process { pid: ProcessId::new(20), start_ticks: None }, ..recorded(20, 10) };
        assert_eq!(found(&all, &[unknown], &[], &[]), []);
    }

    #[test]
    fn a_session_without_its_leader_is_ours_only_when_a_member_is() {
        // The number may have been another's since: nothing but the number speaks for these.
        let all = [seen(21, 1, 20), seen(22, 1, 20)];
        let records = [recorded(20, 10)];
        assert_eq!(found(&all, &records, &[], &[]), []);
        assert_eq!(found(&all, &records, &[21], &[]), [(21, Evidence::Environment), (22, Evidence::Session)]);
        assert_eq!(found(&all, &records, &[], &[22]), [(21, Evidence::Session), (22, Evidence::Session)]);
        // One with the environment in somebody else's session takes nobody along but its children.
        let all = [seen(31, 30, 30), seen(30, 1, 30), seen(32, 31, 30), seen(33, 30, 30)];
        assert_eq!(
            found(&all, &records, &[31], &[33]),
            [(31, Evidence::Environment), (32, Evidence::Parent)]
        );
    }

    #[test]
    fn who_starts_is_spared_with_all_above_it() {
        let all = [seen(20, 1, 20), seen(50, 20, 20), seen(51, 50, 51)];
        assert_eq!(found(&all, &[recorded(20, 50)], &[50], &[]), [(20, Evidence::Recorded)]);
    }

    #[test]
    fn a_worker_is_known_only_by_its_child() {
        let all = [seen(10, 1, 10), seen(20, 1, 20)];
        assert_eq!(found(&all, &[recorded(20, 10)], &[], &[]), [(20, Evidence::Recorded)]);
    }

    /// A process of this test's, which is not to be mistaken for anybody.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(mark: &str) -> Self {
            let mut command = Command::new("sleep");
            Self(command.arg("600").env("POOLD_UNIT_TEST", mark).stdout(Stdio::null()).spawn().unwrap())
        }

        fn pid(&self) -> ProcessId {
            ProcessId::new(self.0.id() as i32)
        }

        fn is_alive(&self) -> bool {
            look_at(self.pid()).is_some_and(|seen| !seen.is_dead)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn only_what_is_certain_is_killed_and_it_is_gone_afterwards() {
        let [by_record, reused, by_environment, other] = ["", "", "ours", "theirs"].map(Sleeper::start);
        let process = |sleeper: &Sleeper, later| {
            let start_ticks = start_ticks_of(sleeper.pid()).map(|ticks| ticks + later);
            Recorded {
                process: Process { pid: sleeper.pid(), start_ticks },
                worker_pid: None,
                output: Vec::new(),
            }
        };
        let records = [process(&by_record, 0), process(&reused, 1)];
        let leftovers =
            kill_leftovers(&records, |variables| variables.contains(&b"POOLD_UNIT_TEST=ours".as_slice()));
        let mut told: Vec<(ProcessId, Evidence, bool)> =
            leftovers.iter().map(|leftover| (leftover.pid, leftover.evidence, leftover.gone)).collect();
        told.sort_unstable();
        let mut expected = [
            (by_record.pid(), Evidence::Recorded, true),
            (by_environment.pid(), Evidence::Environment, true),
        ];
        expected.sort_unstable();
        assert_eq!(told, expected);
        assert!(!by_record.is_alive() && !by_environment.is_alive() && reused.is_alive() && other.is_alive());
        assert!(leftovers.iter().all(|leftover| leftover.command == "sleep"));
    }
}
