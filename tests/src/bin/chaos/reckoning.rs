//! The end: what poold says of every accepted job, what the jobs and callbacks have written down, and what
//! clients were told, compared.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use pool_proto::methods::{Cancel, Get, List, Pools};
use pool_proto::nouns::OnCrash;
use pool_proto::{Client, ClientError, OsText, Record, Refusal, ResultKind, State};
use pool_tests::{Daemon, children};

use super::after;
use super::arrays;
use super::kills::{OF_OTHERS, describe};
use super::known::{Accepted, Fate, Known, Volatile};
use super::ledgers::Written;
use super::load::{REPLACED, release_held};
use super::operator;
use super::pools::{MOST_OTHERS, MOST_PROGRAMS};

/// What programs write down in place of an attempt.
const CALL: &str = "call";

/// What has come out, by name, in the order in which it is to be shown.
#[derive(Debug)]
pub struct Reckoning {
    pub figures: Vec<(String, u64)>,
    pub breaches: Vec<String>,
}

#[derive(Debug, Default)]
struct Sums {
    ended: BTreeMap<&'static str, u64>,
    attempts: u64,
    again: u64,
    uncounted: u64,
    beyond: u64,
    missing: u64,
    told: u64,
    repeated: u64,
}

/// Compares; poold is to be running and nobody to be killed any more.
/// `keeps_time`: nobody has set its clock.
pub fn reckon(
    daemon: &Daemon,
    written: impl Fn() -> Written,
    keeps_time: bool,
    mut known: Known,
) -> Reckoning {
    let records = settled_records(daemon, &mut known);
    let written = written();
    let mut sums = Sums::default();
    for (&id, accepted) in &known.accepted {
        let Some(record) = records.get(&id) else { continue };
        sums.add(record);
        check_end(id, accepted, record, &known.ended, &written, &mut known.breaches);
        check_replaced(daemon, record, accepted, &mut known.breaches);
        sums.check_runs(id, accepted, record, &written, &mut known.breaches);
        let rounds = known.rounds.get(&id).copied().unwrap_or_default();
        sums.check_callbacks(id, record, rounds, &written, &mut known.breaches);
    }
    for (&id, volatile) in &known.volatile {
        check_volatile(daemon, id, volatile, &written, &mut known.breaches);
    }
    check_names(&records, &written, &mut known.breaches);
    after::check(&records, &written, &mut known);
    arrays::check(daemon, &records, &mut known);
    operator::check(&mut daemon.client(), keeps_time, &mut known);
    let twice = known.volatile.keys().filter(|id| known.accepted.contains_key(id));
    known.breaches.extend(twice.map(|id| format!("the id {id} was given out twice")));
    // A start may go unrecorded only while the daemon is being killed, and then once for each slot.
    let daemon_kills: u64 =
        known.kills.iter().filter(|(name, _)| !OF_OTHERS.contains(name)).map(|(_, count)| count).sum();
    let commands = daemon.client().request(&Pools {}).map_or(0, |reply| {
        reply.pools.iter().find(|pool| pool.name == "default").map_or(0, |pool| pool.workers)
    });
    let slots = commands + MOST_OTHERS + MOST_PROGRAMS;
    if sums.uncounted > daemon_kills * u64::from(slots) + known.unwritten {
        known.breaches.push(format!(
            "{} runs were not counted, with {daemon_kills} kills of the daemon",
            sums.uncounted
        ));
    }
    cancel_the_rest(&mut daemon.client());
    let orphans = orphans(daemon);
    if !orphans.is_empty() {
        known.breaches.push(format!("orphans: {}", describe(&orphans)));
    }
    let lost = known.accepted.len() - records.len();
    Reckoning { figures: figures(&known, &sums, lost, orphans.len()), breaches: known.breaches }
}

fn figures(known: &Known, sums: &Sums, lost: usize, orphans: usize) -> Vec<(String, u64)> {
    let kills = known.kills.iter().map(|(name, &count)| (format!("killed: {name}"), count));
    let ended = sums.ended.iter().map(|(state, &count)| (format!("jobs ended: {state}"), count));
    let tally = known.tally.iter().map(|(&name, &count)| (name.to_owned(), count));
    let all_kills = [
        ("kills".to_owned(), known.kills.values().sum()),
        ("jobs accepted".to_owned(), known.accepted.len() as u64),
    ];
    let volatile = |is_meant: fn(Fate) -> bool| {
        known.volatile.values().filter(|volatile| is_meant(volatile.fate)).count() as u64
    };
    let calls = known.accepted.values().filter(|accepted| accepted.kind.is_call()).count();
    let rest = [
        ("jobs lost", lost as u64),
        ("calls among them", calls as u64),
        ("calls in memory ended", volatile(|fate| matches!(fate, Fate::Ended(_)))),
        ("calls in memory gone", volatile(|fate| fate == Fate::Gone)),
        ("attempts", sums.attempts),
        ("jobs attempted again", sums.again),
        ("runs not counted, as may be", sums.uncounted),
        ("runs beyond the rule", sums.beyond),
        ("orphans", orphans as u64),
        ("callbacks run", sums.told),
        ("callbacks missing", sums.missing),
        ("callbacks repeated", sums.repeated),
        ("breaches", known.breaches.len() as u64),
    ];
    let rest = rest.into_iter().map(|(name, count)| (name.to_owned(), count));
    kills.chain(all_kills).chain(ended).chain(tally).chain(rest).collect()
}

fn check_end(
    id: u64,
    accepted: &Accepted,
    record: &Record,
    ended: &HashMap<u64, State>,
    written: &Written,
    breaches: &mut Vec<String>,
) {
    let kind = accepted.kind;
    let is_retried_as_often_as = |(least, most): (u32, u32)| (least..=most).contains(&record.retried);
    let is_explained = match record.state {
        state if state == kind.state => true,
        // By us.
        State::Failed if record.signal == Some(9) => is_retried_as_often_as(kind.retried(true)),
        State::Failed if kind.on_crash == OnCrash::Fail => {
            let was_told_to_end =
                record.reason.as_ref().is_some_and(|reason| reason.contains("poold was told to end"));
            was_told_to_end || record.result == Some(ResultKind::Lost)
        }
        // Whether it may be is looked at together with those that it was to run after.
        State::Canceled if record.result == Some(ResultKind::DepFailed) => true,
        State::Canceled => accepted.is_canceled || heir(record).is_some() || is_late(accepted, record),
        _ => false,
    };
    if !is_explained {
        breaches.push(format!("job {id} {} and is {:?}: {:?}", kind.name, record.state, record.reason));
    }
    let is_there = !record.output_pruned;
    if record.state == kind.state && is_there && !kind.is_right(record.value.as_ref(), record.error.as_ref())
    {
        breaches.push(format!(
            "job {id} {} and has the value {:?}, the error {:?}",
            kind.name, record.value, record.error
        ));
    }
    if record.state == State::Failed
        && record.result != Some(ResultKind::Lost)
        && !is_retried_as_often_as(kind.retried(record.signal == Some(9)))
    {
        breaches.push(format!(
            "job {id} {} and is not tried again as often as it should be: {record:?}",
            kind.name
        ));
    }
    // Who goes away before the end, when it is all over, is told nothing.
    if ended.get(&id).is_some_and(|state| *state != record.state) {
        breaches.push(format!("job {id} is {:?}, its waiter was told {:?}", record.state, ended.get(&id)));
    }
    if record.state == State::Succeeded
        && !(1..=record.attempt)
            .map(|attempt| attempt.to_string())
            .chain([CALL.to_owned()])
            .any(|run| written.done.contains_key(&(id, run)))
    {
        breaches.push(format!("job {id} has succeeded and never ran to its end"));
    }
}

/// Whether it was canceled since it had not begun in time.
pub fn is_late(accepted: &Accepted, record: &Record) -> bool {
    accepted.kind.start_within_s.is_some()
        && record.result == Some(ResultKind::Timeout)
        && record.attempt == 0
}

/// The job that has taken the place of this one, where poold says so.
fn heir(record: &Record) -> Option<u64> {
    let reason = record.reason.as_deref().filter(|_| record.state == State::Canceled)?;
    let rest = reason.strip_prefix("job ")?;
    rest.strip_suffix(", which has the same unique name, has taken its place")?.parse().ok()
}

/// A later one of the same name takes a job's place, and only where somebody submits such jobs.
fn check_replaced(daemon: &Daemon, record: &Record, accepted: &Accepted, breaches: &mut Vec<String>) {
    let Some(heir) = heir(record).filter(|_| !accepted.is_canceled) else { return };
    let may_be = record.unique.as_ref().is_some_and(|name| name.as_escaped().starts_with(REPLACED));
    let other = daemon.client().request(&Get { id: heir }).map(|got| got.record.unique);
    if !may_be || heir <= record.id || other.ok() != Some(record.unique.clone()) {
        breaches.push(format!("job {} was not to be replaced: {record:?}", record.id));
    }
}

/// Of a unique name one runs at a time, in the order in which they were submitted.
fn check_names(records: &HashMap<u64, Record>, written: &Written, breaches: &mut Vec<String>) {
    let mut last: HashMap<&OsText, u64> = HashMap::new();
    let named = |id: &u64| Some((*id, records.get(id)?.unique.as_ref()?));
    for (id, name) in written.order.iter().filter_map(named) {
        if let Some(before) = last.insert(name, id).filter(|&before| before > id) {
            breaches.push(format!("job {id} has run after {before}, both of the name {name:?}"));
        }
    }
    breaches.extend(
        written.overlaps.iter().map(|run| format!("beside another one of its name, label or item ran {run}")),
    );
}

/// A call that is kept in memory alone ends as well, unless its supervisor dies; then there is nothing left
/// of it.
fn check_volatile(
    daemon: &Daemon,
    id: u64,
    volatile: &Volatile,
    written: &Written,
    breaches: &mut Vec<String>,
) {
    let Volatile { kind, is_canceled, fate } = volatile;
    let has_run = |ledger: &HashMap<(u64, String), usize>| ledger.contains_key(&(id, CALL.to_owned()));
    match fate {
        Fate::Open => breaches.push(format!("call {id} {} and nobody was told its end", kind.name)),
        Fate::Ended(State::Canceled) if *is_canceled => {}
        Fate::Ended(State::Failed) if kind.on_crash == OnCrash::Fail => {}
        Fate::Ended(state) if *state != kind.state => {
            breaches.push(format!("call {id} {} and is {state:?}", kind.name))
        }
        Fate::Ended(State::Succeeded) if !has_run(&written.done) => {
            breaches.push(format!("call {id} has succeeded and never ran to its end"));
        }
        Fate::Ended(_) => {}
        Fate::Gone => match daemon.client().request(&Get { id }) {
            Err(ClientError::Refused(Refusal::NoSuchJob { .. })) => {}
            other => breaches.push(format!("call {id} was gone with its supervisor, and there is {other:?}")),
        },
    }
    let runs = written.started.get(&(id, CALL.to_owned())).copied().unwrap_or(0);
    if kind.on_crash == OnCrash::Fail && runs > 1 {
        breaches.push(format!("call {id} {} and ran {runs} times", kind.name));
    }
}

impl Sums {
    fn add(&mut self, record: &Record) {
        *self.ended.entry(record.state.as_str()).or_default() += 1;
        self.attempts += u64::from(record.attempt);
        self.again += u64::from(record.attempt > 1);
    }

    /// No run of an attempt is repeated, but that of one whose start a dying poold has not written down;
    /// never that of a job which must not be repeated.
    fn check_runs(
        &mut self,
        id: u64,
        accepted: &Accepted,
        record: &Record,
        written: &Written,
        breaches: &mut Vec<String>,
    ) {
        let runs_of = |run: String| written.started.get(&(id, run)).copied().unwrap_or(0) as u64;
        let runs_of_attempts: Vec<u64> =
            (1..=record.attempt + 1).map(|attempt| runs_of(attempt.to_string())).collect();
        let repeated: u64 = runs_of_attempts.iter().map(|runs| runs.saturating_sub(1)).sum();
        let runs: u64 = runs_of_attempts.into_iter().sum::<u64>() + runs_of(CALL.to_owned());
        let most = match accepted.kind.on_crash {
            OnCrash::Requeue => u64::MAX,
            OnCrash::Hold => u64::from(record.attempt),
            OnCrash::Fail => 1,
        };
        if accepted.kind.on_crash == OnCrash::Requeue {
            self.uncounted += repeated.max(runs.saturating_sub(u64::from(record.attempt)));
        } else if runs > most || repeated > 0 {
            self.beyond += 1;
            breaches.push(format!(
                "job {id} {} and ran {runs} times in {} attempts",
                accepted.kind.name, record.attempt
            ));
        }
    }

    /// `rounds`: how often it was run again, at least and at most.
    fn check_callbacks(
        &mut self,
        id: u64,
        record: &Record,
        rounds: (u32, u32),
        written: &Written,
        breaches: &mut Vec<String>,
    ) {
        if !(rounds.0..=rounds.1).contains(&record.reruns) {
            breaches.push(format!("job {id} was run again {} times, and not {rounds:?}", record.reruns));
        }
        let told = |on: &str| written.callbacks.get(&(id, on.to_owned())).copied().unwrap_or(0) as u64;
        let all_rounds = u64::from(record.reruns) + 1;
        if told("done") < all_rounds || told("success") + told("failure") < all_rounds {
            breaches
                .push(format!("job {id} has ended {all_rounds} times, and not as many callbacks have run"));
        }
        let succeeded = record.state == State::Succeeded;
        for (on, is_due) in [("done", true), ("success", succeeded), ("failure", !succeeded)] {
            let told = told(on);
            self.told += told;
            self.repeated += told.saturating_sub(all_rounds);
            if is_due && told == 0 {
                self.missing += 1;
                breaches.push(format!("job {id} is {:?}, its callback on {on} has not run", record.state));
            } else if !is_due && told > 0 && record.reruns == 0 {
                breaches.push(format!("job {id} is {:?}, its callback on {on} has run", record.state));
            }
        }
    }
}

/// The records of all accepted jobs, their callbacks settled, nothing held.
fn settled_records(daemon: &Daemon, known: &mut Known) -> HashMap<u64, Record> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut client = daemon.client();
    let mut records = HashMap::new();
    for &id in known.accepted.keys() {
        loop {
            let record = match client.request(&Get { id }) {
                Ok(got) => *got.record,
                Err(error) => {
                    known.breaches.push(format!("job {id} is lost: {error}"));
                    break;
                }
            };
            let is_settled = |state: &str| matches!(state, "delivered" | "failed" | "skipped");
            if record.state.is_terminal()
                && record.callbacks.iter().all(|callback| is_settled(&callback.state))
            {
                records.insert(id, record);
                break;
            }
            if Instant::now() > deadline {
                known.breaches.push(format!("job {id} or its callbacks do not end: {record:?}"));
                break;
            }
            if record.state == State::Held {
                *known.tally.entry("held jobs released").or_default() += release_held(&mut client);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    records
}

/// Ends what nobody has waited for: the jobs of a schedule, which may be many in a line, and those whose
/// submitters never learned that they were accepted.
fn cancel_the_rest(client: &mut Client) {
    let states = State::ALL.into_iter().filter(|state| !state.is_terminal()).collect::<Vec<State>>();
    loop {
        let list = List { states: Some(states.clone()), ..List::default() };
        let left = client.request(&list).expect("nobody kills poold any more").jobs;
        if left.is_empty() {
            return;
        }
        let ids = left.iter().map(|record| record.id).collect();
        client.request(&Cancel { ids, ..Cancel::default() }).expect("nobody kills poold any more");
    }
}

/// Processes that are left when nothing runs any more, poold's own apart.
fn orphans(daemon: &Daemon) -> Vec<i32> {
    let (guardian, supervisor) = (daemon.guardian(), daemon.supervisor());
    let strays = || {
        let workers = children(supervisor);
        let pools = daemon.client().request(&Pools {}).map(|reply| reply.pools).unwrap_or_default();
        let programs: Vec<i32> =
            pools.iter().flat_map(|pool| &pool.slots).filter_map(|slot| slot.program_pid).collect();
        let is_own = |pid: &i32| {
            *pid == guardian || *pid == supervisor || workers.contains(pid) || programs.contains(pid)
        };
        daemon.processes().into_iter().filter(|pid| !is_own(pid)).collect::<Vec<i32>>()
    };
    let patience = Instant::now() + Duration::from_secs(30);
    // Callbacks of what has ended last may still run.
    while !strays().is_empty() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    strays()
}
