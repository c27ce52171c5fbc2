//! A worker: the small process that fills a slot. It runs one attempt at a time, knows all that the attempt
//! has started, being a subreaper, and reports the end only when nothing of it is left. It decides nothing,
//! keeps nothing, and never outlives its supervisor: at the end of its socket it kills what it runs and ends.

mod files;
mod host;
mod idle_watch;
mod live_input;
mod output_watch;
pub mod protocol;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pool_proto::nouns::{MemoryLimiter, Usage};
use pool_proto::wire::frame::{Decoder, encode};

use crate::files::log;
use crate::files::slot_output::{Over, SlotOutput};
use crate::job::{
    Claim, Ended, Environment, Exit, Process, ProcessId, SpawnFailure, Stage, Unit, Verdict, micros,
};
use crate::kernel::{self, EnvironmentBlock, Launch, Reaped, SlotGroup, Spawner, Stuck, Sweeper, clock};
use files::Files;
use host::Hosted;
use idle_watch::{IdleWatch, Signs};
use live_input::LiveInput;
use output_watch::OutputWatch;
use protocol::{Hello, Run, VERSION, WorkerCommand, WorkerReport};

/// A command with its whole environment fits well into this: the kernel takes about 2 MiB of both
/// (execve(2)).
const MAX_COMMAND: usize = 64 * 1024 * 1024;

/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// A start is told so much later, with the end where that comes before: a short attempt costs the supervisor
/// one wake-up and the store one transaction, not two.
const TELL_START: Duration = Duration::from_millis(4);

/// The output of an attempt has its name so much after its start, for whoever looks there without asking.
const NAME_OUTPUT: Duration = Duration::from_millis(25);

/// An attempt that has run for so long is told of: when it writes is noted from then on.
const TELL_LASTING: Duration = Duration::from_secs(1);

/// How long a worker waits for the end of what it has killed. Shorter than the time after which the
/// supervisor kills a worker that has not ended its attempt (five seconds): otherwise the attempt would end
/// with the worker, as a crash.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the supervisor's command line says.
#[derive(Debug)]
pub struct Equipment {
    /// The soft limit of open files that jobs are to have.
    pub nofile: Option<u64>,
    /// The control group that attempts are started in.
    pub group: Option<PathBuf>,
    /// What the paths of the slot's blank output files begin with.
    pub output: PathBuf,
    /// In a worker that is process 1 of a pid namespace: the number of the descriptor over which its children
    /// say that they are there.
    pub announcements: Option<i32>,
    /// In a worker that keeps a resident program: the numbers of the descriptors of the program's standard
    /// streams.
    pub program_stdio: Option<[i32; 3]>,
}

/// An attempt that runs.
#[derive(Debug)]
struct RunningAttempt {
    claim: Claim,
    /// Its first process, which has not been reaped.
    pid: ProcessId,
    start: Moment,
    files: Files,
    /// When its files get their names, if they have none by then.
    name_at: Option<Instant>,
    /// When to tell that it lasts.
    tell_lasting_at: Option<Instant>,
    /// Of those that have been reaped.
    usage: Usage,
}

/// What keeps an attempt from going on that is frozen.
#[derive(Debug, Clone, Copy)]
enum FrozenBy {
    /// The freezer of the control group.
    Group,
    /// A SIGSTOP to each process.
    Signals,
}

/// When an attempt has begun.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall_us: i64,
    since_boot: Duration,
}

impl Moment {
    fn now() -> Self {
        Self { wall_us: clock::wall_us(), since_boot: clock::since_boot() }
    }

    /// An end at that time since the boot, for the record: whatever has become of the wall's clock.
    fn end_us(self, since_boot: Duration) -> i64 {
        self.wall_us.saturating_add(micros(since_boot.saturating_sub(self.since_boot)))
    }
}

/// The start of an attempt.
#[derive(Debug)]
struct UntoldStart {
    claim: Claim,
    pid: ProcessId,
    started_us: i64,
    memory_limiter: Option<MemoryLimiter>,
    input: Option<RawFd>,
}

struct Worker {
    socket: UnixStream,
    decoder: Decoder,
    /// Commands are read into this.
    buffer: Box<[u8]>,
    children: SignalFd,
    spawner: Spawner,
    group: Option<SlotGroup>,
    environment: EnvironmentBlock,
    /// What holds the process that was started last to its limit of memory, if it has one.
    memory_limiter: Option<MemoryLimiter>,
    attempt: Option<RunningAttempt>,
    /// The start of the attempt has not been told.
    untold: Option<UntoldStart>,
    /// What is begun with after that.
    ahead: Option<Box<Run>>,
    output: SlotOutput,
    output_watch: OutputWatch,
    idle_watch: IdleWatch,
    sweeper: Sweeper,
    /// What does not end, as the supervisor was told last.
    told_stuck: Vec<Stuck>,
    /// The supervisor has been told that what runs is frozen.
    told_frozen: bool,
    /// How we have frozen what runs, where we have.
    frozen: Option<FrozenBy>,
    /// In a warm pool: the program that it keeps, in place of attempts.
    hosted: Option<Hosted>,
}

/// Works until the supervisor closes the socket, which is the standard input.
///
/// # Safety
/// To be called first in this process: there may be no other thread, and nothing in it may own the standard
/// input or a descriptor that `equipment` names.
///
/// # Errors
/// What keeps it from working at all.
pub unsafe fn run(equipment: Equipment) -> anyhow::Result<()> {
    // Ends by the end of its socket, never by a signal meant for the terminal or the whole service.
    SigSet::all().thread_block().context("cannot block signals")?;

    // Before anything is opened that could get one of these numbers.
    let hosted = equipment.program_stdio.map(|stdio| {
        // SAFETY: as the caller promises; the supervisor names each descriptor once.
        let [stdin, stdout, stderr] = stdio.map(|number| unsafe { kernel::adopt(number) });
        Ok::<Hosted, io::Error>(Hosted::new([stdin?, stdout?, stderr?]))
    });
    let hosted = hosted.transpose().context("cannot take over the program's standard streams")?;
    // SAFETY: likewise.
    let announcements = equipment.announcements.map(|number| unsafe { kernel::adopt(number) });
    let announcements = announcements.transpose().context("cannot take over a socket")?;
    if announcements.is_some() {
        kernel::die_with_parent().context("cannot be tied to the supervisor")?;
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().context("cannot take over the socket")?;
    // SAFETY: as the caller promises, nothing owns the standard input.
    unsafe { kernel::replace(0, &File::open("/dev/null")?) }?;

    kernel::set_child_subreaper().context("cannot become a subreaper")?;
    if let Some(soft) = equipment.nofile {
        kernel::set_nofile(soft).context("cannot set the limit of open files")?;
    }

    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let mut worker = Worker {
        socket: UnixStream::from(socket),
        decoder: Decoder::new(MAX_COMMAND),
        buffer: vec![0; READ].into(),
        children: SignalFd::with_flags(&wanted, flags).context("cannot watch children")?,
        spawner: Spawner::new(kernel::lower_oom_score(), announcements)
            .context("cannot prepare to start processes")?,
        group: equipment.group.and_then(|path| SlotGroup::open(&path).ok()),
        environment: EnvironmentBlock::default(),
        memory_limiter: None,
        attempt: None,
        untold: None,
        ahead: None,
        output: SlotOutput::new(&equipment.output),
        output_watch: OutputWatch::default(),
        idle_watch: IdleWatch::default(),
        sweeper: Sweeper::new(PATIENCE),
        told_stuck: Vec::new(),
        told_frozen: false,
        frozen: None,
        hosted,
    };

    // The supervisor's end is an end in order for a worker; whatever else ends it, nothing is left behind.
    let result = worker.work();
    worker.sweep();
    result
}

impl Worker {
    fn work(&mut self) -> anyhow::Result<()> {
        if !self.greet() {
            return Ok(());
        }
        loop {
            let [commands, children, output, group, shown, typed] = self.wait()?;
            if group {
                self.look_at_group();
            }

            // Where nothing has come, the start has waited long enough.
            let has_come = commands || children || output || group || shown || typed;
            if !has_come && !self.tell_start() {
                return Ok(());
            }
            if let Some(hosted) = self.hosted.as_mut().filter(|hosted| hosted.is_time_up())
                && !hosted.is_about_to_end()
            {
                if hosted.is_unheard() {
                    // Should the supervisor be gone, nobody has to know.
                    self.send(&encode(&WorkerReport::ProgramUnheard));
                }
                return Ok(());
            }

            if self
                .attempt
                .as_ref()
                .and_then(|attempt| attempt.name_at)
                .is_some_and(|at| at <= Instant::now())
            {
                self.name_output();
            }
            if !self.tell_lasting() {
                return Ok(());
            }

            if shown || typed {
                self.pass_on(typed);
            }

            // Ends before commands: a command may be meant for an attempt that has just ended, and is ignored
            // then.
            if children && !self.on_children()? {
                return Ok(());
            }
            if (output || self.output_watch.due().is_some_and(|due| due <= Instant::now()))
                && !self.on_output()?
            {
                return Ok(());
            }
            if self.idle_watch.due().is_some_and(|due| due <= Instant::now()) && !self.on_idle_look() {
                return Ok(());
            }
            // Before a command that hands out the next one.
            if !self.see_to_ahead()? {
                return Ok(());
            }
            if commands && !self.on_commands()? {
                return Ok(());
            }
        }
    }

    /// Begins with what is ahead when there is nothing before it, and gives it back when that takes its time:
    /// then another slot may be free sooner. False when the supervisor is gone.
    fn see_to_ahead(&mut self) -> anyhow::Result<bool> {
        if self.attempt.is_some() && self.untold.is_some() {
            return Ok(true);
        }
        match self.ahead.take() {
            None => Ok(true),
            Some(run) if self.attempt.is_none() => {
                self.output.leave_lent();
                self.on_run(&run)
            }
            Some(run) => Ok(self.give_back(run.claim)),
        }
    }

    /// False when the supervisor is gone.
    fn give_back(&mut self, claim: Claim) -> bool {
        self.send(&encode(&WorkerReport::GivenBack { claim }))
    }

    /// Until a command comes, a child ends, the attempt writes output that is watched, or something is due.
    fn wait(&self) -> anyhow::Result<[bool; 6]> {
        let socket = self.socket.as_fd();
        // One that is missing is never ready, but at the end of the socket.
        let missing = (socket, PollFlags::empty());
        // The group tells of each start and each end in it. What is over soon is not to cost another wake-up.
        let group = self.group.as_ref().filter(|_| self.runs_for_long()).map(SlotGroup::events);
        let live = self.attempt.as_ref().and_then(|attempt| attempt.files.live());
        let [shown, typed] = live.and_then(LiveInput::awaited).unwrap_or([missing; 2]);
        let mut ready = [
            (socket, PollFlags::POLLIN),
            (self.children.as_fd(), PollFlags::POLLIN),
            self.output_watch.next_write().map_or(missing, |output| (output, PollFlags::POLLIN)),
            group.map_or(missing, |group| (group, PollFlags::POLLPRI)),
            shown,
            typed,
        ]
        .map(|(source, flags)| PollFd::new(source, flags));

        let told = self.untold.as_ref().map(|_| TELL_START);
        let looked = self.output_watch.due().map(|due| due.saturating_duration_since(Instant::now()));
        let idle = self.idle_watch.due().map(|due| due.saturating_duration_since(Instant::now()));
        let left = self.hosted.as_ref().and_then(Hosted::patience);
        let lasting = self.attempt.as_ref().and_then(|attempt| attempt.name_at.or(attempt.tell_lasting_at));
        let lasting = lasting.map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up, since a poll that ends a little early would only be done again.
        let timeout = told
            .into_iter()
            .chain(looked)
            .chain(idle)
            .chain(lasting)
            .chain(left)
            .min()
            .map(|time| time.as_micros().div_ceil(1000));
        let timeout =
            timeout.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));

        match poll(&mut ready, timeout) {
            Ok(_) => Ok(ready.map(|fd| fd.any().unwrap_or(false))),
            Err(Errno::EINTR) => Ok([false; 6]),
            Err(error) => Err(error).context("cannot wait"),
        }
    }

    /// What runs has been started long enough ago for its start to be told by itself.
    fn runs_for_long(&self) -> bool {
        self.untold.is_none() && (self.attempt.is_some() || self.hosted.is_some())
    }

    /// Freezes all that belongs to the attempt, or lets it go on: by its control group, else by signals to
    /// each of its processes.
    fn set_frozen(&mut self, frozen: bool) {
        match self.frozen {
            None if frozen => {
                let by_group = self.group.as_ref().is_some_and(|group| group.set_frozen(true));
                if !by_group {
                    kernel::freeze(&[]);
                }
                self.frozen = Some(if by_group { FrozenBy::Group } else { FrozenBy::Signals });
                // What stands still is not idle.
                self.idle_watch.rest();
            }
            Some(by) if !frozen => {
                match (by, &self.group) {
                    (FrozenBy::Group, Some(group)) => _ = group.set_frozen(false),
                    (FrozenBy::Group, None) | (FrozenBy::Signals, _) => kernel::signal_tree(Signal::SIGCONT),
                }
                self.frozen = None;
                self.idle_watch.go_on();
            }
            None | Some(_) => {}
        }
    }

    /// Somebody may have frozen what runs: it can still be killed, but goes on only when it is thawed.
    fn look_at_group(&mut self) {
        let is_frozen = self.group.as_ref().is_some_and(SlotGroup::is_frozen);
        if is_frozen && !self.told_frozen && self.frozen.is_none() {
            self.notice(
                "the control group of what runs in the slot is frozen (cgroup.freeze); it goes on when \
                 somebody thaws the group, or ends when it is canceled or times out"
                    .to_owned(),
            );
        }
        self.told_frozen = is_frozen;
    }

    /// False when the supervisor is gone.
    fn on_output(&mut self) -> anyhow::Result<bool> {
        self.look_at_log();
        let watch = &mut self.output_watch;
        let is_too_much = self
            .attempt
            .as_ref()
            .is_some_and(|attempt| watch.look(&attempt.files.output(), || attempt.files.written()));
        if is_too_much { self.end(None) } else { Ok(true) }
    }

    /// Looks whether the attempt does anything. False when the supervisor is gone.
    fn on_idle_look(&mut self) -> bool {
        let Some(attempt) = &self.attempt else { return true };
        let cpu = match &self.group {
            Some(group) => group.cpu_us(),
            // What has been reaped here is in nobody else's count.
            None => {
                let reaped_us = (attempt.usage.user_s + attempt.usage.sys_s) * 1e6;
                kernel::cpu_ticks_of_tree() + reaped_us as u64
            }
        };
        let (claim, signs) = (attempt.claim, Signs { cpu, output: attempt.files.written_at() });
        if self.idle_watch.look(signs) { self.report(&WorkerReport::Idle { claim }) } else { true }
    }

    /// False at the end of the stream.
    fn on_commands(&mut self) -> anyhow::Result<bool> {
        match self.socket.read(&mut self.buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => self.decoder.extend(&self.buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }

        while let Some(frame) = self.decoder.next_frame() {
            let command =
                serde_json::from_slice(frame).context("the supervisor sent an unreadable command")?;
            if !self.on_command(command)? || !self.see_to_ahead()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn on_command(&mut self, command: WorkerCommand) -> anyhow::Result<bool> {
        match command {
            WorkerCommand::Environment(environment) => self.set_environment(&environment),
            WorkerCommand::Run(run) => {
                self.output.take_back();
                return self.on_run(&run);
            }
            WorkerCommand::RunAhead(run) => self.ahead = Some(run),
            WorkerCommand::GiveBack { claim }
            | WorkerCommand::Terminate { claim }
            | WorkerCommand::Kill { claim }
                if self.ahead.as_ref().is_some_and(|run| run.claim == claim) =>
            {
                self.ahead = None;
                return Ok(self.give_back(claim));
            }
            // It has been begun with, or given back.
            WorkerCommand::GiveBack { .. } => {}
            WorkerCommand::Host(host) => return Ok(self.host(&host)),
            WorkerCommand::ReopenLog { path } => log::reopen(&path),
            WorkerCommand::Retire { unheard } => {
                self.hosted.iter_mut().for_each(|hosted| hosted.leave(unheard));
            }
            // Whichever call they are meant for: there is one program.
            WorkerCommand::Signal { signal, .. } if self.hosted.is_some() => {
                self.hosted.iter().for_each(|hosted| hosted.signal(signal));
            }
            WorkerCommand::Terminate { .. } if self.hosted.is_some() => self.terminate_all(),
            WorkerCommand::Kill { .. } if self.hosted.is_some() => return Ok(false),
            WorkerCommand::Signal { claim, signal } => {
                if let Some(attempt) = self.attempt_of(claim) {
                    kernel::signal_group(attempt.pid, signal);
                }
            }
            WorkerCommand::Steer { claim, steer } => {
                if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.claim == claim) {
                    attempt.files.steer(steer);
                }
            }
            WorkerCommand::SetFrozen { claim, frozen } => {
                if self.attempt_of(claim).is_some() {
                    self.set_frozen(frozen);
                }
            }
            WorkerCommand::Terminate { claim } => {
                if self.attempt_of(claim).is_some() {
                    self.terminate_all();
                    self.set_frozen(false);
                }
            }
            WorkerCommand::NameOutput { claim } if self.attempt_of(claim).is_some() => self.name_output(),
            // It is over. What it has left blank a reader has open now.
            WorkerCommand::NameOutput { .. } => self.output.leave_lent(),
            WorkerCommand::Kill { claim } => {
                if self.attempt_of(claim).is_some() {
                    return self.end(None);
                }
            }
        }
        Ok(true)
    }

    fn set_environment(&mut self, environment: &Arc<Environment>) {
        self.environment = EnvironmentBlock::new(environment);
    }

    /// A command may come when its attempt has just ended.
    fn attempt_of(&self, claim: Claim) -> Option<&RunningAttempt> {
        self.attempt.as_ref().filter(|attempt| attempt.claim == claim)
    }

    fn on_run(&mut self, run: &Run) -> anyhow::Result<bool> {
        let claim = run.claim;
        let start = Moment::now();
        match self.start(run, start) {
            Ok(attempt) => {
                let (pid, started_us, memory_limiter) = (attempt.pid, start.wall_us, self.memory_limiter);
                let input = attempt.files.live().and_then(LiveInput::door);
                self.untold = Some(UntoldStart { claim, pid, started_us, memory_limiter, input });
                self.attempt = Some(attempt);
                // Clients may wait to write.
                Ok(input.is_none() || self.tell_start())
            }
            Err(failure) => Ok(self.report(&WorkerReport::Failed { claim, failure })),
        }
    }

    fn start(&mut self, run: &Run, start: Moment) -> Result<RunningAttempt, SpawnFailure> {
        let (files, replaced) = Files::open(run, &mut self.output)?;
        replaced.into_iter().for_each(|what| self.notice(what));

        let environment = std::mem::take(&mut self.environment);
        let launch = Launch {
            argv: &run.argv,
            environment: &environment,
            variables: &run.variables,
            cwd: &run.cwd,
            lenient: run.lenient,
            stdio: files.stdio(),
            at_terminal: files.is_at_terminal(),
            group: None,
            address_space: None,
        };
        let spawned = self.spawn(&launch);
        self.environment = environment;
        let pid = match spawned {
            Ok(pid) => pid,
            Err(failure) => {
                // Nobody has written anything.
                let _ = files.end(&mut self.output, Over::UNTOUCHED);
                return Err(failure);
            }
        };
        self.output_watch.begin(run.max_output_bytes);
        self.idle_watch.begin(run.idle_timeout);
        Ok(RunningAttempt {
            claim: run.claim,
            pid,
            start,
            files: files.without_stdin(),
            name_at: Some(Instant::now() + NAME_OUTPUT),
            // Of callbacks nobody asks when they wrote.
            tell_lasting_at: matches!(run.claim.unit, Unit::Job(_)).then(|| Instant::now() + TELL_LASTING),
            usage: Usage::default(),
        })
    }

    /// Starts a process in the slot's control group, which is made anew where somebody has made it unfit.
    fn spawn(&mut self, launch: &Launch<'_>) -> Result<ProcessId, SpawnFailure> {
        /// Whoever kills the group all the time has the pool pause.
        const TRIES: u32 = 3;

        if let Some(harm) = self.group.as_mut().and_then(SlotGroup::begin) {
            self.notice(format!("the control group {harm}, and has been made anew"));
        }
        for _ in 1..TRIES {
            match self.spawn_once(launch) {
                Err(SpawnFailure { stage: Stage::Killed, .. }) => {
                    let Some(harm) = self.group.as_mut().map(SlotGroup::begin_again) else { break };
                    self.notice(format!(
                        "the control group {harm}, so that the kernel killed a process that was started in \
                         it; the group has been made anew, and the process is started again"
                    ));
                }
                spawned => return spawned,
            }
        }
        self.spawn_once(launch)
    }

    fn spawn_once(&mut self, launch: &Launch<'_>) -> Result<ProcessId, SpawnFailure> {
        if self.group.as_ref().is_some_and(SlotGroup::is_frozen) {
            return Err(SpawnFailure { stage: Stage::Frozen, errno: Errno::EBUSY as i32 });
        }

        let limit = launch.memory_bytes();
        let is_in_group = self.group.as_mut().is_some_and(|group| group.limit_memory(limit));
        let limiter = if is_in_group { MemoryLimiter::Cgroup } else { MemoryLimiter::AddressSpace };
        self.memory_limiter = limit.map(|_| limiter);

        let group = self.group.as_ref().map(SlotGroup::spawn_group);
        let address_space = limit.filter(|_| !is_in_group);
        // SAFETY: a worker has one thread, and `run` has blocked all signals.
        unsafe { self.spawner.spawn(&Launch { group, address_space, ..*launch }) }
    }

    /// Harm from outside: a worker has no log, its supervisor logs for it.
    fn notice(&mut self, what: String) {
        // Should the supervisor be gone, the next report tells.
        self.send(&encode(&WorkerReport::Noticed { what }));
    }

    /// False when that is the end of this worker.
    fn on_children(&mut self) -> anyhow::Result<bool> {
        // Many ends may share one signal: all are looked for.
        while let Ok(Some(_)) = self.children.read_signal() {}

        // Only before it is reaped the kernel tells whether it had executed its command.
        let has_run = !self
            .attempt
            .as_ref()
            .is_some_and(|attempt| self.untold.is_some() && kernel::was_killed_unexecuted(attempt.pid));

        while let Ok(Some(reaped)) = kernel::reap_one() {
            if self.hosted.as_ref().is_some_and(|hosted| hosted.is(reaped.pid)) {
                self.program_ended(reaped.exit);
                return Ok(false);
            }
            if self.sweeper.forget_gone() {
                self.tell_stuck();
            }
            let Some(attempt) = &mut self.attempt else { continue };
            add(&mut attempt.usage, &reaped);
            if reaped.pid == attempt.pid && has_run {
                self.end(Some(reaped.exit))?;
                return Ok(true);
            }
            if reaped.pid == attempt.pid {
                return Ok(self.end_unexecuted());
            }
        }
        Ok(true)
    }

    /// The attempt's first process has ended with `exit`, or is to be killed; with it goes all that it has
    /// started.
    fn end(&mut self, exit: Option<Exit>) -> anyhow::Result<bool> {
        let Some(mut attempt) = self.attempt.take() else { return Ok(true) };
        self.idle_watch.end();
        let since_boot = clock::since_boot();
        let ended_us = attempt.start.end_us(since_boot);
        let ended_since_boot_us = micros(since_boot).unsigned_abs();

        let mut exit = exit;
        for reaped in self.sweep() {
            add(&mut attempt.usage, &reaped);
            if reaped.pid == attempt.pid {
                exit = Some(reaped.exit);
            }
        }
        self.forget_frozen();
        // Told before the end, so that whoever hears of the end knows what is left.
        self.tell_stuck();

        // A first process that was killed and cannot be reaped has no exit status yet. It runs no instruction
        // of its command any more, and the status will be this one. Why it was killed, which is the attempt's
        // result, the supervisor knows.
        let exit = exit.unwrap_or(Exit::Signal { signal: Signal::SIGKILL as i32, core: false });
        let unshown = attempt.files.end_live();
        self.tell_unshown(attempt.claim, unshown);
        let (stdout_bytes, stderr_bytes) = attempt.files.sizes();
        let ran_out = self.group.as_mut().and_then(|group| group.settle(&mut attempt.usage));
        // An attempt that was faster than the watch is judged by the same limit.
        let too_much = self.output_watch.end(stdout_bytes.saturating_add(stderr_bytes));
        let verdict = ran_out.or_else(|| too_much.map(|limit| Verdict::TooMuchOutput { limit }));

        let has_output = stdout_bytes > 0 || stderr_bytes > 0;
        let disk_bytes = if has_output { attempt.files.disk_bytes() } else { 0 };
        let disk_bytes = disk_bytes.saturating_add(attempt.files.earlier_bytes());
        // Before the end is told: whoever hears of it looks for the output under its name. Without output
        // nobody looks, and the files are seen to when the end is told.
        let over = Over { is_gone: !self.sweeper.has_stuck(), is_lent: self.untold.is_none() };
        let claim = attempt.claim;
        let mut files = Some(attempt.files);
        if let Some(files) = files.take_if(|_| has_output) {
            self.end_files(claim, files, over);
        }

        let ended = Ended {
            exit,
            usage: attempt.usage,
            stdout_bytes,
            stderr_bytes,
            disk_bytes,
            ended_us,
            ended_since_boot_us,
            verdict,
        };
        let is_heard = self.report(&WorkerReport::Ended { claim, ended });
        if let Some(files) = files {
            self.end_files(claim, files, over);
        }
        self.output.prepare();
        Ok(is_heard)
    }

    fn end_files(&mut self, claim: Claim, files: Files, over: Over) {
        let named = files.end(&mut self.output, over);
        self.tell_unnamed(claim, named);
    }

    /// Nothing of a frozen attempt is left: the next one in the group is not to stand still.
    fn forget_frozen(&mut self) {
        if let (Some(FrozenBy::Group), Some(group)) = (self.frozen.take(), &self.group) {
            group.set_frozen(false);
        }
    }

    /// The attempt's first process was killed before it executed its command: nothing of the attempt has run.
    fn end_unexecuted(&mut self) -> bool {
        let Some(attempt) = self.attempt.take() else { return true };
        self.idle_watch.end();
        self.untold = None;
        self.sweep();
        self.forget_frozen();
        let over = Over { is_gone: !self.sweeper.has_stuck(), is_lent: false };
        self.end_files(attempt.claim, attempt.files, over);
        self.output_watch.end(0);
        if let Some(group) = &mut self.group {
            group.settle(&mut Usage::default());
        }
        let failure = SpawnFailure { stage: Stage::Killed, errno: Errno::EINTR as i32 };
        self.report(&WorkerReport::Failed { claim: attempt.claim, failure })
    }

    /// Passes on what is typed at the attempt's terminal, and what the attempt writes there.
    fn pass_on(&mut self, is_typed: bool) {
        let Some(attempt) = &mut self.attempt else { return };
        let (claim, unshown) = (attempt.claim, attempt.files.pass_on(is_typed));
        self.tell_unshown(claim, unshown);
    }

    fn tell_unshown(&mut self, claim: Claim, error: Option<io::Error>) {
        if let Some(error) = error {
            self.notice(format!(
                "what {claim} writes to its terminal is not kept: its output cannot be written ({error})"
            ));
        }
    }

    /// The output of the attempt gets its name, if it has none.
    fn name_output(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.name_at = None;
        let (claim, named) = (attempt.claim, attempt.files.name(&mut self.output));
        self.tell_unnamed(claim, named);
    }

    /// False when the supervisor is gone.
    fn tell_lasting(&mut self) -> bool {
        let is_due = |at: &mut Instant| *at <= Instant::now();
        let Some(attempt) = &mut self.attempt else { return true };
        if attempt.tell_lasting_at.take_if(is_due).is_none() {
            return true;
        }
        let claim = attempt.claim;
        self.report(&WorkerReport::Lasting { claim })
    }

    fn tell_unnamed(&mut self, claim: Claim, named: io::Result<()>) {
        if let Err(error) = named {
            self.notice(format!(
                "the output of {claim} cannot get its name in the folder output ({error}); mend that, or no \
                 other job can run in this slot"
            ));
        }
    }

    /// Kills and reaps all that there is, but for what does not end.
    fn sweep(&mut self) -> Vec<Reaped> {
        match &mut self.group {
            Some(group) => group.sweep(&mut self.sweeper),
            None => self.sweeper.sweep(),
        }
    }

    /// Tells which processes do not end, where that is news.
    fn tell_stuck(&mut self) {
        if !self.sweeper.has_stuck() && self.told_stuck.is_empty() {
            return;
        }
        let processes = self.sweeper.stuck();
        if processes != self.told_stuck {
            self.told_stuck.clone_from(&processes);
            // Should the supervisor be gone, the next report tells.
            self.report(&WorkerReport::Stuck { processes });
        }
    }

    /// Says what this worker has in hand, which is nothing yet. False when the supervisor is gone.
    fn greet(&mut self) -> bool {
        let claim = self.attempt.as_ref().map(|attempt| attempt.claim);
        let program = self.hosted.as_ref().and_then(Hosted::process);
        self.send(&encode(&WorkerReport::Hello(Hello { version: VERSION, claim, program })))
    }

    /// The attempt takes its time: its start is told by itself, and with it what its process will be known
    /// by, should poold die. False when the supervisor is gone.
    fn tell_start(&mut self) -> bool {
        let Some(start) = self.untold.take() else { return true };
        let start_ticks = self.attempt.as_ref().and_then(|attempt| kernel::start_ticks_of(attempt.pid));
        self.send(&encode(&start.report(start_ticks, true)))
    }

    /// False when the supervisor is gone.
    fn report(&mut self, report: &WorkerReport) -> bool {
        let start = self.untold.take().map(|start| encode(&start.report(None, false)));
        self.send(&[start.unwrap_or_default(), encode(report)].concat())
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        debug_assert!(self.socket.as_raw_fd() > 2);
        self.socket.write_all(bytes).is_ok()
    }
}

impl UntoldStart {
    fn report(&self, start_ticks: Option<u64>, alone: bool) -> WorkerReport {
        let process = Process { pid: self.pid, start_ticks };
        let Self { claim, started_us, memory_limiter, input, .. } = *self;
        WorkerReport::Started { claim, process, started_us, memory_limiter, input, alone }
    }
}

fn add(usage: &mut Usage, reaped: &Reaped) {
    usage.user_s += reaped.usage.user_s;
    usage.sys_s += reaped.usage.sys_s;
    usage.max_rss_bytes = usage.max_rss_bytes.max(reaped.usage.max_rss_bytes);
}
