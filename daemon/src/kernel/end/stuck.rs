//! Processes that do not end though they were killed. The kernel has a few reasons for that:
//!
//! * the process waits in the kernel and cannot be interrupted (state D: a disk or a file server does not
//!   answer);
//! * another process traces it (ptrace(2)): the end of a traced process is told to its tracer first, and its
//!   parent cannot reap it before the tracer has; a tracer may also hold the process right before its end;
//! * the process has become another user's, by way of a set-uid program such as sudo, and may not be killed;
//! * its memory is so large that freeing it takes a while.
//!
//! None of them is a reason for poold to stop. None of these processes will run another instruction of its
//! program, but for another user's. So poold waits for [`PATIENCE`], says which process does not end and why,
//! and goes on.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tree::{start_ticks_of, status_line};
use crate::job::{Process, ProcessId};
use crate::kernel::read_proc;

/// How long poold waits for the end of a process that it has killed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A process that was killed and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stuck {
    pub process: Process,
    /// As in the process list.
    pub command: String,
    pub hindrance: Hindrance,
}

/// Why a process does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hindrance {
    /// poold may not kill it: it is another user's.
    Forbidden,
    /// This process traces it and has not let go of it.
    Traced { by: ProcessId },
    /// It waits in the kernel and cannot be interrupted.
    Uninterruptible,
    /// It has ended, and its parent, which is one of these processes itself, does not reap it.
    Unreaped,
    /// None of these: the kernel takes its time.
    Slow,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => {
                formatter.write_str("it belongs to another user, whose processes poold may not kill")
            }
            Self::Traced { by } => {
                write!(formatter, "process {by} traces it: end process {by}, or have it let go")
            }
            Self::Uninterruptible => formatter
                .write_str("it waits in the kernel for a device or a file server that does not answer"),
            Self::Unreaped => formatter.write_str("it has ended, and its parent does not reap it"),
            Self::Slow => formatter.write_str("the kernel is still ending it"),
        }
    }
}

impl Stuck {
    /// Logs it. A worker has no log: its supervisor logs for it.
    pub fn log(&self) {
        let Self { process: Process { pid, .. }, command, hindrance } = self;
        tracing::error!(
            %pid,
            command,
            "a killed process does not end, and poold no longer waits for it: {hindrance}"
        );
    }
}

/// The stuck processes that this process knows of.
#[derive(Debug, Default)]
pub(super) struct StuckSet(HashMap<ProcessId, Stuck>);

impl StuckSet {
    /// Whether it is one of them, and not another process that the kernel has given the number of one since.
    pub fn contains(&self, pid: ProcessId) -> bool {
        self.0.get(&pid).is_some_and(|stuck| stuck.process.start_ticks == start_ticks_of(pid))
    }

    /// Takes a process in, and tells of it. `may_kill`: poold is allowed to.
    pub fn add(&mut self, pid: ProcessId, may_kill: bool) {
        let Some((command, state)) = look_at(pid) else { return }; // It is gone.
        let hindrance = match (may_kill, tracer_of(pid), state) {
            (false, ..) => Hindrance::Forbidden,
            (true, Some(by), _) => Hindrance::Traced { by },
            (true, None, 'D') => Hindrance::Uninterruptible,
            (true, None, 'Z' | 'X') => Hindrance::Unreaped,
            (true, None, _) => Hindrance::Slow,
        };
        let process = Process { pid, start_ticks: start_ticks_of(pid) };
        let stuck = Stuck { process, command, hindrance };
        stuck.log();
        self.0.insert(pid, stuck);
    }

    /// Takes in what another process has told.
    pub fn extend(&mut self, told: Vec<Stuck>) {
        self.0.extend(told.into_iter().map(|stuck| (stuck.process.pid, stuck)));
    }

    /// Forgets those that have been reaped since. True when there were any.
    pub fn forget_gone(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|&pid, stuck| {
            let now = start_ticks_of(pid);
            now.is_some() && now == stuck.process.start_ticks
        });
        self.0.len() < before
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of their numbers.
    pub fn list(&self) -> Vec<Stuck> {
        let mut all: Vec<Stuck> = self.0.values().cloned().collect();
        all.sort_unstable_by_key(|stuck| stuck.process.pid);
        all
    }
}

/// Command and state, from proc(5): the command's name is in parentheses and may hold anything.
fn look_at(pid: ProcessId) -> Option<(String, char)> {
    let stat = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    Some((head.split_once(" (")?.1.to_owned(), rest.chars().next()?))
}

/// The process that traces it.
fn tracer_of(pid: ProcessId) -> Option<ProcessId> {
    // A tracer is a thread.
    let thread = status_of(pid, "TracerPid:").filter(|thread| thread.get() != 0)?;
    Some(status_of(thread, "Tgid:").unwrap_or(thread))
}

/// From proc(5): a number of a process's status.
fn status_of(pid: ProcessId, name: &str) -> Option<ProcessId> {
    status_line(pid, name)?.parse().ok().map(ProcessId::new)
}
