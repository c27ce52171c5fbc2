//! One worker: what it is told, what it says, and whether it still can.
//!
//! A worker that does not end when it should is no reason to wait for it: its socket may close, or it may be
//! killed, without there being a child to reap, since somebody traces it or since it waits in the kernel.
//! From then on there is a deadline, after which the roster takes it for an orphan, like what it ran.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use mio::net::UnixStream;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pool_proto::wire::frame::{Decoder, encode};

use super::outer_pids::OuterPids;
use super::outgoing::Outgoing;
use super::resident::{Heard, ResidentLink};
use super::{FleetEvent, describe};
use crate::aside::TURN;
use crate::core::SlotId;
use crate::job::{Claim, Environment, ProcessId};
use crate::kernel::{self, Group, GroupCondition, PATIENCE, Stuck};
use crate::worker::protocol::{Hello, Run, VERSION, WorkerCommand, WorkerReport};

/// The place of each descriptor among the tokens of a worker: its socket's, and those of its resident
/// program's standard input and output.
pub const TOKENS: usize = 4;
pub const STDIN: usize = 1;
pub const STDOUT: usize = 2;

/// Reports are small; the cap only catches a worker gone mad.
const MAX_REPORT: usize = 1024 * 1024;

/// A worker that was stopped is continued so often.
const MAX_STOPS: u32 = 3;

/// An attempt of a command.
#[derive(Debug)]
pub struct Handed {
    pub claim: Claim,
    /// Its start was told by itself. Where it was told with the end, its worker may have given its blank files
    /// to the next one, and what it has written has its name.
    pub is_told_alone: bool,
    /// The worker has been told that somebody looks at its output.
    pub is_looked_at: bool,
    /// The number of the worker's descriptor by which clients reach its standard input, once it has started.
    input: Option<RawFd>,
}

impl Handed {
    pub fn new(claim: Claim) -> Self {
        Self { claim, is_told_alone: false, is_looked_at: false, input: None }
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct WorkerLink {
    pub slot: SlotId,
    pub pid: ProcessId,
    /// None once the worker has closed it or has been let go.
    stream: Option<UnixStream>,
    decoder: Decoder,
    pub out: Outgoing,
    /// The worker has said which version it speaks, and it is ours.
    has_greeted: bool,
    /// What the worker knows already.
    pub environment: Option<Arc<Environment>>,
    /// The attempt of a command that it has been handed and has not told the end of.
    pub handed: Option<Handed>,
    /// What it begins with after that.
    pub ahead: Option<Claim>,
    /// The control group that its attempts run in.
    pub group: Option<PathBuf>,
    pub resident: Option<ResidentLink>,
    /// In a pid namespace: what those are called here that it tells of.
    pids: Option<OuterPids>,
    /// The worker has been told that its program gets no more input.
    told_to_leave: bool,
    /// Processes that do not end, as it has told.
    stuck: Vec<Stuck>,
    /// How often it was found stopped.
    stops: u32,
    /// What became of it, where its exit status does not tell.
    epitaph: Option<String>,
    /// The worker is dead or about to die. If it has not been reaped until then, it is taken for dead.
    overdue_at: Option<Instant>,
}

impl WorkerLink {
    /// A worker that has just been started. `out`: the first commands to it.
    pub fn new(
        slot: SlotId,
        pid: ProcessId,
        stream: UnixStream,
        out: Outgoing,
        group: Option<PathBuf>,
        resident: Option<ResidentLink>,
        pids: Option<OuterPids>,
    ) -> Self {
        Self {
            slot,
            pid,
            stream: Some(stream),
            decoder: Decoder::new(MAX_REPORT),
            out,
            has_greeted: false,
            environment: None,
            handed: None,
            ahead: None,
            group,
            resident,
            pids,
            told_to_leave: false,
            stuck: Vec::new(),
            stops: 0,
            epitaph: None,
            overdue_at: None,
        }
    }

    /// Kills the worker.
    pub fn kill(&mut self) {
        kernel::kill_child(self.pid);
        self.expect_end();
    }

    /// Somebody has stopped the worker: it is continued, and killed when that does not help.
    pub fn on_stopped(&mut self, events: &mut Vec<FleetEvent>) {
        self.stops += 1;
        let (slot, pid) = (self.slot, self.pid);
        let what = if self.stops <= MAX_STOPS {
            kernel::continue_child(pid);
            format!("its worker {pid} was found stopped (SIGSTOP), and has been continued")
        } else {
            self.epitaph
                .get_or_insert_with(|| format!("its worker {pid} was stopped (SIGSTOP) again and again"));
            self.kill();
            format!(
                "its worker {pid} was stopped (SIGSTOP) again and again; poold has killed and replaced it"
            )
        };
        events.push(FleetEvent::Noticed { slot, what });
    }

    /// When the worker is taken for dead though it has not been reaped.
    pub fn overdue_at(&self) -> Option<Instant> {
        self.overdue_at
    }

    /// What became of the worker, as a sentence, where its exit status does not tell or is not known.
    pub fn epitaph(&self) -> Option<String> {
        self.epitaph.clone().or_else(|| self.resident.as_ref().and_then(ResidentLink::epitaph))
    }

    /// Why neither the worker nor what it runs can go on by itself, as a sentence.
    pub fn stalled(&self) -> Option<String> {
        let group = self.group.as_ref().and_then(|path| Group::open(path).ok());
        if let Some(group) =
            group.filter(|group| group.is_populated() && group.condition() == GroupCondition::Frozen)
        {
            return Some(format!(
                "the control group {} is frozen, so that what runs in it stands still; thaw it with \
                 `echo 0 >{}/cgroup.freeze`, or cancel the job",
                group.path().display(),
                group.path().display()
            ));
        }
        kernel::is_stopped(self.pid)
            .then(|| format!("its worker {} is stopped; end or continue it", self.pid))
    }

    /// Processes that do not end, as the worker has told.
    pub fn stuck(&self) -> &[Stuck] {
        &self.stuck
    }

    /// Opens the standard input of the attempt for writing, by the descriptor that its worker keeps of it.
    ///
    /// # Errors
    /// Those of open(2); `NotFound` also where the worker keeps none, or none any more.
    pub fn open_input(&self) -> io::Result<OwnedFd> {
        let number = self.handed.as_ref().and_then(|handed| handed.input).ok_or(io::ErrorKind::NotFound)?;
        let path = format!("/proc/{}/fd/{number}", self.pid);
        // Where nobody reads it any more, there is nothing to wait for.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(file.into())
    }

    /// The input of the attempt has an end from now on.
    pub fn close_input(&mut self) {
        if let Some(handed) = &mut self.handed {
            handed.input = None;
        }
    }

    /// Takes in all that the worker had said before it died.
    pub fn read_to_end(&mut self, events: &mut Vec<FleetEvent>) {
        self.read(false, events);
        if let Some(resident) = &mut self.resident {
            resident.read_to_end(self.slot, self.pid, events);
        }
        self.retire_if_let_go();
    }

    /// See [`ResidentLink::long_line`].
    pub fn long_line(&mut self) -> Option<Arc<Vec<u8>>> {
        self.resident.as_mut()?.long_line()
    }

    /// See [`ResidentLink::on_read`].
    pub fn on_read(&mut self, line: &Arc<Vec<u8>>, heard: Heard, events: &mut Vec<FleetEvent>) -> bool {
        let Some(resident) = &mut self.resident else { return false };
        resident.on_read(line, heard, self.slot, self.pid, events)
    }

    fn expect_end(&mut self) {
        self.overdue_at.get_or_insert_with(|| Instant::now() + PATIENCE);
    }

    /// Closes the socket. The worker ends with it, if it has not ended by itself.
    fn let_go(&mut self) {
        self.stream = None;
        self.expect_end();
    }

    /// The worker cannot be understood, and is killed.
    fn give_up(&mut self, why: String) {
        tracing::error!(pid = %self.pid, "a worker {why}, and is killed");
        self.epitaph.get_or_insert_with(|| format!("its worker {} {why}", self.pid));
        self.stream = None;
        self.kill();
    }

    /// One of its descriptors is ready, by its place among the tokens; true when there may be more to read.
    pub fn on_ready(&mut self, which: usize, is_open: bool, events: &mut Vec<FleetEvent>) -> bool {
        match which {
            STDIN => {
                self.resident.iter_mut().for_each(ResidentLink::look_at_stdin);
                false
            }
            STDOUT => self.read_program(is_open, events),
            _ => {
                self.read(is_open, events);
                false
            }
        }
    }

    /// True when there may be more.
    fn read_program(&mut self, is_open: bool, events: &mut Vec<FleetEvent>) -> bool {
        let Some(resident) = &mut self.resident else { return false };
        let has_more = resident.read(is_open, self.slot, self.pid, events);
        self.retire_if_let_go();
        has_more
    }

    /// A program that has closed one of its pipes can be called no more, or answer nothing more.
    fn retire_if_let_go(&mut self) {
        if self.resident.as_ref().is_some_and(ResidentLink::is_let_go) && !self.told_to_leave {
            self.retire();
        }
    }

    /// A program gets no more input, and its worker ends when it does; without one, the worker ends with its
    /// socket.
    pub fn retire(&mut self) {
        match &mut self.resident {
            Some(resident) => {
                let unheard = resident.is_unheard();
                resident.let_go();
                self.told_to_leave = true;
                self.out.push(encode(&WorkerCommand::Retire { unheard }));
            }
            // The worker has all the time that it needs for what it still does.
            None => self.stream = None,
        }
    }

    /// With the pids that we know processes by.
    fn translate(&mut self, report: &mut WorkerReport) {
        let Some(pids) = &mut self.pids else { return };
        match report {
            WorkerReport::Started { process, .. } | WorkerReport::ProgramStarted { process } => {
                process.pid = pids.of(self.pid, process.pid);
            }
            WorkerReport::Stuck { processes } => {
                for Stuck { process, .. } in processes {
                    process.pid = pids.of(self.pid, process.pid);
                }
            }
            WorkerReport::Hello(_)
            | WorkerReport::Noticed { .. }
            | WorkerReport::Lasting { .. }
            | WorkerReport::Idle { .. }
            | WorkerReport::Ended { .. }
            | WorkerReport::GivenBack { .. }
            | WorkerReport::Failed { .. }
            | WorkerReport::ProgramFailed { .. }
            | WorkerReport::ProgramUnheard
            | WorkerReport::ProgramEnded { .. } => {}
        }
    }

    fn on_report(&mut self, mut report: WorkerReport, events: &mut Vec<FleetEvent>) {
        self.translate(&mut report);
        match (&mut self.resident, report) {
            (_, WorkerReport::Hello(hello)) => self.on_hello(&hello),
            // What follows a breach is the same breach.
            _ if self.epitaph.is_some() => {}
            _ if !self.has_greeted => {
                self.give_up(format!(
                    "has not said first which version of the protocol it speaks (poold: {VERSION})"
                ));
            }
            (_, WorkerReport::Stuck { processes }) => {
                let is_news = |stuck: &&Stuck| !self.stuck.contains(stuck);
                processes.iter().filter(is_news).for_each(Stuck::log);
                self.stuck = processes;
            }
            (_, WorkerReport::Noticed { what }) => events.push(FleetEvent::Noticed { slot: self.slot, what }),
            (Some(resident), WorkerReport::ProgramStarted { process }) => {
                resident.started(process, self.slot, self.pid, events);
            }
            (Some(resident), WorkerReport::ProgramFailed { failure }) => resident.failed(failure),
            (Some(resident), WorkerReport::ProgramUnheard) => {
                events.extend(resident.unheard(self.slot, self.pid));
            }
            (Some(resident), WorkerReport::ProgramEnded { exit }) => {
                resident.read_to_end(self.slot, self.pid, events);
                resident.ended(&describe(exit));
            }
            (_, report) => {
                match report {
                    WorkerReport::Ended { .. } | WorkerReport::Failed { .. } => {
                        self.handed = self.ahead.take().map(Handed::new);
                    }
                    WorkerReport::GivenBack { .. } => self.ahead = None,
                    WorkerReport::Started { input, alone, .. } => {
                        if let Some(handed) = &mut self.handed {
                            (handed.input, handed.is_told_alone) = (input, alone);
                        }
                    }
                    _ => {}
                }
                events.push(FleetEvent::Report { slot: self.slot, report });
            }
        }
    }

    /// An attempt for the worker, and how it is told: it is ahead only where the end of the one before has not
    /// been read. What has been read comes to the core later, which may hand out something ahead meanwhile.
    pub fn hand(&mut self, claim: Claim) -> fn(Box<Run>) -> WorkerCommand {
        if self.handed.is_some() {
            self.ahead = Some(claim);
            WorkerCommand::RunAhead
        } else {
            self.handed = Some(Handed::new(claim));
            WorkerCommand::Run
        }
    }

    /// Nobody waits for this: the worker may have been handed an attempt already. What it has in hand is of
    /// no use yet: a worker that greets has just been started. See the protocol's description for what it
    /// will be used for.
    fn on_hello(&mut self, hello: &Hello) {
        if hello.version == VERSION {
            self.has_greeted = true;
        } else {
            let version = hello.version;
            self.give_up(format!("speaks version {version} of the protocol, and poold version {VERSION}"));
        }
    }

    /// `is_open`: the worker has not closed its socket, so that a read which does not fill the buffer was the
    /// last one, and what comes later is told.
    fn read(&mut self, is_open: bool, events: &mut Vec<FleetEvent>) {
        let Some(stream) = &mut self.stream else { return };
        let mut breach = None;
        let mut has_closed = false;
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break has_closed = true,
                Ok(count) => {
                    if self.decoder.extend(&buffer[..count]).is_err() {
                        break breach = Some("has sent a report without an end".to_owned());
                    }
                    if is_open && count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => break has_closed = true,
            }
        }

        // What it has said before it closed its socket, or lost its mind, still counts.
        let mut reports = Vec::new();
        while let Some(frame) = self.decoder.next_frame() {
            match serde_json::from_slice(frame) {
                Ok(report) => reports.push(report),
                Err(error) => {
                    breach = Some(format!("has sent a report that cannot be read ({error})"));
                    break;
                }
            }
        }
        for report in reports {
            self.on_report(report, events);
        }

        match breach {
            Some(why) => self.give_up(why),
            None if has_closed => self.let_go(),
            None => {}
        }
    }

    /// Sends what socket and pipe take, to each no more than is its turn; true when either may take more.
    pub fn flush(&mut self) -> bool {
        let program_has_more = self.resident.as_mut().is_some_and(ResidentLink::flush);
        self.retire_if_let_go();
        let Some(stream) = &mut self.stream else {
            self.out.clear();
            return program_has_more;
        };
        // An error means: not now; or never, which its SIGCHLD tells.
        self.out.flush(stream, TURN).unwrap_or(false) || program_has_more
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;
    use crate::core::LaneId;
    use crate::job::{JobId, SpawnFailure, Stage, Unit};

    /// A link to a worker that only sleeps, and the worker's end of the socket.
    fn link() -> (WorkerLink, StdUnixStream, Child) {
        let worker = Command::new("sleep").arg("600").spawn().unwrap();
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let pid = ProcessId::new(i32::try_from(worker.id()).unwrap());
        let slot = SlotId { lane: LaneId::Callbacks, index: 0 };
        let out = Outgoing::default();
        (WorkerLink::new(slot, pid, UnixStream::from_std(ours), out, None, None, None), theirs, worker)
    }

    fn hello(version: u32) -> WorkerReport {
        WorkerReport::Hello(Hello { version, claim: None, program: None })
    }

    fn claim(id: u64) -> Claim {
        Claim { unit: Unit::Job(JobId(id)), attempt: 1 }
    }

    fn failed(id: u64) -> WorkerReport {
        WorkerReport::Failed { claim: claim(id), failure: SpawnFailure { stage: Stage::Cwd, errno: 2 } }
    }

    fn said(reports: &[WorkerReport]) -> (WorkerLink, Vec<FleetEvent>, Child) {
        let (mut link, mut theirs, worker) = link();
        reports.iter().for_each(|report| theirs.write_all(&encode(report)).unwrap());
        let mut events = Vec::new();
        link.read(true, &mut events);
        (link, events, worker)
    }

    #[test]
    fn a_worker_of_this_version_is_heard() {
        let (link, events, mut worker) = said(&[hello(VERSION), failed(1)]);
        assert!(matches!(events[..], [FleetEvent::Report { report: WorkerReport::Failed { .. }, .. }]));
        assert_eq!(link.epitaph(), None);
        assert!(worker.try_wait().unwrap().is_none());
        worker.kill().unwrap();
        worker.wait().unwrap();
    }

    #[test]
    fn the_link_knows_what_its_worker_has_however_late_the_core_hears_of_it() {
        let (mut link, mut theirs, mut worker) = link();
        theirs.write_all(&encode(&hello(VERSION))).unwrap();
        link.hand(claim(1));
        link.hand(claim(2));
        let has = |link: &WorkerLink| (link.handed.as_ref().map(|handed| handed.claim), link.ahead);
        assert_eq!(has(&link), (Some(claim(1)), Some(claim(2))));

        // Both ends are read before the core has heard of the first: it hands out the third behind the second.
        theirs.write_all(&[encode(&failed(1)), encode(&failed(2))].concat()).unwrap();
        link.read(true, &mut Vec::new());
        link.hand(claim(3));
        assert_eq!(has(&link), (Some(claim(3)), None));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }

    #[test]
    fn a_worker_of_another_version_is_killed_and_not_heard() {
        for (reports, why) in [
            ([hello(VERSION + 1), failed(1)], format!("speaks version {} of the protocol", VERSION + 1)),
            ([failed(1), failed(1)], "has not said first which version".to_owned()),
        ] {
            let (link, events, mut worker) = said(&reports);
            assert!(events.is_empty(), "{events:?}");
            assert!(link.epitaph().unwrap().contains(&why), "{link:?}");
            assert_eq!(worker.wait().unwrap().signal(), Some(9));
        }
    }
}
