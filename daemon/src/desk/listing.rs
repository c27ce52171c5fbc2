//! What clients read of jobs: `Get`, `List`, `Count`, `Output`, `Absent`, `Dependents`, `Attempts`.

use std::collections::BTreeMap;

use pool_proto::methods::{
    Absent, AbsentIds, AttemptsListed, Counted, DependentsListed, Got, List, ListOrder, Listed, MAX_ABSENT,
    StateCount,
};
use pool_proto::nouns::{Attempt, Dependency, Entry};
use pool_proto::text::{rfc3339, unix_micros};
use pool_proto::{Record, Refusal, State};

use super::request::Open;
use super::{Desk, Effect};
use crate::core::Core;
use crate::engine::{MAX_ENTRIES, Page, Question};
use crate::job::{After, ExitCodes, Filter, IdSet, Items, JobId, KEPT_ATTEMPTS, PastAttempt, RequestId};

/// Records in one reply of a listing.
const PAGE: u32 = 500;

/// Without `more`, a listing is one reply; this is its greatest length.
const SINGLE_PAGE: u32 = 1000;

/// Entries in one reply of a brief listing. Each takes a fraction of a record's time.
const BRIEF_PAGE: u32 = MAX_ENTRIES;

/// Jobs that are told to wait for another one.
const DEPENDENTS: u32 = 100;

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    /// The part that is read, or will be when the client has read the one before.
    page: Page,
    /// How many records the client still wants.
    left: u32,
    more: bool,
}

/// Ids of which a client wants to know which ones no job has.
#[derive(Debug)]
pub struct Sought {
    /// As the client named them, each once.
    ids: Vec<JobId>,
    missing: IdSet<JobId>,
    /// Numbers beyond all ids, which no job has.
    beyond: Vec<u64>,
    /// Of so many it is known: the answer may come in parts.
    known: usize,
}

/// What a listing goes by besides the places of its jobs.
///
/// # Errors
/// What is wrong with the request, as a sentence.
fn filter_of(list: &List) -> Result<Filter, String> {
    let time = |name: &str, text: &Option<String>| match text {
        Some(text) => {
            unix_micros(text).map(Some).ok_or_else(|| format!("{name}: {text:?} is no time of RFC 3339"))
        }
        None => Ok(None),
    };
    match list.order {
        Some(ListOrder::Line) if list.pool.is_none() => {
            return Err("order: a line is of one pool: name it with `pool`".to_owned());
        }
        Some(ListOrder::Line | ListOrder::Ended) if list.after.is_some() => {
            return Err("after: the orders line and ended have one page only: leave it out".to_owned());
        }
        Some(_) | None => {}
    }
    if list.brief == Some(true) && matches!(list.order, Some(ListOrder::Line | ListOrder::Ended)) {
        return Err("brief: only with the orders oldest and newest".to_owned());
    }
    let codes = list.exit_codes.as_deref().map(ExitCodes::parse).transpose();
    Ok(Filter {
        name: list.name.as_ref().map(|name| name.as_escaped().to_owned()),
        since_us: time("since", &list.since)?,
        until_us: time("until", &list.until)?,
        codes: codes.map_err(|error| format!("exit_codes: {error}"))?,
    })
}

/// The greatest length of one reply of several.
fn of_several(is_brief: bool) -> u32 {
    if is_brief { BRIEF_PAGE } else { PAGE }
}

/// What the core alone knows of a job that runs.
fn note_attempt(record: &mut Record, core: &Core) {
    if record.state == State::Running {
        record.frozen_since = core.frozen_since_us(JobId(record.id)).map(rfc3339);
    }
    if record.resources.is_some() && matches!(record.state, State::Running | State::Stopping) {
        record.items = as_told(&core.items_of(JobId(record.id)));
    }
}

/// Items of resources, as a record tells them.
fn as_told(items: &Items) -> Option<BTreeMap<String, String>> {
    let told = items.iter().map(|(name, items)| (name.to_string(), items.join(",")));
    (!items.is_empty()).then(|| told.collect())
}

impl Desk {
    // ---- one record ----

    pub(super) fn on_get(&mut self, request: RequestId, id: JobId) {
        self.requests.insert(request, Open::Getting);
        self.ask(Question::Records { request, ids: vec![id] });
    }

    pub(super) fn on_got_record(
        &mut self,
        request: RequestId,
        record: Option<Record>,
        missing: &[JobId],
        core: &Core,
    ) {
        match record {
            Some(mut record) => {
                record.progress = core.progress_of(JobId(record.id));
                note_attempt(&mut record, core);
                self.reply(request, Got { record: Box::new(record) }, true);
            }
            None => self.refuse_missing(request, missing),
        }
    }

    pub(super) fn refuse_missing(&mut self, request: RequestId, missing: &[JobId]) {
        let id = missing.first().map_or(0, |id| id.0);
        self.refuse(request, Refusal::NoSuchJob { id, pruned: None });
    }

    // ---- who waits for it ----

    pub(super) fn on_dependents(&mut self, request: RequestId, id: JobId) {
        self.requests.insert(request, Open::ListingDependents(id));
        self.ask(Question::Dependents { request, id, limit: DEPENDENTS });
    }

    pub(super) fn on_listed_dependents(
        &mut self,
        request: RequestId,
        dependents: Option<Vec<After>>,
        more: bool,
    ) {
        let Some(Open::ListingDependents(id)) = self.requests.get(request) else { return };
        let Some(dependents) = dependents else { return self.refuse_missing(request, &[*id]) };
        let named = |after: After| Dependency { id: after.id.0, on: Some(after.on) };
        let dependents = dependents.into_iter().map(named).collect();
        self.reply(request, DependentsListed { dependents, more }, true);
    }

    // ---- its attempts ----

    pub(super) fn on_attempts(&mut self, request: RequestId, id: JobId) {
        self.requests.insert(request, Open::ListingAttempts(id));
        self.ask(Question::Attempts { request, id });
    }

    pub(super) fn on_listed_attempts(&mut self, request: RequestId, attempts: Option<Vec<PastAttempt>>) {
        let Some(Open::ListingAttempts(id)) = self.requests.get(request) else { return };
        let Some(attempts) = attempts else { return self.refuse_missing(request, &[*id]) };
        let told = |past: PastAttempt| Attempt {
            attempt: past.attempt,
            started_at: past.started_us.map(rfc3339),
            ended_at: rfc3339(past.ended_us),
            result: past.result,
            exit_code: past.exit_code,
            signal: past.signal,
            reason: past.reason,
        };
        let attempts = attempts.into_iter().map(told).collect();
        self.reply(request, AttemptsListed { attempts }, true);
    }

    // ---- output ----

    pub(super) fn on_output(&mut self, request: RequestId, id: JobId, attempt: Option<u32>) {
        self.requests.insert(request, Open::OpeningOutput { attempt });
        self.ask(Question::Records { request, ids: vec![id] });
    }

    pub(super) fn on_output_record(
        &mut self,
        request: RequestId,
        wanted: Option<u32>,
        record: Option<&Record>,
        missing: &[JobId],
    ) {
        let Some(record) = record else { return self.refuse_missing(request, missing) };
        let (id, latest) = (JobId(record.id), record.attempt);
        if record.output_pruned {
            let reason = "the history has removed it to make room ([history] max_output_bytes)".to_owned();
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }
        if latest == 0 {
            let reason = format!("it is {} and has not started", record.state.as_str());
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }
        let attempt = wanted.unwrap_or(latest);
        if attempt == 0 || attempt > latest {
            let attempts = if latest == 1 { "1 attempt" } else { &format!("{latest} attempts") };
            let reason = format!("it has had {attempts}, and no attempt {attempt}");
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }
        if latest - attempt >= KEPT_ATTEMPTS {
            let reason = format!(
                "the output of attempt {attempt} is gone: poold keeps that of the last {KEPT_ATTEMPTS} attempts, \
                 and attempt {latest} is the latest"
            );
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }

        // Whether it can be opened is told only where it cannot, so the request is over for now.
        self.close(request);
        // Of an earlier attempt it is not known.
        let written = match attempt == latest {
            true => [&record.stdout, &record.stderr].map(|file| file.as_ref()?.bytes),
            false => [None; 2],
        };
        let (log, named) = (record.method.is_some(), wanted.is_some());
        self.effects.push(Effect::ReplyOutput { request, id, attempt, named, log, written });
    }

    /// `is_followed`: the latest attempt is wanted, and the next one has begun since the record was read.
    pub(super) fn on_output_missing(
        &mut self,
        request: RequestId,
        id: JobId,
        is_followed: bool,
        reason: String,
    ) {
        if is_followed {
            return self.on_output(request, id, None);
        }
        self.refuse(request, Refusal::NoOutput { id: id.0, reason });
    }

    // ---- many records ----

    pub(super) fn on_list(&mut self, request: RequestId, list: List, more: bool) {
        if list.limit == Some(0) {
            let parameter =
                "limit: must be 1 or more; without it a page has as many as poold chooses".to_owned();
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let filter = match filter_of(&list) {
            Ok(filter) => filter,
            Err(parameter) => return self.refuse(request, Refusal::InvalidParameter { parameter }),
        };
        let order = list.order.unwrap_or_default();
        let more = more && matches!(order, ListOrder::Oldest | ListOrder::Newest);
        let is_brief = list.brief == Some(true);
        let single = if is_brief { BRIEF_PAGE } else { SINGLE_PAGE };
        let left = list.limit.unwrap_or(if more { u32::MAX } else { single });
        let page = Page {
            states: list.states.unwrap_or_default(),
            pool: list.pool,
            label: list.label,
            filter,
            order,
            after: list.after.map(|after| JobId(after.min(i64::MAX as u64))),
            limit: left.min(if more { of_several(is_brief) } else { single }),
            is_brief,
        };

        self.ask(Question::Page { request, page: page.clone() });
        self.requests.insert(request, Open::Listing(Box::new(Listing { page, left, more })));
    }

    pub(super) fn on_listed(
        &mut self,
        request: RequestId,
        mut records: Vec<Record>,
        entries: Vec<Entry>,
        next: Option<JobId>,
        core: &Core,
    ) {
        records.iter_mut().for_each(|record| note_attempt(record, core));

        let Some(Open::Listing(listing)) = self.requests.get_mut(request) else { return };
        let told = u32::try_from(records.len() + entries.len()).unwrap_or(u32::MAX);
        listing.left = listing.left.saturating_sub(told);
        let goes_on = next.is_some() && listing.left > 0 && listing.more;
        listing.page.after = next;
        listing.page.limit = listing.left.min(of_several(listing.page.is_brief));

        let entries = listing.page.is_brief.then_some(entries);
        self.reply(request, Listed { jobs: records, entries, next: next.map(|id| id.0) }, !goes_on);
        if goes_on {
            // The next page is read when the client has read this one.
            self.effects.push(Effect::AwaitDrained { request });
        }
    }

    // ---- how many there are ----

    pub(super) fn on_tally(&mut self, request: RequestId) {
        self.requests.insert(request, Open::Tallying);
        self.ask(Question::Counts { request });
    }

    pub(super) fn on_tallied(
        &mut self,
        request: RequestId,
        mut counts: Vec<(State, u64, bool)>,
        failed_callbacks: u64,
        core: &Core,
    ) {
        let queued = core.count_queued();
        counts.retain(|&(state, ..)| state != State::Queued);
        if queued > 0 {
            counts.insert(0, (State::Queued, queued, false));
        }
        let states = counts.into_iter().map(|(state, jobs, more)| StateCount { state, jobs, more }).collect();
        self.reply(request, Counted { states, failed_callbacks: Some(failed_callbacks) }, true);
    }

    /// The client has read all that it was told: the next page follows, or what else there is.
    pub(super) fn on_drained(&mut self, request: RequestId) {
        match self.requests.get(request) {
            Some(Open::Listing(listing)) => {
                let page = listing.page.clone();
                self.ask(Question::Page { request, page });
            }
            Some(Open::Waiting(_)) => self.tell_on(request),
            _ => {}
        }
    }

    // ---- ids that no job has ----

    /// Looked up like records, a few at a time: nobody needs this to be quick.
    pub(super) fn on_absent(&mut self, request: RequestId, absent: Absent) {
        if absent.ids.len() > MAX_ABSENT {
            let parameter = format!("ids: at most {MAX_ABSENT} at once");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let mut named = IdSet::default();
        let ids = absent.ids.into_iter().map(JobId).filter(|&id| named.insert(id));
        let (ids, beyond): (Vec<JobId>, Vec<JobId>) = ids.partition(|id| id.0 <= i64::MAX as u64);
        let beyond = beyond.into_iter().map(|id| id.0).collect();

        let sought = Sought { ids: ids.clone(), missing: IdSet::default(), beyond, known: 0 };
        self.requests.insert(request, Open::Seeking(Box::new(sought)));
        self.ask(Question::Records { request, ids });
    }

    pub(super) fn on_sought(&mut self, request: RequestId, found: usize, missing: &[JobId]) {
        let Some(Open::Seeking(sought)) = self.requests.get_mut(request) else { return };
        sought.known += found + missing.len();
        sought.missing.extend(missing);
        if sought.known < sought.ids.len() {
            return;
        }
        let ids = sought.ids.iter().filter(|id| sought.missing.contains(id)).map(|id| id.0);
        let ids = ids.chain(sought.beyond.iter().copied()).collect();
        self.reply(request, AbsentIds { ids }, true);
    }
}
