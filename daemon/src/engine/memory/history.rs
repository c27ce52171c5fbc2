//! Ended jobs, oldest end first, and how many of them are remembered.
//!
//! A job with callbacks that are not delivered counts, but cannot go yet.

use std::collections::{BTreeMap, BTreeSet};

use super::Memory;
use crate::engine::retention::{Census, Group, Standing};
use crate::engine::{Answer, NotRemoved, Room};
use crate::job::{CallbackId, JobId, Outcome, RequestId, Tie};

/// Volatile jobs that have ended and are remembered at most, and for how long, in microseconds.
pub(super) const MAX_ENDED: usize = if cfg!(test) { 1000 } else { 100_000 };
pub(super) const MAX_AGE_US: i64 = 10 * 60 * 1_000_000;

/// What those have returned takes so much at most, in bytes, besides what somebody waits for.
const MAX_BYTES: usize = 64 << 20;

/// Ended jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct EndedJobs {
    /// Whether the oldest ones are forgotten beyond the bounds above.
    is_bounded: bool,
    /// Those that can go, by the times of their ends, and the bytes of parameters and answer that they hold.
    removable: BTreeMap<(i64, JobId), usize>,
    held_bytes: usize,
    /// When the latest one ended.
    latest_us: i64,
    census: Census,
}

impl EndedJobs {
    pub fn bounded() -> Self {
        Self { is_bounded: true, ..Self::default() }
    }

    pub fn is_bounded(&self) -> bool {
        self.is_bounded
    }

    /// Whether one of several, which ended then, is not worth remembering.
    fn overflows(&self, ended_us: i64) -> bool {
        self.is_bounded
            && self.removable.len() > 1
            && (self.removable.len() > MAX_ENDED
                || self.held_bytes > MAX_BYTES
                || ended_us < self.latest_us - MAX_AGE_US)
    }
}

impl Memory {
    /// What the output and results of all ended jobs take.
    pub fn ended_output_bytes(&self) -> u64 {
        self.history.census.all().bytes
    }

    pub(super) fn add_to_history(&mut self, id: JobId) {
        let Some(group) = self.group_of(id) else { return };
        self.history.census.shift(group, 1, self.held_bytes(id).cast_signed());
        self.history.census.commit();
        self.make_removable(id);
    }

    /// A job that has ended and can go begins a new round.
    pub(super) fn take_from_history(&mut self, id: JobId) {
        let Some((group, ended_us)) = self.group_of(id).zip(self.outcome(id).map(|outcome| outcome.ended_us))
        else {
            return;
        };
        self.history.held_bytes -= self.history.removable.remove(&(ended_us, id)).unwrap_or_default();
        self.history.census.shift(group, -1, -self.held_bytes(id).cast_signed());
        self.history.census.commit();
    }

    fn group_of(&self, id: JobId) -> Option<Group> {
        let row = self.jobs.get(&id)?;
        let is_told = row.work.tie == Some(Tie::Client);
        let standing = Standing::of(row.place.state(), row.has_had_key, is_told, row.work.call().is_some());
        Some(Group { standing, pool: row.work.pool.clone() })
    }

    /// If no callback of it is to be delivered.
    pub(super) fn make_removable(&mut self, id: JobId) {
        let Some(ended_us) = self.outcome(id).map(|outcome| outcome.ended_us) else { return };
        if self.jobs.get(&id).is_some_and(|row| row.undelivered > 0) {
            return;
        }
        let bytes = usize::try_from(self.held_bytes(id)).unwrap_or(usize::MAX);
        self.history.removable.insert((ended_us, id), bytes);
        self.history.held_bytes += bytes;
        self.history.latest_us = self.history.latest_us.max(ended_us);
    }

    /// It has ended, and a callback of it is to be delivered after all.
    pub(super) fn keep_from_removal(&mut self, id: JobId) {
        let Some(ended_us) = self.outcome(id).map(|outcome| outcome.ended_us) else { return };
        self.history.held_bytes -= self.history.removable.remove(&(ended_us, id)).unwrap_or_default();
    }

    /// Whether ended jobs are to be forgotten: see [`forget`](Self::forget).
    pub fn is_overfull(&self) -> bool {
        let oldest = self.history.removable.first_key_value();
        oldest.is_some_and(|(&(ended_us, _), _)| self.history.overflows(ended_us))
    }

    /// Forgets the oldest ended jobs that are too much, but for those that somebody waits for.
    pub fn forget(&mut self, spared: &[JobId]) {
        let mut from = (i64::MIN, JobId(0));
        loop {
            let mut next = self.history.removable.range(from..).map(|(&key, _)| key);
            let Some(key) = next.find(|(_, id)| spared.binary_search(id).is_err()) else { return };
            if !self.history.overflows(key.0) {
                return;
            }
            from = key;
            self.remove(key.0, key.1);
        }
    }

    pub(super) fn prune(&mut self, room: &Room) {
        let batch = room.batch as usize;
        let (mut jobs, mut callbacks) = (Vec::new(), Vec::new());
        let old = self.oldest(room, None, usize::MAX);
        let is_old = |&&(ended_us, _): &&(i64, JobId)| ended_us < room.ended_before_us;
        let old: Vec<(i64, JobId)> = old.iter().filter(is_old).copied().collect();
        let mut more = old.len() > batch;
        for (ended_us, id) in old.into_iter().take(batch) {
            jobs.push((id, self.attempts_of(id)));
            callbacks.extend(self.remove(ended_us, id));
        }

        let (mut spent, mut max) = (BTreeSet::new(), room.max_jobs);
        while let Some((group, count)) = self.history.census.to_forget(max, &spent) {
            let left = batch - jobs.len();
            if left == 0 {
                more |= !self.oldest(room, Some(&group), 1).is_empty();
                break;
            }
            let wanted = left.min(usize::try_from(count).unwrap_or(usize::MAX));
            let victims = self.oldest(room, Some(&group), wanted);
            if victims.len() < wanted {
                max += self.spared(room, &group).count() as u64;
                spent.insert(group);
            }
            for (ended_us, id) in victims {
                jobs.push((id, self.attempts_of(id)));
                callbacks.extend(self.remove(ended_us, id));
            }
        }
        callbacks.sort_unstable();

        let (outputs, more_output) = self.strip(room);
        self.answer(Answer::Pruned { jobs, callbacks, outputs, more: more || more_output });
    }

    /// Removes those of these jobs that can go.
    pub(super) fn remove_named(&mut self, request: RequestId, ids: Vec<JobId>) {
        let (mut jobs, mut callbacks, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for id in ids {
            let why_not = match self.jobs.get(&id) {
                None => Some(NotRemoved::Missing),
                Some(row) if !row.has_ended() => Some(NotRemoved::Living(row.place.state())),
                Some(row) => (row.undelivered > 0).then_some(NotRemoved::Undelivered),
            };
            if let Some(why_not) = why_not {
                others.push((id, why_not));
                continue;
            }
            let Some(ended_us) = self.outcome(id).map(|outcome| outcome.ended_us) else { continue };
            jobs.push((id, self.attempts_of(id)));
            callbacks.extend(self.remove(ended_us, id));
        }
        callbacks.sort_unstable();
        self.answer(Answer::Removed { request, jobs, callbacks, others });
    }

    fn attempts_of(&self, id: JobId) -> u32 {
        self.jobs.get(&id).map_or(0, |row| row.tries.attempts)
    }

    /// Those of a group, or of all, that can go, the oldest first.
    fn oldest(&self, room: &Room, group: Option<&Group>, limit: usize) -> Vec<(i64, JobId)> {
        let is_one = |&(_, id): &(i64, JobId)| {
            !room.spares(id) && group.is_none_or(|group| self.group_of(id).as_ref() == Some(group))
        };
        self.history.removable.keys().copied().filter(is_one).take(limit).collect()
    }

    /// Those of a group that could go, but that somebody waits for them: no reason for others to go instead.
    fn spared(&self, room: &Room, group: &Group) -> impl Iterator<Item = JobId> {
        let ids = self.history.removable.keys().map(|&(_, id)| id);
        ids.filter(|&id| room.spares(id) && self.group_of(id).as_ref() == Some(group))
    }

    /// Takes output and results away, and leaves the records.
    fn strip(&mut self, room: &Room) -> (Vec<(JobId, u32)>, bool) {
        let mut stripped = Vec::new();
        let (mut spent, mut max) = (BTreeSet::new(), room.max_output_bytes);
        while let Some((group, bytes)) = self.history.census.to_strip(max, &spent) {
            let with_output = self.oldest(room, Some(&group), usize::MAX);
            let mut with_output = with_output.into_iter().filter(|&(_, id)| self.held_bytes(id) > 0);
            let mut victims = Vec::new();
            let mut freed = 0;
            while freed < bytes
                && let Some((_, id)) = with_output.next()
            {
                freed += self.held_bytes(id);
                victims.push(id);
            }
            if victims.is_empty() {
                max += self.spared(room, &group).map(|id| self.held_bytes(id)).sum::<u64>();
                spent.insert(group.clone());
            }
            for id in victims {
                if stripped.len() == room.batch as usize {
                    return (stripped, true);
                }
                let bytes = self.held_bytes(id).cast_signed();
                self.history.census.shift(group.clone(), 0, -bytes);
                self.history.census.commit();
                let attempts = self.attempts_of(id);
                if let Some(row) = self.jobs.get_mut(&id) {
                    row.is_stripped = true;
                }
                stripped.push((id, attempts));
            }
        }
        (stripped, false)
    }

    /// Removes a job that can go; its callbacks, and how often they were tried.
    fn remove(&mut self, ended_us: i64, id: JobId) -> Vec<(CallbackId, u32)> {
        let bytes = self.history.removable.remove(&(ended_us, id)).unwrap_or_default();
        self.history.held_bytes -= bytes;
        if let Some(group) = self.group_of(id) {
            self.history.census.shift(group, -1, -self.held_bytes(id).cast_signed());
            self.history.census.commit();
        }

        self.arrays.remove(&id);
        let Some(row) = self.jobs.remove(&id) else { return Vec::new() };
        if let Some(key) = row.key {
            self.keys.remove(&key.text);
        }
        let outgoing = row.callbacks.into_iter().map(|callback_id| {
            let attempts = self.callbacks.remove(&callback_id).map_or(0, |callback| callback.attempts);
            (callback_id, attempts)
        });
        outgoing.collect()
    }

    /// What output, result and parameters of an ended job take.
    fn held_bytes(&self, id: JobId) -> u64 {
        let Some(row) = self.jobs.get(&id).filter(|row| !row.is_stripped) else { return 0 };
        let params = row.work.call().and_then(|call| call.params.as_ref());
        self.outcome(id).map_or(0, Outcome::held_bytes) + params.map_or(0, |params| params.get().len() as u64)
    }
}
