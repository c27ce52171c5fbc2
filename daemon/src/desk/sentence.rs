//! What is said of where a job stands, as sentences: to those who wait for it
//! ([`obstacle`](super::obstacle)), and to those who ask ([`why`](super::why)).

use std::collections::BTreeSet;
use std::time::Duration;

use pool_proto::nouns::{Estimate, Indices, Slot, SlotState};
use pool_proto::text::{about, rfc3339_short};
use pool_proto::{Record, State};

use crate::core::ResourceView;
use crate::engine::{CallbackWish, Delivery, LINE_HEAD, NotAssigned, NotEdited, NotRemoved, NotRetried};
use crate::job::{CallbackId, IdMap, JobId, Shortfall, Unfit, array_of_label};

/// What jobs do that others wait for, in a few words.
pub type Doings = IdMap<JobId, String>;

/// So many of the jobs that a job waits for are named.
pub const NAMED: usize = 3;

/// So many of the jobs are named that the slots of a pool have.
const NAMED_IN_SLOTS: usize = 8;

/// So many jobs at least are before one that is [`InLine::Beyond`], whose sentence says "more than 1,000".
const _: () = assert!(LINE_HEAD == 1001);

/// Where a job is in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InLine {
    /// Counted from 1.
    At(u32),
    /// Behind all that are counted.
    Beyond,
    /// It comes or goes in this moment.
    Unfound,
}

// ---- what it waits for ----

pub fn held(id: JobId, reason: Option<&str>) -> String {
    let reason = reason.unwrap_or("a person has to decide");
    format!("job {id} is held: {reason}; `poolctl release {id}` lets it go")
}

/// An array that has begun. The sentence stays the same until it ends, so that a client says it once.
pub fn held_array(id: JobId, indices: &Indices) -> String {
    let last = indices.at(indices.count().saturating_sub(1));
    let (first, last) = (indices.at(0).unwrap_or_default(), last.unwrap_or_default());
    let (range, them) =
        if first == last { (first.to_string(), "it") } else { (format!("{first}-{last}"), "them") };
    format!(
        "array {id} waits: all of its elements that have not ended are held; `poolctl release {id}.{range}` lets \
         {them} go"
    )
}

/// A job that is not kept, or not yet. `done`: what was to be done with it.
fn missing(id: JobId, done: &str) -> String {
    format!(
        "there is no job {id}: it was pruned, or never existed, or is an element of an array that has not come \
         to it; such an element can be {done} once `poolctl ls` lists it"
    )
}

/// Why a job in this state, or none that exists, was not held.
pub fn not_held(id: JobId, state: Option<State>) -> String {
    match state {
        None => missing(id, "held"),
        Some(State::Running | State::Stopping) => {
            format!("job {id} runs, so it cannot be held: `poolctl cancel {id}` ends it")
        }
        Some(State::Queued | State::Retrying | State::Scheduled | State::Blocked | State::Held) => {
            format!("job {id} is a call that is kept in memory alone, so it cannot be held")
        }
        Some(
            state @ (State::Succeeded | State::Failed | State::Canceled | State::TimedOut | State::Lost),
        ) => {
            let state = state.as_str().replace('_', " ");
            format!("job {id} has ended ({state}), so it cannot be held")
        }
    }
}

/// Why a job is not moved into another pool.
pub fn not_assigned(id: JobId, why_not: NotAssigned) -> String {
    match why_not {
        NotAssigned::Missing => missing(id, "moved"),
        NotAssigned::Beyond(State::Running | State::Stopping) => {
            format!("job {id} runs, so it stays in its pool: `poolctl cancel {id}` ends it")
        }
        NotAssigned::Beyond(state) => {
            let state = state.as_str().replace('_', " ");
            format!("job {id} has ended ({state}), so it stays in its pool")
        }
        NotAssigned::Volatile => {
            format!("job {id} is a call that is kept in memory alone, so it stays in its pool")
        }
        NotAssigned::Command => {
            format!("job {id} is a command, and this pool has a resident program, which takes calls")
        }
        NotAssigned::Call => {
            format!("job {id} is a call, and this pool has no resident program to call")
        }
    }
}

/// Why a job is not edited.
pub fn not_edited(id: JobId, why_not: NotEdited) -> String {
    let what = match why_not {
        NotEdited::Missing => return missing(id, "edited"),
        NotEdited::Beyond(State::Running | State::Stopping) => {
            return format!("job {id} runs, so it cannot be edited: `poolctl cancel {id}` ends it");
        }
        NotEdited::Beyond(state) => {
            let state = state.as_str().replace('_', " ");
            return format!(
                "job {id} has ended ({state}), so it cannot be edited: \
                 `poolctl retry --new {id}` submits a copy"
            );
        }
        NotEdited::Volatile => {
            return format!("job {id} is a call that is kept in memory alone, so it cannot be edited");
        }
        NotEdited::Tried => {
            return format!(
                "job {id} has had an attempt, so it waits for its next attempt alone: \
                 leave --delay, --at, --after and --start-within out"
            );
        }
        NotEdited::PriorGone(prior) => {
            return format!("job {prior} was pruned, or never existed, so job {id} cannot run after it");
        }
        NotEdited::PriorLater(prior) => {
            return format!(
                "job {id} cannot run after job {prior}: \
                 a job can run only after jobs that were submitted before it"
            );
        }
        NotEdited::PriorWithArray(prior) => {
            return format!(
                "job {id} cannot run after job {prior}, which may end only after job {id}: job {prior} is its \
                 array, or was submitted with the array; name jobs from before the array, or elements before this \
                 one"
            );
        }
        NotEdited::Unfit(unfit) => unfit,
    };
    match what {
        Unfit::Command => {
            format!("job {id} is a command, so its pool cannot be one that takes calls, and it has no method")
        }
        Unfit::Call => {
            format!("job {id} is a call, so its pool must have a resident program, and it has no command")
        }
        Unfit::TooMuch { pool, shortfall: Shortfall { resource, takes, has } } => {
            let what = resource.map_or_else(|| "slots".to_owned(), |name| format!("of {name:?}"));
            format!("job {id} would take {takes} {what}, and its pool {pool:?} has {has}: take fewer")
        }
        Unfit::CallNeeds => format!("job {id} is a call, which has one slot, and no resources of its own"),
        Unfit::CallLimits => {
            format!(
                "job {id} is a call, which runs in the program of its pool: \
                 set the limits of the pool instead"
            )
        }
        Unfit::CallIdle => {
            format!("job {id} is a call, which has no process of its own to be looked at: give it a timeout")
        }
        Unfit::CallCallbacks => format!(
            "job {id} is a call that was submitted without callbacks, so there is no environment to run them \
             in: cancel it, and submit another one"
        ),
        Unfit::ElementCallbacks => {
            "it is an array whose elements have the callbacks: submit it anew with others".to_owned()
        }
        Unfit::NoRetries => {
            format!("exit codes say nothing without retries, and job {id} has none: say how many (--retries)")
        }
        Unfit::Labels(count) => {
            format!("a job has {} labels at most, job {id} would have {count}", pool_proto::nouns::MAX_LABELS)
        }
    }
}

/// Why a job is not removed.
pub fn not_removed(id: JobId, why_not: NotRemoved) -> String {
    match why_not {
        NotRemoved::Missing => format!(
            "there is no job {id}: it was pruned, or never existed, or is an element of an array that has not \
             come to it; such an element is removed with its array"
        ),
        NotRemoved::Living(state) => {
            let state = state.as_str();
            format!(
                "job {id} is {state}: only a job that has ended can be removed; `poolctl cancel {id}` ends it"
            )
        }
        NotRemoved::Undelivered => undelivered(id, id.0),
    }
}

/// Why a job stays as it is. `of`: the job whose callbacks are still to be delivered, it or its array.
fn undelivered(id: JobId, of: u64) -> String {
    let whose = if of == id.0 { "its callbacks" } else { &format!("the callbacks of its array {of}") };
    format!(
        "job {id} has ended, but {whose} are still to be delivered: `poolctl callbacks ls {of}` shows how \
         far they are; try again when that is done"
    )
}

/// Why a job is not removed, either.
pub fn awaited(id: JobId) -> String {
    format!("a client waits for job {id}, so it is not removed: try again when nobody waits for it")
}

/// Why a callback, whose delivery is so far, is not as a client wants it.
pub fn callback_not_altered(id: CallbackId, wish: CallbackWish, delivery: Option<Delivery>) -> String {
    let Some(delivery) = delivery else {
        return format!("there is no callback {id}: it never existed, or was pruned with its job");
    };
    match (wish, delivery) {
        (_, Delivery::Waiting) => format!("callback {id} waits for the end of its job"),
        (_, Delivery::Skipped) => format!("callback {id} was skipped: it is for another end of its job"),
        (CallbackWish::Retry, Delivery::Pending) => format!("callback {id} is pending: it runs in its turn"),
        (CallbackWish::Retry, Delivery::Running) => format!("callback {id} runs"),
        (CallbackWish::Retry, Delivery::Delivered) => {
            format!("callback {id} was delivered, so it does not run again")
        }
        (CallbackWish::Drop, Delivery::Running) => {
            format!("callback {id} runs: drop it once this attempt has failed")
        }
        (CallbackWish::Drop, Delivery::Delivered) => {
            format!("callback {id} was delivered, so there is nothing to drop")
        }
        (CallbackWish::Retry, Delivery::Failed | Delivery::Dropped)
        | (CallbackWish::Drop, Delivery::Pending | Delivery::Failed | Delivery::Dropped) => {
            format!("callback {id} is {}", delivery.as_str())
        }
    }
}

/// Why a job is not run again.
pub fn not_retried(id: JobId, why_not: &NotRetried) -> String {
    match *why_not {
        NotRetried::Missing => format!(
            "there is no job {id}: it was pruned, or never existed, or is an element of an array that has not \
             come to it; `poolctl retry` of the whole array runs such elements once the array has ended"
        ),
        NotRetried::Living(state) => {
            format!("job {id} is {}: only a job that has ended can be run again", state.as_str())
        }
        NotRetried::Volatile => {
            format!("job {id} is a call that was kept in memory alone, so it cannot be run again: call anew")
        }
        NotRetried::PoolClosed(ref pool) => {
            format!(
                "job {id} is not run again, since its pool {pool:?} is being drained: try again later, or let the \
                 pool take jobs again with `poolctl pool resume {pool}`"
            )
        }
        NotRetried::Undelivered => undelivered(id, id.0),
        NotRetried::InputGone => {
            format!("job {id} has read a standard input that is gone: submit it anew with --stdin")
        }
        NotRetried::ParamsGone => {
            format!("job {id} may have had parameters, which the history has removed: call anew")
        }
        NotRetried::NameTaken(holder) => {
            format!(
                "job {id} has the unique name of job {holder}, which has not ended: try again when it has"
            )
        }
        NotRetried::Unfolded => {
            format!(
                "job {id} is an array of which each element has run: `poolctl retry` runs again those that have \
                 not succeeded, and `poolctl retry {id}.4`, say, one that has"
            )
        }
        NotRetried::AllSucceeded => {
            format!(
                "job {id} is an array of which all elements have succeeded, so none is run again: `poolctl retry \
                 --new {id}` submits a copy, and `poolctl retry {id}.4`, say, runs one element again"
            )
        }
        NotRetried::ArrayUndelivered(array) => undelivered(id, array.0),
        NotRetried::PriorGone(prior) => {
            format!("job {id} was to run after job {prior}, which has been pruned: submit it anew")
        }
    }
}

pub fn scheduled(id: JobId, due: &str) -> String {
    format!("job {id} does not start before {due}")
}

/// `doings`: what the others do, where that is told.
pub fn blocked(id: JobId, others: &[JobId], doings: Option<&Doings>) -> String {
    let named: Vec<String> = others.iter().take(NAMED).map(|&other| named(other, doings)).collect();
    let noun = if others.len() == 1 { "job" } else { "jobs" };
    let more = if others.len() > NAMED { " and others" } else { "" };
    format!("job {id} waits for the end of {noun} {}{more}", named.join(", "))
}

pub fn turn(id: JobId, before: JobId, name: &str, doings: Option<&Doings>) -> String {
    let before = named(before, doings);
    format!("job {id} waits until job {before}, which has the unique name {name:?} too, has ended")
}

pub fn retry(id: JobId, due: &str, reason: Option<&str>) -> String {
    let why = because(reason);
    format!("job {id} waits for its next attempt, due at {due}{why}")
}

/// `reason`: why its pool starts nothing.
pub fn stalled(id: JobId, reason: &str) -> String {
    format!("job {id} waits: {reason}")
}

pub fn unwritten_end(id: JobId, failure: &str) -> String {
    format!("job {id} is over, but poold cannot write that into its database: {failure}")
}

pub fn unwritten_start(id: JobId, failure: &str) -> String {
    format!("job {id} cannot start: poold has to write that into its database first, and cannot: {failure}")
}

/// A job in its line. `why`: what keeps its pool from starting it.
pub fn in_line(id: JobId, place: InLine, why: &str) -> String {
    match place {
        InLine::At(place) => format!("job {id} is {} in line; {why}", ordinal(place)),
        InLine::Beyond => format!("job {id} is in line, more than 1,000 jobs are before it; {why}"),
        InLine::Unfound => format!("job {id} is just entering or leaving its line"),
    }
}

/// What is said besides of a job in its line, of which it is known about when it starts. `position`: that
/// among the jobs with the same labels, which are not all jobs of its pool.
pub fn estimated(estimate: &Estimate, position: u32) -> String {
    let others = if u64::from(position) == estimate.before + 1 { "" } else { "with those of other labels " };
    let before = match estimate.before {
        0 => "it is the next of its pool".to_owned(),
        1 => format!("{others}1 job of its pool is before it"),
        before => format!("{others}{before} jobs of its pool are before it"),
    };
    let start = Duration::from_secs_f64(estimate.start_in_s.max(0.0));
    let start = match start.as_secs() {
        0 => "at once".to_owned(),
        _ => format!("in about {}", about(start)),
    };
    format!("; {before}, and it starts {start}, from the last {} jobs of this pool", estimate.from_jobs)
}

/// What is said besides of a job that has not ended, in a pool that is being drained.
pub fn draining(pool: &str, state: State) -> String {
    let what = match state {
        State::Held => format!("a held job is released there after `poolctl pool resume {pool}`"),
        _ => "it works off what it has".to_owned(),
    };
    format!("; pool {pool} is being drained and takes no new jobs: {what}")
}

/// An element that its array, which has begun, has not come to.
pub fn behind_in_array(id: JobId, array: u64) -> String {
    format!("job {id} is an element of array {array}, which queues it when those before it have begun")
}

/// How many slots of a pool have work, and which; and what is wrong with the first one that is not well.
pub fn slots(pool: &str, slots: &[Slot]) -> String {
    // A job may have several of them.
    let jobs: BTreeSet<u64> = slots.iter().filter_map(|slot| slot.job).collect();
    let jobs: Vec<u64> = jobs.into_iter().collect();
    let count = slots.len();
    let noun = if count == 1 { "slot" } else { "slots" };
    let busy = match slots.iter().filter(|slot| slot.job.is_some()).count() {
        0 => format!("none of {count} {noun} is busy"),
        1 => format!("1 of {count} {noun} is busy ({})", by_jobs(&jobs)),
        busy => format!("{busy} of {count} {noun} are busy ({})", by_jobs(&jobs)),
    };
    let is_well = |slot: &&Slot| matches!(slot.state, SlotState::Idle | SlotState::Busy);
    let unwell = slots.iter().find(|slot| !is_well(slot));
    let unwell = unwell.map(|slot| format!("; slot {} is {}", slot.slot, unwell_as(slot)));
    format!("pool {pool}: {busy}{}", unwell.unwrap_or_default())
}

fn by_jobs(jobs: &[u64]) -> String {
    format!("job{} {}", if jobs.len() == 1 { "" } else { "s" }, listed(jobs))
}

/// A job that waits for several slots of its pool. `why`: how many are busy.
pub fn gathers(slots: u32, why: &str) -> String {
    format!("it takes {slots} slots, and those that become free are kept for it; {why}")
}

/// A job that waits for items of a resource. `why`: how many slots are busy.
pub fn lacks(takes: u32, resource: &ResourceView, why: &str) -> String {
    format!("{}; {why}", taken(takes, resource))
}

/// A job behind one that waits for several `slots`, or for items of a resource. `why`: how many slots are
/// busy.
pub fn gathers_for(other: JobId, slots: u32, resource: Option<&ResourceView>, why: &str) -> String {
    match resource {
        Some(resource) => {
            format!("free slots are kept for job {other}, which waits for {}; {why}", resource.name)
        }
        None if slots > 1 => format!("free slots are kept for job {other}, which takes {slots}; {why}"),
        None => format!("job {other} is before it; {why}"),
    }
}

/// A job in its line that takes more than its pool has.
pub fn too_much(pool: &str, shortfall: &Shortfall) -> String {
    let Shortfall { resource, takes, has } = shortfall;
    match resource {
        Some(name) => format!(
            "it takes {takes} of {name}, and the pool {pool:?} has {has}: more of it in the configuration \
             ([pool.{pool}.resources]), or `poolctl edit --resource`, lets it run"
        ),
        None => format!(
            "it takes {takes} slots, and the pool {pool:?} has {has}: \
             `poolctl pool set {pool} --workers {takes}` lets it run"
        ),
    }
}

/// How many items of a resource are taken, and by which jobs.
pub fn taken(takes: u32, resource: &ResourceView) -> String {
    let all = resource.items.len();
    let taken = resource.items.iter().filter(|(_, job)| job.is_some()).count();
    let holders: BTreeSet<u64> = resource.items.iter().filter_map(|(_, job)| Some(job.as_ref()?.0)).collect();
    let holders: Vec<u64> = holders.into_iter().collect();
    let verb = if taken == 1 { "is" } else { "are" };
    let by = match holders.as_slice() {
        [] => String::new(),
        holders => format!(" ({})", by_jobs(holders)),
    };
    format!("it takes {takes} of {}: {taken} of {all} {verb} taken{by}", resource.name)
}

/// How many jobs of a label run, and which.
pub fn limit(label: &str, limit: u32, running: &[u64]) -> String {
    let verb = if running.len() == 1 { "runs" } else { "run" };
    if let Some(array) = array_of_label(label) {
        return format!(
            "array {array} has {limit} elements running at a time, {} {verb} ({})",
            running.len(),
            listed(running)
        );
    }
    format!("limit {label}: {} of {limit} {verb} ({})", running.len(), listed(running))
}

/// Why a job waits whose labels have room, while a slot is idle.
pub fn insisted_on(pool: &str) -> String {
    format!(
        "its labels have free places in pool {pool}, which are kept for a job with several labels that was passed \
         often"
    )
}

fn unwell_as(slot: &Slot) -> String {
    slot.state.as_str().replace('_', " ") + &because(slot.reason.as_deref())
}

fn listed(jobs: &[u64]) -> String {
    let named: Vec<String> = jobs.iter().take(NAMED_IN_SLOTS).map(u64::to_string).collect();
    let named = named.join(", ");
    match jobs.len().saturating_sub(NAMED_IN_SLOTS) {
        0 => named,
        others => format!("{named} and {others} more"),
    }
}

// ---- what it does ----

/// A job of which an attempt runs. `lasted`: since its start, where that is written.
pub fn running(record: &Record, lasted: Option<Duration>) -> String {
    if let Some(array) = record.array.as_deref().filter(|array| array.index.is_none()) {
        let lasted = lasted.map(|lasted| format!(" for {}", about(lasted))).unwrap_or_default();
        let ended: u32 = [array.succeeded, array.failed, array.canceled].into_iter().flatten().sum();
        return format!(
            "array {} has run{lasted}: {ended} of {} elements have ended",
            record.id, array.elements
        );
    }
    let Some(ran) = ran(record, lasted) else { return format!("job {} has just been started", record.id) };
    format!("job {} {ran}", record.id)
}

/// A job whose attempt stands still.
pub fn frozen(record: &Record, ago: Duration) -> String {
    let (id, ago) = (record.id, about(ago));
    format!("job {id} has been paused for {ago}, and keeps its slot; `poolctl resume {id}` lets it go on")
}

/// A job whose attempt is being ended. `why`: a clause, where it is known.
pub fn stopping(record: &Record, why: Option<&str>, lasted: Option<Duration>) -> String {
    let why = because(why);
    let ran = ran(record, lasted).map(|ran| format!("; it {ran}")).unwrap_or_default();
    format!("job {} is being ended{why}{ran}", record.id)
}

fn ran(record: &Record, lasted: Option<Duration>) -> Option<String> {
    let lasted = about(lasted?);
    let slot = record.slot.map(|slot| format!(", slot {slot}")).unwrap_or_default();
    Some(format!("has run for {lasted} (attempt {}{slot})", record.attempt))
}

/// A job that has ended. `ago`: since its end.
pub fn ended(record: &Record, ago: Duration) -> String {
    let state = record.state.as_str().replace('_', " ");
    let code = record.exit_code.map(|code| format!(", exit code {code}"));
    let signal = record.signal.map(|signal| format!(", signal {signal}"));
    let how = code.or(signal).unwrap_or_default();
    let why = because(record.reason.as_deref());
    format!("job {} ended {} ago: {state}{how}{why}", record.id, about(ago))
}

/// What a job does that others wait for, in a few words.
pub fn doing(record: &Record, lasted: Option<Duration>) -> String {
    match (record.state, lasted) {
        (State::Running | State::Stopping, Some(lasted)) => {
            format!("{} for {}", State::Running.as_str(), about(lasted))
        }
        (state, _) => state.as_str().replace('_', " "),
    }
}

// ---- parts of them ----

/// A point in time, in microseconds since 1970. `left`: how long it is until then, where that is told.
pub fn due(due_us: i64, left: Option<Duration>) -> String {
    let due_at = rfc3339_short(due_us);
    match left {
        Some(left) if left.as_secs() == 0 => format!("{due_at} (now)"),
        Some(left) => format!("{due_at} (in {})", about(left)),
        None => due_at,
    }
}

fn named(id: JobId, doings: Option<&Doings>) -> String {
    let doing = doings.and_then(|doings| doings.get(&id));
    doing.map_or_else(|| id.to_string(), |doing| format!("{id} ({doing})"))
}

fn because(why: Option<&str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        (_, _) => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_line() {
        let numbers = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 1000].map(ordinal);
        let wanted = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "1000th"];
        assert_eq!(numbers, wanted);
    }

    #[test]
    fn some_of_many_are_named() {
        let jobs: Vec<u64> = (1..=10).collect();
        assert_eq!(
            (listed(&jobs), listed(&jobs[..2])),
            ("1, 2, 3, 4, 5, 6, 7, 8 and 2 more".into(), "1, 2".into())
        );
        let others: Vec<JobId> = jobs.into_iter().map(JobId).collect();
        assert_eq!(blocked(JobId(11), &others, None), "job 11 waits for the end of jobs 1, 2, 3 and others");
        let doings: Doings = [(JobId(2), "held".to_owned())].into_iter().collect();
        assert_eq!(
            blocked(JobId(11), &others[..2], Some(&doings)),
            "job 11 waits for the end of jobs 1, 2 (held)"
        );
    }

    #[test]
    fn a_point_in_time_and_how_long_it_is_until_then() {
        let at = 1_795_946_400_000_001;
        let left = |seconds: u64| due(at, Some(Duration::from_millis(seconds * 1000 + 900)));
        assert_eq!(due(at, None), "2026-11-29T10:00:00Z");
        assert_eq!(left(0), "2026-11-29T10:00:00Z (now)");
        assert_eq!(left(7800), "2026-11-29T10:00:00Z (in 2 h 10 min)");
    }
}
