//! The times of schedules, as they come: what is submitted, and what becomes of that.

use std::sync::Arc;
use std::time::Duration;

use pool_proto::nouns::{IfExists, Job, Missed, Overlap, Schedule};
use pool_proto::text::rfc3339_short;
use pool_proto::{OsText, Refusal};

use super::{Entry, RESERVED};
use crate::core::{self, Core};
use crate::desk::Desk;
use crate::desk::admission::check_fit;
use crate::desk::limits::check_exclusive;
use crate::desk::request::Open;
use crate::engine::Turns;
use crate::job::{JobId, LastFiring, Work, micros};

/// A time that passed longer ago than this was missed.
const ON_TIME: Duration = Duration::from_secs(60);

/// After a time that brought no job it is tried again so much later.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Whoever sets the clock back by less than this wants nothing twice; by more, it was wrong before.
const SET_BACK: Duration = Duration::from_secs(3 * 3600);

/// The job of a time of a schedule is on its way into the engine.
#[derive(Debug)]
pub struct FiringUnderWay {
    pub schedule: String,
    due_us: i64,
}

/// What is to be done about the times that have come.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fire(i64),
    /// All of them up to this one are left out.
    LeaveOut(i64),
    /// None has come.
    Wait,
}

impl Entry {
    fn judge(&self, now_us: i64) -> Verdict {
        let over_us = self.kept.over_us;
        let Some(first) = self.next_after(over_us).filter(|&first| first <= now_us) else {
            return Verdict::Wait;
        };
        let on_time_us = now_us.saturating_sub(micros(ON_TIME));
        match (self.schedule.missed.unwrap_or_default(), on_time_us > first) {
            (Missed::RunAll, _) | (_, false) => Verdict::Fire(first),
            (policy, true) => {
                // Those that are on time come after it.
                let missed = self.timing.latest(over_us, on_time_us - 1, self.kept.from_us).unwrap_or(first);
                if policy == Missed::Skip { Verdict::LeaveOut(missed) } else { Verdict::Fire(missed) }
            }
        }
    }
}

/// The job of a schedule at that time.
fn job_of(schedule: &Schedule, due_us: i64) -> Job {
    let key = format!("{RESERVED}{}@{}", schedule.name, rfc3339_short(due_us));
    Job { key: Some(key.into()), ..unkeyed_job_of(schedule) }
}

/// The job of a schedule, at no time.
pub fn unkeyed_job_of(schedule: &Schedule) -> Job {
    let name = &schedule.name;
    let own = || OsText::from(format!("{RESERVED}{name}"));
    let if_exists = match schedule.overlap.unwrap_or_default() {
        Overlap::Skip => Some(IfExists::Skip),
        Overlap::Queue => Some(IfExists::Queue),
        Overlap::Allow => None,
    };
    let mut job = schedule.job.clone();
    job.name.get_or_insert_with(|| name.as_str().into());
    Job { unique: if_exists.map(|_| own()), if_exists, ..job }
}

impl Desk {
    /// Does what the times that have come ask for.
    pub(in crate::desk) fn on_tick(&mut self, core: &Core) {
        let now_us = self.now.wall_us;
        let has_come = |entry: &Entry| entry.next_us.is_some_and(|next_us| next_us <= now_us);
        let names: Vec<String> = self
            .schedules
            .by_name
            .iter()
            .filter(|(_, entry)| has_come(entry))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.on_due(name, core);
        }
    }

    fn on_due(&mut self, name: String, core: &Core) {
        let now_us = self.now.wall_us;
        let Some(entry) = self.schedules.by_name_mut().get_mut(&name) else { return };
        match entry.judge(now_us) {
            Verdict::Wait => entry.look_ahead(),
            Verdict::LeaveOut(until_us) => {
                entry.kept.over_us = until_us;
                entry.look_ahead();
                let kept = entry.kept.clone();
                tracing::info!(schedule = name, "what was missed is left out");
                self.keep_schedules(vec![(name, Some(kept))]);
            }
            Verdict::Fire(due_us) => {
                entry.next_us = None;
                let schedule = entry.schedule.clone();
                self.fire(name, &schedule, due_us, core);
            }
        }
    }

    fn fire(&mut self, name: String, schedule: &Schedule, due_us: i64, core: &Core) {
        let work = self.check_output_room().and_then(|()| self.scheduled_work(schedule, due_us, core));
        match work {
            Ok(work) => {
                let request = self.schedules.take_request();
                self.requests.insert(request, Open::Firing(FiringUnderWay { schedule: name, due_us }));
                self.command(core::Event::Submit { request, jobs: vec![work] });
            }
            Err(refusal) => self.on_not_fired(&name, &refusal),
        }
    }

    /// The job of a schedule at that time, checked.
    pub(super) fn scheduled_work(
        &mut self,
        schedule: &Schedule,
        due_us: i64,
        core: &Core,
    ) -> Result<Arc<Work>, Refusal> {
        self.admit(job_of(schedule, due_us), core)
    }

    pub(super) fn admit(&mut self, job: Job, core: &Core) -> Result<Arc<Work>, Refusal> {
        let mut work = self.admission.admit(job, 0, &self.config, |name| core.open_pool(name))?;
        check_exclusive(std::slice::from_mut(&mut work), core)?;
        check_fit(&work.pool, &work.needs, 0, core.capacity_of(&work.pool))?;
        Ok(work)
    }

    /// The job is there, or was there already, or another one has not ended.
    pub(in crate::desk) fn on_fired(
        &mut self,
        firing: FiringUnderWay,
        first: JobId,
        existing: &[(usize, JobId)],
        turns: &Turns,
    ) {
        let FiringUnderWay { schedule: name, due_us } = firing;
        // It may have been removed meanwhile.
        let Some(entry) = self.schedules.by_name_mut().get_mut(&name) else { return };
        let job = existing.first().map_or(first, |&(_, id)| id);
        let is_skipped = !turns.skipped.is_empty();
        tracing::debug!(schedule = name, %job, is_skipped, "a schedule has fired");
        entry.kept.last = Some(LastFiring { due_us, job, is_skipped });
        entry.kept.over_us = entry.kept.over_us.max(due_us);
        entry.fault = None;
        entry.look_ahead();
        let kept = entry.kept.clone();
        self.keep_schedules(vec![(name, Some(kept))]);
    }

    /// No job could be submitted: it is tried again.
    pub(in crate::desk) fn on_not_fired(&mut self, name: &str, refusal: &Refusal) {
        let now_us = self.now.wall_us;
        let Some(entry) = self.schedules.by_name_mut().get_mut(name) else { return };
        let fault = refusal.to_string();
        if entry.fault.as_ref() != Some(&fault) {
            tracing::warn!(
                schedule = name,
                reason = fault,
                "a schedule could not submit its job; it tries again"
            );
        }
        entry.fault = Some(fault);
        entry.next_us = Some(now_us.saturating_add(micros(TRY_AGAIN)));
    }

    /// What has kept schedules from submitting their jobs may be over: those that wait to try again do so
    /// now.
    pub(in crate::desk) fn try_schedules_again(&mut self) {
        let now_us = self.now.wall_us;
        for entry in self.schedules.by_name_mut().values_mut() {
            if entry.fault.is_some() && entry.next_us.is_some() {
                entry.next_us = Some(now_us);
            }
        }
    }

    /// The wall's clock was set.
    pub(in crate::desk) fn on_clock_set(&mut self) {
        let now_us = self.now.wall_us;
        let mut changed = Vec::new();
        for (name, entry) in self.schedules.by_name_mut() {
            if entry.kept.over_us.saturating_sub(now_us) > micros(SET_BACK) {
                entry.kept.over_us = now_us;
                entry.kept.from_us = entry.kept.from_us.min(now_us);
                if entry.next_us.is_some() {
                    entry.look_ahead();
                }
                changed.push((name.clone(), Some(entry.kept.clone())));
            }
        }
        self.keep_schedules(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::KeptSchedule;

    const MINUTE: i64 = 60_000_000;

    fn entry(missed: Missed) -> Entry {
        let schedule = Schedule {
            name: "often".to_owned(),
            every_s: Some(600.0),
            missed: Some(missed),
            ..Schedule::default()
        };
        Entry::new(schedule, KeptSchedule::begun(None, 0), false).unwrap()
    }

    #[test]
    fn what_was_missed_is_made_up_for_as_the_schedule_says() {
        use Verdict::{Fire, LeaveOut, Wait};
        for (now, once, skip, all) in [
            (9, Wait, Wait, Wait),
            (10, Fire(10), Fire(10), Fire(10)),
            (11, Fire(10), Fire(10), Fire(10)),
            (12, Fire(10), LeaveOut(10), Fire(10)),
            (20, Fire(10), LeaveOut(10), Fire(10)),
            (35, Fire(30), LeaveOut(30), Fire(10)),
        ] {
            let minutes = |verdict| match verdict {
                Fire(due_us) => Fire(due_us / MINUTE),
                LeaveOut(until_us) => LeaveOut(until_us / MINUTE),
                other => other,
            };
            for (missed, wanted) in [(Missed::RunOnce, once), (Missed::Skip, skip), (Missed::RunAll, all)] {
                assert_eq!(minutes(entry(missed).judge(now * MINUTE)), wanted, "{missed:?} {now}");
            }
        }
    }

    #[test]
    fn each_time_has_a_key_of_its_own() {
        let schedule = Schedule { overlap: Some(Overlap::Allow), ..entry(Missed::Skip).schedule };
        let job = job_of(&schedule, 1_000_000);
        assert_eq!(job.key, Some("schedule:often@1970-01-01T00:00:01Z".into()));
        assert_eq!((job.name, job.unique), (Some("often".into()), None));
    }
}
