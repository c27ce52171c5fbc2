//! What the core wants done: workers, attempts, and changes for the engine.

use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use pool_proto::location::SOCKET_VARIABLE;
use pool_proto::nouns::HappeningKind;
use pool_proto::{Json, OsText};

use super::launch::{self, DAEMON_VARIABLE};
use super::turn::{Inbox, Input, Outside};
use super::{Shell, clock};
use crate::core::{self, LaneId, Now, SeatOf, SlotId};
use crate::desk;
use crate::engine::{Answer, CallbackEnd, CallbackRun, Change, Said};
use crate::files::{layout, output, slot_output};
use crate::fleet::{LogPart, ResidentSeat, Seat};
use crate::job::{
    Answered, Call, CallbackId, Claim, Items, JobId, JobKind, KEPT_ATTEMPTS, Place, ProcessId, Unit, Work,
};
use crate::worker::protocol::{Run, WorkerCommand};

/// JSON-RPC's number for an error that is not the caller's.
const INTERNAL_ERROR: i32 = -32603;

impl Outside for Shell {
    fn now(&self) -> Now {
        clock::now()
    }

    fn perform(&mut self, effect: core::Effect, inbox: &mut Inbox) {
        match effect {
            core::Effect::AskOverdue { term, after, until_us, limit } => {
                self.engine.ask_overdue(term, after, until_us, limit);
            }
            core::Effect::Insert { request, jobs, times, is_urgent } => {
                self.engine.insert(request, jobs, times, is_urgent);
            }
            core::Effect::Change(change) => {
                self.drop_earlier_output(&change);
                tracing::debug!(?change, "change");
                if let Change::EndCallback { id, end: CallbackEnd::Failed, exit_code } = &change {
                    tracing::warn!(
                        callback = %id, ?exit_code,
                        "a callback has failed for the last time: see `poolctl callbacks show {id}`"
                    );
                }
                self.engine.change(change);
            }
            core::Effect::Want { pool, credit, ahead_of } => self.engine.want(&pool, credit, ahead_of),
            core::Effect::SetRoom { label, room } => self.engine.set_room(&label, room),
            core::Effect::SetCapacity { pool, capacity } => self.engine.set_capacity(&pool, capacity),
            core::Effect::AskOffers { pool } => self.engine.ask_offers(&pool),
            core::Effect::GiveBack(ready) => self.engine.give_back(ready),

            core::Effect::SpawnWorker { slot, seat } => {
                inbox.extend(self.spawn_worker(slot, &seat));
                inbox.extend(self.contained_if_changed());
            }
            core::Effect::SpawnSuccessor { slot, seat } => {
                inbox.extend(self.spawn_successor(slot, &seat));
                inbox.extend(self.contained_if_changed());
            }
            core::Effect::RetireWorker { slot } => self.fleet.retire(slot),
            core::Effect::SwapWorker { slot } => self.fleet.swap(slot),
            core::Effect::KillSuccessor { slot } => self.fleet.kill_successor(slot),
            core::Effect::KillWorker { slot } => {
                tracing::warn!(worker = %self.name_of(slot), "a worker is killed");
                self.fleet.kill(slot);
            }
            core::Effect::Run { slot, claim, work, items, ahead } => {
                self.run(slot, claim, &work, &items, ahead, inbox);
            }
            core::Effect::TakeBack { slot, claim } => {
                self.fleet.send(slot, &WorkerCommand::GiveBack { claim });
            }
            core::Effect::RunCallback { slot, run } => self.run_callback(slot, &run),
            core::Effect::Signal { slot, claim, signal } => {
                self.fleet.send(slot, &WorkerCommand::Signal { claim, signal });
            }
            core::Effect::Steer { slot, claim, steer } => self.fleet.steer(slot, claim, steer),
            core::Effect::Freeze { slot, claim } => {
                self.fleet.send(slot, &WorkerCommand::SetFrozen { claim, frozen: true });
            }
            core::Effect::Thaw { slot, claim } => {
                self.fleet.send(slot, &WorkerCommand::SetFrozen { claim, frozen: false });
            }
            core::Effect::Terminate { slot, claim } => {
                self.fleet.send(slot, &WorkerCommand::Terminate { claim })
            }
            core::Effect::Kill { slot, claim } => self.fleet.send(slot, &WorkerCommand::Kill { claim }),

            core::Effect::Exit => self.exiting = true,
            core::Effect::Tell(_) => unreachable!("facts are for the desk"),
        }
    }

    fn serve(&mut self, effect: desk::Effect, inbox: &mut Inbox) {
        self.serve_clients(effect, inbox);
    }

    fn said_at_once(&mut self) -> Option<Said> {
        let said = self.engine.next_at_once()?;
        self.heed(&said);
        Some(said)
    }

    fn said(&mut self) -> Option<Said> {
        let said = self.engine.next(clock::now().wall_us)?;
        self.heed(&said);
        Some(said)
    }
}

impl Shell {
    /// What follows from the engine's words for files and for the log.
    fn heed(&mut self, said: &Said) {
        match said {
            Said::Answer(Answer::Ended { stdin: Some(token), .. }) => {
                self.remover.remove_stdin(token.clone())
            }
            Said::Answer(Answer::Removed { jobs, callbacks, .. }) => self.remove_outputs(jobs, callbacks),
            Said::Answer(Answer::Pruned { jobs, callbacks, outputs, .. }) => {
                self.remove_outputs(jobs, callbacks);
                self.remove_outputs(outputs, &[]);
            }
            Said::Failing { reason } => {
                tracing::error!(
                    reason,
                    "the store cannot be written: new jobs are refused, running jobs go on, their ends are kept"
                );
            }
            Said::Recovered => tracing::warn!("the store can be written again; nothing is missing"),
            Said::Answer(_) | Said::Offered { .. } | Said::BeyondCapacity { .. } | Said::TooSmall { .. } => {}
        }
    }
}

impl Shell {
    // ---- workers ----

    fn spawn_worker(&mut self, slot: SlotId, seat: &SeatOf) -> Vec<Input> {
        match self.seat_worker(slot, seat, false) {
            Ok(pid) => {
                tracing::debug!(worker = %self.name_of(slot), %pid, "worker started");
                let up = Input::Core(core::Event::WorkerUp { slot, pid });
                vec![self.notice(HappeningKind::WorkerUp, slot, pid, None), up]
            }
            Err(error) => {
                tracing::warn!(?slot, %error, "cannot start a worker for now");
                let reason = format!("its worker cannot be started: {error}");
                vec![Input::Core(core::Event::WorkerFailed { slot, reason })]
            }
        }
    }

    fn spawn_successor(&mut self, slot: SlotId, seat: &SeatOf) -> Vec<Input> {
        match self.seat_worker(slot, seat, true) {
            Ok(pid) => {
                tracing::debug!(worker = %self.name_of(slot), %pid, "a worker's successor started");
                let up = Input::Core(core::Event::SuccessorUp { slot, pid });
                vec![self.notice(HappeningKind::WorkerUp, slot, pid, None), up]
            }
            Err(error) => {
                tracing::warn!(?slot, %error, "cannot start a worker's successor for now");
                let reason = format!("its successor cannot be started: {error}");
                vec![Input::Core(core::Event::SuccessorFailed { slot, reason })]
            }
        }
    }

    fn seat_worker(&mut self, slot: SlotId, seat: &SeatOf, is_successor: bool) -> io::Result<ProcessId> {
        let lane: Arc<str> = match slot.lane {
            LaneId::Pool(_) => seat.pool.clone().unwrap_or_else(|| Arc::from("?")),
            LaneId::Callbacks => Arc::from("callbacks"),
        };
        if let (LaneId::Pool(id), Some(name)) = (slot.lane, &seat.pool) {
            self.pool_names.insert(id, name.clone());
        }

        let isolate = self.containment.isolate_of(slot, &lane);
        let group = self.containment.group_of(slot, &lane, seat.program.is_some());

        let resident = seat.program.clone().map(|program| {
            let log = output::create_unnamed(&self.site.state_dir)?;
            let variables = [
                ("POOL_POOL", OsText::from(&*lane)),
                ("POOL_SLOT", slot.index.to_string().into()),
                (SOCKET_VARIABLE, self.site.socket.clone()),
                (DAEMON_VARIABLE, self.site.daemon.as_str().into()),
            ];
            let variables = variables.map(|(name, value)| (name.into(), value)).into();
            Ok::<_, io::Error>(ResidentSeat { program, variables, log, is_successor })
        });
        let output = self.slot_prefix(slot);
        self.fleet.spawn(Seat { slot, pool: &lane, output, group, isolate, resident: resident.transpose()? })
    }

    /// What the paths of a slot's blank output files begin with.
    pub(super) fn slot_prefix(&self, slot: SlotId) -> PathBuf {
        let pool = self.pool_of(slot).map(|name| &**name);
        layout::slot_prefix(&self.site.state_dir, pool, slot.index)
    }

    /// What is left of the attempt of a dead worker gets the attempt's names.
    pub(super) fn adopt_output(&self, slot: SlotId, left: Option<Claim>) {
        let names = left.map(|claim| layout::paths(&self.site.state_dir, claim).into());
        if let Err(error) = slot_output::adopt(&self.slot_prefix(slot), names) {
            tracing::warn!(worker = %self.name_of(slot), %error, "cannot keep the output of an attempt that has died");
        }
    }

    /// Keeps what a program has written to its standard error during a call; its length in bytes.
    pub(super) fn keep_log(&mut self, slot: SlotId, claim: Claim, part: LogPart) -> u64 {
        if part.bytes == 0 {
            return 0;
        }
        let (_, path) = layout::paths(&self.site.state_dir, claim);
        let kept = output::create(&path).and_then(|(mut file, _)| self.fleet.copy_log(slot, part, &mut file));
        // At once: there may be no next call as long as it fills the disk.
        self.fleet.trim_log(slot);
        kept.unwrap_or_else(|error| {
            tracing::warn!(%claim, %error, "what a program wrote to its standard error cannot be kept");
            0
        })
    }

    // ---- attempts ----

    fn run(
        &mut self,
        slot: SlotId,
        claim: Claim,
        work: &Work,
        items: &Items,
        ahead: bool,
        inbox: &mut Inbox,
    ) {
        match (&work.kind, claim.unit) {
            (JobKind::Call(Call { lost: Some(reason), .. }), Unit::Job(_)) => {
                let reason = format!("what was passed to the call is lost: {reason}");
                let error = serde_json::json!({ "code": INTERNAL_ERROR, "message": reason });
                let result = Err(Json::parse(&error.to_string()).expect("it is JSON"));
                let answered = Answered { result, stderr_bytes: 0, rss_bytes: None };
                inbox.push_back(Input::Core(core::Event::Answered { slot, claim, answered }));
            }
            (JobKind::Call(call), Unit::Job(id)) => self.fleet.call(slot, claim, id, call),
            (JobKind::Exec(argv), _) => {
                let max_output_bytes = self.config.max_output_bytes_of(&work.pool);
                let launch = launch::job(&self.site, slot, claim, work, items, argv);
                let run = Run { max_output_bytes, idle_timeout: work.idle_timeout, ..*launch };
                self.fleet.run(slot, &work.environment, Box::new(run), ahead);
            }
            (JobKind::Call(_), Unit::Callback(_)) => unreachable!("callbacks have a launch of their own"),
        }
    }

    fn run_callback(&mut self, slot: SlotId, run: &CallbackRun) {
        let claim = Claim { unit: Unit::Callback(run.id), attempt: run.attempt };
        let max_output_bytes = self.config.max_output_bytes.map(NonZeroU64::get);
        let launch = Run { max_output_bytes, ..*launch::callback(&self.site, claim, run) };
        self.fleet.run(slot, &run.work.environment, Box::new(launch), false);
    }

    // ---- files that nobody needs any more ----

    /// Of a job, the output of the latest attempts is kept; that of the oldest of them goes when it is known
    /// that another has been started. Whoever reads it has it open.
    fn drop_earlier_output(&self, change: &Change) {
        let Change::Move(moved) = change else { return };
        let has_started = matches!(moved.to, Place::Running(_)) || moved.start.is_some();
        if has_started && moved.tries.attempts > KEPT_ATTEMPTS {
            let attempt = moved.tries.attempts - KEPT_ATTEMPTS;
            self.remover.remove_output(Claim { unit: Unit::Job(moved.id), attempt });
        }
    }

    fn remove_outputs(&mut self, jobs: &[(JobId, u32)], callbacks: &[(CallbackId, u32)]) {
        for &(id, attempts) in jobs {
            self.remover.forget(Unit::Job(id), attempts);
        }
        for &(id, attempts) in callbacks {
            self.remover.forget(Unit::Callback(id), attempts);
        }
        if !self.remover.has_room() {
            self.engine.hold_pruning();
        }
    }
}
