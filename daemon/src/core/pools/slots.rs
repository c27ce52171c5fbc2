//! The slots of one lane and the workers in them: who is free, and whose turn it is.
//!
//! ```text
//!             worker up                  run / claim
//!   Down ───────────────────────▶ Idle ───────────────▶ Busy
//!    ▲ ▲ │                    ready ▲ │ ◀─────────────── │ │
//!    │ │ └ worker up, of a  ──▶ Starting   vacate        │ │
//!    │ │   warm pool            │   │ │                  │ │ its program is to go
//!    │ │      ┌─────────────────┘   │ └─▶ Spoilt ◀───────┼─┘
//!    │ └──────┴──── worker lost ────┼───────┴────────────┘
//!                                   └── retire ──▶ Retired
//! ```
//!
//! Free slots are used in turn, the one that has been idle longest first. A job that takes several slots runs
//! in one of them; the others are lent to it, and have no turn until it gives them back. A slot that is lent
//! may lose its worker and get another one like any other.
//!
//! A slot whose attempts are short gets the next one ahead, behind the one that it has: when that is over,
//! its worker goes on at once. Whether a job that is ahead has begun its worker alone knows, and tells.
//!
//! In a warm pool each worker keeps a resident program, and lives as long as that. One that is worn gets a
//! successor, a second worker for the same slot, which takes its place once it is ready and the slot is free.

use std::collections::VecDeque;
use std::time::Duration;

use pool_proto::nouns::SlotState;

use crate::job::{JobId, Process, ProcessId, Unit, Wear};

/// A replacement for a worker that died without finishing anything waits so long, doubled with each such
/// death.
const RESPAWN_BACKOFF: Duration = Duration::from_millis(50);
const RESPAWN_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Programs in a row that died without an answer before a slot is called failed; it is tried on all the same.
const FAILED_AFTER: u32 = 5;

/// A place for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// No worker; one is on its way, or will be at `retry_at`.
    Down {
        retry_at: Option<Duration>,
    },
    /// Its worker's program is not ready yet.
    Starting {
        pid: ProcessId,
    },
    Idle {
        pid: ProcessId,
    },
    Busy {
        pid: ProcessId,
        unit: Unit,
    },
    /// Its worker has been told to end, with its program.
    Spoilt {
        pid: ProcessId,
    },
    /// The lane has been made smaller. Its worker has been let go and is not replaced; `leaving` until it is
    /// gone.
    Retired {
        leaving: Option<ProcessId>,
    },
}

impl Occupancy {
    /// The worker in it.
    pub fn pid(self) -> Option<ProcessId> {
        match self {
            Self::Down { .. } => None,
            Self::Starting { pid } | Self::Idle { pid } | Self::Busy { pid, .. } | Self::Spoilt { pid } => {
                Some(pid)
            }
            Self::Retired { leaving } => leaving,
        }
    }
}

/// A resident program, from its start on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resident {
    /// Known once it is ready.
    pub process: Option<Process>,
    pub ready_at: Duration,
    /// Calls that it has answered.
    pub calls: u64,
}

/// The worker that is to take another one's place.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Successor {
    /// It is about to be started.
    Asked,
    Starting {
        pid: ProcessId,
    },
    Ready {
        pid: ProcessId,
        resident: Resident,
    },
    /// It is dead, or is being killed: it takes nobody's place. Its loss is told later.
    Leaving {
        pid: ProcessId,
    },
}

/// A slot, with all that is known of it.
#[derive(Debug)]
struct Station {
    slot: Occupancy,
    /// Workers in a row that it has lost without one finished attempt.
    failures: u32,
    /// What became of the worker that it has lost last.
    reason: String,
    resident: Resident,
    /// The resident program is to be replaced.
    worn: bool,
    /// The next program may be another one than those before it, and has yet to show that it stays up.
    unproven: bool,
    successor: Option<Successor>,
    /// The worker that is being killed, and what for.
    verdict: Option<(ProcessId, String)>,
    /// Workers that are being killed for new ones, through no fault of theirs.
    superseded: Vec<ProcessId>,
    /// The job whose turn it is when that in the slot is over: the worker has it.
    ahead: Option<JobId>,
    /// The latest attempt was short, and nothing has been given back since.
    is_quick: bool,
    /// Its worker has what the slot is busy with, which may be over very soon, and nothing ahead.
    takes_ahead: bool,
    /// It is among [`Slots::quick`].
    is_listed: bool,
    /// It is free for nobody: it belongs to the job of another slot, which takes several.
    lent_to: Option<JobId>,
}

/// What is to be done about a slot that is to have a new program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Workers to be ended, which serve nobody.
    pub end: Vec<ProcessId>,
    /// A successor is to be started.
    pub succeed: bool,
    /// The slot waits for its next worker until that time, and is to have it now.
    pub respawn: Option<Duration>,
}

/// What a change of size asks for, by the slots' indices.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resized {
    pub spawn: Vec<u32>,
    pub retire: Vec<u32>,
    /// Slots whose successor is to go.
    pub drop_successor: Vec<u32>,
    /// Slots that are wanted again, and whose program is to be replaced.
    pub worn: Vec<u32>,
}

/// What follows from a slot's being free, or its worker's being lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// The worker is to go, since the lane has become smaller; and its successor, if it has one.
    Retire,
    /// The successor takes the place of the worker, which goes.
    Swap,
    /// The slot is to get a worker at that time.
    RespawnAt(Duration),
}

/// The slots of a lane.
#[derive(Debug, Default)]
pub struct Slots {
    stations: Vec<Station>,
    /// Indices of the idle slots, the longest idle first.
    turn: VecDeque<u32>,
    /// Indices of busy slots that may be free very soon. Whether one is so still is looked at when it
    /// matters.
    quick: VecDeque<u32>,
    wanted: u32,
    /// Its workers keep resident programs.
    warm: bool,
}

impl Slots {
    pub fn new(warm: bool) -> Self {
        Self { warm, ..Self::default() }
    }

    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Sets the number of slots.
    pub fn resize(&mut self, wanted: u32) -> Resized {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let mut resized = Resized::default();
        for index in 0..self.stations.len() as u32 {
            match self.station(index).slot {
                Occupancy::Idle { .. } | Occupancy::Starting { .. } if index >= wanted => {
                    resized.retire.push(index)
                }
                Occupancy::Retired { leaving: None } if index < wanted => resized.spawn.push(index),
                // It waits for its next worker, which nobody wants any more.
                Occupancy::Down { retry_at: Some(_) } if index >= wanted => {
                    self.station_mut(index).slot = Occupancy::Retired { leaving: None };
                }
                // A busy one goes when it is vacated; one that is leaving, or whose worker is being started,
                // is seen to when that is over.
                Occupancy::Starting { .. }
                | Occupancy::Idle { .. }
                | Occupancy::Down { .. }
                | Occupancy::Busy { .. }
                | Occupancy::Spoilt { .. }
                | Occupancy::Retired { .. } => {}
            }
            if index >= wanted
                && let Some(successor) = self.station_mut(index).successor.take()
            {
                match successor {
                    Successor::Asked | Successor::Starting { .. } | Successor::Ready { .. } => {
                        resized.drop_successor.push(index);
                    }
                    Successor::Leaving { .. } => {}
                }
            }
            // A slot that nobody wanted for a while had no successor.
            if (before..wanted).contains(&index) && self.station(index).worn {
                resized.worn.push(index);
            }
        }
        for &index in &resized.retire {
            self.retire(index);
        }
        for &index in &resized.spawn {
            self.station_mut(index).slot = Occupancy::Down { retry_at: None };
        }
        while (self.stations.len() as u32) < wanted {
            resized.spawn.push(self.stations.len() as u32);
            self.stations.push(Station::new());
        }
        resized
    }

    pub fn get(&self, index: u32) -> Occupancy {
        self.station(index).slot
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Occupancy)> + '_ {
        (0..).zip(self.stations.iter().map(|station| station.slot))
    }

    /// How many workers in a row that slot has lost, where it has none that could take something.
    pub fn failures_of_down(&self, index: u32) -> Option<u32> {
        let station = self.station(index);
        match station.slot {
            Occupancy::Down { .. } | Occupancy::Starting { .. } | Occupancy::Spoilt { .. } => {
                Some(station.failures)
            }
            Occupancy::Idle { .. } | Occupancy::Busy { .. } | Occupancy::Retired { .. } => None,
        }
    }

    /// How many slots the lane is to have.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    /// The slot has a worker; with [`Next::Retire`] one that nobody wants any more, since the lane has become
    /// smaller meanwhile.
    pub fn up(&mut self, index: u32, pid: ProcessId) -> Next {
        let (warm, is_wanted) = (self.warm, index < self.wanted);
        let station = self.station_mut(index);
        (station.worn, station.resident) = (false, Resident::default());
        if !is_wanted {
            station.slot = Occupancy::Retired { leaving: Some(pid) };
            return Next::Retire;
        }
        if warm {
            station.slot = Occupancy::Starting { pid };
        } else {
            self.set_idle(index, pid);
        }
        Next::Nothing
    }

    fn set_idle(&mut self, index: u32, pid: ProcessId) {
        let station = self.station_mut(index);
        station.slot = Occupancy::Idle { pid };
        if station.lent_to.is_none() {
            self.turn.push_back(index);
        }
    }

    pub fn has_idle(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether so many slots are free.
    pub fn has_idle_for(&self, slots: u32) -> bool {
        self.turn.len() >= slots as usize
    }

    // ---- jobs that take several slots ----

    /// So many free slots belong to that job until it gives them back; its own is not one of them.
    pub fn lend(&mut self, id: JobId, slots: u32) {
        for index in self.turn.drain(..slots as usize).collect::<Vec<u32>>() {
            self.station_mut(index).lent_to = Some(id);
        }
    }

    /// What belonged to that job is free for everybody.
    pub fn take_back(&mut self, id: JobId) {
        for index in 0..self.stations.len() as u32 {
            let station = self.station_mut(index);
            if station.lent_to.take_if(|holder| *holder == id).is_some()
                && matches!(station.slot, Occupancy::Idle { .. })
            {
                self.turn.push_back(index);
            }
        }
    }

    /// The job of another slot that the slot belongs to.
    pub fn lent_to(&self, index: u32) -> Option<JobId> {
        self.station(index).lent_to
    }

    // ---- whose turn it is ----

    /// The slot whose turn it is, and its worker's pid; it is taken for `unit`.
    pub fn take(&mut self, unit: Unit) -> Option<(u32, ProcessId)> {
        let index = self.turn.pop_front()?;
        let Occupancy::Idle { pid } = self.station(index).slot else {
            unreachable!("only idle slots have a turn")
        };
        let station = self.station_mut(index);
        (station.slot, station.takes_ahead) = (Occupancy::Busy { pid, unit }, false);
        Some((index, pid))
    }

    /// The slot is free again, unless it goes on with what it has ahead.
    pub fn vacate(&mut self, index: u32) -> Next {
        let Occupancy::Busy { pid, .. } = self.station(index).slot else { return Next::Nothing };
        let station = self.station_mut(index);
        (station.failures, station.takes_ahead) = (0, false);
        if let Some(id) = station.ahead.take() {
            station.slot = Occupancy::Busy { pid, unit: Unit::Job(id) };
            self.list_if_quick(index);
            return Next::Nothing;
        }
        if index >= self.wanted {
            self.retire(index);
            return Next::Retire;
        }
        self.set_idle(index, pid);
        self.swap_if_ready(index)
    }

    // ---- one attempt ahead ----

    /// How the attempt that is over, or goes on, has been.
    pub fn note_quick(&mut self, index: u32, is_quick: bool) {
        let station = self.station_mut(index);
        station.is_quick = is_quick;
        station.takes_ahead &= is_quick;
    }

    /// Its worker has the attempt that the slot is busy with.
    pub fn list_if_quick(&mut self, index: u32) {
        let station = self.station_mut(index);
        station.takes_ahead = station.is_quick;
        if station.takes_ahead && !std::mem::replace(&mut station.is_listed, true) {
            self.quick.push_back(index);
        }
    }

    /// Whether a slot that is busy will be free very soon, and has nothing ahead.
    pub fn has_quick(&mut self) -> bool {
        while let Some(&index) = self.quick.front() {
            let station = self.station(index);
            if station.takes_ahead && matches!(station.slot, Occupancy::Busy { .. }) && index < self.wanted {
                return true;
            }
            self.quick.pop_front();
            self.station_mut(index).is_listed = false;
        }
        false
    }

    /// The slot that [`has_quick`](Self::has_quick) has found gets that job ahead: its index, and its
    /// worker's pid.
    pub fn take_ahead(&mut self, id: JobId) -> Option<(u32, ProcessId)> {
        let index = self.quick.pop_front()?;
        let station = self.station_mut(index);
        (station.ahead, station.takes_ahead, station.is_listed) = (Some(id), false, false);
        Some((index, station.slot.pid()?))
    }

    /// Its worker has given that job back, or is dead: the slot has nothing ahead, and is not to have
    /// anything for now.
    pub fn without_ahead(&mut self, index: u32) -> Option<JobId> {
        self.note_quick(index, false);
        self.station_mut(index).ahead.take()
    }

    /// What slots have ahead.
    pub fn ahead(&self) -> impl Iterator<Item = (u32, JobId)> + '_ {
        (0..).zip(&self.stations).filter_map(|(index, station)| Some((index, station.ahead?)))
    }

    fn retire(&mut self, index: u32) {
        let leaving = self.station(index).slot.pid();
        self.station_mut(index).slot = Occupancy::Retired { leaving };
        self.turn.retain(|&other| other != index);
    }

    /// Why the slot is down, or its worn program has not been replaced: what became of the worker that it has
    /// lost last.
    pub fn reason(&self, index: u32) -> Option<String> {
        Some(self.station(index).reason.clone()).filter(|reason| !reason.is_empty())
    }

    /// Why no slot of a warm pool will take a call, as far as can be told: what became of its programs, which
    /// have died so often in a row in each slot before they had read a call. They are tried on all the same.
    pub fn hopeless(&self, start_attempts: u32) -> Option<&str> {
        let slots = self.stations.get(..self.wanted as usize)?;
        let is_hopeless = |station: &Station| {
            let is_up = matches!(station.slot, Occupancy::Idle { .. } | Occupancy::Busy { .. });
            station.failures >= start_attempts && !is_up
        };
        let first = slots.first().filter(|_| self.warm && slots.iter().all(is_hopeless))?;
        Some(&first.reason)
    }

    /// That worker is going to be killed, for that reason.
    pub fn condemn(&mut self, index: u32, worker: ProcessId, reason: String) {
        self.station_mut(index).verdict.get_or_insert((worker, reason));
    }

    /// What that worker was killed for.
    pub fn take_verdict(&mut self, index: u32, worker: ProcessId) -> Option<String> {
        self.station_mut(index)
            .verdict
            .take_if(|(condemned, _)| *condemned == worker)
            .map(|(_, reason)| reason)
    }

    /// The worker is being ended because somebody wants that, which is no failure of its program.
    pub fn forgive(&mut self, index: u32) {
        self.station_mut(index).failures = 0;
    }

    /// The slot's worker is dead, or could not be started, for that reason.
    pub fn lost(&mut self, index: u32, now: Duration, reason: String) -> Next {
        self.turn.retain(|&other| other != index);
        let wanted = self.wanted;
        let station = self.station_mut(index);
        station.reason = reason;
        station.resident = Resident::default();
        if index >= wanted {
            station.slot = Occupancy::Retired { leaving: None };
            return Next::Nothing;
        }
        let backoff = station.fail();
        station.worn = false;
        match station.successor.take() {
            Some(Successor::Starting { pid }) => {
                station.slot = Occupancy::Starting { pid };
                Next::Swap
            }
            Some(Successor::Ready { pid, resident }) => {
                (station.resident, station.unproven) = (resident, false);
                self.set_idle(index, pid);
                Next::Swap
            }
            // It will be told as the slot's own.
            Some(Successor::Asked) => {
                station.slot = Occupancy::Down { retry_at: None };
                Next::Nothing
            }
            Some(Successor::Leaving { .. }) | None => {
                station.slot = Occupancy::Down { retry_at: Some(now + backoff) };
                Next::RespawnAt(now + backoff)
            }
        }
    }

    /// The time has come for the slot's next worker; false when it is not waiting for one.
    pub fn respawn(&mut self, index: u32, now: Duration) -> bool {
        match self.station(index).slot {
            Occupancy::Down { retry_at: Some(at) } if at <= now => {
                self.station_mut(index).slot = Occupancy::Down { retry_at: None };
                true
            }
            Occupancy::Down { .. }
            | Occupancy::Starting { .. }
            | Occupancy::Idle { .. }
            | Occupancy::Busy { .. }
            | Occupancy::Spoilt { .. }
            | Occupancy::Retired { .. } => false,
        }
    }

    // ---- resident programs ----

    pub fn resident(&self, index: u32) -> Resident {
        self.station(index).resident
    }

    /// Whether that worker's program is yet to become ready, in the slot itself or as its successor.
    pub fn is_starting(&self, index: u32, worker: ProcessId) -> bool {
        let station = self.station(index);
        station.slot == Occupancy::Starting { pid: worker }
            || station.successor == Some(Successor::Starting { pid: worker })
    }

    /// Whether that worker's program is the first of a renewal: it has yet to show that it stays up.
    pub fn is_unproven(&self, index: u32, worker: ProcessId) -> bool {
        self.station(index).unproven && self.is_starting(index, worker)
    }

    /// Whether that worker is the slot's successor.
    pub fn is_successor(&self, index: u32, worker: ProcessId) -> bool {
        match self.station(index).successor {
            Some(Successor::Starting { pid } | Successor::Ready { pid, .. } | Successor::Leaving { pid }) => {
                pid == worker
            }
            Some(Successor::Asked) | None => false,
        }
    }

    /// That worker is dead, or is going to be killed; true where it was to take the slot over, which it no
    /// longer does.
    pub fn give_up_successor(&mut self, index: u32, worker: ProcessId) -> bool {
        let station = self.station_mut(index);
        match station.successor {
            Some(Successor::Starting { pid } | Successor::Ready { pid, .. }) if pid == worker => {
                station.successor = Some(Successor::Leaving { pid });
                true
            }
            Some(
                Successor::Asked
                | Successor::Starting { .. }
                | Successor::Ready { .. }
                | Successor::Leaving { .. },
            )
            | None => false,
        }
    }

    /// That worker's program is ready.
    pub fn ready(&mut self, index: u32, worker: ProcessId, process: Process, now: Duration) -> Next {
        let resident = Resident { process: Some(process), ready_at: now, calls: 0 };
        if self.station(index).slot == (Occupancy::Starting { pid: worker }) {
            let station = self.station_mut(index);
            (station.resident, station.unproven) = (resident, false);
            station.reason.clear();
            self.set_idle(index, worker);
        } else if self.station(index).successor == Some(Successor::Starting { pid: worker }) {
            self.station_mut(index).successor = Some(Successor::Ready { pid: worker, resident });
        }
        self.swap_if_ready(index)
    }

    /// The program has answered a call, and how much memory it has, where that was looked at; true when it is
    /// worn.
    pub fn answered(&mut self, index: u32, rss_bytes: Option<u64>, now: Duration, wear: &Wear) -> bool {
        let resident = &mut self.station_mut(index).resident;
        resident.calls += 1;
        let is_beyond = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        is_beyond(wear.max_calls, resident.calls)
            || rss_bytes.is_some_and(|bytes| is_beyond(wear.max_rss_bytes, bytes))
            || wear.max_age.is_some_and(|age| now >= resident.ready_at + age)
    }

    /// The program is to be replaced; true when a successor is to be started for that.
    pub fn wear_out(&mut self, index: u32) -> bool {
        let wanted = self.wanted;
        let station = self.station_mut(index);
        let lives = matches!(
            station.slot,
            Occupancy::Starting { .. } | Occupancy::Idle { .. } | Occupancy::Busy { .. }
        );
        station.worn |= lives;
        let is_due = lives && index < wanted && station.successor.is_none();
        if is_due {
            station.successor = Some(Successor::Asked);
        }
        is_due
    }

    /// The slot is to have a new program. One that serves, or could, is replaced by a successor; what is not
    /// ready yet may be as old, and is ended for a fresh one.
    pub fn renew(&mut self, index: u32, now: Duration) -> Renewal {
        let wanted = self.wanted;
        let station = self.station_mut(index);
        let mut renewal = Renewal::default();
        match station.slot {
            Occupancy::Idle { .. } | Occupancy::Busy { .. } => {
                // Also in a slot that is too many: it may be wanted again before its call is over.
                station.worn = true;
                renewal.succeed = station.successor.is_none() && index < wanted;
            }
            Occupancy::Starting { pid } => renewal.end.push(pid),
            Occupancy::Down { retry_at: Some(at) } => {
                station.slot = Occupancy::Down { retry_at: Some(now) };
                renewal.respawn = Some(at);
            }
            Occupancy::Down { retry_at: None } | Occupancy::Spoilt { .. } | Occupancy::Retired { .. } => {}
        }
        match station.successor {
            Some(Successor::Starting { pid } | Successor::Ready { pid, .. }) => renewal.end.push(pid),
            // It is being started now; or another follows it.
            Some(Successor::Asked | Successor::Leaving { .. }) | None => {}
        }
        if renewal.succeed {
            station.successor = Some(Successor::Asked);
        }
        station.superseded.extend(&renewal.end);
        (station.failures, station.unproven) = (0, true);
        renewal
    }

    /// Whether that worker was killed for a new one.
    pub fn take_superseded(&mut self, index: u32, worker: ProcessId) -> bool {
        let superseded = &mut self.station_mut(index).superseded;
        let before = superseded.len();
        superseded.retain(|&pid| pid != worker);
        superseded.len() < before
    }

    /// Whether each slot has a program that takes calls, and that is not to be replaced.
    pub fn are_renewed(&self) -> bool {
        let is_up = |slot| matches!(slot, Occupancy::Idle { .. } | Occupancy::Busy { .. });
        let wanted = self.stations.iter().take(self.wanted as usize);
        wanted.into_iter().all(|station| is_up(station.slot) && !station.worn)
    }

    /// Whether the slot's program is to be replaced and nothing has come of that yet.
    pub fn is_worn(&self, index: u32) -> bool {
        self.station(index).worn
    }

    /// The successor has been started; with [`Next::Swap`] it is the slot's own worker, its predecessor being
    /// dead; with [`Next::Retire`] nobody wants it any more.
    pub fn successor_up(&mut self, index: u32, pid: ProcessId) -> Next {
        let is_wanted = index < self.wanted;
        let station = self.station_mut(index);
        match (station.slot, station.successor) {
            (_, Some(Successor::Asked)) => {
                station.successor = Some(Successor::Starting { pid });
                Next::Nothing
            }
            (Occupancy::Down { retry_at: None }, _) if !is_wanted => {
                station.slot = Occupancy::Retired { leaving: None };
                Next::Retire
            }
            (Occupancy::Down { retry_at: None }, _) => {
                (station.slot, station.resident) = (Occupancy::Starting { pid }, Resident::default());
                Next::Swap
            }
            (_, _) => Next::Retire,
        }
    }

    /// The successor could not be started, or is dead. Returns when to try again.
    pub fn successor_lost(&mut self, index: u32, now: Duration, reason: String) -> Next {
        let is_wanted = index < self.wanted;
        let station = self.station_mut(index);
        station.reason = reason;
        let backoff = station.fail();
        match (station.slot, station.successor.take()) {
            (Occupancy::Down { retry_at: None }, None) if !is_wanted => {
                station.slot = Occupancy::Retired { leaving: None };
                Next::Nothing
            }
            (Occupancy::Down { retry_at: None }, None) => {
                station.slot = Occupancy::Down { retry_at: Some(now + backoff) };
                Next::RespawnAt(now + backoff)
            }
            (_, Some(_)) => Next::RespawnAt(now + backoff),
            (_, None) => Next::Nothing,
        }
    }

    /// The worker has been told to end. It has no attempt any more, and gets none.
    pub fn spoil(&mut self, index: u32) {
        match self.station(index).slot {
            Occupancy::Starting { pid } | Occupancy::Idle { pid } | Occupancy::Busy { pid, .. } => {
                self.turn.retain(|&other| other != index);
                self.station_mut(index).slot = Occupancy::Spoilt { pid };
            }
            Occupancy::Down { .. } | Occupancy::Spoilt { .. } | Occupancy::Retired { .. } => {}
        }
    }

    /// That worker is dead, and is told to be lost later. One with an attempt keeps it until then.
    pub fn dying(&mut self, index: u32, worker: ProcessId) {
        if self.give_up_successor(index, worker) {
            return;
        }
        match self.station(index).slot {
            Occupancy::Starting { pid } | Occupancy::Idle { pid } if pid == worker => self.spoil(index),
            Occupancy::Busy { pid, .. } if pid == worker => self.note_quick(index, false),
            Occupancy::Starting { .. }
            | Occupancy::Idle { .. }
            | Occupancy::Busy { .. }
            | Occupancy::Down { .. }
            | Occupancy::Spoilt { .. }
            | Occupancy::Retired { .. } => {}
        }
    }

    fn swap_if_ready(&mut self, index: u32) -> Next {
        let station = self.station_mut(index);
        let (Occupancy::Idle { .. }, Some(Successor::Ready { pid, resident })) =
            (station.slot, station.successor)
        else {
            return Next::Nothing;
        };
        (station.slot, station.successor, station.worn, station.resident) =
            (Occupancy::Idle { pid }, None, false, resident);
        (station.failures, station.unproven) = (0, false);
        station.reason.clear();
        Next::Swap
    }

    /// As clients see it.
    pub fn state(&self, index: u32) -> SlotState {
        let station = self.station(index);
        match station.slot {
            Occupancy::Down { .. } if !self.warm => SlotState::Down,
            Occupancy::Down { .. } if station.failures >= FAILED_AFTER => SlotState::Failed,
            Occupancy::Down { .. } if station.failures > 0 => SlotState::BackingOff,
            Occupancy::Down { .. } | Occupancy::Starting { .. } => SlotState::Starting,
            Occupancy::Idle { .. } if station.lent_to.is_some() => SlotState::Busy,
            Occupancy::Idle { .. } if station.worn || station.successor.is_some() => SlotState::Recycling,
            Occupancy::Idle { .. } => SlotState::Idle,
            Occupancy::Busy { .. } => SlotState::Busy,
            Occupancy::Spoilt { .. } => SlotState::BackingOff,
            Occupancy::Retired { .. } => SlotState::Down,
        }
    }

    fn station(&self, index: u32) -> &Station {
        &self.stations[index as usize]
    }

    fn station_mut(&mut self, index: u32) -> &mut Station {
        &mut self.stations[index as usize]
    }
}

impl Station {
    fn new() -> Self {
        Self {
            slot: Occupancy::Down { retry_at: None },
            failures: 0,
            reason: String::new(),
            resident: Resident::default(),
            worn: false,
            unproven: false,
            successor: None,
            verdict: None,
            superseded: Vec::new(),
            ahead: None,
            is_quick: false,
            takes_ahead: false,
            is_listed: false,
            lent_to: None,
        }
    }

    /// Counts a death; how long to wait before the next start. The first one is replaced at once: most are a
    /// kill, not a condition that lasts.
    fn fail(&mut self) -> Duration {
        self.failures += 1;
        match self.failures - 1 {
            0 => Duration::ZERO,
            more => RESPAWN_BACKOFF.saturating_mul(1 << (more - 1).min(10)).min(RESPAWN_BACKOFF_MAX),
        }
    }
}
