//! The workers as the supervisor sees them: starts them, talks to them, buries them.
//!
//! A worker is lost when it is dead *and* nothing that it ran is left: what it leaves behind falls to the supervisor, which is a
//! subreaper, and is killed before anybody is told; and so is all that is in the slot's control group, where there is one.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pool_proto::frame::{Decoder, encode};

use crate::job::{Environment, Exit, Isolate};
use crate::process::{self, Group, Isolated};
use crate::scheduler::{LaneId, SlotId};
use crate::worker::protocol::{Run, WorkerCommand, WorkerReport};

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
}

#[derive(Debug)]
struct Link {
    slot: SlotId,
    pid: i32,
    /// None once the worker has closed it or has been let go.
    stream: Option<UnixStream>,
    decoder: Decoder,
    out: Vec<u8>,
    /// What the worker knows already.
    environment: Option<Arc<Environment>>,
    /// The control group that its attempts run in.
    group: Option<PathBuf>,
}

/// A worker that is dead, with perhaps something left of what it ran.
#[derive(Debug)]
struct Dying {
    slot: SlotId,
    pid: i32,
    how: String,
    group: Option<Group>,
}

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    registry: Registry,
    links: HashMap<Token, Link>,
    slots: HashMap<SlotId, Token>,
    dirty: HashSet<Token>,
    dying: Vec<Dying>,
    /// Slots whose worker was dead already when it was handed an attempt.
    unsent: HashSet<SlotId>,
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
            links: HashMap::new(),
            slots: HashMap::new(),
            dirty: HashSet::new(),
            dying: Vec::new(),
            unsent: HashSet::new(),
            next_token: first_token,
            nofile,
        })
    }

    /// Starts a worker; returns its pid. `group`: the control group that its attempts are to run in.
    ///
    /// # Errors
    /// Those of socketpair(2), fork(2) and execve(2); that it cannot be isolated.
    pub fn spawn(&mut self, slot: SlotId, pool: &str, group: Option<PathBuf>, isolate: Isolate) -> io::Result<i32> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(ours);
        let token = Token(self.next_token);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.next_token += 1;
        let name = format!("{pool}/{}", slot.index);
        let mut arguments: Vec<OsString> =
            ["worker", "--name", &name, "--nofile", &self.nofile.to_string()].map(OsString::from).into();
        arguments.extend(group.iter().flat_map(|path| ["--cgroup".into(), path.clone().into_os_string()]));
        let stdin = OwnedFd::from(theirs);
        let pid = match isolate {
            Isolate::None => start(&arguments, stdin)?,
            Isolate::Pid => {
                let isolated = Isolated { arguments: &arguments, hidden: &HIDDEN, stdin: &stdin, outer_proc: "--outer-proc" };
                isolated.spawn()?
            }
        };
        let link = Link {
            slot,
            pid,
            stream: Some(stream),
            decoder: Decoder::new(MAX_REPORT),
            out: Vec::new(),
            environment: None,
            group,
        };
        self.links.insert(token, link);
        self.slots.insert(slot, token);
        Ok(pid)
    }

    /// Lets a worker go: it ends when its socket closes.
    pub fn retire(&mut self, slot: SlotId) {
        if let Some(link) = self.link_mut(slot) {
            link.stream = None;
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
            link.out.extend(encode(&WorkerCommand::Environment(environment.clone())));
        }
        self.send(slot, &WorkerCommand::Run(run));
    }

    /// Tells a worker something; goes out with the next [`flush`](Self::flush).
    pub fn send(&mut self, slot: SlotId, command: &WorkerCommand) {
        let Some(&token) = self.slots.get(&slot) else { return };
        if let Some(link) = self.links.get_mut(&token) {
            link.out.extend(encode(command));
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

    /// A worker's socket is ready for something.
    pub fn on_ready(&mut self, token: Token, events: &mut Vec<FleetEvent>) {
        match self.links.get_mut(&token) {
            Some(link) => {
                link.read(events);
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
            if self.slots.get(&link.slot) == Some(&token) {
                self.slots.remove(&link.slot);
            }
            let group = link.group.and_then(|path| self.kill_group(&path));
            self.dying.push(Dying { slot: link.slot, pid, how: describe(exit), group });
        }
        if !collected.orphans_left {
            let is_gone = |dying: &mut Dying| !dying.group.as_ref().is_some_and(Group::is_populated);
            let gone = self.dying.extract_if(.., is_gone);
            events.extend(gone.map(|Dying { slot, pid, how, group: _ }| {
                let unsent = self.unsent.remove(&slot);
                FleetEvent::Lost { slot, pid, how, unsent }
            }));
        }
    }

    /// Kills what is left in a dead worker's control group, and has its end told. None where nothing is left.
    fn kill_group(&mut self, path: &Path) -> Option<Group> {
        let group = Group::open(path).ok().filter(Group::is_populated)?;
        let token = Token(self.next_token);
        self.registry.register(&mut SourceFd(&group.events().as_raw_fd()), token, Interest::PRIORITY).ok()?;
        self.next_token += 1;
        group.kill().then_some(group)
    }

    fn link_mut(&mut self, slot: SlotId) -> Option<&mut Link> {
        self.links.get_mut(self.slots.get(&slot)?)
    }
}

impl Link {
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
        while let Some(frame) = self.decoder.next_frame() {
            match serde_json::from_slice(frame) {
                Ok(report) => events.push(FleetEvent::Report { slot: self.slot, report }),
                Err(error) => {
                    tracing::error!(pid = self.pid, %error, "a worker sent an unreadable report and is let go");
                    self.stream = None;
                    return;
                }
            }
        }
    }

    fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return self.out.clear() };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(count) => _ = self.out.drain(..count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not now; or never, which its SIGCHLD tells.
                Err(_) => return,
            }
        }
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
