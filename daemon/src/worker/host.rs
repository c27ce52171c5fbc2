//! A worker of a warm pool: it keeps one resident program, knows all that it has started, and lives as long
//! as it does. The calls do not come through here: the program's standard input and output are the
//! supervisor's own pipes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::Signal;
use pool_proto::wire::frame::encode;

use super::Worker;
use super::protocol::{Host, WorkerReport};
use crate::job::{Exit, Process, ProcessId};
use crate::kernel::{self, EnvironmentBlock, Launch};

/// A program that is let go, its standard input closed, has so long to end by itself.
const LEAVE: Duration = Duration::from_secs(5);

/// One that has closed its standard output during a call is as good as dead, and most are about to be: how
/// they end is told better than that they have been killed.
const LEAVE_UNHEARD: Duration = Duration::from_millis(200);

/// So often it gets that time once more where it has begun to end.
const EXTENSIONS: u32 = 25;

/// What a program writes to its standard error may take so much on the disk, in bytes. Beyond it all is
/// dropped but the end, of which the supervisor may still need a megabyte for the call that is under way.
const LOG_MOST: u64 = 8 << 20;
const LOG_KEPT: u64 = 2 << 20;

/// The resident program of this worker.
#[derive(Debug)]
pub struct Hosted {
    /// The file of its standard error.
    log: Option<File>,
    /// So much of it has been dropped when that was told last, in bytes.
    told_dropped: u64,
    unheard: bool,
    /// How often it was given more time to end.
    extensions: u32,
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
        // Without it, its standard error is looked at by nobody.
        let log = stdio[2].try_clone().ok().map(File::from);
        let (told_dropped, unheard, extensions) = (0, false, 0);
        Self {
            log,
            told_dropped,
            unheard,
            extensions,
            stdio: Some(stdio),
            pid: None,
            process: None,
            leave_at: None,
        }
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

    /// It was let go because it can answer its call no more.
    pub fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// Its time is up, but it has begun to end by itself, which takes its time on a busy machine: it gets
    /// more, though not for ever.
    pub fn is_about_to_end(&mut self) -> bool {
        let gets_more = self.extensions < EXTENSIONS && self.pid.is_some_and(kernel::is_ending);
        if gets_more {
            self.extensions += 1;
            self.leave_at = Some(Instant::now() + LEAVE_UNHEARD);
        }
        gets_more
    }

    /// Its standard input has been closed.
    pub fn leave(&mut self, unheard: bool) {
        self.unheard = unheard;
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
            at_terminal: false,
            group: None,
            address_space: None,
        };
        match self.spawn(&launch) {
            Ok(pid) => {
                let process = Process { pid, start_ticks: kernel::start_ticks_of(pid) };
                if let Some(hosted) = &mut self.hosted {
                    (hosted.pid, hosted.process) = (Some(pid), Some(process));
                }
                self.output_watch.begin(Some(LOG_MOST));
                self.send(&encode(&WorkerReport::ProgramStarted { process }))
            }
            Err(failure) => {
                self.send(&encode(&WorkerReport::ProgramFailed { failure }));
                false
            }
        }
    }

    /// Has the program's standard error keep its bounds. Whatever was dropped is a hole, so that all that
    /// follows is where the supervisor looks for it.
    pub(super) fn look_at_log(&mut self) {
        let Some(hosted) = &mut self.hosted else { return };
        let Some(log) = &hosted.log else { return };
        let on_disk = || log.metadata().map_or(0, |found| found.blocks().saturating_mul(512));
        if !self.output_watch.look(&[log.as_fd()], on_disk) {
            return;
        }
        let length = log.metadata().map_or(0, |found| found.len());
        let dropped = length.saturating_sub(LOG_KEPT);
        if dropped == 0 {
            return;
        }
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punched = fallocate(log, hole, 0, i64::try_from(dropped).unwrap_or(i64::MAX));
        // A file system without holes: what belongs to the call is lost rather than the disk.
        let emptied = punched.or_else(|_| log.set_len(0));

        // Once, and then whenever it has become ten times as much.
        if emptied.is_ok() && dropped / 10 >= hosted.told_dropped {
            hosted.told_dropped = dropped.max(1);
            self.notice(format!(
                "its program writes much to its standard error, {length} bytes so far; poold keeps the last \
                 {LOG_KEPT} of them"
            ));
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
