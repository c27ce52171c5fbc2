//! Somebody who pauses pools, jobs and schedules, holds and moves what waits, and sets limits and numbers of
//! workers, all the while; and lets everything go on in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use pool_proto::methods::{
    AddSchedule, Hold, List, Move, RemoveSchedules, SetFrozen, SetLabelLimit, SetPaused, SetSchedulesPaused,
    SetWorkers,
};
use pool_proto::nouns::{Missed, Overlap, Schedule};
use pool_proto::text::{rfc3339_short, unix_micros};
use pool_proto::{Client, Method, Record, Refusal, State};
use rand::RngExt;
use rand::rngs::StdRng;

use super::known::Known;
use super::load::{FEW, FEW_PLACES, Stage};
use super::pools::{MOST_OTHERS, OTHER, WARM};

/// The schedules, which submit a job each second: whose jobs run beside each other, whose are left out, and
/// whose wait.
const SCHEDULES: [(&str, Overlap); 3] =
    [(TICK, Overlap::Allow), ("skips", Overlap::Skip), ("queues", Overlap::Queue)];
const TICK: &str = "tick";

const SECOND_US: i64 = 1_000_000;

/// For as long as there are clients.
pub fn operate(stage: &Stage, mut random: StdRng) {
    SCHEDULES.into_iter().for_each(|(name, overlap)| until_done(stage, &schedule(stage, name, overlap)));
    while stage.clients.load(Ordering::Relaxed) > 0 {
        match random.random_range(0..9) {
            0 => pause_pool(stage, &mut random),
            1 => freeze(stage, &mut random),
            2..4 => move_some(stage, &mut random),
            4 => set_limit(stage, &mut random),
            5 => set_workers(stage, &mut random),
            6 => pause_schedule(stage, &mut random),
            _ => hold(stage, &mut random),
        }
        thread::sleep(Duration::from_millis(random.random_range(20..200)));
    }
    let names = SCHEDULES.map(|(name, _)| name.to_owned()).to_vec();
    until_done(stage, &RemoveSchedules { names });
}

/// Where nobody sets the clock, none of the times of [`TICK`] may be missing.
fn schedule(stage: &Stage, name: &str, overlap: Overlap) -> AddSchedule {
    let missed = if stage.clock.is_some() { Missed::RunOnce } else { Missed::RunAll };
    let (seconds, alone) = match overlap {
        Overlap::Allow => (0.0, false),
        Overlap::Skip => (1.3, true),
        Overlap::Queue => (0.4, true),
    };
    let schedule = Schedule {
        name: name.to_owned(),
        every_s: Some(1.0),
        overlap: Some(overlap),
        missed: Some(missed),
        job: stage.ledgers.of_schedule(name, seconds, alone, &stage.mark),
        ..Schedule::default()
    };
    AddSchedule { schedule, replace: Some(true) }
}

/// Some of the latest jobs come into another pool, those that wait.
fn move_some(stage: &Stage, random: &mut StdRng) {
    let pool = if random.random_bool(0.5) { "default" } else { OTHER }.to_owned();
    let ids = some_of_the_latest(stage, random);
    if let Ok(mut client) = Client::connect(&stage.socket)
        && let Ok(moved) = client.request(&Move { ids, pool })
    {
        stage.known().count("jobs moved", moved.ids.len() as u64);
    }
}

fn set_limit(stage: &Stage, random: &mut StdRng) {
    let limit = Some(random.random_range(1..=FEW_PLACES));
    until_done(stage, &SetLabelLimit { label: FEW.to_owned(), limit });
    stage.known().count("limits set", 1);
}

fn set_workers(stage: &Stage, random: &mut StdRng) {
    // Some jobs take two slots.
    let workers = Some(random.random_range(2..=MOST_OTHERS));
    until_done(stage, &SetWorkers { pool: OTHER.to_owned(), workers });
    stage.known().count("numbers of workers set", 1);
}

fn pause_schedule(stage: &Stage, random: &mut StdRng) {
    let (name, _) = SCHEDULES[random.random_range(1..SCHEDULES.len())];
    let names = vec![name.to_owned()];
    until_done(stage, &SetSchedulesPaused { names: names.clone(), paused: true });
    thread::sleep(Duration::from_millis(random.random_range(0..1500)));
    until_done(stage, &SetSchedulesPaused { names, paused: false });
    stage.known().count("schedules paused and resumed", 1);
}

fn pause_pool(stage: &Stage, random: &mut StdRng) {
    let pools = vec![["default", OTHER, WARM][random.random_range(0..3)].to_owned()];
    until_done(
        stage,
        &SetPaused { pools: pools.clone(), paused: true, freeze: random.random_bool(0.3).then_some(true) },
    );
    thread::sleep(Duration::from_millis(random.random_range(0..300)));
    until_done(stage, &SetPaused { pools, paused: false, freeze: None });
    stage.known().count("pools paused and resumed", 1);
}

/// A job that runs stands still for a while. It may end meanwhile.
fn freeze(stage: &Stage, random: &mut StdRng) {
    let Ok(mut client) = Client::connect(&stage.socket) else { return };
    let list = List { states: Some(vec![State::Running]), ..List::default() };
    let running = client.request(&list).map(|listed| listed.jobs).unwrap_or_default();
    let Some(job) = running.first() else { return };
    let is_frozen = client.request(&SetFrozen { id: job.id, frozen: true }).is_ok();
    thread::sleep(Duration::from_millis(random.random_range(0..300)));
    // Where poold has died meanwhile, the job has, too.
    _ = client.request(&SetFrozen { id: job.id, frozen: false });
    stage.known().count("jobs paused", u64::from(is_frozen));
}

/// Some of the latest jobs are held; somebody else releases them.
fn hold(stage: &Stage, random: &mut StdRng) {
    let ids = some_of_the_latest(stage, random);
    if let Ok(mut client) = Client::connect(&stage.socket)
        && client.request(&Hold { ids }).is_ok()
    {
        stage.known().count("rounds of holding", 1);
    }
}

fn some_of_the_latest(stage: &Stage, random: &mut StdRng) -> Vec<u64> {
    let latest = stage.known().accepted.last_key_value().map_or(0, |(&id, _)| id);
    (latest.saturating_sub(20)..=latest).filter(|&id| id > 0 && random.random_bool(0.3)).collect()
}

/// Over deaths and full disks. Nothing else may be refused.
fn until_done<M: Method>(stage: &Stage, wish: &M) {
    for _ in 0..30_000 {
        let done = Client::connect(&stage.socket).map(|mut client| client.request(wish));
        match done {
            Ok(Ok(_)) => return,
            Ok(Err(pool_proto::ClientError::Refused(
                Refusal::StoreFailed { .. } | Refusal::ShuttingDown {} | Refusal::Draining {},
            )))
            | Ok(Err(pool_proto::ClientError::Disconnected(_)))
            | Err(_) => thread::sleep(Duration::from_millis(10)),
            Ok(Err(error)) => return stage.known().breaches.push(format!("{}: {error}", M::NAME)),
        }
    }
    stage.known().breaches.push(format!("{} cannot be done", M::NAME));
}

/// Each time of a schedule has one job at most; and where `all` is so, none of [`TICK`] is missing between
/// the first and the last.
pub fn check(client: &mut Client, all: bool, known: &mut Known) {
    let time = |record: &Record| unix_micros(record.key.as_ref()?.as_escaped().split_once('@')?.1);
    let mut found: BTreeMap<&str, Vec<i64>> = SCHEDULES.map(|(name, _)| (name, Vec::new())).into();
    let mut after = None;
    loop {
        let page = client.request(&List { after, ..List::default() }).expect("nobody kills poold any more");
        for record in &page.jobs {
            let name = record.name.as_ref().map_or("", |name| name.as_escaped());
            found.get_mut(name).into_iter().for_each(|times| times.extend(time(record)));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    for (name, ticks) in found {
        let times: BTreeSet<i64> = ticks.iter().copied().collect();
        known.count("times of the schedules", times.len() as u64);
        if times.len() < ticks.len() {
            let text = format!("{} jobs of the schedule {name} at {} times", ticks.len(), times.len());
            known.breaches.push(text);
        }
        let is_whole = all && name == TICK;
        let pairs = times.iter().zip(times.iter().skip(1));
        let late = pairs.filter(|(one, next)| is_whole && *next - *one > SECOND_US * 3 / 2);
        let late = late.map(|(one, next)| {
            format!("the schedule has no job between {} and {}", rfc3339_short(*one), rfc3339_short(*next))
        });
        known.breaches.extend(late);
    }
}
