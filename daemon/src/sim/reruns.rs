//! Stories of jobs that have ended and are run again: one end for each round.

use pool_proto::nouns::{HappeningKind, On, OnCrash, OnDisconnect};
use pool_proto::{Refusal, State};

use super::clients::{Heard, ends_of, refused};
use super::queue::retried;
use super::specs::{EXITED, SECOND, work};
use super::workers::{begin, run_callback};
use super::world::{DEFAULT, World};
use crate::core::SlotId;
use crate::job::{After, Conditions, Exit, JobId, NewCallback, RequestId, Tie, Work};

const SLOT: SlotId = SlotId { lane: DEFAULT, index: 0 };

fn end(world: &mut World, exit: Exit) {
    world.attempt_ended(SLOT, exit);
    world.settle();
}

fn retry(world: &mut World, ids: &[u64]) -> RequestId {
    let request = world.retry(ids);
    world.settle();
    request
}

fn ends(world: &World, request: RequestId) -> Vec<(State, u32)> {
    let ends = world.replies(request).iter().filter_map(|heard| match heard {
        Heard::Ended(record) => Some((record.state, record.attempt)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn each_round_has_one_end_that_is_told_with_its_callbacks() {
    let mut world = World::up(1);
    let callbacks = vec![NewCallback { on: On::Failure, command: "callback".into() }];
    let first = world.submit_and_wait(&Work { callbacks, ..work() }, OnDisconnect::Detach);
    world.settle();
    let listening = world.listen();
    world.settle();
    end(&mut world, Exit::Code(1));
    let early = retry(&mut world, &[1]);
    assert_eq!(world.altered_ids(early), (vec![], vec![1]), "its callback has yet to run");
    run_callback(&mut world, 1, EXITED);
    world.settle();

    let request = retry(&mut world, &[1]);
    assert_eq!((world.altered_ids(request).0, world.running_jobs()), (vec![1], vec![1]));
    let second = world.wait(ends_of(&[1]));
    world.settle();
    assert!(!world.is_answered(second), "it waits for the end of this round");
    begin(&mut world, 1);
    world.crash();
    world.settle();
    assert_eq!(world.running_jobs(), [1]);
    let second = world.wait(ends_of(&[1]));
    world.settle();
    end(&mut world, Exit::Code(1));
    run_callback(&mut world, 1, EXITED);
    world.settle();
    assert_eq!(ends(&world, second), [(State::Failed, 3)]);
    assert_eq!(world.record(1).reruns, 1);
    world.assert_idle();
    world.assert_empty();
    let _ = (first, listening);
}

#[test]
fn listeners_and_waiters_hear_of_both_rounds() {
    let mut world = World::up(1);
    let first = world.submit_and_wait(&retried(1), OnDisconnect::Detach);
    let listening = world.listen();
    world.settle();
    end(&mut world, Exit::Code(1));
    world.advance(SECOND);
    world.settle();
    end(&mut world, Exit::Code(1));
    assert_eq!(ends(&world, first), [(State::Failed, 2)]);
    retry(&mut world, &[1]);
    end(&mut world, Exit::Code(1));
    assert_eq!(world.state(1), State::Retrying, "its retries begin anew");
    world.advance(SECOND);
    world.settle();
    end(&mut world, EXITED);
    assert_eq!((world.state(1), world.record(1).attempt), (State::Succeeded, 4));
    let kinds = world.replies(listening).iter().filter_map(|heard| match heard {
        Heard::Happening(happening) => Some(happening.event),
        _ => None,
    });
    let ended = kinds.clone().filter(|&kind| kind == HappeningKind::Ended).count();
    let again = kinds.filter(|&kind| kind == HappeningKind::Requeued).count();
    assert_eq!((ended, again), (2, 1));
    world.assert_idle();
}

#[test]
fn a_retry_brings_back_those_that_were_canceled_for_its_sake_when_they_are_retried_too() {
    let after = vec![After { id: JobId(1), on: On::Success }];
    let conditions = Some(Box::new(Conditions { after, ..Conditions::default() }));
    let mut world = World::up(1);
    world.submit(vec![work()]);
    world.settle();
    world.submit(vec![Work { conditions, ..work() }]);
    world.settle();
    end(&mut world, Exit::Code(1));
    assert_eq!((world.state(1), world.state(2)), (State::Failed, State::Canceled));
    let alone = retry(&mut world, &[2]);
    assert_eq!(
        (world.altered_ids(alone).0, world.state(2)),
        (vec![2], State::Canceled),
        "and it fails again"
    );
    retry(&mut world, &[2, 1]);
    assert_eq!((world.running_jobs(), world.state(2)), (vec![1], State::Canceled), "it was looked at first");
    retry(&mut world, &[2]);
    assert_eq!(world.state(2), State::Blocked);
    end(&mut world, EXITED);
    assert_eq!(world.running_jobs(), [2]);
    end(&mut world, EXITED);
    world.assert_idle();
}

#[test]
fn what_must_not_run_twice_is_run_again_when_somebody_wants_that() {
    let mut world = World::up(1);
    world.submit(vec![Work { on_crash: OnCrash::Fail, tie: Some(Tie::Pool), ..work() }]);
    world.settle();
    begin(&mut world, 1);
    world.crash();
    world.settle();
    assert_eq!(world.state(1), State::Failed);
    retry(&mut world, &[1]);
    assert_eq!(world.running_jobs(), [1]);
    end(&mut world, EXITED);
    assert_eq!(world.state(1), State::Succeeded);
    world.assert_idle();
    world.assert_empty();
}

#[test]
fn nothing_is_run_again_while_poold_ends() {
    let mut world = World::up(1);
    world.submit(vec![work(), work()]);
    world.settle();
    end(&mut world, EXITED);
    world.drain();
    let request = retry(&mut world, &[1]);
    assert_eq!(refused(world.replies(request).last()), &Refusal::Draining {});
    end(&mut world, EXITED);
    assert!(world.exited);
}
