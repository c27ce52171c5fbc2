//! Stories of jobs whose life hangs on something, and of those that must not be repeated.

use std::time::Duration;

use pool_proto::methods::Wait;
use pool_proto::nouns::{On, OnCrash, OnDisconnect};
use pool_proto::text::rfc3339;
use pool_proto::{Record, Refusal, ResultKind, State};

use super::clients::{Heard, ends_of, refused};
use super::scenarios::{slot, submit_attached};
use super::specs::{EXITED, SECOND, with_callback, work};
use super::workers::{Sent, run_callback, sent_to};
use super::world::World;
use crate::core::Event;
use crate::job::{Exit, JobId, RequestId, Tie, Unit, Work};

fn tied(tie: Tie) -> Work {
    Work { tie: Some(tie), ..with_callback(On::Done) }
}

fn not_to_be_repeated(on_crash: OnCrash) -> Work {
    Work { on_crash, ..work() }
}

fn record(world: &World, call: RequestId) -> &Record {
    match world.replies(call).last() {
        Some(Heard::Ended(record)) => record,
        other => panic!("an end was expected, not {other:?}"),
    }
}

/// What was asked to end does so.
fn obey(world: &mut World, id: u64) {
    assert_eq!(sent_to(world, id).last(), Some(&Sent::Terminate), "job {id}");
    world.attempt_ended(world.slot_of(Unit::Job(JobId(id))), Exit::Signal { signal: 15, core: false });
    world.settle();
}

#[test]
fn a_job_ends_with_the_job_that_it_is_tied_to_and_so_on() {
    let mut world = World::up(2);
    world.submit(vec![work()]);
    world.settle();
    let second = submit_attached(&mut world, tied(Tie::Job(JobId(1))), OnDisconnect::Detach);
    let third = submit_attached(&mut world, tied(Tie::Job(JobId(2))), OnDisconnect::Detach);
    world.settle();
    assert_eq!(world.running_jobs(), [1, 2]);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    obey(&mut world, 2);
    assert_eq!(record(&world, second).reason.as_deref(), Some("job 1, which it was tied to, has ended"));
    // It had just been given the slot of job 1.
    obey(&mut world, 3);
    assert_eq!(
        (record(&world, third).state, record(&world, third).result),
        (State::Canceled, Some(ResultKind::Canceled))
    );
}

#[test]
fn a_tie_to_what_has_ended_ends_at_once_and_one_to_nothing_is_refused() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    let late = submit_attached(&mut world, tied(Tie::Job(JobId(1))), OnDisconnect::Detach);
    assert_eq!(record(&world, late).state, State::Canceled);
    assert!(world.running_jobs().is_empty(), "it has not run");
    let call = world.submit(vec![tied(Tie::Job(JobId(99)))]);
    world.settle();
    assert_eq!(refused(world.replies(call).last()), &Refusal::NoSuchJob { id: 99, pruned: None });
}

#[test]
fn a_tie_that_breaks_in_a_crash_is_found_broken() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.submit(vec![tied(Tie::Job(JobId(1)))]);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    while world.store_step() {}
    world.crash();
    world.settle();
    assert_eq!(world.state(2), State::Canceled);
}

#[test]
fn a_drain_waits_for_no_daemonic_job_and_ends_it_last() {
    let mut world = World::up(2);
    let daemonic = submit_attached(&mut world, tied(Tie::Pool), OnDisconnect::Detach);
    world.submit(vec![work(), work()]);
    world.settle();
    world.drain();
    world.attempt_ended(slot(1), EXITED);
    world.settle();
    assert!(sent_to(&world, 1).is_empty(), "job 3 still runs");
    world.attempt_ended(slot(1), EXITED);
    world.settle();
    obey(&mut world, 1);
    assert_eq!(record(&world, daemonic).state, State::Canceled);
    assert!(record(&world, daemonic).reason.as_ref().unwrap().contains("shutting down"));
    assert!(!world.exited, "its callback runs first");
    run_callback(&mut world, 1, EXITED);
    assert!(world.exited);
}

#[test]
fn daemonic_jobs_that_hold_every_slot_give_way_to_a_drain() {
    let mut world = World::up(1);
    world.submit(vec![tied(Tie::Pool)]);
    world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    world.drain();
    obey(&mut world, 1);
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn a_job_ends_with_its_client_and_after_a_restart_waits_for_it_a_while() {
    let mut world = World::up(1);
    let call = submit_attached(&mut world, tied(Tie::Client), OnDisconnect::Cancel);
    world.attempt_started(slot(0));
    world.settle();
    world.crash();
    world.settle();
    assert!(world.running_jobs().is_empty(), "its client is not there");
    assert!(!world.clients.told.contains_key(&call));
    let again =
        world.wait(Wait { output: Some(true), on_disconnect: Some(OnDisconnect::Cancel), ..ends_of(&[1]) });
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    world.advance(20 * SECOND);
    assert!(sent_to(&world, 1).is_empty());
    world.disconnect(again);
    obey(&mut world, 1);
    assert_eq!(world.state(1), State::Canceled);

    submit_attached(&mut world, tied(Tie::Client), OnDisconnect::Cancel);
    world.crash();
    world.settle();
    world.advance(10 * SECOND);
    world.settle();
    assert_eq!(world.state(2), State::Canceled, "nobody has come back");
    assert!(world.running_jobs().is_empty());
}

#[test]
fn what_must_not_be_repeated_starts_when_that_is_on_disk() {
    for on_crash in [OnCrash::Fail, OnCrash::Hold] {
        let mut world = World::up(1);
        world.submit(vec![not_to_be_repeated(on_crash)]);
        while world.running_jobs().is_empty() {
            assert!(world.store_step() || world.answer_step(), "it starts in the end");
        }
        assert_eq!(world.state(1), State::Running);
        world.crash();
        world.settle();
        assert!(world.running_jobs().is_empty());
        assert_eq!(world.state(1), if on_crash == OnCrash::Fail { State::Failed } else { State::Held });
        assert_eq!(world.record(1).crashes, 1, "{on_crash:?}");
    }
}

#[test]
fn a_held_job_is_released_or_canceled() {
    let mut world = World::up(1);
    world.submit(vec![not_to_be_repeated(OnCrash::Hold), not_to_be_repeated(OnCrash::Hold)]);
    for id in [1, 2] {
        world.settle();
        world.worker_lost(slot(0));
        world.settle();
        world.advance(10 * SECOND);
        world.settle();
        assert_eq!(world.state(id), State::Held);
    }
    let record = world.record(1);
    assert!(record.reason.as_ref().unwrap().contains("poolctl release 1"), "{record:?}");
    let call = world.release(&[1]);
    world.settle();
    assert_eq!(world.replies(call), [Heard::Done]);
    assert_eq!(world.running_jobs(), [1]);
    let call = world.release(&[1]);
    world.settle();
    assert_eq!(refused(world.replies(call).last()), &Refusal::NotHeld { id: 1 });
    world.cancel(&[2]);
    world.settle();
    assert_eq!(world.state(2), State::Canceled);
    world.attempt_ended(slot(0), EXITED);
    world.settle();
    world.assert_idle();
}

#[test]
fn an_end_before_the_claim_is_written_leaves_the_slot_to_the_next() {
    let mut world = World::up(1);
    let job = Work { tie: Some(Tie::Client), ..not_to_be_repeated(OnCrash::Fail) };
    let call = world.submit_and_wait(&job, OnDisconnect::Cancel);
    world.submit(vec![work()]);
    while !world.is_claiming() {
        assert!(world.store_step() || world.answer_step(), "it gets a slot");
    }
    world.disconnect(call);
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    assert_eq!(world.running_jobs(), [2]);
}

#[test]
fn an_ordered_end_repeats_nothing_that_must_not_be() {
    for (on_crash, state) in
        [(OnCrash::Fail, State::Failed), (OnCrash::Hold, State::Held), (OnCrash::Requeue, State::Queued)]
    {
        let mut world = World::up(1);
        world.submit(vec![not_to_be_repeated(on_crash)]);
        world.settle();
        world.attempt_started(slot(0));
        world.handle(Event::Stop);
        world.advance(Duration::from_millis(1));
        world.attempt_ended(slot(0), Exit::Signal { signal: 15, core: false });
        while world.store_step() {}
        assert_eq!(world.state(1), state, "{on_crash:?}");
    }
}

#[test]
fn a_crash_lasts_as_long_as_it_lasted_whatever_becomes_of_the_walls_clock() {
    let mut world = World::up(1);
    world.submit(vec![not_to_be_repeated(OnCrash::Fail)]);
    world.settle();
    world.attempt_started(slot(0));
    let before = world.now.wall_us;
    world.advance(SECOND);
    world.now.wall_us -= 3_600_000_000;
    world.worker_lost(slot(0));
    while world.store_step() {}
    let record = world.record(1);
    assert_eq!(record.state, State::Failed);
    assert_eq!(record.ended_at, Some(rfc3339(before + 1_000_000)));
}

/// Whatever the wall's clock says by then: an administrator may have set it.
#[test]
fn an_end_after_the_order_to_end_is_no_end_of_its_own() {
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.attempt_started(slot(0));
    world.handle(Event::Stop);
    world.advance(Duration::from_millis(1));
    world.now.wall_us -= 3_600_000_000;
    world.attempt_ended(slot(0), EXITED);
    while world.store_step() {}
    assert_eq!(world.state(1), State::Queued, "it is run again");
}

/// What is written down names the worker: the word that a start is on disk, which was meant for a dead one,
/// starts nothing in the next one's hands.
#[test]
fn a_start_that_was_written_down_for_a_dead_worker_is_no_leave_for_the_next_one() {
    let mut world = World::up(2);
    world.submit(vec![not_to_be_repeated(OnCrash::Fail)]);
    while !world.is_claiming() {
        assert!(world.store_step() || world.answer_step(), "it gets a slot");
    }
    world.worker_lost(slot(0));
    world.store_step();
    world.answer_step();
    assert!(world.running_jobs().is_empty(), "the next worker's start is not on disk");

    // The job is queued again, on disk, and all dies before its next start is written down.
    world.store_step();
    world.crash();
    world.settle();
    assert_eq!(world.running_jobs(), [1], "nothing of it has run");
}
