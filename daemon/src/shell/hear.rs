//! What the workers, the clients and the kernel have to say, as events in the inbox.

use pool_proto::nouns::HappeningKind;
use std::sync::Arc;

use signal_hook::consts::{SIGCHLD, SIGHUP};
use signal_hook_mio::v1_0::Signals;

use super::turn::{Inbox, Input};
use super::{LISTENER, Shell, clock};
use crate::core::{self, LaneId, SlotId};
use crate::desk::{self, ConnectionId};
use crate::fleet::{Fleet, FleetEvent};
use crate::job::{Answered, ProcessId, Unit};
use crate::server::ServerEvent;
use crate::start::handover::{self, Word};
use crate::worker::protocol::WorkerReport;

impl Shell {
    pub(super) fn hear_workers(
        &mut self,
        inbox: &mut Inbox,
        read: impl FnOnce(&mut Fleet, &mut Vec<FleetEvent>),
    ) {
        let mut events = Vec::new();
        read(&mut self.fleet, &mut events);
        for event in events {
            self.hear_worker(event, inbox);
        }
    }

    fn hear_worker(&mut self, event: FleetEvent, inbox: &mut Inbox) {
        match event {
            FleetEvent::Report { slot, report } => {
                tracing::debug!(worker = %self.name_of(slot), ?report, "report");
                if let WorkerReport::Ended { claim, ended } = &report
                    && ended.stdout_bytes == 0
                    && ended.stderr_bytes == 0
                {
                    self.silent.push(*claim);
                }
                match &report {
                    WorkerReport::Lasting { claim } => self.timekeeper.begin(*claim),
                    WorkerReport::Ended { claim, .. } => self.timekeeper.end(*claim),
                    _ => {}
                }
                inbox.extend(event_of(slot, report).map(Input::Core));
            }
            FleetEvent::Noticed { slot, what } => {
                tracing::warn!(worker = %self.name_of(slot), "{what}");
                let pool = self.pool_of(slot).cloned();
                inbox.push_back(Input::Desk(desk::Event::Incident { slot, pool, what }));
            }
            FleetEvent::Dying { slot, pid } => {
                tracing::debug!(worker = %self.name_of(slot), %pid, "worker dead");
                inbox.push_back(Input::Core(core::Event::WorkerDying { slot, pid }));
            }
            FleetEvent::Lost { slot, pid, how, unsent, left } => {
                self.adopt_output(slot, left);
                left.into_iter().for_each(|claim| self.timekeeper.end(claim));
                if !self.exiting {
                    tracing::debug!(worker = %self.name_of(slot), %pid, how, "worker lost");
                }
                inbox.push_back(self.notice(HappeningKind::WorkerLost, slot, pid, Some(how.clone())));
                inbox.push_back(Input::Core(core::Event::WorkerLost { slot, pid, how, unsent }));
                self.forget_name(slot.lane);
            }
            FleetEvent::ProgramReady { slot, worker, process } => {
                tracing::debug!(worker = %self.name_of(slot), pid = %process.pid, "a resident program is ready");
                inbox.push_back(self.notice(HappeningKind::ProgramReady, slot, process.pid, None));
                inbox.push_back(Input::Core(core::Event::ProgramReady { slot, worker, process }));
            }
            FleetEvent::Answered { slot, claim, result, log, rss_bytes } => {
                // Of what is kept in memory alone nothing is on the disk.
                let is_volatile = matches!(claim.unit, Unit::Job(id) if self.engine.is_volatile(id));
                let stderr_bytes = if is_volatile { 0 } else { self.keep_log(slot, claim, log) };
                let answered = Answered { result, stderr_bytes, rss_bytes };
                inbox.push_back(Input::Core(core::Event::Answered { slot, claim, answered }));
            }
            FleetEvent::Progressed { slot, claim, progress } => {
                inbox.push_back(Input::Core(core::Event::Progressed { slot, claim, progress }));
            }
            FleetEvent::Misbehaved { slot, worker, during, how } => {
                tracing::warn!(worker = %self.name_of(slot), "{how}");
                inbox.push_back(Input::Core(core::Event::Misbehaved { slot, worker, during, how }));
            }
        }
    }

    pub(super) fn hear_clients(&mut self, clients: &mut Vec<ServerEvent>, inbox: &mut Inbox) {
        inbox.extend(clients.drain(..).map(|event| {
            Input::Desk(match event {
                ServerEvent::Connected { connection, uid } => {
                    desk::Event::Connected { connection: ConnectionId(connection.0), uid }
                }
                ServerEvent::Asked { connection, request, asked, more } => {
                    desk::Event::Asked { connection: ConnectionId(connection.0), request, asked, more }
                }
                ServerEvent::Disconnected { request } => desk::Event::Disconnected { request },
                ServerEvent::Closed { connection } => {
                    desk::Event::Closed { connection: ConnectionId(connection.0) }
                }
                ServerEvent::Drained { request } => desk::Event::Drained { request },
            })
        }));
    }

    /// What the threads that look after files have found, and whether they keep up.
    pub(super) fn hear_files(&mut self, inbox: &mut Inbox) {
        if let Some(running) = self.measurer.take_measured() {
            self.limit_history(running);
            let ended = self.engine.durable().ended_output_bytes();
            inbox.push_back(Input::Desk(desk::Event::Measured { ended, running }));
        }
        if self.remover.has_room() {
            self.engine.go_on_pruning(clock::now().wall_us);
        }
    }

    /// Whether the guardian is dead. Where it has another listener, clients come to that from now on.
    pub(super) fn hear_guardian(&mut self, clients: &mut Vec<ServerEvent>) -> std::io::Result<bool> {
        loop {
            match handover::hear(&self.lifeline) {
                Word::None => return Ok(false),
                Word::Dead => return Ok(true),
                Word::Listener(listener, socket) => {
                    // Those who had come before the socket was lost still wait at the old one.
                    self.server.accept(clients);
                    self.server.listen_on(listener, LISTENER)?;
                    self.server.accept(clients);
                    self.site.socket = socket.as_path().into();
                }
            }
        }
    }

    pub(super) fn hear_signals(&mut self, signals: &mut Signals, inbox: &mut Inbox) {
        for signal in signals.pending() {
            match signal {
                SIGCHLD => self.hear_workers(inbox, Fleet::collect),
                SIGHUP => {
                    self.reopen_log();
                    inbox.extend(self.reread_config());
                }
                _ => {
                    tracing::info!(signal, "told to end");
                    self.service_manager.stopping();
                    inbox.push_back(Input::Core(core::Event::Stop));
                }
            }
        }
    }

    pub(super) fn pool_of(&self, slot: SlotId) -> Option<&Arc<str>> {
        match slot.lane {
            LaneId::Pool(id) => self.pool_names.get(&id),
            LaneId::Callbacks => None,
        }
    }

    /// A lane without workers needs no name; with the next worker it has one again.
    fn forget_name(&mut self, lane: LaneId) {
        if let LaneId::Pool(id) = lane
            && !self.fleet.has_workers(lane)
        {
            self.pool_names.remove(&id);
        }
    }

    /// A slot as the log has it, and the process list.
    pub(super) fn name_of(&self, slot: SlotId) -> String {
        format!("{}/{}", self.pool_of(slot).map_or("callbacks", |name| name), slot.index)
    }

    /// For whoever listens to what happens to workers.
    pub(super) fn notice(
        &self,
        kind: HappeningKind,
        slot: SlotId,
        pid: ProcessId,
        reason: Option<String>,
    ) -> Input {
        let pool = self.pool_of(slot).cloned();
        Input::Desk(desk::Event::Worker { kind, slot, pool, pid, reason })
    }
}

/// None for what the fleet has for itself.
fn event_of(slot: SlotId, report: WorkerReport) -> Option<core::Event> {
    match report {
        WorkerReport::Started { claim, process, started_us, memory_limiter, input: _, alone: _ } => {
            Some(core::Event::Started { slot, claim, process, started_us, memory_limiter })
        }
        WorkerReport::Idle { claim } => Some(core::Event::Idle { slot, claim }),
        WorkerReport::Ended { claim, ended } => Some(core::Event::Ended { slot, claim, ended }),
        WorkerReport::GivenBack { claim } => Some(core::Event::GivenBack { slot, claim }),
        WorkerReport::Failed { claim, failure } => Some(core::Event::SpawnFailed { slot, claim, failure }),
        WorkerReport::Hello(_)
        | WorkerReport::Stuck { .. }
        | WorkerReport::Noticed { .. }
        | WorkerReport::Lasting { .. }
        | WorkerReport::ProgramStarted { .. }
        | WorkerReport::ProgramFailed { .. }
        | WorkerReport::ProgramUnheard
        | WorkerReport::ProgramEnded { .. } => None,
    }
}
