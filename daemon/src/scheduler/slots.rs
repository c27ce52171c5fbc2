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
//! Free slots are used in turn, the one that has been idle longest first.
//!
//! In a warm pool each worker keeps a resident program, and lives as long as that. One that is worn gets a successor, a second worker for
//! the same slot, which takes its place once it is ready and the slot is free.

use std::collections::VecDeque;
use std::time::Duration;

use pool_proto::interface::SlotState;

use crate::job::{Process, Unit, Wear};

/// A replacement for a worker that died without finishing anything waits so long, doubled with each such death.
const RESPAWN_BACKOFF: Duration = Duration::from_millis(50);
const RESPAWN_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Programs in a row that died without an answer before a slot is called failed; it is tried on all the same.
const FAILED_AFTER: u32 = 5;

/// A place for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// No worker; one is on its way, or will be at `retry_at`.
    Down {
        retry_at: Option<Duration>,
    },
    /// Its worker's program is not ready yet.
    Starting {
        pid: i32,
    },
    Idle {
        pid: i32,
    },
    Busy {
        pid: i32,
        unit: Unit,
    },
    /// Its worker has been told to end, with its program.
    Spoilt {
        pid: i32,
    },
    /// The lane has been made smaller. Its worker has been let go and is not replaced; `leaving` until it is gone.
    Retired {
        leaving: Option<i32>,
    },
}

impl Slot {
    /// The worker in it.
    pub fn pid(self) -> Option<i32> {
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
        pid: i32,
    },
    Ready {
        pid: i32,
        resident: Resident,
    },
}

/// A slot, with all that is known of it.
#[derive(Debug)]
struct Place {
    slot: Slot,
    /// Workers in a row that it has lost without one finished attempt.
    failures: u32,
    /// What became of the worker that it has lost last.
    reason: String,
    resident: Resident,
    /// The resident program is to be replaced.
    worn: bool,
    successor: Option<Successor>,
    /// The worker that is being killed, and what for.
    verdict: Option<(i32, String)>,
}

/// What a change of size asks for, by the slots' indices.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resized {
    pub spawn: Vec<u32>,
    pub retire: Vec<u32>,
    /// Slots whose successor is to go.
    pub drop_successor: Vec<u32>,
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
    places: Vec<Place>,
    /// Indices of the idle slots, the longest idle first.
    turn: VecDeque<u32>,
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
        self.wanted = wanted;
        let mut resized = Resized::default();
        for index in 0..self.places.len() as u32 {
            match self.place(index).slot {
                Slot::Idle { .. } | Slot::Starting { .. } if index >= wanted => resized.retire.push(index),
                Slot::Retired { leaving: None } if index < wanted => resized.spawn.push(index),
                // A busy one goes when it is vacated; one that is leaving or down is seen to when that is over.
                Slot::Starting { .. }
                | Slot::Idle { .. }
                | Slot::Down { .. }
                | Slot::Busy { .. }
                | Slot::Spoilt { .. }
                | Slot::Retired { .. } => {}
            }
            if index >= wanted && self.place_mut(index).successor.take().is_some() {
                resized.drop_successor.push(index);
            }
        }
        for &index in &resized.retire {
            self.retire(index);
        }
        for &index in &resized.spawn {
            self.place_mut(index).slot = Slot::Down { retry_at: None };
        }
        while (self.places.len() as u32) < wanted {
            resized.spawn.push(self.places.len() as u32);
            self.places.push(Place::new());
        }
        resized
    }

    pub fn get(&self, index: u32) -> Slot {
        self.place(index).slot
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Slot)> + '_ {
        (0..).zip(self.places.iter().map(|place| place.slot))
    }

    /// How many slots the lane is to have.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    /// The slot has a worker.
    pub fn up(&mut self, index: u32, pid: i32) {
        let warm = self.warm;
        let place = self.place_mut(index);
        (place.worn, place.resident) = (false, Resident::default());
        if warm { place.slot = Slot::Starting { pid } } else { self.set_idle(index, pid) }
    }

    fn set_idle(&mut self, index: u32, pid: i32) {
        self.place_mut(index).slot = Slot::Idle { pid };
        self.turn.push_back(index);
    }

    pub fn has_idle(&self) -> bool {
        !self.turn.is_empty()
    }

    /// The slot whose turn it is, and its worker's pid; it is taken for `unit`.
    pub fn take(&mut self, unit: Unit) -> Option<(u32, i32)> {
        let index = self.turn.pop_front()?;
        let Slot::Idle { pid } = self.place(index).slot else { unreachable!("only idle slots have a turn") };
        self.place_mut(index).slot = Slot::Busy { pid, unit };
        Some((index, pid))
    }

    /// The slot is free again.
    pub fn vacate(&mut self, index: u32) -> Next {
        let Slot::Busy { pid, .. } = self.place(index).slot else { return Next::Nothing };
        self.place_mut(index).failures = 0;
        if index >= self.wanted {
            self.retire(index);
            return Next::Retire;
        }
        self.set_idle(index, pid);
        self.swap_if_ready(index)
    }

    fn retire(&mut self, index: u32) {
        let leaving = self.place(index).slot.pid();
        self.place_mut(index).slot = Slot::Retired { leaving };
        self.turn.retain(|&other| other != index);
    }

    /// Why the slot is down, or its worn program has not been replaced: what became of the worker that it has lost last.
    pub fn reason(&self, index: u32) -> Option<String> {
        Some(self.place(index).reason.clone()).filter(|reason| !reason.is_empty())
    }

    /// That worker is going to be killed, for that reason.
    pub fn condemn(&mut self, index: u32, worker: i32, reason: String) {
        self.place_mut(index).verdict.get_or_insert((worker, reason));
    }

    /// What that worker was killed for.
    pub fn take_verdict(&mut self, index: u32, worker: i32) -> Option<String> {
        self.place_mut(index).verdict.take_if(|(condemned, _)| *condemned == worker).map(|(_, reason)| reason)
    }

    /// The worker is being ended because somebody wants that, which is no failure of its program.
    pub fn forgive(&mut self, index: u32) {
        self.place_mut(index).failures = 0;
    }

    /// The slot's worker is dead, or could not be started, for that reason.
    pub fn lost(&mut self, index: u32, now: Duration, reason: String) -> Next {
        self.turn.retain(|&other| other != index);
        let wanted = self.wanted;
        let place = self.place_mut(index);
        place.reason = reason;
        place.resident = Resident::default();
        if index >= wanted {
            place.slot = Slot::Retired { leaving: None };
            return Next::Nothing;
        }
        let backoff = place.fail();
        place.worn = false;
        match place.successor.take() {
            Some(Successor::Starting { pid }) => {
                place.slot = Slot::Starting { pid };
                Next::Swap
            }
            Some(Successor::Ready { pid, resident }) => {
                place.resident = resident;
                self.set_idle(index, pid);
                Next::Swap
            }
            // It will be told as the slot's own.
            Some(Successor::Asked) => {
                place.slot = Slot::Down { retry_at: None };
                Next::Nothing
            }
            None => {
                place.slot = Slot::Down { retry_at: Some(now + backoff) };
                Next::RespawnAt(now + backoff)
            }
        }
    }

    /// The time has come for the slot's next worker; false when it is not waiting for one.
    pub fn respawn(&mut self, index: u32, now: Duration) -> bool {
        match self.place(index).slot {
            Slot::Down { retry_at: Some(at) } if at <= now => {
                self.place_mut(index).slot = Slot::Down { retry_at: None };
                true
            }
            Slot::Down { .. }
            | Slot::Starting { .. }
            | Slot::Idle { .. }
            | Slot::Busy { .. }
            | Slot::Spoilt { .. }
            | Slot::Retired { .. } => false,
        }
    }

    // ---- resident programs ----

    pub fn resident(&self, index: u32) -> Resident {
        self.place(index).resident
    }

    /// Whether that worker's program is yet to become ready, in the slot's place or as its successor.
    pub fn is_starting(&self, index: u32, worker: i32) -> bool {
        let place = self.place(index);
        place.slot == Slot::Starting { pid: worker }
            || place.successor == Some(Successor::Starting { pid: worker })
    }

    /// Whether that worker is the slot's successor.
    pub fn is_successor(&self, index: u32, worker: i32) -> bool {
        match self.place(index).successor {
            Some(Successor::Starting { pid } | Successor::Ready { pid, .. }) => pid == worker,
            Some(Successor::Asked) | None => false,
        }
    }

    /// That worker's program is ready.
    pub fn ready(&mut self, index: u32, worker: i32, process: Process, now: Duration) -> Next {
        let resident = Resident { process: Some(process), ready_at: now, calls: 0 };
        if self.place(index).slot == (Slot::Starting { pid: worker }) {
            let place = self.place_mut(index);
            place.resident = resident;
            place.reason.clear();
            self.set_idle(index, worker);
        } else if self.place(index).successor == Some(Successor::Starting { pid: worker }) {
            self.place_mut(index).successor = Some(Successor::Ready { pid: worker, resident });
        }
        self.swap_if_ready(index)
    }

    /// The program has answered a call, and how much memory it has, where that was looked at; true when it is worn.
    pub fn answered(&mut self, index: u32, rss_bytes: Option<u64>, now: Duration, wear: &Wear) -> bool {
        let resident = &mut self.place_mut(index).resident;
        resident.calls += 1;
        let is_beyond = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value >= limit);
        is_beyond(wear.max_calls, resident.calls)
            || rss_bytes.is_some_and(|bytes| is_beyond(wear.max_rss_bytes, bytes))
            || wear.max_age.is_some_and(|age| now >= resident.ready_at + age)
    }

    /// The program is to be replaced; true when a successor is to be started for that.
    pub fn wear_out(&mut self, index: u32) -> bool {
        let wanted = self.wanted;
        let place = self.place_mut(index);
        let lives = matches!(place.slot, Slot::Starting { .. } | Slot::Idle { .. } | Slot::Busy { .. });
        place.worn |= lives;
        let is_due = lives && index < wanted && place.successor.is_none();
        if is_due {
            place.successor = Some(Successor::Asked);
        }
        is_due
    }

    /// Whether the slot's program is to be replaced and nothing has come of that yet.
    pub fn is_worn(&self, index: u32) -> bool {
        self.place(index).worn
    }

    /// The successor has been started; with [`Next::Swap`] it is the slot's own worker, its predecessor being dead.
    pub fn successor_up(&mut self, index: u32, pid: i32) -> Next {
        let place = self.place_mut(index);
        match (place.slot, place.successor) {
            (_, Some(Successor::Asked)) => {
                place.successor = Some(Successor::Starting { pid });
                Next::Nothing
            }
            (Slot::Down { retry_at: None }, _) => {
                (place.slot, place.resident) = (Slot::Starting { pid }, Resident::default());
                Next::Swap
            }
            (_, _) => Next::Retire,
        }
    }

    /// The successor could not be started, or is dead. Returns when to try again.
    pub fn successor_lost(&mut self, index: u32, now: Duration, reason: String) -> Next {
        let place = self.place_mut(index);
        place.reason = reason;
        let backoff = place.fail();
        match (place.slot, place.successor.take()) {
            (Slot::Down { retry_at: None }, None) => {
                place.slot = Slot::Down { retry_at: Some(now + backoff) };
                Next::RespawnAt(now + backoff)
            }
            (_, Some(_)) => Next::RespawnAt(now + backoff),
            (_, None) => Next::Nothing,
        }
    }

    /// The worker has been told to end. It has no attempt any more, and gets none.
    pub fn spoil(&mut self, index: u32) {
        match self.place(index).slot {
            Slot::Starting { pid } | Slot::Idle { pid } | Slot::Busy { pid, .. } => {
                self.turn.retain(|&other| other != index);
                self.place_mut(index).slot = Slot::Spoilt { pid };
            }
            Slot::Down { .. } | Slot::Spoilt { .. } | Slot::Retired { .. } => {}
        }
    }

    fn swap_if_ready(&mut self, index: u32) -> Next {
        let place = self.place_mut(index);
        let (Slot::Idle { .. }, Some(Successor::Ready { pid, resident })) = (place.slot, place.successor)
        else {
            return Next::Nothing;
        };
        (place.slot, place.successor, place.worn, place.resident) =
            (Slot::Idle { pid }, None, false, resident);
        place.failures = 0;
        place.reason.clear();
        Next::Swap
    }

    /// As clients see it.
    pub fn state(&self, index: u32) -> SlotState {
        let place = self.place(index);
        match place.slot {
            Slot::Down { .. } if !self.warm => SlotState::Down,
            Slot::Down { .. } if place.failures >= FAILED_AFTER => SlotState::Failed,
            Slot::Down { .. } if place.failures > 0 => SlotState::BackingOff,
            Slot::Down { .. } | Slot::Starting { .. } => SlotState::Starting,
            Slot::Idle { .. } if place.worn || place.successor.is_some() => SlotState::Recycling,
            Slot::Idle { .. } => SlotState::Idle,
            Slot::Busy { .. } => SlotState::Busy,
            Slot::Spoilt { .. } => SlotState::BackingOff,
            Slot::Retired { .. } => SlotState::Down,
        }
    }

    fn place(&self, index: u32) -> &Place {
        &self.places[index as usize]
    }

    fn place_mut(&mut self, index: u32) -> &mut Place {
        &mut self.places[index as usize]
    }
}

impl Place {
    fn new() -> Self {
        Self {
            slot: Slot::Down { retry_at: None },
            failures: 0,
            reason: String::new(),
            resident: Resident::default(),
            worn: false,
            successor: None,
            verdict: None,
        }
    }

    /// Counts a death; how long to wait before the next start. The first one is replaced at once: most are a kill, not a condition that lasts.
    fn fail(&mut self) -> Duration {
        self.failures += 1;
        match self.failures - 1 {
            0 => Duration::ZERO,
            more => RESPAWN_BACKOFF.saturating_mul(1 << (more - 1).min(10)).min(RESPAWN_BACKOFF_MAX),
        }
    }
}
