//! Submissions: from what a client asks for to the jobs that the core is given, and what the client is told
//! when they are kept, or are not.

use std::sync::Arc;

use pool_proto::methods::{Submit, SubmitMany, Submitted};
use pool_proto::nouns::{OnDisconnect, Progress, ProgressEvent, TIE_TO_CLIENT};
use pool_proto::{OsText, Refusal, nouns};

use super::admission::{self, Common, check_fit};
use super::event::ConnectionId;
use super::limits::check_exclusive;
use super::request::Open;
use super::schedules::RESERVED;
use super::wait::{Wanted, Watcher, progress};
use super::{Desk, Effect};
use crate::core::{self, Core, Denial};
use crate::engine::{Question, Turns};
use crate::job::{JobId, Key, RequestId, Work};

/// A submission whose jobs are on their way into the engine.
#[derive(Debug)]
pub struct Submission {
    form: Form,
    follow: Follow,
    /// The token of the standard input that its job has named: the job's once that is kept, nobody's where it
    /// is not.
    spooled: Option<String>,
    /// Its client wants to know why its jobs do not go on.
    tells_obstacles: bool,
    /// Its client has gone.
    pub is_forsaken: bool,
}

/// A submission that cannot be accepted, while the engine is asked whether its jobs are there already.
#[derive(Debug)]
pub struct Repetition {
    pub submission: Submission,
    refusal: Refusal,
}

/// How the ids are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The id of the one job: `Submit`.
    One,
    /// As a list, even of one: `SubmitMany`.
    List,
}

/// What the client of a submission wants to hear after it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    Nothing,
    /// All of the one job, and this is to become of it should the client go.
    Attached(OnDisconnect),
    /// The ends of all jobs, in few words.
    Batch,
}

impl Submission {
    /// A job that nobody waits for.
    pub fn of_one_unattended() -> Self {
        let (form, follow) = (Form::One, Follow::Nothing);
        Self { form, follow, spooled: None, tells_obstacles: false, is_forsaken: false }
    }

    /// The spooled input that nobody else owns by now.
    pub fn take_spooled(&mut self) -> Option<String> {
        self.spooled.take()
    }
}

impl Desk {
    pub(super) fn on_submit(
        &mut self,
        connection: ConnectionId,
        request: RequestId,
        submit: Submit,
        more: bool,
        core: &Core,
    ) {
        let tells_obstacles = more && submit.obstacles == Some(true);
        let attached = more.then(|| submit.on_disconnect.unwrap_or_default());
        let follow = attached.map_or(Follow::Nothing, Follow::Attached);
        let submission =
            Submission { form: Form::One, follow, spooled: None, tells_obstacles, is_forsaken: false };
        let keys = keys_of([&submit.job]);
        match self.check_submit(connection, submit, attached, core) {
            Ok((work, follow, spooled)) => {
                self.submit(request, vec![work], Submission { follow, spooled, ..submission });
            }
            Err(refusal) => self.refuse_unless_known(request, keys, submission, refusal),
        }
    }

    /// The job, what its client wants to hear, and the input that the job takes over.
    fn check_submit(
        &mut self,
        connection: ConnectionId,
        submit: Submit,
        attached: Option<OnDisconnect>,
        core: &Core,
    ) -> Result<(Arc<Work>, Follow, Option<String>), Refusal> {
        self.check_output_room()?;
        let Submit { mut job, on_disconnect: _, obstacles: _ } = submit;
        check_reserved(0, &job)?;
        if attached == Some(OnDisconnect::Cancel) {
            if job.tie.as_deref().is_some_and(|tie| tie != TIE_TO_CLIENT) {
                return Err(invalid(
                    0,
                    "tie",
                    "a job has one tie, and on_disconnect \"cancel\" is that to its client: \
                     leave one of them out",
                ));
            }
            job.tie.get_or_insert_with(|| TIE_TO_CLIENT.to_owned());
        }
        let is_tied = job.tie.as_deref() == Some(TIE_TO_CLIENT);
        if is_tied && attached.is_none() {
            return Err(invalid(
                0,
                "tie",
                "only a client that waits for the job's end can be tied to: call Submit with \"more\"",
            ));
        }
        let follow = match attached {
            None => Follow::Nothing,
            Some(_) if is_tied => Follow::Attached(OnDisconnect::Cancel),
            Some(on_disconnect) => Follow::Attached(on_disconnect),
        };

        let token = job.stdin.clone();
        let mut work = self.admission.admit(job, 0, &self.config, |name| core.open_pool(name))?;
        check_exclusive(std::slice::from_mut(&mut work), core)?;
        check_fit(&work.pool, &work.needs, 0, core.capacity_of(&work.pool))?;
        // Last: what is refused before leaves the input with its connection.
        let spooled = match token {
            Some(token) => Some(self.claim_spooled(connection, &token).ok_or_else(|| {
                invalid(0, "stdin", &format!("{token:?} is no token that Spool gave on this connection"))
            })?),
            None => None,
        };
        Ok((work, follow, spooled))
    }

    pub(super) fn on_submit_many(&mut self, request: RequestId, many: SubmitMany, more: bool, core: &Core) {
        let tells_obstacles = more && many.obstacles == Some(true);
        let follow = if more { Follow::Batch } else { Follow::Nothing };
        let submission =
            Submission { form: Form::List, follow, spooled: None, tells_obstacles, is_forsaken: false };
        let keys = keys_of(&many.jobs);
        match self.check_submit_many(many, more, core) {
            Ok(jobs) if jobs.is_empty() => self.reply(request, Submitted::default(), true),
            Ok(jobs) => self.submit(request, jobs, submission),
            Err(refusal) => self.refuse_unless_known(request, keys, submission, refusal),
        }
    }

    /// What cannot be accepted now may be a repetition: where all of its jobs are there already, these are
    /// the answer, whatever has become of their pool, their labels or the room in the queue since.
    ///
    /// Only here the keys are looked up by themselves. What can be accepted has them looked up by its
    /// insertion.
    fn refuse_unless_known(
        &mut self,
        request: RequestId,
        keys: Vec<Key>,
        submission: Submission,
        refusal: Refusal,
    ) {
        if keys.is_empty() {
            return self.refuse(request, refusal);
        }
        let repetition = Repetition { submission, refusal };
        self.requests.insert(request, Open::Repeating(Box::new(repetition)));
        self.ask(Question::Keepers { request, keys });
    }

    /// The core has no place for these jobs.
    pub(super) fn on_denied(&mut self, request: RequestId, denial: Denial, jobs: &[Arc<Work>]) {
        let refusal = refusal_of(denial);
        let keys: Option<Vec<Key>> = jobs.iter().map(|work| work.key.clone()).collect();
        match (keys, self.requests.get(request)) {
            (Some(keys), Some(Open::Submitting(submission))) if !submission.is_forsaken => {
                let Some(Open::Submitting(submission)) = self.requests.remove(request) else { return };
                self.refuse_unless_known(request, keys, submission, refusal);
            }
            _ => self.refuse(request, refusal),
        }
    }

    /// Who has the keys of a submission that cannot be accepted.
    pub(super) fn on_keepers(&mut self, request: RequestId, keepers: &[Option<JobId>]) {
        // Otherwise its client has gone.
        let Some(Open::Repeating(repetition)) = self.requests.get(request) else { return };
        let Some(ids) = keepers.iter().copied().collect::<Option<Vec<JobId>>>() else {
            let refusal = repetition.refusal.clone();
            return self.refuse(request, refusal);
        };
        let Some(Open::Repeating(repetition)) = self.requests.remove(request) else { return };
        let existing: Vec<(usize, JobId)> = ids.iter().copied().enumerate().collect();
        self.accept(request, repetition.submission, ids, &existing, &Turns::default(), Vec::new());
    }

    fn check_submit_many(
        &mut self,
        many: SubmitMany,
        more: bool,
        core: &Core,
    ) -> Result<Vec<Arc<Work>>, Refusal> {
        self.check_output_room()?;
        let mut common = Common::new(many.defaults.unwrap_or_default());
        let mut jobs: Vec<Arc<Work>> = Vec::with_capacity(many.jobs.len());
        for (index, job) in many.jobs.into_iter().enumerate() {
            let job = common.complete(job)?;
            check_shared(index, &job, more)?;
            check_reserved(index, &job)?;
            let pool_named = |name: &str| core.open_pool(name);
            let work = self.admission.admit_one_of(job, index, &mut common, &self.config, pool_named)?;
            check_fit(&work.pool, &work.needs, index, core.capacity_of(&work.pool))?;
            jobs.push(work);
        }

        check_exclusive(&mut jobs, core)?;
        if let Some(index) = jobs.iter().position(|work| work.volatile != jobs[0].volatile) {
            return Err(invalid(
                index,
                "durability",
                "the jobs of one message are all kept on disk, or none is: submit the others by themselves",
            ));
        }
        Ok(jobs)
    }

    pub(super) fn submit(&mut self, request: RequestId, jobs: Vec<Arc<Work>>, submission: Submission) {
        self.requests.insert(request, Open::Submitting(submission));
        self.command(core::Event::Submit { request, jobs });
    }

    /// The jobs are kept, or were before. Where they are not synced, what is told of that is held back.
    /// `obstructed`: the first ones that wait for something besides a slot.
    #[allow(clippy::too_many_arguments, reason = "all that the core says of an insertion")]
    pub(super) fn on_accepted(
        &mut self,
        request: RequestId,
        submission: Submission,
        first: JobId,
        count: usize,
        existing: &[(usize, JobId)],
        turns: &Turns,
        obstructed: Vec<JobId>,
    ) {
        let mut ids: Vec<JobId> = (first.0..).take(count).map(JobId).collect();
        existing.iter().for_each(|&(place, id)| ids[place] = id);
        self.accept(request, submission, ids, existing, turns, obstructed);
    }

    /// `ids`: in the order of the message.
    fn accept(
        &mut self,
        request: RequestId,
        mut submission: Submission,
        ids: Vec<JobId>,
        existing: &[(usize, JobId)],
        turns: &Turns,
        obstructed: Vec<JobId>,
    ) {
        let spooled = submission.take_spooled();
        if !existing.is_empty() {
            // Another job has the key or the name. Only a job that was submitted by itself has an input to
            // spool, so this one is nobody's.
            self.remove_spooled(spooled);
        }

        // Nobody waits for what was not submitted.
        let awaited: Vec<JobId> = ids
            .iter()
            .enumerate()
            .filter(|&(place, _)| !turns.is_skipped(place))
            .map(|(_, &id)| id)
            .collect();
        let wanted = match submission.follow {
            Follow::Nothing => None,
            Follow::Attached(on_disconnect) => Some(Wanted::Attached(on_disconnect)),
            Follow::Batch => Some(Wanted::Batch),
        };
        let wanted = wanted.filter(|_| !awaited.is_empty());
        if submission.is_forsaken {
            // The core was told so, too; but where the jobs were accepted before it heard of that, they are
            // still tied to a client that has gone.
            if let Some(wanted) = wanted {
                self.abandon(Watcher::new(wanted, awaited));
            }
            return;
        }

        if let Some(wanted) = wanted {
            let watcher = Watcher::new(wanted, awaited.iter().copied());
            let watcher = watcher.telling_obstacles(submission.tells_obstacles);
            self.requests.insert(request, Open::Waiting(Box::new(watcher)));
        }

        self.reply_accepted(request, submission.form, &ids, existing, turns, wanted.is_none());
        let existing = existing.iter().filter(|&&(place, _)| !turns.is_skipped(place));
        let mut unknown: Vec<JobId> = existing.map(|&(_, id)| id).collect();
        if submission.tells_obstacles {
            unknown.extend(obstructed.into_iter().filter(|id| awaited.contains(id)));
            unknown.sort_unstable();
            unknown.dedup();
        }
        if wanted.is_some() && !unknown.is_empty() {
            // Those that exist already may have started, and ended, long ago.
            self.read_soon(request, unknown);
            self.read_on(request);
        }
    }

    /// A power cut does not take the jobs of that submission any more: what was held back is told.
    pub(super) fn on_synced(&mut self, request: RequestId) {
        let Some(held) = self.unsynced.end(request) else { return };
        held.happenings.into_iter().for_each(|happening| self.tell_listeners(happening));
        self.effects.extend(held.replies);
        for (id, (attempt, progress)) in &held.progress {
            self.tell_progress_of(*id, *attempt, progress);
        }
    }

    fn reply_accepted(
        &mut self,
        request: RequestId,
        form: Form,
        ids: &[JobId],
        existing: &[(usize, JobId)],
        turns: &Turns,
        last: bool,
    ) {
        match (form, ids) {
            (Form::One, &[id]) if let Some(&(_, state)) = turns.skipped.first() => {
                let skipped = Progress { state: Some(state), ..progress(ProgressEvent::Skipped, id) };
                self.reply(request, skipped, last);
            }
            (Form::One, &[id]) => {
                let existing = Some(!existing.is_empty());
                let accepted = Progress { existing, ..progress(ProgressEvent::Accepted, id) };
                self.reply(request, accepted, last);
            }
            (Form::One | Form::List, _) => {
                let ids = ids.iter().map(|id| id.0).collect();
                let existing = existing.iter().map(|&(place, _)| place).collect();
                let skipped: Vec<usize> = turns.skipped.iter().map(|&(place, _)| place).collect();
                let skipped = (!skipped.is_empty()).then_some(skipped);
                self.reply(request, Submitted { ids, existing, skipped, ..Submitted::default() }, last);
            }
        }
    }

    pub(super) fn remove_spooled(&mut self, token: Option<String>) {
        self.effects.extend(token.map(|token| Effect::RemoveSpooled { token }));
    }
}

/// What a denial is called where clients hear of it: the one place that knows both.
pub fn refusal_of(denial: Denial) -> Refusal {
    match denial {
        Denial::Draining => Refusal::Draining {},
        Denial::QueueFull { pool, limit } => Refusal::QueueFull { pool: pool.to_string(), limit },
        Denial::PoolDraining { pool } => Refusal::PoolDraining { pool: pool.to_string() },
        Denial::PoolGone { pool } => Refusal::NoSuchPool { pool: pool.to_string() },
    }
}

/// The keys by which jobs may be known already; none unless each of them has one that a client may use.
fn keys_of<'a>(jobs: impl IntoIterator<Item = &'a nouns::Job>) -> Vec<Key> {
    let key_of = |job: &nouns::Job| {
        let is_own = check_reserved(0, job).is_ok() && job.tie.as_deref() != Some(TIE_TO_CLIENT);
        admission::key(job).ok().flatten().filter(|_| is_own)
    };
    jobs.into_iter().map(key_of).collect::<Option<Vec<Key>>>().unwrap_or_default()
}

/// Keys and unique names that are those of schedules.
fn check_reserved(index: usize, job: &nouns::Job) -> Result<(), Refusal> {
    let is_reserved =
        |text: &Option<OsText>| text.as_ref().is_some_and(|text| text.as_escaped().starts_with(RESERVED));
    let named = [("key", &job.key), ("unique", &job.unique)];
    match named.into_iter().find(|(_, text)| is_reserved(text)) {
        Some((field, _)) => {
            let reason = format!("what begins with {RESERVED:?} is for schedules: use another one");
            Err(invalid(index, field, &reason))
        }
        None => Ok(()),
    }
}

/// What a job cannot have that is not submitted by itself.
fn check_shared(index: usize, job: &nouns::Job, more: bool) -> Result<(), Refusal> {
    if job.stdin.is_some() {
        let reason = "several jobs cannot share one standard input: submit such a job by itself";
        return Err(invalid(index, "stdin", reason));
    }
    if job.tie.as_deref() == Some(TIE_TO_CLIENT) && !more {
        let reason = "only a client that waits can be tied to: call SubmitMany with \"more\", \
                      or submit such a job by itself";
        return Err(invalid(index, "tie", reason));
    }
    Ok(())
}

fn invalid(index: usize, field: &str, reason: &str) -> Refusal {
    Refusal::InvalidJob { index, field: field.to_owned(), reason: reason.to_owned() }
}
