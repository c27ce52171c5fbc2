//! The model and what was read.

use pool_proto::Record;
use pool_proto::nouns::{Condition, Pool};

use super::job::Job;
use super::model::Model;
use super::story::Story;
use super::wish::{Act, Reading};

impl Model {
    /// What has come of a wish.
    pub fn take(&mut self, reading: Reading) {
        self.is_dirty = true;
        match reading {
            Reading::Condition { condition, changes } => self.take_condition(*condition, changes),
            Reading::Pools { pools, changes } => self.take_pools(pools, changes),
            Reading::Running(records) | Reading::Jobs(records) => self.take_jobs(&records),
            Reading::Queue { after, jobs, next } => self.queue.take(after, &jobs, next),
            Reading::Ended(records) => self.ended.take(records.iter().map(Job::of)),
            Reading::Story { record, why } => {
                self.take_jobs(std::slice::from_ref(&record));
                if let Some(story) = self.story.as_mut().filter(|story| story.id == record.id) {
                    story.take(record, why);
                }
            }
            Reading::NoStory { id, reason } => {
                if self.story.as_ref().is_some_and(|story| story.id == id) {
                    self.close_story();
                }
                self.ended.remove(id);
                self.tell(reason);
            }
            Reading::Opened { id, attempt } => {
                let Some(story) = self.story.as_mut().filter(|story| story.id == id) else { return };
                story.logs.iter_mut().for_each(super::log::Log::clear);
                story.no_log = attempt.as_ref().err().cloned();
                story.attempt = attempt.ok();
            }
            Reading::Written { stream, bytes } => {
                if let Some(story) = &mut self.story {
                    story.write(stream, &bytes);
                }
            }
            Reading::Cleared { stream } => {
                if let Some(log) = self.story.as_mut().and_then(|story| story.logs.get_mut(stream)) {
                    log.clear();
                }
            }
            Reading::Failed => self.queue.give_up(),
            Reading::Done(act, message) => {
                // No event tells of that.
                if let Act::Freeze(id, is_frozen) = act
                    && let Some(job) = self.job_mut(id)
                {
                    job.is_frozen = is_frozen;
                }
                self.story.iter_mut().for_each(Story::doubt);
                let message = match act.job() {
                    Some(id) => {
                        message.replacen(&format!("job {id} "), &format!("job {} ", self.name_of(id)), 1)
                    }
                    None => message,
                };
                self.tell(message);
            }
            Reading::Refused(message) => self.tell(message),
        }
    }

    fn take_condition(&mut self, condition: Condition, changes: u64) {
        self.is_read = true;
        self.warning = warning(&condition);
        self.version = condition.version;
        self.take_pools(condition.pools, changes);
    }

    fn take_pools(&mut self, pools: Vec<Pool>, changes: u64) {
        self.pools.take(pools, changes);
        self.history.set_queued(self.pools.queued());
    }

    /// Adds what records tell to the jobs that are known. Where they are is told by events.
    fn take_jobs(&mut self, records: &[Record]) {
        for record in records {
            let Some(job) = self.job_mut(record.id) else { continue };
            let told = Job::of(record);
            let is_later = told.state == job.state || job.attempt <= told.attempt;
            *job = Job {
                state: job.state,
                result: job.result.or(told.result),
                exit_code: job.exit_code.or(told.exit_code),
                signal: job.signal.or(told.signal),
                pool: std::mem::take(&mut job.pool),
                started_us: told.started_us.or(job.started_us),
                ended_at: job.ended_at.take().or(told.ended_at.clone()),
                note: if is_later { told.note.clone().or(job.note.take()) } else { job.note.take() },
                ..told
            };
        }
    }
}

/// What somebody has to look at.
fn warning(condition: &Condition) -> Option<String> {
    if let Some(failure) = &condition.store_failure {
        return Some(format!("poold cannot write its database: {failure}"));
    }
    if condition.ending.is_some() || !condition.accepting {
        return Some("poold is about to end, and takes no jobs".to_owned());
    }
    condition.config_error.as_ref().map(|error| format!("the configuration is wrong: {error}"))
}
