//! Stories about slots whose attempts are short, and that get the next one ahead.

use std::time::Duration;

use pool_proto::State;
use pool_proto::nouns::OnCrash;

use super::specs::{EXITED, settings, work};
use super::workers::{Sent, begin, sent_to};
use super::world::{DEFAULT, World};
use crate::core::{Event, SlotId};
use crate::job::{Claim, JobId, Unit, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

/// One slot, whose latest attempt was short; jobs from 2 on are `jobs`, of which the first has the slot.
fn quick(jobs: Vec<Work>) -> World {
    let mut world = World::handing_ahead(settings(1));
    world.settle();
    world.submit([vec![work()], jobs].concat());
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    world
}

fn ahead(world: &World) -> Option<u64> {
    match world.ahead.get(&SLOT) {
        Some(Claim { unit: Unit::Job(id), .. }) => Some(id.0),
        _ => None,
    }
}

#[test]
fn a_slot_goes_on_with_what_it_has_ahead() {
    let mut world = quick(vec![work(); 3]);
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![2], Some(3)));
    assert_eq!(world.state(3), State::Queued);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![3], Some(4)));
    world.attempt_ended(SLOT, EXITED);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn what_is_given_back_has_not_been_tried_and_goes_first() {
    let mut world = quick(vec![work(); 4]);
    begin(&mut world, 2);
    world.give_back(SLOT);
    world.settle();
    assert_eq!((ahead(&world), world.record(3).attempt), (None, 0));
    assert_eq!((world.core().running().count(), world.state(3)), (1, State::Queued));

    // An attempt that takes its time is no reason to hand out another one ahead.
    world.advance(Duration::from_secs(1));
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![3], None));
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![4], Some(5)));
}

#[test]
fn what_is_more_urgent_has_what_is_ahead_called_back() {
    let mut world = quick(vec![work(); 3]);
    let urgent = Work { priority: 1, ..work() };
    world.submit(vec![urgent]);
    world.settle();
    let claim = Claim { unit: Unit::Job(JobId(3)), attempt: 1 };
    assert_eq!(world.called_back, [claim]);
    world.give_back(SLOT);
    world.settle();
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!(world.running_jobs(), [5]);
}

#[test]
fn what_is_canceled_while_it_is_ahead_never_runs() {
    let mut world = quick(vec![work(); 2]);
    world.cancel(&[3]);
    world.settle();
    assert_eq!(sent_to(&world, 3), [Sent::Terminate]);
    world.give_back(SLOT);
    world.settle();
    let record = world.record(3);
    assert_eq!((record.state, record.attempt), (State::Canceled, 0));
    // The worker may have begun with it when it hears of that.
    let mut world = quick(vec![work(); 2]);
    world.cancel(&[3]);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!(world.running_jobs(), [3]);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert_eq!(world.state(3), State::Canceled);
}

#[test]
fn a_worker_that_dies_has_not_begun_with_what_it_had_ahead() {
    let mut world = quick(vec![work(); 2]);
    begin(&mut world, 2);
    world.worker_lost(SLOT);
    world.settle();
    assert_eq!((world.record(2).crashes, world.record(3).attempt, world.record(3).crashes), (1, 0, 0));
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![2], None), "nobody knows the new worker");
}

#[test]
fn a_job_whose_start_is_written_down_first_is_handed_to_a_free_slot_alone() {
    let once = Work { on_crash: OnCrash::Fail, ..work() };
    let mut world = quick(vec![work(), once, work()]);
    assert_eq!(ahead(&world), None);
    world.attempt_ended(SLOT, EXITED);
    // Nor is anything handed out behind it before it is at its worker.
    assert_eq!(ahead(&world), None);
    world.settle();
    assert_eq!((world.running_jobs(), ahead(&world)), (vec![3], Some(4)));
}

#[test]
fn a_stop_starts_nothing_that_is_ahead() {
    let mut world = quick(vec![work(); 3]);
    world.handle(Event::Stop);
    world.settle();
    assert_eq!((sent_to(&world, 2), sent_to(&world, 3)), (vec![Sent::Terminate], vec![Sent::Terminate]));
    world.give_back(SLOT);
    world.attempt_ended(SLOT, EXITED);
    world.settle();
    assert!(world.exited);
    assert_eq!((world.place_of(JobId(3)).unwrap().state(), ahead(&world)), (State::Queued, None));
}
