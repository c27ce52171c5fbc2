//! The shell: the one process, and but for the engine's, the files' and those for large messages the one
//! thread, in which everything meets. A readiness loop turns what has happened into events, [`turn`] hands
//! them to the two machines, and what the machines want is done here. The shell decides nothing.
//!
//! ```text
//!   clients ──▶ server ──┐                                    ┌──▶ server ──▶ replies
//!   workers ──▶ fleet ───┼──▶ inbox ──▶ core, desk ──▶ effects ┼──▶ fleet ───▶ attempts
//!   the engine's answers ┤                                    └──▶ engine ──▶ changes
//!   signals, deadlines ──┘
//! ```
//!
//! All changes of one turn go to the engine before any bytes go out to clients, so that its fsync begins as
//! early as it can.

mod account;
mod alarm;
mod clock;
mod containment;
mod hear;
mod launch;
mod perform;
mod recovery;
mod reload;
mod serve;
mod service_manager;
mod start;
pub mod turn;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mio::{Events, Poll, Token};
use signal_hook_mio::v1_0::Signals;

use crate::core::PoolId;
use crate::engine::Engine;
use crate::engine::sqlite::{Sqlite, is_full_disk};
use crate::files::measurer::Measurer;
use crate::files::remover::Remover;
use crate::files::timekeeper::Timekeeper;
use crate::fleet::Fleet;
use crate::job::{Claim, Environment};
use crate::kernel::{PATIENCE, Sweeper};
use crate::server::{Readiness, Server, ServerEvent};
use crate::start::cli::SupervisorOptions;
use crate::start::config::Config;
use crate::start::handover::Handover;
use crate::start::last_good::Loaded;
use alarm::{Alarm, WallWatch};
use containment::Containment;
use launch::Site;
use service_manager::ServiceManager;
use turn::Machines;

const LISTENER: Token = Token(0);
/// All threads but this one.
const THREADS: Token = Token(1);
const SIGNALS: Token = Token(2);
const LIFELINE: Token = Token(3);
const ALARM: Token = Token(4);
const WALL: Token = Token(5);
const FIRST_WORKER: usize = 16;

/// After running out of descriptors clients are accepted again so much later, should none be closed before.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How the supervisor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupervisorEnd {
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
    /// It never served, since the disk is full: another start ends in the same way until there is room.
    FullDisk(anyhow::Error),
    /// It did serve: another start may help.
    Running(anyhow::Error),
    /// It was told to end and did, but not all could be written.
    Unwritten(anyhow::Error),
}

impl Failure {
    fn of_start(error: anyhow::Error) -> Self {
        if error.chain().any(is_full_disk) { Self::FullDisk(error) } else { Self::Start(error) }
    }
}

/// See the module's description.
struct Shell {
    options: SupervisorOptions,
    config: Config,
    site: Site,
    alarm: Alarm,
    wall: WallWatch,
    engine: Engine<Sqlite>,
    server: Server,
    fleet: Fleet,
    containment: Containment,
    remover: Remover,
    measurer: Measurer,
    timekeeper: Timekeeper,
    /// The environment of resident programs that name none.
    minimal: Arc<Environment>,
    /// The names of the pools whose workers there are.
    pool_names: BTreeMap<PoolId, Arc<str>>,
    service_manager: ServiceManager,
    /// Attempts that have ended in this turn, and have written nothing: there are no files to be looked for.
    silent: Vec<Claim>,
    exiting: bool,
    lifeline: OwnedFd,
    /// Open for as long as we live.
    _locks: Vec<OwnedFd>,
}

/// The machines in their shell.
struct Supervisor {
    machines: Machines,
    shell: Shell,
}

/// Serves until told to end.
///
/// # Errors
/// See [`Failure`].
pub fn run(options: SupervisorOptions, loaded: Loaded, handover: Handover) -> Result<SupervisorEnd, Failure> {
    let start::Started { mut supervisor, mut poll, mut signals } =
        start::start(options, loaded, handover).map_err(Failure::of_start)?;
    let end = supervisor.run(&mut poll, &mut signals).map_err(Failure::Running)?;
    supervisor.close(end).map_err(Failure::Unwritten)
}

impl Supervisor {
    fn run(&mut self, poll: &mut Poll, signals: &mut Signals) -> anyhow::Result<SupervisorEnd> {
        let mut ready = Events::with_capacity(256);
        let mut clients = Vec::new();
        while !self.shell.exiting {
            let patience = self.patience(&clients).context("cannot set a timer")?;
            match poll.poll(&mut ready, patience) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }

            let inbox = &mut self.machines.inbox;
            let mut clock_was_set = false;
            for event in &ready {
                match event.token() {
                    LISTENER => self.shell.server.accept(&mut clients),
                    THREADS => {} // What they say is heard in every turn.
                    SIGNALS => self.shell.hear_signals(signals, inbox),
                    WALL => clock_was_set |= self.shell.wall.was_set(),
                    ALARM => self.shell.alarm.rang(), // What is due is seen in every turn.
                    LIFELINE => {
                        if self.shell.hear_guardian(&mut clients)? {
                            return Ok(SupervisorEnd::Orphaned);
                        }
                    }
                    token if token.0 >= crate::server::FIRST_TOKEN => {
                        self.shell.server.on_ready(token, Readiness::of(event), &mut clients);
                    }
                    token => {
                        let is_open = !event.is_read_closed();
                        self.shell.hear_workers(inbox, |fleet, out| fleet.on_ready(token, is_open, out));
                    }
                }
            }
            if clock_was_set {
                self.machines.set_clock();
            }
            self.go_on(&mut clients);
        }
        Ok(SupervisorEnd::Orderly)
    }

    /// What the last look at the descriptors has left, and then a turn of the machines.
    fn go_on(&mut self, clients: &mut Vec<ServerEvent>) {
        let Self { machines, shell } = self;
        shell.hear_workers(&mut machines.inbox, Fleet::hear_aside);
        if shell.fleet.has_unfinished() {
            shell.hear_workers(&mut machines.inbox, Fleet::read_unfinished);
        }
        if shell.fleet.is_overdue() {
            shell.hear_workers(&mut machines.inbox, Fleet::collect);
        }
        shell.server.hear_aside(clients);
        shell.server.read_unfinished(clients);
        shell.server.accept_again(clients);
        shell.hear_clients(clients, &mut machines.inbox);
        shell.hear_files(&mut machines.inbox);
        machines.tick(clock::now);

        machines.turn(shell);
        shell.silent.clear();

        // The workers first: they may be idle. Then the engine, so that its fsync begins before clients are
        // written to.
        shell.service_manager.alive(clock::now().monotonic);
        shell.fleet.flush();
        shell.engine.flush(|| machines.desk.awaited());
        shell.server.flush(clients);
    }

    /// How long the next turn may wait.
    fn patience(&mut self, clients: &[ServerEvent]) -> std::io::Result<Option<Duration>> {
        let Self { machines, shell } = self;
        let has_more = shell.server.has_unfinished() || shell.fleet.has_unfinished();
        if has_more || !clients.is_empty() || !machines.is_idle() {
            return Ok(Some(Duration::ZERO));
        }

        let moment = clock::now();
        let now = moment.monotonic;
        let accept = shell.server.is_accept_stalled().then(|| now + ACCEPT_AGAIN);
        let overdue = shell.fleet.patience().map(|left| now + left);
        let deadlines = [machines.next_deadline(moment), shell.service_manager.deadline(), overdue, accept];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return Ok(None) };
        shell.alarm.ring_by(now, deadline)?;
        // Rounded up, since a poll that ends a little early would only be done again.
        Ok(Some(deadline.saturating_sub(now) + Duration::from_millis(1)))
    }

    fn close(self, end: SupervisorEnd) -> anyhow::Result<SupervisorEnd> {
        let Self { mut machines, mut shell } = self;
        if end == SupervisorEnd::Orphaned {
            tracing::error!(
                "the guardian is dead: everything that runs is killed; the next start goes on with it"
            );
            Sweeper::new(PATIENCE).sweep();
            shell.containment.remove();
            // Interrupted attempts are found by the next start as they are; what has ended is still written.
            shell.engine.flush(|| machines.desk.awaited());
            shell.engine.into_durable().close()?;
            shell.remover.close();
            return Ok(end);
        }

        // What the end has brought about is said before the sockets close.
        machines.turn(&mut shell);
        shell.engine.flush(|| machines.desk.awaited());
        shell.server.flush(&mut Vec::new());
        drop(shell.fleet);
        shell.containment.remove();
        let written =
            shell.engine.into_durable().close().context("something could not be written at the end");
        shell.remover.close();
        written?;
        tracing::info!("ended in order");
        Ok(end)
    }
}
