//! The slots of one lane and the workers in them: who is free, and whose turn it is.
//!
//! ```text
//!             worker up              run / claim
//!   Down ───────────────────▶ Idle ───────────────▶ Busy
//!    ▲ ▲                       │ │ ◀─────────────── │
//!    │ └─────── worker lost ───┘ │      vacate      │
//!    └───────── worker lost ─────┼──────────────────┘
//!                                └── retire ──▶ Retired
//! ```
//!
//! Free slots are used in turn, the one that has been idle longest first.

use std::collections::VecDeque;
use std::time::Duration;

use crate::job::Unit;

/// A replacement for a worker that died without finishing anything waits so long, doubled with each such death.
const RESPAWN_BACKOFF: Duration = Duration::from_millis(50);
const RESPAWN_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A place for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// No worker; one is on its way, or will be at `retry_at`.
    Down {
        retry_at: Option<Duration>,
    },
    Idle {
        pid: i32,
    },
    Busy {
        pid: i32,
        unit: Unit,
    },
    /// The lane has been made smaller. Its worker has been let go and is not replaced; `leaving` until it is gone.
    Retired {
        leaving: bool,
    },
}

/// The slots of a lane.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    /// Workers in a row that a slot has lost without one finished attempt.
    failures: Vec<u32>,
    /// What became of the worker that a slot has lost last.
    reasons: Vec<String>,
    /// Indices of the idle slots, the longest idle first.
    turn: VecDeque<u32>,
    wanted: u32,
}

impl Slots {
    /// Sets the number of slots. Returns those that need a worker, and those whose idle worker is to go.
    pub fn resize(&mut self, wanted: u32) -> (Vec<u32>, Vec<u32>) {
        self.wanted = wanted;
        let (mut spawn, mut retire) = (Vec::new(), Vec::new());
        for index in 0..self.slots.len() as u32 {
            match self.slots[index as usize] {
                Slot::Idle { .. } if index >= wanted => retire.push(index),
                Slot::Retired { leaving: false } if index < wanted => spawn.push(index),
                // A busy one goes when it is vacated; one that is leaving or down is seen to when that is over.
                Slot::Idle { .. } | Slot::Down { .. } | Slot::Busy { .. } | Slot::Retired { .. } => {}
            }
        }
        for &index in &retire {
            self.retire(index);
        }
        for &index in &spawn {
            self.slots[index as usize] = Slot::Down { retry_at: None };
        }
        while (self.slots.len() as u32) < wanted {
            spawn.push(self.slots.len() as u32);
            self.slots.push(Slot::Down { retry_at: None });
            self.failures.push(0);
            self.reasons.push(String::new());
        }
        (spawn, retire)
    }

    pub fn get(&self, index: u32) -> Slot {
        self.slots[index as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Slot)> + '_ {
        (0..).zip(self.slots.iter().copied())
    }

    /// How many slots the lane is to have.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    pub fn up(&mut self, index: u32, pid: i32) {
        self.slots[index as usize] = Slot::Idle { pid };
        self.turn.push_back(index);
    }

    pub fn has_idle(&self) -> bool {
        !self.turn.is_empty()
    }

    /// The slot whose turn it is, and its worker's pid; it is taken for `unit`.
    pub fn take(&mut self, unit: Unit) -> Option<(u32, i32)> {
        let index = self.turn.pop_front()?;
        let Slot::Idle { pid } = self.slots[index as usize] else { unreachable!("only idle slots have a turn") };
        self.slots[index as usize] = Slot::Busy { pid, unit };
        Some((index, pid))
    }

    /// The slot is free again; true when its worker is to go, since the lane has become smaller.
    pub fn vacate(&mut self, index: u32) -> bool {
        let Slot::Busy { pid, .. } = self.slots[index as usize] else { return false };
        self.failures[index as usize] = 0;
        if index >= self.wanted {
            self.retire(index);
            return true;
        }
        self.up(index, pid);
        false
    }

    fn retire(&mut self, index: u32) {
        self.slots[index as usize] = Slot::Retired { leaving: true };
        self.turn.retain(|&other| other != index);
    }

    /// Why the slot is down, once it has lost a worker.
    pub fn reason(&self, index: u32) -> Option<String> {
        Some(self.reasons[index as usize].clone()).filter(|reason| !reason.is_empty())
    }

    /// The slot's worker is dead, or could not be started, for that reason. Returns when the next one is to be started, if any.
    pub fn lost(&mut self, index: u32, now: Duration, reason: String) -> Option<Duration> {
        self.reasons[index as usize] = reason;
        self.turn.retain(|&other| other != index);
        if index >= self.wanted {
            self.slots[index as usize] = Slot::Retired { leaving: false };
            return None;
        }
        let failures = &mut self.failures[index as usize];
        // The first death is replaced at once: most are a kill, not a condition that lasts.
        let backoff = match *failures {
            0 => Duration::ZERO,
            more => RESPAWN_BACKOFF.saturating_mul(1 << (more - 1).min(10)).min(RESPAWN_BACKOFF_MAX),
        };
        *failures += 1;
        self.slots[index as usize] = Slot::Down { retry_at: Some(now + backoff) };
        Some(now + backoff)
    }

    /// The time has come for the slot's next worker; false when it is not waiting for one.
    pub fn respawn(&mut self, index: u32, now: Duration) -> bool {
        match self.slots[index as usize] {
            Slot::Down { retry_at: Some(at) } if at <= now => {
                self.slots[index as usize] = Slot::Down { retry_at: None };
                true
            }
            Slot::Down { .. } | Slot::Idle { .. } | Slot::Busy { .. } | Slot::Retired { .. } => false,
        }
    }
}
