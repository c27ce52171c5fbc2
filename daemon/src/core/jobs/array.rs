//! Job arrays. An array stands in its line as any job; when its turn has come it begins: it takes no slot,
//! but has the engine make the next of its elements, which are jobs as any other from then on, in the place
//! where the array stood. More are made as attempts of these begin, so that a few are always ahead of the
//! slots, and there are never many.
//!
//! ```text
//!   offered, first of its pool ──▶ Unfold ──▶ begun ── an element near the last one begins ──▶ Unfold ...
//!                                               │
//!                                               ├── the last element has ended ──────────────▶ ended
//!                                               └── end ──▶ Fold ──▶ each living one is ended ─┘
//! ```
//!
//! How many elements have ended is the engine's count, which comes with each end; so a start goes on where
//! the last daemon was. That so many run at a time is a limit as that of a label, which the elements have
//! besides their array's.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outcome;
use crate::core::Core;
use crate::core::event::{Fact, PoolId};
use crate::engine::{BegunArray, Change, Fence, Offer, Released};
use crate::job::{ArrayTally, Holdup, JobId, Ready, StopReason, Term, Tie, Tries, Work, array_label};

/// So many elements are made at once at least, and so many at most: others wait for the engine meanwhile.
const LEAST_AT_ONCE: u32 = if cfg!(test) { 3 } else { 256 };
const MOST_AT_ONCE: u32 = if cfg!(test) { 6 } else { 1024 };

/// So many living elements are named at once where an array is ended.
const ENDED_AT_ONCE: u32 = if cfg!(test) { 3 } else { 128 };

/// An array that has begun and has not ended.
#[derive(Debug)]
pub struct Begun {
    pool: Arc<str>,
    /// None until its first elements are made.
    tally: Option<ArrayTally>,
    /// Before that place all elements have begun, or will do so whatever becomes of the array.
    passed: u32,
    /// The engine has been asked to make more, and has not answered.
    is_unfolding: bool,
    /// It is being ended.
    stopping: Option<StopReason>,
    at_once: Option<u32>,
}

impl Begun {
    #[cfg(test)]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn has_more(&self) -> bool {
        self.stopping.is_none() && self.tally.is_none_or(|tally| tally.has_more())
    }

    /// So many elements at most are made and have not begun. Some may have been ended before the array had
    /// come to them, so it is no more than live.
    fn ahead(&self) -> u32 {
        self.tally.map_or(0, |tally| tally.next.saturating_sub(self.passed).min(tally.living()))
    }
}

impl Core {
    /// What a start finds.
    pub(in crate::core) fn restore_arrays(&mut self, arrays: Vec<BegunArray>) {
        for BegunArray { tally, pool, stopping, has_begun, .. } in arrays {
            if !has_begun {
                // All of its elements were ended one by one.
                self.note_tally(&tally);
                continue;
            }
            self.go_on_with_array(tally, pool);
            match stopping {
                Some(reason) if !tally.is_over() => self.fold(tally.array, reason),
                Some(reason) => {
                    if let Some(array) = self.arrays.get_mut(&tally.array) {
                        array.stopping = Some(reason);
                    }
                    self.note_tally(&tally);
                }
                None => {
                    self.note_tally(&tally);
                    self.unfold_if_low(tally.array);
                }
            }
        }
    }

    /// An array has begun before.
    fn go_on_with_array(&mut self, tally: ArrayTally, pool: Arc<str>) {
        let (passed, at_once) = (tally.next.saturating_sub(tally.living()), tally.at_once);
        let array = Begun { pool, tally: Some(tally), passed, is_unfolding: false, stopping: None, at_once };
        self.arrays.entry(tally.array).or_insert(array);
        self.limit_array(tally.array, at_once);
    }

    /// Arrays go on, since elements of them are run again.
    pub(in crate::core) fn on_arrays_revived(&mut self, arrays: Vec<BegunArray>) {
        for BegunArray { tally, pool, tie, deadline_us, has_begun, .. } in arrays {
            let id = tally.array;
            if !has_begun {
                continue; // It is in its line, or is held, and comes to them in its turn.
            }
            if let Some(array) = self.arrays.get_mut(&id) {
                array.tally = Some(tally);
            } else {
                self.go_on_with_array(tally, pool);
                if let Some(tie) = tie {
                    self.ties.add(id, tie);
                }
                self.give_time(id, [(Term::End, deadline_us), (Term::Start, None)]);
            }
            self.unfold_if_low(id);
        }
    }

    fn limit_array(&mut self, id: JobId, at_once: Option<u32>) {
        if at_once.is_some() {
            self.set_array_limit(&array_label(id), at_once);
        }
    }

    /// Takes an array off the offers of a pool where it is the best of them, or where what is before it
    /// gathers and others may pass: it begins. Whether one was.
    pub(in crate::core) fn begin_array(&mut self, id: PoolId) -> bool {
        let Some(pool) = self.pools.get_mut(id).filter(|pool| pool.pause.is_none()) else { return false };
        let is_array = |offer: &&Offer| offer.ready.work.plan().is_some();
        let has_room = |offer: &&Offer| self.limits.have_room(&offer.ready.work.needs.labels);
        let lets_pass = |best: &&Offer| pool.backfill && !pool.has_all_for(best);
        let best = pool.offers.best();
        let passing =
            || best.filter(lets_pass).and_then(|_| pool.offers.others().filter(is_array).find(has_room));
        let Some(job) = best.filter(is_array).or_else(passing).map(|offer| offer.ready.id) else {
            return false;
        };
        let is_warm = pool.slots.is_warm();
        if self.unattended.contains_key(&job) {
            return false; // Its turn comes when a slot would take it.
        }
        let Some(Offer { ready, .. }) = pool.offers.remove(job) else { return false };
        self.dequeue(ready.id, &ready.work.pool, Holdup::None);
        if is_warm {
            let outcome = outcome::of_mismatch(&ready.work, self.now.wall_us);
            self.finish_idle(&ready, outcome);
            return true;
        }
        self.offer_others(&ready.work);
        self.begin_to_unfold(&ready);
        true
    }

    pub(in crate::core) fn begin_to_unfold(&mut self, ready: &Ready) {
        let Some(plan) = ready.work.plan() else { return };
        let (pool, at_once) = (ready.work.pool.clone(), plan.at_once);
        let array = Begun { pool, tally: None, passed: 0, is_unfolding: false, stopping: None, at_once };
        self.arrays.insert(ready.id, array);
        self.limit_array(ready.id, at_once);
        self.unfold_if_low(ready.id);
    }

    /// Has more elements made, where those that are ahead of the slots are few.
    fn unfold_if_low(&mut self, id: JobId) {
        let Some(array) = self.arrays.get_mut(&id) else { return };
        let workers = self.pools.named(&array.pool).map_or(0, |pool| pool.slots.wanted());
        // As many as are offered to a pool and under way to it.
        let low = if cfg!(test) { 2 } else { workers.saturating_mul(8).saturating_add(64) };
        if array.is_unfolding || !array.has_more() || array.ahead() >= low {
            return;
        }
        array.is_unfolding = true;
        let limit = low.saturating_mul(2).clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
        let now_us = self.now.wall_us;
        self.change(Change::Unfold { array: id, limit, now_us });
    }

    pub(in crate::core) fn on_unfolded(&mut self, tally: ArrayTally, jobs: &[Released], tie: Option<Tie>) {
        for Released { position, line, .. } in jobs {
            if let Some(tie) = tie {
                self.ties.add(position.id, tie);
            }
            self.enqueue(position.id, &line.pool, Holdup::None);
            if let Some(pool) = self.pools.id_of(&line.pool) {
                self.stirred.insert(pool);
            }
        }
        if let Some(array) = self.arrays.get_mut(&tally.array) {
            array.is_unfolding = false;
            array.tally = Some(tally);
        }
        self.note_tally(&tally);
        self.unfold_if_low(tally.array);
    }

    /// An element is on its way, or over.
    pub(in crate::core) fn passed(&mut self, array: JobId, id: JobId) {
        let Some(begun) = self.arrays.get_mut(&array) else { return };
        // One that was ended before the array had come to it says nothing of those before it.
        let place = begun.tally.and_then(|tally| tally.place_of(id).filter(|&place| place < tally.next));
        begun.passed = begun.passed.max(place.map_or(0, |place| place + 1));
        self.unfold_if_low(array);
    }

    /// These are in their line no more: those after them are not to wait until they are back.
    pub(in crate::core) fn passed_by(&mut self, ids: impl Iterator<Item = JobId>) {
        if self.arrays.is_empty() {
            return;
        }
        for id in ids {
            if let Some(array) = self.array_of(id) {
                self.passed(array, id);
            }
        }
    }

    /// The array that has begun of which that is an element.
    fn array_of(&self, id: JobId) -> Option<JobId> {
        let is_of = |array: &Begun| array.tally.is_some_and(|tally| tally.place_of(id).is_some());
        self.arrays.iter().find(|(_, array)| is_of(array)).map(|(&array, _)| array)
    }

    /// These are held: whoever waits for their arrays may have to be told.
    pub(in crate::core) fn held_in_arrays(&mut self, ids: impl Iterator<Item = JobId>) {
        if self.arrays.is_empty() {
            return;
        }
        let arrays: BTreeSet<JobId> = ids.filter_map(|id| self.array_of(id)).collect();
        arrays.into_iter().for_each(|array| self.tell_if_idle(array));
    }

    /// Tells of an array that has begun, if no slot works at it.
    fn tell_if_idle(&mut self, array: JobId) {
        let is_living = self.arrays.contains_key(&array) && !self.ending.contains(&array);
        if is_living && !self.has_work_of(array) {
            self.tell(Fact::ArrayIdle { array });
        }
    }

    /// Whether a slot has an element of this array, or is about to.
    fn has_work_of(&self, array: JobId) -> bool {
        let is_of = |work: &Work| work.element().is_some_and(|element| element.array == array);
        let offers = self.arrays.get(&array).and_then(|begun| self.pools.named(&begun.pool));
        let mut offers =
            offers.into_iter().flat_map(|pool| pool.offers.best().into_iter().chain(pool.offers.others()));
        offers.any(|offer| is_of(&offer.ready.work)) || self.active.values().any(|active| is_of(&active.work))
    }

    /// What the engine has told of an array last.
    pub(in crate::core) fn note_tally(&mut self, tally: &ArrayTally) {
        let id = tally.array;
        if let Some(array) = self.arrays.get_mut(&id) {
            array.tally = Some(*tally);
        }
        if !tally.is_over() || self.ending.contains(&id) {
            return;
        }
        let begun = self.arrays.get(&id);
        let stopping = begun.and_then(|array| array.stopping);
        let outcome = outcome::of_array(tally, stopping, self.now.wall_us);
        if begun.is_some() {
            self.finish_as(id, Fence::Attempt(0), Tries::default(), outcome, None);
        } else if let Some(ready) = self.take_waiting(id) {
            self.finish_idle(&ready, outcome);
        } else {
            self.finish_as(id, Fence::Idle, Tries::default(), outcome, None);
        }
    }

    /// An element of an array has ended, or the array.
    pub(in crate::core) fn on_end_in_array(&mut self, id: JobId, tally: ArrayTally) {
        if tally.array != id {
            self.note_tally(&tally);
            self.passed(tally.array, id);
            self.unfold_if_low(tally.array);
            return self.tell_if_idle(tally.array);
        }
        if let Some(Begun { at_once: Some(_), .. }) = self.arrays.remove(&id) {
            self.set_array_limit(&array_label(id), None);
        }
        if tally.drops {
            self.drop_unmade(&tally);
        }
    }

    /// Elements of an array are never made: what is tied to one of them ends, and who waits for one is told.
    fn drop_unmade(&mut self, tally: &ArrayTally) {
        self.tell(Fact::Dropped { ids: tally.ids() });
        if tally.next == tally.elements {
            return;
        }
        for tied in self.ties.to_any_of(&(tally.id_at(tally.next)..=*tally.ids().end())) {
            let Some(Tie::Job(other)) = self.ties.of(tied) else { continue };
            self.end(tied, StopReason::Untied(Tie::Job(other)));
        }
    }

    /// Ends an array that has begun: whatever of it lives.
    pub(in crate::core) fn fold(&mut self, id: JobId, reason: StopReason) {
        let Some(array) = self.arrays.get_mut(&id).filter(|array| array.stopping.is_none()) else { return };
        array.stopping = Some(reason);
        self.fold_after(id, reason, JobId(0));
    }

    fn fold_after(&mut self, array: JobId, reason: StopReason, after: JobId) {
        self.change(Change::Fold { array, reason, after, limit: ENDED_AT_ONCE });
    }

    pub(in crate::core) fn on_folded(&mut self, tally: ArrayTally, living: &[JobId], more: bool) {
        let Some(reason) = self.arrays.get(&tally.array).and_then(|array| array.stopping) else { return };
        self.drop_unmade(&tally);
        for &id in living {
            self.end(id, reason);
        }
        if let Some(&last) = living.last().filter(|_| more) {
            self.fold_after(tally.array, reason, last);
        }
        self.note_tally(&tally);
    }

    /// Arrays of which a drain has still something to start.
    pub(in crate::core) fn startable_arrays(&self) -> u64 {
        let is_one = |(id, array): &(&JobId, &Begun)| {
            array.has_more()
                && self.ties.of(**id) != Some(Tie::Pool)
                && self.is_startable(&array.pool, Holdup::None)
        };
        self.arrays.iter().filter(is_one).count() as u64
    }

    /// Arrays of which elements are still to be made.
    pub(in crate::core) fn unfolding_arrays(&self) -> u64 {
        self.arrays.values().filter(|array| array.has_more()).count() as u64
    }

    /// Whether it is an array that has begun.
    pub fn is_begun_array(&self, id: JobId) -> bool {
        self.arrays.contains_key(&id)
    }

    /// The elements of an array that workers have.
    pub(in crate::core) fn running_elements(&self, array: JobId) -> Vec<JobId> {
        let is_of = |id: &JobId| self.active[id].work.element().is_some_and(|element| element.array == array);
        let mut running: Vec<JobId> = self.active.keys().copied().filter(is_of).collect();
        running.sort_unstable();
        running
    }
}
