//! One turn of the daemon: events go into two machines, effects come out, and nothing re-enters.
//!
//! ```text
//!                    ┌─────────────────────── inbox ───────────────────────┐
//!                    ▼                                                     │
//!   core ◀── Input::Core      Input::Desk ──▶ desk                         │
//!    │  └── Effect::Tell(fact) ───────────────────────────────────────────▶│
//!    │                             └── Effect::Command(event) ────────────▶│
//!    └──▶ perform              serve ◀── the others                        │
//!              └───────────────────┴── what comes of it at once ──────────▶│
//! ```
//!
//! Whatever is done is done to completion before the next event is looked at: an effect that brings about an
//! event puts it into a queue. So the effects of one event are carried out in their order, before those of
//! any later one. What an event brings about comes before the next one from outside. The simulation drives
//! the same function over the same two machines; only what is [`Outside`] differs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::{self, Core, Now};
use crate::desk::{self, Desk};
use crate::engine::{Answer, Said};

/// Something that has happened, for one of the machines.
#[derive(Debug)]
pub enum Input {
    Core(core::Event),
    Desk(desk::Event),
}

/// What has happened and has not been looked at, in order.
pub type Inbox = VecDeque<Input>;

/// All that is not a pure machine: the kernel, the clients' sockets, the engine.
pub trait Outside {
    fn now(&self) -> Now;

    /// Does what the core wants done. What comes of it at once goes into the inbox. Never called for
    /// [`core::Effect::Tell`].
    fn perform(&mut self, effect: core::Effect, inbox: &mut Inbox);

    /// Does what the desk wants done. Never called for [`desk::Effect::Command`].
    fn serve(&mut self, effect: desk::Effect, inbox: &mut Inbox);

    /// What the engine's front has to say of the effects so far, without asking those behind it.
    fn said_at_once(&mut self) -> Option<Said>;

    /// The next thing that the engine has to say, if it has been said already. Never blocks.
    fn said(&mut self) -> Option<Said>;
}

/// The two machines, and what they are still to be told.
#[derive(Debug)]
pub struct Machines {
    pub core: Core,
    pub desk: Desk,
    /// What has happened outside.
    pub inbox: Inbox,
    /// What the event under way has brought about. It comes before whatever has happened outside since: of
    /// two requests on one connection the second finds all done that the first has asked for.
    following: Inbox,
    /// What the engine's front has said meanwhile. It comes before all else.
    offered: Inbox,
}

impl Machines {
    pub fn new(core: Core, desk: Desk) -> Self {
        Self { core, desk, inbox: Inbox::new(), following: Inbox::new(), offered: Inbox::new() }
    }

    /// Whether nothing is left to be looked at.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.following.is_empty() && self.offered.is_empty()
    }

    /// When one of them next has something to do, by the clock that never goes back.
    pub fn next_deadline(&self, now: Now) -> Option<Duration> {
        let until =
            |due_us: i64| Duration::from_micros(due_us.saturating_sub(now.wall_us).try_into().unwrap_or(0));
        let of_desk = self.desk.next_us().map(|due_us| now.monotonic.saturating_add(until(due_us)));
        self.core.next_deadline().into_iter().chain(of_desk).min()
    }

    /// Tells those whose time has come. `now` is asked only where somebody waits for a time.
    pub fn tick(&mut self, now: impl FnOnce() -> Now) {
        let (of_core, of_desk) = (self.core.next_deadline(), self.desk.next_us());
        if of_core.is_none() && of_desk.is_none() {
            return;
        }
        let now = now();
        if of_core.is_some_and(|at| at <= now.monotonic) {
            self.inbox.push_back(Input::Core(core::Event::Tick));
        }
        if of_desk.is_some_and(|due_us| due_us <= now.wall_us) {
            self.inbox.push_back(Input::Desk(desk::Event::Tick));
        }
    }

    /// The wall's clock was set.
    pub fn set_clock(&mut self) {
        self.inbox.push_back(Input::Core(core::Event::ClockSet));
        self.inbox.push_back(Input::Desk(desk::Event::ClockSet));
    }

    /// Goes on until nothing is left to be looked at.
    pub fn turn(&mut self, outside: &mut impl Outside) {
        loop {
            while let Some(event) = self.next(outside) {
                self.step(event, outside);
            }
            let told_together = self.desk.end_turn();
            if told_together.is_empty() {
                return;
            }
            for effect in told_together {
                self.serve(effect, outside);
            }
        }
    }

    /// What is looked at next.
    fn next(&mut self, outside: &mut impl Outside) -> Option<Input> {
        // What the engine offers because of the last effects comes first: a job that is in its line again is
        // offered before the next worker, which may be there at once, takes one that came later. Offers come
        // in their order.
        while let Some(said) = outside.said_at_once() {
            route(said, &mut self.offered);
        }
        let sources = [&mut self.offered, &mut self.following, &mut self.inbox];
        if let Some(event) = sources.into_iter().find_map(VecDeque::pop_front) {
            return Some(event);
        }

        // Only then what has taken its time.
        while let Some(said) = outside.said() {
            route(said, &mut self.following);
            if let Some(event) = self.following.pop_front() {
                return Some(event);
            }
        }
        None
    }

    fn step(&mut self, event: Input, outside: &mut impl Outside) {
        let now = outside.now();
        match event {
            Input::Core(event) => {
                for effect in self.core.handle(now, event) {
                    self.perform(now, effect, outside);
                }
            }
            Input::Desk(event) => {
                for effect in self.desk.handle(now, event, &self.core) {
                    self.serve(effect, outside);
                }
            }
        }
    }

    /// Does the first effects of a start, before there is any event.
    pub fn begin(&mut self, effects: Vec<core::Effect>, outside: &mut impl Outside) {
        let now = outside.now();
        for effect in effects {
            self.perform(now, effect, outside);
        }
    }

    fn perform(&mut self, now: Now, mut effect: core::Effect, outside: &mut impl Outside) {
        // The desk adds to a change what somebody wants to know of it, and tells those who listen. The change
        // itself is the core's.
        for effect in self.desk.overhear(now, &mut effect) {
            self.serve(effect, outside);
        }
        match effect {
            core::Effect::Tell(fact) => self.following.push_back(Input::Desk(desk::Event::Fact(fact))),
            effect => outside.perform(effect, &mut self.following),
        }
    }

    fn serve(&mut self, effect: desk::Effect, outside: &mut impl Outside) {
        match effect {
            desk::Effect::Command(event) => self.following.push_back(Input::Core(event)),
            effect => outside.serve(effect, &mut self.following),
        }
    }
}

/// Who is told what the engine says: the core of what it has asked for, the desk of what clients wait for.
fn route(said: Said, inbox: &mut Inbox) {
    let (to_core, to_desk) = match said {
        Said::Offered { pool, offers } => (Some(core::Event::Offered { pool, offers }), None),
        Said::BeyondCapacity { pool } => (Some(core::Event::BeyondCapacity { pool }), None),
        Said::TooSmall { pool, needs } => (Some(core::Event::TooSmall { pool, needs }), None),
        Said::Failing { reason } => {
            (Some(core::Event::Failing(true)), Some(desk::Event::Failing(Some(reason))))
        }
        Said::Recovered => (Some(core::Event::Failing(false)), Some(desk::Event::Failing(None))),
        // The core counts what is on its way; whoever asked is told.
        Said::Answer(Answer::Refused { request, refusal }) => {
            let answer = Answer::Refused { request, refusal: refusal.clone() };
            (
                Some(core::Event::Answer(answer)),
                Some(desk::Event::Answer(Answer::Refused { request, refusal })),
            )
        }
        Said::Answer(
            answer @ (Answer::Inserted { .. }
            | Answer::Synced { .. }
            | Answer::Placed { .. }
            | Answer::Lost { .. }
            | Answer::Ended { .. }
            | Answer::Withheld { .. }
            | Answer::Retried { .. }
            | Answer::Assigned { .. }
            | Answer::Edited { .. }
            | Answer::Released { .. }
            | Answer::Resolved { .. }
            | Answer::Unfolded { .. }
            | Answer::Folded { .. }
            | Answer::Woken { .. }
            | Answer::ClockSet { .. }
            | Answer::Overdue { .. }
            | Answer::CallbackBegun(_)
            | Answer::CallbacksAltered { .. }),
        ) => (Some(core::Event::Answer(answer)), None),
        Said::Answer(
            answer @ (Answer::Got { .. }
            | Answer::Defined { .. }
            | Answer::Listed { .. }
            | Answer::Line { .. }
            | Answer::Pace { .. }
            | Answer::Removed { .. }
            | Answer::Tallied { .. }
            | Answer::Dependents { .. }
            | Answer::Attempts { .. }
            | Answer::Keepers { .. }
            | Answer::Counted { .. }
            | Answer::Callbacks { .. }
            | Answer::Kept { .. }
            | Answer::Held { .. }
            | Answer::LetGo { .. }),
        ) => (None, Some(desk::Event::Answer(answer))),
        // The engine's own, or the shell's: nobody waits for them.
        Said::Answer(Answer::Fetched { .. } | Answer::IdsReserved { .. } | Answer::Pruned { .. }) => {
            (None, None)
        }
    };
    inbox.extend(to_core.map(Input::Core));
    inbox.extend(to_desk.map(Input::Desk));
}
