//! What jobs wait for, or do instead: `Why`.
//!
//! A request reads the records of its jobs and of those that they wait for, then the beginnings of the lines
//! that they are in, one line at a time, lest others wait long for the engine. What it then tells comes from
//! these and from the core as it is by then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pool_proto::methods::{Explained, MAX_EXPLAINED};
use pool_proto::nouns::{Explanation, ExplanationKind, Slot, SlotState};
use pool_proto::text::unix_micros;
use pool_proto::{Record, Refusal, State};

use super::listen::why_stopping;
use super::obstacle::Standing;
use super::request::Open;
use super::sentence::{self, Doings, InLine, NAMED};
use super::signal::each_once;
use super::{Desk, estimate};
use crate::core::{Core, Gathering, Stall};
use crate::engine::{LINE_HEAD, Pace, Question};
use crate::job::{IdMap, IdSet, JobId, Labels, LineKey, Needs, Position, RequestId};

/// So many of the jobs that the slots of a pool have are told.
const MAX_BUSY: usize = 100;

/// Jobs of which a client wants to know what they wait for.
#[derive(Debug, Default)]
pub struct Inquiry {
    /// As the client named them, each once.
    ids: Vec<JobId>,
    /// Theirs, without what may be large.
    records: IdMap<JobId, Record>,
    /// What they and those that they wait for do.
    doings: Doings,
    /// Those of the jobs that are in their lines by their records.
    in_line: IdSet<JobId>,
    /// The beginnings of lines that have been read.
    lines: BTreeMap<LineKey, Vec<Position>>,
    unread_records: Vec<JobId>,
    unread_lines: BTreeSet<LineKey>,
    /// How the pools of these lines work off their jobs.
    paces: BTreeMap<Arc<str>, Pace>,
    unread_paces: BTreeSet<Arc<str>>,
    /// Records that the engine has been asked for and has not answered.
    awaited: usize,
    /// Jobs that had left their line before that was read, and whose records are therefore read once more.
    read_again: IdSet<JobId>,
}

/// A record that was read, and what the desk makes of it.
struct Read {
    record: Record,
    doing: String,
    is_in_line: bool,
}

impl Inquiry {
    fn new(ids: Vec<JobId>) -> Self {
        Self { unread_records: ids.clone(), ids, ..Self::default() }
    }

    /// What is to be read next. Nothing where all is known.
    fn next_question(&mut self, request: RequestId, core: &Core) -> Option<Question> {
        if !self.unread_records.is_empty() {
            let ids = std::mem::take(&mut self.unread_records);
            self.awaited = ids.len();
            return Some(Question::Records { request, ids });
        }
        if let Some(line) = self.unread_lines.pop_first() {
            return Some(Question::Line { request, line });
        }
        let unread = std::mem::take(&mut self.unread_paces);
        let (pool, rest) = self.paces_for(unread, core)?;
        self.unread_paces = rest;
        Some(Question::Pace { request, pool })
    }

    /// The next of these pools in which a job is to be told about when it starts, and the others.
    fn paces_for(
        &self,
        mut unread: BTreeSet<Arc<str>>,
        core: &Core,
    ) -> Option<(Arc<str>, BTreeSet<Arc<str>>)> {
        let in_line = || self.in_line.iter().filter_map(|id| self.records.get(id));
        let has_place = |record: &Record| matches!(self.place_of(record), InLine::At(_));
        loop {
            let pool = unread.pop_first()?;
            let mut of_pool = in_line().filter(|record| *record.pool == *pool);
            if of_pool.any(|record| has_place(record) && waits_for_slots_alone(record, core)) {
                return Some((pool, unread));
            }
        }
    }

    fn take_in(&mut self, read: Read) {
        let Read { record, doing, is_in_line } = read;
        let id = JobId(record.id);
        self.doings.insert(id, doing);
        if !self.ids.contains(&id) {
            return;
        }

        let unknown = waits_for(&record).take(NAMED).filter(|other| !self.doings.contains_key(other));
        self.unread_records.extend(unknown);
        self.in_line.remove(&id);
        if is_in_line {
            self.in_line.insert(id);
            let line = line_of(&record);
            self.unread_paces
                .extend(Some(&line.pool).filter(|pool| !self.paces.contains_key(*pool)).cloned());
            self.unread_lines.insert(line);
        }
        self.records.insert(id, record);
    }

    /// A line has been read. Jobs that were in it by their records, and are not, are looked at once more.
    fn take_in_line(&mut self, line: LineKey, head: Vec<Position>) {
        self.lines.insert(line.clone(), head);
        let has_left = |record: &&Record| line_of(record) == line && self.place_of(record) == InLine::Unfound;
        let in_line = self.in_line.iter().filter_map(|id| self.records.get(id));
        let left: Vec<JobId> = in_line.filter(has_left).map(|record| JobId(record.id)).collect();
        let again = left.into_iter().filter(|&id| self.read_again.insert(id));
        self.unread_records.extend(again);
    }

    fn place_of(&self, record: &Record) -> InLine {
        let position = position_of(record);
        let Some(head) = self.lines.get(&line_of(record)) else { return InLine::Unfound };
        match head.binary_search(&position) {
            Ok(before) => InLine::At(u32::try_from(before + 1).unwrap_or(u32::MAX)),
            Err(LINE_HEAD) => InLine::Beyond,
            Err(_) => InLine::Unfound,
        }
    }
}

fn position_of(record: &Record) -> Position {
    Position { priority: Reverse(record.priority), id: JobId(record.id) }
}

/// The line that a job is in, or would be.
fn line_of(record: &Record) -> LineKey {
    let resources = record.resources.iter().flatten();
    let resources = resources.map(|(name, &amount)| (Arc::from(name.as_str()), amount)).collect();
    let labels: Labels = record.labels.iter().flatten().map(|label| Arc::from(label.as_str())).collect();
    LineKey { pool: Arc::from(record.pool.as_str()), needs: Needs { labels, resources, slots: record.slots } }
}

/// The jobs whose ends a job waits for.
fn waits_for(record: &Record) -> impl Iterator<Item = JobId> {
    let after = record.after.iter().flatten().map(|dependency| dependency.id);
    after.chain(record.waits_for).map(JobId)
}

/// A record without what may be large.
fn without_work(record: Record) -> Record {
    Record { argv: None, params: None, value: None, error: None, callbacks: Vec::new(), ..record }
}

impl Desk {
    // ---- what is read ----

    pub(super) fn on_why(&mut self, request: RequestId, ids: Vec<JobId>, core: &Core) {
        let ids = each_once(ids);
        if ids.len() > MAX_EXPLAINED {
            let parameter = format!("ids: at most {MAX_EXPLAINED} at once");
            return self.refuse(request, Refusal::InvalidParameter { parameter });
        }
        self.requests.insert(request, Open::Inquiring(Box::new(Inquiry::new(ids))));
        self.go_on_inquiring(request, core);
    }

    pub(super) fn on_inquired_records(
        &mut self,
        request: RequestId,
        records: Vec<Record>,
        missing: &[JobId],
        rest: Vec<JobId>,
        core: &Core,
    ) {
        let answered = records.len() + missing.len() + rest.len();
        let read: Vec<Read> = records.into_iter().map(|record| self.read(record, core)).collect();
        let Some(Open::Inquiring(inquiry)) = self.requests.get_mut(request) else { return };
        // Of the jobs that others wait for, one may have been pruned since.
        if let Some(id) = missing.iter().find(|id| inquiry.ids.contains(id)) {
            return self.refuse_missing(request, &[*id]);
        }

        inquiry.awaited = inquiry.awaited.saturating_sub(answered);
        inquiry.unread_records.extend(rest);
        read.into_iter().for_each(|read| inquiry.take_in(read));
        self.go_on_inquiring(request, core);
    }

    pub(super) fn on_inquired_line(
        &mut self,
        request: RequestId,
        line: LineKey,
        head: Vec<Position>,
        core: &Core,
    ) {
        let Some(Open::Inquiring(inquiry)) = self.requests.get_mut(request) else { return };
        inquiry.take_in_line(line, head);
        self.go_on_inquiring(request, core);
    }

    pub(super) fn on_inquired_pace(&mut self, request: RequestId, pool: Arc<str>, pace: Pace, core: &Core) {
        let Some(Open::Inquiring(inquiry)) = self.requests.get_mut(request) else { return };
        inquiry.paces.insert(pool, pace);
        self.go_on_inquiring(request, core);
    }

    /// Asks for what is still to be read, or replies.
    fn go_on_inquiring(&mut self, request: RequestId, core: &Core) {
        let Some(Open::Inquiring(inquiry)) = self.requests.get_mut(request) else { return };
        if inquiry.awaited > 0 {
            return; // The answer comes in parts.
        }
        if let Some(question) = inquiry.next_question(request, core) {
            return self.ask(question);
        }

        let Some(Open::Inquiring(inquiry)) = self.requests.get(request) else { return };
        let records = inquiry.ids.iter().filter_map(|id| inquiry.records.get(id));
        let jobs = records.map(|record| self.explain(record, inquiry, core)).collect();
        self.reply(request, Explained { jobs }, true);
    }

    fn read(&self, record: Record, core: &Core) -> Read {
        let is_in_line = matches!(self.standing_of(&record, core, None), Standing::InLine);
        let doing = sentence::doing(&record, self.since(record.started_at.as_deref()));
        Read { record: without_work(record), doing, is_in_line }
    }

    // ---- what is told ----

    fn explain(&self, record: &Record, inquiry: &Inquiry, core: &Core) -> Explanation {
        let mut explanation = self.explain_job(record, inquiry, core);
        if let Some(array) = record.array.as_deref()
            && let Some(index) = array.index
            && let Some(said) = explanation.reason.strip_prefix(&format!("job {} ", record.id))
        {
            // As people name it, who may have asked so.
            explanation.reason = format!("job {}.{index} {said}", array.id);
        }
        if !record.state.is_terminal() && core.draining(&record.pool).is_some() {
            explanation.reason += &sentence::draining(&record.pool, record.state);
        }
        explanation
    }

    fn explain_job(&self, record: &Record, inquiry: &Inquiry, core: &Core) -> Explanation {
        let unmade =
            record.array.as_deref().filter(|array| array.index.is_some() && array.unfolded.is_some());
        if let Some(array) = unmade.filter(|_| !record.state.is_terminal()) {
            return self.explain_unmade(record, array.id, inquiry, core);
        }
        match self.standing_of(record, core, Some(&inquiry.doings)) {
            Standing::Obstructed(obstacle) => explanation(record, obstacle.kind.into(), obstacle.reason),
            Standing::InLine => {
                let told = explain_line(record, inquiry.place_of(record), core);
                self.with_estimate(told, record, inquiry, core)
            }
            Standing::Running => {
                explanation(record, ExplanationKind::Running, self.running_sentence(record, core))
            }
            Standing::Ended => {
                let ago = self.since(record.ended_at.as_deref()).unwrap_or_default();
                explanation(record, ExplanationKind::Ended, sentence::ended(record, ago))
            }
        }
    }

    /// What waits for a slot of its pool and nothing else is told about when it gets one.
    fn with_estimate(
        &self,
        told: Explanation,
        record: &Record,
        inquiry: &Inquiry,
        core: &Core,
    ) -> Explanation {
        let Some(position) = told.position.filter(|_| waits_for_slots_alone(record, core)) else {
            return told;
        };
        let busy = core.busy_for(&record.pool, self.now);
        let estimate = inquiry.paces.get(record.pool.as_str()).zip(busy);
        let estimate =
            estimate.and_then(|(pace, busy)| estimate::estimate(&position_of(record), pace, &busy));
        let Some(estimate) = estimate else { return told };
        let reason = told.reason + &sentence::estimated(&estimate, position);
        Explanation { reason, estimate: Some(estimate), ..told }
    }

    /// An element of an array that has not come to it: it waits as the array does, where that has not begun.
    fn explain_unmade(&self, record: &Record, array: u64, inquiry: &Inquiry, core: &Core) -> Explanation {
        let of_array = Record { id: array, array: None, ..record.clone() };
        let told = self.standing_of(&of_array, core, Some(&inquiry.doings));
        let (kind, reason) = match told {
            Standing::Obstructed(obstacle) => (obstacle.kind.into(), obstacle.reason),
            Standing::InLine | Standing::Running | Standing::Ended => {
                (ExplanationKind::Line, sentence::behind_in_array(JobId(record.id), array))
            }
        };
        explanation(record, kind, reason)
    }

    fn running_sentence(&self, record: &Record, core: &Core) -> String {
        let is_written = matches!(record.state, State::Running | State::Stopping);
        let lasted = self.since(record.started_at.as_deref()).filter(|_| is_written);
        let why = core.stop_of(JobId(record.id)).map(why_stopping);
        if why.is_some() || record.state == State::Stopping {
            return sentence::stopping(record, why, lasted);
        }
        if let Some(since_us) = core.frozen_since_us(JobId(record.id)) {
            let ago = Duration::from_micros(self.now.wall_us.saturating_sub(since_us).max(0).unsigned_abs());
            return sentence::frozen(record, ago);
        }
        sentence::running(record, lasted)
    }

    /// How long ago that was.
    fn since(&self, at: Option<&str>) -> Option<Duration> {
        let past_us = self.now.wall_us.saturating_sub(unix_micros(at?)?);
        Some(Duration::from_micros(past_us.max(0).unsigned_abs()))
    }
}

fn explain_line(record: &Record, place: InLine, core: &Core) -> Explanation {
    let slots = core.slots_of(&record.pool);
    // A job may have several of them.
    let slots_busy: BTreeSet<u64> = slots.iter().filter_map(|slot| slot.job).collect();
    let slots_busy: Vec<u64> = slots_busy.into_iter().collect();
    let full = core.full_limit(record.labels.as_deref().unwrap_or_default());
    let (kind, why, busy) = match (stall_of(record, core), &full) {
        (Some(stall), _) => (ExplanationKind::Pool, stall.reason, slots_busy),
        (None, Some(full)) => {
            let running: Vec<u64> = full.running.iter().map(|id| id.0).collect();
            let mut why = sentence::limit(&full.label, full.limit, &running);
            // Both are true: a place with the label alone would not start it.
            if !has_idle(&slots) {
                why += &format!("; {}", sentence::slots(&record.pool, &slots));
            }
            (ExplanationKind::Limit, why, running)
        }
        (None, None) => {
            let busy = sentence::slots(&record.pool, &slots);
            let why = match core.gathers(&record.pool) {
                Some(Gathering { id, needs }) => gathering_sentence(record, *id, needs, &busy, core),
                // Its labels have room, and a slot waits: only a job that insists on one of them goes before
                // it.
                None if has_idle(&slots) && needs_labels_alone(record) && is_limited(record, core) => {
                    sentence::insisted_on(&record.pool)
                }
                None => busy,
            };
            (ExplanationKind::Line, why, slots_busy)
        }
    };
    let position = match place {
        InLine::At(position) => Some(position),
        InLine::Beyond | InLine::Unfound => None,
    };
    let busy = busy.into_iter().take(MAX_BUSY).collect();
    let reason = sentence::in_line(JobId(record.id), place, &why);
    let full = full.filter(|_| kind == ExplanationKind::Limit);
    let (label, limit) = full.map(|full| (full.label.to_string(), full.limit)).unzip();
    Explanation { position, busy: Some(busy), label, limit, ..explanation(record, kind, reason) }
}

/// `gathers`: the job of its pool for which slots and items of resources are kept, and what it takes.
fn gathering_sentence(record: &Record, gathers: JobId, needs: &Needs, busy: &str, core: &Core) -> String {
    let lacking = core.lacking_resource(&record.pool, &needs.resources);
    match lacking {
        _ if gathers.0 != record.id => sentence::gathers_for(gathers, needs.slots, lacking.as_ref(), busy),
        Some(resource) => sentence::lacks(needs.resources.amount(&resource.name), &resource, busy),
        None if needs.slots > 1 => sentence::gathers(needs.slots, busy),
        None => busy.to_owned(),
    }
}

/// Whether a job in its line waits until slots of its pool are free that others have, and for nothing else.
fn waits_for_slots_alone(record: &Record, core: &Core) -> bool {
    core.gathers(&record.pool).is_none()
        && core.are_all_busy(&record.pool)
        && core.full_limit(record.labels.as_deref().unwrap_or_default()).is_none()
        && stall_of(record, core).is_none()
}

/// Why nothing of a job in its line starts: that needs more than its pool has, or its pool starts nothing at
/// all.
pub fn stall_of(record: &Record, core: &Core) -> Option<Stall> {
    let needs = line_of(record).needs;
    let too_small = core.capacity_of(&record.pool).and_then(|capacity| capacity.shortfall(&needs));
    let too_small = too_small.map(|shortfall| sentence::too_much(&record.pool, &shortfall));
    match core.stall_of(&record.pool) {
        // It would not run, even if the pool did.
        Some(stall) if too_small.is_none() => Some(stall),
        _ => too_small.map(|reason| Stall { reason, lasts: true }),
    }
}

fn has_idle(slots: &[Slot]) -> bool {
    slots.iter().any(|slot| slot.state == SlotState::Idle)
}

/// Whether one idle slot would do, but for its labels.
fn needs_labels_alone(record: &Record) -> bool {
    let needs = line_of(record).needs;
    needs.slots <= 1 && needs.resources == Default::default()
}

/// Whether some label of the job has a limit.
fn is_limited(record: &Record, core: &Core) -> bool {
    record.labels.iter().flatten().any(|label| core.limit_of(label).is_some())
}

/// What is told of every job.
fn explanation(record: &Record, kind: ExplanationKind, reason: String) -> Explanation {
    let others: Vec<u64> = waits_for(record).map(|id| id.0).collect();
    Explanation {
        id: record.id,
        state: record.state,
        kind,
        reason,
        pool: record.pool.clone(),
        position: None,
        busy: None,
        label: None,
        limit: None,
        due_at: record.due_at.clone(),
        waits_for: (!others.is_empty()).then_some(others),
        estimate: None,
    }
}
