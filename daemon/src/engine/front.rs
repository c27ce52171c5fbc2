//! The front half of an engine: a pure machine in the daemon's loop. It gives ids, holds the beginnings of
//! the lines, and offers jobs against credit.
//!
//! What it hears on both ways, changes on their way down and answers on their way up, keeps it right: nobody
//! tells it anything else. Whatever it is told in one turn it answers in that turn, but for what the backing
//! has to read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use pool_proto::Refusal;

use super::keeping::New;
use super::lines::{Lines, Next, Rooms};
use super::reserved_ids::ReservedIds;
use super::{
    Answer, Assigned, Change, Chore, Conditional, Credit, Edited, Fence, Insertion, Interrupted, Move,
    NotAssigned, Offer, Order, Released, Restored, ValueFile,
};
use crate::job::{
    CallbackId, Capacity, Holdup, IdMap, IdSet, JobId, Limit, LineKey, Needs, Place, Position, Ready, Tries,
    Work,
};

/// What an engine says to the rest of the daemon.
#[derive(Debug, PartialEq)]
pub enum Said {
    Answer(Answer),
    /// Jobs of a pool that may be started, against its credit.
    Offered {
        pool: Arc<str>,
        offers: Vec<Offer>,
    },
    /// All that is in the lines of a pool needs more than the pool has. Told whenever the engine has looked
    /// and found it so.
    BeyondCapacity {
        pool: Arc<str>,
    },
    /// Jobs in the lines of a pool need more than the pool has: what one of them needs; or none does any
    /// more.
    TooSmall {
        pool: Arc<str>,
        needs: Option<Needs>,
    },
    /// The engine cannot be written, and why: see [`Told::Failing`](super::Told::Failing).
    Failing {
        reason: String,
    },
    Recovered,
}

/// See the module's description.
#[derive(Debug)]
pub struct Front {
    /// By pool.
    lines: IdMap<Arc<str>, Lines>,
    /// Of labels that have limits.
    rooms: Rooms,
    /// Jobs that have been offered and are neither back in their lines nor ended, with their lines and places
    /// in these.
    out: IdMap<JobId, (LineKey, Position)>,
    /// Jobs whose end has been given to the backing, which has not answered.
    leaving: IdSet<JobId>,
    /// Jobs that the backing is to hold, or to have in another pool, and has not answered, and how often
    /// each.
    withheld: IdMap<JobId, u32>,
    next_job: u64,
    next_callback: u64,
    reserved_ids: ReservedIds,
    /// Why the backing cannot be written, for as long as it cannot.
    failure: Option<String>,
    /// For the backing.
    orders: Vec<Order>,
    said: VecDeque<Said>,
}

impl Front {
    pub fn restored(restored: &Restored) -> Self {
        let mut lines: IdMap<Arc<str>, Lines> = IdMap::default();
        for (LineKey { pool, needs }, first) in &restored.lines {
            lines.entry(pool.clone()).or_default().restore(needs, Some(*first));
        }
        // Interrupted jobs come back into their lines by a move that does not bring their work along.
        for Interrupted { pool, needs, .. } in &restored.interrupted {
            lines.entry(Arc::from(pool.as_str())).or_default().restore(needs, None);
        }
        Self {
            lines,
            rooms: Rooms::default(),
            out: IdMap::default(),
            leaving: IdSet::default(),
            withheld: IdMap::default(),
            next_job: restored.next_job,
            next_callback: restored.next_callback,
            reserved_ids: ReservedIds::default(),
            failure: None,
            orders: Vec::new(),
            said: VecDeque::new(),
        }
    }

    /// The first id that was never given out.
    pub fn next_job(&self) -> u64 {
        self.next_job
    }

    /// What the backing is to be given, in order.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// The next thing for the rest of the daemon.
    pub fn next(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    // ---- from the core and the desk ----

    /// New jobs get their ids. `files`: see [`Insertion::files`].
    pub fn insert(&mut self, new: New, files: Vec<(usize, ValueFile)>) {
        let New { request, jobs, times, is_urgent } = new;
        let insertion = Insertion {
            request,
            first: JobId(self.next_job),
            first_callback: CallbackId(self.next_callback),
            jobs,
            times,
            is_urgent,
            files,
        };
        self.next_job += insertion.count_ids();
        self.next_callback += insertion.count_callbacks();

        if insertion.jobs.first().is_some_and(|work| work.volatile) {
            let reservation = self.reserved_ids.ask(self.next_job, insertion);
            let reservation = reservation.map(|below| Order::Chore(Chore::ReserveIds { below }));
            self.orders.extend(reservation);
            self.release_reserved();
        } else {
            self.orders.push(Order::Change(Change::Insert(insertion)));
        }
    }

    /// Volatile jobs whose ids have been set aside go on their way. While the backing cannot be written none
    /// can be.
    fn release_reserved(&mut self) {
        while let Some(insertion) = self.reserved_ids.next_ready() {
            self.orders.push(Order::Change(Change::Insert(insertion)));
        }
        let Some(reason) = &self.failure else { return };
        for Insertion { request, .. } in self.reserved_ids.give_up() {
            let refusal = Refusal::StoreFailed { reason: reason.clone() };
            self.said.push_back(Said::Answer(Answer::Refused { request, refusal }));
        }
    }

    pub fn change(&mut self, mut change: Change) {
        if let Change::Edit(edit) = &mut change {
            (edit.next_job, edit.first_callback) = (JobId(self.next_job), CallbackId(self.next_callback));
            self.next_callback += edit.edit.count_callbacks() as u64;
        }
        let stirred = match &change {
            Change::Move(moved) => self.note_move(moved),
            // Their jobs are in their lines when the backing has said so.
            Change::Insert(_)
            | Change::Hold { .. }
            | Change::Assign { .. }
            | Change::Edit(_)
            | Change::Retry { .. }
            | Change::Remove { .. }
            | Change::Release { .. }
            | Change::Wake { .. }
            | Change::Resolve { .. }
            | Change::Unfold { .. }
            | Change::Fold { .. }
            | Change::SetClock { .. }
            | Change::BeginCallback { .. }
            | Change::EndCallback { .. }
            | Change::AlterCallbacks { .. }
            | Change::SetPool { .. }
            | Change::SetPause { .. }
            | Change::SetWorkers { .. }
            | Change::SetSchedules { .. }
            | Change::SetLimit { .. } => None,
        };
        self.orders.push(Order::Change(change));
        // After the change itself, so that a fetch finds what it has changed.
        if let Some(pool) = stirred {
            self.pump(&pool);
        }
    }

    /// The pool in whose lines something is now that was not, or may be offered now.
    fn note_move(&mut self, moved: &Move) -> Option<Arc<str>> {
        let id = moved.id;
        match &moved.to {
            Place::Queued { .. } => {
                let left = self.take_back(id);
                let Some(work) = moved.work.clone() else { return left };
                let pool = work.pool.clone();
                self.lines(&pool).back(Ready { id, tries: moved.tries, work });
                Some(pool)
            }
            Place::Waiting(_) => {
                if let Some((LineKey { pool, needs }, _)) = self.out.get(&id).cloned() {
                    self.lines(&pool).set_aside(&needs, id);
                }
                self.take_back(id)
            }
            Place::Begun | Place::Running(_) | Place::Stopping(_) => None,
            Place::Ended(_) => {
                self.leaving.insert(id);
                let left = if moved.fence == Fence::Idle { self.leave_line(id) } else { None };
                left.or_else(|| self.return_room(id))
            }
        }
    }

    /// The pool in which others may be offered for it.
    fn leave_line(&mut self, id: JobId) -> Option<Arc<str>> {
        let mut lines = self.lines.iter_mut();
        lines.find_map(|(pool, lines)| lines.remove(id).then(|| pool.clone()))
    }

    /// These jobs, which the durable backing may have, leave their lines, and come into none before the
    /// backing has answered [`Change::Hold`].
    pub fn withhold(&mut self, ids: impl Iterator<Item = JobId>) {
        for id in ids {
            if let Some(pool) = self.leave_line(id) {
                self.pump(&pool);
            }
            *self.withheld.entry(id).or_default() += 1;
        }
    }

    /// The pools in whose lines they are now.
    fn note_assigned(
        &mut self,
        pool: &Arc<str>,
        jobs: &[Assigned],
        unfit: &[(Assigned, NotAssigned)],
        others: &[(JobId, NotAssigned)],
    ) -> Vec<Arc<str>> {
        let mut pools = BTreeSet::new();
        let jobs = jobs.iter().map(|job| (job, pool));
        for (Assigned { position, needs, holdup, .. }, pool) in
            jobs.chain(unfit.iter().map(|(job, _)| (job, &job.from)))
        {
            pools.extend(self.take_back(position.id));
            // Its insertion may have been told since it was named.
            pools.extend(self.leave_line(position.id));
            self.note_withheld(position.id);
            if *holdup == Some(Holdup::None) {
                self.lines(pool).released(needs, *position);
                pools.insert(pool.clone());
            }
        }
        others.iter().for_each(|&(id, _)| self.note_withheld(id));
        pools.into_iter().collect()
    }

    /// The pools in whose lines something has changed.
    fn note_edited(&mut self, id: JobId, edited: &Edited) -> Vec<Arc<str>> {
        let (line, position) = match edited {
            Edited::Done(revised) => {
                let is_in_line = revised.now.until.is_none();
                (is_in_line.then(|| revised.now.line.clone()), revised.now.position)
            }
            Edited::Kept(Assigned { position, needs, from, holdup }, _) => {
                let line = LineKey { pool: from.clone(), needs: needs.clone() };
                ((*holdup == Some(Holdup::None)).then_some(line), *position)
            }
            Edited::Not(_) => {
                self.note_withheld(id);
                return Vec::new();
            }
        };
        let mut pools = BTreeSet::new();
        pools.extend(self.take_back(id));
        // Its insertion may have been told since it was named.
        pools.extend(self.leave_line(id));
        self.note_withheld(id);
        if let Some(LineKey { pool, needs }) = line {
            self.lines(&pool).released(&needs, position);
            pools.insert(pool);
        }
        pools.into_iter().collect()
    }

    fn note_withheld(&mut self, id: JobId) {
        if let Some(times) = self.withheld.get_mut(&id) {
            *times -= 1;
            if *times == 0 {
                self.withheld.remove(&id);
            }
        }
    }

    /// Whether a job comes into no line: its end is on its way, or it is to be held or moved.
    fn is_going(&self, ready: &Ready) -> bool {
        self.leaving.contains(&ready.id) || self.is_withheld(ready)
    }

    /// A volatile job may have been named before it was here: it stays.
    fn is_withheld(&self, ready: &Ready) -> bool {
        !ready.work.volatile && self.withheld.contains_key(&ready.id)
    }

    /// A job is out no more. The pool in which others may be offered for it.
    fn take_back(&mut self, id: JobId) -> Option<Arc<str>> {
        let stirred = self.return_room(id);
        self.out.remove(&id);
        stirred
    }

    /// Nor does it take room of limits. It may stay out until its end is kept.
    fn return_room(&mut self, id: JobId) -> Option<Arc<str>> {
        let (line, position) = self.out.get(&id).filter(|(line, _)| !line.needs.are_plain())?;
        let lines = self.lines.get_mut(&line.pool)?;
        lines.returned(&line.needs, *position);
        Some(line.pool.clone())
    }

    /// See [`Effect::SetRoom`](crate::core::Effect::SetRoom).
    pub fn set_room(&mut self, label: &Arc<str>, room: Option<u32>) {
        match room {
            Some(room) => _ = self.rooms.insert(label.clone(), room),
            None => _ = self.rooms.remove(label),
        }
        let mut parked: Vec<(Position, Arc<str>)> = Vec::new();
        for (pool, lines) in &mut self.lines {
            let first = lines.set_room(&Limit::Label(label.clone()), room);
            parked.extend(first.map(|position| (position, pool.clone())));
        }
        // The pool of the job that has waited for longest is the first to be offered one.
        parked.sort_unstable();
        parked.iter().for_each(|(_, pool)| self.pump(pool));
    }

    /// See [`Effect::SetCapacity`](crate::core::Effect::SetCapacity).
    pub fn set_capacity(&mut self, pool: &Arc<str>, capacity: Capacity) {
        self.lines(pool).set_capacity(capacity);
        self.pump(pool);
    }

    pub fn want(&mut self, pool: &Arc<str>, credit: Credit, ahead_of: Option<Position>) {
        self.lines(pool).want(credit, ahead_of);
        self.pump(pool);
    }

    /// See [`Effect::AskOffers`](crate::core::Effect::AskOffers).
    pub fn ask_offers(&mut self, pool: &Arc<str>) {
        self.pump(pool);
        // After all that has been offered before, so that it is heard before the answer.
        self.said.push_back(Said::Offered { pool: pool.clone(), offers: Vec::new() });
    }

    /// An offer was not taken.
    pub fn give_back(&mut self, ready: Ready) {
        self.take_back(ready.id);
        if self.leaving.contains(&ready.id) {
            return;
        }
        let pool = ready.work.pool.clone();
        if self.is_withheld(&ready) {
            // Where the backing does not hold it, it is read once more.
            self.lines(&pool).released(&ready.work.needs, ready.position());
            return self.pump(&pool);
        }
        self.lines(&pool).back(ready);
        self.pump(&pool);
    }

    // ---- from the backings ----

    pub fn answered(&mut self, answer: Answer) {
        let stirred = self.note_answer(&answer);
        match answer {
            Answer::Fetched { line: LineKey { pool, needs }, jobs, complete } => {
                let (out, leaving, withheld) = (&self.out, &self.leaving, &self.withheld);
                let has_left =
                    |id: JobId| out.contains_key(&id) || leaving.contains(&id) || withheld.contains_key(&id);
                self.lines.entry(pool).or_default().fetched(&needs, jobs, complete, has_left);
            }
            Answer::IdsReserved { below } => {
                self.reserved_ids.reserved(below);
                self.release_reserved();
            }
            // Before the offers that follow from it: jobs are counted when they come, and then offered.
            answer => self.said.push_back(Said::Answer(answer)),
        }
        for pool in stirred {
            self.pump(&pool);
        }
    }

    /// The pools in whose lines something has changed.
    fn note_answer(&mut self, answer: &Answer) -> Vec<Arc<str>> {
        match answer {
            Answer::Inserted { first, jobs, existing, conditions, .. } => {
                self.note_inserted(*first, jobs, existing, conditions)
            }
            Answer::Released { jobs, .. } | Answer::Resolved { jobs, .. } => self.note_released(jobs),
            Answer::Retried { jobs, .. } => {
                let in_line = jobs.iter().filter(|retried| !retried.has_begun);
                self.note_released(in_line.map(|retried| &retried.released))
            }
            Answer::Unfolded { tally, jobs, .. } => {
                // The array is in no line any more.
                let left = [self.leave_line(tally.array), self.take_back(tally.array)];
                let mut stirred = self.note_released(jobs);
                stirred.extend(left.into_iter().flatten());
                stirred
            }
            Answer::Assigned { pool, jobs, unfit, others, .. } => {
                self.note_assigned(pool, jobs, unfit, others)
            }
            Answer::Edited { id, edited, .. } => self.note_edited(*id, edited),
            Answer::Withheld { held, others, .. } => {
                // An insertion may have been told since its job was named.
                let leave = |&(id, _): &(JobId, _)| [self.leave_line(id), self.take_back(id)];
                let stirred: BTreeSet<Arc<str>> = held.iter().flat_map(leave).flatten().collect();
                let all = held.iter().map(|(id, _)| id).chain(others.iter().map(|(id, _)| id));
                all.for_each(|&id| self.note_withheld(id));
                stirred.into_iter().collect()
            }
            Answer::Woken { jobs, .. } => self.note_back(jobs),
            Answer::Fetched { line, .. } => vec![line.pool.clone()],
            Answer::Ended { id, next, .. } => {
                self.note_gone(*id);
                let next = next.as_ref().filter(|(_, until)| until.is_none());
                self.note_back(next.map(|(ready, _)| ready))
            }
            Answer::Lost { id } => {
                self.note_gone(*id);
                Vec::new()
            }
            Answer::Synced { .. }
            | Answer::Refused { .. }
            | Answer::Placed { .. }
            | Answer::Removed { .. }
            | Answer::ClockSet { .. }
            | Answer::Folded { .. }
            | Answer::Overdue { .. }
            | Answer::Defined { .. }
            | Answer::Got { .. }
            | Answer::Listed { .. }
            | Answer::Line { .. }
            | Answer::Pace { .. }
            | Answer::Tallied { .. }
            | Answer::Dependents { .. }
            | Answer::Attempts { .. }
            | Answer::Keepers { .. }
            | Answer::Counted { .. }
            | Answer::CallbacksAltered { .. }
            | Answer::Callbacks { .. }
            | Answer::CallbackBegun(_)
            | Answer::IdsReserved { .. }
            | Answer::Kept { .. }
            | Answer::Held { .. }
            | Answer::LetGo { .. }
            | Answer::Pruned { .. } => Vec::new(),
        }
    }

    fn note_gone(&mut self, id: JobId) {
        self.leaving.remove(&id);
        self.out.remove(&id);
    }

    fn note_inserted(
        &mut self,
        first: JobId,
        jobs: &[Arc<Work>],
        existing: &[(usize, JobId)],
        conditions: &Conditional,
    ) -> Vec<Arc<str>> {
        let mut pools: Vec<Arc<str>> = Vec::new();
        let mut taken = existing.iter().map(|&(place, _)| place).peekable();
        for (place, (id, work)) in (first.0..).map(JobId).zip(jobs).enumerate() {
            if taken.next_if_eq(&place).is_some() || conditions.until(id).is_some() {
                continue;
            }
            if !pools.contains(&work.pool) {
                pools.push(work.pool.clone());
            }
            let ready = Ready { id, tries: Tries::default(), work: work.clone() };
            self.lines(&work.pool).inserted(ready);
        }
        pools
    }

    fn note_released<'a>(&mut self, jobs: impl IntoIterator<Item = &'a Released>) -> Vec<Arc<str>> {
        let mut pools = BTreeSet::new();
        for Released { position, line, .. } in jobs.into_iter().filter(|released| released.until.is_none()) {
            self.lines(&line.pool).released(&line.needs, *position);
            pools.insert(line.pool.clone());
        }
        pools.into_iter().collect()
    }

    /// Jobs wait no more. One whose end or hold is under way does not come back: the backing gets that after
    /// this.
    fn note_back<'a>(&mut self, jobs: impl IntoIterator<Item = &'a Ready>) -> Vec<Arc<str>> {
        let mut pools: Vec<Arc<str>> = Vec::new();
        for ready in jobs {
            if self.is_going(ready) {
                continue;
            }
            let pool = ready.work.pool.clone();
            self.lines(&pool).back(ready.clone());
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        pools
    }

    pub fn failing(&mut self, reason: String) {
        self.failure = Some(reason.clone());
        self.release_reserved();
        self.said.push_back(Said::Failing { reason });
    }

    pub fn recovered(&mut self) {
        self.failure = None;
        self.said.push_back(Said::Recovered);
    }

    // ---- lines ----

    fn lines(&mut self, pool: &Arc<str>) -> &mut Lines {
        if !self.lines.contains_key(pool) {
            self.lines.insert(pool.clone(), Lines::default());
        }
        self.lines.get_mut(pool).expect("it has just been looked for")
    }

    /// Offers what may be offered, and has windows filled.
    fn pump(&mut self, pool: &Arc<str>) {
        let Some(lines) = self.lines.get_mut(pool) else { return };
        let mut offers = Vec::new();
        while let Some(next) = lines.next(&self.rooms) {
            match next {
                Next::Offer(ready, bytes) => {
                    self.out.insert(ready.id, (ready.work.line(), ready.position()));
                    offers.push(Offer { ready, start_by: None, bytes });
                }
                Next::Fetch(needs, after, limit) => {
                    let line = LineKey { pool: pool.clone(), needs };
                    self.orders.push(Order::Fetch { line, after, limit });
                }
            }
        }
        let is_stuck = lines.are_beyond_capacity();
        let beyond = lines.tell_beyond();
        if !offers.is_empty() {
            self.said.push_back(Said::Offered { pool: pool.clone(), offers });
        }
        if let Some(needs) = beyond {
            self.said.push_back(Said::TooSmall { pool: pool.clone(), needs });
        }
        if is_stuck {
            self.said.push_back(Said::BeyondCapacity { pool: pool.clone() });
        }
    }

    /// Whether it has offered the job, or has it in a window and can.
    #[cfg(test)]
    pub fn knows(&self, id: JobId) -> bool {
        self.out.contains_key(&id) || self.lines.values().any(|lines| lines.has(id))
    }

    /// Whether jobs of the pool are on their way from the backing.
    #[cfg(test)]
    pub fn is_fetching(&self, pool: &str) -> bool {
        self.lines.get(pool).is_some_and(Lines::is_fetching)
    }

    /// What it holds for jobs that are on their way, by name; nothing once all of them have ended.
    #[cfg(test)]
    pub fn held(&self) -> Vec<&'static str> {
        let held = [
            ("jobs that are out", !self.out.is_empty()),
            ("jobs that are leaving", !self.leaving.is_empty()),
            ("jobs that are to be held", !self.withheld.is_empty()),
            ("insertions that wait for their ids", !self.reserved_ids.is_empty()),
            ("jobs in windows", self.lines.values().any(|lines| !lines.is_empty())),
            ("orders", !self.orders.is_empty()),
            ("answers", !self.said.is_empty()),
        ];
        held.into_iter().filter(|&(_, is_held)| is_held).map(|(name, _)| name).collect()
    }
}
