//! All workers: by slot, by successor, and those that are dead and not yet gone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::unix::{SourceFd, pipe};
use mio::{Interest, Registry, Token};
use pool_proto::wire::frame::encode;

use super::link::{STDIN, STDOUT, TOKENS, WorkerLink};
use super::outer_pids::OuterPids;
use super::outgoing::Outgoing;
use super::resident::{Heard, ResidentLink};
use super::{FleetEvent, LogPart, ResidentSeat, Seat, describe, rpc};
use crate::aside::{Aside, Notify};
use crate::core::{LaneId, SlotId};
use crate::job::{Call, Claim, Environment, IdMap, IdSet, Isolate, JobId, ProcessId, Steer};
use crate::kernel::{self, Group, Orphans, OwnProgram, PATIENCE, Stuck};
use crate::worker::protocol::{Host, Run, WorkerCommand};

/// A worker that is dead, with perhaps something left of what it ran.
#[derive(Debug)]
struct Dying {
    slot: SlotId,
    pid: ProcessId,
    how: String,
    /// The attempt of a command that it had in hand.
    left: Option<Claim>,
    /// It was the worker of its slot: neither a worker that had been replaced, nor a successor.
    is_own: bool,
    /// The control group that it ran things in, while something is in it.
    group: Option<Group>,
    /// From then on the group is not waited for.
    group_until: Instant,
    /// The control group that only this one's program has run in.
    own_group: Option<PathBuf>,
}

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    registry: Registry,
    links: IdMap<Token, WorkerLink>,
    slots: IdMap<SlotId, Token>,
    /// Workers that are to take the place of a slot's.
    successors: IdMap<SlotId, Token>,
    /// Programs that have more to say.
    unfinished: Vec<Token>,
    dirty: IdSet<Token>,
    dying: Vec<Dying>,
    orphans: Orphans,
    /// Slots whose worker was dead already when it was handed an attempt.
    unsent: IdSet<SlotId>,
    /// When something is overdue. Kept, since it is asked for in every turn, and there may be thousands of
    /// workers.
    due_at: Option<Instant>,
    first_token: usize,
    next_token: usize,
    /// The soft limit of open files that jobs are to have.
    nofile: u64,
    /// Reads what programs say at length.
    aside: Aside<ReadLine>,
}

/// A long line of a program, read aside.
struct ReadLine {
    worker: Token,
    line: Arc<Vec<u8>>,
    heard: Heard,
}

impl Fleet {
    /// `first_token`: tokens from there on are the fleet's. `notify` is called when
    /// [`hear_aside`](Self::hear_aside) has something to hear.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn new(registry: &Registry, first_token: usize, nofile: u64, notify: Notify) -> io::Result<Self> {
        Ok(Self {
            registry: registry.try_clone()?,
            links: IdMap::default(),
            slots: IdMap::default(),
            successors: IdMap::default(),
            unfinished: Vec::new(),
            dirty: IdSet::default(),
            dying: Vec::new(),
            orphans: Orphans::default(),
            unsent: IdSet::default(),
            due_at: None,
            first_token,
            next_token: first_token,
            nofile,
            aside: Aside::new("answers", notify),
        })
    }

    /// Starts a worker; returns its pid.
    ///
    /// # Errors
    /// Those of socketpair(2), pipe(2), clone(2) and execve(2); that it cannot be isolated.
    pub fn spawn(&mut self, seat: Seat<'_>) -> io::Result<ProcessId> {
        let Seat { slot, pool, output, group, isolate, resident } = seat;
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(ours);
        let token = Token(self.next_token);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.next_token += TOKENS;

        let name = format!("{pool}/{}", slot.index);
        let mut arguments: Vec<OsString> =
            ["worker", "--name", &name, "--nofile", &self.nofile.to_string()].map(OsString::from).into();
        arguments.extend(["--output".into(), output.into_os_string()]);
        arguments.extend(group.iter().flat_map(|path| ["--cgroup".into(), path.clone().into_os_string()]));
        let is_successor = resident.as_ref().is_some_and(|resident| resident.is_successor);
        let mut out = Outgoing::default();
        // The program's ends of its pipes, open for as long as the worker is being started.
        let mut passed = Vec::new();
        let resident = resident.map(|seat| self.prepare(seat, token, &mut out, &mut passed)).transpose()?;
        if !passed.is_empty() {
            arguments.push("--program-stdio".into());
            arguments.extend(passed.iter().map(|descriptor| descriptor.as_raw_fd().to_string().into()));
        }

        let (pids, announcements) = match isolate {
            Isolate::None => (None, None),
            Isolate::Pid => {
                let (pids, theirs) = OuterPids::new()?;
                kernel::close_on_exec(&theirs, false)?;
                arguments.extend(["--announcements".into(), theirs.as_raw_fd().to_string().into()]);
                (Some(pids), Some(theirs))
            }
        };
        let isolated = announcements.is_some();
        let stdin = OwnedFd::from(theirs);
        let program = OwnProgram { arguments: &arguments, hidden: &HIDDEN, stdin: &stdin, isolated };
        let pid = program.spawn()?;
        drop(announcements);

        self.links.insert(token, WorkerLink::new(slot, pid, stream, out, group, resident, pids));
        self.dirty.insert(token);
        let place = if is_successor { &mut self.successors } else { &mut self.slots };
        place.insert(slot, token);
        Ok(pid)
    }

    /// The pipes of a resident program. `out`: gets the first command to its worker; `passed`: gets the
    /// program's standard streams.
    fn prepare(
        &self,
        seat: ResidentSeat,
        token: Token,
        out: &mut Outgoing,
        passed: &mut Vec<OwnedFd>,
    ) -> io::Result<ResidentLink> {
        let ResidentSeat { program, variables, log, is_successor: _ } = seat;
        let (stdin, calls) = pipe::new()?;
        let (answers, stdout) = pipe::new()?;
        // Only our ends are not to block.
        calls.set_nonblocking(false)?;
        answers.set_nonblocking(false)?;
        passed.extend([OwnedFd::from(calls), OwnedFd::from(answers), OwnedFd::from(log.try_clone()?)]);
        passed.iter().try_for_each(|descriptor| kernel::close_on_exec(descriptor, false))?;
        let (command, cwd, environment) =
            (program.command.clone(), program.cwd.clone(), program.environment.clone());
        out.push(encode(&WorkerCommand::Host(Box::new(Host { command, cwd, environment, variables }))));
        let mut resident = ResidentLink::new(program, stdin, stdout, log);
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
        if let Some(link) = self.successors.remove(&slot).and_then(|token| self.links.get_mut(&token)) {
            link.kill();
            self.due_at = earlier(self.due_at, link.overdue_at());
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
            self.unsent.remove(&slot);
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

    /// Whether a lane has workers, or such that are dead and not lost yet.
    pub fn has_workers(&self, lane: LaneId) -> bool {
        self.links.values().any(|link| link.slot.lane == lane)
            || self.dying.iter().any(|dying| dying.slot.lane == lane)
    }

    /// Whether there is more to read or to send without waiting.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty() || !self.dirty.is_empty()
    }

    /// Goes on with programs whose long lines have been read. A worker that has died meanwhile is no error:
    /// what its program had said was taken in then.
    pub fn hear_aside(&mut self, events: &mut Vec<FleetEvent>) {
        while let Some(ReadLine { worker, line, heard }) = self.aside.take() {
            let Some(link) = self.links.get_mut(&worker) else { continue };
            if link.on_read(&line, heard, events) {
                self.unfinished.push(Token(worker.0 + STDOUT));
            }
        }
    }

    /// Goes on with programs that have had their turn.
    pub fn read_unfinished(&mut self, events: &mut Vec<FleetEvent>) {
        for token in std::mem::take(&mut self.unfinished) {
            self.on_ready(token, false, events);
        }
    }

    /// Kills a worker.
    pub fn kill(&mut self, slot: SlotId) {
        let Some(token) = self.slots.get(&slot) else { return };
        if let Some(link) = self.links.get_mut(token) {
            link.kill();
            self.due_at = earlier(self.due_at, link.overdue_at());
        }
    }

    /// Hands a worker an attempt; `ahead`: behind the one that it has, as far as the core has heard.
    pub fn run(&mut self, slot: SlotId, environment: &Arc<Environment>, run: Box<Run>, ahead: bool) {
        let Some(link) = self.link_mut(slot) else {
            // What a dead worker had ahead it has never begun with, which the core knows.
            if !ahead {
                self.unsent.insert(slot);
            }
            return;
        };
        // The link keeps the value alive, so that the same address means the same value.
        if !link.environment.as_ref().is_some_and(|known| Arc::ptr_eq(known, environment)) {
            link.environment = Some(environment.clone());
            link.out.push(encode(&WorkerCommand::Environment(environment.clone())));
        }
        let command = link.hand(run.claim);
        self.send(slot, &command(run));
        // What a worker before this one never got says nothing of this attempt.
        self.unsent.remove(&slot);
    }

    /// Tells all workers something, those that are about to take a slot included.
    pub fn send_to_all(&mut self, command: &WorkerCommand) {
        for (&token, link) in &mut self.links {
            link.out.push(encode(command));
            self.dirty.insert(token);
        }
    }

    /// Somebody looks at the output of an attempt: the slot that runs it, where one does, as far as is known.
    /// Its worker is told.
    pub fn look_at_output(&mut self, claim: Claim) -> Option<SlotId> {
        let has_it = |link: &&mut WorkerLink| {
            link.handed.as_ref().is_some_and(|handed| handed.claim == claim && handed.is_told_alone)
        };
        let link = self.links.values_mut().find(has_it)?;
        let slot = link.slot;
        if let Some(handed) = &mut link.handed
            && !std::mem::replace(&mut handed.is_looked_at, true)
        {
            self.send(slot, &WorkerCommand::NameOutput { claim });
        }
        Some(slot)
    }

    /// Opens the standard input of an attempt for writing.
    ///
    /// # Errors
    /// See [`WorkerLink::open_input`].
    pub fn open_input(&self, claim: Claim) -> io::Result<OwnedFd> {
        let has_it = |link: &&WorkerLink| link.handed.as_ref().is_some_and(|handed| handed.claim == claim);
        self.links.values().find(has_it).ok_or(io::ErrorKind::NotFound)?.open_input()
    }

    /// Does to the input of an attempt what a client wants.
    pub fn steer(&mut self, slot: SlotId, claim: Claim, steer: Steer) {
        let link = self.slots.get(&slot).and_then(|token| self.links.get_mut(token));
        if let Some(link) = link.filter(|_| steer == Steer::CloseInput) {
            link.close_input();
        }
        self.send(slot, &WorkerCommand::Steer { claim, steer });
    }

    /// Tells a worker something; goes out with the next [`flush`](Self::flush).
    pub fn send(&mut self, slot: SlotId, command: &WorkerCommand) {
        let Some(&token) = self.slots.get(&slot) else { return };
        if let Some(link) = self.links.get_mut(&token) {
            link.out.push(encode(command));
            self.dirty.insert(token);
        }
    }

    /// Sends what the sockets and pipes take, to each no more than is its turn.
    pub fn flush(&mut self) {
        for token in std::mem::take(&mut self.dirty) {
            if self.links.get_mut(&token).is_some_and(WorkerLink::flush) {
                self.dirty.insert(token);
            }
        }
    }

    /// A worker's socket, or a pipe of its program's, is ready for something. `is_open`: its other end has
    /// not been closed, as far as is known.
    pub fn on_ready(&mut self, token: Token, is_open: bool, events: &mut Vec<FleetEvent>) {
        let base = Token(token.0 - (token.0 - self.first_token) % TOKENS);
        match self.links.get_mut(&base) {
            Some(link) => {
                if link.on_ready(token.0 - base.0, is_open, events) {
                    self.unfinished.push(token);
                }
                if link.flush() {
                    self.dirty.insert(base);
                }
                if let Some(line) = link.long_line() {
                    let read = move || ReadLine { worker: base, heard: rpc::decode(&line), line };
                    self.aside.hand(read);
                }
                self.due_at = earlier(self.due_at, link.overdue_at());
            }
            // A dead worker's control group has something to tell.
            None => self.collect(events),
        }
    }

    /// How long [`collect`](Self::collect) may wait, should no child end before; none where nothing is
    /// overdue.
    pub fn patience(&self) -> Option<Duration> {
        Some(self.due_at?.saturating_duration_since(Instant::now()))
    }

    /// Whether [`collect`](Self::collect) is due.
    pub fn is_overdue(&self) -> bool {
        self.due_at.is_some_and(|at| at <= Instant::now())
    }

    /// What stands in each slot that cannot go on by itself, as a sentence. Looked at when somebody asks.
    pub fn stalled(&self) -> Vec<(SlotId, String)> {
        let stalled = self.slots.iter().filter_map(|(&slot, token)| {
            let link = self.links.get(token)?;
            Some((slot, link.stalled()?))
        });
        let mut stalled: Vec<_> = stalled.collect();
        stalled.sort_unstable();
        stalled
    }

    /// Processes that do not end though they were killed, as this supervisor and its workers know them.
    pub fn stuck(&self) -> Vec<Stuck> {
        let of_workers = self.links.values().flat_map(WorkerLink::stuck).cloned();
        of_workers.chain(self.orphans.stuck()).collect()
    }

    /// Children have ended, or something is overdue: buries workers, kills what they have left behind, and
    /// tells of the workers of which nothing is left that ends.
    pub fn collect(&mut self, events: &mut Vec<FleetEvent>) {
        // All that has ended is reaped first: what a worker leaves behind is our child by then, and is found
        // below.
        while let Ok(Some(child)) = kernel::reap_one() {
            let of_worker = self.links.iter().find(|(_, link)| link.pid == child.pid);
            if let Some((&token, _)) = of_worker {
                self.bury(token, &describe(child.exit), events);
            }
        }

        // A stopped child brings a SIGCHLD, too. Orphans are stopped by us, and then killed.
        while let Some(pid) = kernel::stopped_one() {
            if let Some(link) = self.links.values_mut().find(|link| link.pid == pid) {
                link.on_stopped(events);
            }
        }

        // A worker that was killed, or has closed its socket, and cannot be reaped: from here on it is an
        // orphan like what it ran. It is waited for once more, and given up.
        let now = Instant::now();
        let is_overdue = |link: &WorkerLink| link.overdue_at().is_some_and(|at| at <= now);
        let overdue: Vec<Token> =
            self.links.iter().filter(|(_, link)| is_overdue(link)).map(|(&token, _)| token).collect();
        for token in overdue {
            self.bury(token, "does not end", events);
        }

        let living: HashSet<ProcessId> = self.links.values().map(|link| link.pid).collect();
        let dying: Vec<ProcessId> = self.dying.iter().map(|dying| dying.pid).collect();
        self.orphans.sweep(&living, &dying);
        self.tell_gone(events);

        // A group whose time is up is waited for no more: what is due for its worker then are orphans.
        let groups = self.dying.iter().filter(|dying| dying.group.is_some()).map(|dying| dying.group_until);
        let groups = groups.filter(|&until| until > now);
        let workers = self.links.values().filter_map(WorkerLink::overdue_at);
        self.due_at = groups.chain(workers).chain(self.orphans.deadline()).min();
    }

    /// A worker is dead. From now on its slot is handed nothing; its end is told when nothing of it is left.
    fn bury(&mut self, token: Token, how: &str, events: &mut Vec<FleetEvent>) {
        let mut link = self.links.remove(&token).expect("the caller has just found it");
        // What it had said before it died still counts.
        link.read_to_end(events);

        let is_own = self.slots.get(&link.slot) == Some(&token);
        if is_own {
            self.slots.remove(&link.slot);
            events.push(FleetEvent::Dying { slot: link.slot, pid: link.pid });
        } else if self.successors.get(&link.slot) == Some(&token) {
            self.successors.remove(&link.slot);
            events.push(FleetEvent::Dying { slot: link.slot, pid: link.pid });
        }

        if is_own && link.resident.as_ref().is_some_and(ResidentLink::has_unread_call) {
            self.unsent.insert(link.slot);
        }

        // Those that it has given up fall to us, and are not waited for again.
        self.orphans.know_stuck(link.stuck().to_vec());
        let how = link.epitaph().unwrap_or_else(|| format!("its worker {} {how}", link.pid));
        let own_group = link.group.clone().filter(|_| link.resident.is_some());
        let has_stuck = !link.stuck().is_empty();
        let (slot, pid) = (link.slot, link.pid);
        let left = link.handed.map(|handed| handed.claim);
        let group = link.group.and_then(|path| self.kill_group(&path));
        // What it has given up in its group is given up.
        let patience = if has_stuck { Duration::ZERO } else { PATIENCE };
        let group_until = Instant::now() + patience;
        self.dying.push(Dying { slot, pid, how, left, is_own, group, group_until, own_group });
    }

    /// Tells of dead workers of which nothing is left. Each waits for its own orphans and its own group.
    fn tell_gone(&mut self, events: &mut Vec<FleetEvent>) {
        let now = Instant::now();
        let (orphans, unsent) = (&self.orphans, &mut self.unsent);
        let is_gone = |dying: &mut Dying| {
            let is_populated = dying.group.as_ref().is_some_and(Group::is_populated);
            !orphans.are_left_of(dying.pid) && (!is_populated || dying.group_until <= now)
        };
        for Dying { slot, pid, how, left, is_own, group, group_until: _, own_group } in
            self.dying.extract_if(.., is_gone)
        {
            if group.as_ref().is_some_and(Group::is_populated) {
                tracing::warn!(
                    worker = %pid,
                    "the control group of a dead worker holds processes that do not end; \
                     poold no longer waits for them"
                );
            }
            if let Some(Err(error)) = own_group.map(|path| kernel::remove_group(&path)) {
                tracing::warn!(%error, "cannot remove a program's control group");
            }
            let unsent = is_own && unsent.remove(&slot);
            events.push(FleetEvent::Lost { slot, pid, how, unsent, left });
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

    fn link_mut(&mut self, slot: SlotId) -> Option<&mut WorkerLink> {
        self.links.get_mut(self.slots.get(&slot)?)
    }
}

/// Variables that are meant for the supervisor alone.
const HIDDEN: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
