//! The workers as the supervisor sees them: starts them, talks to them, buries them.
//!
//! A worker is lost when it is dead *and* nothing that it ran is left: what it leaves behind falls to the supervisor, which is a
//! subreaper, and is killed before anybody is told; and so is all that is in the slot's control group, where there is one.

mod outgoing;
mod resident;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mio::net::UnixStream;
use mio::unix::{SourceFd, pipe};
use mio::{Interest, Registry, Token};
use pool_proto::Json;
use pool_proto::frame::{Decoder, encode};
use pool_proto::interface::CallProgress;

use crate::job::{Call, Claim, Environment, Exit, IdMap, IdSet, Isolate, JobId, Process, Program};
use crate::process::{self, Group, Isolated};
use crate::scheduler::{LaneId, SlotId};
use crate::worker::protocol::{Host, Run, WorkerCommand, WorkerReport};
use outgoing::Outgoing;
pub use resident::LogPart;
use resident::Resident;

/// Each worker has so many tokens: its socket's, and those of its resident program's standard input and output.
const TOKENS: usize = 4;
const STDIN: usize = 1;
const STDOUT: usize = 2;

/// Reports are small; the cap only catches a worker gone mad.
const MAX_REPORT: usize = 1024 * 1024;

/// What a worker, or its end, has to say.
#[derive(Debug)]
pub enum FleetEvent {
    Report {
        slot: SlotId,
        report: WorkerReport,
    },
    /// `unsent`: it never got the attempt that it was handed last.
    Lost {
        slot: SlotId,
        pid: i32,
        how: String,
        unsent: bool,
    },
    /// A resident program takes calls from now on.
    ProgramReady {
        slot: SlotId,
        worker: i32,
        process: Process,
    },
    /// It has answered a call.
    Answered {
        slot: SlotId,
        claim: Claim,
        result: Result<Json, Json>,
        log: LogPart,
        rss_bytes: Option<u64>,
    },
    Progressed {
        slot: SlotId,
        claim: Claim,
        progress: CallProgress,
    },
    /// It has broken the protocol; `during`: the call whose fault that may be.
    Misbehaved {
        slot: SlotId,
        worker: i32,
        during: Option<Claim>,
        how: String,
    },
}

/// What a worker is started for.
#[derive(Debug)]
pub struct Seat<'a> {
    pub slot: SlotId,
    /// The name of its pool.
    pub pool: &'a str,
    /// The control group that its attempts, or its program, are to run in.
    pub group: Option<PathBuf>,
    pub isolate: Isolate,
    pub resident: Option<ResidentSeat>,
}

/// The resident program that a worker is to keep.
#[derive(Debug)]
pub struct ResidentSeat {
    pub program: Arc<Program>,
    /// On top of its environment; they win.
    pub variables: Vec<(String, String)>,
    /// Its standard error, readable and for appending.
    pub log: File,
    /// The worker is to take the place of the slot's present one.
    pub is_successor: bool,
}

#[derive(Debug)]
struct Link {
    slot: SlotId,
    pid: i32,
    /// None once the worker has closed it or has been let go.
    stream: Option<UnixStream>,
    decoder: Decoder,
    out: Outgoing,
    /// What the worker knows already.
    environment: Option<Arc<Environment>>,
    /// The control group that its attempts run in.
    group: Option<PathBuf>,
    resident: Option<Resident>,
    /// It has been told that its program gets no more input.
    told_to_leave: bool,
}

/// A worker that is dead, with perhaps something left of what it ran.
#[derive(Debug)]
struct Dying {
    slot: SlotId,
    pid: i32,
    how: String,
    /// It was the slot's own worker, not one that had been replaced, or was to replace it.
    is_own: bool,
    group: Option<Group>,
    /// The control group that only this one's program has run in.
    own_group: Option<PathBuf>,
}

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    registry: Registry,
    links: IdMap<Token, Link>,
    slots: IdMap<SlotId, Token>,
    /// Workers that are to take the place of a slot's.
    successors: IdMap<SlotId, Token>,
    /// Programs that have more to say.
    unfinished: Vec<Token>,
    dirty: IdSet<Token>,
    dying: Vec<Dying>,
    /// Slots whose worker was dead already when it was handed an attempt.
    unsent: IdSet<SlotId>,
    first_token: usize,
    next_token: usize,
    /// The soft limit of open files that jobs are to have.
    nofile: u64,
}

impl Fleet {
    /// `first_token`: tokens from there on are the fleet's.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn new(registry: &Registry, first_token: usize, nofile: u64) -> io::Result<Self> {
        Ok(Self {
            registry: registry.try_clone()?,
            links: IdMap::default(),
            slots: IdMap::default(),
            successors: IdMap::default(),
            unfinished: Vec::new(),
            dirty: IdSet::default(),
            dying: Vec::new(),
            unsent: IdSet::default(),
            first_token,
            next_token: first_token,
            nofile,
        })
    }

    /// Starts a worker; returns its pid.
    ///
    /// # Errors
    /// Those of socketpair(2), pipe(2), fork(2) and execve(2); that it cannot be isolated.
    pub fn spawn(&mut self, seat: Seat<'_>) -> io::Result<i32> {
        let Seat { slot, pool, group, isolate, resident } = seat;
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(ours);
        let token = Token(self.next_token);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.next_token += TOKENS;
        let name = format!("{pool}/{}", slot.index);
        let mut arguments: Vec<OsString> =
            ["worker", "--name", &name, "--nofile", &self.nofile.to_string()].map(OsString::from).into();
        arguments.extend(group.iter().flat_map(|path| ["--cgroup".into(), path.clone().into_os_string()]));
        let stdin = OwnedFd::from(theirs);
        let is_successor = resident.as_ref().is_some_and(|resident| resident.is_successor);
        let mut out = Outgoing::default();
        // The program's ends of its pipes, open for as long as the worker is being started.
        let mut passed = Vec::new();
        let resident = resident.map(|seat| self.prepare(seat, token, &mut out, &mut passed)).transpose()?;
        if !passed.is_empty() {
            arguments.push("--program-stdio".into());
            arguments.extend(passed.iter().map(|descriptor| descriptor.as_raw_fd().to_string().into()));
        }
        let pid = match isolate {
            Isolate::None => start(&arguments, stdin)?,
            Isolate::Pid => {
                let isolated = Isolated {
                    arguments: &arguments,
                    hidden: &HIDDEN,
                    stdin: &stdin,
                    outer_proc: "--outer-proc",
                };
                isolated.spawn()?
            }
        };
        let link = Link {
            slot,
            pid,
            stream: Some(stream),
            decoder: Decoder::new(MAX_REPORT),
            out,
            environment: None,
            group,
            resident,
            told_to_leave: false,
        };
        self.links.insert(token, link);
        self.dirty.insert(token);
        let place = if is_successor { &mut self.successors } else { &mut self.slots };
        place.insert(slot, token);
        Ok(pid)
    }

    /// The pipes of a resident program. `out`: what its worker is to be told; `passed`: the program's standard streams.
    fn prepare(
        &self,
        seat: ResidentSeat,
        token: Token,
        out: &mut Outgoing,
        passed: &mut Vec<OwnedFd>,
    ) -> io::Result<Resident> {
        let ResidentSeat { program, variables, log, is_successor: _ } = seat;
        let (stdin, calls) = pipe::new()?;
        let (answers, stdout) = pipe::new()?;
        // Only our ends are not to block.
        calls.set_nonblocking(false)?;
        answers.set_nonblocking(false)?;
        passed.extend([OwnedFd::from(calls), OwnedFd::from(answers), OwnedFd::from(log.try_clone()?)]);
        passed.iter().try_for_each(|descriptor| process::close_on_exec(descriptor, false))?;
        let (command, cwd, environment) =
            (program.command.clone(), program.cwd.clone(), program.environment.clone());
        out.push(encode(&WorkerCommand::Host(Box::new(Host { command, cwd, environment, variables }))));
        let mut resident = Resident::new(program, stdin, stdout, log);
        resident.register(&self.registry, Token(token.0 + STDIN), Token(token.0 + STDOUT))?;
        Ok(resident)
    }

    /// Lets a worker go: it ends when its socket closes; one with a program when that has ended.
    pub fn retire(&mut self, slot: SlotId) {
        let Some(&token) = self.slots.get(&slot) else { return };
        if let Some(link) = self.links.get_mut(&token) {
            link.retire();
            self.dirty.insert(token);
        }
    }

    /// The successor is the slot's worker from now on; the present one is let go.
    pub fn swap(&mut self, slot: SlotId) {
        self.retire(slot);
        match self.successors.remove(&slot) {
            Some(token) => _ = self.slots.insert(slot, token),
            None => _ = self.slots.remove(&slot),
        }
    }

    /// Kills a successor.
    pub fn kill_successor(&mut self, slot: SlotId) {
        if let Some(link) = self.successors.remove(&slot).and_then(|token| self.links.get(&token)) {
            process::kill_child(link.pid);
        }
    }

    /// Hands a resident program a call.
    pub fn call(&mut self, slot: SlotId, claim: Claim, id: JobId, call: &Call) {
        let Some(&token) = self.slots.get(&slot) else {
            self.unsent.insert(slot);
            return;
        };
        let resident = self.links.get_mut(&token).and_then(|link| link.resident.as_mut());
        if resident.is_some_and(|resident| resident.hand(claim, id, call)) {
            self.dirty.insert(token);
        } else {
            self.unsent.insert(slot);
        }
    }

    /// Copies what a resident program has written to its standard error during a call; the number of bytes.
    ///
    /// # Errors
    /// Those of read(2) and write(2).
    pub fn copy_log(&mut self, slot: SlotId, part: LogPart, into: &mut File) -> io::Result<u64> {
        self.link_mut(slot)
            .and_then(|link| link.resident.as_ref())
            .map_or(Ok(0), |resident| resident.copy_log(part, into))
    }

    /// That part has been copied, or cannot be.
    pub fn trim_log(&mut self, slot: SlotId) {
        if let Some(resident) = self.link_mut(slot).and_then(|link| link.resident.as_mut()) {
            resident.trim_log();
        }
    }

    /// Whether there is more to read without waiting.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Goes on with programs that have had their turn.
    pub fn read_unfinished(&mut self, events: &mut Vec<FleetEvent>) {
        for token in std::mem::take(&mut self.unfinished) {
            self.on_ready(token, false, events);
        }
    }

    /// Kills a worker.
    pub fn kill(&mut self, slot: SlotId) {
        if let Some(link) = self.link_mut(slot) {
            process::kill_child(link.pid);
        }
    }

    /// Hands a worker an attempt.
    pub fn run(&mut self, slot: SlotId, environment: &Arc<Environment>, run: Box<Run>) {
        let Some(link) = self.link_mut(slot) else {
            self.unsent.insert(slot);
            return;
        };
        // The link keeps the value alive, so that the same address means the same value.
        if !link.environment.as_ref().is_some_and(|known| Arc::ptr_eq(known, environment)) {
            link.environment = Some(environment.clone());
            link.out.push(encode(&WorkerCommand::Environment(environment.clone())));
        }
        self.send(slot, &WorkerCommand::Run(run));
    }

    /// Tells a worker something; goes out with the next [`flush`](Self::flush).
    pub fn send(&mut self, slot: SlotId, command: &WorkerCommand) {
        let Some(&token) = self.slots.get(&slot) else { return };
        if let Some(link) = self.links.get_mut(&token) {
            link.out.push(encode(command));
            self.dirty.insert(token);
        }
    }

    /// Sends what the sockets take.
    pub fn flush(&mut self) {
        for token in std::mem::take(&mut self.dirty) {
            if let Some(link) = self.links.get_mut(&token) {
                link.flush();
            }
        }
    }

    /// A worker's socket, or a pipe of its program's, is ready for something. `is_open`: its other end has not been closed, as far as is known.
    pub fn on_ready(&mut self, token: Token, is_open: bool, events: &mut Vec<FleetEvent>) {
        let base = Token(token.0 - (token.0 - self.first_token) % TOKENS);
        match self.links.get_mut(&base) {
            Some(link) => {
                if link.on_ready(token.0 - base.0, is_open, events) {
                    self.unfinished.push(token);
                }
                link.flush();
            }
            // A dead worker's control group has something to tell.
            None => self.collect(events),
        }
    }

    /// Children have ended: buries workers and kills what they have left behind.
    pub fn collect(&mut self, events: &mut Vec<FleetEvent>) {
        let workers: HashSet<i32> = self.links.values().map(|link| link.pid).collect();
        let collected = process::collect(&workers);
        for (pid, exit) in collected.dead_workers {
            let Some((&token, _)) = self.links.iter().find(|(_, link)| link.pid == pid) else { continue };
            let mut link = self.links.remove(&token).expect("it has just been found");
            // What it had said before it died still counts.
            link.read(events);
            while link.read_program(false, events) {}
            let is_own = self.slots.get(&link.slot) == Some(&token);
            if is_own {
                self.slots.remove(&link.slot);
            } else if self.successors.get(&link.slot) == Some(&token) {
                self.successors.remove(&link.slot);
            }
            let epitaph = link.resident.as_ref().and_then(Resident::epitaph);
            let how = epitaph.unwrap_or_else(|| format!("its worker {pid} {}", describe(exit)));
            let own_group = link.group.clone().filter(|_| link.resident.is_some());
            let group = link.group.and_then(|path| self.kill_group(&path));
            self.dying.push(Dying { slot: link.slot, pid, how, is_own, group, own_group });
        }
        if !collected.orphans_left {
            let is_gone = |dying: &mut Dying| !dying.group.as_ref().is_some_and(Group::is_populated);
            let gone = self.dying.extract_if(.., is_gone);
            events.extend(gone.map(|Dying { slot, pid, how, is_own, group: _, own_group }| {
                let unsent = is_own && self.unsent.remove(&slot);
                if let Some(Err(error)) = own_group.map(|path| process::remove_group(&path)) {
                    tracing::warn!(%error, "cannot remove a program's control group");
                }
                FleetEvent::Lost { slot, pid, how, unsent }
            }));
        }
    }

    /// Kills what is left in a dead worker's control group, and has its end told. None where nothing is left.
    fn kill_group(&mut self, path: &Path) -> Option<Group> {
        let group = Group::open(path).ok().filter(Group::is_populated)?;
        let token = Token(self.next_token);
        self.registry.register(&mut SourceFd(&group.events().as_raw_fd()), token, Interest::PRIORITY).ok()?;
        self.next_token += TOKENS;
        group.kill().then_some(group)
    }

    fn link_mut(&mut self, slot: SlotId) -> Option<&mut Link> {
        self.links.get_mut(self.slots.get(&slot)?)
    }
}

impl Link {
    /// One of its descriptors is ready, by its place among the tokens; true when there may be more to read.
    fn on_ready(&mut self, which: usize, is_open: bool, events: &mut Vec<FleetEvent>) -> bool {
        match which {
            STDIN => {
                self.resident.iter_mut().for_each(Resident::look_at_stdin);
                false
            }
            STDOUT => self.read_program(is_open, events),
            _ => {
                self.read(events);
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
        if self.resident.as_ref().is_some_and(Resident::is_let_go) && !self.told_to_leave {
            self.retire();
        }
    }

    /// A program gets no more input, and its worker ends when it does; without one, the worker ends with its socket.
    fn retire(&mut self) {
        match &mut self.resident {
            Some(resident) => {
                resident.let_go();
                self.told_to_leave = true;
                self.out.push(encode(&WorkerCommand::Retire));
            }
            None => self.stream = None,
        }
    }

    fn on_report(&mut self, report: WorkerReport, events: &mut Vec<FleetEvent>) {
        match (&mut self.resident, report) {
            (Some(resident), WorkerReport::ProgramStarted { process }) => {
                resident.started(process, self.slot, self.pid, events);
            }
            (Some(resident), WorkerReport::ProgramFailed { failure }) => resident.failed(failure),
            (Some(resident), WorkerReport::ProgramEnded { exit }) => {
                while resident.read(false, self.slot, self.pid, events) {}
                resident.ended(&describe(exit));
            }
            (_, report) => events.push(FleetEvent::Report { slot: self.slot, report }),
        }
    }

    fn read(&mut self, events: &mut Vec<FleetEvent>) {
        let Some(stream) = &mut self.stream else { return };
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break self.stream = None,
                Ok(count) => {
                    if self.decoder.extend(&buffer[..count]).is_err() {
                        tracing::error!(pid = self.pid, "a worker sent an endless report and is let go");
                        break self.stream = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => break self.stream = None,
            }
        }
        let mut reports = Vec::new();
        while let Some(frame) = self.decoder.next_frame() {
            match serde_json::from_slice(frame) {
                Ok(report) => reports.push(report),
                Err(error) => {
                    tracing::error!(pid = self.pid, %error, "a worker sent an unreadable report and is let go");
                    self.stream = None;
                    break;
                }
            }
        }
        for report in reports {
            self.on_report(report, events);
        }
    }

    fn flush(&mut self) {
        self.resident.iter_mut().for_each(Resident::flush);
        self.retire_if_let_go();
        let Some(stream) = &mut self.stream else { return self.out.clear() };
        // Not now; or never, which its SIGCHLD tells.
        let _ = self.out.flush(stream);
    }
}

/// Variables that are meant for the supervisor alone.
const HIDDEN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn start(arguments: &[OsString], stdin: OwnedFd) -> io::Result<i32> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("poold").args(arguments);
    for name in HIDDEN {
        command.env_remove(name);
    }
    process::continue_with_parents_end(&mut command);
    let child = command.stdin(stdin).stdout(Stdio::null()).process_group(0).spawn()?;
    Ok(i32::try_from(child.id()).expect("pids are positive and fit pid_t"))
}

fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal { signal, .. } => format!("was killed by signal {signal}"),
    }
}

/// The name under which a slot's worker is seen in the process list.
pub fn lane_name(lane: LaneId, pool_names: &[Arc<str>]) -> &str {
    match lane {
        LaneId::Pool(index) => pool_names.get(index).map_or("?", |name| name),
        LaneId::Callbacks => "callbacks",
    }
}
