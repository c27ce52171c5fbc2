//! Stories of callbacks that somebody runs again, or drops.

use pool_proto::nouns::On;

use super::specs::{EXITED, SECOND, with_callback, work};
use super::workers::run_callback;
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::engine::{Change, Delivery, Order};
use crate::job::{CallbackId, Exit, RequestId, Unit};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };
const FAILED: Exit = Exit::Code(1);

/// So many jobs with a callback each have ended one after the other, and the first callback has a slot.
fn with_callbacks(count: usize) -> World {
    let mut world = World::up(1);
    world.submit(vec![with_callback(On::Done); count]);
    world.settle();
    for _ in 0..count {
        world.attempt_ended(SLOT, EXITED);
        world.settle();
    }
    world
}

/// A job has ended, and its callback was given up.
fn given_up() -> World {
    let mut world = with_callbacks(1);
    fail_for_good(&mut world, 1);
    world
}

fn fail_for_good(world: &mut World, id: u64) {
    for pause in [SECOND, 2 * SECOND] {
        run_callback(world, id, FAILED);
        world.advance(pause);
        world.settle();
    }
    run_callback(world, id, FAILED);
    world.settle();
    assert_eq!(world.delivery(id).0, Delivery::Failed);
}

fn retry(world: &mut World, ids: &[u64]) -> RequestId {
    let request = world.retry_callbacks(ids);
    world.settle();
    request
}

fn drop_them(world: &mut World, ids: &[u64]) -> RequestId {
    let request = world.drop_callbacks(ids);
    world.settle();
    request
}

#[test]
fn a_callback_that_was_given_up_runs_again_with_new_attempts() {
    let mut world = given_up();
    let request = retry(&mut world, &[1]);
    assert_eq!(world.altered_callbacks(request), (vec![1], vec![]));
    assert_eq!(world.delivery(1), (Delivery::Running, 4), "under its id, and the attempts go on counting");

    fail_for_good(&mut world, 1);
    assert_eq!(world.delivery(1).1, 6, "three attempts, as for a new one");
    retry(&mut world, &[1]);
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert_eq!(world.delivery(1), (Delivery::Delivered, 7));
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_has_been_asked_for_is_there_after_a_crash() {
    let mut world = given_up();
    let request = world.retry_callbacks(&[1]);
    while !world.is_answered(request) && (world.store_step() || world.answer_step()) {}
    world.crash();
    world.settle();
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert_eq!(world.delivery(1).0, Delivery::Delivered);

    let mut world = given_up();
    drop_them(&mut world, &[1]);
    world.crash();
    world.settle();
    assert_eq!(world.delivery(1).0, Delivery::Dropped);
    world.assert_idle();
}

#[test]
fn a_callback_that_is_dropped_does_not_run_and_can_be_called_back() {
    let mut world = with_callbacks(3);
    let request = drop_them(&mut world, &[2, 3]);
    assert_eq!(world.altered_callbacks(request), (vec![2, 3], vec![]));
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert_eq!([2, 3].map(|id| world.delivery(id)), [(Delivery::Dropped, 0); 2]);
    world.assert_idle();

    retry(&mut world, &[3]);
    run_callback(&mut world, 3, EXITED);
    world.settle();
    assert_eq!(world.delivery(3), (Delivery::Delivered, 1));
    world.assert_idle();
}

#[test]
fn one_that_waits_for_its_next_attempt_is_dropped_with_its_time() {
    let mut world = with_callbacks(1);
    run_callback(&mut world, 1, FAILED);
    world.settle();
    drop_them(&mut world, &[1]);
    world.advance(9 * SECOND);
    world.settle();
    assert_eq!(world.delivery(1), (Delivery::Dropped, 1));
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_runs_or_is_over_or_is_not_there_stays_as_it_is() {
    let mut world = with_callbacks(1);
    world.submit(vec![with_callback(On::Failure), with_callback(On::Done)]);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    let request = drop_them(&mut world, &[1, 2, 3, 9]);
    let (dropped, others) = world.altered_callbacks(request);
    assert_eq!(dropped, Vec::<u64>::new());
    assert_eq!(
        others,
        [
            "callback 1 runs: drop it once this attempt has failed",
            "callback 2 was skipped: it is for another end of its job",
            "callback 3 waits for the end of its job",
            "there is no callback 9: it never existed, or was pruned with its job",
        ]
    );
    let request = retry(&mut world, &[1]);
    assert_eq!(world.altered_callbacks(request), (vec![], vec!["callback 1 runs".to_owned()]));
    run_callback(&mut world, 1, EXITED);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    run_callback(&mut world, 3, EXITED);
    world.settle();
    world.assert_idle();
}

/// The engine is told of the drop before the slot's callback is to begin: it never does, and the next one
/// gets the slot.
#[test]
fn a_drop_that_comes_just_before_the_begin_gives_the_slot_to_the_next() {
    let mut world = with_callbacks(3);
    world.drop_callbacks(&[2]);
    world.attempt_ended(world.slot_of(Unit::Callback(CallbackId(1))), EXITED);
    let begins = Order::Change(Change::BeginCallback { id: CallbackId(2) });
    assert!(world.delayed().orders.contains(&begins), "it has been given the slot");
    world.settle();
    assert_eq!((world.delivery(2), world.delivery(3).0), ((Delivery::Dropped, 0), Delivery::Running));
    run_callback(&mut world, 3, EXITED);
    world.settle();
    world.assert_idle();
    world.assert_empty();
}

/// A job is kept, and not run again, while a callback is to be delivered; and no longer.
#[test]
fn the_job_is_kept_as_long_as_its_callback_is_to_run() {
    let mut world = given_up();
    let first = world.retry_callbacks(&[1]);
    let early = world.retry(&[1]);
    world.settle();
    assert_eq!((world.altered_callbacks(first).0, world.altered_ids(early)), (vec![1], (vec![], vec![1])));
    run_callback(&mut world, 1, FAILED);
    world.settle();
    drop_them(&mut world, &[1]);
    world.advance(2 * SECOND);
    world.settle();

    let again = world.retry(&[1]);
    world.settle();
    assert_eq!(world.altered_ids(again), (vec![1], vec![]));
    world.attempt_ended(SLOT, FAILED);
    world.settle();
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert_eq!(world.delivery(1).0, Delivery::Delivered, "it tells of the new round");
    let request = world.remove(&[1]);
    world.settle();
    assert_eq!(world.altered_ids(request), (vec![1], vec![]));
    world.submit(vec![work()]);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    world.assert_idle();
}

#[test]
fn a_drain_waits_for_what_runs_again() {
    let mut world = given_up();
    world.retry_callbacks(&[1]);
    world.drain();
    world.settle();
    assert!(!world.exited);
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert!(world.exited);
}
