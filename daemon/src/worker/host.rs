//! A worker of a warm pool: it keeps one resident program, knows all that it has started, and lives as long
//! as it does. The calls do not come through here: the program's standard input and output are the
//! supervisor's own pipes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pool_proto::wire::frame::encode;

use super::Worker;
use super::protocol::{Host, WorkerReport};
use crate::job::{Exit, Process, ProcessId};
use crate::kernel::{self, EnvironmentBlock, Launch};

/// A program that is let go, its standard input closed, has so long to end by itself.
const LEAVE: Duration = Duration::from_secs(5);

/// One that has closed its standard output during a call is as good as dead, and most are about to be: how they
/// end is told better than that they have been killed.
const LEAVE_UNHEARD: Duration = Duration::from_millis(200);

/// The resident program of this worker.
#[derive(Debug)]
pub struct Hosted {
    /// Its standard streams, until it has them.
    stdio: Option<[OwnedFd; 3]>,
    pid: Option<ProcessId>,
    /// The same process, as everybody outside knows it.
    process: Option<Process>,
    /// The program has been let go, and is killed at that time.
    leave_at: Option<Instant>,
}

impl Hosted {
    pub fn new(stdio: [OwnedFd; 3]) -> Self {
        Self { stdio: Some(stdio), pid: None, process: None, leave_at: None }
    }

    /// How long there is to wait for the program's end.
    pub fn patience(&self) -> Option<Duration> {
        Some(self.leave_at?.saturating_duration_since(Instant::now()))
    }

    pub fn is_time_up(&self) -> bool {
        self.leave_at.is_some_and(|at| at <= Instant::now())
    }

    pub fn is(&self, pid: ProcessId) -> bool {
        self.pid == Some(pid)
    }

    /// The program's process, as everybody outside knows it, once it has been started.
    pub fn process(&self) -> Option<Process> {
        self.process
    }

    /// Its standard input has been closed.
    pub fn leave(&mut self, unheard: bool) {
        self.leave_at = Some(Instant::now() + if unheard { LEAVE_UNHEARD } else { LEAVE });
    }

    pub fn signal(&self, signal: i32) {
        if let Some(pid) = self.pid {
            kernel::signal_group(pid, signal);
        }
    }
}

impl Worker {
    /// Starts the program; false when that is the end of this worker.
    pub(super) fn host(&mut self, host: &Host) -> bool {
        let Some(stdio) = self.hosted.as_mut().and_then(|hosted| hosted.stdio.take()) else { return false };
        let environment = EnvironmentBlock::new(&host.environment);
        let launch = Launch {
            argv: &host.command,
            environment: &environment,
            variables: &host.variables,
            cwd: &host.cwd,
            lenient: false,
            stdio: stdio.each_ref().map(OwnedFd::as_fd) as [BorrowedFd<'_>; 3],
            group: None,
        };
        match self.spawn(&launch) {
            Ok(pid) => {
                let process = Process { pid: self.outer(pid), start_ticks: kernel::start_ticks_of(pid) };
                if let Some(hosted) = &mut self.hosted {
                    (hosted.pid, hosted.process) = (Some(pid), Some(process));
                }
                self.send(&encode(&WorkerReport::ProgramStarted { process }))
            }
            Err(failure) => {
                self.send(&encode(&WorkerReport::ProgramFailed { failure }));
                false
            }
        }
    }

    /// The program has ended; nothing of it is left when that is told.
    pub(super) fn program_ended(&mut self, exit: Exit) {
        self.sweep();
        self.tell_stuck();
        self.send(&encode(&WorkerReport::ProgramEnded { exit }));
    }

    /// Asks all that the program has started to end, and itself.
    pub(super) fn terminate_all(&self) {
        kernel::signal_tree(Signal::SIGTERM);
        // A stopped process would not notice.
        kernel::signal_tree(Signal::SIGCONT);
    }
}
