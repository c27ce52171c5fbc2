//! Ending all that descends from this process, which is a subreaper: a worker does so after each attempt, a
//! guardian after its supervisor, and a supervisor when its guardian is dead.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::reap::{Reaped, reap_one, wait_for_end};
use super::stuck::{Stuck, StuckSet};
use super::tree::{children, descendants, freeze, signal_descendant};
use crate::job::ProcessId;

/// Ends descendants, and knows those that do not end.
#[derive(Debug)]
pub struct Sweeper {
    patience: Duration,
    stuck: StuckSet,
}

impl Sweeper {
    /// `patience`: how long a process that has been killed is waited for.
    pub fn new(patience: Duration) -> Self {
        Self { patience, stuck: StuckSet::default() }
    }

    /// How long a process that has been killed is waited for.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Kills every descendant of this process, and reaps until there is none left, or none but those that do
    /// not end. Returns what was reaped.
    ///
    /// With nothing to kill this is a single system call. Otherwise all are stopped before any is killed, so
    /// that none can start others faster than they are killed; each killed generation makes the next one our
    /// children, and the round begins again.
    ///
    /// The sweep lasts as long as there is progress: each process is waited for from its own SIGKILL on.
    pub fn sweep(&mut self) -> Vec<Reaped> {
        let mut reaped = Vec::new();
        let mut killed: HashMap<ProcessId, Instant> = HashMap::new();
        loop {
            loop {
                match reap_one() {
                    Ok(Some(child)) => {
                        killed.remove(&child.pid);
                        reaped.push(child);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        self.stuck = StuckSet::default();
                        return reaped;
                    }
                }
            }

            let left = self.kill_round(&mut killed);
            if left.is_empty() {
                return reaped;
            }

            // Our own children come first: a grandchild can be reaped only once its parent is dead and it is
            // our child.
            for pid in left {
                wait_for_end(pid, killed[&pid] + self.patience);
            }
        }
    }

    /// Those that do not end.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.stuck.list()
    }

    pub fn has_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Forgets those that have ended since, after all. True when there were any.
    pub fn forget_gone(&mut self) -> bool {
        self.has_stuck() && self.stuck.forget_gone()
    }

    /// Kills all that is not known to be stuck. Returns the children that are to be waited for; `killed`:
    /// when each was killed first.
    fn kill_round(&mut self, killed: &mut HashMap<ProcessId, Instant>) -> Vec<ProcessId> {
        self.stuck.forget_gone();
        freeze(&[]);
        // Only those that are certain to end: a child that has come to us since is the next round's.
        let ours = children(&[]);

        let now = Instant::now();
        // Children before their parents: should this process be killed meanwhile, those that are still there
        // are below a worker that is still there, and that goes on by itself and ends them.
        for process in descendants(&[]).into_iter().rev() {
            if self.stuck.contains(process.pid) {
                continue;
            }
            let may_kill = signal_descendant(process, Signal::SIGKILL);
            let since = *killed.entry(process.pid).or_insert(now);
            if !may_kill || now >= since + self.patience {
                killed.remove(&process.pid);
                self.stuck.add(process.pid, may_kill);
            }
        }
        ours.into_iter().filter(|pid| killed.contains_key(pid)).collect()
    }
}
