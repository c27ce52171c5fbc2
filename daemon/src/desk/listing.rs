//! What clients read of jobs: `Get`, `List`, `Output`, `Absent`, `Dependents`.

use pool_proto::methods::{Absent, AbsentIds, DependentsListed, Got, List, Listed, MAX_ABSENT};
use pool_proto::nouns::Dependency;
use pool_proto::text::rfc3339;
use pool_proto::{Record, Refusal, State};

use super::request::Open;
use super::{Desk, Effect};
use crate::core::Core;
use crate::engine::{Page, Question};
use crate::job::{After, IdSet, JobId, RequestId};

/// Records in one reply of a listing.
const PAGE: u32 = 500;

/// Without `more`, a listing is one reply; this is its greatest length.
const SINGLE_PAGE: u32 = 1000;

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
    /// Of so many it is known: the answer may come in parts.
    known: usize,
}

/// What the core alone knows of a job that runs.
fn note_frozen(record: &mut Record, core: &Core) {
    if record.state == State::Running {
        record.frozen_since = core.frozen_since_us(JobId(record.id)).map(rfc3339);
    }
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
                note_frozen(&mut record, core);
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

    // ---- output ----

    pub(super) fn on_output(&mut self, request: RequestId, id: JobId) {
        self.requests.insert(request, Open::OpeningOutput);
        self.ask(Question::Records { request, ids: vec![id] });
    }

    pub(super) fn on_output_record(
        &mut self,
        request: RequestId,
        record: Option<&Record>,
        missing: &[JobId],
    ) {
        let Some(record) = record else { return self.refuse_missing(request, missing) };
        let (id, attempt) = (JobId(record.id), record.attempt);
        if record.output_pruned {
            let reason = "the history has removed it to make room ([history] max_output_bytes)".to_owned();
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }
        if attempt == 0 {
            let reason = format!("it is {} and has not started", record.state.as_str());
            return self.refuse(request, Refusal::NoOutput { id: id.0, reason });
        }

        // Whether it can be opened is told only where it cannot, so the request is over for now.
        self.close(request);
        let written = [&record.stdout, &record.stderr].map(|file| file.as_ref()?.bytes);
        let log = record.method.is_some();
        self.effects.push(Effect::ReplyOutput { request, id, attempt, log, written });
    }

    pub(super) fn on_output_missing(
        &mut self,
        request: RequestId,
        id: JobId,
        attempt: u32,
        reason: String,
        core: &Core,
    ) {
        // The next attempt has begun since the record was read.
        if core.attempt_of(id).is_some_and(|current| current > attempt) {
            return self.on_output(request, id);
        }
        self.refuse(request, Refusal::NoOutput { id: id.0, reason });
    }

    // ---- many records ----

    pub(super) fn on_list(&mut self, request: RequestId, list: List, more: bool) {
        if list.limit == Some(0) {
            let parameter = "limit: at least 1, or none".to_owned();
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let left = list.limit.unwrap_or(if more { u32::MAX } else { SINGLE_PAGE });
        let page = Page {
            states: list.states.unwrap_or_default(),
            pool: list.pool,
            label: list.label,
            after: list.after.map(|after| JobId(after.min(i64::MAX as u64))),
            limit: left.min(if more { PAGE } else { SINGLE_PAGE }),
        };

        self.ask(Question::Page { request, page: page.clone() });
        self.requests.insert(request, Open::Listing(Box::new(Listing { page, left, more })));
    }

    pub(super) fn on_listed(
        &mut self,
        request: RequestId,
        mut records: Vec<Record>,
        next: Option<JobId>,
        core: &Core,
    ) {
        records.iter_mut().for_each(|record| note_frozen(record, core));

        let Some(Open::Listing(listing)) = self.requests.get_mut(request) else { return };
        listing.left = listing.left.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
        let goes_on = next.is_some() && listing.left > 0 && listing.more;
        listing.page.after = next;
        listing.page.limit = listing.left.min(PAGE);

        self.reply(request, Listed { jobs: records, next: next.map(|id| id.0) }, !goes_on);
        if goes_on {
            // The next page is read when the client has read this one.
            self.effects.push(Effect::AwaitDrained { request });
        }
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
            let parameter = format!("ids: at most {MAX_ABSENT}");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        let mut named = IdSet::default();
        let ids = absent.ids.into_iter().filter(|&id| id <= i64::MAX as u64).map(JobId);
        let ids: Vec<JobId> = ids.filter(|&id| named.insert(id)).collect();

        let sought = Sought { ids: ids.clone(), missing: IdSet::default(), known: 0 };
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
        let ids = sought.ids.iter().filter(|id| sought.missing.contains(id)).map(|id| id.0).collect();
        self.reply(request, AbsentIds { ids }, true);
    }
}
