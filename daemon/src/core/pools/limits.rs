//! Limits of labels: so many jobs of a label run at a time, over all pools. What runs is counted here, and
//! the engine is told how much room is left ([`Effect::SetRoom`]), so that it offers what may start. Nothing
//! starts without a look here: what was offered before others took the room goes back.
//!
//! An attempt runs from the moment when a slot takes it until nothing of it is left. So one that is being
//! ended counts, and one that a slot has ahead; and so does a job that gathers slots, lest others take from
//! it in the meantime what it has waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::event::{Effect, LaneId, PoolId};
use crate::core::{Core, Mode};
use crate::job::{IdMap, JobId, Labels, Work};

/// Limits, and what runs by label.
#[derive(Debug, Default)]
pub struct Limits {
    /// Those of the configuration.
    configured: BTreeMap<Arc<str>, u32>,
    /// Those that were set at run time, which come before the configuration's.
    set: BTreeMap<Arc<str>, u32>,
    /// Those of arrays, which run so many elements at a time.
    arrays: BTreeMap<Arc<str>, u32>,
    /// By label, whether it has a limit or not.
    running: IdMap<Arc<str>, BTreeSet<JobId>>,
}

/// The limit of a label, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitView {
    pub label: Arc<str>,
    pub limit: u32,
    /// It was set at run time.
    pub is_set: bool,
    pub running: Vec<JobId>,
}

impl Limits {
    /// `set`: those that a start finds.
    pub fn restored(set: BTreeMap<String, u32>) -> Self {
        let set = set.into_iter().map(|(label, limit)| (Arc::from(label), limit)).collect();
        Self { set, ..Self::default() }
    }

    fn of(&self, label: &str) -> Option<u32> {
        let named = self.set.get(label).or_else(|| self.configured.get(label));
        named.or_else(|| self.arrays.get(label)).copied()
    }

    fn count(&self, label: &str) -> u32 {
        self.running.get(label).map_or(0, |running| u32::try_from(running.len()).unwrap_or(u32::MAX))
    }

    /// How many more may start. None where it has no limit.
    fn room(&self, label: &str) -> Option<u32> {
        Some(self.of(label)?.saturating_sub(self.count(label)))
    }

    pub fn have_room(&self, labels: &Labels) -> bool {
        labels.iter().all(|label| self.room(label) != Some(0))
    }

    /// Whether that job may start, which may have the room of its labels already.
    fn have_room_for(&self, id: JobId, labels: &Labels) -> bool {
        let has_room = |label: &Arc<str>| {
            self.room(label) != Some(0)
                || self.running.get(label).is_some_and(|running| running.contains(&id))
        };
        labels.iter().all(has_room)
    }

    /// Whether some of them has a limit.
    pub fn apply_to(&self, labels: &Labels) -> bool {
        labels.iter().any(|label| self.of(label).is_some())
    }

    /// The first of these labels that has no room.
    pub fn full(&self, labels: impl IntoIterator<Item = impl AsRef<str>>) -> Option<LimitView> {
        let full = labels.into_iter().find(|label| self.room(label.as_ref()) == Some(0))?;
        self.view(full.as_ref())
    }

    /// All that there are.
    pub fn views(&self) -> Vec<LimitView> {
        let labels: BTreeSet<&Arc<str>> = self.configured.keys().chain(self.set.keys()).collect();
        labels.into_iter().filter_map(|label| self.view(label)).collect()
    }

    pub fn count_limits(&self) -> usize {
        let is_other = |label: &&Arc<str>| !self.set.contains_key(*label);
        self.set.len() + self.configured.keys().filter(is_other).count()
    }

    pub fn view(&self, label: &str) -> Option<LimitView> {
        let running = self.running.get(label).into_iter().flatten().copied().collect();
        let is_set = self.set.contains_key(label);
        Some(LimitView { label: Arc::from(label), limit: self.of(label)?, is_set, running })
    }

    #[cfg(test)]
    pub fn by_label(&self) -> BTreeMap<Arc<str>, BTreeSet<JobId>> {
        self.running.iter().map(|(label, running)| (label.clone(), running.clone())).collect()
    }

    #[cfg(test)]
    pub fn has_arrays(&self) -> bool {
        !self.arrays.is_empty()
    }

    #[cfg(test)]
    pub fn are_idle(&self) -> bool {
        self.running.is_empty()
    }
}

impl Core {
    /// A slot takes an attempt of a job with these labels.
    pub(in crate::core) fn occupy(&mut self, id: JobId, labels: &Labels) {
        for label in labels.iter() {
            self.limits.running.entry(label.clone()).or_default().insert(id);
            self.tell_room(label);
        }
    }

    /// A job has the room of these labels no more.
    pub(in crate::core) fn leave_labels(&mut self, id: JobId, labels: &Labels) {
        for label in labels.iter() {
            let Some(running) = self.limits.running.get_mut(label) else { continue };
            running.remove(&id);
            if running.is_empty() {
                self.limits.running.remove(label);
            }
            self.tell_room(label);
        }
    }

    /// Nothing of the attempt is left, or a slot never began with it.
    pub(in crate::core) fn vacate_labels(&mut self, id: JobId, labels: &Labels, lane: LaneId) {
        self.leave_labels(id, labels);
        for label in labels.iter() {
            // The slot that is free by the same event waits for what was held back by this limit.
            if let (Some(1), LaneId::Pool(pool)) = (self.limits.room(label), lane) {
                self.asking.insert(pool);
            }
        }
    }

    /// Asks for what pools may be offered now; these pools.
    pub(in crate::core) fn ask_offers(&mut self) -> BTreeSet<PoolId> {
        let mut asking = std::mem::take(&mut self.asking);
        let starts_jobs = self.mode < Mode::Stopping;
        asking.retain(|&id| {
            let pool = self.pools.get(id).filter(|pool| starts_jobs && !pool.offers.is_empty());
            self.effects.extend(pool.map(|pool| Effect::AskOffers { pool: pool.name.clone() }));
            pool.is_some()
        });
        asking
    }

    /// Tells the engine how much room a label has, if it has a limit.
    fn tell_room(&mut self, label: &Arc<str>) {
        if let Some(room) = self.limits.room(label) {
            self.effects.push(Effect::SetRoom { label: label.clone(), room: Some(room) });
        }
    }

    /// What was offered of a job with these labels is no offer any more, though no slot has taken it.
    pub(in crate::core) fn offer_others(&mut self, work: &Work) {
        work.needs.labels.iter().for_each(|label| self.tell_room(label));
    }

    /// The limit of a label that was set at run time is this from now on.
    pub(in crate::core) fn set_limit(&mut self, label: &Arc<str>, limit: Option<u32>) {
        let before = self.limits.of(label);
        match limit {
            Some(limit) => _ = self.limits.set.insert(label.clone(), limit),
            None => _ = self.limits.set.remove(label),
        }
        self.limit_changed(label, before);
    }

    /// So many elements of an array run at a time, as long as it has not ended.
    pub(in crate::core) fn set_array_limit(&mut self, label: &Arc<str>, limit: Option<u32>) {
        let before = self.limits.of(label);
        match limit {
            Some(limit) => _ = self.limits.arrays.insert(label.clone(), limit),
            None => _ = self.limits.arrays.remove(label),
        }
        self.limit_changed(label, before);
    }

    /// Each label for which a new job is exclusive has a limit, of one where it has had none.
    pub(in crate::core) fn limit_to_one(&mut self, work: &Work) {
        self.limit_labels_to_one(&work.exclusive);
    }

    /// The same of these labels.
    pub(in crate::core) fn limit_labels_to_one(&mut self, exclusive: &Labels) {
        for label in exclusive.iter() {
            let before = self.limits.of(label);
            self.limits.set.entry(label.clone()).or_insert(1);
            self.limit_changed(label, before);
        }
    }

    /// The limits of the configuration are these from now on.
    pub(in crate::core) fn configure_limits(&mut self, configured: BTreeMap<Arc<str>, u32>) {
        let labels: BTreeSet<Arc<str>> =
            self.limits.configured.keys().chain(configured.keys()).cloned().collect();
        let before: Vec<Option<u32>> = labels.iter().map(|label| self.limits.of(label)).collect();
        self.limits.configured = configured;
        for (label, before) in labels.iter().zip(before) {
            self.limit_changed(label, before);
        }
    }

    /// The engine of a start is told of the limits that were set.
    pub(in crate::core) fn restore_limits(&mut self) {
        let set: Vec<Arc<str>> = self.limits.set.keys().cloned().collect();
        set.iter().for_each(|label| self.tell_room(label));
    }

    fn limit_changed(&mut self, label: &Arc<str>, before: Option<u32>) {
        if self.limits.of(label) != before {
            let room = self.limits.room(label);
            self.effects.push(Effect::SetRoom { label: label.clone(), room });
        }
    }

    /// The best offers of a pool go back whose labels have no room any more, or for which it has become too
    /// small.
    pub(in crate::core) fn drop_limited(&mut self, id: PoolId) {
        while let Some(pool) = self.pools.get_mut(id)
            && let Some(best) = pool.offers.best()
            && !(pool.capacity.fits(&best.ready.work.needs)
                && self.limits.have_room_for(best.ready.id, &best.ready.work.needs.labels))
        {
            let job = best.ready.id;
            if let Some(offer) = pool.offers.remove(job) {
                self.effects.push(Effect::GiveBack(offer.ready));
            }
        }
    }
}
