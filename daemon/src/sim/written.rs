//! Jobs that are written and not synced: what they do meanwhile, what nobody is told, and what a power cut
//! leaves.

use pool_proto::nouns::{HappeningKind, OnCrash, OnDisconnect};
use pool_proto::{Refusal, State};

use super::clients::{Heard, accepted, refused};
use super::delayed::Death;
use super::scenarios::slot;
use super::specs::{EXITED, work};
use super::workers::{Sent, sent_to};
use super::world::World;
use crate::job::{Exit, JobId, RequestId, Tie, Work};

/// A client submits a job and stays; the job is written and not synced, and has a slot.
fn written(world: &mut World, work: &Work) -> RequestId {
    let call = world.submit_and_wait(work, OnDisconnect::Detach);
    world.store_step();
    world.answer_step();
    assert_eq!((world.replies(call), world.running_jobs()), (&[][..], vec![1]));
    call
}

#[test]
fn a_power_cut_may_find_a_job_that_runs_and_that_nobody_was_promised() {
    for death in [Death::Kill, Death::PowerCut] {
        let mut world = World::up(1);
        written(&mut world, &work());
        world.attempt_started(slot(0));
        world.die(death);
        let is_there = death == Death::Kill;
        assert_eq!(world.has(JobId(1)), is_there, "{death:?}");
        world.settle();
        let next = world.submit(vec![work()]);
        world.settle();
        assert_eq!(world.replies(next), [accepted(if is_there { 2 } else { 1 }, 1)], "{death:?}");
    }
}

#[test]
fn an_attempt_that_ends_beside_its_own_sync_is_told_in_order() {
    let mut world = World::up(1);
    let listens = world.listen();
    world.settle();
    let call = written(&mut world, &work());
    world.attempt_started(slot(0));
    world.attempt_ended(slot(0), EXITED);
    assert_eq!((world.replies(call).len(), world.replies(listens).len()), (0, 1), "it is not synced");

    world.settle();
    let [Heard::Accepted { .. }, Heard::Started { .. }, Heard::Ended(record)] = world.replies(call) else {
        panic!("{:?}", world.replies(call))
    };
    assert_eq!(record.state, State::Succeeded);
    let heard = world.replies(listens)[1..].iter().map(|heard| match heard {
        Heard::Happening(happening) => happening.event,
        other => panic!("{other:?}"),
    });
    use HappeningKind::{Ended, Started, Submitted};
    assert_eq!(heard.collect::<Vec<_>>(), [Submitted, Started, Ended]);
    world.assert_idle();
}

#[test]
fn a_job_that_must_not_run_twice_waits_for_the_sync_of_its_start() {
    let mut world = World::up(1);
    let call = world.submit(vec![Work { on_crash: OnCrash::Fail, ..work() }]);
    world.store_step();
    world.answer_step();
    assert!(world.running().is_empty(), "it is written");
    world.store_step();
    world.answer_step();
    assert_eq!((world.replies(call), world.running_jobs()), (&[accepted(1, 1)][..], vec![]));
    assert!(world.is_claiming());
    world.settle_store();
    assert_eq!(world.running_jobs(), [1]);
}

/// The disk is full when what is written is to be synced.
#[test]
fn a_sync_that_fails_holds_back_what_is_told_and_not_what_runs() {
    let mut world = World::up(1);
    let call = written(&mut world, &work());
    world.set_disk_full(true);
    world.settle();
    world.attempt_ended(slot(0), EXITED);
    let other = world.submit(vec![work()]);
    world.settle();
    assert_eq!(world.replies(call), []);
    assert!(matches!(refused(world.replies(other).first()), Refusal::StoreFailed { .. }));

    world.set_disk_full(false);
    world.settle();
    let [Heard::Accepted { .. }, Heard::Started { .. }, Heard::Ended(_)] = world.replies(call) else {
        panic!("{:?}", world.replies(call))
    };
    world.assert_idle();
}

#[test]
fn a_client_that_goes_before_the_sync_takes_the_job_along_that_is_tied_to_it() {
    let mut world = World::up(1);
    let call = written(&mut world, &Work { tie: Some(Tie::Client), ..work() });
    world.disconnect(call);
    assert_eq!(sent_to(&world, 1), [Sent::Terminate], "at once");
    world.attempt_ended(slot(0), Exit::Signal { signal: 15, core: false });
    world.settle();
    assert_eq!(world.state(1), State::Canceled);
    world.assert_idle();
    world.assert_empty();
}
