//! What is only this backing's: its share of a stream of orders, what it forgets, and the mistakes that it
//! notices.

use pool_proto::nouns::State;
use pool_proto::{Json, Record};

use super::*;
use crate::engine::orders::*;
use crate::engine::{Fence, Move, Page};
use crate::job::{Call, JobKind, Until};

fn calls(first: u64, count: usize, volatile: bool) -> Order {
    insert(first, 1, vec![call(volatile); count])
}

fn answer(memory: &mut Memory) -> Option<Answer> {
    match memory.next()? {
        Told::Answer(answer) => Some(answer),
        told => panic!("{told:?} is no answer"),
    }
}

#[test]
fn what_is_its_own_is_answered_and_the_rest_is_passed_on() {
    let mut memory = Memory::forgetful();
    assert_eq!(memory.take(calls(5, 2, true)), None);
    assert!(matches!(answer(&mut memory), Some(Answer::Inserted { first: JobId(5), .. })));
    assert!(memory.take(calls(7, 1, false)).is_some());

    let rest = memory.take(records(2, &[5, 9, 6]));
    assert_eq!(rest, Some(records(2, &[9])));
    let got = answer(&mut memory);
    assert!(
        matches!(got, Some(Answer::Got { records, missing, .. }) if records.len() == 2 && missing.is_empty())
    );
    assert_eq!(memory.take(records(2, &[])), Some(records(2, &[])));

    assert_eq!(memory.take(finish_at(5, 10)), None);
    let ended = answer(&mut memory);
    assert!(
        matches!(ended, Some(Answer::Ended { record: Some(record), .. }) if record.state == State::Failed)
    );
    assert!(memory.take(finish_at(9, 10)).is_some());

    assert_eq!(memory.take(release(3, &[9])), Some(release(3, &[9])));
    assert_eq!(memory.take(release(3, &[6])), None);
    assert!(matches!(answer(&mut memory), Some(Answer::Refused { .. })));
}

#[test]
fn both_backings_are_asked_who_is_due() {
    let mut memory = Memory::forgetful();
    let due = || wake(100, 10);
    assert_eq!(memory.take(due()), Some(due()));
    assert_eq!(answer(&mut memory), None);

    memory.take(calls(1, 1, true));
    memory.take(wait(1, 1, 1, 50));
    answer(&mut memory);
    assert_eq!(memory.take(due()), Some(due()));
    assert!(
        matches!(answer(&mut memory), Some(Answer::Woken { jobs, next_us: None, .. }) if jobs.len() == 1)
    );
}

#[test]
fn ends_are_forgotten_after_a_while() {
    let mut memory = Memory::forgetful();
    memory.take(calls(1, 3, true));
    memory.take(finish_at(1, 0));
    memory.take(finish_at(2, history::MAX_AGE_US));
    assert!(memory.has(JobId(1)));
    memory.take(finish_at(3, history::MAX_AGE_US + 1));
    assert!(memory.is_overfull());
    memory.forget(&[JobId(1)]);
    assert!(memory.has(JobId(1)), "somebody waits for it");
    memory.forget(&[]);
    assert_eq!([1, 2, 3].map(|id| memory.has(JobId(id))), [false, true, true]);

    let mut memory = Memory::default();
    memory.submit(vec![calls(1, 2, false), finish_at(1, 0), finish_at(2, history::MAX_AGE_US + 1)]);
    assert!(memory.has(JobId(1)), "only a forgetful one forgets");
}

#[test]
fn so_many_ends_are_remembered() {
    let mut memory = Memory::forgetful();
    let count = history::MAX_ENDED as u64 + 3;
    memory.take(calls(1, count as usize, true));
    for id in 1..=count {
        memory.take(finish_at(id, 1));
    }
    memory.forget(&[]);
    assert_eq!([3, 4].map(|id| memory.has(JobId(id))), [false, true]);
}

#[test]
fn a_listing_has_them_in_their_places() {
    let mut memory = Memory::forgetful();
    memory.take(calls(2, 3, true));
    let stored = |id| Record { id, ..memory.record(JobId(2)).unwrap() };
    let page = |after, limit| Page { after, limit, ..Page::default() };
    let ids = |records: &[Record]| records.iter().map(|record| record.id).collect::<Vec<u64>>();

    let mut records = vec![stored(1), stored(7)];
    assert_eq!(memory.join(&page(None, 3), &mut records, None), Some(JobId(3)));
    assert_eq!(ids(&records), [1, 2, 3]);

    let mut records = vec![stored(7)];
    assert_eq!(memory.join(&page(Some(JobId(3)), 3), &mut records, None), None);
    assert_eq!(ids(&records), [4, 7]);

    let mut records = vec![stored(1)];
    assert_eq!(memory.join(&page(None, 1), &mut records, Some(JobId(1))), Some(JobId(1)));
    assert_eq!(ids(&records), [1]);
}

#[test]
fn mistakes_are_noticed() {
    let start = Start {
        slot: 0,
        worker: crate::job::ProcessId::new(9),
        process: None,
        memory_limiter: None,
        started_us: 1,
        since_boot_us: 1,
    };
    let mut memory = Memory::default();
    memory.submit(vec![calls(1, 2, false)]);
    memory.submit(vec![change(Move { confirm: true, ..moved(1, 1, Place::Running(start)) })]);
    memory.submit(vec![change(moved(1, 1, Place::Running(start))), finish_at(1, 5)]);
    memory.submit(vec![change(Move::new(JobId(1), Fence::Idle, Place::Running(start), Tries::default()))]);
    assert_eq!(memory.mistakes(), [""; 0], "a confirmed start may be told again, and an idle fence may fail");

    memory.submit(vec![finish_at(1, 5)]);
    assert_eq!(memory.mistakes().len(), 1, "it has ended before");
    memory.submit(vec![finish_at(7, 5)]);
    assert_eq!(memory.mistakes().len(), 2, "it does not exist");
    memory
        .submit(vec![change(moved(2, 1, Place::Running(start))), change(moved(2, 1, Place::Running(start)))]);
    assert_eq!(memory.mistakes().len(), 3, "its attempt has started before");
    memory.submit(vec![change(Move { start: Some(start), ..moved(2, 1, Place::Queued { again: false }) })]);
    assert_eq!(memory.mistakes().len(), 4, "its start was told before");
    memory.submit(vec![change(moved(2, 1, Place::Waiting(Until::Time { due_us: 1 })))]);
    assert_eq!(memory.mistakes().len(), 5, "it has no retries");
    memory.submit(vec![Order::Change(Change::BeginCallback { id: CallbackId(1) }), calls(2, 1, false)]);
    assert_eq!(memory.mistakes().len(), 7, "there is no such callback, and the ids were given out");
}

#[test]
fn calls_that_wait_take_so_much_memory_and_no_more() {
    let mut memory = Memory::forgetful();
    let mut inserts = |id: u64, size: usize| {
        let params = Json::parse(&format!("\"{}\"", "x".repeat(size))).ok();
        let kind = JobKind::Call(Call { method: "m".to_owned(), params, lost: None });
        let large = Arc::new(Work { kind, ..Work::clone(&call(true)) });
        assert_eq!(memory.take(insert(id, 1, vec![large])), None);
        match answer(&mut memory) {
            Some(Answer::Inserted { .. }) => true,
            Some(Answer::Refused { refusal: Refusal::MemoryFull { .. }, .. }) => false,
            other => panic!("{other:?}"),
        }
    };
    assert!(inserts(1, 600_000));
    assert!(!inserts(2, 600_000));
    assert!(inserts(2, 100_000));

    assert_eq!(memory.take(cancel(1)), None);
    assert!(matches!(answer(&mut memory), Some(Answer::Ended { .. })));
    assert_eq!(memory.take(cancel(2)), None);
    assert_eq!(memory.living_bytes, 0, "what has ended makes room");
}
