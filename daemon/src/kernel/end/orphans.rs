//! What dead workers leave behind falls to the supervisor, which is a subreaper. It ends that while other
//! workers live, and without ever waiting: each process that ends brings a SIGCHLD, and each that does not
//! end is given up at its deadline.
//!
//! A dead worker's end is told when nothing that it ran is left. Whose an orphan is the kernel does not say,
//! since it has lost its parent; but this much is certain:
//!
//! * A living worker is a subreaper itself, so that an orphan of ours comes from a dead worker only.
//! * When a worker can be reaped, all its children are ours already (they are given away before its end is
//!   told). So what is new among our children comes from a worker that has been reaped since the last look,
//!   or has been started by an orphan that we know.
//! * A process below a known orphan belongs to the same worker as that orphan. It still does when the orphan
//!   dies and the process becomes our child, since the process was seen before.
//!
//! So an orphan that is new belongs to a worker whose end has not been told yet. Where several have died
//! within the same moment, each of them waits for it: that may cost the others a part of [`PATIENCE`], and no
//! end is ever told too early.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::stuck::{PATIENCE, Stuck, StuckSet};
use super::tree::{Descendant, children, descendants, freeze, own_pid, signal_descendant};
use crate::job::ProcessId;

/// What dead workers have left behind.
#[derive(Debug, Default)]
pub struct Orphans {
    known: HashMap<ProcessId, Orphan>,
    stuck: StuckSet,
}

#[derive(Debug, Clone, PartialEq)]
struct Orphan {
    /// The dead workers one of which it comes from.
    workers: Vec<ProcessId>,
    killed_at: Instant,
}

impl Orphans {
    /// Kills all children that are no workers, with all below them. `living`: the workers that have not
    /// ended; `dying`: those that have been reaped, and whose end has not been told.
    pub fn sweep(&mut self, living: &HashSet<ProcessId>, dying: &[ProcessId]) {
        let living: Vec<ProcessId> = living.iter().copied().collect();
        self.stuck.forget_gone();
        if children(&living).is_empty() {
            return self.known.clear();
        }

        freeze(&living);
        let now = Instant::now();
        let found = descendants(&living);
        let found: Vec<Descendant> =
            found.into_iter().filter(|process| !self.stuck.contains(process.pid)).collect();
        attribute(&mut self.known, &found, dying, own_pid(), now);

        for process in found {
            let may_kill = signal_descendant(process, Signal::SIGKILL);
            let is_late =
                self.known.get(&process.pid).is_some_and(|orphan| now >= orphan.killed_at + PATIENCE);
            if !may_kill || is_late {
                self.known.remove(&process.pid);
                self.stuck.add(process.pid, may_kill);
            }
        }
    }

    /// A worker has told of processes that do not end: should it die, nobody waits for them again.
    pub fn know_stuck(&mut self, told: Vec<Stuck>) {
        self.stuck.extend(told);
    }

    /// Whether something that this dead worker may have started is still there and is waited for.
    pub fn are_left_of(&self, worker: ProcessId) -> bool {
        self.known.values().any(|orphan| orphan.workers.contains(&worker))
    }

    /// When to sweep again, should no child end before.
    pub fn deadline(&self) -> Option<Instant> {
        self.known.values().map(|orphan| orphan.killed_at + PATIENCE).min()
    }

    /// Those that do not end.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.stuck.list()
    }
}

/// Brings `known` up to what was `found`, parents before children. See the module's description.
fn attribute(
    known: &mut HashMap<ProcessId, Orphan>,
    found: &[Descendant],
    dying: &[ProcessId],
    own: ProcessId,
    now: Instant,
) {
    known.retain(|pid, _| found.iter().any(|process| process.pid == *pid));
    for process in found {
        if known.contains_key(&process.pid) {
            continue;
        }
        let workers = match known.get(&process.parent) {
            Some(parent) => parent.workers.clone(),
            None if process.parent == own => dying.to_vec(),
            // Below a process that was given up: nobody waits for it.
            None => Vec::new(),
        };
        known.insert(process.pid, Orphan { workers, killed_at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ProcessId = pid(1);

    const fn pid(number: i32) -> ProcessId {
        ProcessId::new(number)
    }

    fn process(number: i32, parent: i32) -> Descendant {
        Descendant { pid: pid(number), parent: pid(parent) }
    }

    #[test]
    fn each_dead_worker_waits_for_its_own_orphans_and_where_that_is_unknown_for_all_that_may_be_its_own() {
        let (mut known, now) = (HashMap::new(), Instant::now());
        let workers_of = |known: &HashMap<ProcessId, Orphan>, number| known[&pid(number)].workers.clone();

        // Worker 10 has died and has left 20, which has a child.
        attribute(&mut known, &[process(20, 1), process(21, 20)], &[pid(10)], OWN, now);
        assert_eq!(workers_of(&known, 20), [pid(10)]);
        assert_eq!(workers_of(&known, 21), [pid(10)]);

        // Worker 11 has died as well. What was there before is none of its own; 21 has lost its parent and is
        // still 10's.
        attribute(
            &mut known,
            &[process(21, 1), process(30, 1), process(31, 30)],
            &[pid(10), pid(11)],
            OWN,
            now,
        );
        assert!(!known.contains_key(&pid(20)));
        assert_eq!(workers_of(&known, 21), [pid(10)]);
        // Who has started 30 is not known: it may be 21's, or 11's.
        assert_eq!(workers_of(&known, 30), [pid(10), pid(11)]);
        assert_eq!(workers_of(&known, 31), [pid(10), pid(11)]);

        // What a process that was given up has started is killed, and nobody waits for it.
        attribute(&mut known, &[process(40, 39)], &[pid(12)], OWN, now);
        assert_eq!(workers_of(&known, 40), []);
    }
}
