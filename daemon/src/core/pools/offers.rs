//! What the engine has offered to one pool: the next few jobs of its line, ready for the next free slot, so
//! that no dispatch waits for the engine.
//!
//! Credit keeps them few: a pool asks for more when half of what it may hold is gone. What goes before the
//! last of a full set is offered beyond the credit, and the last one is given back for it: so a free slot
//! takes the best job that the engine knows, whatever came when. Credit is in bytes, too, so that large jobs
//! do not cost the memory that many small ones may.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::{Credit, Offer};
use crate::job::{IdMap, JobId, Position};

const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Offers {
    jobs: BTreeMap<Position, Offer>,
    positions: IdMap<JobId, Position>,
    /// What the offered jobs take.
    bytes: usize,
    /// Credit that was given and has not been used.
    credit: Credit,
    /// What the engine was told last of the last one, once the credit was used up.
    ahead_of: Option<Position>,
    /// After an attempt that the machine had no room for.
    rests_until: Option<Duration>,
    shortages: u32,
    /// Of jobs that wait for several slots: see [`passes`](Self::passes).
    passes: IdMap<JobId, u32>,
}

/// Bytes of the jobs that are held for a pool, the last one's apart. In tests there is room for few.
const MOST_BYTES: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// So many are held for a pool of that size: several for each slot, so that the engine is asked once for
/// many. In tests they are few, so that chance finds what happens at the limit.
fn most(workers: u32) -> usize {
    match workers as usize {
        0 => 0,
        workers if cfg!(test) => 2 * workers + 2,
        workers => 4 * workers + 16,
    }
}

impl Offers {
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub fn add(&mut self, offers: Vec<Offer>) {
        for offer in offers {
            let position = offer.ready.position();
            self.forgo(&offer);
            self.bytes += offer.bytes;
            self.positions.insert(offer.ready.id, position);
            self.jobs.insert(position, offer);
        }
    }

    /// It was offered, and is not kept.
    pub fn forgo(&mut self, offer: &Offer) {
        self.credit.spend(offer.bytes);
    }

    /// The best one, unless the pool backs off.
    pub fn pop(&mut self, now: Duration) -> Option<Offer> {
        if self.rests(now) {
            return None;
        }
        self.rests_until = None;
        let (&position, _) = self.jobs.first_key_value()?;
        self.take(position)
    }

    /// The best one.
    pub fn best(&self) -> Option<&Offer> {
        self.jobs.first_key_value().map(|(_, offer)| offer)
    }

    /// The offer of a job, if it is here.
    pub fn get(&self, id: JobId) -> Option<&Offer> {
        self.jobs.get(self.positions.get(&id)?)
    }

    /// The others, the best ones first.
    pub fn others(&self) -> impl Iterator<Item = &Offer> {
        self.jobs.values().skip(1)
    }

    /// Whether the pool backs off.
    pub fn rests(&self, now: Duration) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Takes a job out, if it is here.
    pub fn remove(&mut self, id: JobId) -> Option<Offer> {
        let position = *self.positions.get(&id)?;
        self.take(position)
    }

    fn take(&mut self, position: Position) -> Option<Offer> {
        let offer = self.jobs.remove(&position)?;
        self.positions.remove(&offer.ready.id);
        self.passes.remove(&offer.ready.id);
        self.bytes -= offer.bytes;
        Some(offer)
    }

    /// What is too much for a pool of that size, from the end.
    pub fn trim(&mut self, workers: u32) -> Vec<Offer> {
        let excess = self.jobs.len().saturating_sub(most(workers));
        let last = |offers: &mut Self| {
            let (&position, _) = offers.jobs.last_key_value()?;
            offers.take(position)
        };
        (0..excess).filter_map(|_| last(self)).collect()
    }

    /// What the engine is to be told now, if anything: how much more, and beyond that any before this
    /// position.
    pub fn want(&mut self, workers: u32) -> Option<(Credit, Option<Position>)> {
        let most = most(workers);
        if most == 0 {
            // Nothing is kept any more: whatever were offered ahead of the last one would only be given back,
            // again and again.
            return self.ahead_of.take().map(|_| (Credit::default(), None));
        }

        let held = self.jobs.len() + self.credit.jobs as usize;
        let has_room = self.credit.bytes == 0 && self.bytes <= MOST_BYTES / 2;
        if held <= most / 2 || has_room {
            let jobs = u32::try_from(most.saturating_sub(held)).expect("a pool has few slots");
            let more = Credit { jobs, bytes: MOST_BYTES.saturating_sub(self.bytes + self.credit.bytes) };
            self.credit.add(more);
            self.ahead_of = None;
            return Some((more, None));
        }

        // As long as there is credit whatever comes is offered anyway.
        let last = self.jobs.last_key_value().map(|(&position, _)| position);
        let last = last.filter(|_| !self.credit.is_left());
        // A pool that starts nothing any more holds none: the engine is told, or it would offer once more
        // what is given back.
        if last == self.ahead_of {
            return None;
        }
        self.ahead_of = last;
        Some((Credit::default(), last))
    }

    /// Whether all that is here comes after that position.
    pub fn are_after(&self, position: Position) -> bool {
        self.jobs.first_key_value().is_some_and(|(&first, _)| position < first)
    }

    /// The machine has no room for a process: nothing is taken until the time returned.
    pub fn back_off(&mut self, now: Duration) -> Duration {
        // One shortage is met by every slot of the pool, and counts once.
        if let Some(until) = self.rests_until.filter(|&until| now < until) {
            return until;
        }
        let until = now + BACKOFF.saturating_mul(1 << self.shortages.min(10)).min(BACKOFF_MAX);
        self.shortages += 1;
        self.rests_until = Some(until);
        until
    }

    /// How many jobs have started while that one, which is before them, waited for slots.
    pub fn passes(&self, id: JobId) -> u32 {
        self.passes.get(&id).copied().unwrap_or(0)
    }

    pub fn pass(&mut self, id: JobId) {
        *self.passes.entry(id).or_default() += 1;
    }

    /// Shortages in a row.
    pub fn shortages(&self) -> u32 {
        self.shortages
    }

    /// An attempt has started: there is room again.
    pub fn has_room(&mut self) {
        self.shortages = 0;
    }
}
