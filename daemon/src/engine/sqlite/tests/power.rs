//! A power cut at any moment: what was answered under `durability = "power"` is there.
//!
//! The real store works on real files while everything that it does to them is recorded, along with the
//! moments of its answers. Then, for many moments, the files are built as a disk might have them after a cut
//! there: whatever was synced; of what was written since, any part, in sectors of 512 bytes; names in the
//! directory that were not synced, or not. The real store is opened on that and asked.
//!
//! `POOL_POWER_CUTS=N` sets the number of cuts, a new run for every 150 of them, `POOL_POWER_SEED=N` repeats
//! a run.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use pool_proto::Json;
use pool_proto::nouns::{On, ResultKind, State};

use super::recorder::{Event, Recording};
use super::{FENCE, open, options};
use crate::engine::orders::*;
use crate::engine::sqlite::{Durability, FILE_NAME, Sqlite};
use crate::engine::{self, Answer, Backing, CallbackEnd, Detail, Move, Order, Question, Told, ValueFile};
use crate::job::{self, Call, CallbackId, JobId, JobKind, LARGE_VALUE, Place, RequestId};

const SECTOR: usize = 512;

/// Batches of operations in one run, over several openings.
const BATCHES: usize = 90;
const OPENINGS: usize = 3;

/// Cuts in one such run.
const CUTS: usize = 150;

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What the store was asked, and when in the recording.
#[derive(Default)]
struct Story {
    answers: Vec<Answer>,
    /// The first id not given out, after the recording had reached this length.
    submitted: Vec<(usize, u64)>,
    delivered: BTreeMap<CallbackId, usize>,
}

/// A store at work, and what it has been asked so far.
struct Work {
    chance: Chance,
    story: Story,
    next_job: u64,
    next_callback: u64,
    unended: Vec<u64>,
    pending: Vec<CallbackId>,
    claimed: Vec<CallbackId>,
    is_failing: bool,
    /// A large value, and its file, which the next order that can have one speaks of.
    value: Option<(Json, Option<ValueFile>)>,
}

impl Work {
    fn batch(&mut self, at: usize) -> Vec<Order> {
        let count = 1 + self.chance.below(4);
        let ops = (0..count).filter_map(|_| self.op(at)).collect();
        self.story.submitted.push((at, self.next_job));
        ops
    }

    fn op(&mut self, at: usize) -> Option<Order> {
        match self.chance.below(12) {
            0..4 => Some(self.insert()),
            4 => self.some_job().map(|id| start(id, 1)),
            5 => Some(claim(self.some_job()?, 1)),
            6 => self.some_job().map(|id| crash(id, 1, 1, "died")),
            7..9 => self.finish(),
            9 => {
                let id = self.pending.pop()?;
                self.claimed.push(id);
                Some(begin_callback(id.0))
            }
            10 => {
                let id = self.claimed.pop()?;
                self.story.delivered.insert(id, at);
                Some(end_callback(id.0, CallbackEnd::Delivered))
            }
            _ => Some(prune(20, 0, u64::MAX, 5)),
        }
    }

    fn insert(&mut self) -> Order {
        let count = 1 + self.chance.below(8);
        let argument = "x".repeat(self.chance.below(3000));
        let (first, first_callback) = (self.next_job, self.next_callback);
        let callbacks: &[(On, &str)] =
            if self.chance.one_in(2) { &[(On::Done, "x"), (On::Success, "y")] } else { &[] };
        self.next_job += count as u64;
        self.next_callback += (count * callbacks.len()) as u64;
        let insertion = if self.chance.one_in(2) { insert_urgently } else { insert };
        let mut jobs = vec![work(&[&argument], callbacks); count];
        let Some((params, file)) = self.value.take() else { return insertion(first, first_callback, jobs) };
        let call = Call { method: "m".to_owned(), params: Some(params), lost: None };
        jobs[0] = Arc::new(job::Work { kind: JobKind::Call(call), ..job::Work::clone(&jobs[0]) });
        let mut order = insertion(first, first_callback, jobs);
        if let Order::Change(engine::Change::Insert(insertion)) = &mut order {
            insertion.files.extend(file.map(|file| (0, file)));
        }
        order
    }

    fn some_job(&mut self) -> Option<u64> {
        (!self.unended.is_empty()).then(|| self.unended[self.chance.below(self.unended.len())])
    }

    fn finish(&mut self) -> Option<Order> {
        let id = self.some_job()?;
        self.unended.retain(|&other| other != id);
        let mut outcome = outcome(State::Failed, ResultKind::ExitCode, self.chance.below(1_000_000) as i64);
        let (value, file) = self.value.take().unzip();
        outcome.answer = value.map(Err);
        let file = file.flatten();
        Some(change(Move { file, want: Detail::Nothing, ..moved(id, 1, Place::Ended(outcome)) }))
    }

    /// Takes what the store has to say next; true when it has come to the end of the batch.
    fn take_turn(
        &mut self,
        store: &mut Sqlite,
        recording: &Recording,
        notified: &Receiver<()>,
        seen: &SyncSender<()>,
    ) -> bool {
        notified.recv().expect("the store goes on");
        let mut is_over = false;
        while let Some(event) = store.next() {
            match event {
                Told::Answer(Answer::Got { .. }) => is_over = true,
                Told::Answer(answer) => self.take(answer),
                Told::Failing { reason } => {
                    assert!(!reason.contains("damaged"), "{reason}");
                    self.is_failing = true;
                }
                Told::Recovered => self.is_failing = false,
                Told::Kept { ticket, files } => {
                    let value = Json::parse(&format!("\"{}\"", "v".repeat(ticket as usize))).unwrap();
                    self.value = Some((value, files.into_iter().next().flatten()));
                }
            }
        }
        recording.told(self.story.answers.len(), self.is_failing);
        seen.send(()).expect("the store waits");
        is_over
    }

    fn take(&mut self, answer: Answer) {
        match &answer {
            Answer::Ended { callbacks, .. } => self.pending.extend(callbacks),
            // One that may be refused is not worked on.
            Answer::Inserted { first, jobs, .. } => self.unended.extend(first.0..first.0 + jobs.len() as u64),
            _ => {}
        }
        self.story.answers.push(answer);
    }
}

/// What becomes of what is brought to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Succeed,
    FailNowAndThen,
    /// But those of large values are left out.
    NotOfValues,
}

/// Runs a store through its work; what it did to the disk, and what it has promised.
fn record(seed: u64, durability: Durability, syncs: Syncs) -> (Vec<Event>, Story) {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::of(dir.path());
    if syncs == Syncs::NotOfValues {
        recording.forget_values();
    }
    let mut work = Work {
        chance: Chance(seed),
        story: Story::default(),
        next_job: 1,
        next_callback: 1,
        unended: Vec::new(),
        pending: Vec::new(),
        claimed: Vec::new(),
        is_failing: false,
        value: None,
    };
    for _ in 0..OPENINGS {
        // A file that no row speaks of goes with a start.
        work.value = None;
        let (notify, notified) = mpsc::sync_channel(0);
        let (seen, go_on) = mpsc::sync_channel::<()>(0);
        // The store's thread stands still until the answers are noted, so that the recording has them where
        // they were given.
        let go_on = Mutex::new(go_on);
        let told = move || {
            // So does the one that keeps large values; one after the other.
            let go_on = go_on.lock().unwrap();
            if notify.send(()).is_ok() {
                _ = go_on.recv();
            }
        };
        let (mut store, _) = Sqlite::open(dir.path(), options(durability), told).expect("the store opens");
        for _ in 0..BATCHES / OPENINGS {
            if work.value.is_none() && work.chance.one_in(2) {
                let length = LARGE_VALUE + work.chance.below(2000);
                let value = Json::parse(&format!("\"{}\"", "v".repeat(length))).unwrap();
                store.keep(length as u64, vec![value]);
                while work.value.is_none() {
                    work.take_turn(&mut store, &recording, &notified, &seen);
                }
            }
            let mut orders = work.batch(recording.len());
            if syncs == Syncs::FailNowAndThen && work.chance.one_in(6) {
                let evicts = work.chance.one_in(2);
                // What cannot be read any more either is only tried where it can be mended at once.
                recording.fail_syncs(if evicts { 1 } else { 1 + work.chance.below(3) }, evicts);
            }
            orders.push(records(FENCE.0, &[]));
            store.submit(orders);
            while !work.take_turn(&mut store, &recording, &notified, &seen) {}
        }
        recording.fail_syncs(0, false);
        while work.is_failing {
            work.take_turn(&mut store, &recording, &notified, &seen);
        }
        drop(notified);
        store.close().expect("everything can be written");
    }
    (recording.events(), work.story)
}

/// What has been done to a file since it was last synced.
enum Change<'e> {
    Write(usize, &'e [u8]),
    Truncate(usize),
}

/// A file: what is on the disk for sure, and what may be.
#[derive(Default)]
struct Inode<'e> {
    synced: Vec<u8>,
    since: Vec<Change<'e>>,
}

/// The directory: for each name the file that it leads to, and the one that it leads to on the disk for sure.
#[derive(Default)]
struct Disk<'e> {
    inodes: Vec<Inode<'e>>,
    names: BTreeMap<&'e str, (Option<usize>, Option<usize>)>,
}

impl<'e> Disk<'e> {
    fn do_event(&mut self, event: &'e Event, chance: &mut Chance) {
        match event {
            Event::Open(file) => {
                let number = self.inodes.len();
                let (current, synced) = self.names.entry(file).or_default();
                if current.is_none() {
                    *current = Some(number);
                    // The store itself has made it, and synced the directory, before it gave it to SQLite.
                    if file == FILE_NAME {
                        *synced = *current;
                    }
                    self.inodes.push(Inode::default());
                }
            }
            Event::Write { file, offset, bytes } => {
                self.inode(file).since.push(Change::Write(*offset, bytes))
            }
            Event::Truncate { file, size } => self.inode(file).since.push(Change::Truncate(*size)),
            Event::Sync(file) => {
                let inode = self.inode(file);
                for change in std::mem::take(&mut inode.since) {
                    change.apply(&mut inode.synced, |_| true);
                }
            }
            Event::SyncFailed { file, evicts } => {
                let inode = self.inode(file);
                for change in std::mem::take(&mut inode.since) {
                    change.apply(&mut inode.synced, |_| !evicts && chance.one_in(2));
                }
            }
            Event::SyncDir => self.names.values_mut().for_each(|(current, synced)| *synced = *current),
            Event::Delete(file) => self.names.entry(file).or_default().0 = None,
            Event::Told { .. } => {}
        }
    }

    fn inode(&mut self, file: &str) -> &mut Inode<'e> {
        &mut self.inodes[self.names[file].0.expect("it is open")]
    }

    /// The files as they might be after a cut.
    fn after_cut(&self, chance: &mut Chance) -> Vec<(&'e str, Vec<u8>)> {
        let mut files = Vec::new();
        for (&name, &(current, synced)) in &self.names {
            let found = if chance.one_in(2) { current } else { synced };
            let Some(number) = found else { continue };
            let mut content = self.inodes[number].synced.clone();
            // All of it, nothing, or any part.
            let mood = chance.below(4);
            for change in &self.inodes[number].since {
                let is_there = match mood {
                    0 => false,
                    1 => true,
                    _ => !chance.one_in(3),
                };
                if is_there {
                    let is_torn = mood == 3 && chance.one_in(2);
                    change.apply(&mut content, |_| !is_torn || chance.one_in(2));
                }
            }
            files.push((name, content));
        }
        files
    }
}

impl Change<'_> {
    /// Those of its sectors that get through.
    fn apply(&self, content: &mut Vec<u8>, mut gets_through: impl FnMut(usize) -> bool) {
        match *self {
            Change::Truncate(size) if gets_through(size / SECTOR) => content.resize(size, 0),
            Change::Truncate(_) => {}
            Change::Write(offset, bytes) => {
                let mut at = offset;
                while at < offset + bytes.len() {
                    let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
                    if gets_through(at / SECTOR) {
                        content.resize(content.len().max(end), 0);
                        content[at..end].copy_from_slice(&bytes[at - offset..end - offset]);
                    }
                    at = end;
                }
            }
        }
    }
}

/// What is wrong with a store that is opened on these files, after the recording had reached `at` and `told`
/// answers had been given; `in_flight`: those that the next answers belong to.
fn broken_promise(dir: &Path, story: &Story, at: usize, told: usize, in_flight: usize) -> Option<String> {
    let store = open(dir);
    let check = |connection: &rusqlite::Connection| {
        connection.pragma_query_value(None, "integrity_check", |row| row.get(0))
    };
    let integrity: String = store.inspect(check).unwrap();
    let mut broken = (integrity != "ok").then_some(integrity);
    let mut pruned = BTreeSet::new();
    for answer in &story.answers[..in_flight] {
        if let Answer::Pruned { jobs, .. } = answer {
            pruned.extend(jobs.iter().map(|(id, _)| id.0));
        }
    }
    let ids = (1..store.restored.next_job).map(JobId).collect();
    let Answer::Got { records, .. } =
        store.answer(Order::Question(Question::Records { request: RequestId(1), ids }))
    else {
        panic!("it can be read")
    };
    let records: BTreeMap<u64, pool_proto::Record> =
        records.into_iter().map(|record| (record.id, record)).collect();
    let lost = records
        .values()
        .find(|record| record.reason.as_ref().is_some_and(|reason| reason.contains("is lost")));
    if let (Some(record), None) = (lost, &broken) {
        broken = Some(format!("job {}: {}", record.id, record.reason.clone().unwrap_or_default()));
    }
    let mut expect = |holds: bool, what: &dyn Fn() -> String| {
        if !holds && broken.is_none() {
            broken = Some(what());
        }
    };
    let submitted =
        story.submitted.iter().take_while(|(when, _)| *when <= at).last().map_or(1, |(_, next)| *next);
    expect(store.restored.next_job <= submitted, &|| {
        "an id that was never given out counts as such".to_owned()
    });
    let written = |request: RequestId| {
        let ids = story.answers[..told].iter().find_map(|answer| match answer {
            Answer::Inserted { request: other, first, jobs, .. } if *other == request => {
                Some(first.0..first.0 + jobs.len() as u64)
            }
            _ => None,
        });
        ids.expect("it is told when it is written")
    };
    for answer in &story.answers[..told] {
        match answer {
            // A power cut may take these.
            Answer::Inserted { is_synced: false, .. } => {}
            &(Answer::Inserted { request, .. } | Answer::Synced { request }) => {
                for id in written(request) {
                    expect(records.contains_key(&id) || pruned.contains(&id), &|| {
                        format!("job {id} was accepted and is gone")
                    });
                    expect(store.restored.next_job > id, &|| format!("id {id} would be given out again"));
                }
            }
            Answer::Placed { id, attempt, .. } => {
                let is_known = records.get(&id.0).is_none_or(|record| record.attempt >= *attempt);
                expect(is_known, &|| format!("job {id} was not to run twice, and its start is forgotten"));
            }
            Answer::Ended { id, callbacks, .. } => {
                let Some(record) = records.get(&id.0) else {
                    expect(pruned.contains(&id.0), &|| format!("job {id} had ended and is gone"));
                    continue;
                };
                expect(record.state == State::Failed, &|| {
                    format!("job {id} had ended and is {:?}", record.state)
                });
                for callback in callbacks {
                    let known = record.callbacks.iter().find(|known| known.id == callback.0);
                    let state = known.map_or("gone", |known| known.state.as_str());
                    let may_be_over = story.delivered.get(callback).is_some_and(|&when| when <= at);
                    let restored = &store.restored;
                    let mut outbox = restored.callbacks.iter().chain(&restored.waiting_callbacks);
                    let is_due = outbox.any(|pending| pending == callback);
                    let is_kept = is_due && matches!(state, "pending" | "running")
                        || may_be_over && state == "delivered";
                    expect(is_kept, &|| format!("callback {callback} of job {id} was due and is {state}"));
                }
            }
            _ => {}
        }
    }
    store.close();
    broken
}

/// Cuts the power that often; what was found broken.
fn cut(seed: u64, cuts: usize, durability: Durability, syncs: Syncs) -> Vec<String> {
    let (events, story) = record(seed, durability, syncs);
    let mut chance = Chance(seed ^ 0xC0FF_EE00);
    let mut moments: Vec<usize> = (0..cuts).map(|_| chance.below(events.len() + 1)).collect();
    moments.sort_unstable();
    let (mut disk, mut done, mut told) = (Disk::default(), 0, 0);
    let mut broken = Vec::new();
    for at in moments {
        for event in &events[done..at] {
            disk.do_event(event, &mut chance);
            if let Event::Told { answers, .. } = event {
                told = *answers;
            }
        }
        done = at;
        // A batch is told in two parts where an insertion in it is told before the sync.
        let in_flight = events[at..].iter().filter_map(|event| match event {
            // While the store is failing, what is in flight is not told.
            Event::Told { answers, is_failing: false } => Some(*answers),
            _ => None,
        });
        let next = in_flight.take(2).last();
        let dir = tempfile::tempdir_in(scratch()).unwrap();
        for (name, content) in disk.after_cut(&mut chance) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).unwrap();
            fs::write(path, content).unwrap();
        }
        let what = broken_promise(dir.path(), &story, at, told, next.unwrap_or(story.answers.len()));
        broken.extend(what.map(|what| format!("cut after {at} of {} steps: {what}", events.len())));
    }
    broken
}

/// Where a sync costs nothing, if there is such a place: what is looked at there is thrown away.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { env::temp_dir() }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn what_was_answered_survives_a_power_cut_at_any_moment() {
    assert_no_promise_is_broken(Syncs::Succeed);
}

#[test]
fn what_was_answered_survives_syncs_that_fail_and_a_power_cut_after_them() {
    assert_no_promise_is_broken(Syncs::FailNowAndThen);
}

/// In this one the first promise of a new database cannot be synced, and the kernel forgets what was written.
#[test]
fn a_first_sync_that_fails_takes_no_tables_along() {
    let broken = cut(2_135_006_405, CUTS, Durability::Power, Syncs::FailNowAndThen);
    assert!(broken.is_empty(), "{broken:#?}");
}

fn assert_no_promise_is_broken(syncs: Syncs) {
    let seed = number("POOL_POWER_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 1_000_003);
    let cuts = number("POOL_POWER_CUTS").map_or(CUTS, |cuts| cuts as usize);
    for (seed, cuts) in (seed..).zip((0..cuts.div_ceil(CUTS)).map(|_| CUTS)) {
        println!("POOL_POWER_SEED={seed}, {cuts} cuts");
        let broken = cut(seed, cuts, Durability::Power, syncs);
        assert!(broken.is_empty(), "POOL_POWER_SEED={seed}: {broken:#?}");
    }
}

#[test]
fn without_syncs_the_same_cuts_do_break_promises() {
    let broken = cut(7, 120, Durability::Crash, Syncs::Succeed);
    // A job that is gone, or one that is there without its large value.
    let is_loss = |what: &String| what.contains("is gone") || what.contains("is lost");
    assert!(broken.iter().any(is_loss), "the test above can fail: {broken:#?}");
}

#[test]
fn without_syncs_of_values_the_same_cuts_lose_some() {
    let broken = cut(7, 120, Durability::Power, Syncs::NotOfValues);
    assert!(broken.iter().any(|what| what.contains("is lost")), "the test above can fail: {broken:#?}");
}
