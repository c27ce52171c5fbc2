//! The supervisor: the one process, and but for the store's the one thread, in which everything meets. A readiness loop turns what has
//! happened into the scheduler's events and the scheduler's effects into what is done; it decides nothing itself.
//!
//! ```text
//!   clients ──▶ server ──┐                     ┌──▶ server ──▶ replies
//!   workers ──▶ fleet ───┼──▶ scheduler.handle ┼──▶ fleet ───▶ attempts
//!   store's answers ─────┤                     └──▶ store ───▶ changes
//!   signals, deadlines ──┘
//! ```
//!
//! All changes of one turn go to the store before any bytes go out, so that its fsync begins as early as it can.

pub mod admission;
mod backup;
mod condition;
mod containment;
mod events;
mod launch;
mod output_room;
mod programs;
mod recovery;
mod requests;
mod reserved_ids;
mod spool;
mod status;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::stat::fstat;
use nix::unistd::getppid;
use pool_proto::Refusal;
use pool_proto::condition::Swept;
use pool_proto::events::Kind;
use pool_proto::interface::{Brief, Submitted};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::cli::SupervisorOptions;
use crate::config::Config;
use crate::fleet::{Fleet, FleetEvent, lane_name};
use crate::guardian::Inherited;
use crate::job::{Answer, Claim, Environment, JobId, JobKind, RequestId, Unit};
use crate::scheduler::store_op::{StoreAnswer, StoreOp};
use crate::scheduler::{Effect, Event, Now, Scheduler, SlotId};
use crate::server::{Server, ServerEvent};
use crate::store::{Options as StoreOptions, Store, StoreEvent, Volatile};
use crate::worker::protocol::{Run, WorkerCommand, WorkerReport};
use crate::{guardian, output, process};
use admission::Admission;
use containment::Containment;
use events::Listeners;
use launch::Place;
use programs::AddedPools;
use reserved_ids::ReservedIds;
use spool::Spool;
use status::ServiceManager;

const LISTENER: Token = Token(0);
const STORE: Token = Token(1);
const SIGNALS: Token = Token(2);
const LIFELINE: Token = Token(3);
const FIRST_WORKER: usize = 16;

/// After so many ends at most the history is looked at.
const PRUNE_EVERY: u64 = 256;

/// And whenever it may have grown by this part of what is allowed.
const PRUNE_PART: u64 = 16;

/// Jobs that are forgotten at once; their files are removed between two turns.
const PRUNE_BATCH: u32 = 100;

/// Attempts of a job whose output may be there: the latest one's, and some before it where supervisors have died in between.
const KEPT_ATTEMPTS: usize = 4;

/// After running out of descriptors clients are accepted again so much later, should none be closed before.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to, and all is written.
    Orderly,
    /// The guardian is dead, and now so is all else.
    Orphaned,
}

/// Why the supervisor ended without being told to.
#[derive(Debug)]
pub enum Failure {
    /// It never served: another start would end in the same way.
    Start(anyhow::Error),
    /// It did serve: another start may help.
    Running(anyhow::Error),
    /// It was told to end and did, but not all could be written.
    Unwritten(anyhow::Error),
}

/// See the module's description.
struct Supervisor {
    options: SupervisorOptions,
    config: Config,
    place: Place,
    clock: Clock,
    scheduler: Scheduler,
    pool_names: Vec<Arc<str>>,
    store: Store,
    /// Jobs that are kept in memory alone.
    volatile: Volatile,
    reserved_ids: ReservedIds,
    server: Server,
    fleet: Fleet,
    containment: Containment,
    admission: Admission,
    /// The environment of resident programs that name none.
    minimal: Arc<Environment>,
    added_pools: AddedPools,
    spool: Spool,
    service_manager: ServiceManager,
    guardian_pid: i32,
    /// Calls that wait for the store and are none of the scheduler's business.
    queries: HashMap<RequestId, requests::Query>,
    /// Calls that wait for the database's file to be held or let go, in order; none where a connection was closed.
    backups: VecDeque<Option<RequestId>>,
    /// The connection that holds it, or is about to.
    backing_up: HashSet<Token>,
    /// Submissions that are answered with a list of ids, even of one.
    bulk: HashSet<RequestId>,
    /// Ends of this turn, for those who want them in few words, and whether they are the last.
    briefs: HashMap<RequestId, (Vec<Brief>, bool)>,
    listeners: Listeners,
    /// Changes of this turn.
    ops: Vec<StoreOp>,
    /// When this supervisor started, in microseconds since 1970.
    started_us: i64,
    /// What the start has killed.
    swept: Swept,
    /// Why the store cannot be written, for as long as it cannot.
    store_failure: Option<String>,
    /// Why the configuration that was to be read anew is not in force.
    config_error: Option<String>,
    /// What has been added to the history since it was last looked at.
    ends_since_prune: u64,
    bytes_since_prune: u64,
    running_output: output_room::Running,
    exiting: bool,
    /// The lifeline and the locks, open for as long as we live.
    _held: (OwnedFd, Vec<OwnedFd>),
}

/// Serves until told to end.
///
/// # Errors
/// See [`Failure`].
pub fn run(options: SupervisorOptions, config: Config, inherited: Inherited) -> Result<End, Failure> {
    let (mut supervisor, mut poll, mut signals) =
        Supervisor::start(options, config, inherited).map_err(Failure::Start)?;
    let end = supervisor.serve(&mut poll, &mut signals).map_err(Failure::Running)?;
    supervisor.close(end).map_err(Failure::Unwritten)
}

impl Supervisor {
    fn start(
        options: SupervisorOptions,
        mut config: Config,
        inherited: Inherited,
    ) -> anyhow::Result<(Self, Poll, Signals)> {
        process::set_child_subreaper().context("cannot become a subreaper")?;
        let nofile = process::raise_nofile().context("cannot raise the limit of open files")?;
        let poll = Poll::new().context("cannot make a poll")?;
        let registry = poll.registry();

        // Before the first child, so that no end of one goes unnoticed.
        let mut signals =
            Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]).context("cannot handle signals")?;
        process::unblock_signals(&guardian::PASSED_ON).context("cannot handle signals")?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        registry.register(&mut SourceFd(&inherited.lifeline.as_raw_fd()), LIFELINE, Interest::READABLE)?;
        let waker = Waker::new(registry, STORE)?;

        check_state_dir(&options.state_dir, &inherited.locks)?;
        let mut containment = Containment::set_up(&options.state_dir, &config);
        let daemon =
            process::daemon_name(&options.state_dir).context("cannot look at the state directory")?;
        create_folders(&options.state_dir)?;
        let store_options = StoreOptions {
            durability: config.durability.into(),
            output_paths: output::job_paths,
            sync_stdin: output::sync_stdin,
        };
        let notify = move || {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake the supervisor");
            }
        };
        let opened = Store::open(&options.state_dir, store_options, notify);
        // What is left of a dead daemon goes, whatever has become of the database.
        let known = opened.as_ref().ok().map(|(_, restored)| restored);
        let recovery = recovery::recover(&options.state_dir, &daemon, known, containment.leftovers());
        let (store, mut restored) = opened?;
        restored.last_end = recovery.last_end;

        let clock = Clock::start();
        let admission = Admission::for_own_user();
        let minimal = admission.minimal();
        let added_pools = AddedPools::restored(&restored.pools);
        added_pools.join(&mut config);
        containment.configure(&config);
        let settings = config.settings(options.workers, &minimal);
        let pool_names = settings.pools.iter().map(|pool| pool.name.clone()).collect();
        for (pool, queued) in restored
            .queued
            .iter()
            .filter(|(name, _)| !settings.pools.iter().any(|pool| *pool.name == ***name))
        {
            tracing::warn!(%pool, queued, "jobs are queued for a pool that is not configured: they stay there until it is");
        }
        let interrupted = restored.interrupted.len();
        let spool = Spool::new(&options.state_dir, clock.now().wall_us);
        spool.remove_all_but(&restored.stdin);
        let (scheduler, effects) = Scheduler::restore(settings, restored, clock.now());

        let listener = StdUnixListener::from(inherited.listener);
        listener.set_nonblocking(true)?;
        let mut supervisor = Supervisor {
            server: Server::new(UnixListener::from_std(listener), LISTENER, registry, config.max_clients)?,
            fleet: Fleet::new(registry, FIRST_WORKER, nofile)?,
            containment,
            admission,
            minimal,
            added_pools,
            spool,
            service_manager: ServiceManager::from_environment(),
            place: Place {
                state_dir: options.state_dir.clone(),
                socket: options.socket.to_string_lossy().into_owned(),
                daemon,
            },
            guardian_pid: getppid().as_raw(),
            queries: HashMap::new(),
            backups: VecDeque::new(),
            backing_up: HashSet::new(),
            bulk: HashSet::new(),
            briefs: HashMap::new(),
            listeners: Listeners::default(),
            ops: Vec::new(),
            started_us: clock.now().wall_us,
            swept: recovery.swept,
            store_failure: None,
            config_error: None,
            ends_since_prune: 0,
            bytes_since_prune: 0,
            running_output: output_room::Running::default(),
            exiting: false,
            _held: (inherited.lifeline, inherited.locks),
            options,
            config,
            clock,
            scheduler,
            pool_names,
            store,
            volatile: Volatile::default(),
            reserved_ids: ReservedIds::default(),
        };
        for effect in effects {
            supervisor.perform(effect);
        }
        // After what becomes of the attempts of another boot, whose processes are not of this one.
        supervisor.ops.extend(recovery.boot_id.map(|boot_id| StoreOp::Booted { boot_id }));
        supervisor.prune();
        supervisor.end_turn();
        tracing::info!(socket = %supervisor.options.socket.display(), interrupted, "ready");
        supervisor.service_manager.ready();
        Ok((supervisor, poll, signals))
    }
}

/// The guardian's lock is in the state directory that this poold was started on. Where another has taken its place since, or none, a new
/// supervisor must not begin anew as if nothing had been accepted.
fn check_state_dir(state_dir: &Path, locks: &[OwnedFd]) -> anyhow::Result<()> {
    let Some(lock) = locks.first() else { return Ok(()) };
    let held = fstat(lock).context("cannot look at the state directory's lock")?;
    let is_ours = fs::metadata(state_dir.join("lock"))
        .is_ok_and(|found| (found.dev(), found.ino()) == (held.st_dev, held.st_ino));
    if !is_ours {
        let dir = state_dir.display();
        bail!(
            "the state directory {dir} was removed, moved or replaced while poold ran: put it back, then start poold again"
        );
    }
    Ok(())
}

fn create_folders(state_dir: &Path) -> anyhow::Result<()> {
    for folder in ["output", "output/callbacks", "stdin"] {
        let path = state_dir.join(folder);
        process::create_private_folder(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    Ok(())
}

impl Supervisor {
    fn serve(&mut self, poll: &mut Poll, signals: &mut Signals) -> anyhow::Result<End> {
        let mut events = Events::with_capacity(256);
        let mut clients = Vec::new();
        while !self.exiting {
            match poll.poll(&mut events, self.patience(&clients)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.server.accept(),
                    STORE => {} // Its answers are taken below, in every turn.
                    SIGNALS => self.on_signals(signals),
                    LIFELINE => return Ok(End::Orphaned),
                    token if token.0 >= crate::server::FIRST_TOKEN => {
                        self.server.on_ready(
                            token,
                            event.is_readable(),
                            event.is_write_closed(),
                            &mut clients,
                        );
                    }
                    token => {
                        let is_open = !event.is_read_closed();
                        self.on_workers(|fleet, out| fleet.on_ready(token, is_open, out));
                    }
                }
            }
            if self.fleet.has_unfinished() {
                self.on_workers(Fleet::read_unfinished);
            }
            self.server.read_unfinished(&mut clients);
            self.server.accept_again();
            for event in clients.drain(..) {
                self.on_client(event);
            }
            self.take_answers();
            if self.scheduler.next_deadline().is_some_and(|at| at <= self.clock.now().monotonic) {
                self.handle(Event::Tick);
            }
            self.take_volatile_answers();
            self.service_manager.alive(self.clock.now().monotonic);
            self.end_turn();
            self.server.flush(&mut clients);
        }
        Ok(End::Orderly)
    }

    /// How long the next turn may wait.
    fn patience(&self, clients: &[ServerEvent]) -> Option<Duration> {
        if self.server.has_unfinished() || self.fleet.has_unfinished() || !clients.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now().monotonic;
        let accept = self.server.is_accept_stalled().then(|| now + ACCEPT_AGAIN);
        let deadline = [self.scheduler.next_deadline(), self.service_manager.deadline(), accept]
            .into_iter()
            .flatten()
            .min()?;
        // Rounded up, since a poll that ends a little early would only be done again.
        Some(deadline.saturating_sub(now) + Duration::from_millis(1))
    }

    fn take_answers(&mut self) {
        while let Some(event) = self.store.answer() {
            match event {
                StoreEvent::Answer(answer) => self.on_answer(answer),
                StoreEvent::Held(held) => self.on_held(held),
                StoreEvent::LetGo(let_go) => self.on_let_go(let_go),
                StoreEvent::Failing { reason } => {
                    tracing::error!(
                        reason,
                        "the store cannot be written: new jobs are refused, running ones go on, their ends are kept"
                    );
                    self.store_failure = Some(reason);
                    self.handle(Event::StoreFailing(true));
                }
                StoreEvent::Recovered => {
                    tracing::warn!("the store can be written again; nothing is missing");
                    self.store_failure = None;
                    self.handle(Event::StoreFailing(false));
                }
            }
        }
    }

    fn on_answer(&mut self, answer: StoreAnswer) {
        self.hear_of_answer(&answer);
        match answer {
            StoreAnswer::Got { call, .. } | StoreAnswer::Listed { call, .. }
                if self.queries.contains_key(&call) =>
            {
                self.on_query_answer(call, answer);
            }
            StoreAnswer::Pruned { jobs, callbacks, more } => self.on_pruned(&jobs, &callbacks, more),
            StoreAnswer::Finished { ref stdin, .. } => {
                stdin.iter().for_each(|token| self.spool.remove(token));
                self.ends_since_prune += 1;
                self.prune_if_due();
                self.handle(Event::Store(answer));
            }
            StoreAnswer::Inserted { call, ref existing, .. } => {
                // Only a job that was submitted by itself has an input to spool.
                self.spool.settle(call, existing.is_empty());
                self.handle(Event::Store(answer));
            }
            StoreAnswer::Refused { call, ref refusal } if self.queries.remove(&call).is_some() => {
                self.end_events(call);
                self.server.refuse(call, refusal);
            }
            StoreAnswer::Refused { call, ref refusal } if self.refuse_pool(call, refusal) => {}
            StoreAnswer::Refused { call, .. } => {
                self.spool.settle(call, false);
                self.handle(Event::Store(answer));
            }
            StoreAnswer::PoolChanged { call } => self.on_pool_changed(call),
            StoreAnswer::IdsReserved { below } => {
                self.reserved_ids.reserved(below);
                self.insert_volatile();
            }
            StoreAnswer::Fetched { .. }
            | StoreAnswer::Due { .. }
            | StoreAnswer::Claimed { .. }
            | StoreAnswer::Released { .. }
            | StoreAnswer::NotQueued { .. }
            | StoreAnswer::Got { .. }
            | StoreAnswer::CallbackClaimed(_) => self.handle(Event::Store(answer)),
            // Its client has gone.
            StoreAnswer::Listed { .. } => {}
        }
    }

    fn on_workers(&mut self, read: impl FnOnce(&mut Fleet, &mut Vec<FleetEvent>)) {
        let mut events = Vec::new();
        read(&mut self.fleet, &mut events);
        for event in events {
            match event {
                FleetEvent::Report { slot, report } => self.on_report(slot, report),
                FleetEvent::Lost { slot, pid, how, unsent } => {
                    if !self.exiting {
                        tracing::debug!(worker = %self.slot_name(slot), pid, how, "worker lost");
                    }
                    self.hear_of_worker(Kind::WorkerLost, slot, pid, Some(&how));
                    self.handle(Event::WorkerLost { slot, pid, how, unsent });
                }
                FleetEvent::ProgramReady { slot, worker, process } => {
                    tracing::debug!(worker = %self.slot_name(slot), pid = process.pid, "a resident program is ready");
                    self.hear_of_worker(Kind::ProgramReady, slot, process.pid, None);
                    self.handle(Event::ProgramReady { slot, worker, process });
                }
                FleetEvent::Answered { slot, claim, result, log, rss_bytes } => {
                    let is_volatile = matches!(claim.unit, Unit::Job(id) if self.volatile.has(id));
                    let stderr_bytes = if is_volatile { 0 } else { self.keep_log(slot, claim, log) };
                    self.bytes_since_prune += stderr_bytes;
                    let ended_us = self.clock.now().wall_us;
                    let answer = Answer { result, stderr_bytes, ended_us, rss_bytes };
                    self.handle(Event::Answered { slot, claim, answer });
                }
                FleetEvent::Progressed { slot, claim, progress } => {
                    self.hear_of_progress(claim, &progress);
                    self.handle(Event::Progressed { slot, claim, progress });
                }
                FleetEvent::Misbehaved { slot, worker, during, how } => {
                    tracing::warn!(worker = %self.slot_name(slot), "{how}");
                    self.handle(Event::Misbehaved { slot, worker, during, how });
                }
            }
        }
    }

    fn on_report(&mut self, slot: SlotId, report: WorkerReport) {
        tracing::debug!(worker = %self.slot_name(slot), ?report, "report");
        if let WorkerReport::Ended { ended, .. } = &report {
            self.bytes_since_prune += ended.stdout_bytes + ended.stderr_bytes;
        }
        self.handle(match report {
            WorkerReport::Started { claim, process, started_us } => {
                Event::Started { slot, claim, process, started_us }
            }
            WorkerReport::Ended { claim, ended } => Event::Ended { slot, claim, ended },
            WorkerReport::Failed { claim, failure } => Event::SpawnFailed { slot, claim, failure },
            // The fleet has them for itself.
            WorkerReport::ProgramStarted { .. }
            | WorkerReport::ProgramFailed { .. }
            | WorkerReport::ProgramEnded { .. } => {
                return;
            }
        });
    }

    fn on_client(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Request { connection, call, request } => self.on_request(connection, call, request),
            ServerEvent::Drained { call } => self.continue_listing(call),
            ServerEvent::Disconnected { call } => {
                self.queries.remove(&call);
                self.bulk.remove(&call);
                self.briefs.remove(&call);
                self.end_events(call);
                self.handle(Event::Disconnected { call });
            }
            ServerEvent::Closed { connection } => {
                self.spool.close(connection);
                self.abandon_backup(connection);
            }
        }
    }

    fn on_signals(&mut self, signals: &mut Signals) {
        for signal in signals.pending() {
            match signal {
                SIGCHLD => self.on_workers(Fleet::collect),
                SIGHUP => self.reload(),
                _ => {
                    tracing::info!(signal, "told to end");
                    self.service_manager.stopping();
                    self.handle(Event::Stop);
                }
            }
        }
    }

    fn reload(&mut self) {
        let Some(path) = self.options.config.clone() else { return };
        match Config::read(&path, self.options.config_optional) {
            Ok(mut config) => {
                self.added_pools.join(&mut config);
                let at_start = |config: &Config| (config.durability, config.log, config.cgroup);
                if at_start(&config) != at_start(&self.config) {
                    tracing::warn!("`durability`, `log` and `cgroup` take effect with the next start");
                }
                self.config_error = None;
                for (name, pool) in &config.pool {
                    let kind = self.scheduler.pool_kind(name);
                    if kind.is_some_and(|(_, is_warm)| is_warm != pool.command.is_some()) {
                        tracing::warn!(pool = name, "`command` comes or goes with the next start");
                    }
                }
                self.server.set_max_clients(config.max_clients);
                self.configure(config);
                self.prune();
                tracing::info!(path = %path.display(), "configuration read anew");
            }
            Err(error) => {
                tracing::error!("{error:#}; the old configuration stays in force");
                self.config_error = Some(format!("{error:#}"));
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let effects = self.scheduler.handle(self.clock.now(), event);
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Store(mut op) => {
                self.hear_of_change(&mut op);
                self.drop_earlier_output(&op);
                tracing::debug!(?op, "store");
                self.hand_to_store(op);
            }
            Effect::SpawnWorker { slot } => self.spawn_worker(slot),
            Effect::RetireWorker { slot } => self.fleet.retire(slot),
            Effect::SpawnSuccessor { slot } => self.spawn_successor(slot),
            Effect::SwapWorker { slot } => self.fleet.swap(slot),
            Effect::KillSuccessor { slot } => self.fleet.kill_successor(slot),
            Effect::Run { slot, claim, work } => {
                if let Unit::Job(id) = claim.unit {
                    self.hear_of_run(id, &work.pool);
                }
                match (&work.kind, claim.unit) {
                    (JobKind::Call(call), Unit::Job(id)) => self.fleet.call(slot, claim, id, call),
                    (JobKind::Exec(argv), _) => {
                        let max_output_bytes = self.config.max_output_bytes_of(&work.pool);
                        let run =
                            Run { max_output_bytes, ..*launch::job(&self.place, slot, claim, &work, argv) };
                        self.fleet.run(slot, &work.environment, Box::new(run));
                    }
                    (JobKind::Call(_), Unit::Callback(_)) => {
                        unreachable!("callbacks have a launch of their own")
                    }
                }
            }
            Effect::RunCallback { slot, run } => {
                self.hear_of_callback(&run);
                let claim = Claim { unit: Unit::Callback(run.id), attempt: run.attempt };
                let max_output_bytes = self.config.max_output_bytes.map(NonZeroU64::get);
                let launch = Run { max_output_bytes, ..*launch::callback(&self.place, claim, &run) };
                self.fleet.run(slot, &run.work.environment, Box::new(launch));
            }
            Effect::Signal { slot, claim, signal } => {
                self.fleet.send(slot, &WorkerCommand::Signal { claim, signal })
            }
            Effect::Terminate { slot, claim } => self.fleet.send(slot, &WorkerCommand::Terminate { claim }),
            Effect::Kill { slot, claim } => self.fleet.send(slot, &WorkerCommand::Kill { claim }),
            Effect::KillWorker { slot } => {
                tracing::warn!(worker = %self.slot_name(slot), "a worker is killed");
                self.fleet.kill(slot);
            }
            Effect::Reply { call, reply, last } => self.reply(call, reply, last),
            Effect::Exit => self.exiting = true,
        }
    }

    /// To the disk, or where the job is kept in memory alone, there.
    fn hand_to_store(&mut self, op: StoreOp) {
        match &op {
            StoreOp::Insert { first, jobs, .. } if jobs.first().is_some_and(|work| work.volatile) => {
                let next = first.0 + jobs.len() as u64;
                let reservation = self.reserved_ids.ask(next, op);
                self.ops.extend(reservation);
                self.insert_volatile();
            }
            _ => self.ops.extend(self.volatile.take(op)),
        }
    }

    fn insert_volatile(&mut self) {
        while let Some(insertion) = self.reserved_ids.next_ready() {
            self.ops.extend(self.volatile.take(insertion));
        }
    }

    /// While the store cannot be written, no ids can be set aside.
    fn refuse_without_ids(&mut self) {
        let Some(reason) = self.store_failure.clone() else { return };
        for insertion in self.reserved_ids.give_up() {
            let StoreOp::Insert { call, .. } = insertion else { continue };
            let refusal = Refusal::StoreFailed { reason: reason.clone() };
            self.handle(Event::Store(StoreAnswer::Refused { call, refusal }));
        }
    }

    /// What is kept in memory alone is answered at once, but only when whoever asked is done.
    fn take_volatile_answers(&mut self) {
        self.refuse_without_ids();
        while let Some(answer) = self.volatile.answer() {
            self.hear_of_answer(&answer);
            match answer {
                StoreAnswer::Got { call, .. } if self.queries.contains_key(&call) => {
                    self.on_query_answer(call, answer)
                }
                answer => self.handle(Event::Store(answer)),
            }
        }
    }

    fn slot_name(&self, slot: SlotId) -> String {
        format!("{}/{}", lane_name(slot.lane, &self.pool_names), slot.index)
    }

    fn prune_if_due(&mut self) {
        let ends = (self.config.history.max_jobs / PRUNE_PART).clamp(1, PRUNE_EVERY);
        if self.ends_since_prune >= ends
            || self.bytes_since_prune > self.max_history_output_bytes() / PRUNE_PART
        {
            self.prune();
        }
    }

    fn prune(&mut self) {
        (self.ends_since_prune, self.bytes_since_prune) = (0, 0);
        let max_output_bytes = self.max_history_output_bytes();
        let history = &self.config.history;
        let max_age_us = i64::try_from(history.max_age.as_micros()).unwrap_or(i64::MAX);
        self.ops.push(StoreOp::Prune {
            max_jobs: history.max_jobs,
            ended_before_us: self.clock.now().wall_us.saturating_sub(max_age_us),
            max_output_bytes,
            batch: PRUNE_BATCH,
        });
    }

    fn on_pruned(&mut self, jobs: &[(JobId, u32)], callbacks: &[(crate::job::CallbackId, u32)], more: bool) {
        // The last folder looked at, and whether it is there: that of many calls which have written nothing is not.
        let mut last = (PathBuf::new(), false);
        for &(id, attempts) in jobs {
            let unit = Unit::Job(id);
            let folder = output::folder(&self.place.state_dir, unit);
            if last.0 != folder {
                let is_there = folder.exists();
                last = (folder, is_there);
            }
            if !last.1 {
                continue;
            }
            (1..=attempts)
                .rev()
                .take(KEPT_ATTEMPTS)
                .for_each(|attempt| self.remove_output(Claim { unit, attempt }));
        }
        for &(id, attempts) in callbacks {
            let unit = Unit::Callback(id);
            (1..=attempts).for_each(|attempt| self.remove_output(Claim { unit, attempt }));
        }
        if more {
            self.prune();
        }
    }

    /// Of a job, the output of the latest attempt is kept; that of the one before goes when it is known that another has been started. Whoever
    /// reads it has it open.
    fn drop_earlier_output(&self, op: &StoreOp) {
        let (id, attempt) = match op {
            StoreOp::Start { id, attempt, .. } => (*id, *attempt),
            StoreOp::AttemptFailed { id, start: Some(start), .. }
            | StoreOp::Finish { id, start: Some(start), .. } => (*id, start.attempt),
            _ => return,
        };
        if attempt > 1 {
            self.remove_output(Claim { unit: Unit::Job(id), attempt: attempt - 1 });
        }
    }

    fn remove_output(&self, claim: Claim) {
        let (stdout, stderr) = output::paths(&self.place.state_dir, claim);
        for path in [stdout, stderr] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, path = %path.display(), "cannot remove old output");
            }
        }
    }

    fn end_turn(&mut self) {
        for (call, (results, last)) in self.briefs.drain() {
            self.server.reply(call, &Submitted { results, ..Submitted::default() }, Vec::new(), last);
        }
        // The workers first: they may be idle.
        self.fleet.flush();
        self.submit_ops();
    }

    fn submit_ops(&mut self) {
        if !self.ops.is_empty() {
            self.store.submit(std::mem::take(&mut self.ops));
        }
    }

    fn close(mut self, end: End) -> anyhow::Result<End> {
        if end == End::Orphaned {
            tracing::error!(
                "the guardian is dead: everything that runs is killed; the next start goes on with it"
            );
            process::sweep();
            self.containment.remove();
            // Interrupted attempts are found by the next start as they are; what has ended is still written.
            self.end_turn();
            self.store.close()?;
            return Ok(end);
        }
        self.end_turn();
        self.end_all_events();
        self.server.flush(&mut Vec::new());
        drop(self.fleet);
        self.containment.remove();
        self.store.close().context("something could not be written at the end")?;
        tracing::info!("ended in order");
        Ok(end)
    }
}

/// The two clocks that the scheduler is told.
#[derive(Debug)]
struct Clock {
    start: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now() }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.start.elapsed(), wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX) }
    }
}
