//! Somebody who pauses pools and jobs, holds what waits, and has a schedule, all the while; and lets
//! everything go on in the end.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use pool_proto::methods::{AddSchedule, Hold, List, RemoveSchedules, SetFrozen, SetPaused};
use pool_proto::nouns::{Job, Missed, Overlap, Schedule};
use pool_proto::text::{rfc3339_short, unix_micros};
use pool_proto::{Client, Method, Record, Refusal, State};
use rand::RngExt;
use rand::rngs::StdRng;

use super::known::Known;
use super::load::Stage;
use super::pools::WARM;

/// The schedule, and the jobs that it submits each second.
const SCHEDULE: &str = "tick";

const SECOND_US: i64 = 1_000_000;

/// For as long as there are clients.
pub fn operate(stage: &Stage, mut random: StdRng) {
    until_done(stage, &schedule(stage));
    while stage.clients.load(Ordering::Relaxed) > 0 {
        match random.random_range(0..4) {
            0 => pause_pool(stage, &mut random),
            1 => freeze(stage, &mut random),
            _ => hold(stage, &mut random),
        }
        thread::sleep(Duration::from_millis(random.random_range(20..200)));
    }
    until_done(stage, &RemoveSchedules { names: vec![SCHEDULE.to_owned()] });
}

/// Where nobody sets the clock, none of its times may be missing.
fn schedule(stage: &Stage) -> AddSchedule {
    let missed = if stage.clock.is_some() { Missed::RunOnce } else { Missed::RunAll };
    let schedule = Schedule {
        name: SCHEDULE.to_owned(),
        every_s: Some(1.0),
        overlap: Some(Overlap::Allow),
        missed: Some(missed),
        job: Job { argv: vec!["true".into()], ..Job::default() },
        ..Schedule::default()
    };
    AddSchedule { schedule, replace: Some(true) }
}

fn pause_pool(stage: &Stage, random: &mut StdRng) {
    let pools = vec![if random.random_bool(0.5) { "default" } else { WARM }.to_owned()];
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
    let latest = stage.known().accepted.last_key_value().map_or(0, |(&id, _)| id);
    let ids = (latest.saturating_sub(20)..=latest).filter(|&id| id > 0 && random.random_bool(0.3)).collect();
    if let Ok(mut client) = Client::connect(&stage.socket)
        && client.request(&Hold { ids }).is_ok()
    {
        stage.known().count("rounds of holding", 1);
    }
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

/// Each time of the schedule has one job; and where `all` is so, none is missing between the first and the
/// last.
pub fn check(client: &mut Client, all: bool, known: &mut Known) {
    let time = |record: &Record| unix_micros(record.key.as_ref()?.as_escaped().split_once('@')?.1);
    let is_tick = |record: &&Record| record.name.as_ref().is_some_and(|name| name.as_escaped() == SCHEDULE);
    let mut ticks: Vec<i64> = Vec::new();
    let mut after = None;
    loop {
        let page = client.request(&List { after, ..List::default() }).expect("nobody kills poold any more");
        ticks.extend(page.jobs.iter().filter(is_tick).filter_map(time));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let times: BTreeSet<i64> = ticks.iter().copied().collect();
    known.count("times of the schedule", times.len() as u64);
    if times.len() < ticks.len() {
        known.breaches.push(format!("{} jobs of the schedule at {} times", ticks.len(), times.len()));
    }
    let late =
        times.iter().zip(times.iter().skip(1)).filter(|(one, next)| all && *next - *one > SECOND_US * 3 / 2);
    let late = late.map(|(one, next)| {
        format!("the schedule has no job between {} and {}", rfc3339_short(*one), rfc3339_short(*next))
    });
    known.breaches.extend(late);
}
